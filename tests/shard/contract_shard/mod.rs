//! Goal: a shard keeps its contract. Method: one suite over memory, a directory and a store whose
//! writes time out; then one test per promise that the suite does not reach.

mod reading;
mod replaced;
mod shapes;

use std::sync::atomic::{AtomicU64, Ordering};

use crate::common::{append, config, contents, io, open, row, runtime, schema, strings};
use differential_upsert::ErrorKind;
use differential_upsert::shard::{
    Access, Append, Appended, Feed, Handle, HandleConfig, HandleOptions, History, Prepared, Schema,
    Sum, verify,
};
use differential_upsert::store::{Fault, Faults, Operation, Report, Root};

fn memory() -> Root {
    Root::open("mem:", Access::Write).unwrap()
}

async fn whole_contract(root: Root) {
    let handle = open(&root, 1).await.unwrap();
    assert_eq!((handle.state().seqno, handle.state().upper), (0, 0));
    assert_eq!(handle.schema(), schema());
    let changed = handle.changed();

    // Two writers, one log: the second learns where the shard is, as a value.
    let won = append(&handle, 0, 5, vec![row("a", "1", 3, 1), row("b", "1", 4, 1)]).await.unwrap();
    assert_eq!(won, Appended::Won { seqno: 1 });
    assert_eq!(*changed.borrow(), 1, "told at once");
    let rival = open(&root, 1000).await.unwrap();
    assert_eq!(rival.state(), handle.state());
    let won = append(&rival, 5, 6, vec![row("a", "1", 5, -1), row("a", "2", 5, 1)]).await.unwrap();
    assert_eq!(won, Appended::Won { seqno: 2 });
    let lost = append(&handle, 5, 9, vec![row("c", "1", 5, 1)]).await.unwrap();
    assert_eq!(lost, Appended::UpperMismatch(6));
    let lost = append(&handle, 7, 9, vec![row("c", "1", 8, 1)]).await.unwrap();
    assert_eq!(lost, Appended::UpperMismatch(6));

    // An interval without rows, and rows below the interval, which do not count.
    assert_eq!(append(&handle, 6, 8, vec![]).await.unwrap(), Appended::Won { seqno: 3 });
    let rows = vec![row("late", "x", 5, 1), row("d", "1", 8, 1)];
    assert_eq!(append(&rival, 8, 9, rows).await.unwrap(), Appended::Won { seqno: 4 });
    assert_eq!(rival.state().batches.len(), 3);
    assert_eq!(rival.state().since, 8, "history 1 by default");
    let expected = strings(&[("a", "2"), ("b", "1"), ("d", "1")]);
    assert_eq!(contents(&rival, 8).await.unwrap(), expected);
    assert_eq!(contents(&handle, 8).await.unwrap(), expected, "refreshes by itself");
    for as_of in [7, 9] {
        let error = contents(&handle, as_of).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        let text = error.to_string();
        assert!(text.contains(&format!("as of {as_of}: since is 8, upper is 9")), "{text}");
    }

    // A reader sees the same, and changes nothing.
    let reader =
        Handle::open(root.clone(), io(9), HandleOptions::read("data").with_config(config()))
            .await
            .unwrap();
    assert_eq!(reader.schema(), schema());
    assert_eq!(contents(&reader, 8).await.unwrap(), expected);
    assert_eq!(append(&reader, 9, 10, vec![]).await.unwrap_err().kind(), ErrorKind::Invalid);
    let other = Schema { value: "Other".into(), ..schema() };
    let options = HandleOptions::read("data").with_schema(other).with_config(config());
    let refused = Handle::open(root.clone(), io(9), options).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Unsupported);

    // The end.
    let seal = Append { lower: 9, upper: 9, seal: true, ..Append::default() };
    assert_eq!(handle.compare_and_append(seal.clone()).await.unwrap(), Appended::Won { seqno: 5 });
    assert_eq!(rival.compare_and_append(seal).await.unwrap(), Appended::UpperMismatch(9));
    assert_eq!(rival.state().sealed_at, Some(9));
    let error = append(&rival, 9, 10, vec![]).await.unwrap_err();
    assert!(error.to_string().contains("sealed at 9"), "{error}");
    assert_eq!(append(&rival, 3, 10, vec![]).await.unwrap(), Appended::UpperMismatch(9));
    assert_eq!(contents(&rival, 8).await.unwrap(), expected);
    let verified = verify(root, io(1)).await.unwrap();
    assert_eq!((verified.entries, verified.unknown), (5, vec![]));
}

#[test]
fn contract_memory() {
    runtime().block_on(whole_contract(memory()));
}

#[test]
fn contract_directory() {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::open(&dir.path().display().to_string(), Access::Write).unwrap();
    runtime().block_on(whole_contract(root));
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
    runtime().block_on(whole_contract(memory().with_faults(faults)));
}

#[test]
fn a_reader_overtaken_by_the_floor_reloads() {
    runtime().block_on(async {
        let root = memory();
        let reader = open(&root, 1).await.unwrap();
        let config = HandleConfig { rollup_every: 1, inline_bytes_max: 0, ..config() };
        let writer = Handle::open(
            root.clone(),
            io(1_000),
            HandleOptions::write("data", schema()).with_config(config),
        )
        .await
        .unwrap();
        for time in 0..4 {
            let rows = vec![row(&format!("k{time}"), "v", time, 1)];
            let _ = append(&writer, time, time + 1, rows).await.unwrap();
        }
        // The writer's lease is the first entry.
        root.log("data").raise_floor(4).await.unwrap();
        for seqno in 1..=4 {
            root.log("data").delete(seqno).await.unwrap();
        }
        assert_eq!(reader.refresh().await.unwrap(), writer.state());
        assert_eq!(contents(&reader, 3).await.unwrap().len(), 4);
        assert_eq!(verify(root, io(1)).await.unwrap().entries, 1);
    });
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
        let beyond = Append { parts, ..next };
        assert_eq!(handle.compare_and_append(beyond).await.unwrap_err().kind(), ErrorKind::Invalid);
    });
}

#[test]
fn large_batches_are_parts_and_lost_ones_can_be_discarded() {
    runtime().block_on(async {
        let root = memory();
        let config = HandleConfig { inline_bytes_max: 40, part_bytes_max: 100, ..config() };
        let handle = Handle::open(
            root.clone(),
            io(1),
            HandleOptions::write("data", schema()).with_config(config),
        )
        .await
        .unwrap();
        let rows: Vec<_> = (0..20).map(|n| row(&format!("key{n:02}"), "value", 0, 1)).collect();
        let parts = handle.prepare(rows.clone()).await.unwrap();
        assert!(parts.len() > 3 && parts.iter().all(|p| matches!(p, Prepared::Stored(_))));
        assert_eq!(parts.iter().map(Prepared::updates).sum::<u64>(), 20);
        assert!(
            handle
                .prepare(vec![row("a", "b", 1, 1), row("a", "b", 1, -1)])
                .await
                .unwrap()
                .is_empty()
        );
        let lost = handle.prepare(rows.clone()).await.unwrap();
        let won = Append { lower: 0, upper: 1, parts, ..Append::default() };
        // The lease under which parts are uploaded is an entry of its own.
        assert_eq!(handle.compare_and_append(won).await.unwrap(), Appended::Won { seqno: 2 });
        let late = Append { lower: 0, upper: 1, parts: lost.clone(), ..Append::default() };
        assert_eq!(handle.compare_and_append(late).await.unwrap(), Appended::UpperMismatch(1));
        let before = verify(root.clone(), io(1)).await.unwrap();
        assert_eq!(before.orphans.len(), lost.len());
        handle.discard(lost).await;
        assert_eq!(verify(root.clone(), io(1)).await.unwrap().orphans, Vec::<String>::new());
        let reader = open(&root, 900).await.unwrap();
        let expected: Vec<_> =
            rows.iter().map(|((k, v), _, _)| ((k.clone(), v.clone()), 0, 1)).collect();
        assert_eq!(reader.snapshot(0).await.unwrap(), expected);
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

/// Real threads on a real directory: every time is won by exactly one of the writers.
#[test]
fn racing_threads_on_a_directory() {
    const WRITERS: u64 = 4;
    const TIMES: u64 = 20;
    let dir = tempfile::tempdir().unwrap();
    let url = dir.path().display().to_string();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let wins = runtime.block_on(async {
        let racers: Vec<_> = (0..WRITERS)
            .map(|n| {
                let url = url.clone();
                tokio::spawn(async move {
                    let root = Root::open(&url, Access::Write).unwrap();
                    let handle = open(&root, 1 + n * 1_000_000).await.unwrap();
                    let mut wins = Vec::new();
                    let mut upper = handle.state().upper;
                    while upper < TIMES {
                        let rows = vec![row(&format!("{upper:02}"), &n.to_string(), upper, 1)];
                        match append(&handle, upper, upper + 1, rows).await.unwrap() {
                            Appended::Won { .. } => {
                                wins.push((format!("{upper:02}"), n.to_string(), 1));
                                upper += 1;
                            }
                            Appended::UpperMismatch(now) => upper = now,
                            Appended::Fenced(_) => unreachable!("nobody fences"),
                        }
                    }
                    wins
                })
            })
            .collect();
        let mut wins = Vec::new();
        for racer in racers {
            wins.extend(racer.await.unwrap());
        }
        let root = Root::open(&url, Access::Read).unwrap();
        let reader =
            Handle::open(root.clone(), io(9), HandleOptions::read("data").with_config(config()));
        let found = contents(&reader.await.unwrap(), TIMES - 1).await.unwrap();
        verify(root, io(9)).await.unwrap();
        wins.sort();
        assert_eq!(found, wins, "what the shard holds is what the writers were told");
        wins
    });
    assert_eq!(wins.len() as u64, TIMES);
}
