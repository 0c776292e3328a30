//! Owns the directory of an image as files: their names, what is durable of them, and the lock that keeps another process
//! away. It does not own what is in them.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::super::placed::{ColdFile, PlacedFile};

/// A directory of files.
///
/// What is written is durable once its file is synced, and a name once the directory is.
pub(crate) trait Disk: Send + Sync {
    /// Returns all of a file.
    fn read(&self, name: &str) -> io::Result<Vec<u8>>;
    /// Returns the bytes of a file; 0 if it is not there.
    fn length(&self, name: &str) -> io::Result<u64>;
    /// Fills `bytes` from a place of a file on.
    fn read_at(&self, name: &str, at: u64, bytes: &mut [u8]) -> io::Result<()>;
    /// Writes to a file from a place on, which is made if it is not there.
    fn write_at(&self, name: &str, at: u64, bytes: &[u8]) -> io::Result<()>;
    /// Cuts a file, which is made if it is not there.
    fn cut(&self, name: &str, length: u64) -> io::Result<()>;
    /// Makes what was written to a file durable.
    fn sync(&self, name: &str) -> io::Result<()>;
    /// Gives a file another name, that of another file maybe, which is gone then.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file, if it is there.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes the names durable.
    fn sync_names(&self) -> io::Result<()>;
    /// Returns the names.
    fn names(&self) -> io::Result<Vec<String>>;
}

const LOCK: &str = "LOCK";

/// A directory of the operating system, locked.
#[derive(Debug)]
pub(crate) struct OsDisk {
    folder: PathBuf,
    /// Those that were written or read at places.
    files: Mutex<Vec<(String, Arc<PlacedFile>)>>,
    _lock: File,
}

impl OsDisk {
    /// Makes the directory, if it is not there, and locks it; `None` if it is locked by another.
    pub(crate) fn open(folder: &Path) -> io::Result<Option<OsDisk>> {
        std::fs::create_dir_all(folder)?;
        let mut lock = OpenOptions::new();
        lock.create(true).truncate(false).read(true).write(true);
        let Some(_lock) = locked(lock, &folder.join(LOCK))? else { return Ok(None) };
        Ok(Some(OsDisk { folder: folder.to_path_buf(), files: Default::default(), _lock }))
    }

    fn file(&self, name: &str) -> io::Result<Arc<PlacedFile>> {
        let mut files = self.files.lock();
        if let Some((_, file)) = files.iter().find(|(known, _)| known == name) {
            return Ok(Arc::clone(file));
        }
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).read(true).write(true);
        let file = Arc::new(PlacedFile::new(options.open(self.folder.join(name))?));
        files.push((name.to_string(), Arc::clone(&file)));
        Ok(file)
    }

    fn forget(&self, name: &str) {
        self.files.lock().retain(|(known, _)| known != name);
    }
}

impl Disk for OsDisk {
    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        std::fs::read(self.folder.join(name))
    }

    fn length(&self, name: &str) -> io::Result<u64> {
        match std::fs::metadata(self.folder.join(name)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(0),
            found => Ok(found?.len()),
        }
    }

    fn read_at(&self, name: &str, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.file(name)?.read_at(at, bytes)
    }

    fn write_at(&self, name: &str, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.file(name)?.write_at(at, bytes)
    }

    fn cut(&self, name: &str, length: u64) -> io::Result<()> {
        self.file(name)?.cut(length)
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        self.file(name)?.sync()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.forget(from);
        self.forget(to);
        std::fs::rename(self.folder.join(from), self.folder.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.forget(name);
        match std::fs::remove_file(self.folder.join(name)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    #[cfg(unix)]
    fn sync_names(&self) -> io::Result<()> {
        File::open(&self.folder)?.sync_all()
    }

    #[cfg(windows)]
    fn sync_names(&self) -> io::Result<()> {
        Ok(())
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let entries = std::fs::read_dir(&self.folder)?;
        let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        names.collect()
    }
}

#[cfg(unix)]
fn locked(options: OpenOptions, path: &Path) -> io::Result<Option<File>> {
    let file = options.open(path)?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

#[cfg(windows)]
fn locked(mut options: OpenOptions, path: &Path) -> io::Result<Option<File>> {
    const SHARING_VIOLATION: i32 = 32;
    match std::os::windows::fs::OpenOptionsExt::share_mode(&mut options, 0).open(path) {
        Err(e) if e.raw_os_error() == Some(SHARING_VIOLATION) => Ok(None),
        opened => opened.map(Some),
    }
}
