//! The same where the bounds of the durable loop count: through a shard in a directory.

use std::time::Duration;

use differential_upsert::io::Io;
use differential_upsert::shard::{HandleConfig, History};
use differential_upsert::store::{Access, Root};
use differential_upsert::{Command, PipelineConfig, Shard, UpsertInto};
use timely::dataflow::operators::Input;

use crate::{Allowed, MIB};

const STASH: usize = 8 * MIB;
const INFLIGHT: usize = 8 * MIB;
const PART: usize = 2 * MIB;
const CACHE: usize = 4 * MIB;
/// What a merge has in memory.
const COMPACT: usize = 8 * MIB;
/// Bytes of parts that the reader of the shard has asked for and not handed on.
const READ: usize = 8 * MIB;
/// What is there whatever the bounds say: a piece emitted, pages of runs, the runtime.
const BESIDE: usize = 8 * MIB;
const ROUNDS_MAX: usize = 60_000;

type Durable = Shard<u64, String>;

fn open(directory: &tempfile::TempDir) -> Durable {
    let io = Io::process().expect("a runtime");
    let url = format!("file:{}", directory.path().join("shard").display());
    let root = Root::open(&url, Access::Write).expect("a directory");
    let config = HandleConfig {
        cache_bytes_max: CACHE,
        part_bytes_max: PART,
        read_bytes_max: READ,
        compact_bytes_max: COMPACT,
        ..HandleConfig::default()
    };
    io.block_on(Shard::open_with(root, io.clone(), config)).expect("a shard")
}

fn text(number: u64, bytes: usize) -> String {
    format!("{number:08}{}", "x".repeat(bytes.saturating_sub(8)))
}

/// Commits times with one put of each key, one row a container; returns the scratch file at its largest.
fn run(
    shard: &Durable,
    times: std::ops::Range<u64>,
    keys: u64,
    bytes: usize,
    history: Option<History>,
) -> u64 {
    let shard = shard.clone();
    timely::execute_directly(move |worker| {
        let config = PipelineConfig {
            stash_bytes_max: STASH,
            inflight_bytes_max: INFLIGHT,
            part_bytes_max: PART,
            history,
            ..PipelineConfig::default()
        };
        let (mut input, token, stats, health) = worker.dataflow(|scope| {
            let (input, commands) = scope.new_input();
            let pipeline = commands.upsert_into(&shard, config);
            (input, pipeline.token, pipeline.stats, pipeline.health)
        });
        let mut spilled = 0;
        input.advance_to(times.start);
        for time in times.clone() {
            for key in 0..keys {
                input.send((Command::put(key, text(time, bytes), 0), time));
                if bytes > 1 << 16 || key % 500 == 499 {
                    input.flush();
                    worker.step();
                }
                spilled = spilled.max(stats.spill_bytes());
            }
            input.advance_to(time + 1);
            for _ in 0..ROUNDS_MAX {
                if shard.state().upper > time {
                    break;
                }
                worker.step_or_park(Some(Duration::from_millis(1)));
            }
            let report = health.report();
            assert!(shard.state().upper > time, "time {time} is not committed: {report:?}");
        }
        drop((input, token));
        while worker.has_dataflows() {
            worker.step_or_park(Some(Duration::from_millis(10)));
        }
        spilled
    })
}

fn allowed(live: usize, row: usize, spilled: (u64, u64)) -> Allowed {
    let bounds = STASH + INFLIGHT + CACHE + COMPACT + 2 * READ + BESIDE + 8 * row;
    Allowed { bounds, live, spilled }
}

fn two_versions(keys: u64, bytes: usize) -> Allowed {
    let directory = tempfile::tempdir().expect("a directory");
    let shard = open(&directory);
    let spilled = run(&shard, 0..2, keys, bytes, None);
    let state = shard.state();
    assert_eq!(state.upper, 2);
    drop(state);
    let live = keys as usize * (bytes + 100);
    let mut seen = 0;
    let io = shard.io().clone();
    drop(shard);
    // Looked at outside of what is measured would be better; one part at a time is enough.
    let shard = open(&directory);
    for batch in &shard.state().batches {
        for part in &batch.parts {
            let rows =
                io.block_on(shard.handle().fetch(part, batch.lower, batch.upper)).expect("a part");
            seen += rows.iter().map(|(_, _, diff)| diff).sum::<isize>();
        }
    }
    assert_eq!(seen, keys as isize);
    allowed(live, bytes, (spilled, (live + 2 * STASH) as u64))
}

pub fn small_values() -> Allowed {
    two_versions(60_000, 100)
}

pub fn large_values() -> Allowed {
    two_versions(120, 1_000_000)
}

pub fn huge_values() -> Allowed {
    two_versions(6, 16 * MIB)
}

/// 40 versions of 4,000 keys, kept apart, are read by a restart: twenty times what lives.
pub fn restart() -> Allowed {
    let directory = tempfile::tempdir().expect("a directory");
    let (keys, bytes, times) = (4_000, 1_000, 40);
    let spilled = run(&open(&directory), 0..times, keys, bytes, Some(History::Keep));
    let again = run(&open(&directory), times..times + 1, keys, bytes, None);
    let live = 2 * keys as usize * (bytes + 100);
    allowed(live, bytes, (spilled.max(again), (3 * STASH) as u64))
}
