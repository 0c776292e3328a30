//! Owns a model of a disk: what a directory holds after some steps, and what a loss of power may leave of it, with
//! sectors and names that were not synced kept or lost as the caller says. The steps are those of [`Disk`](super::Disk).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::super::os::Done;

/// A disk as it is and as it was last synced.
#[derive(Clone)]
pub(super) struct Image {
    root: PathBuf,
    /// Files by a number of their own: their bytes, and the sectors that are not synced, as they were.
    files: Vec<(Vec<u8>, BTreeMap<usize, Vec<u8>>)>,
    names: BTreeMap<PathBuf, usize>,
    durable: BTreeMap<PathBuf, usize>,
    /// Folders that were synced after the folders inside them were made.
    synced: BTreeSet<PathBuf>,
}

const SECTOR: usize = 512;

impl Image {
    /// An empty directory.
    pub(super) fn new(root: &Path) -> Image {
        Image {
            root: root.into(),
            files: Vec::new(),
            names: BTreeMap::new(),
            durable: BTreeMap::new(),
            synced: BTreeSet::new(),
        }
    }

    /// A directory as it is, with its files in these folders, all of it durable.
    pub(super) fn of(root: &Path, folders: &[&str]) -> Image {
        let mut image = Image::new(root);
        for folder in folders {
            for path in root.join(folder).read_dir().unwrap().map(|entry| entry.unwrap().path()) {
                let above = path.ancestors().skip(1).take_while(|above| above.starts_with(root));
                image.synced.extend(above.map(PathBuf::from));
                image.names.insert(path.clone(), image.files.len());
                image.files.push((std::fs::read(&path).unwrap(), BTreeMap::new()));
            }
        }
        image.durable = image.names.clone();
        image
    }

    /// The same under another name, as a copy that was written there.
    pub(super) fn moved(&self, root: &Path) -> Image {
        let moved = |path: &Path| root.join(path.strip_prefix(&self.root).unwrap());
        let names = |names: &BTreeMap<PathBuf, usize>| {
            names.iter().map(|(path, file)| (moved(path), *file)).collect()
        };
        Image {
            root: root.into(),
            files: self.files.clone(),
            names: names(&self.names),
            durable: names(&self.durable),
            synced: self.synced.iter().map(|path| moved(path)).collect(),
        }
    }

    pub(super) fn step(&mut self, done: &Done) {
        match done {
            // The file is emptied: what the name durably names is as good as empty, too.
            Done::Create(path) => {
                self.names.insert(path.clone(), self.files.len());
                self.files.push(Default::default());
            }
            Done::Write(path, at, bytes) => {
                let (file, unsynced) = &mut self.files[self.names[path]];
                let (at, end) = (*at as usize, *at as usize + bytes.len());
                file.resize(file.len().max(end), 0);
                for sector in at / SECTOR..end.div_ceil(SECTOR) {
                    let range = sector * SECTOR..file.len().min((sector + 1) * SECTOR);
                    let before = file[range].to_vec();
                    unsynced.entry(sector).or_insert(before);
                }
                file[at..end].copy_from_slice(bytes);
            }
            Done::Sync(path) => self.files[self.names[path]].1.clear(),
            Done::Rename(from, to) => {
                let file = self.names.remove(from).unwrap();
                self.names.insert(to.clone(), file);
            }
            Done::Link(from, to) => {
                self.names.insert(to.clone(), self.names[from]);
            }
            Done::Remove(path) => drop(self.names.remove(path)),
            Done::SyncDirectory(folder) => {
                let inside = |path: &Path| path.parent() == Some(folder);
                self.durable.retain(|path, _| !inside(path));
                let now = self.names.iter().filter(|(path, _)| inside(path));
                self.durable.extend(now.map(|(path, file)| (path.clone(), *file)));
                self.synced.insert(folder.clone());
            }
        }
    }

    /// Loses power: what was not synced is kept or lost.
    pub(super) fn lose_power(&mut self, mut keep: impl FnMut() -> bool) {
        for (file, unsynced) in &mut self.files {
            for (sector, before) in std::mem::take(unsynced) {
                if !keep() {
                    file[sector * SECTOR..sector * SECTOR + before.len()].copy_from_slice(&before);
                }
            }
        }
        let paths: BTreeSet<_> = self.names.keys().chain(self.durable.keys()).cloned().collect();
        let (mut names, mut folders) = (BTreeMap::new(), BTreeMap::new());
        for path in paths {
            let side = if keep() { &self.names } else { &self.durable };
            let above = path.ancestors().skip(1).take_while(|above| *above != self.root);
            let mut lost = false;
            for folder in above {
                let durable = folder.parent().is_some_and(|above| self.synced.contains(above));
                lost |= !durable && !*folders.entry(folder.to_owned()).or_insert_with(&mut keep);
            }
            if let Some(file) = side.get(&path).filter(|_| !lost) {
                names.insert(path.clone(), *file);
            }
        }
        self.names = names;
    }

    /// Returns the bytes of a file.
    pub(super) fn bytes(&self, path: &Path) -> &[u8] {
        &self.files[self.names[path]].0
    }

    /// Writes it to a directory.
    pub(super) fn write(&self, to: &Path) {
        for (path, file) in &self.names {
            let path = to.join(path.strip_prefix(&self.root).unwrap());
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, &self.files[*file].0).unwrap();
        }
    }
}
