//! Goal: what another writer has left, or the system has dropped of it, is shown if it is durable and goes on, hides
//! nothing, and is damage only if it is. Method: each state is made by hand, the segments and the marks with it; what a
//! crash at any moment leaves is [`crash`](super::crash)'s.

use std::path::Path;
use std::sync::Arc;

use super::super::log::LocalLog;
use super::super::marks::Marks;
use super::super::os::Disk;
use super::super::segment::{self, HEADER};
use super::crash::{Told, done_by, judge, recorded};
use super::image::Image;
use super::{entry, log, opened, runtime};
use crate::error::ErrorKind;
use crate::store::{Consensus, Create};

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
