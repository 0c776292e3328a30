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
use super::lock::LockFile;
use super::os::{Disk, Folder, Opened, Wait};
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
    pub(super) writing: Mutex<Option<Arc<LockFile>>>,
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

    /// Whether a key is a file of this log. So is the last file of before, and so are all of them once it is in segments:
    /// a crash may have left some, and the next collection removes them.
    pub(super) fn owns(&self, key: &str) -> bool {
        let inside =
            key.strip_prefix(&self.shard).and_then(|rest| rest.strip_prefix('/')?.split_once('/'));
        match inside {
            Some(("log", MARKS | "lock")) => true,
            Some(("log", name)) if segment_number(name).is_some() => true,
            Some((folder @ ("log" | "floor"), name)) => files::number(name).is_some_and(|number| {
                let files = Files { directory: &self.directory };
                let is_last = || files.is_closed_at(number).unwrap_or(false);
                self.directory.join(MARKS).exists() || folder == "log" && is_last()
            }),
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
                    Ok(()) if log.is_sure() => return segments(log),
                    Ok(()) if wait == Wait::No => return Err(Fail::WouldBlock),
                    Ok(()) => *known = self.look_again(log)?,
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

    /// Syncs what was read of a log that the marks do not tell of, and reads the log anew. What stands there as before
    /// is durable; what its writer could not write is gone. Of a log that changed meanwhile nothing is sure: the
    /// caller looks once more.
    fn look_again(&self, log: &Log) -> Result<Option<Log>, Error> {
        self.check_poison()?;
        let unsure = || log.segments.range(log.sure.segment..).map(|(_, segment)| &segment.file);
        let sync = |file: &Opened| self.synced(of_reader(self.disk.sync(file)), &file.path);
        for file in unsure() {
            sync(file)?;
            // The sync of its writer may have failed, and ours says nothing of that.
            self.disk.forget(file).map_err(|e| failed(Step::Read, &file.path, e))?;
        }
        self.sync_names(Step::Read)?;
        let mut later = Log::load(&self.directory)?;
        if let Some(later) = &mut later
            && log.agrees_with(later)
        {
            // A writer may be at work on it: what is written to a page keeps it from being forgotten.
            unsure().try_for_each(|file| sync(file))?;
            later.be_sure(log.end);
            later.named.store(true, Ordering::Release);
        }
        Ok(later)
    }

    /// Makes durable what can be seen. Records are when they are; the names of their files may not be yet.
    pub(super) fn sync_head(&self, wait: Wait) -> Result<(), Fail> {
        self.check_poison()?;
        let found = self.look(wait, |log| Ok(Some(Arc::clone(&log.named))), |_| Ok(None))?;
        if found.as_ref().is_some_and(|named| is(named)) {
            return Ok(());
        }
        if wait == Wait::No {
            return Err(Fail::WouldBlock);
        }
        let Some(named) = found else {
            self.sync_folder_if_there(&self.directory, Step::Read)?;
            return Ok(());
        };
        self.sync_names(Step::Read)?;
        named.store(true, Ordering::Release);
        Ok(())
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
        let synced = self.disk.sync_folder(&folder);
        self.synced(if step == Step::Read { of_reader(synced) } else { synced }, path)?;
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

/// What the sync of a reader came to: an image that has no sync takes no writes, so that it has nothing to sync.
fn of_reader(synced: std::io::Result<()>) -> std::io::Result<()> {
    match synced {
        Err(e) if e.kind() == std::io::ErrorKind::InvalidInput => Ok(()),
        synced => synced,
    }
}

/// Whether something is known by now.
pub(super) fn is(known: &AtomicBool) -> bool {
    known.load(Ordering::Acquire)
}
