//! Owns the directory of an image as files: their names, what is durable of them, and the lock that keeps another process
//! away. It does not own what is in them.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

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
    files: parking_lot::Mutex<Vec<(String, std::sync::Arc<File>)>>,
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

    fn file(&self, name: &str) -> io::Result<std::sync::Arc<File>> {
        let mut files = self.files.lock();
        if let Some((_, file)) = files.iter().find(|(known, _)| known == name) {
            return Ok(std::sync::Arc::clone(file));
        }
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).read(true).write(true);
        let file = std::sync::Arc::new(options.open(self.folder.join(name))?);
        // Read ahead, each row would bring 128 KiB of others along. Advice that is not taken costs time alone.
        #[cfg(target_os = "linux")]
        let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Random);
        files.push((name.to_string(), std::sync::Arc::clone(&file)));
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

    #[cfg(unix)]
    fn read_at(&self, name: &str, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&*self.file(name)?, bytes, at)
    }

    #[cfg(windows)]
    fn read_at(&self, name: &str, mut at: u64, mut bytes: &mut [u8]) -> io::Result<()> {
        let file = self.file(name)?;
        while !bytes.is_empty() {
            match std::os::windows::fs::FileExt::seek_read(&*file, bytes, at)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => (at, bytes) = (at + read as u64, &mut bytes[read..]),
            }
        }
        Ok(())
    }

    #[cfg(unix)]
    fn write_at(&self, name: &str, at: u64, bytes: &[u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::write_all_at(&*self.file(name)?, bytes, at)
    }

    #[cfg(windows)]
    fn write_at(&self, name: &str, mut at: u64, mut bytes: &[u8]) -> io::Result<()> {
        let file = self.file(name)?;
        while !bytes.is_empty() {
            match std::os::windows::fs::FileExt::seek_write(&*file, bytes, at)? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                written => (at, bytes) = (at + written as u64, &bytes[written..]),
            }
        }
        Ok(())
    }

    fn cut(&self, name: &str, length: u64) -> io::Result<()> {
        self.file(name)?.set_len(length)
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        self.file(name)?.sync_data()
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
