//! Owns the [`Blob`] of a directory: a key is a file, written under a name of its own, synced, and renamed or
//! linked to its key, so that a reader that sees it sees all of it. Logs are [`log`](super::log)'s.
//!
//! A name that ends in `#` and a number is of a file that is being written: no listing shows it, and one that was
//! left is swept.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::UNIX_EPOCH;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;

use super::fail::{failed, hop};
use super::os::{Identity, Opened, Wait, identity, sync_directory};
use crate::error::Error;
use crate::store::refusal::Step;
use crate::store::{Blob, Create, Listed, PROBE_PREFIX};

/// The files of a directory.
#[derive(Clone, Debug)]
pub(super) struct LocalBlob {
    directory: PathBuf,
    place: String,
    /// Folders whose names are durable, as far as this process knows.
    named: Arc<Mutex<BTreeSet<PathBuf>>>,
    /// The last file that was compared, as it was then.
    compared: Arc<Mutex<Option<(Opened, Identity)>>>,
}

/// What a write does with a key that is there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum There {
    Replace,
    Keep,
}

impl LocalBlob {
    pub(super) fn new(directory: PathBuf, place: String) -> LocalBlob {
        LocalBlob { directory, place, named: Arc::default(), compared: Arc::default() }
    }

    fn path(&self, key: &str) -> PathBuf {
        self.directory.join(key)
    }

    async fn write(&self, key: &str, bytes: Bytes, there: There) -> Result<Create, Error> {
        let (blob, path) = (self.clone(), self.path(key));
        hop(move || blob.write_now(&path, &bytes, there)).await
    }

    /// Compares a key with bytes, if that takes no waiting: nothing but the name, and a file that is open.
    fn compare_now(&self, path: &Path, bytes: &[u8]) -> io::Result<bool> {
        let Some(compared) = self.compared.try_lock() else {
            return Err(io::ErrorKind::WouldBlock.into());
        };
        let found = std::fs::metadata(path)?;
        let is_same =
            |(opened, id): &&(Opened, Identity)| opened.path == path && *id == identity(&found);
        let Some((opened, _)) = compared.as_ref().filter(is_same) else {
            return Err(io::ErrorKind::WouldBlock.into());
        };
        holds(opened, found.len(), bytes, Wait::No)
    }
}

/// Whether a file of so many bytes has these and no others.
fn holds(opened: &Opened, len: u64, bytes: &[u8], wait: Wait) -> io::Result<bool> {
    if len != bytes.len() as u64 {
        return Ok(false);
    }
    let mut found = vec![0; bytes.len()];
    let read = opened.read_at(&mut found, 0, wait)?;
    Ok(&found[..read] == bytes)
}

impl LocalBlob {
    /// Writes a file durably, and every folder on the way to it.
    fn write_now(&self, path: &Path, bytes: &[u8], there: There) -> Result<Create, Error> {
        static STAGED: AtomicU64 = AtomicU64::new(0);
        let next = || u64::from(std::process::id()) << 32 | STAGED.fetch_add(1, Ordering::Relaxed);
        let folder = path.parent().unwrap_or(&self.directory);
        let stage = |e| failed(Step::Stage, path, e);
        // Its maker may have died before its name was durable.
        if !self.named.lock().contains(folder) {
            self.make_folder(folder).map_err(stage)?;
        }
        let (mut file, staged) = match create_staged(path, next) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                self.make_folder(folder).map_err(stage)?;
                create_staged(path, next)
            }
            file => file,
        }
        .map_err(stage)?;
        let wrote = file.write_all(bytes).and_then(|()| file.sync_data());
        let published = match (wrote, there) {
            (Err(e), _) => Err(stage(e)),
            (Ok(()), There::Replace) => {
                std::fs::rename(&staged, path).map(|()| Create::Created).map_err(stage)
            }
            (Ok(()), There::Keep) => match std::fs::hard_link(&staged, path) {
                Ok(()) => Ok(Create::Created),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(Create::Exists),
                Err(e) => Err(failed(Step::Link, path, e)),
            },
        };
        if there == There::Keep || published.is_err() {
            // One that is left is swept.
            let _ = std::fs::remove_file(&staged);
        }
        if let Ok(Create::Created) = published {
            sync_directory(folder).map_err(|e| failed(Step::Publish, path, e))?;
        }
        published
    }

    /// Makes a folder, and those above it up to the root, which must be there: what was removed does not come back
    /// by our hand. Their names are durable after that.
    fn make_folder(&self, folder: &Path) -> io::Result<()> {
        let Some(above) = folder.parent().filter(|_| folder != self.directory) else {
            return Ok(());
        };
        // What is durable once is so for good, unless it is gone, with all below it.
        if !(self.named.lock().contains(above) && above.exists()) {
            self.make_folder(above)?;
        }
        match std::fs::create_dir(folder) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => sync_directory(above)?,
        }
        self.named.lock().insert(folder.into());
        Ok(())
    }

    fn ready_now(&self, folder: &Path) -> Result<(), Error> {
        if self.named.lock().contains(folder) {
            return Ok(());
        }
        self.make_folder(folder).map_err(|e| failed(Step::Stage, folder, e))
    }
}

/// Creates the file that is staged for another. A name may be taken: by one that was left by a process of the same
/// number, or is being written by one elsewhere.
fn create_staged(path: &Path, next: impl Fn() -> u64) -> io::Result<(File, PathBuf)> {
    loop {
        let mut staged = path.as_os_str().to_owned();
        staged.push(format!("#{}", next()));
        let staged = PathBuf::from(staged);
        match File::create_new(&staged) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            file => return Ok((file?, staged)),
        }
    }
}

/// Returns what a file is staged for, if it is.
fn staged_for(name: &str) -> Option<&str> {
    let (target, number) = name.rsplit_once('#')?;
    number.parse::<u64>().is_ok().then_some(target)
}

/// Lists the files inside a folder at any depth, as far as `found` wants more. One that goes meanwhile is not
/// listed.
fn walk(
    folder: &Path,
    found: &mut impl FnMut(&Path, &str, &std::fs::Metadata) -> bool,
) -> io::Result<bool> {
    let entries = match std::fs::read_dir(folder) {
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(true);
        }
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let meta = match entry.metadata() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            meta => meta?,
        };
        let (path, name) = (entry.path(), entry.file_name());
        let more = match meta.is_dir() {
            // Of the file system, and its owner's alone.
            true if name == "lost+found" => true,
            true => walk(&path, found)?,
            false => found(&path, &name.to_string_lossy(), &meta),
        };
        if !more {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Removes the folders of parts that are empty and old: each writer has one of its own. One that is alive makes its
/// folder again.
fn remove_folders(root: &Path, before_ms: u64) {
    let inside = |folder: &Path| folder.read_dir().into_iter().flatten().flatten();
    for folder in inside(root).flat_map(|shard| inside(&shard.path().join("part"))) {
        let made = folder.metadata().ok().and_then(|meta| made_ms(&meta));
        if made.is_some_and(|made| made < u128::from(before_ms)) {
            // Only if it is empty.
            let _ = std::fs::remove_dir(folder.path());
        }
    }
}

fn made_ms(meta: &std::fs::Metadata) -> Option<u128> {
    Some(meta.modified().ok()?.duration_since(UNIX_EPOCH).ok()?.as_millis())
}

#[async_trait]
impl Blob for LocalBlob {
    async fn put(&self, key: &str, bytes: Bytes) -> Result<(), Error> {
        self.write(key, bytes, There::Replace).await.map(|_| ())
    }

    async fn create(&self, key: &str, bytes: Bytes) -> Result<Create, Error> {
        self.write(key, bytes, There::Keep).await
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>, Error> {
        let path = self.path(key);
        hop(move || match std::fs::read(&path) {
            Ok(bytes) => Ok(Some(Bytes::from(bytes))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            // A folder is not a key.
            Err(e) if e.kind() == io::ErrorKind::IsADirectory => Ok(None),
            Err(e) => Err(failed(Step::Read, &path, e)),
        })
        .await
    }

    async fn holds(&self, key: &str, bytes: &Bytes) -> Result<bool, Error> {
        let path = self.path(key);
        match self.compare_now(&path, bytes) {
            Ok(same) => return Ok(same),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            // It has to be opened, or read from the disk.
            Err(_) => {}
        }
        let (bytes, compared) = (bytes.clone(), Arc::clone(&self.compared));
        hop(move || {
            let compare = || {
                let opened = Opened::open(path.clone())?;
                let found = opened.file.metadata()?;
                let same = holds(&opened, found.len(), &bytes, Wait::Yes)?;
                *compared.lock() = Some((opened, identity(&found)));
                Ok(same)
            };
            match compare() {
                Err(e) if io::Error::kind(&e) == io::ErrorKind::NotFound => Ok(false),
                same => same.map_err(|e| failed(Step::Read, &path, e)),
            }
        })
        .await
    }

    async fn list(&self, folder: &str, limit: usize) -> Result<Vec<Listed>, Error> {
        let (root, folder) = (self.directory.clone(), self.path(folder));
        hop(move || {
            let mut keys = Vec::new();
            let listed = walk(&folder, &mut |path, name, meta| {
                let key = path.strip_prefix(&root).ok().and_then(Path::to_str);
                if let Some(key) = key.filter(|_| staged_for(name).is_none() && keys.len() < limit)
                {
                    keys.push(Listed { key: key.replace('\\', "/"), bytes: meta.len() });
                }
                keys.len() < limit
            });
            listed.map_err(|e| failed(Step::Read, &folder, e))?;
            keys.sort_by(|a, b| a.key.cmp(&b.key));
            Ok(keys)
        })
        .await
    }

    async fn delete(&self, key: &str) -> Result<(), Error> {
        let path = self.path(key);
        hop(move || match std::fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed(Step::Delete, &path, e)),
            _ => Ok(()),
        })
        .await
    }

    async fn ready(&self, folder: &str) -> Result<(), Error> {
        let (blob, path) = (self.clone(), self.path(folder));
        hop(move || blob.ready_now(&path)).await
    }

    async fn sweep_leftovers(&self, before_ms: u64) -> Result<u64, Error> {
        let root = self.directory.clone();
        hop(move || {
            let mut old = Vec::new();
            let listed = walk(&root, &mut |path, name, meta| {
                let is_probe = path.parent() == Some(&root) && name.starts_with(PROBE_PREFIX);
                let is_old = made_ms(meta).is_some_and(|made| made < u128::from(before_ms));
                if is_old && (is_probe || staged_for(name).is_some()) {
                    old.push(path.to_path_buf());
                }
                true
            });
            listed.map_err(|e| failed(Step::Read, &root, e))?;
            remove_folders(&root, before_ms);
            Ok(old.iter().filter(|path| std::fs::remove_file(path).is_ok()).count() as u64)
        })
        .await
    }

    fn place(&self, key: &str) -> String {
        format!("{}{key}", self.place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_put_after_ready_makes_its_own_folder_alone() {
        let dir = tempfile::tempdir().unwrap();
        let blob = LocalBlob::new(dir.path().into(), "here".into());
        let named = |blob: &LocalBlob| -> Vec<String> {
            let named = blob.named.lock();
            let below = |path: &PathBuf| path.strip_prefix(dir.path()).unwrap().to_path_buf();
            named.iter().map(|path| below(path).to_string_lossy().into_owned()).collect()
        };
        blob.ready("data/part").await.unwrap();
        assert_eq!(named(&blob), ["data", "data/part"]);
        assert_eq!(blob.list("", 9).await.unwrap().len(), 0, "it stores no key");
        blob.put("data/part/1/2", Bytes::from_static(b"x")).await.unwrap();
        assert_eq!(named(&blob), ["data", "data/part", "data/part/1"]);
        // What was removed meanwhile is made again, and its names are durable again.
        std::fs::remove_dir_all(dir.path().join("data")).unwrap();
        blob.put("data/part/1/2", Bytes::from_static(b"y")).await.unwrap();
        assert_eq!(blob.get("data/part/1/2").await.unwrap(), Some(Bytes::from_static(b"y")));
        // The root is not: see `make_folder`.
        std::fs::remove_dir_all(dir.path()).unwrap();
        assert!(blob.ready("other/part").await.is_err());
    }

    #[test]
    fn folders_of_parts_go_once_they_are_empty() {
        let dir = tempfile::tempdir().unwrap();
        let blob = LocalBlob::new(dir.path().into(), String::new());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            for key in ["data/part/w/1", "data/part/gone/1", "data/rollup/1"] {
                blob.put(key, Bytes::from_static(b"part")).await.unwrap();
            }
            // Of the file system, and its owner's alone.
            std::fs::create_dir(dir.path().join("lost+found")).unwrap();
            blob.delete("data/part/gone/1").await.unwrap();
            blob.sweep_leftovers(0).await.unwrap();
            assert!(dir.path().join("data/part/gone").exists(), "young");
            blob.sweep_leftovers(u64::MAX).await.unwrap();
            assert!(!dir.path().join("data/part/gone").exists());
            assert_eq!(blob.list("data", 9).await.unwrap().len(), 2);
            blob.put("data/part/gone/2", Bytes::from_static(b"part")).await.unwrap();
        });
    }

    #[test]
    fn a_name_that_was_left_is_not_taken_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("FORMAT");
        for number in 0..3 {
            std::fs::write(dir.path().join(format!("FORMAT#{number}")), b"left").unwrap();
        }
        let numbers = AtomicU64::new(0);
        let staged = create_staged(&path, || numbers.fetch_add(1, Ordering::Relaxed));
        assert_eq!(staged.unwrap().1, dir.path().join("FORMAT#3"));
    }
}
