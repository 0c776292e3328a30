//! Owns what an error of librdkafka means for the next attempt: may it work later, or will it never. It does
//! not own whether a place is lost; that is `judge`. Pure.

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use crate::error::{Error, ErrorKind};
use crate::source::Failure;

/// Codes that stay what they are however often it is tried, and what to do.
fn definite(code: Code) -> Option<(ErrorKind, &'static str)> {
    Some(match code {
        Code::Authentication | Code::SaslAuthenticationFailed => (
            ErrorKind::Refused,
            "check rdkafka.sasl.mechanism, rdkafka.sasl.username and rdkafka.sasl.password=env:NAME",
        ),
        Code::TopicAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::ClusterAuthorizationFailed => {
            (ErrorKind::Refused, "let this user read and describe the topic, and read its group")
        }
        Code::UnsupportedSASLMechanism | Code::IllegalSASLState => {
            (ErrorKind::Invalid, "check rdkafka.sasl.mechanism")
        }
        Code::InvalidTopic => (ErrorKind::Invalid, "check the topic's name"),
        Code::UnsupportedFeature | Code::UnsupportedVersion => {
            (ErrorKind::Unsupported, "use newer brokers: 0.11 is the oldest")
        }
        Code::Fatal => (ErrorKind::Unavailable, "start again"),
        _ => return None,
    })
}

/// Codes that are definite until a broker has been reached once: what has worked may work again.
fn unreachable(code: Code) -> Option<&'static str> {
    match code {
        Code::Resolve => Some("check the brokers' names"),
        Code::SSL => Some("check rdkafka.security.protocol and rdkafka.ssl.ca.location"),
        _ => None,
    }
}

/// Returns whether a code says more than that a broker is away.
pub(super) fn is_telling(code: Code) -> bool {
    definite(code).is_some() || unreachable(code).is_some()
}

/// Tells what an error of a call, or of a partition, means. `said` is what librdkafka has said of its
/// connections since: of a call it says only that the time was up.
pub(super) fn of(
    error: &KafkaError,
    said: Option<(Code, String)>,
    reached: bool,
    place: &str,
) -> Failure {
    let code = error.rdkafka_error_code();
    match (code.and_then(definite), said) {
        (None, Some((code, text))) => of_code(code, text, reached, place),
        (_, _) => match code {
            Some(code) => of_code(code, code.to_string(), reached, place),
            None => transient(error.to_string(), place),
        },
    }
}

/// Tells what a code, and the text that came with it, mean.
pub(super) fn of_code(code: Code, text: String, reached: bool, place: &str) -> Failure {
    // What answers does not know the first thing that it is asked.
    let text = match ["SSL_HANDSHAKE", "APIVERSION_QUERY"].iter().any(|state| text.contains(state))
    {
        true => format!("{text}; it may want another rdkafka.security.protocol"),
        false => text,
    };
    if let Some((kind, hint)) = definite(code) {
        return Failure::Definite(Error::new(kind, text).at(place).hint(hint));
    }
    match unreachable(code) {
        Some(hint) if !reached => {
            Failure::Definite(Error::new(ErrorKind::Invalid, text).at(place).hint(hint))
        }
        _ => transient(text, place),
    }
}

/// Returns an error that may be over the next time.
pub(super) fn transient(what: impl Into<String>, place: &str) -> Failure {
    let error = Error::new(ErrorKind::Unavailable, what).at(place);
    Failure::Transient(error.hint("see that the brokers answer"))
}

/// Returns whether an error is librdkafka's to mend: it connects again by itself, and says so if all brokers
/// are gone.
pub(super) fn is_mended(code: Code) -> bool {
    matches!(
        code,
        Code::BrokerTransportFailure
            | Code::Resolve
            | Code::SSL
            | Code::OperationTimedOut
            | Code::RequestTimedOut
            | Code::NotLeaderForPartition
            | Code::LeaderNotAvailable
            | Code::FencedLeaderEpoch
            | Code::UnknownLeaderEpoch
            | Code::NodeUpdate
            | Code::CoordinatorNotAvailable
            | Code::NotCoordinator
            | Code::CoordinatorLoadInProgress
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_work_again_and_what_will_not() {
        let of_code = |code, reached| of_code(code, "text".to_string(), reached, "t");
        for code in [Code::Authentication, Code::TopicAuthorizationFailed, Code::InvalidTopic] {
            assert!(matches!(of_code(code, true), Failure::Definite(_)), "{code:?}");
        }
        for code in
            [Code::BrokerTransportFailure, Code::AllBrokersDown, Code::UnknownTopicOrPartition]
        {
            assert!(matches!(of_code(code, false), Failure::Transient(_)), "{code:?}");
        }
        assert!(matches!(of_code(Code::Resolve, false), Failure::Definite(_)));
        assert!(matches!(of_code(Code::Resolve, true), Failure::Transient(_)));
    }

    #[test]
    fn what_was_said_of_connections_explains_a_call_that_came_to_nothing() {
        let error = KafkaError::MetadataFetch(Code::BrokerTransportFailure);
        let said = Some((Code::Authentication, "wrong password".to_string()));
        match of(&error, said, false, "t") {
            Failure::Definite(error) => assert_eq!(error.what(), "wrong password"),
            other => panic!("{other:?}"),
        }
        assert!(matches!(of(&error, None, false, "t"), Failure::Transient(_)));
    }
}
