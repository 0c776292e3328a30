//! Goal: workers of several processes that look at a shard at different moments, before and after a
//! compaction, together read each row once; and so do any number of workers, however the rows were dealt
//! to parts when they were written: nothing that is stored depends on the hash that deals keys to workers,
//! which differential has changed once. Method: two workers on threads, each with a shard handle of its
//! own as in two processes; the second one opens it only after the first has read everything and another
//! handle has merged it. And commits whose parts hold rows by laws that know no hash. The rows that come
//! back are compared with those that were written.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use differential_dataflow::consolidation::consolidate;
use differential_upsert::io::Io;
use differential_upsert::shard::{Access, Append, Appended, HandleConfig, History, Update};
use differential_upsert::store::Root;
use differential_upsert::{Command, Pipeline, PipelineConfig, Shard, UpsertInto};
use timely::dataflow::operators::Input;

/// Rounds of one millisecond in which what must happen happens; only ever too few on a machine that
/// stands still.
const ROUNDS_MAX: usize = 10_000;

fn config() -> HandleConfig {
    // Every commit is a part of its own, and stays in the store; no round of maintenance merges so
    // little.
    HandleConfig {
        inline_bytes_max: 0,
        cache_bytes_max: 0,
        history: Some(History::Last(1)),
        ..crate::short_waits()
    }
}

fn open(root: &Root) -> Shard<u64, u64> {
    let io = Io::process().unwrap();
    io.block_on(Shard::open_with(root.clone(), io.clone(), config())).unwrap()
}

/// Writes ten times of ten rows, each to the key that it is given for its time and number, and returns
/// the time after the last.
fn write(root: &Root, key_of: fn(u64, u64) -> u64) -> u64 {
    let shard = open(root);
    timely::execute_directly(move |worker| {
        let (mut input, token) = worker.dataflow(|scope| {
            let (input, commands) = scope.new_input();
            (input, commands.upsert_into(&shard, PipelineConfig::default()).token)
        });
        for time in 0..10 {
            for number in 0..10 {
                input.send((Command::put(key_of(time, number), time, 0), time));
            }
            input.advance_to(time + 1);
            while shard.upper() <= time {
                worker.step_or_park(Some(Duration::from_millis(1)));
            }
        }
        input.close();
        while worker.has_dataflows() {
            worker.step_or_park(None);
        }
        drop(token);
    });
    10
}

#[test]
fn workers_that_look_before_and_after_a_compaction_read_each_row_once() {
    let root = Root::open("mem:", Access::Write).unwrap();
    let end = write(&root, |time, number| time * 10 + number);
    let rows = Arc::new(Mutex::new(Vec::new()));
    let merged = Arc::new(Mutex::new(false));
    let got = Arc::clone(&rows);
    let guards = timely::execute(timely::Config::process(2), move |worker| {
        let first = worker.index() == 0;
        // Bounded: the other one may fail.
        let mut rounds = 0;
        while !first && !*merged.lock().unwrap() && rounds < 2 * ROUNDS_MAX {
            std::thread::park_timeout(Duration::from_millis(1));
            rounds += 1;
        }
        let shard = open(&root);
        let parts = shard.state().batches.iter().map(|batch| batch.parts.len()).sum::<usize>();
        assert!(if first { parts >= 10 } else { shard.state().batches.len() == 1 });
        let before = shard.handle().counters().bytes_read;
        let all: u64 = shard.state().batches.iter().flat_map(|b| &b.parts).map(|p| p.bytes()).sum();
        let (input, token) = worker.dataflow(|scope| {
            let (mut input, commands) = scope.new_input::<Vec<(Command<u64, u64, u64>, u64)>>();
            input.advance_to(end);
            let pipeline = commands.upsert_into(&shard, PipelineConfig::default());
            let got = Arc::clone(&got);
            pipeline.collection().inspect(move |(row, _, diff)| {
                got.lock().unwrap().push((*row, *diff));
            });
            (input, pipeline.token)
        });
        input.close();
        if first {
            for _ in 0..ROUNDS_MAX {
                worker.step_or_park(Some(Duration::from_millis(1)));
                if shard.handle().counters().bytes_read >= before + all {
                    break;
                }
            }
            // What it holds keeps its history apart, not the batches it has read; that it has read
            // them, the shard learns a little later.
            let other = open(&root);
            let merges = (0..ROUNDS_MAX).find(|_| {
                worker.step_or_park(Some(Duration::from_millis(1)));
                other.io().block_on(other.handle().compact()).unwrap().compactions == 1
            });
            assert!(merges.is_some(), "the other handle never merges");
            *merged.lock().unwrap() = true;
        }
        let mut rounds = 0;
        while worker.has_dataflows() {
            worker.step_or_park(Some(Duration::from_millis(1)));
            rounds += 1;
            if rounds > ROUNDS_MAX {
                // A failure holds; what is there by now shows why.
                break;
            }
        }
        drop(token);
    });
    drop(guards.unwrap().join());
    let mut rows = std::mem::take(&mut *rows.lock().unwrap());
    consolidate(&mut rows);
    let expected: Vec<_> = (0..100).map(|key| ((key, key / 10), 1)).collect();
    assert_eq!(rows, expected);
}

/// Says which of three parts a row goes to, by its key and its place in the commit.
type Law = fn(&[u8], usize) -> usize;

/// Appends the rows of one shard to another, in the same commits, dealt to parts by a law.
fn deal(from: &Root, to: &Root, law: Law) {
    let (from, to) = (open(from), open(to));
    let (io, handle) = (to.io().clone(), to.handle().clone());
    io.block_on(async {
        for batch in &from.state().batches {
            let mut dealt: [Vec<Update>; 3] = Default::default();
            for part in &batch.parts {
                let rows = from.handle().fetch(part, batch.lower, batch.upper).await.unwrap();
                for (place, row) in rows.into_iter().enumerate() {
                    dealt[law(row.0.0.as_bytes(), place)].push(row);
                }
            }
            let mut parts = Vec::new();
            for rows in dealt {
                parts.extend(handle.prepare(rows).await.unwrap());
            }
            let (lower, upper) = (batch.lower, batch.upper);
            let append = Append { lower, upper, parts, ..Append::default() };
            let appended = handle.compare_and_append(append).await.unwrap();
            assert!(matches!(appended, Appended::Won { .. }), "{appended:?}");
        }
    });
    io.block_on(to.seal(from.upper())).unwrap();
}

/// Reads a sealed shard with so many workers.
fn read(root: &Root, workers: usize) -> Vec<((u64, u64), isize)> {
    let rows = Arc::new(Mutex::new(Vec::new()));
    let (shard, got) = (open(root), Arc::clone(&rows));
    let guards = timely::execute(timely::Config::process(workers), move |worker| {
        let token = worker.dataflow(|scope| {
            let follow = Pipeline::follow(scope, &shard);
            let got = Arc::clone(&got);
            follow.collection().inspect(move |(row, _, diff)| {
                got.lock().unwrap().push((*row, *diff));
            });
            follow.token
        });
        let mut rounds = 0;
        while worker.has_dataflows() && rounds < ROUNDS_MAX {
            worker.step_or_park(Some(Duration::from_millis(1)));
            rounds += 1;
        }
        drop(token);
    });
    drop(guards.unwrap().join());
    let mut rows = std::mem::take(&mut *rows.lock().unwrap());
    consolidate(&mut rows);
    rows
}

#[test]
fn rows_are_read_once_by_any_number_of_workers_however_they_were_dealt() {
    let key_of = |time, number| (3 * time + number) % 25;
    let written = Root::open("mem:", Access::Write).unwrap();
    let end = write(&written, key_of);
    let puts = (0..end).flat_map(|time| (0..10).map(move |n| (key_of(time, n), time)));
    let live: BTreeMap<u64, u64> = puts.collect();
    let expected: Vec<_> = live.into_iter().map(|row| (row, 1)).collect();
    let laws: [(&str, Law); 3] = [
        ("all in one part", |_, _| 0),
        ("by the key", |key, _| key.iter().map(|byte| usize::from(*byte)).sum::<usize>() % 3),
        // A key's retraction and its insertion are in different parts.
        ("by the place", |_, place| place % 3),
    ];
    for (name, law) in laws {
        let root = Root::open("mem:", Access::Write).unwrap();
        deal(&written, &root, law);
        for workers in 1..=3 {
            assert_eq!(read(&root, workers), expected, "{name}, {workers} workers");
        }
    }
}
