//! Goal: a state of which two small chunks are in memory, and the rest in a file, comes to the same collection; and a drain
//! that waits for its rows is woken. Method: one and two workers on a shard in memory, against a map; rounds of one
//! millisecond bound the wait and are never the assertion.

use std::collections::BTreeMap;
use std::time::Duration;

use differential_upsert::{Command, PipelineConfig, Shard, UpsertInto};
use timely::dataflow::operators::Input;

const ROUNDS_MAX: usize = 20_000;
const KEYS: u64 = 5_000;
const TIMES: u64 = 30;

/// What is commanded at a time: puts of other lengths, deletes, and now and then a reset.
fn commands(time: u64) -> Vec<Command<u64, String, u64>> {
    let mut random = fastrand::Rng::with_seed(time);
    let count = if time == 0 { KEYS } else { random.u64(..KEYS / 4) };
    let mut all: Vec<_> = (0..count)
        .map(|order| {
            let key = if time == 0 { order } else { random.u64(..KEYS) };
            match random.u32(..5) {
                0 => Command::delete(key, order),
                _ => Command::put(key, "v".repeat(random.usize(..60)), order),
            }
        })
        .collect();
    if time % 11 == 10 {
        all.push(Command::reset(count / 2));
    }
    all
}

fn expected(times: u64) -> BTreeMap<u64, String> {
    let mut map = BTreeMap::new();
    for time in 0..times {
        let mut all = commands(time);
        // A reset goes before what has its order.
        all.sort_by_key(|command| match command {
            Command::Reset { order } => (*order, 0),
            Command::Put { order, .. } | Command::Delete { order, .. } => (*order, 1),
            other => panic!("{other:?}"),
        });
        for command in all {
            match command {
                Command::Put { key, value, .. } => drop(map.insert(key, value)),
                Command::Delete { key, .. } => drop(map.remove(&key)),
                _ => map.clear(),
            }
        }
    }
    map
}

fn reaches(workers: usize, state_bytes_max: usize, ahead: bool) {
    let shard = Shard::<u64, String>::open("mem:").unwrap();
    let written = shard.clone();
    let config = PipelineConfig {
        state_bytes_max: Some(state_bytes_max),
        ahead,
        ..PipelineConfig::default()
    };
    let run = timely::execute(timely::Config::process(workers), move |worker| {
        let (index, shard) = (worker.index(), written.clone());
        let (mut input, stats, token) = worker.dataflow(|scope| {
            let (input, commands) = scope.new_input();
            let pipeline = commands.upsert_into(&shard, config.clone());
            (input, pipeline.stats, pipeline.token)
        });
        for time in 0..TIMES {
            if index == 0 {
                commands(time).into_iter().for_each(|command| input.send((command, time)));
            }
            input.advance_to(time + 1);
        }
        input.close();
        for _ in 0..ROUNDS_MAX {
            worker.step_or_park(Some(Duration::from_millis(1)));
            if shard.state().upper >= TIMES {
                break;
            }
        }
        let reads = stats.cold_reads();
        drop(token);
        (shard.state().upper, reads)
    });
    for outcome in run.unwrap().join() {
        let (upper, reads) = outcome.unwrap();
        assert_eq!(upper, TIMES, "rows are commanded and read back: {reads} reads");
        assert!(reads > 100, "{reads} reads");
    }
    let rows = shard.io().block_on(shard.snapshot(TIMES - 1)).unwrap();
    let contents: BTreeMap<_, _> =
        rows.into_iter().map(|(key, value)| (key, value.unwrap())).collect();
    assert_eq!(contents, expected(TIMES));
}

#[test]
fn two_chunks_in_memory_are_enough() {
    for ahead in [false, true] {
        reaches(1, 0, ahead);
        reaches(2, 0, ahead);
        reaches(1, 100_000, ahead);
    }
}
