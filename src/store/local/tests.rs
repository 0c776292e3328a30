//! Goal: whatever moment a writer dies at, and whatever the disk has kept of what was never synced, the log holds
//! every entry that anyone was told of, as it was, and goes on. Method: a run of creates, collections and other
//! writers' looks is written down as what it asked of the disk; then directories are made that each prefix of it
//! could have left, as a process that dies leaves them and as a power loss does, with sectors and names that were
//! not synced kept or lost at random. `SEEDS`, `SEED` as elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::log::LocalLog;
use super::os::{Disk, Done};
use super::shared::{Pending, Shared};
use crate::error::{Error, ErrorKind};
use crate::store::{Consensus, Create};

fn entry(seqno: u64) -> Bytes {
    let len = [5, 400, 3_000, 1, 9_000][seqno as usize % 5];
    Bytes::from(seqno.to_le_bytes().repeat(len / 8 + 1))
}

fn opened(root: &Path, disk: Disk) -> Arc<Shared> {
    Arc::new(Shared::new(root.into(), "data", String::new(), disk))
}

fn log(root: &Path) -> LocalLog {
    LocalLog::new(opened(root, Disk::default()))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// What a run was told, after so many steps of the disk.
#[derive(Clone, Debug)]
enum Told {
    Created(u64),
    Floor(u64),
}

/// Does a run in a directory, and returns what it asked of the disk and what it was told.
fn run(root: &Path) -> (Vec<Done>, Vec<(usize, Told)>) {
    let done = Arc::new(Mutex::new(Vec::new()));
    let mut told = Vec::new();
    let tell = |told: &mut Vec<_>, what| {
        let steps: usize = done.lock().len();
        told.push((steps, what));
    };
    runtime().block_on(async {
        let begin = || {
            let disk = Disk { done: Some(Arc::clone(&done)) };
            LocalLog::new(opened(root, disk))
        };
        let mut log = begin();
        for seqno in 1..=30 {
            assert_eq!(log.create(seqno, entry(seqno)).await.unwrap(), Create::Created);
            tell(&mut told, Told::Created(seqno));
            if seqno % 9 == 0 {
                // Another process goes on.
                log = begin();
            }
            if seqno % 11 == 0 {
                log.raise_floor(seqno - 3).await.unwrap();
                tell(&mut told, Told::Floor(seqno - 3));
                log.delete(seqno - 3).await.unwrap();
            }
        }
        // Several at one time are one write.
        let shared = opened(root, Disk { done: Some(Arc::clone(&done)) });
        let answers: Vec<_> = (31..=36)
            .map(|seqno| {
                let (answer, answered) = oneshot::channel();
                shared.queue(Pending { seqno, entry: entry(seqno), answer });
                answered
            })
            .collect();
        shared.append_queued();
        for (seqno, answer) in (31..).zip(answers) {
            assert_eq!(answer.await.unwrap().unwrap(), Create::Created);
            tell(&mut told, Told::Created(seqno));
        }
    });
    let done = done.lock().clone();
    (done, told)
}

/// A disk as it is and as it was last synced.
#[derive(Clone, Default)]
struct Image {
    /// Files by a number of their own: their bytes, and the sectors that are not synced, as they were.
    files: Vec<(Vec<u8>, BTreeMap<usize, Vec<u8>>)>,
    names: BTreeMap<PathBuf, usize>,
    durable: BTreeMap<PathBuf, usize>,
}

const SECTOR: usize = 512;

impl Image {
    fn step(&mut self, done: &Done) {
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
            Done::Remove(path) => drop(self.names.remove(path)),
            Done::SyncDirectory(folder) => {
                let inside = |path: &Path| path.parent() == Some(folder);
                self.durable.retain(|path, _| !inside(path));
                let now = self.names.iter().filter(|(path, _)| inside(path));
                self.durable.extend(now.map(|(path, file)| (path.clone(), *file)));
            }
        }
    }

    /// Loses power: what was not synced is kept or lost.
    fn lose_power(&mut self, random: &mut fastrand::Rng) {
        for (file, unsynced) in &mut self.files {
            for (sector, before) in std::mem::take(unsynced) {
                if random.bool() {
                    file[sector * SECTOR..sector * SECTOR + before.len()].copy_from_slice(&before);
                }
            }
        }
        let paths: BTreeSet<_> = self.names.keys().chain(self.durable.keys()).cloned().collect();
        let mut names = BTreeMap::new();
        for path in paths {
            let side = if random.bool() { &self.names } else { &self.durable };
            if let Some(file) = side.get(&path) {
                names.insert(path, *file);
            }
        }
        self.names = names;
    }

    fn write(&self, from: &Path, to: &Path) {
        for (path, file) in &self.names {
            let path = to.join(path.strip_prefix(from).unwrap());
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, &self.files[*file].0).unwrap();
        }
    }
}

/// Reads a log as a reader and as the next writer does, and goes on.
async fn judge(root: &Path, told: &[Told]) -> Result<(), String> {
    let says = |what: &str, e: Error| format!("{what}: {e}");
    let created = told.iter().filter_map(|told| match told {
        Told::Created(seqno) => Some(*seqno),
        Told::Floor(_) => None,
    });
    let head = created.max().unwrap_or(0);
    let floors = told.iter().filter_map(|told| match told {
        Told::Floor(floor) => Some(*floor),
        Told::Created(_) => None,
    });
    let floor = floors.max().unwrap_or(0);
    let mut last = 0;
    for pass in ["reads", "goes on", "reads again"] {
        let log = log(root);
        let found = log.floor().await.map_err(|e| says(pass, e))?;
        if found < floor {
            return Err(format!("{pass}: the floor {floor} is {found}"));
        }
        for seqno in found + 1.. {
            match log.get(seqno).await.map_err(|e| says(pass, e))? {
                Some(bytes) if bytes == entry(seqno) => last = last.max(seqno),
                Some(_) => return Err(format!("{pass}: entry {seqno} is another")),
                None if seqno <= head.max(last) => return Err(format!("{pass}: no entry {seqno}")),
                None => break,
            }
        }
        log.sync_head().await.map_err(|e| says(pass, e))?;
        if pass == "goes on" {
            for seqno in last + 1..last + 4 {
                let created = log.create(seqno, entry(seqno)).await.map_err(|e| says(pass, e))?;
                if created != Create::Created {
                    return Err(format!("{pass}: entry {seqno} is there"));
                }
            }
            last += 3;
        }
    }
    Ok(())
}

#[test]
fn a_crash_anywhere_loses_nothing_that_was_told() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("run");
    std::fs::create_dir(&root).unwrap();
    let (done, told) = run(&root);
    assert!(done.len() > 80, "{} steps are too few to test", done.len());
    let text = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match text("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..text("SEEDS").unwrap_or(3),
    };
    let runtime = runtime();
    let copy = dir.path().join("copy");
    for steps in 0..=done.len() {
        let told: Vec<Told> =
            told.iter().filter(|(at, _)| *at <= steps).map(|(_, told)| told.clone()).collect();
        let mut image = Image::default();
        done[..steps].iter().for_each(|step| image.step(step));
        let mut cases = vec![("dies".to_string(), image.clone())];
        if let Some(Done::Write(path, at, bytes)) = done.get(steps) {
            // In the midst of a write.
            let mut torn = image.clone();
            torn.step(&Done::Write(path.clone(), *at, bytes[..bytes.len() / 2].to_vec()));
            cases.push(("dies in a write".to_string(), torn));
        }
        for seed in seeds.clone() {
            let mut random = fastrand::Rng::with_seed(seed << 32 | steps as u64);
            let mut lost = image.clone();
            if let Some(next @ Done::Write(..)) = done.get(steps).filter(|_| random.bool()) {
                lost.step(next);
            }
            lost.lose_power(&mut random);
            cases.push((format!("loses power, SEED={seed}"), lost));
        }
        for (case, image) in cases {
            std::fs::create_dir(&copy).unwrap();
            image.write(&root, &copy);
            let judged = runtime.block_on(judge(&copy, &told));
            judged.unwrap_or_else(|e| panic!("{case}, after {steps} steps: {e}"));
            std::fs::remove_dir_all(&copy).unwrap();
        }
    }
}

/// Takes a directory in as it is, all of it durable.
fn image_of(root: &Path) -> Image {
    let mut image = Image::default();
    for folder in ["data/log", "data/floor"] {
        for path in root.join(folder).read_dir().unwrap().map(|entry| entry.unwrap().path()) {
            image.names.insert(path.clone(), image.files.len());
            image.files.push((std::fs::read(&path).unwrap(), BTreeMap::new()));
        }
    }
    image.durable = image.names.clone();
    image
}

#[test]
fn a_crash_anywhere_in_the_copy_of_a_log_of_files_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("run");
    for folder in ["log", "floor"] {
        std::fs::create_dir_all(root.join("data").join(folder)).unwrap();
    }
    // Entry 3 is below the floor, and not yet deleted.
    for seqno in 3..=20 {
        std::fs::write(root.join(format!("data/log/{seqno:020}")), entry(seqno)).unwrap();
    }
    for floor in [2, 4] {
        std::fs::write(root.join(format!("data/floor/{floor:020}")), b"").unwrap();
    }
    let before = image_of(&root);
    let done = Arc::new(Mutex::new(Vec::new()));
    let told = [Told::Floor(4), Told::Created(20)];
    runtime().block_on(async {
        let reader = log(&root);
        assert_eq!(reader.entries().await.unwrap(), (3..=20).collect::<Vec<_>>());
        assert_eq!(reader.get(20).await.unwrap(), Some(entry(20)));
        reader.sync_head().await.unwrap();
        assert!(!root.join("data/log/marks").exists(), "a reader writes nothing");
        let writer = LocalLog::new(opened(&root, Disk { done: Some(Arc::clone(&done)) }));
        assert_eq!(writer.create(4, entry(4)).await.unwrap(), Create::Exists, "below the floor");
        assert_eq!(writer.create(20, entry(20)).await.unwrap(), Create::Exists);
        assert_eq!(writer.create(21, entry(21)).await.unwrap(), Create::Created);
        assert_eq!(reader.get(21).await.unwrap(), Some(entry(21)), "one that was there before");
        assert_eq!(reader.floor().await.unwrap(), 4);
        assert_eq!(reader.entries().await.unwrap(), (5..=21).collect::<Vec<_>>());
    });
    let done = done.lock().clone();
    assert!(done.iter().filter(|done| matches!(done, Done::Remove(_))).count() >= 20, "{done:?}");
    let (runtime, copy) = (runtime(), dir.path().join("copy"));
    for steps in 0..=done.len() {
        for seed in 0..3 {
            let mut image = before.clone();
            done[..steps].iter().for_each(|step| image.step(step));
            if seed > 0 {
                image.lose_power(&mut fastrand::Rng::with_seed(seed << 32 | steps as u64));
            }
            std::fs::create_dir(&copy).unwrap();
            image.write(&root, &copy);
            let judged = runtime.block_on(judge(&copy, &told));
            judged.unwrap_or_else(|e| panic!("after {steps} steps, seed {seed}: {e}"));
            std::fs::remove_dir_all(&copy).unwrap();
        }
    }
}

/// Every byte of every file, flipped: the right entries or an error, and nothing that was told is gone unseen.
#[test]
fn a_flip_is_never_another_entry_nor_none() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let runtime = runtime();
    runtime.block_on(async {
        let log = log(root);
        for seqno in 1..=4 {
            let _ = log.create(seqno, entry(seqno % 2)).await.unwrap();
        }
        log.raise_floor(1).await.unwrap();
    });
    for path in root.join("data/log").read_dir().unwrap().map(|entry| entry.unwrap().path()) {
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << (at % 8);
            std::fs::write(&path, &flipped).unwrap();
            runtime.block_on(async {
                let log = log(root);
                for seqno in 2..=5 {
                    match log.get(seqno).await {
                        Err(e) => assert_eq!(e.kind(), ErrorKind::Corrupt, "{path:?}, {at}: {e}"),
                        Ok(found) => {
                            let expected = (seqno < 5).then(|| entry(seqno % 2));
                            assert_eq!(found, expected, "{path:?}, byte {at}, entry {seqno}");
                        }
                    }
                }
            });
        }
        std::fs::write(&path, &whole).unwrap();
    }
}

/// Handles that share no memory, as processes do, each of which tries every number: one wins each.
#[test]
fn one_of_many_writers_wins_each_number() {
    const WRITERS: u64 = 4;
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let won: Vec<Vec<u64>> = runtime.block_on(async {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let log = log(dir.path());
                tokio::spawn(async move {
                    let mut won = Vec::new();
                    for seqno in 1..=150 {
                        let bytes = Bytes::from(writer.to_le_bytes().to_vec());
                        match log.create(seqno, bytes).await {
                            Ok(Create::Created) => won.push(seqno),
                            Ok(Create::Exists) => {}
                            Err(e) => assert_eq!(e.kind(), ErrorKind::Unavailable, "{e}"),
                        }
                    }
                    won
                })
            })
            .collect();
        let mut won = Vec::new();
        for writer in writers {
            won.push(writer.await.unwrap());
        }
        won
    });
    runtime.block_on(async {
        let log = log(dir.path());
        for (writer, numbers) in (0u64..).zip(&won) {
            for seqno in numbers {
                let held = log.get(*seqno).await.unwrap();
                let ours = writer.to_le_bytes();
                assert_eq!(held.as_deref(), Some(&ours[..]), "entry {seqno} was won by {writer}");
            }
        }
        assert_eq!(won.concat().len(), log.entries().await.unwrap().len());
    });
}

/// One that is stopped in the midst of a write: the others say so after a while, and go on after it.
#[test]
fn a_lock_that_is_held_is_an_error_that_may_be_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let log = log(dir.path());
        assert_eq!(log.create(1, entry(1)).await.unwrap(), Create::Created);
        let path = dir.path().join("data/log/lock");
        let held = super::lock::lock(&path, &mut None).unwrap();
        let refused = log.create(2, entry(2)).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused}");
        assert!(
            refused.to_string().contains("another process holds the lock of the log"),
            "{refused}"
        );
        assert!(refused.to_string().contains("data/log/lock"), "{refused}");
        assert_eq!(log.get(1).await.unwrap(), Some(entry(1)), "readers take no lock");
        drop(held);
        assert_eq!(log.create(2, entry(2)).await.unwrap(), Create::Created);
    });
}

/// The bytes of a log as they are frozen: set `WRITE_FIXTURES=1` to write those that are missing.
#[test]
fn the_bytes_of_a_log_do_not_change() {
    let dir = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let log = log(dir.path());
        for seqno in 1..=3 {
            let _ = log
                .create(seqno, Bytes::from(vec![seqno as u8; seqno as usize * 7]))
                .await
                .unwrap();
        }
        log.raise_floor(2).await.unwrap();
        log.delete(1).await.unwrap();
    });
    for (name, fixture) in [("0000000000000001.seg", "log-segment-v1"), ("marks", "log-marks-v1")] {
        let mut bytes = std::fs::read(dir.path().join("data/log").join(name)).unwrap();
        let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        // Zeros to its length.
        assert!([2_048, 16_384].contains(&bytes.len()));
        bytes.truncate(used);
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        let path = fixtures.join(fixture);
        if std::env::var_os("WRITE_FIXTURES").is_some() && !path.exists() {
            std::fs::write(&path, &bytes).unwrap();
        }
        assert!(std::fs::read(&path).unwrap() == bytes, "{name}: other bytes than those frozen");
    }
}
