//! Owns what an answer of the server means for the next attempt: may it work later, is the place
//! gone, or will it never work. It does not own our own cancellations and deadlines; the caller knows
//! them.
//!
//! Texts are looked at only to tell kinds of errors apart. They may name a position, also one that
//! was never delivered, so that nothing is ever read out of them.

use std::error::Error as StdError;

use tonic::{Code, Status};

use super::proto::RpcError;
use crate::error::{Error, ErrorKind};
use crate::source::Failure;

/// Texts of servers that do not have what comes after the position: the binary log is purged, or no
/// tablet has all of the position's transactions.
const LOST: [&str; 4] =
    ["purged required binary logs", "has purged binary logs", "errno 1236", "gtidset mismatch"];

/// Of a place that the server does not have, and not one that we give up ourselves.
pub(super) const NOT_THERE: ErrorKind = ErrorKind::Missing;

/// Texts of what is not there, in all their parts, and what to do: those of vitess
/// go/vt/vtgate/vstream_manager.go, go/vt/vttablet/tabletserver/vstreamer/uvstreamer.go and
/// go/vt/topo/errors.go.
const MISSING: [(&[&str], &str); 5] = [
    (
        &["not all journaling participants are in the stream"],
        "the keyspace was resharded: name its shards with shard=",
    ),
    (
        &["shard provided in vgtid", "not found"],
        "name the keyspace's shards with shard=; it may have been resharded",
    ),
    (&["table ", " is not present in the database"], "check the table's name"),
    (&["stream needs a position or a table to copy"], "check the table's name"),
    (&["node doesn't exist", "keyspace"], "check the names of the keyspace and its shards"),
];

/// Texts of connections that will not be made however often it is tried, and what to do: those of
/// rustls, and of hyper for a name that nobody knows.
const UNREACHABLE: [(&str, &str); 8] = [
    ("dns error", "check the host"),
    ("invalid peer certificate: unknownissuer", "name the CA that signed it with ca=FILE"),
    ("not valid for name", "check the host: the certificate is for another"),
    ("certificate expired", "renew the server's certificate, or set the clock"),
    ("invalid peer certificate", "name the CA that signed it with ca=FILE, and check the host"),
    ("invalidcontenttype", "the server does not speak TLS there: use its other port, or tls=off"),
    ("received fatal alert: handshakefailure", "see which TLS the server speaks"),
    (
        "received fatal alert",
        "the server may want a client's certificate: cert=FILE, key_file=FILE",
    ),
];

/// Tells what it means that no connection could be made. A name that nobody knows, or a certificate that
/// nobody trusts, is definite until the server has been reached once: what has worked may work again.
pub(super) fn of_connect(what: String, reached: bool, place: &str) -> Failure {
    let lower = what.to_ascii_lowercase();
    match UNREACHABLE.iter().find(|(text, _)| lower.contains(text)) {
        Some((_, hint)) if !reached => {
            Failure::Definite(Error::new(ErrorKind::Invalid, what).at(place).hint(*hint))
        }
        _ => transient(what, place),
    }
}

/// Tells what the status that ended a call means.
pub(super) fn of_status(status: Status, place: &str) -> Failure {
    let code = status.code();
    let text = match std::error::Error::source(&status) {
        // Of a transport, it says no more than that.
        Some(cause) => format!("{}: {}", status.message(), chain(cause)),
        None => status.message().to_string(),
    };
    classify(code, &text, place, |error| error.because(status))
}

/// Tells what an error inside a response means; `None` if it says that there is none.
pub(super) fn of_response(error: &RpcError, place: &str) -> Option<Failure> {
    if *error == RpcError::default() {
        return None;
    }
    // `vtrpc.LegacyErrorCode` has numbers of its own; a modern server sets both.
    let code = match (error.code, error.legacy_code) {
        (0, 3) => Code::InvalidArgument,
        (0, 6) => Code::PermissionDenied,
        (0, 12) => Code::Unauthenticated,
        (0, _) => Code::Unknown,
        (code, _) => Code::from_i32(code),
    };
    Some(classify(code, &error.message, place, |error| error))
}

fn classify(code: Code, text: &str, place: &str, because: impl FnOnce(Error) -> Error) -> Failure {
    let lower = text.to_ascii_lowercase();
    let any = |texts: &[&str]| texts.iter().any(|text| lower.contains(text));
    let make = |kind, what: String| because(Error::new(kind, what).at(place));
    let said = match text {
        "" => format!("the server said {code:?}, and no more"),
        text => format!("the server said {code:?}: {text}"),
    };
    if any(&LOST) {
        let what = format!("the server does not have what comes next any more; it said: {text}");
        return Failure::PositionLost(
            make(NOT_THERE, what)
                .hint("keep its binary logs for longer; ingest --copy-anew copies anew"),
        );
    }
    let all = |texts: &[&str]| texts.iter().all(|text| lower.contains(text));
    if let Some((_, hint)) = MISSING.iter().find(|(texts, _)| all(texts)) {
        return Failure::Definite(make(ErrorKind::Missing, said).hint(*hint));
    }
    if any(&["received fatal alert"]) {
        let hint = "the server may want a client's certificate: cert=FILE, key_file=FILE";
        return Failure::Definite(make(ErrorKind::Invalid, said).hint(hint));
    }
    if any(&["too_many_pings"]) {
        let hint =
            "whatever stands before the server does not bear pings: see its keep-alive policy";
        return Failure::Transient(make(ErrorKind::Unavailable, said).hint(hint));
    }
    let plan = lower.contains("failed to build table replication plan")
        && (lower.contains("cannot use column names")
            || (lower.contains("column") && lower.contains("not found in table")));
    if plan {
        let hint =
            "the table's columns changed since the position; copy the table into a new shard";
        return Failure::Definite(make(ErrorKind::Unsupported, said).hint(hint));
    }
    let (kind, hint) = match code {
        // VTGate's static authentication (vitess go/vt/servenv/grpc_server_auth_static.go).
        Code::Unauthenticated if lower.contains("username and password must be provided") => (
            ErrorKind::Invalid,
            "set PLANETSCALE_USER and PLANETSCALE_PASSWORD, and say auth=static",
        ),
        Code::Unauthenticated => (ErrorKind::Invalid, "check the user and the password"),
        Code::PermissionDenied => {
            (ErrorKind::Invalid, "check user and password, and let this user read the table")
        }
        Code::NotFound => (ErrorKind::Missing, "check the keyspace, the table and the shards"),
        Code::InvalidArgument => {
            (ErrorKind::Invalid, "check the keyspace, the table and the shards")
        }
        Code::Unimplemented => {
            (ErrorKind::Unsupported, "check host and port, or use the other protocol")
        }
        Code::OutOfRange if lower.contains("decoded message length too large") => {
            (ErrorKind::Invalid, "raise PlanetScale::message_bytes_max")
        }
        _ => {
            let error = make(ErrorKind::Unavailable, said);
            return Failure::Transient(error.hint("see whether the server can be reached"));
        }
    };
    Failure::Definite(make(kind, said).hint(hint))
}

/// What the server sends makes no sense, or lacks what is needed: trying again changes nothing.
pub(super) fn definite(what: impl Into<String>, place: &str, hint: &str) -> Failure {
    Failure::Definite(Error::new(ErrorKind::Unsupported, what).at(place).hint(hint))
}

/// A statement has changed rows that nothing tells of: the table has to be copied anew.
pub(super) fn unseen(statement: &str, shard: &str, place: &str) -> Failure {
    let what = format!("a statement has changed rows of the shard {shard} unseen: {statement}");
    let error = Error::new(ErrorKind::Unsupported, what).at(place);
    Failure::PositionLost(error.hint("copy the table anew: ingest --copy-anew"))
}

/// What was asked for is not there.
pub(super) fn missing(what: impl Into<String>, place: &str, hint: &str) -> Failure {
    Failure::Definite(Error::new(ErrorKind::Missing, what).at(place).hint(hint))
}

/// It may work on the next connection.
pub(super) fn transient(what: impl Into<String>, place: &str) -> Failure {
    let error = Error::new(ErrorKind::Unavailable, what).at(place);
    Failure::Transient(error.hint("it is tried again from the last boundary"))
}

/// Returns an error and what caused it, as one text: tonic's own says "transport error" alone.
pub(super) fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(failure: &Failure) -> &'static str {
        match failure {
            Failure::Transient(_) => "transient",
            Failure::PositionLost(_) => "lost",
            Failure::Definite(_) => "definite",
        }
    }

    #[test]
    fn every_code_has_its_kind() {
        for code in (0..17).map(Code::from_i32) {
            let expected = match code {
                Code::Unauthenticated | Code::PermissionDenied | Code::NotFound => "definite",
                Code::InvalidArgument | Code::Unimplemented => "definite",
                _ => "transient",
            };
            let failure = of_status(Status::new(code, "context canceled"), "ks/t");
            assert_eq!(kind(&failure), expected, "{code:?}");
            let error = RpcError { code: code as i32, message: "x".to_string(), legacy_code: 0 };
            assert_eq!(kind(&of_response(&error, "ks/t").unwrap()), expected, "{code:?} in band");
        }
    }

    #[test]
    fn texts_tell_a_lost_position_and_a_changed_table_apart() {
        for (code, text, expected) in [
            (
                Code::Unknown,
                "vttablet: rpc error: code = Unknown desc = stream (at source tablet) error @ \
                 (including the GTID we failed to process) 8bc6:1-9: Cannot replicate because the \
                 source purged required binary logs. (errno 1236) (sqlstate HY000)",
                "lost",
            ),
            (Code::InvalidArgument, "GTIDSet Mismatch: requested source position:x", "lost"),
            (Code::Unknown, "could not find first log file name (errno 1236)", "lost"),
            (
                Code::FailedPrecondition,
                "failed to build table replication plan for t: column c not found in table t",
                "definite",
            ),
            (
                Code::FailedPrecondition,
                "failed to build table replication plan: cannot use column names in vstream filter",
                "definite",
            ),
            (Code::FailedPrecondition, "failed to build table replication plan", "transient"),
            (
                Code::FailedPrecondition,
                "error starting stream from shard GTID keyspace:\"ks\" shard:\"0\": failed to \
                 determine if keyspace ks has been resharded: shard provided in VGTID, 0, not found in \
                 the ks keyspace",
                "definite",
            ),
            (Code::Unknown, "vttablet: table t is not present in the database", "definite"),
            (Code::Unknown, "stream needs a position or a table to copy", "definite"),
            (
                Code::Unavailable,
                "failed to resolve vstream parameters: failed to get shards in keyspace no: keyspace \
                 no fetch error: node doesn't exist: /vitess/zone1/keyspaces/no/SrvKeyspace",
                "definite",
            ),
            (
                Code::Unavailable,
                "error reading a body: received fatal alert: UnknownCA",
                "definite",
            ),
            (
                Code::ResourceExhausted,
                "h2 protocol error: connection error received: detected excessive load generating \
                 behavior (b\"too_many_pings\")",
                "transient",
            ),
            (Code::Internal, "not all journaling participants are in the stream", "definite"),
            (Code::Unknown, "missing grpc-status trailer, possible truncation", "transient"),
            (Code::Cancelled, "Timeout expired", "transient"),
            (
                Code::OutOfRange,
                "Error, decoded message length too large: found 9 bytes",
                "definite",
            ),
        ] {
            assert_eq!(kind(&of_status(Status::new(code, text), "ks/t")), expected, "{text}");
        }
    }

    /// As tonic says them, with what is behind "transport error".
    #[test]
    fn what_no_attempt_reaches_is_definite_until_it_has_been_reached() {
        for (text, word) in [
            ("tcp connect error: dns error: failed to lookup address information", "host"),
            ("transport error: invalid peer certificate: UnknownIssuer", "ca=FILE"),
            ("invalid peer certificate: certificate not valid for name \"h\"", "host"),
            ("invalid peer certificate: certificate expired: verification time", "clock"),
            ("received corrupt message of type InvalidContentType", "tls=off"),
            ("received fatal alert: CertificateRequired", "cert=FILE"),
        ] {
            let failure = of_connect(text.to_string(), false, "ks/t");
            assert_eq!(kind(&failure), "definite", "{text}");
            assert!(failure.error().to_string().contains(word), "{failure:?}");
            assert_eq!(kind(&of_connect(text.to_string(), true, "ks/t")), "transient", "{text}");
        }
        for text in ["tcp connect error: Connection refused (os error 111)", "broken pipe"] {
            assert_eq!(kind(&of_connect(text.to_string(), false, "ks/t")), "transient", "{text}");
        }
    }

    #[test]
    fn an_error_in_a_response_that_says_nothing_is_none() {
        assert!(of_response(&RpcError::default(), "ks/t").is_none());
        let legacy = RpcError { legacy_code: 12, ..RpcError::default() };
        assert_eq!(kind(&of_response(&legacy, "ks/t").unwrap()), "definite");
    }
}
