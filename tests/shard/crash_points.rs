//! Goal: a writer that dies at any operation on its store leaves a prefix of what it did, at least
//! as long as what it was told, and the next writer goes on from there. Method: count the operations
//! of a run; then die instead of each, and right after each; reopen, compare with a fold that knows
//! only the rows, finish the run, and compare again. The same for a maintainer that dies in a
//! compaction or a collection: nobody reads anything else than before, and the next maintainer leaves
//! nothing behind. No randomness.

use std::collections::BTreeMap;

use crate::common::{config, contents, io, row, runtime, schema};
use differential_upsert::Error;
use differential_upsert::shard::{
    Access, Append, Appended, Handle, HandleConfig, HandleOptions, History, Update, verify,
};
use differential_upsert::store::{Fault, Faults, Report, Root};

const TIMES: u64 = 7;

/// The rows of one time: even times are small and ride inline, odd ones are parts.
fn rows(time: u64) -> Vec<Update> {
    let mut rows = vec![row("k", &time.to_string(), time, 1)];
    if time > 0 {
        rows.push(row("k", &(time - 1).to_string(), time, -1));
    }
    if time % 2 == 1 {
        rows.extend((0..5).map(|n| row(&format!("key {time} {n}"), "value", time, 1)));
    }
    rows
}

fn expected(upper: u64) -> Vec<(String, String, isize)> {
    let mut live = BTreeMap::new();
    for time in 0..upper {
        live.insert("k".to_string(), time.to_string());
        if time % 2 == 1 {
            live.extend((0..5).map(|n| (format!("key {time} {n}"), "value".to_string())));
        }
    }
    live.into_iter().map(|(key, value)| (key, value, 1)).collect()
}

async fn open(root: &Root, base: u64) -> Result<Handle, Error> {
    let config = HandleConfig {
        inline_bytes_max: 90,
        part_bytes_max: 120,
        rollup_every: 2,
        outage_max: std::time::Duration::from_millis(3),
        history: Some(History::Last(3)),
        ..config()
    };
    Handle::open(root.clone(), io(base), HandleOptions::write("data", schema()).with_config(config))
        .await
}

/// Appends all times that are still owed; `acked` is the upper told to the caller so far.
async fn run(root: &Root, base: u64, acked: &mut u64) -> Result<(), Error> {
    let handle = open(root, base).await?;
    *acked = handle.state().upper;
    while *acked < TIMES {
        let parts = handle.prepare(rows(*acked)).await?;
        let append = Append { lower: *acked, upper: *acked + 1, parts, ..Append::default() };
        match handle.compare_and_append(append).await? {
            Appended::Won { .. } => *acked += 1,
            other => panic!("a lone writer lost: {other:?}"),
        }
    }
    Ok(())
}

async fn crash_and_go_on(root: &Root, case: &str, faults: std::sync::Arc<Faults>) {
    let mut acked = 0;
    let _dead = run(&root.with_faults(faults.clone()), 1, &mut acked).await;
    // What was on the wire when it died may still arrive.
    faults.land().await;
    let reader = open(root, 1_000_000).await.unwrap_or_else(|e| panic!("{case}: {e}"));
    let upper = reader.state().upper;
    assert!(upper >= acked, "{case}: {acked} was acked, the shard is at {upper}");
    if upper > 0 {
        assert_eq!(contents(&reader, upper - 1).await.unwrap(), expected(upper), "{case}");
    }
    verify(root.clone(), io(1)).await.unwrap_or_else(|e| panic!("{case}: {e}"));
    let mut acked = 0;
    run(root, 2_000_000, &mut acked).await.unwrap_or_else(|e| panic!("{case}: {e}"));
    let reader = open(root, 3_000_000).await.unwrap();
    // Wherever a creation stopped, the next writer completes it.
    for made in ["FORMAT", "INCARNATION"] {
        assert!(root.blob().get(made).await.unwrap().is_some(), "{case}: no {made}");
    }
    assert_eq!(contents(&reader, TIMES - 1).await.unwrap(), expected(TIMES), "{case}");
    verify(root.clone(), io(1)).await.unwrap_or_else(|e| panic!("{case}: {e}"));
}

/// Dies at every operation, in three ways.
async fn everywhere(make: impl Fn() -> Root) {
    let none = Faults::new(|_| Fault::None);
    run(&make().with_faults(none.clone()), 1, &mut 0).await.unwrap();
    let operations = none.operations();
    assert!(operations > 30, "{operations} operations are too few to test");
    for at in 1..=operations + 1 {
        crash_and_go_on(&make(), &format!("instead of {at}"), Faults::crash_at(at)).await;
        for last in [Fault::Fail { applied: true, report: Report::Timeout }, Fault::Late] {
            let faults = Faults::new(move |action| match action.number.cmp(&at) {
                std::cmp::Ordering::Less => Fault::None,
                std::cmp::Ordering::Equal => last,
                std::cmp::Ordering::Greater => Fault::Crash,
            });
            crash_and_go_on(&make(), &format!("{last:?} at {at}"), faults).await;
        }
    }
}

/// Merges and collects, twice, with an append and a round of maintenance in between.
async fn maintain(root: &Root, base: u64, upper: &mut u64) -> Result<(), Error> {
    let config = HandleConfig {
        inline_bytes_max: 90,
        part_bytes_max: 120,
        rollup_every: 2,
        outage_max: std::time::Duration::from_millis(3),
        entries_kept: 2,
        maintain_every: 1,
        compact_bytes_max: 1,
        ..config()
    };
    let root = root.clone();
    let handle =
        Handle::open(root, io(base), HandleOptions::write("data", schema()).with_config(config));
    let handle = handle.await?;
    *upper = handle.state().upper;
    handle.compact().await?;
    handle.collect().await?;
    let parts = handle.prepare(rows(*upper)).await?;
    let append = Append { lower: *upper, upper: *upper + 1, parts, ..Append::default() };
    assert!(matches!(handle.compare_and_append(append).await?, Appended::Won { .. }));
    *upper += 1;
    handle.maintain().await;
    handle.compact().await?;
    handle.collect().await?;
    handle.close().await
}

async fn check(root: &Root, case: &str, at_least: u64) -> u64 {
    let reader = open(root, 1_000_000).await.unwrap_or_else(|e| panic!("{case}: {e}"));
    let state = reader.state();
    assert!(state.upper >= at_least, "{case}: {at_least} was acked");
    for as_of in state.since..state.upper {
        let found = contents(&reader, as_of).await.unwrap_or_else(|e| panic!("{case}: {e}"));
        assert_eq!(found, expected(as_of + 1), "{case}, as of {as_of}");
    }
    verify(root.clone(), io(1)).await.unwrap_or_else(|e| panic!("{case}: {e}"));
    state.upper
}

async fn die_and_let_another_go_on(root: &Root, case: &str, faults: std::sync::Arc<Faults>) {
    let mut acked = 0;
    run(root, 1, &mut acked).await.unwrap();
    let _dead = maintain(&root.with_faults(faults.clone()), 5_000, &mut acked).await;
    check(root, case, acked).await;
    faults.land().await;
    let upper = check(root, case, acked).await;
    maintain(root, 2_000_000, &mut acked).await.unwrap_or_else(|e| panic!("{case}: {e}"));
    assert_eq!(check(root, case, upper + 1).await, upper + 1, "{case}");
    // Once the leases of the dead are over, nothing of them is left, in one batch of live rows.
    let clock = std::sync::Arc::new(crate::common::Stopped::default());
    clock.advance(std::time::Duration::from_secs(86_400));
    let io = crate::common::io_at(3_000_000, clock);
    let config = HandleConfig { entries_kept: 0, ..config() };
    let last =
        Handle::open(root.clone(), io, HandleOptions::write("data", schema()).with_config(config));
    let last = last.await.unwrap();
    // The first ends leases, which then hold nothing back.
    last.collect().await.unwrap();
    last.compact().await.unwrap();
    last.collect().await.unwrap();
    check(root, case, upper + 1).await;
    let left = verify(root.clone(), crate::common::io(1)).await.unwrap();
    assert_eq!((left.orphans, left.unknown), (vec![], vec![]), "{case}");
    assert!(left.rollups <= 2 && last.state().batches.len() == 1, "{case}");
    assert!(root.log("data").entries().await.unwrap().len() <= 1, "{case}");
    let listed = root.blob().list("data/part", usize::MAX).await.unwrap();
    assert_eq!(listed.len() as u64, left.parts, "{case}");
}

/// Dies at every operation of a maintainer, in three ways.
async fn everywhere_in_maintenance(make: impl Fn() -> Root) {
    let none = Faults::new(|_| Fault::None);
    let (root, mut acked) = (make(), 0);
    run(&root, 1, &mut acked).await.unwrap();
    maintain(&root.with_faults(none.clone()), 5_000, &mut acked).await.unwrap();
    let operations = none.operations();
    assert!(operations > 100, "{operations} operations are too few to test");
    for at in 1..=operations + 1 {
        let crash = Faults::crash_at(at);
        die_and_let_another_go_on(&make(), &format!("instead of {at}"), crash).await;
        for last in [Fault::Fail { applied: true, report: Report::Timeout }, Fault::Late] {
            let faults = Faults::new(move |action| match action.number.cmp(&at) {
                std::cmp::Ordering::Less => Fault::None,
                std::cmp::Ordering::Equal => last,
                std::cmp::Ordering::Greater => Fault::Crash,
            });
            die_and_let_another_go_on(&make(), &format!("{last:?} at {at}"), faults).await;
        }
    }
}

#[test]
fn maintainer_in_memory() {
    runtime().block_on(everywhere_in_maintenance(|| Root::open("mem:", Access::Write).unwrap()));
}

#[test]
fn memory() {
    runtime().block_on(everywhere(|| Root::open("mem:", Access::Write).unwrap()));
}

#[test]
fn directory() {
    let parent = tempfile::tempdir().unwrap();
    let next = std::cell::Cell::new(0);
    runtime().block_on(everywhere(|| {
        next.set(next.get() + 1);
        let path = parent.path().join(next.get().to_string());
        Root::open(&path.display().to_string(), Access::Write).unwrap()
    }));
}
