//! Goal: a log is what its contract says, beside other writers as well, and damage is told of. What crashes leave of it is
//! [`crash`]'s, what other writers do [`left`]'s.

mod crash;
mod image;
mod left;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::log::LocalLog;
use super::os::{Disk, Done};
use super::shared::{Pending, Shared};
use crate::error::ErrorKind;
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

/// Appends that wait together are one write and one sync, whatever each of them is told.
#[test]
fn appends_that_wait_together_are_synced_once() {
    let dir = tempfile::tempdir().unwrap();
    let done = Arc::<parking_lot::Mutex<Vec<Done>>>::default();
    let disk = Disk { done: Some(Arc::clone(&done)), ..Disk::default() };
    let shared = opened(dir.path(), disk);
    let queued = |seqno| {
        let (answer, told) = tokio::sync::oneshot::channel();
        shared.queue(Pending { seqno, entry: entry(0), answer });
        told
    };
    // The log itself is made.
    let first = queued(1);
    shared.append_queued();
    assert_eq!(first.blocking_recv().unwrap().unwrap(), Create::Created);
    done.lock().clear();
    // Two want to be the same entry.
    let told: Vec<_> = (2..=20).chain([20]).map(queued).collect();
    shared.append_queued();
    let told = told.into_iter().map(|told| told.blocking_recv().unwrap().unwrap());
    assert_eq!(told.filter(|told| *told == Create::Created).count(), 19);
    let done = std::mem::take(&mut *done.lock());
    let syncs = done.iter().filter(|done| matches!(done, Done::Sync(_))).count();
    let writes = done.iter().filter(|done| matches!(done, Done::Write(..))).count();
    assert_eq!((syncs, writes), (1, 2), "syncs, and writes of records and of the mark");
    assert_eq!(done.len(), 3, "nothing else is asked of the disk: {done:?}");
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

/// A folder that cannot be opened says nothing of the disk: the log goes on.
#[cfg(unix)]
#[test]
fn a_folder_that_cannot_be_opened_is_no_failed_sync() {
    let dir = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let log = log(dir.path());
        assert_eq!(log.create(1, entry(1)).await.unwrap(), Create::Created);
        let rollups = dir.path().join("data/rollup");
        std::os::unix::fs::symlink(&rollups, &rollups).unwrap();
        let failed = log.raise_floor(1).await.unwrap_err();
        assert_eq!(failed.kind(), ErrorKind::Unavailable, "{failed}");
        assert_eq!(log.create(2, entry(2)).await.unwrap(), Create::Created);
    });
}

/// What is left is copied, and the segments that had it go in the same collection.
#[test]
fn a_collection_frees_what_it_copies() {
    let dir = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let (writer, reader) = (log(dir.path()), log(dir.path()));
        for seqno in 1..=40 {
            assert_eq!(writer.create(seqno, entry(seqno)).await.unwrap(), Create::Created);
        }
        assert_eq!(reader.get(40).await.unwrap(), Some(entry(40)));
        writer.raise_floor(39).await.unwrap();
        writer.delete(38).await.unwrap();
        let names = dir.path().join("data/log").read_dir().unwrap();
        let names = names.map(|found| found.unwrap().file_name().into_string().unwrap());
        let segments: Vec<String> = names.filter(|name| name.ends_with(".seg")).collect();
        assert_eq!(segments.len(), 1, "{segments:?}");
        for log in [&writer, &reader, &log(dir.path())] {
            assert_eq!(log.entries().await.unwrap(), [39, 40]);
            assert_eq!(log.get(40).await.unwrap(), Some(entry(40)));
        }
    });
}

/// What a failed sync leaves behind is not known, and from there on nothing is written.
#[test]
fn a_sync_that_fails_is_an_unknown_outcome_and_the_last() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::default();
    let log = LocalLog::new(opened(dir.path(), disk.clone()));
    runtime().block_on(async {
        assert_eq!(log.create(1, entry(1)).await.unwrap(), Create::Created);
        disk.fails.store(true, std::sync::atomic::Ordering::Relaxed);
        // The floor can be seen by now.
        let unknown = log.raise_floor(1).await.unwrap_err();
        assert_eq!(unknown.kind(), ErrorKind::Indeterminate, "{unknown}");
        disk.fails.store(false, std::sync::atomic::Ordering::Relaxed);
        let refused = log.create(2, entry(2)).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Refused, "{refused}");
    });
}

#[test]
fn an_entry_that_is_too_long_is_its_own_failure() {
    let dir = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let log = log(dir.path());
        let long = log.create(1, Bytes::from(vec![0; (1 << 30) + 1]));
        let (long, short) = futures::future::join(long, log.create(2, entry(2))).await;
        assert_eq!(long.unwrap_err().kind(), ErrorKind::Invalid);
        assert_eq!(short.unwrap(), Create::Created);
    });
}

/// A copy that was interrupted, or is under way: readers see what they saw, and the last file does not count.
#[test]
fn a_log_that_is_closed_and_not_copied_is_as_before() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    std::fs::create_dir_all(root.join("data/log")).unwrap();
    for seqno in 1..=3 {
        std::fs::write(root.join(format!("data/log/{seqno:020}")), entry(seqno)).unwrap();
    }
    std::fs::write(root.join(format!("data/log/{:020}", 4)), super::files::CLOSED).unwrap();
    runtime().block_on(async {
        let log = log(root);
        assert_eq!(log.entries().await.unwrap(), [1, 2, 3]);
        assert_eq!(log.get(4).await.unwrap(), None);
        let owns = |seqno| log.owns(&format!("data/log/{seqno:020}"));
        assert!(owns(4) && !owns(3));
        assert_eq!(log.create(4, entry(4)).await.unwrap(), Create::Created);
        assert_eq!(log.entries().await.unwrap(), [1, 2, 3, 4]);
        assert!(owns(4) && owns(3));
    });
}
