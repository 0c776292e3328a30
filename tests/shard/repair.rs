//! Goal: ending an error by hand lets nobody commit what followed from the error, takes no time from a feed unseen, and is
//! refused where it would; and the log tells which writer was in the way of which. Method: two handles on one root, a commit at a time.

use differential_upsert::shard::{
    Access, Append, Appended, Feed, Handle, HandleOptions, Id, Sum, verify,
};
use differential_upsert::store::Root;
use differential_upsert::{Encoded, Error, ErrorKind};

use crate::common::{append, config, io, row, runtime, schema};

const ERROR: &str = "\u{1}bad";

async fn open(root: &Root, name: &str, base: u64) -> Handle {
    let options = HandleOptions::write(name, schema()).with_config(config());
    Handle::open(root.clone(), io(base), options).await.unwrap()
}

fn key(text: &str) -> Encoded {
    Encoded::from_bytes(text.as_bytes().to_vec())
}

/// A shard whose key `k` is in error as of 0, of a feed that is checked if it has a sum.
async fn in_error(root: &Root, mode: &str, sum: Option<Sum>) -> Handle {
    let writer = open(root, "data", 1).await;
    let feed = Some(Feed { mode: mode.to_string(), identity: "feed".to_string() });
    let rows = vec![row("k", ERROR, 0, 1), row("v", "\0good", 0, 1)];
    let parts = writer.prepare(rows).await.unwrap();
    let first = Append { upper: 1, parts, feed, sum, ..Append::default() };
    assert_eq!(writer.compare_and_append(first).await.unwrap(), Appended::Won { seqno: 1 });
    writer
}

fn sum() -> Sum {
    Sum { rows: 2, digest: 77 }
}

#[test]
fn a_writer_that_ran_ahead_of_a_repair_is_shut_out() {
    runtime().block_on(async {
        let root = Root::open("mem:", Access::Write).unwrap();
        let writer = in_error(&root, "given", Some(sum())).await;
        // What it has worked out follows from the error, and its feed has nothing at time 1.
        let rows = vec![row("k", ERROR, 2, -1), row("k", "\0new", 2, 1)];
        let parts = writer.prepare(rows).await.unwrap();
        let ahead = |lower| Append {
            lower,
            upper: 3,
            parts: parts.clone(),
            fence: Some(0),
            base: Some(sum()),
            sum: Some(sum()),
            ..Append::default()
        };
        let repaired = open(&root, "data", 50).await.end_error(&key("k")).await.unwrap();
        assert_eq!((repaired.time, repaired.epoch), (1, 1));
        assert_eq!(repaired.error.as_bytes(), ERROR.as_bytes());
        let late = writer.compare_and_append(ahead(1)).await.unwrap();
        assert_eq!(late, Appended::Fenced(1), "what followed from the error is committed");
        let late = writer.compare_and_append(ahead(2)).await.unwrap();
        assert_eq!(late, Appended::Fenced(1), "what followed from the error is committed");
        assert_eq!(writer.snapshot(1).await.unwrap(), [row("v", "\0good", 1, 1)]);
        // A writer that starts now goes on, with the same sum.
        let state = writer.refresh().await.unwrap();
        assert_eq!((state.sum(), state.upper, state.epoch), (Some(sum()), 2, 1));
        let parts = writer.prepare(vec![row("k", "\0new", 2, 1)]).await.unwrap();
        let one_more = Sum { rows: sum().rows + 1, ..sum() };
        let next = Append { fence: Some(1), parts, sum: Some(one_more), ..ahead(2) };
        assert!(matches!(writer.compare_and_append(next).await.unwrap(), Appended::Won { .. }));
        verify(root, io(90)).await.unwrap();
    });
}

async fn refused(root: &Root) -> Error {
    let handle = open(root, "data", 70).await;
    let before = handle.state().seqno;
    let error = handle.end_error(&key("k")).await.unwrap_err();
    assert_eq!(handle.refresh().await.unwrap().seqno, before, "nothing is written");
    error
}

#[test]
fn where_a_feed_would_lose_a_row_unseen_it_is_refused() {
    runtime().block_on(async {
        let root = Root::open("mem:", Access::Write).unwrap();
        in_error(&root, "given", None).await;
        let handle = open(&root, "data", 50).await;
        let ended = handle.end_error(&key("k")).await;
        let error = ended.expect_err("a row of the feed at time 1 is lost without a word");
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains("a row of it at time 1 would be lost"), "{error}");
        for (mode, said) in [("co-committed", "exclusive"), ("minted", "bound to times up to 9")] {
            let root = Root::open("mem:", Access::Write).unwrap();
            in_error(&root, mode, Some(sum())).await;
            let remap = open(&root, "remap", 90).await;
            let _ = append(&remap, 0, 9, vec![row("cursor", "\0at 7", 8, 1)]).await.unwrap();
            let error = refused(&root).await;
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().contains(said), "{mode}: {error}");
        }
        // The writer that took it over is the one from there on, whatever was repaired before.
        let root = Root::open("mem:", Access::Write).unwrap();
        let writer = in_error(&root, "given", Some(sum())).await;
        open(&root, "data", 50).await.end_error(&key("k")).await.unwrap();
        assert!(writer.refresh().await.unwrap().is_shared());
        let taken = Append { lower: 2, upper: 2, epoch: Some(2), ..Append::default() };
        assert!(matches!(writer.compare_and_append(taken).await.unwrap(), Appended::Won { .. }));
        assert!(!writer.state().is_shared());
        let error = refused(&root).await;
        assert!(error.to_string().contains("exclusive"), "{error}");
    });
}

#[test]
fn a_time_of_a_minted_feed_is_taken_where_they_are_bound() {
    runtime().block_on(async {
        let root = Root::open("mem:", Access::Write).unwrap();
        in_error(&root, "minted", Some(sum())).await;
        let remap = open(&root, "remap", 90).await;
        let _ = append(&remap, 0, 1, vec![row("cursor", "\0at 7", 0, 1)]).await.unwrap();
        // Taken by an attempt that went no further.
        let _ = append(&remap, 1, 2, vec![]).await.unwrap();
        open(&root, "data", 50).await.end_error(&key("k")).await.unwrap();
        let seqno = remap.refresh().await.unwrap().seqno;
        let data = open(&root, "data", 60).await;
        let rows = vec![row("v", "\0good", 2, -1), row("v", ERROR, 2, 1)];
        let parts = data.prepare(rows).await.unwrap();
        let fence = Some(data.state().epoch);
        let more =
            Append { lower: 2, upper: 3, parts, fence, sum: Some(sum()), ..Append::default() };
        assert!(matches!(data.compare_and_append(more).await.unwrap(), Appended::Won { .. }));
        let _ = append(
            &remap,
            2,
            3,
            vec![row("cursor", "\0at 7", 2, -1), row("cursor", "\0at 9", 2, 1)],
        )
        .await
        .unwrap();
        let repaired = open(&root, "data", 150).await.end_error(&key("v")).await.unwrap();
        assert_eq!((repaired.time, repaired.epoch), (3, 2));
        let state = remap.refresh().await.unwrap();
        assert_eq!((state.upper, state.seqno), (4, seqno + 2), "one binding, and one time taken");
        assert!(data.snapshot(3).await.unwrap().is_empty());
        verify(root, io(200)).await.unwrap();
    });
}

#[test]
fn a_key_that_is_in_no_error_is_left_alone() {
    runtime().block_on(async {
        let root = Root::open("mem:", Access::Write).unwrap();
        in_error(&root, "given", Some(sum())).await;
        let handle = open(&root, "data", 50).await;
        for (text, said) in [("v", "has a value, and no error"), ("w", "is not in the shard")] {
            let error = handle.end_error(&key(text)).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Missing);
            assert!(error.to_string().contains(said), "{error}");
        }
        let hold = handle.hold(0).await.unwrap();
        let error = open(&root, "data", 60).await.end_error(&key("k")).await.unwrap_err();
        assert!(error.to_string().contains("in use, by the holder of lease "), "{error}");
        handle.release(hold).await;
        open(&root, "data", 70).await.end_error(&key("k")).await.unwrap();
    });
}

#[test]
fn an_entry_says_when_it_was_made_and_whom_it_lost_to() {
    runtime().block_on(async {
        let root = Root::open("mem:", Access::Write).unwrap();
        let (ours, rival) = (open(&root, "data", 1).await, open(&root, "data", 50).await);
        let _ = append(&rival, 0, 1, vec![row("k", "\0a", 0, 1)]).await.unwrap();
        // It has not looked, so it proposes an entry of the same number.
        let lost = append(&ours, 0, 1, vec![row("k", "\0a", 0, 1)]).await.unwrap();
        assert_eq!(lost, Appended::UpperMismatch(1));
        for upper in 2..4 {
            let _ = append(&ours, upper - 1, upper, vec![]).await.unwrap();
        }
        let mut entries = rival.entries(1).await.unwrap();
        let mut told: Vec<(u64, Vec<u64>, Option<u64>)> = Vec::new();
        let mut writers: Vec<Id> = Vec::new();
        while let Some(entry) = entries.next().await.unwrap() {
            told.push((entry.seqno, entry.lost, entry.at_ms));
            writers.push(entry.writer);
        }
        assert_eq!(told, [(1, vec![], Some(0)), (2, vec![1], Some(0)), (3, vec![], Some(0))]);
        assert!(writers[0] != writers[1] && writers[1] == writers[2], "{writers:?}");
        assert!(rival.entries(4).await.unwrap().next().await.unwrap().is_none());
    });
}
