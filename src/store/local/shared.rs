//! Owns what the handles of a root share of one log, and what is asked of it. Readers take no lock: they read what
//! the marks say is durable. What is written is [`append`](super::append)'s and [`collect`](super::collect)'s.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::fail::{Fail, failed};
use super::files::{self, Files};
use super::index::{Log, MARKS, segment_number};
use super::marks::Place;
use super::os::{Disk, Folder, Wait};
use crate::error::{Error, ErrorKind};
use crate::store::Create;
use crate::store::refusal::Step;

/// How often a look begins anew because the log was replaced or collected meanwhile.
pub(super) const LOOKS_MAX: u32 = 5;

/// An entry that waits to be written.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) seqno: u64,
    pub(super) entry: Bytes,
    pub(super) answer: oneshot::Sender<Result<Create, Error>>,
}

/// One log, as all handles of a root share it.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) root: PathBuf,
    pub(super) directory: PathBuf,
    pub(super) shard: String,
    place: String,
    pub(super) disk: Disk,
    /// The log in segments, once it is known to be.
    pub(super) known: Mutex<Option<Log>>,
    pub(super) queue: Mutex<Vec<Pending>>,
    /// The file of the lock; held while this process writes.
    pub(super) writing: Mutex<Option<Arc<std::fs::File>>>,
    /// A sync has failed: the disk may have dropped what it could not write, and a second one would lie.
    poisoned: AtomicBool,
}

impl Shared {
    pub(super) fn new(root: PathBuf, shard: &str, place: String, disk: Disk) -> Shared {
        Shared {
            directory: root.join(shard).join("log"),
            root,
            shard: shard.to_string(),
            place,
            disk,
            known: Mutex::default(),
            queue: Mutex::default(),
            writing: Mutex::default(),
            poisoned: AtomicBool::new(false),
        }
    }

    pub(super) fn place(&self, seqno: u64) -> String {
        format!("{}{}/log, entry {seqno}", self.place, self.shard)
    }

    /// Whether a key is a file of this log. So are the files of before once it is in segments: a crash may have
    /// left some, and the next collection removes them.
    pub(super) fn owns(&self, key: &str) -> bool {
        let inside =
            key.strip_prefix(&self.shard).and_then(|rest| rest.strip_prefix('/')?.split_once('/'));
        match inside {
            Some(("log", MARKS | "lock")) => true,
            Some(("log", name)) if segment_number(name).is_some() => true,
            Some(("log" | "floor", name)) if files::number(name).is_some() => {
                self.directory.join(MARKS).exists()
            }
            _ => false,
        }
    }

    /// Answers from the log as it is now, or from its files if it is not in segments.
    fn look<T>(
        &self,
        wait: Wait,
        segments: impl Fn(&Log) -> Result<T, Fail>,
        files: impl Fn(&Files<'_>) -> Result<T, Error>,
    ) -> Result<T, Fail> {
        let mut known = match wait {
            Wait::Yes => self.known.lock(),
            Wait::No => self.known.try_lock().ok_or(Fail::WouldBlock)?,
        };
        for _ in 0..LOOKS_MAX {
            match (&mut *known, wait) {
                (Some(log), wait) => match log.refresh(wait) {
                    Ok(()) => return segments(log),
                    Err(Fail::Stale) if wait == Wait::Yes => *known = None,
                    Err(fail) => return Err(fail),
                },
                (None, Wait::No) => return Err(Fail::WouldBlock),
                (None, Wait::Yes) => match Log::load(&self.directory)? {
                    Some(log) => *known = Some(log),
                    None => {
                        let answer = files(&Files { directory: &self.directory })?;
                        // Copied meanwhile: the files may be going.
                        if !self.directory.join(MARKS).exists() {
                            return Ok(answer);
                        }
                    }
                },
            }
        }
        Err(Fail::Stale)
    }

    pub(super) fn get(&self, seqno: u64, wait: Wait) -> Result<Option<Bytes>, Fail> {
        self.look(wait, |log| log.get(seqno, wait), |files| files.get(seqno))
    }

    pub(super) fn floor(&self, wait: Wait) -> Result<u64, Fail> {
        self.look(wait, |log| Ok(log.bounds.floor), |files| files.floor())
    }

    pub(super) fn numbers(&self, wait: Wait) -> Result<Vec<u64>, Fail> {
        self.look(wait, |log| Ok(log.numbers()), |files| files.numbers())
    }

    pub(super) fn is_gone(&self, seqno: u64, wait: Wait) -> Result<bool, Fail> {
        self.look(wait, |log| Ok(seqno <= log.bounds.gone), |_| Ok(false))
    }

    /// Makes durable what can be seen. What the marks tell of is, once their own name is.
    pub(super) fn sync_head(&self, wait: Wait) -> Result<(), Fail> {
        self.check_poison()?;
        let unsettled = |log: &Log| {
            let from = log.durable.segment;
            let segments = log.segments.range(from..).filter(|_| log.end > log.durable);
            let files: Vec<_> = segments.map(|(_, segment)| Arc::clone(&segment.file)).collect();
            (files, log.end, Arc::clone(&log.named))
        };
        let found = self.look(wait, |log| Ok(Some(unsettled(log))), |_| Ok(None))?;
        if found.as_ref().is_some_and(|(files, _, named)| files.is_empty() && is(named)) {
            return Ok(());
        }
        if wait == Wait::No {
            return Err(Fail::WouldBlock);
        }
        let Some((files, end, named)) = found else {
            self.sync_folder_if_there(&self.directory, Step::Read)?;
            return Ok(());
        };
        for file in &files {
            self.synced(self.disk.sync(file), &file.path)?;
            // The sync of its writer may have failed, and ours says nothing of that.
            self.disk.forget(file).map_err(|e| failed(Step::Read, &file.path, e))?;
        }
        self.sync_names(Step::Read)?;
        named.store(true, Ordering::Release);
        if files.is_empty() { Ok(()) } else { self.look_again(end) }
    }

    /// Reads the log anew, which was read to `end`: what its writer could not write is gone from it.
    fn look_again(&self, end: Place) -> Result<(), Fail> {
        let mut known = self.known.lock();
        *known = Log::load(&self.directory)?;
        let is_whole = known.as_ref().is_some_and(|log| log.end >= end);
        if is_whole || crate::mutant::on("segment_believe_cache") {
            return Ok(());
        }
        let what = "an entry that was read is not on the disk: the sync of its writer failed";
        Err(Error::new(ErrorKind::Unavailable, what).at(self.place(0)).hint("retry").into())
    }

    /// Makes the names of the log's files and folders durable, and those of its root.
    pub(super) fn sync_names(&self, step: Step) -> Result<(), Error> {
        for folder in [&self.directory, &self.root.join(&self.shard), &self.root] {
            self.sync_folder(folder, step)?;
        }
        Ok(())
    }

    /// Makes the names inside a folder durable.
    pub(super) fn sync_folder(&self, path: &Path, step: Step) -> Result<(), Error> {
        match self.sync_folder_if_there(path, step)? {
            true => Ok(()),
            false => Err(failed(step, path, std::io::ErrorKind::NotFound.into())),
        }
    }

    /// The same; returns whether there is one.
    pub(super) fn sync_folder_if_there(&self, path: &Path, step: Step) -> Result<bool, Error> {
        let folder = match Folder::open(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            folder => folder.map_err(|e| failed(step, path, e))?,
        };
        self.synced(self.disk.sync_folder(&folder), path)?;
        Ok(true)
    }

    pub(super) fn check_poison(&self) -> Result<(), Error> {
        match self.poisoned.load(Ordering::Acquire) {
            true => Err(self.unsynced("an earlier sync of the log failed", &self.directory)),
            false => Ok(()),
        }
    }

    /// Final: the disk may have dropped what it could not write, and a second sync would lie.
    pub(super) fn synced(&self, synced: std::io::Result<()>, path: &Path) -> Result<(), Error> {
        synced.map_err(|e| {
            self.poisoned.store(true, Ordering::Release);
            self.unsynced(&format!("the log cannot be synced: {e}"), path).because(e)
        })
    }

    fn unsynced(&self, what: &str, path: &Path) -> Error {
        Error::new(ErrorKind::Refused, what)
            .at(path.display().to_string())
            .hint("check the disk, and its free space, then rerun")
    }
}

/// Whether something is known by now.
pub(super) fn is(known: &AtomicBool) -> bool {
    known.load(Ordering::Acquire)
}
