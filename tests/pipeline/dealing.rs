//! Goal: workers of several processes that look at a shard at different moments, before and after a
//! compaction, together read each row once; and one whose history was merged away says so. Method:
//! two workers on threads, each with a shard handle of its own as in two processes; the second one
//! opens it only after the first has read everything and somebody else has merged it. The rows that
//! both get back are compared with those that were written.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use differential_dataflow::consolidation::consolidate;
use differential_upsert::io::Io;
use differential_upsert::shard::{Access, HandleConfig, History};
use differential_upsert::store::Root;
use differential_upsert::{Command, PipelineConfig, Shard, UpsertInto};
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

/// Writes ten times of ten rows, and returns the time after the last.
fn write(root: &Root) -> u64 {
    let shard = open(root);
    timely::execute_directly(move |worker| {
        let (mut input, token) = worker.dataflow(|scope| {
            let (input, commands) = scope.new_input();
            (input, commands.upsert_into(&shard, PipelineConfig::default()).token)
        });
        for time in 0..10 {
            for key in 0..10 {
                input.send((Command::put(time * 10 + key, time, 0), time));
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
    let end = write(&root);
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
