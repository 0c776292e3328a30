//! Goal: what a shard takes on disk follows what is live in it, whichever process stops when. Method: shards in
//! memory with the limits that programs get, overwritten many times; every file is weighed against the
//! rows that a reader sees.

use std::sync::Arc;
use std::time::Duration;

use super::{memory, objects, reader, writer};
use crate::common::{Stopped, append, config, contents, io, row, runtime};
use differential_upsert::shard::{Handle, HandleConfig, History, Update, verify};
use differential_upsert::store::{Fault, Faults, Operation, Root};
use futures::FutureExt;
use object_store::memory::InMemory;
use object_store::throttle::{ThrottleConfig, ThrottledStore};

const KEYS: u64 = 1_600;

/// The limits of a program, but for parts that tests can fill.
fn usual() -> HandleConfig {
    HandleConfig { part_bytes_max: 64 << 10, history: Some(History::Last(1)), ..config() }
}

fn value(key: u64, time: u64) -> String {
    format!("{key:05}-{time:06}-{}", "x".repeat(200))
}

/// Every eighth key gets a new value at each time.
fn overwrite(time: u64) -> Vec<Update> {
    let keys = (0..KEYS).filter(|key| time == 0 || (key + time).is_multiple_of(8));
    // The last time at which it was this key's turn.
    let before = time.checked_sub(1).map(|_| time.saturating_sub(8));
    keys.flat_map(|key| {
        let key_text = format!("key{key:05}");
        let gone = before.map(|at| row(&key_text, &value(key, at), time, -1));
        gone.into_iter().chain([row(&key_text, &value(key, time), time, 1)])
    })
    .collect()
}

/// What a reader sees, in bytes.
async fn live(root: &Root) -> u64 {
    let reader = reader(root).await;
    let rows = contents(&reader, reader.state().upper - 1).await.unwrap();
    rows.iter().map(|(key, value, _)| (key.len() + value.len()) as u64).sum()
}

async fn total(root: &Root) -> u64 {
    objects(root).await.1
}

async fn run(handle: &Handle, times: std::ops::Range<u64>) {
    for time in times {
        let _ = append(handle, time, time + 1, overwrite(time)).await.unwrap();
        handle.maintain().await;
    }
}

#[test]
fn with_no_lease_held_a_collection_leaves_what_is_live() {
    for times in [20, 70, 150] {
        runtime().block_on(async {
            let (root, clock) = (memory(), Arc::<Stopped>::default());
            let handle = writer(&root, 1, &usual(), &clock).await;
            run(&handle, 0..times).await;
            handle.close().await.unwrap();
            let other = writer(&root, 1 << 40, &usual(), &clock).await;
            let _ = other.compact().await.unwrap();
            other.close().await.unwrap();
            let _ = other.collect().await.unwrap();
            let (live, total) = (live(&root).await, total(&root).await);
            assert!(total * 10 <= live * 13, "{total} bytes for {live}, after {times} times");
            verify(root, io(1)).await.unwrap();
        });
    }
}

/// A reader under a lease keeps what it may be reading, and nothing once it is gone.
#[test]
fn a_lease_keeps_what_it_holds_and_no_more() {
    runtime().block_on(async {
        let (root, clock) = (memory(), Arc::<Stopped>::default());
        let handle = writer(&root, 1, &usual(), &clock).await;
        run(&handle, 0..10).await;
        let holder = writer(&root, 1 << 40, &usual(), &clock).await;
        let hold = holder.hold(9).await.unwrap();
        let held = holder.state();
        run(&handle, 10..40).await;
        let _ = (handle.compact().await.unwrap(), handle.collect().await.unwrap());
        for batch in &held.batches {
            for part in &batch.parts {
                holder.fetch(part, batch.lower, batch.upper).await.unwrap();
            }
        }
        holder.release(hold).await;
        handle.close().await.unwrap();
        let _ = (handle.compact().await.unwrap(), handle.close().await.unwrap());
        let _ = handle.collect().await.unwrap();
        let (live, total) = (live(&root).await, total(&root).await);
        assert!(total * 10 <= live * 13, "{total} bytes for {live}");
        verify(root, io(1)).await.unwrap();
    });
}

/// No commit count is needed: a run of any length leaves a small multiple of what is live.
#[test]
fn a_writer_that_is_done_leaves_little() {
    for times in [1, 3, 20, 63, 64, 65, 100] {
        runtime().block_on(async {
            let (root, clock) = (memory(), Arc::<Stopped>::default());
            let handle = writer(&root, 1, &usual(), &clock).await;
            let hold = handle.hold(0).await.unwrap();
            for time in 0..times {
                let _ = append(&handle, time, time + 1, overwrite(time)).await.unwrap();
                handle.advance(&hold, time);
                handle.maintain().await;
            }
            handle.release(hold).await;
            handle.tidy(Duration::from_secs(60)).await;
            let (live, total) = (live(&root).await, total(&root).await);
            assert!(total <= live * 3, "{total} bytes for {live}, after {times} times");
            assert!(handle.state().leases.is_empty(), "{:?}", handle.state().leases);
            let verified = verify(root, io(1)).await.unwrap();
            assert_eq!(verified.orphans, Vec::<String>::new());
        });
    }
}

/// Few commits of many rows: what is retired goes as soon as the holders allow it, not after so many
/// entries.
#[test]
fn under_load_space_stays_in_proportion() {
    runtime().block_on(async {
        let (root, clock) = (memory(), Arc::<Stopped>::default());
        let handle = writer(&root, 1, &usual(), &clock).await;
        let hold = handle.hold(0).await.unwrap();
        let mut most = 0;
        for time in 0..60 {
            let _ = append(&handle, time, time + 1, overwrite(time)).await.unwrap();
            handle.advance(&hold, time);
            handle.maintain().await;
            if time > 0 {
                most = most.max(total(&root).await);
            }
        }
        let live = live(&root).await;
        assert!(most <= live * 4, "{most} bytes for {live}");
        let (all, upkeep) = (handle.counters().bytes_written, handle.maintenance());
        let came = all - upkeep.bytes_written;
        assert!(
            upkeep.bytes_written * 3 <= came * 4,
            "{} bytes merged for {came}",
            upkeep.bytes_written
        );
        let (merges, most) = (upkeep.compactions, came * 4 / 3 / live);
        assert!(merges <= most, "{merges} merges, where the rows that came ask for {most}");
        verify(root, io(1)).await.unwrap();
    });
}

/// Two writers see the same to do, over and over, while one merge takes as long as several commits.
#[test]
fn of_many_writers_one_merges() {
    runtime().block_on(async {
        let (inner, clock) = (Arc::new(InMemory::new()), Arc::<Stopped>::default());
        let slow = ThrottleConfig {
            wait_put_per_call: Duration::from_millis(5),
            wait_get_per_call: Duration::from_millis(1),
            ..ThrottleConfig::default()
        };
        let slow = Root::from_object_store(Arc::new(ThrottledStore::new(inner, slow)), "mem:");
        let mut both = Vec::new();
        for base in [1, 1 << 40] {
            both.push(writer(&slow, base, &usual(), &clock).await);
        }
        let mut rounds = Vec::new();
        for time in 0..60 {
            let turn = &both[time as usize % 2];
            turn.refresh().await.unwrap();
            let _ = append(turn, time, time + 1, overwrite(time)).await.unwrap();
            for handle in both.clone() {
                handle.refresh().await.unwrap();
                rounds.push(tokio::spawn(async move { handle.maintain().await }));
            }
        }
        for round in rounds {
            round.await.unwrap();
        }
        let (one, other) = (both[0].maintenance(), both[1].maintenance());
        let (done, lost) =
            (one.compactions + other.compactions, one.compactions_lost + other.compactions_lost);
        assert!(done > 5, "{one:?} {other:?}");
        assert_eq!(lost, 0, "merges in vain, beside {done}");
        verify(slow, io(1)).await.unwrap();
    });
}

/// A few rows inside an entry that come while a merge runs: what it has replaced goes all the same, and does not wait
/// for entries that a shard at rest does not get.
#[test]
fn a_small_commit_beside_a_merge_keeps_nothing_from_going() {
    let mut beside = 0;
    for start in 0..40 {
        runtime().block_on(async {
            let (inner, clock) = (Arc::new(InMemory::new()), Arc::<Stopped>::default());
            let root = Root::from_object_store(inner.clone(), "mem:");
            let slow = ThrottleConfig {
                wait_put_per_call: Duration::from_millis(1),
                wait_get_per_call: Duration::from_millis(1),
                ..ThrottleConfig::default()
            };
            let slow = Root::from_object_store(Arc::new(ThrottledStore::new(inner, slow)), "mem:");
            let handle = writer(&slow, 1, &usual(), &clock).await;
            for time in 0..8 {
                let _ = append(&handle, time, time + 1, overwrite(time)).await.unwrap();
            }
            let merging = handle.clone();
            let round = tokio::spawn(async move { merging.maintain().await });
            tokio::time::sleep(Duration::from_millis(start)).await;
            let other = writer(&root, 1 << 40, &usual(), &clock).await;
            let _ = append(&other, 8, 9, vec![row("small", "v", 8, 1)]).await.unwrap();
            round.await.unwrap();
            let (merges, retired) = (handle.maintenance().compactions, &handle.state().retired);
            assert!((1..=2).contains(&merges), "{merges} merges, began after {start} ms");
            assert!(retired.is_empty(), "began after {start} ms, and there stays {retired:?}");
            beside += u64::from(merges == 2);
            verify(root, io(1)).await.unwrap();
        });
    }
    assert!(beside > 0, "never while a merge ran");
}

/// Rows whose history cancelled: a shard that kept everything and need not any more.
#[test]
fn what_was_kept_apart_goes_once_it_need_not_be() {
    runtime().block_on(async {
        let (root, clock) = (memory(), Arc::<Stopped>::default());
        let keep = HandleConfig { history: Some(History::Keep), ..usual() };
        let handle = writer(&root, 1, &keep, &clock).await;
        run(&handle, 0..40).await;
        let _ = handle.compact().await.unwrap();
        let change = differential_upsert::shard::Append {
            lower: 40,
            upper: 41,
            history: Some(History::Last(1)),
            ..Default::default()
        };
        let _ = handle.compare_and_append(change).await.unwrap();
        // Small commits, far from the size of what was merged.
        for time in 41..120 {
            let mut rows = vec![row("small", &value(0, time), time, 1)];
            if time > 41 {
                rows.push(row("small", &value(0, time - 1), time, -1));
            }
            let _ = append(&handle, time, time + 1, rows).await.unwrap();
            handle.maintain().await;
        }
        let named: u64 =
            handle.state().batches.iter().flat_map(|b| &b.parts).map(|part| part.bytes()).sum();
        let live = live(&root).await;
        assert!(named <= live * 2, "{named} bytes named for {live}");
        verify(root, io(1)).await.unwrap();
    });
}

/// The last work of a writer ends, and fails nobody, whatever the store does.
#[test]
fn tidying_up_ends_although_the_store_does_not_answer() {
    for operation in [Operation::Put, Operation::CreateEntry, Operation::Get, Operation::Delete] {
        for fault in [Fault::Hang, Fault::Fail { applied: false, report: super::Report::Error }] {
            runtime().block_on(async {
                let (root, clock) = (memory(), Arc::<Stopped>::default());
                let on = Arc::new(std::sync::atomic::AtomicBool::new(false));
                let switch = Arc::clone(&on);
                let faults = Faults::new(move |action| {
                    let now = switch.load(std::sync::atomic::Ordering::Relaxed);
                    if now && action.operation == operation { fault } else { Fault::None }
                });
                let faulty = root.with_faults(faults);
                let handle = writer(&faulty, 1, &usual(), &clock).await;
                run(&handle, 0..20).await;
                let before = live(&root).await;
                on.store(true, std::sync::atomic::Ordering::Relaxed);
                let begun = tokio::time::Instant::now();
                handle.tidy(Duration::from_secs(30)).await;
                assert!(begun.elapsed() <= Duration::from_secs(31), "{operation:?}");
                assert_eq!(live(&root).await, before);
                verify(root, io(1)).await.unwrap();
            });
        }
    }
}

/// What a merge has in memory is bounded, counted, and gone at its end.
#[test]
fn a_merge_stays_within_its_memory() {
    const PART: usize = 4 << 10;
    const BOUND: usize = 6 * PART;
    runtime().block_on(async {
        let (root, clock) = (memory(), Arc::<Stopped>::default());
        let config = HandleConfig {
            inline_bytes_max: 0,
            part_bytes_max: PART,
            compact_bytes_max: BOUND,
            maintain_every: u64::MAX,
            ..usual()
        };
        let merging: Arc<std::sync::OnceLock<Handle>> = Arc::default();
        let most = Arc::new(std::sync::atomic::AtomicU64::new(0));
        let (watched, greatest) = (Arc::clone(&merging), Arc::clone(&most));
        let faults = Faults::new(move |_| {
            let bytes = watched.get().map_or(0, |handle| handle.memory().merge_bytes);
            greatest.fetch_max(bytes, std::sync::atomic::Ordering::Relaxed);
            Fault::None
        });
        let handle = writer(&root.with_faults(faults), 1, &config, &clock).await;
        for time in 0..8 {
            let _ = append(&handle, time, time + 1, overwrite(time)).await.unwrap();
        }
        merging.set(handle.clone()).unwrap();
        let stats = handle.compact().await.unwrap();
        assert_eq!(stats.compactions, 1);
        let most = most.load(std::sync::atomic::Ordering::Relaxed);
        let bound = (BOUND + 2 * PART) as u64;
        assert!((2 * PART as u64..=bound).contains(&most), "{most} bytes in memory, of {bound}");
        assert_eq!(handle.memory().merge_bytes, 0);
        verify(root, io(1)).await.unwrap();
    });
}

/// Runs that are too many for the memory: what earlier merges have written is read and written once all the same, and
/// what only passes goes as soon as it has been merged.
#[test]
fn a_merge_in_passes_writes_what_is_settled_once() {
    const PART: usize = 4 << 10;
    runtime().block_on(async {
        let (root, clock) = (memory(), Arc::<Stopped>::default());
        let config = HandleConfig {
            inline_bytes_max: 0,
            part_bytes_max: PART,
            compact_bytes_max: 4 * PART,
            maintain_every: u64::MAX,
            ..usual()
        };
        let merging: Arc<std::sync::OnceLock<Root>> = Arc::default();
        let most = Arc::new(std::sync::atomic::AtomicU64::new(0));
        let (watched, greatest) = (Arc::clone(&merging), Arc::clone(&most));
        let faults = Faults::new(move |_| {
            if let Some(root) = watched.get() {
                let listed = root.blob().list("data/part", usize::MAX).now_or_never();
                let there = listed.unwrap().unwrap().iter().map(|found| found.bytes).sum();
                greatest.fetch_max(there, std::sync::atomic::Ordering::Relaxed);
            }
            Fault::None
        });
        let handle = writer(&root.with_faults(faults), 1, &config, &clock).await;
        let _ = append(&handle, 0, 1, overwrite(0)).await.unwrap();
        for time in 1..4 {
            let _ = append(&handle, time, time + 1, overwrite(time)).await.unwrap();
            if time == 1 {
                let _ = (handle.compact().await.unwrap(), handle.collect().await.unwrap());
            }
        }
        let sizes: Vec<u64> = (handle.state().batches.iter())
            .map(|batch| batch.parts.iter().map(|part| part.bytes()).sum())
            .collect();
        let (settled, fresh) = (sizes[0], sizes[1..].iter().sum::<u64>());
        assert!(settled > 64 * PART as u64 && fresh > 32 * PART as u64, "{sizes:?}");
        merging.set(root.clone()).ok().unwrap();
        let stats = handle.compact().await.unwrap();
        assert_eq!(stats.compactions, 1);
        let (written, most) =
            (stats.bytes_written, most.load(std::sync::atomic::Ordering::Relaxed));
        println!("{settled} settled, {fresh} fresh, {written} written, {most} there");
        // Four at once: what came is written for each of three levels at the most, and all of it once.
        let bound = settled + 3 * fresh;
        assert!(written <= bound, "{written} bytes written for {settled} and {fresh}");
        // What there was, what came once more, and what is written.
        let bound = 2 * settled + 2 * fresh + 8 * PART as u64;
        assert!(most <= bound, "{most} bytes there for {settled} and {fresh}");
        assert_eq!(contents(&reader(&root).await, 3).await.unwrap().len(), KEYS as usize);
        verify(root, io(1)).await.unwrap();
    });
}

/// A merge cuts parts in proportion to what it merges, so that the next one needs memory in proportion too.
#[test]
fn a_small_shard_has_small_parts() {
    const MIB: u64 = 1 << 20;
    runtime().block_on(async {
        let (root, clock) = (memory(), Arc::<Stopped>::default());
        let handle = writer(&root, 1, &HandleConfig::default(), &clock).await;
        for time in 0..2 {
            let large = |key: u64| row(&format!("{time}-{key}"), &"x".repeat(100 << 10), time, 1);
            let _ = append(&handle, time, time + 1, (0..30).map(large).collect()).await.unwrap();
        }
        let _ = handle.compact().await.unwrap();
        let state = handle.state();
        let parts: Vec<u64> =
            state.batches.iter().flat_map(|b| &b.parts).map(|p| p.bytes()).collect();
        assert!(state.batches.len() == 1 && parts.len() == 6, "{parts:?}");
        assert!(parts.iter().all(|bytes| *bytes <= MIB + 100), "{parts:?}");
        assert_eq!(contents(&reader(&root).await, 1).await.unwrap().len(), 60);
        verify(root, io(1)).await.unwrap();
    });
}
