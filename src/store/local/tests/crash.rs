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
use super::super::marks::Marks;
use super::super::os::{Disk, Done};
use super::super::segment::{self, HEADER};
use super::super::shared::Pending;
use super::image::Image;
use super::{entry, log, opened, runtime};
use crate::error::{Error, ErrorKind};
use crate::store::{Consensus, Create};

/// A disk that writes down what it is asked for.
fn recorded() -> Disk {
    Disk { done: Some(Arc::default()), ..Disk::default() }
}

fn done_by(disk: &Disk) -> Vec<Done> {
    disk.done.as_ref().map(|done| done.lock().clone()).unwrap_or_default()
}

fn steps(disk: &Disk) -> usize {
    disk.done.as_ref().map_or(0, |done| done.lock().len())
}

/// What a run was told, after so many steps of the disk.
#[derive(Clone, Debug)]
enum Told {
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
async fn judge(root: &Path, disk: &Disk, told: &[Told]) -> Result<Vec<(usize, Told)>, String> {
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

/// A log of six entries in one segment, its marks after the first of them, and where they end.
async fn six(root: &Path) -> (Vec<u8>, u64) {
    let log = log(root);
    assert_eq!(log.create(1, entry(1)).await.unwrap(), Create::Created);
    let marks = std::fs::read(root.join("data/log/marks")).unwrap();
    for seqno in 2..=6 {
        assert_eq!(log.create(seqno, entry(seqno)).await.unwrap(), Create::Created);
    }
    let lens = (1..=6).map(|seqno| segment::record_len(entry(seqno).len()) as u64);
    (marks, HEADER + lens.sum::<u64>())
}

/// What a writer leaves that dies once it has made a segment, and before its mark: in a roll, or in the
/// copy of what a collection leaves.
fn left_segment(root: &Path, number: u64, after: u64, copies: &[u64]) {
    let mut bytes = segment::header(number, after).to_vec();
    for seqno in copies {
        let at = bytes.len() as u64;
        segment::push_record(&mut bytes, number, at, HEADER, *seqno, &entry(*seqno));
    }
    bytes.resize(32 << 10, 0);
    std::fs::write(root.join(format!("data/log/{number:016x}.seg")), bytes).unwrap();
}

#[test]
fn a_segment_that_was_left_is_not_in_the_way() {
    for copies in [&[][..], &[5, 6]] {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        runtime().block_on(async {
            let (_, after) = six(root).await;
            let alive = log(root);
            assert_eq!(alive.get(6).await.unwrap(), Some(entry(6)));
            // Another's smaller entry still fits into the first; two sectors of it are kept.
            let (marks, first) =
                (root.join("data/log/marks"), root.join("data/log/0000000000000001.seg"));
            let before = std::fs::read(&marks).unwrap();
            assert_eq!(alive.create(7, entry(7)).await.unwrap(), Create::Created);
            let mut bytes = std::fs::read(&first).unwrap();
            assert_ne!(bytes[after as usize], 0, "it stands in the first segment");
            bytes[after as usize + 1_024..].fill(0);
            std::fs::write(&first, bytes).unwrap();
            std::fs::write(&marks, before).unwrap();
            left_segment(root, 2, after, copies);
            let judged = judge(root, &Disk::default(), &[Told::Created(6)]).await;
            judged.unwrap_or_else(|e| panic!("{} copies: {e}", copies.len()));
        });
    }
}

/// The mark was lost with the power, and then bytes are damaged that were durable.
#[test]
fn damage_before_a_segment_that_was_begun_is_told_of() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let names = ["0000000000000001.seg", "0000000000000002.seg"];
    runtime().block_on(async {
        let (marks, after) = six(root).await;
        // The last record of the first segment, and the second has no entry yet.
        left_segment(root, 2, after, &[]);
        std::fs::write(root.join("data/log/marks"), &marks).unwrap();
        let path = root.join("data/log").join(names[0]);
        let whole = std::fs::read(&path).unwrap();
        let mut damaged = whole.clone();
        damaged[after as usize - 50] ^= 1;
        std::fs::write(&path, damaged).unwrap();
        let found = log(root).entries().await;
        assert_eq!(found.expect_err("damage").kind(), ErrorKind::Corrupt);
        std::fs::write(&path, whole).unwrap();
        // The header of the second, which has entries.
        for seqno in 7..=9 {
            assert_eq!(log(root).create(seqno, entry(seqno)).await.unwrap(), Create::Created);
        }
        std::fs::write(root.join("data/log/marks"), &marks).unwrap();
        assert_eq!(log(root).entries().await.unwrap(), (1..=9).collect::<Vec<_>>());
        let path = root.join("data/log").join(names[1]);
        let mut damaged = std::fs::read(&path).unwrap();
        damaged[3] ^= 1;
        std::fs::write(&path, damaged).unwrap();
        let found = log(root).entries().await;
        assert_eq!(found.expect_err("damage").kind(), ErrorKind::Corrupt);
    });
}

/// The writer of the sixth record was told that its sync failed; others find the record in the cache alone.
async fn five_and_one_lost(root: &Path) -> Disk {
    let (marks, end) = six(root).await;
    std::fs::write(root.join("data/log/marks"), marks).unwrap();
    let len = segment::record_len(entry(6).len());
    let disk = Disk::default();
    let path = root.join("data/log/0000000000000001.seg");
    *disk.lost.lock() = Some((path, end - len as u64, len));
    disk
}

#[test]
fn what_the_disk_dropped_is_not_shown() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    runtime().block_on(async {
        let disk = five_and_one_lost(root).await;
        let shared = opened(root, disk);
        for log in [LocalLog::new(Arc::clone(&shared)), LocalLog::new(shared)] {
            assert_eq!(log.get(5).await.unwrap(), Some(entry(5)));
            assert_eq!(log.get(6).await.unwrap(), None, "only the cache has entry 6");
            log.sync_head().await.unwrap();
            assert_eq!(log.entries().await.unwrap(), [1, 2, 3, 4, 5]);
        }
    });
}

/// It goes while the next writer takes over what it has found.
#[test]
fn what_is_gone_is_not_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    runtime().block_on(async {
        let writer = LocalLog::new(opened(root, five_and_one_lost(root).await));
        let gone = writer.create(7, entry(7)).await.expect_err("entry 6 is gone");
        assert_eq!(gone.kind(), ErrorKind::Unavailable, "{gone}");
        assert_eq!(writer.create(6, entry(6)).await.unwrap(), Create::Created);
        let judged = judge(root, &Disk::default(), &[Told::Created(6)]).await;
        judged.unwrap_or_else(|e| panic!("it goes on: {e}"));
    });
}

/// A writer that has entries 1 to 9, the last one in a second segment, one that knows the first eight, the marks of
/// that time, and what was asked of the disk.
async fn nine(root: &Path) -> (LocalLog, LocalLog, Vec<u8>, Disk) {
    let disk = recorded();
    let writer = LocalLog::new(opened(root, disk.clone()));
    for seqno in 1..=8 {
        assert_eq!(writer.create(seqno, entry(seqno)).await.unwrap(), Create::Created);
    }
    let alive = log(root);
    assert_eq!(alive.get(8).await.unwrap(), Some(entry(8)));
    let marks = std::fs::read(root.join("data/log/marks")).unwrap();
    assert_eq!(writer.create(9, entry(9)).await.unwrap(), Create::Created);
    assert!(root.join("data/log/0000000000000002.seg").exists(), "in a second segment");
    (writer, alive, marks, disk)
}

/// The system drops the page of the marks, which it could not write; a writer that does not know of the new segment
/// goes on from what the disk has.
#[test]
fn a_mark_that_is_lost_does_not_hide_a_segment() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    runtime().block_on(async {
        let (_writer, _, _, disk) = nine(root).await;
        let mut image = Image::new(root);
        done_by(&disk).iter().for_each(|step| image.step(step));
        image.lose_power(|| false);
        let marks = image.bytes(&root.join("data/log/marks")).try_into().unwrap();
        let durable = Marks::decode(marks).unwrap().durable.unwrap();
        assert_eq!(durable.segment, 2, "the mark of the second segment is not durable");
    });
}

/// The same where even the mark of the new segment was lost, whose sync failed unheard.
#[test]
fn marks_that_are_old_do_not_hide_a_segment() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    runtime().block_on(async {
        let (_writer, alive, marks, _) = nine(root).await;
        std::fs::write(root.join("data/log/marks"), marks).unwrap();
        let again = alive.create(9, entry(8)).await.unwrap();
        assert_eq!(again, Create::Exists, "entry 9 was told of");
        assert_eq!(alive.get(9).await.unwrap(), Some(entry(9)));
    });
}

/// All is collected, and the next entry is written and not marked yet.
#[test]
fn a_segment_that_a_collection_left_empty_is_not_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    runtime().block_on(async {
        let (writer, alive) = (log(root), log(root));
        for seqno in 1..=40 {
            assert_eq!(writer.create(seqno, entry(seqno)).await.unwrap(), Create::Created);
        }
        assert_eq!(alive.get(40).await.unwrap(), Some(entry(40)));
        writer.raise_floor(40).await.unwrap();
        writer.delete(40).await.unwrap();
        let marks = std::fs::read(root.join("data/log/marks")).unwrap();
        assert_eq!(writer.create(41, entry(41)).await.unwrap(), Create::Created);
        std::fs::write(root.join("data/log/marks"), marks).unwrap();
        assert_eq!(alive.get(41).await.unwrap(), None, "no more than the marks say");
        let again = alive.create(41, entry(42)).await.unwrap();
        assert_eq!(again, Create::Exists, "entry 41 was told of");
        assert_eq!(alive.get(41).await.unwrap(), Some(entry(41)));
    });
}

/// A reader sees the second segment, whose maker fails and removes it; the next entry stands in the first.
#[test]
fn a_segment_in_its_making_hides_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    runtime().block_on(async {
        let (_, after) = six(root).await;
        let (alive, reader) = (log(root), log(root));
        assert_eq!(alive.get(6).await.unwrap(), Some(entry(6)));
        left_segment(root, 2, after, &[]);
        assert_eq!(reader.get(6).await.unwrap(), Some(entry(6)));
        std::fs::remove_file(root.join("data/log/0000000000000002.seg")).unwrap();
        assert_eq!(alive.create(7, entry(7)).await.unwrap(), Create::Created);
        assert_eq!(reader.get(7).await.unwrap(), Some(entry(7)), "entry 7");
        for seqno in 8..=14 {
            assert_eq!(alive.create(seqno, entry(seqno)).await.unwrap(), Create::Created);
        }
        assert_eq!(reader.create(7, entry(8)).await.unwrap(), Create::Exists);
        assert_eq!(reader.entries().await.unwrap(), (1..=14).collect::<Vec<_>>());
    });
}

/// As in [`a_segment_that_was_left_is_not_in_the_way`], and what its copies were of has been collected since.
#[test]
fn a_segment_that_was_left_has_no_news_of_what_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    runtime().block_on(async {
        let alive = log(root);
        for seqno in 1..=9 {
            assert_eq!(alive.create(seqno, entry(seqno)).await.unwrap(), Create::Created);
        }
        let after = HEADER + segment::record_len(entry(9).len()) as u64;
        for seqno in 10..=13 {
            assert_eq!(alive.create(seqno, entry(seqno)).await.unwrap(), Create::Created);
        }
        alive.raise_floor(8).await.unwrap();
        alive.delete(8).await.unwrap();
        let (marks, second) =
            (root.join("data/log/marks"), root.join("data/log/0000000000000002.seg"));
        assert!(!root.join("data/log/0000000000000001.seg").exists(), "entry 8 is gone");
        let before = std::fs::read(&marks).unwrap();
        let len: usize = (9..=13).map(|seqno| segment::record_len(entry(seqno).len())).sum();
        assert_eq!(alive.create(14, entry(14)).await.unwrap(), Create::Created);
        let mut bytes = std::fs::read(&second).unwrap();
        bytes[HEADER as usize + len + 1_024..].fill(0);
        std::fs::write(&second, bytes).unwrap();
        std::fs::write(&marks, before).unwrap();
        left_segment(root, 3, after, &[8, 9]);
        let told = [Told::Floor(8), Told::Created(13)];
        let judged = judge(root, &Disk::default(), &told).await;
        judged.unwrap_or_else(|e| panic!("{e}"));
    });
}
