//! Owns what the answer of a store means: one pure function from where an operation failed, and of
//! what, to whether that is final, whether it may have been applied, and what to do about it.
//!
//! | | surely not applied | maybe applied |
//! |---|---|---|
//! | gone by itself, maybe | `Unavailable` | `Indeterminate` |
//! | final | `Refused` | `Indeterminate`: read back, and the next attempt is refused |

use std::io;

use crate::error::ErrorKind;

/// Where an operation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// While it was reading.
    Read,
    /// Before what it writes could be seen: the file is staged, or the folder is not there yet.
    Stage,
    /// While it gave a file that is staged its name, if nothing has it.
    Link,
    /// While it took the lock of a log.
    Lock,
    /// While it made durable what can be seen.
    Publish,
    /// In a deletion.
    Delete,
    /// Somewhere, in a store that does not say where.
    Write,
}

/// Why an operation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The operating system's answer, and its number.
    System(io::ErrorKind, Option<i32>),
    /// The store knows the caller not, or does not let it.
    Denied,
    /// What holds the keys is not there.
    NoBucket,
    /// The store cannot do this, ever.
    CannotBe,
    /// Anything else: a timeout, a broken connection, an answer of the server's.
    Other,
}

/// What it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Meaning {
    pub(super) kind: ErrorKind,
    /// What happened, where the cause's own words do not say it.
    pub(super) what: Option<&'static str>,
    pub(super) hint: &'static str,
}

impl From<&io::Error> for Cause {
    fn from(error: &io::Error) -> Cause {
        Cause::System(error.kind(), error.raw_os_error())
    }
}

/// `EPERM`, on every Unix. The standard library does not tell it from `EACCES`.
const NOT_PERMITTED: i32 = 1;

/// `EOPNOTSUPP`, of Linux and of the BSDs.
const NOT_SUPPORTED: [i32; 3] = [95, 45, 102];

/// `ENOLCK`, of Linux and of the BSDs.
const NO_LOCKS: [i32; 2] = [37, 77];

/// Says what a failure means.
pub(super) fn meaning(step: Step, cause: Cause) -> Meaning {
    use io::ErrorKind as Io;
    let (what, hint) = match cause {
        Cause::System(kind, number) => match kind {
            Io::StorageFull | Io::QuotaExceeded => {
                (None, "free space and rerun; everything committed stays readable")
            }
            Io::FileTooLarge => (None, "let files grow larger and rerun; see `ulimit -f`"),
            Io::ReadOnlyFilesystem => {
                (None, "mount the file system for writing, or use another directory")
            }
            _ if step == Step::Link && has_no_links(kind, number) => (
                Some("this file system has no hard links"),
                "use a directory on a file system that has them",
            ),
            _ if step == Step::Lock && has_no_locks(kind, number) => (
                Some("this file system has no file locks"),
                "use a directory on a local file system",
            ),
            Io::PermissionDenied if step == Step::Read => {
                (None, "let this user read it, or run as a user with the right")
            }
            Io::PermissionDenied => {
                (None, "let this user write there, or use another directory, and rerun")
            }
            Io::NotADirectory => (None, "a part of the path is a file: name another directory"),
            Io::InvalidFilename => (None, "use a directory with a shorter path"),
            _ => return transient(step),
        },
        Cause::Denied => (None, "check the credentials, and what they may do there"),
        Cause::NoBucket => (Some("no such bucket or container"), "make it, or correct the address"),
        Cause::CannotBe => (None, "use another store"),
        Cause::Other => return transient(step),
    };
    let unsure = match step {
        Step::Publish => true,
        Step::Write => matches!(cause, Cause::System(..)),
        Step::Read | Step::Stage | Step::Link | Step::Lock | Step::Delete => false,
    };
    let kind = if unsure { ErrorKind::Indeterminate } else { ErrorKind::Refused };
    Meaning { kind, what, hint }
}

fn has_no_links(kind: io::ErrorKind, number: Option<i32>) -> bool {
    use io::ErrorKind as Io;
    // A fresh file has one link, so too many of them is a file system that has no second.
    matches!(kind, Io::Unsupported | Io::TooManyLinks | Io::CrossesDevices)
        || number.is_some_and(|number| number == NOT_PERMITTED || NOT_SUPPORTED.contains(&number))
}

fn has_no_locks(kind: io::ErrorKind, number: Option<i32>) -> bool {
    let said =
        number.is_some_and(|number| NO_LOCKS.contains(&number) || NOT_SUPPORTED.contains(&number));
    said || matches!(kind, io::ErrorKind::Unsupported | io::ErrorKind::InvalidInput)
}

fn transient(step: Step) -> Meaning {
    let kind = match step {
        Step::Read | Step::Stage | Step::Link | Step::Lock => ErrorKind::Unavailable,
        Step::Publish | Step::Delete | Step::Write => ErrorKind::Indeterminate,
    };
    Meaning { kind, what: None, hint: "check the store and rerun" }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: i32 = 28;
    const READ_ONLY: i32 = 30;
    const DENIED: i32 = 13;
    const QUOTA: i32 = 122;
    const TOO_LARGE: i32 = 27;
    const NOT_A_DIRECTORY: i32 = 20;
    const NAME_TOO_LONG: i32 = 36;
    const NO_CALL: i32 = 38;
    const LINKS: i32 = 31;
    const BROKEN: i32 = 5;
    const FILES: i32 = 24;
    const INVALID: i32 = 22;

    /// What the number of an error means, as a write and a read get it.
    #[cfg(target_os = "linux")]
    #[test]
    fn every_answer_has_its_meaning() {
        use ErrorKind::{Indeterminate, Refused, Unavailable};
        let os = |number| Cause::from(&io::Error::from_raw_os_error(number));
        let table = [
            (Step::Stage, FULL, Refused, "free space"),
            (Step::Stage, QUOTA, Refused, "free space"),
            (Step::Stage, READ_ONLY, Refused, "mount the file system"),
            (Step::Stage, DENIED, Refused, "let this user write"),
            (Step::Stage, NOT_PERMITTED, Refused, "let this user write"),
            (Step::Stage, TOO_LARGE, Refused, "ulimit"),
            (Step::Stage, NOT_A_DIRECTORY, Refused, "is a file"),
            (Step::Stage, NAME_TOO_LONG, Refused, "shorter"),
            (Step::Stage, BROKEN, Unavailable, "check the store"),
            (Step::Stage, FILES, Unavailable, "check the store"),
            // The link may be there, and the sync of its folder may have found no room.
            (Step::Publish, FULL, Indeterminate, "free space"),
            (Step::Publish, READ_ONLY, Indeterminate, "mount the file system"),
            (Step::Publish, DENIED, Indeterminate, "let this user write"),
            (Step::Publish, BROKEN, Indeterminate, "check the store"),
            (Step::Link, NOT_PERMITTED, Refused, "a file system that has them"),
            (Step::Link, NOT_SUPPORTED[0], Refused, "a file system that has them"),
            (Step::Link, NO_CALL, Refused, "a file system that has them"),
            (Step::Link, LINKS, Refused, "a file system that has them"),
            (Step::Link, FULL, Refused, "free space"),
            (Step::Link, BROKEN, Unavailable, "check the store"),
            (Step::Lock, NO_LOCKS[0], Refused, "a local file system"),
            (Step::Lock, NOT_SUPPORTED[0], Refused, "a local file system"),
            (Step::Lock, NO_CALL, Refused, "a local file system"),
            (Step::Lock, INVALID, Refused, "a local file system"),
            (Step::Lock, DENIED, Refused, "let this user write"),
            (Step::Lock, BROKEN, Unavailable, "check the store"),
            (Step::Read, DENIED, Refused, "let this user read"),
            (Step::Read, BROKEN, Unavailable, "check the store"),
            (Step::Delete, READ_ONLY, Refused, "mount the file system"),
            (Step::Delete, BROKEN, Indeterminate, "check the store"),
            (Step::Write, FULL, Indeterminate, "free space"),
            (Step::Write, BROKEN, Indeterminate, "check the store"),
        ];
        for (step, number, kind, says) in table {
            let meaning = meaning(step, os(number));
            assert_eq!(meaning.kind, kind, "{step:?}, {number}: {meaning:?}");
            assert!(meaning.hint.contains(says), "{step:?}, {number}: {meaning:?}");
        }
        let clouds = [
            (Cause::Denied, Refused, "credentials"),
            (Cause::NoBucket, Refused, "correct the address"),
            (Cause::CannotBe, Refused, "another store"),
            (Cause::Other, Indeterminate, "check the store"),
        ];
        for (cause, kind, says) in clouds {
            let meaning = meaning(Step::Write, cause);
            assert_eq!(meaning.kind, kind, "{cause:?}");
            assert!(meaning.hint.contains(says), "{cause:?}: {meaning:?}");
        }
    }
}
