//! Owns what the log of a local directory asks of the operating system: reads and writes at a place, syncs,
//! names, and the advisory lock. It knows no layout; that is [`segment`](super::segment)'s and
//! [`marks`](super::marks)'.
//!
//! Whatever changes the disk goes through a [`Disk`], so that a test can write down what was asked for, in its
//! order, and make every directory of it that a crash or a power loss could have left.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

/// A file and its name.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) file: File,
    pub(super) path: PathBuf,
}

impl Opened {
    /// Opens a file that is there. One that may only be read is opened for that: its reader never writes.
    pub(super) fn open(path: PathBuf) -> io::Result<Opened> {
        let file = match OpenOptions::new().read(true).write(true).open(&path) {
            Err(e) if is_denied(&e) => File::open(&path)?,
            file => file?,
        };
        Ok(Opened { file, path })
    }

    /// Reads from a place on until `buffer` is full or the file ends; returns how much. One that does not `wait`
    /// fails with `WouldBlock` rather than wait for the disk.
    pub(super) fn read_at(&self, buffer: &mut [u8], at: u64, wait: Wait) -> io::Result<usize> {
        let mut read = 0;
        while read < buffer.len() {
            let place = at.saturating_add(read as u64);
            let some = match wait {
                Wait::Yes => read_some(&self.file, &mut buffer[read..], place),
                Wait::No => read_now(&self.file, &mut buffer[read..], place),
            };
            match some {
                Ok(0) => break,
                Ok(some) => read += some,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(read)
    }
}

/// Whether a caller may wait for the disk: a task must not, a thread for blocking work may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    Yes,
    No,
}

fn is_denied(error: &io::Error) -> bool {
    use io::ErrorKind as Io;
    matches!(error.kind(), Io::PermissionDenied | Io::ReadOnlyFilesystem)
}

/// What tells a file from another one under its name.
pub(super) type Identity = (u64, u64);

#[cfg(unix)]
pub(super) fn identity(found: &Metadata) -> Identity {
    use std::os::unix::fs::MetadataExt as _;
    (found.dev(), found.ino())
}

#[cfg(not(unix))]
pub(super) fn identity(_: &Metadata) -> Identity {
    (0, 0)
}

/// Whether two files are on one file system.
pub(in crate::store) fn is_beside(one: &Path, other: &Path) -> bool {
    let device = |path| std::fs::metadata(path).map(|found| identity(&found).0);
    device(one).is_ok_and(|one| device(other).is_ok_and(|other| one == other))
}

#[cfg(unix)]
fn read_some(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buffer, at)
}

#[cfg(windows)]
fn read_some(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, buffer, at)
}

#[cfg(all(target_os = "linux", unix))]
fn read_now(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    use rustix::io::{Errno, ReadWriteFlags, preadv2};
    let mut buffers = [io::IoSliceMut::new(buffer)];
    preadv2(file, &mut buffers, at, ReadWriteFlags::NOWAIT).map_err(|e| match e {
        // A file system that cannot say whether it would wait.
        Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL => io::ErrorKind::WouldBlock.into(),
        e => e.into(),
    })
}

#[cfg(not(target_os = "linux"))]
fn read_now(_: &File, _: &mut [u8], _: u64) -> io::Result<usize> {
    Err(io::ErrorKind::WouldBlock.into())
}

#[cfg(unix)]
fn write_some(file: &File, bytes: &[u8], at: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::write_at(file, bytes, at)
}

#[cfg(windows)]
fn write_some(file: &File, bytes: &[u8], at: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_write(file, bytes, at)
}

#[cfg(target_os = "linux")]
fn forget_pages(file: &File) -> io::Result<()> {
    Ok(rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed)?)
}

#[cfg(not(target_os = "linux"))]
fn forget_pages(_: &File) -> io::Result<()> {
    Ok(())
}

/// Takes the lock on a file, or returns false if another holds it. It ends with the file's last descriptor, so
/// with its process.
#[cfg(unix)]
pub(super) fn try_lock(file: &File) -> io::Result<bool> {
    use rustix::fs::{FlockOperation, flock};
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(e) if e == rustix::io::Errno::WOULDBLOCK => Ok(false),
        Err(e) => Err(e.into()),
    }
}

#[cfg(unix)]
pub(super) fn unlock(file: &File) {
    // What cannot be unlocked stays locked until the file is closed: others wait, and say so.
    let _ = rustix::fs::flock(file, rustix::fs::FlockOperation::Unlock);
}

/// Returns the name of the file system that a file is on, if that is one that another host may have mounted as well:
/// its locks may then be of this host alone, which no look from here can tell. Cluster file systems whose locks are of
/// all hosts (CephFS, GFS2, OCFS2, GPFS) are not meant.
#[cfg(target_os = "linux")]
pub(super) fn shared_system(file: &File) -> io::Result<Option<&'static str>> {
    let found = rustix::fs::fstatfs(file)?;
    // The type is 32 bits, in a word whose width and sign differ between machines.
    Ok(shared_type(found.f_type as u32))
}

#[cfg(not(target_os = "linux"))]
pub(super) fn shared_system(_: &File) -> io::Result<Option<&'static str>> {
    Ok(None)
}

/// The same of the number of a type, see `statfs(2)`.
#[cfg(target_os = "linux")]
fn shared_type(number: u32) -> Option<&'static str> {
    Some(match number {
        0x6969 => "NFS",
        0x0102_1997 => "9p",
        0x6573_5546 => "FUSE or virtiofs",
        0x517b | 0xfe53_4d42 | 0xff53_4d42 => "SMB",
        0x0bd0_0bd0 => "Lustre",
        0x5346_414f | 0x6b41_4653 => "AFS",
        0x7375_7245 => "Coda",
        0x1983_0326 => "BeeGFS",
        0xaad7_aaea => "PanFS",
        0x786f_4256 => "a shared folder of VirtualBox",
        0x7c7c_6673 => "a shared folder of Parallels",
        0xbacb_acbc => "a shared folder of VMware",
        _ => return None,
    })
}

#[cfg(not(unix))]
pub(super) fn try_lock(_: &File) -> io::Result<bool> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(not(unix))]
pub(super) fn unlock(_: &File) {}

/// What changes the disk.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    #[cfg(test)]
    pub(super) done: Option<std::sync::Arc<parking_lot::Mutex<Vec<Done>>>>,
    /// Syncs of files fail.
    #[cfg(test)]
    pub(super) fails: std::sync::Arc<std::sync::atomic::AtomicBool>,
    /// In which file, from where on, and for how many bytes the disk has not what its cache has.
    #[cfg(test)]
    pub(super) lost: std::sync::Arc<parking_lot::Mutex<Option<(PathBuf, u64, usize)>>>,
}

/// Something that was asked of a disk.
#[cfg(test)]
#[derive(Clone, Debug)]
pub(super) enum Done {
    Create(PathBuf),
    Write(PathBuf, u64, Vec<u8>),
    Sync(PathBuf),
    Rename(PathBuf, PathBuf),
    Link(PathBuf, PathBuf),
    Remove(PathBuf),
    SyncDirectory(PathBuf),
}

impl Disk {
    #[cfg(test)]
    fn note(&self, done: impl FnOnce() -> Done) {
        if let Some(all) = &self.done {
            all.lock().push(done());
        }
    }

    /// Creates a file, or empties the one that is there.
    pub(super) fn create(&self, path: PathBuf) -> io::Result<Opened> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(true).open(&path)?;
        #[cfg(test)]
        self.note(|| Done::Create(path.clone()));
        Ok(Opened { file, path })
    }

    /// Writes all bytes at a place.
    pub(super) fn write_at(&self, to: &Opened, mut bytes: &[u8], mut at: u64) -> io::Result<()> {
        #[cfg(test)]
        self.note(|| Done::Write(to.path.clone(), at, bytes.to_vec()));
        while !bytes.is_empty() {
            match write_some(&to.file, bytes, at) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(some) => {
                    bytes = &bytes[some..];
                    at = at.saturating_add(some as u64);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Makes the bytes of a file durable, and its length.
    pub(super) fn sync(&self, file: &Opened) -> io::Result<()> {
        #[cfg(test)]
        if self.fails.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(io::Error::other("the disk is broken"));
        }
        #[cfg(test)]
        if self.done.is_some() {
            // Written down in its stead: what is lost is for the test to say.
            self.note(|| Done::Sync(file.path.clone()));
            return Ok(());
        }
        file.file.sync_data()
    }

    /// Forgets the pages of a file that is synced, so that what is read next is what the disk has.
    pub(super) fn forget(&self, file: &Opened) -> io::Result<()> {
        #[cfg(test)]
        self.lose();
        forget_pages(&file.file)
    }

    /// The cache loses its pages, and the disk has zeros where it dropped what it could not write.
    #[cfg(test)]
    fn lose(&self) {
        if let Some((path, at, len)) = &*self.lost.lock() {
            let file = OpenOptions::new().write(true).open(path).unwrap();
            write_some(&file, &vec![0; *len], *at).unwrap();
        }
    }

    /// Gives a file another name, in place of whatever has it.
    pub(super) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)?;
        #[cfg(test)]
        self.note(|| Done::Rename(from.into(), to.into()));
        Ok(())
    }

    /// Gives a file another name as well, if nothing has it; returns whether it did.
    pub(super) fn link(&self, from: &Path, to: &Path) -> io::Result<bool> {
        match std::fs::hard_link(from, to) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
            linked => linked?,
        }
        #[cfg(test)]
        self.note(|| Done::Link(from.into(), to.into()));
        Ok(true)
    }

    /// Removes a name; one that is not there is fine.
    pub(super) fn remove(&self, path: &Path) -> io::Result<()> {
        match std::fs::remove_file(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            removed => removed?,
        }
        #[cfg(test)]
        self.note(|| Done::Remove(path.into()));
        Ok(())
    }

    /// Makes the names inside a directory durable.
    pub(super) fn sync_folder(&self, folder: &Folder) -> io::Result<()> {
        // It takes a while.
        #[cfg(test)]
        self.lose();
        #[cfg(test)]
        if self.done.is_some() {
            self.note(|| Done::SyncDirectory(folder.path.clone()));
            return Ok(());
        }
        folder.sync()
    }
}

/// A directory that is open. That it cannot be opened says nothing of the disk; that it cannot be synced does.
#[derive(Debug)]
pub(super) struct Folder {
    file: Option<File>,
    #[cfg(test)]
    path: PathBuf,
}

impl Folder {
    pub(super) fn open(path: &Path) -> io::Result<Folder> {
        // Only Unix can: elsewhere a sync does nothing.
        let file = if cfg!(unix) { Some(File::open(path)?) } else { None };
        Ok(Folder {
            file,
            #[cfg(test)]
            path: path.into(),
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.file.as_ref().map_or(Ok(()), File::sync_all)
    }
}

/// Makes the names inside a directory durable.
pub(in crate::store) fn sync_directory(path: &Path) -> io::Result<()> {
    Folder::open(path)?.sync()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_of_several_hosts_is_known_by_its_type() {
        for (number, name) in [(0x6969, "NFS"), (0xff53_4d42, "SMB"), (0x0bd0_0bd0, "Lustre")] {
            assert_eq!(shared_type(number), Some(name));
        }
        // ext4, xfs, btrfs, tmpfs, overlay, zfs.
        for number in [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0x794c_7630, 0x2fc1_2fc1] {
            assert_eq!(shared_type(number), None, "{number:x}");
        }
        let file = File::open(std::env::temp_dir()).unwrap();
        shared_system(&file).unwrap();
    }
}
