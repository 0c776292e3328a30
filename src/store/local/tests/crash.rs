//! Goal: whatever moment a writer dies at, and whatever the disk has kept of what was never synced, the log holds
//! every entry that anyone was told of, as it was, and goes on; and it does so again when the power goes after the
//! next writer has gone on. Method: a run of creates, collections and other writers' looks is written down as what
//! it asked of the disk; then directories are made that each prefix of it could have left, as a process that dies
//! leaves them and as a power loss does. What the next writer asks of the disk is written down as well, and cut.
//! `SEEDS`, `SEED` as elsewhere.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::super::log::LocalLog;
use super::super::os::{Disk, Done};
use super::super::shared::Pending;
use super::image::Image;
use super::{entry, log, opened, runtime};
use crate::error::Error;
use crate::store::{Consensus, Create};

/// A disk that writes down what it is asked for.
pub(super) fn recorded() -> Disk {
    Disk { done: Some(Arc::default()), ..Disk::default() }
}

pub(super) fn done_by(disk: &Disk) -> Vec<Done> {
    disk.done.as_ref().map(|done| done.lock().clone()).unwrap_or_default()
}

fn steps(disk: &Disk) -> usize {
    disk.done.as_ref().map_or(0, |done| done.lock().len())
}

/// What a run was told, after so many steps of the disk.
#[derive(Clone, Debug)]
pub(super) enum Told {
    Created(u64),
    Floor(u64),
}

/// Does a run in a directory, and returns what it asked of the disk and what it was told.
fn run(root: &Path) -> (Vec<Done>, Vec<(usize, Told)>) {
    let disk = recorded();
    let mut told = Vec::new();
    let tell = |told: &mut Vec<_>, what| {
        told.push((steps(&disk), what));
    };
    runtime().block_on(async {
        let begin = || LocalLog::new(opened(root, disk.clone()));
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
        let shared = opened(root, disk.clone());
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
    (done_by(&disk), told)
}

/// Reads a log as a reader and as the next writer does, and goes on; returns what that was told.
pub(super) async fn judge(
    root: &Path,
    disk: &Disk,
    told: &[Told],
) -> Result<Vec<(usize, Told)>, String> {
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
    let (mut last, mut went_on) = (0, Vec::new());
    for pass in ["reads", "goes on", "reads again"] {
        let log = LocalLog::new(opened(root, disk.clone()));
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
        // What was seen is shown from here on.
        went_on.push((steps(disk), Told::Created(last)));
        if pass == "goes on" {
            for seqno in last + 1..last + 4 {
                let created = log.create(seqno, entry(seqno)).await.map_err(|e| says(pass, e))?;
                if created != Create::Created {
                    return Err(format!("{pass}: entry {seqno} is there"));
                }
                went_on.push((steps(disk), Told::Created(seqno)));
            }
            last += 3;
            // The files of before go, if any are left.
            log.raise_floor(found).await.map_err(|e| says(pass, e))?;
        }
    }
    Ok(went_on)
}

/// Judges an image, and what a loss of power leaves once the next writer has gone on.
fn judge_image(image: &Image, told: &[Told], random: &mut fastrand::Rng) -> Result<(), String> {
    let (dir, runtime) = (tempfile::tempdir().unwrap(), runtime());
    let (copy, later) = (dir.path().join("copy"), dir.path().join("later"));
    std::fs::create_dir(&copy).unwrap();
    image.write(&copy);
    let disk = recorded();
    let went_on = runtime.block_on(judge(&copy, &disk, told))?;
    let done = done_by(&disk);
    let some = random.usize(..=done.len());
    for (cut, keeps) in [(done.len(), false), (some, false), (some, true)] {
        let mut image = image.moved(&copy);
        done[..cut].iter().for_each(|step| image.step(step));
        image.lose_power(|| keeps && random.bool());
        let after = went_on.iter().filter(|(at, _)| *at <= cut).map(|(_, told)| told.clone());
        let told: Vec<Told> = told.iter().cloned().chain(after).collect();
        std::fs::create_dir(&later).unwrap();
        image.write(&later);
        let judged = runtime.block_on(judge(&later, &recorded(), &told));
        judged.map_err(|e| format!("the next goes on, and power is lost: {e}"))?;
        std::fs::remove_dir_all(&later).unwrap();
    }
    Ok(())
}

#[test]
fn a_crash_anywhere_loses_nothing_that_was_told() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let (done, told) = run(root);
    assert!(done.len() > 80, "{} steps are too few to test", done.len());
    let text = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match text("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..text("SEEDS").unwrap_or(3),
    };
    for steps in 0..=done.len() {
        let told: Vec<Told> =
            told.iter().filter(|(at, _)| *at <= steps).map(|(_, told)| told.clone()).collect();
        let mut image = Image::new(root);
        done[..steps].iter().for_each(|step| image.step(step));
        for seed in seeds.clone() {
            let mut random = fastrand::Rng::with_seed(seed << 32 | steps as u64);
            let mut cases = Vec::new();
            if seed == seeds.start {
                cases.push(("dies", image.clone()));
                if let Some(Done::Write(path, at, bytes)) = done.get(steps) {
                    let mut torn = image.clone();
                    torn.step(&Done::Write(path.clone(), *at, bytes[..bytes.len() / 2].to_vec()));
                    cases.push(("dies in a write", torn));
                }
            }
            let mut lost = image.clone();
            if let Some(next @ Done::Write(..)) = done.get(steps).filter(|_| random.bool()) {
                lost.step(next);
            }
            lost.lose_power(|| random.bool());
            cases.push(("loses power", lost));
            for (case, image) in cases {
                let judged = judge_image(&image, &told, &mut random);
                judged.unwrap_or_else(|e| panic!("{case}, SEED={seed}, after {steps} steps: {e}"));
            }
        }
    }
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
    let before = Image::of(&root, &["data/log", "data/floor"]);
    let disk = recorded();
    let told = [Told::Floor(4), Told::Created(20)];
    runtime().block_on(async {
        let reader = log(&root);
        assert_eq!(reader.entries().await.unwrap(), (3..=20).collect::<Vec<_>>());
        assert_eq!(reader.get(20).await.unwrap(), Some(entry(20)));
        reader.sync_head().await.unwrap();
        assert!(!root.join("data/log/marks").exists(), "a reader writes nothing");
        let writer = LocalLog::new(opened(&root, disk.clone()));
        assert_eq!(writer.create(4, entry(4)).await.unwrap(), Create::Exists, "below the floor");
        assert_eq!(writer.create(20, entry(20)).await.unwrap(), Create::Exists);
        assert_eq!(writer.create(21, entry(21)).await.unwrap(), Create::Created);
        assert_eq!(reader.get(21).await.unwrap(), Some(entry(21)), "one that was there before");
        assert_eq!(reader.floor().await.unwrap(), 4);
        assert_eq!(reader.entries().await.unwrap(), (5..=21).collect::<Vec<_>>());
        // A program of before that is about to add an entry.
        let late = std::fs::File::create_new(root.join(format!("data/log/{:020}", 21)));
        assert_eq!(late.expect_err("closed").kind(), std::io::ErrorKind::AlreadyExists);
    });
    let done = done_by(&disk);
    assert!(done.iter().filter(|done| matches!(done, Done::Remove(_))).count() >= 20, "{done:?}");
    assert!(root.join("data/log/0000000000000002.seg").exists(), "in several segments");
    for steps in 0..=done.len() {
        for seed in 0..3 {
            let mut random = fastrand::Rng::with_seed(seed << 32 | steps as u64);
            let mut image = before.clone();
            done[..steps].iter().for_each(|step| image.step(step));
            if seed > 0 {
                image.lose_power(|| random.bool());
            }
            let judged = judge_image(&image, &told, &mut random);
            judged.unwrap_or_else(|e| panic!("after {steps} steps, seed {seed}: {e}"));
        }
    }
}
