//! Goal: a shard keeps its contract. Method: one suite over memory, a directory and a store whose
//! writes time out; then one test per promise that the suite does not reach.

mod reading;
mod replaced;
mod sealing;
mod shapes;

use std::sync::atomic::{AtomicU64, Ordering};

use crate::common::{append, config, io, open, row, runtime, schema};
use differential_upsert::ErrorKind;
use differential_upsert::shard::{
    Access, Append, Appended, Feed, Handle, HandleConfig, HandleOptions, History, Sum,
};
use differential_upsert::store::{Fault, Faults, Operation, Report, Root};
use differential_upsert::testing;

fn memory() -> Root {
    Root::open("mem:", Access::Write).unwrap()
}

#[test]
fn contract_memory() {
    runtime().block_on(async { testing::shard::all(memory, &io(1)).await });
}

#[test]
fn contract_directory() {
    let parent = tempfile::tempdir().unwrap();
    let next = AtomicU64::new(0);
    let make = || {
        let path = parent.path().join(next.fetch_add(1, Ordering::Relaxed).to_string());
        Root::open(&path.display().to_string(), Access::Write).unwrap()
    };
    runtime().block_on(async { testing::shard::all(make, &io(1)).await });
}

#[test]
fn contract_with_one_operation_in_seven_timing_out() {
    let count = AtomicU64::new(0);
    // Appends settle what they cannot know; the parts of the suite that only read get no faults.
    let faults = Faults::new(move |action| {
        let write = matches!(action.operation, Operation::CreateEntry | Operation::Put);
        match write && count.fetch_add(1, Ordering::Relaxed) % 7 < 6 {
            true => match count.load(Ordering::Relaxed) % 3 {
                0 => Fault::Late,
                1 => Fault::Fail { applied: true, report: Report::Timeout },
                _ => Fault::Fail { applied: false, report: Report::Timeout },
            },
            false => Fault::None,
        }
    });
    runtime()
        .block_on(async { testing::shard::appends(memory().with_faults(faults), &io(1)).await });
}

#[test]
fn members_of_an_append_reach_the_state() {
    runtime().block_on(async {
        let root = memory();
        let config = HandleConfig { history: Some(History::Last(3)), ..config() };
        let handle = Handle::open(
            root.clone(),
            io(1),
            HandleOptions::write("data", schema()).with_config(config),
        )
        .await
        .unwrap();
        let feed = Feed { mode: "given".into(), identity: "feed.jsonl".into() };
        let full = Append {
            lower: 0,
            upper: 10,
            cursor: Some(vec![0, 255]),
            feed: Some(feed.clone()),
            sum: Some(Sum { rows: 7, digest: u128::MAX - 1 }),
            epoch: Some(2),
            ..Append::default()
        };
        assert_eq!(handle.compare_and_append(full).await.unwrap(), Appended::Won { seqno: 1 });
        let state = open(&root, 50).await.unwrap().state();
        assert_eq!(state.cursor.as_deref(), Some(&[0, 255][..]));
        assert_eq!((&state.feed, state.rows), (&Some(feed), Some(7)));
        assert_eq!((state.digest, state.epoch), (Some(u128::MAX - 1), 2));
        assert_eq!((state.since, state.history), (7, History::Last(3)));

        let fenced = Append { lower: 10, upper: 11, fence: Some(1), ..Append::default() };
        assert_eq!(handle.compare_and_append(fenced).await.unwrap(), Appended::Fenced(2));
        let again = Append { lower: 10, upper: 10, epoch: Some(2), ..Append::default() };
        assert_eq!(handle.compare_and_append(again).await.unwrap(), Appended::Fenced(2));
        let keep = Append {
            lower: 10,
            upper: 20,
            fence: Some(2),
            history: Some(History::Keep),
            ..Append::default()
        };
        assert_eq!(handle.compare_and_append(keep).await.unwrap(), Appended::Won { seqno: 2 });
        // It did not say what its feed has, so from here on nobody knows.
        assert_eq!((handle.state().since, handle.state().sum()), (7, None));
        let base = Some(Sum::default());
        let next = Append { lower: 20, upper: 21, fence: Some(2), ..Append::default() };
        let checked = Append { base, ..next.clone() };
        let error = handle.compare_and_append(checked).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FeedDiffers);
        let feed = Some(Feed { mode: "mint".into(), identity: "x".into() });
        let other = Append { feed, ..next.clone() };
        let error = handle.compare_and_append(other).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FeedDiffers);
        let zero = Append { history: Some(History::Last(0)), ..next.clone() };
        assert_eq!(handle.compare_and_append(zero).await.unwrap_err().kind(), ErrorKind::Invalid);
        let parts = handle.prepare(vec![row("k", "v", 21, 1)]).await.unwrap();
        let beyond = Append { parts, ..next.clone() };
        assert_eq!(handle.compare_and_append(beyond).await.unwrap_err().kind(), ErrorKind::Invalid);
    });
}

/// Rows that no command of the feed has made, with sums that say so: a writer that ran ahead would not notice them.
#[test]
fn an_append_of_no_command_has_no_rows() {
    runtime().block_on(async {
        let handle = open(&Root::open("mem:", Access::Write).unwrap(), 1).await.unwrap();
        let sum = Some(Sum { rows: 7, digest: 9 });
        let first = Append { upper: 20, sum, base: Some(Sum::default()), ..Append::default() };
        assert_eq!(handle.compare_and_append(first).await.unwrap(), Appended::Won { seqno: 1 });
        let parts = handle.prepare(vec![row("k", "v", 20, 1)]).await.unwrap();
        let unfed = Append { lower: 20, upper: 21, parts, base: sum, sum, ..Append::default() };
        let outcome = handle.compare_and_append(unfed.clone()).await;
        let kind = outcome.map_err(|e| e.kind());
        assert_eq!(kind, Err(ErrorKind::Invalid), "rows with the sum of no command");
        // It shuts out whatever ran ahead.
        let raised = Append { epoch: Some(1), ..unfed };
        assert_eq!(handle.compare_and_append(raised).await.unwrap(), Appended::Won { seqno: 2 });
    });
}

#[test]
fn what_a_root_may_hold() {
    runtime().block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let root = |name: &str| {
            Root::open(&dir.path().join(name).display().to_string(), Access::Write).unwrap()
        };
        let read = |root: Root| {
            Handle::open(root, io(1), HandleOptions::read("data").with_config(config()))
        };
        // Leftovers of an interrupted creation are an empty shard.
        let empty = root("empty");
        std::fs::create_dir_all(dir.path().join("empty/data/log")).unwrap();
        std::fs::write(dir.path().join("empty/FORMAT#1"), b"{\"for").unwrap();
        let reader = read(empty.clone()).await.unwrap();
        assert_eq!(reader.state().upper, 0);
        assert!(!dir.path().join("empty/FORMAT").exists(), "a reader writes nothing");
        let writer = open(&empty, 1).await.unwrap();
        let _ = append(&writer, 0, 2, vec![row("a", "1", 0, 1)]).await.unwrap();
        assert_eq!(reader.refresh().await.unwrap().upper, 2);
        assert_eq!(reader.schema(), schema(), "learnt when it came");
        // Anything else is somebody else's.
        let foreign = root("foreign");
        std::fs::write(dir.path().join("foreign/notes.txt"), b"x").unwrap();
        let error = read(foreign.clone()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains("holds something else"), "{error}");
        assert_eq!(open(&foreign, 1).await.unwrap_err().kind(), ErrorKind::Invalid);
        assert!(!dir.path().join("foreign/FORMAT").exists());
        // A shard without its FORMAT is damage, not an invitation.
        std::fs::remove_file(dir.path().join("empty/FORMAT")).unwrap();
        assert_eq!(open(&empty, 1).await.unwrap_err().kind(), ErrorKind::Corrupt);
        // Two openers of a new root: one creates, the other takes it.
        let both = memory();
        let (a, b) = tokio::join!(open(&both, 1), open(&both, 1_000));
        assert_eq!(a.unwrap().schema(), b.unwrap().schema());
    });
}

/// Real threads on a real directory, each with a root of its own.
#[test]
fn racing_threads_on_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let url = dir.path().display().to_string();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let view = || Root::open(&url, Access::Write).unwrap();
        testing::shard::racing_writers(view, &io(1)).await;
    });
}
