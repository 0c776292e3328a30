//! Owns what becomes of an operation on a directory: where it is done if it may wait for the disk, and how it is
//! said that it failed. What a failure means is [`refusal`](crate::store)'s.

use std::io;
use std::path::Path;

use crate::error::{Error, ErrorKind};
use crate::store::refusal::{Cause, Meaning, Step, meaning};

/// Why something was not answered.
#[derive(Debug)]
pub(super) enum Fail {
    /// It would wait for the disk: to be asked again where that is allowed.
    WouldBlock,
    /// What is known of the log is of another that is not there any more, or is too old.
    Stale,
    Error(Error),
}

impl From<Error> for Fail {
    fn from(error: Error) -> Fail {
        Fail::Error(error)
    }
}

impl Fail {
    pub(super) fn of(step: Step, path: &Path, error: io::Error) -> Fail {
        match error.kind() {
            io::ErrorKind::WouldBlock => Fail::WouldBlock,
            _ => Fail::Error(failed(step, path, error)),
        }
    }
}

/// The error of a step that failed.
pub(super) fn failed(step: Step, path: &Path, error: io::Error) -> Error {
    let Meaning { kind, what, hint } = meaning(step, Cause::from(&error));
    let verb =
        if step == Step::Read { "the store cannot be read" } else { "a write to the store failed" };
    Error::new(kind, format!("{}: {error}", what.unwrap_or(verb)))
        .at(path.display().to_string())
        .hint(hint)
        .because(error)
}

/// The error of something that may have been applied when this came.
pub(super) fn unknown(place: impl AsRef<Path>, error: Error) -> Error {
    Error::new(ErrorKind::Indeterminate, error.what().to_string())
        .at(place.as_ref().display().to_string())
        .hint("check the disk, and its free space, then rerun")
        .because(error)
}

/// Does what waits for the disk on a thread for that.
pub(super) async fn hop<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| {
        Err(Error::new(ErrorKind::Indeterminate, "an operation of the store was stopped")
            .because(e))
    })
}
