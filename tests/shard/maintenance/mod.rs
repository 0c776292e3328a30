//! Goal: compaction and collection change what a shard costs, never what it holds, with readers and
//! writers beside them. Method: shards in memory, written by hand; contents before and after are
//! compared, with each other and with rows known beforehand. The clock stands still until it is set.

mod failed;
mod idle;
mod space;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::common::{Stopped, append, config, contents, io, io_at, row, runtime, schema};
use bytes::Bytes;
use differential_upsert::ErrorKind;
use differential_upsert::shard::{
    Access, Append, Appended, Handle, HandleConfig, HandleOptions, History, Prepared, Update,
    verify,
};
use differential_upsert::store::{Fault, Faults, Operation, Report, Root};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use object_store::throttle::{ThrottleConfig, ThrottledStore};
use xxhash_rust::xxh3::xxh3_64;

fn memory() -> Root {
    Root::open("mem:", Access::Write).unwrap()
}

/// Parts of a few rows, and a log that is collected to its end.
fn small(history: History) -> HandleConfig {
    HandleConfig {
        inline_bytes_max: 70,
        part_bytes_max: 200,
        entries_kept: 0,
        maintain_every: 8,
        compact_bytes_max: 1,
        history: Some(history),
        ..config()
    }
}

async fn writer(root: &Root, base: u64, config: &HandleConfig, clock: &Arc<Stopped>) -> Handle {
    let io = io_at(base, clock.clone());
    Handle::open(
        root.clone(),
        io,
        HandleOptions::write("data", schema()).with_config(config.clone()),
    )
    .await
    .unwrap()
}

async fn reader(root: &Root) -> Handle {
    Handle::open(root.clone(), io(1 << 50), HandleOptions::read("data").with_config(config()))
        .await
        .unwrap()
}

/// What one time does: three of five keys get a new value, some are new, some go.
fn rows(time: u64, live: &mut BTreeMap<String, String>) -> Vec<Update> {
    let mut rows = Vec::new();
    for n in 0..3 {
        let key = format!("key{}", (time * 3 + n) % 5);
        if let Some(old) = live.remove(&key) {
            rows.push(row(&key, &old, time, -1));
        }
        if !(time + n).is_multiple_of(4) {
            let value = format!("v{time}");
            rows.push(row(&key, &value, time, 1));
            live.insert(key, value);
        }
    }
    // Large times are parts, small ones ride inline.
    if time.is_multiple_of(3) {
        for n in 0..4 {
            let key = format!("more{time}-{n}");
            rows.push(row(&key, "v", time, 1));
            live.insert(key, "v".into());
        }
    }
    rows
}

type Contents = Vec<(String, String, isize)>;

/// Appends times, and returns the contents as of each.
async fn fill(handle: &Handle, times: std::ops::Range<u64>) -> Vec<Contents> {
    let mut live = BTreeMap::new();
    let mut history = Vec::new();
    for time in 0..times.end {
        let rows = rows(time, &mut live);
        history.push(live.iter().map(|(k, v)| (k.clone(), v.clone(), 1)).collect());
        if times.contains(&time) {
            let won = append(handle, time, time + 1, rows).await.unwrap();
            assert!(matches!(won, Appended::Won { .. }));
        }
    }
    history
}

async fn assert_reads(handle: &Handle, history: &[Contents]) {
    let state = handle.refresh().await.unwrap();
    for as_of in state.since..state.upper {
        let found = contents(handle, as_of).await.unwrap();
        assert_eq!(found, history[as_of as usize], "as of {as_of}");
    }
}

async fn objects(root: &Root) -> (usize, u64) {
    let listed = root.blob().list("", usize::MAX).await.unwrap();
    (listed.len(), listed.iter().map(|found| found.bytes).sum())
}

#[test]
fn readers_see_the_same_before_and_after_at_every_time() {
    for history in [History::Keep, History::Last(1), History::Last(7)] {
        runtime().block_on(async {
            let (root, clock) = (memory(), Arc::default());
            let handle = writer(&root, 1, &small(history), &clock).await;
            let behind = reader(&root).await;
            let expected = fill(&handle, 0..20).await;
            let old = reader(&root).await;
            let since = handle.state().since;
            assert_eq!(
                since,
                match history {
                    History::Keep => 0,
                    History::Last(times) => 20 - times,
                }
            );
            assert_eq!(handle.compact().await.unwrap().compactions, 1, "{history:?}");
            assert_eq!((handle.state().batches.len(), handle.state().since), (1, since));
            assert_reads(&reader(&root).await, &expected).await;
            let collected = handle.collect().await.unwrap();
            assert!(collected.entries_deleted > 20 && collected.parts_deleted > 3, "{collected:?}");
            for handle in [&handle, &behind, &old, &reader(&root).await] {
                assert_reads(handle, &expected).await;
            }
            let verified = verify(root.clone(), io(1)).await.unwrap();
            assert_eq!((verified.orphans, verified.unknown), (vec![], vec![]));
            // Again there is nothing to do, and nothing is done.
            let before = handle.state();
            let nothing = handle.compact().await.unwrap();
            assert_eq!((nothing.compactions, nothing.bytes_read), (0, 0));
            assert_eq!(handle.state(), before);
            // Life goes on.
            let expected = fill(&handle, 20..30).await;
            let _ = handle.compact().await.unwrap();
            let _ = handle.collect().await.unwrap();
            assert_reads(&reader(&root).await, &expected).await;
            verify(root, io(1)).await.unwrap();
        });
    }
}

#[test]
fn what_is_dead_costs_nothing() {
    runtime().block_on(async {
        let (root, clock) = (memory(), Arc::default());
        let config = HandleConfig { maintain_every: 10, ..small(History::Last(1)) };
        let handle = writer(&root, 1, &config, &clock).await;
        let overwrite = |time: u64| {
            let pair = |n: u64| {
                let key = format!("key{n}");
                let new = row(&key, &format!("value{time:05}"), time, 1);
                let old = time.checked_sub(1).map(|old| format!("value{old:05}"));
                [Some(new), old.map(|old| row(&key, &old, time, -1))].into_iter().flatten()
            };
            (0..10).flat_map(pair).collect::<Vec<_>>()
        };
        let mut sizes = Vec::new();
        for time in 0..1_000 {
            let _ = append(&handle, time, time + 1, overwrite(time)).await.unwrap();
            handle.maintain().await;
            if time % 200 == 199 {
                let _ = (handle.compact().await.unwrap(), handle.collect().await.unwrap());
                sizes.push(objects(&root).await);
            }
        }
        // Ten rows, whatever was overwritten: parts, an entry or two, two rollups and floor marks.
        let (files, bytes) = sizes[0];
        assert!(files < 20 && bytes < 10_000, "{sizes:?}");
        for (more, larger) in &sizes {
            assert!(more.abs_diff(files) < 4 && larger.abs_diff(bytes) < bytes / 4, "{sizes:?}");
        }
        let stats = handle.maintenance();
        assert!(stats.compactions > 50 && stats.entries_deleted > 1_000, "{stats:?}");
        assert_eq!(contents(&handle, 999).await.unwrap().len(), 10);
        verify(root, io(1)).await.unwrap();
    });
}

/// Insertions and their retractions merge to nothing; a reader that has sent only the first must learn it.
#[test]
fn a_merge_in_which_all_cancels_is_not_forgotten() {
    runtime().block_on(async {
        let (root, clock) = (memory(), Arc::default());
        let handle = writer(&root, 1, &small(History::Last(1)), &clock).await;
        let _ = append(&handle, 0, 1, vec![row("k", "v", 0, 1)]).await.unwrap();
        let _ = append(&handle, 1, 2, vec![row("k", "v", 1, -1)]).await.unwrap();
        // Times without rows: since is far beyond the last batch.
        let _ = append(&handle, 2, 30, vec![]).await.unwrap();
        assert!(handle.state().tells_apart(1));
        let _ = handle.compact().await.unwrap();
        assert!(!handle.state().tells_apart(1));
        assert_eq!(contents(&handle, 29).await.unwrap(), []);
        assert_eq!(handle.compact().await.unwrap().compactions, 0);
        let _ = append(&handle, 30, 31, vec![row("k", "w", 30, 1)]).await.unwrap();
        let _ = (handle.compact().await.unwrap(), handle.collect().await.unwrap());
        assert_eq!(contents(&handle, 30).await.unwrap(), [("k".into(), "w".into(), 1)]);
        verify(root, io(1)).await.unwrap();
    });
}

/// A listing that is slow, as of a large shard: whatever a writer begins and ends meanwhile, its
/// parts are not orphans. Every moment of a collection is tried.
#[test]
fn a_writer_may_begin_at_any_moment_of_a_sweep() {
    for start in 0..60 {
        runtime().block_on(async {
            let inner: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
            let root = Root::from_object_store(inner.clone(), "mem:");
            let clock = Arc::<Stopped>::default();
            let config = small(History::Keep);
            let first = writer(&root, 1 << 30, &config, &clock).await;
            let _ = fill(&first, 0..4).await;
            let slow = ThrottleConfig {
                wait_list_per_call: Duration::from_millis(5),
                wait_get_per_call: Duration::from_millis(1),
                ..ThrottleConfig::default()
            };
            let slow = Root::from_object_store(Arc::new(ThrottledStore::new(inner, slow)), "mem:");
            let collector = writer(&slow, 1 << 40, &config, &clock).await;
            let collecting = tokio::spawn(async move { collector.collect().await.unwrap() });
            tokio::time::sleep(Duration::from_millis(start)).await;
            let late = writer(&root, 1, &config, &clock).await;
            let large = (0..5).map(|n| row(&format!("large{n}"), "value", 4, 1)).collect();
            let parts = late.prepare(large).await.unwrap();
            assert_eq!(collecting.await.unwrap().orphans_deleted, 0, "began after {start} ms");
            let append = Append { lower: 4, upper: 5, parts, ..Append::default() };
            let won = late.compare_and_append(append).await.unwrap();
            assert!(matches!(won, Appended::Won { .. }), "began after {start} ms");
            contents(&late, 4).await.unwrap();
        });
    }
}

/// A round happens once in so many entries, in one handle or another; and rounds alone keep the log short and
/// the batches few.
#[test]
fn maintenance_is_shared_and_enough() {
    runtime().block_on(async {
        let (root, clock) = (memory(), Arc::default());
        let config = HandleConfig { entries_kept: 10, ..small(History::Keep) };
        let both = [
            writer(&root, 1, &config, &clock).await,
            writer(&root, 1 << 30, &config, &clock).await,
        ];
        let mut expected = Vec::new();
        for time in 0..200 {
            let turn = &both[time as usize % 2];
            turn.refresh().await.unwrap();
            expected = fill(turn, time..time + 1).await;
            tokio::join!(both[0].maintain(), both[1].maintain());
        }
        let (one, other) = (both[0].maintenance(), both[1].maintenance());
        assert!(one.compactions + other.compactions > 10, "{one:?} {other:?}");
        assert_eq!(one.compactions_lost + other.compactions_lost, 0, "{one:?} {other:?}");
        let state = both[0].refresh().await.unwrap();
        assert!(state.batches.len() < 30, "{} batches", state.batches.len());
        let entries = root.log("data").entries().await.unwrap();
        assert!(entries.len() < 50, "{} entries", entries.len());
        assert!(root.blob().list("data/floor", 99).await.unwrap().len() <= 2);
        assert!(root.blob().list("data/rollup", 99).await.unwrap().len() <= 4);
        assert_reads(&reader(&root).await, &expected).await;
        verify(root, io(1)).await.unwrap();
    });
}

#[test]
fn since_and_merges_respect_holds() {
    runtime().block_on(async {
        let (root, clock) = (memory(), Arc::default());
        let config = small(History::Last(1));
        let handle = writer(&root, 1, &config, &clock).await;
        let _ = fill(&handle, 0..10).await;
        let holder = writer(&root, 1 << 30, &config, &clock).await;
        let hold = holder.hold(3).await.unwrap();
        assert_eq!(hold.since(), 9, "what is gone cannot be held");
        let held = holder.state();
        let expected = fill(&handle, 10..20).await;
        assert_eq!(handle.state().since, 9, "held");
        for _ in 0..2 {
            let _ = (handle.compact().await.unwrap(), handle.collect().await.unwrap());
        }
        assert!(handle.state().tells_apart(10), "{:?}", handle.state().batches);
        assert!(handle.state().batches.len() > 5, "what the holder has not read stays as it is");
        assert_reads(&reader(&root).await, &expected).await;
        // No part of the state that the holder looks at is gone.
        for batch in &held.batches {
            for part in &batch.parts {
                holder.fetch(part, batch.lower, batch.upper).await.unwrap();
            }
        }
        // The hold moves with the holder's own entries, and goes when it goes.
        holder.refresh().await.unwrap();
        holder.advance(&hold, 15);
        let _ = append(&holder, 20, 21, vec![]).await.unwrap();
        assert_eq!(holder.state().since, 15);
        holder.release(hold).await;
        assert_eq!((holder.state().since, holder.state().leases.len()), (20, 1));
        handle.refresh().await.unwrap();
        let _ = (handle.compact().await.unwrap(), handle.collect().await.unwrap());
        assert_eq!(handle.state().batches.len(), 1);
        verify(root, io(1)).await.unwrap();
    });
}

#[test]
fn an_idle_lease_is_renewed_at_a_quarter_and_a_lost_one_is_taken_again() {
    runtime().block_on(async {
        let (root, clock) = (memory(), Arc::<Stopped>::default());
        let config = HandleConfig { lease: Duration::from_secs(100), ..small(History::Last(1)) };
        let handle = writer(&root, 1, &config, &clock).await;
        let _ = fill(&handle, 0..5).await;
        let hold = handle.hold(4).await.unwrap();
        let (before, token) = (handle.state().seqno, handle.state().leases.clone());
        clock.advance(Duration::from_secs(24));
        handle.keep().await.unwrap();
        assert_eq!(handle.state().seqno, before, "not yet");
        clock.advance(Duration::from_secs(2));
        handle.keep().await.unwrap();
        assert_eq!(handle.state().seqno, before + 1, "renewed");
        // Others end it once it is over by their clock, which may be wrong; nothing breaks.
        let fast = Arc::<Stopped>::default();
        fast.advance(Duration::from_secs(3_600));
        let other = writer(&root, 1 << 30, &config, &fast).await;
        assert_eq!(other.collect().await.unwrap().leases_expired, 1);
        assert!(other.state().leases.is_empty());
        handle.refresh().await.unwrap();
        handle.keep().await.unwrap();
        let again = handle.state().leases.clone();
        assert_eq!(again.len(), 1);
        assert!(again.keys().all(|lease| !token.contains_key(lease)), "never the same name");
        handle.release(hold).await;
    });
}

/// A maintainer whose clock is an hour fast ends no lease that is being renewed.
#[test]
fn rounds_of_maintenance_believe_no_clock() {
    runtime().block_on(async {
        // The silence of a lease is measured, whatever the clocks say.
        let (root, clock, fast) = (memory(), Arc::<Stopped>::default(), Arc::<Stopped>::default());
        let config = HandleConfig { lease: Duration::from_secs(1_000), ..small(History::Last(1)) };
        let handle = writer(&root, 1, &config, &clock).await;
        fast.advance(Duration::from_secs(3_600));
        let other = writer(&root, 1 << 30, &config, &fast).await;
        let _ = fill(&handle, 0..5).await;
        let hold = handle.hold(4).await.unwrap();
        let lease = *handle.state().leases.keys().next().unwrap();
        for upper in 6..100 {
            let _ = append(&handle, upper - 1, upper, vec![]).await.unwrap();
            other.refresh().await.unwrap();
            other.maintain().await;
            handle.refresh().await.unwrap();
            let step = Duration::from_secs(40);
            clock.advance(step);
            fast.advance(step);
        }
        assert!(handle.state().leases.contains_key(&lease));
        assert!(handle.state().maintained > 50);
        // Silent for its whole duration, it is ended.
        for upper in 100..120 {
            let _ = append(&other, upper - 1, upper, vec![]).await.unwrap();
            other.maintain().await;
            tokio::time::advance(Duration::from_secs(100)).await;
        }
        assert!(!other.state().leases.contains_key(&lease), "{:?}", other.state().leases);
        drop(hold);
    });
}

#[test]
fn parts_without_a_lease_are_refused_and_swept_and_those_with_one_stay() {
    runtime().block_on(async {
        let (root, clock) = (memory(), Arc::<Stopped>::default());
        let config = small(History::Keep);
        let handle = writer(&root, 1, &config, &clock).await;
        let other = writer(&root, 1 << 30, &config, &clock).await;
        let parts = handle.prepare(rows(0, &mut BTreeMap::new())).await.unwrap();
        assert!(parts.iter().all(|part| matches!(part, Prepared::Stored(_))), "{parts:?}");
        // Uploaded, not yet appended, and a collector comes by: they stay.
        let nothing = other.collect().await.unwrap();
        assert_eq!((nothing.parts_deleted, nothing.leases_expired), (0, 0));
        let append = Append { lower: 0, upper: 1, parts, ..Append::default() };
        assert!(matches!(
            handle.compare_and_append(append.clone()).await.unwrap(),
            Appended::Won { .. }
        ));
        // Now it comes by after the lease has run out.
        let lost = handle.prepare(rows(0, &mut BTreeMap::new())).await.unwrap();
        clock.advance(Duration::from_secs(3_600));
        let swept = other.collect().await.unwrap();
        assert_eq!((swept.orphans_deleted, swept.leases_expired), (lost.len() as u64, 1));
        let late = Append { lower: 1, upper: 2, parts: lost, ..Append::default() };
        let error = handle.compare_and_append(late).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LeaseLost, "{error}");
        // New parts have a new lease, in a folder of its own.
        let parts = handle.prepare(rows(0, &mut BTreeMap::new())).await.unwrap();
        let folder = |part: &Prepared| match part {
            Prepared::Stored(part) => part.key.rsplit_once('/').unwrap().0.to_string(),
            Prepared::Inline(..) => unreachable!(),
        };
        assert_ne!(folder(&parts[0]), folder(&append.parts[0]));
        let again = Append { lower: 1, upper: 2, parts, ..Append::default() };
        assert!(matches!(handle.compare_and_append(again).await.unwrap(), Appended::Won { .. }));
        assert_eq!(verify(root, io(1)).await.unwrap().orphans, Vec::<String>::new());
    });
}

/// The same, with the folder of a writer that has never committed anything else.
#[test]
fn a_lease_alone_keeps_a_folder() {
    runtime().block_on(async {
        let (root, clock) = (memory(), Arc::<Stopped>::default());
        let config = small(History::Keep);
        let other = writer(&root, 1 << 30, &config, &clock).await;
        let _ = fill(&other, 0..6).await;
        let handle = writer(&root, 1, &config, &clock).await;
        let large = (0..5).map(|n| row(&format!("large{n}"), "value", 9, 1)).collect();
        let parts = handle.prepare(large).await.unwrap();
        for _ in 0..3 {
            let _ = (other.compact().await.unwrap(), other.collect().await.unwrap());
        }
        let append = Append { lower: 6, upper: 10, parts, ..Append::default() };
        assert!(matches!(handle.compare_and_append(append).await.unwrap(), Appended::Won { .. }));
        assert!(contents(&handle, 9).await.is_ok());
        verify(root, io(1)).await.unwrap();
    });
}

#[test]
fn of_two_maintainers_one_wins_and_nothing_is_lost() {
    runtime().block_on(async {
        let (root, clock) = (memory(), Arc::default());
        let config = small(History::Last(2));
        let one = writer(&root, 1, &config, &clock).await;
        let two = writer(&root, 1 << 30, &config, &clock).await;
        let expected = fill(&one, 0..30).await;
        let (a, b) = tokio::join!(one.compact(), two.compact());
        let (a, b) = (a.unwrap(), b.unwrap());
        assert_eq!(
            (a.compactions + b.compactions, a.compactions_lost + b.compactions_lost),
            (1, 1)
        );
        let (a, b) = tokio::join!(one.collect(), two.collect());
        let _ = (a.unwrap(), b.unwrap());
        assert_reads(&reader(&root).await, &expected).await;
        let verified = verify(root, io(1)).await.unwrap();
        assert_eq!(verified.orphans, Vec::<String>::new(), "the loser has discarded its parts");
    });
}

/// A writer sends a create and is stopped. Others go on, compact and collect; then the create
/// arrives, under the floor, where its number is free again.
#[test]
fn a_late_create_under_the_floor_is_not_believed() {
    runtime().block_on(async {
        let (root, clock) = (memory(), Arc::<Stopped>::default());
        let config = small(History::Last(1));
        let sent = Arc::new(AtomicBool::new(false));
        let faults = Faults::new({
            let sent = sent.clone();
            move |action| match action.operation {
                // The first one hangs until it is let go, and then works.
                Operation::CreateEntry if !sent.swap(true, Ordering::Relaxed) => Fault::Hang,
                _ => Fault::None,
            }
        });
        let stalled = writer(&root.with_faults(faults.clone()), 1, &config, &clock).await;
        let other = writer(&root, 1 << 30, &config, &clock).await;
        let late = tokio::spawn(async move {
            append(&stalled, 0, 1, vec![row("late", "1", 0, 1)]).await.unwrap()
        });
        while !sent.load(Ordering::Relaxed) {
            tokio::task::yield_now().await;
        }
        let expected = fill(&other, 0..12).await;
        let _ = (other.compact().await.unwrap(), other.collect().await.unwrap());
        assert!(root.log("data").get(1).await.unwrap().is_none(), "its number is free");
        faults.let_go();
        assert_eq!(late.await.unwrap(), Appended::UpperMismatch(12));
        assert!(root.log("data").get(1).await.unwrap().is_some(), "it did land");
        assert_reads(&other, &expected).await;
        assert_reads(&reader(&root).await, &expected).await;
        assert!(other.collect().await.unwrap().entries_deleted > 0);
        verify(root, io(1)).await.unwrap();
    });
}

/// A compaction that is overtaken and whose entry lands under the floor takes no part with it.
#[test]
fn a_stale_entry_of_a_compaction_deletes_nothing() {
    runtime().block_on(async {
        let (root, clock) = (memory(), Arc::<Stopped>::default());
        let config = small(History::Keep);
        let one = writer(&root, 1, &config, &clock).await;
        let expected = fill(&one, 0..9).await;
        let bytes = root.log("data").get(4).await.unwrap().unwrap();
        let _ = (one.compact().await.unwrap(), one.collect().await.unwrap());
        let _ = root.log("data").create(4, bytes).await.unwrap();
        let _ = root.log("data").create(5, Bytes::from_static(b"junk")).await.unwrap();
        assert_reads(&reader(&root).await, &expected).await;
        assert!(one.collect().await.unwrap().entries_deleted >= 2);
        assert_reads(&reader(&root).await, &expected).await;
        verify(root, io(1)).await.unwrap();
    });
}

#[test]
fn a_reader_whose_parts_are_gone_starts_again_and_gives_up_after_a_while() {
    runtime().block_on(async {
        let (root, clock) = (memory(), Arc::default());
        let handle = writer(&root, 1, &small(History::Keep), &clock).await;
        let expected = fill(&handle, 0..9).await;
        let old = reader(&root).await;
        let _ = (handle.compact().await.unwrap(), handle.collect().await.unwrap());
        assert_eq!(contents(&old, 4).await.unwrap(), expected[4]);
        for found in root.blob().list("data/part", usize::MAX).await.unwrap() {
            root.blob().delete(&found.key).await.unwrap();
        }
        let error = contents(&old, 4).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Missing, "{error}");
        assert_eq!(verify(root, io(1)).await.unwrap_err().kind(), ErrorKind::Corrupt);
    });
}

/// The memory of a merge is bounded, so many runs take several passes: the result is the same.
#[test]
fn passes_do_not_show() {
    let mut results = Vec::new();
    for compact_bytes_max in [1, 2_000, usize::MAX] {
        runtime().block_on(async {
            let (root, clock) = (memory(), Arc::default());
            let config = HandleConfig { compact_bytes_max, ..small(History::Last(3)) };
            let handle = writer(&root, 1, &config, &clock).await;
            let _ = fill(&handle, 0..40).await;
            let _ = handle.compact().await.unwrap();
            let batch = handle.state().batches[0].clone();
            let mut rows = Vec::new();
            for part in &batch.parts {
                rows.push(handle.fetch(part, batch.lower, batch.upper).await.unwrap());
            }
            assert!(rows.len() > 3);
            let all = rows.concat();
            assert!(all.is_sorted_by_key(|((key, _), ..)| xxh3_64(key.as_bytes())));
            results.push(rows.concat());
            let verified = verify(root, io(1)).await.unwrap();
            assert_eq!(verified.orphans, Vec::<String>::new(), "no pass leaves its parts");
        });
    }
    assert!(results.windows(2).all(|pair| pair[0] == pair[1]));
}

/// What interrupted writes leave in a directory goes once it is old; what a log of files has left goes with the
/// next collection, whatever a clock says.
#[test]
fn leftovers_of_a_directory_go() {
    let dir = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let root = Root::open(&dir.path().display().to_string(), Access::Write).unwrap();
        let clock = Arc::<Stopped>::default();
        let handle = writer(&root, 1, &small(History::Last(1)), &clock).await;
        let expected = fill(&handle, 0..9).await;
        let staged = dir.path().join("data/rollup/00000000000000000099-1#1");
        let entry = dir.path().join("data/log/00000000000000000099");
        let half = dir.path().join("data/log/00000000000000000001#1");
        std::fs::create_dir_all(staged.parent().unwrap()).unwrap();
        std::fs::write(&entry, b"late").unwrap();
        std::fs::write(&half, b"half").unwrap();
        let probe = dir.path().join("probe-0123");
        std::fs::write(&staged, b"half").unwrap();
        std::fs::write(&probe, b"1").unwrap();
        let _ = handle.collect().await.unwrap();
        assert!(staged.exists() && probe.exists(), "younger than a lease");
        // A thousand years: later than any clock that stamps files.
        clock.advance(Duration::from_secs(1_000 * 365 * 86_400));
        let _ = (handle.compact().await.unwrap(), handle.collect().await.unwrap());
        assert!(!staged.exists() && !probe.exists());
        assert!(!half.exists() && !entry.exists(), "the log is in segments");
        assert_reads(&reader(&root).await, &expected).await;
        verify(root, io(1)).await.unwrap();
    });
}
