//! Owns what an answer of the server means for whoever tries again: may it work later, is the place
//! gone, or will it never work. It does not own who cancelled or whose time ran out; the caller knows
//! its own.
//!
//! Texts are looked at only to tell kinds of errors apart. They may name a position, also one that
//! was never delivered, so that nothing is ever read out of them.

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

/// Texts of servers whose shards are not the ones that were asked for.
const RESHARDED: [&str; 2] =
    ["not all journaling participants are in the stream", "shard provided in vgtid not found"];

/// Tells what the status that ended a call means.
pub(super) fn of_status(status: Status, place: &str) -> Failure {
    let (code, text) = (status.code(), status.message().to_string());
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
    if any(&RESHARDED) {
        return Failure::Definite(
            make(ErrorKind::Missing, said).hint("the keyspace was resharded; see its shards"),
        );
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
        Code::Unauthenticated => (ErrorKind::Invalid, "check the user and the password"),
        Code::PermissionDenied => (ErrorKind::Invalid, "let this user read the table"),
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

/// It may work on the next connection.
pub(super) fn transient(what: impl Into<String>, place: &str) -> Failure {
    let error = Error::new(ErrorKind::Unavailable, what).at(place);
    Failure::Transient(error.hint("it is tried again from the last boundary"))
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
            (Code::FailedPrecondition, "shard provided in VGTID not found", "definite"),
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

    #[test]
    fn an_error_in_a_response_that_says_nothing_is_none() {
        assert!(of_response(&RpcError::default(), "ks/t").is_none());
        let legacy = RpcError { legacy_code: 12, ..RpcError::default() };
        assert_eq!(kind(&of_response(&legacy, "ks/t").unwrap()), "definite");
    }
}
