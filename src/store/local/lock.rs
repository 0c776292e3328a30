//! Owns the lock of a log's writer: an advisory lock on a file, which the operating system takes back when its
//! process dies, however it dies. What is done under it is [`append`](super::append)'s.
//!
//! A process that is stopped while it holds the lock makes the others wait. Each attempt waits for a bounded
//! time and says so then; nothing was written, so it may be tried again.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::fail::failed;
use super::os::{Identity, identity, shared_system, try_lock, unlock};
use crate::error::{Error, ErrorKind};
use crate::store::refusal::Step;

/// How long one attempt waits.
const WAIT_MAX: Duration = Duration::from_millis(500);
const PAUSE_MIN: Duration = Duration::from_micros(20);
const PAUSE_MAX: Duration = Duration::from_millis(2);

/// The file of a lock. As long as it is open no other file can be taken for it.
#[derive(Debug)]
pub(super) struct LockFile {
    file: File,
    identity: Identity,
}

/// The lock, while it is held.
#[derive(Debug)]
pub(super) struct Held(Arc<LockFile>);

impl Drop for Held {
    fn drop(&mut self) {
        unlock(&self.0.file);
    }
}

fn open(path: &Path) -> Result<File, Error> {
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(false).open(path);
    file.map_err(|e| failed(Step::Stage, path, e))
}

/// Takes the lock on a file, which is made if it is not there; its folder must be. `kept` is the file as it was
/// opened last.
///
/// # Errors
///
/// `Unavailable` if another process holds it for long; `Unsupported` on a file system without locks.
pub(super) fn lock(path: &Path, kept: &mut Option<Arc<LockFile>>) -> Result<Held, Error> {
    let since = Instant::now();
    let mut pause = PAUSE_MIN;
    loop {
        let file = match kept {
            Some(file) => Arc::clone(file),
            None => {
                check(path)?;
                let file = open(path)?;
                let found = file.metadata().map_err(|e| failed(Step::Lock, path, e))?;
                let identity = identity(&found);
                Arc::clone(kept.insert(Arc::new(LockFile { file, identity })))
            }
        };
        let taken = try_lock(&file.file).map_err(|e| failed(Step::Lock, path, e))?;
        if taken || crate::mutant::on("segment_without_lock") {
            let held = Held(file);
            // The lock of a file that was removed excludes nobody.
            if std::fs::metadata(path).is_ok_and(|found| identity(&found) == held.0.identity) {
                return Ok(held);
            }
            *kept = None;
            continue;
        }
        if since.elapsed() >= WAIT_MAX {
            let what = "another process holds the lock of the log, and does not let it go";
            return Err(Error::new(ErrorKind::Unavailable, what)
                .at(path.display().to_string())
                .hint("let the process go on that has this file open, or end it"));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Refuses a file system that other hosts may have mounted as well: what locks exclude here may not exclude there.
pub(super) fn check_hosts(path: &Path) -> Result<(), Error> {
    let file = open(path)?;
    match shared_system(&file).map_err(|e| failed(Step::Lock, path, e))? {
        None => Ok(()),
        Some(name) => {
            let what =
                format!("a file system of several hosts ({name}), whose locks may be of one");
            Err(Error::new(ErrorKind::Unsupported, what)
                .at(path.display().to_string())
                .hint("use a directory on a local file system, or object storage"))
        }
    }
}

/// Refuses a file system whose locks do not lock. A lock that is held by now proves that they do.
pub(super) fn check(path: &Path) -> Result<(), Error> {
    check_by(path, try_lock)
}

/// The same, where locks are taken by `take`.
fn check_by(path: &Path, take: impl Fn(&File) -> io::Result<bool>) -> Result<(), Error> {
    let take = |file: &File| take(file).map_err(|e| failed(Step::Lock, path, e));
    let (first, second) = (open(path)?, open(path)?);
    let excludes = !take(&first)? || !take(&second)?;
    if excludes || crate::mutant::on("segment_believe_locks") {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Unsupported, "the locks of this file system exclude nobody")
        .at(path.display().to_string())
        .hint("use a directory on a local file system"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two that both have a lock of one file.
    #[test]
    fn locks_that_exclude_nobody_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let refused = check_by(&path, |_| Ok(true)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unsupported, "{refused}");
        let text = refused.to_string();
        assert!(
            text.contains("exclude nobody") && text.contains("lock; use a directory"),
            "{text}"
        );
        check(&path).unwrap();
    }
}
