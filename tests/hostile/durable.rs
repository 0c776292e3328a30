//! The same where the bounds of the durable loop count: through a shard in a directory.

use std::time::Duration;

use differential_upsert::codec::{Postcard, encode_stored};
use differential_upsert::io::Io;
use differential_upsert::shard::{Append, Appended, HandleConfig, History};
use differential_upsert::store::{Access, Root};
use differential_upsert::{Command, Encoded, Packed, PipelineConfig, Promotion, Shard, UpsertInto};
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

/// Commits one time as a writer does that is no pipeline: a new value of each key.
fn commit(shard: &Durable, time: u64, keys: u64, bytes: usize) {
    let row = |key: u64, of: u64, diff: isize| {
        let mut value = Vec::new();
        encode_stored::<String, Postcard>(&Ok(text(of, bytes)), &mut value).expect("a value");
        let key: Encoded = Packed::pack(&key).expect("a key").cast();
        ((key, Encoded::from_bytes(value)), time, diff)
    };
    let old = time.checked_sub(1);
    let rows = (0..keys)
        .flat_map(|key| old.map(|old| row(key, old, -1)).into_iter().chain([row(key, time, 1)]));
    let won = shard.io().block_on(async {
        let parts = shard.handle().prepare(rows.collect()).await?;
        let append = Append { lower: time, upper: time + 1, parts, ..Append::default() };
        shard.handle().compare_and_append(append).await
    });
    assert!(matches!(won, Ok(Appended::Won { .. })), "{won:?}");
}

/// A standby takes in ten times its stash while the active does nothing, follows the active for a while, and is promoted.
pub fn paused_active() -> Allowed {
    const OVERLAY: usize = 4 * MIB;
    let (keys, bytes, times, followed) = (2_000u64, 1_000usize, 40u64, 15u64);
    let directory = tempfile::tempdir().expect("a directory");
    let active = open(&directory);
    let io = active.io().clone();
    commit(&active, 0, keys, bytes);
    let shard = open(&directory);
    let promotion = Promotion::default();
    let (active, standby) = (active.clone(), shard.clone());
    let spilled = timely::execute_directly(move |worker| {
        let shard = standby;
        let config = PipelineConfig {
            stash_bytes_max: STASH,
            inflight_bytes_max: INFLIGHT,
            overlay_bytes_max: OVERLAY,
            part_bytes_max: PART,
            standby: Some(promotion.clone()),
            checked: false,
            ..PipelineConfig::default()
        };
        let (mut input, token, stats, health) = worker.dataflow(|scope| {
            let (input, commands) = scope.new_input();
            let pipeline = commands.upsert_into(&shard, config);
            (input, pipeline.token, pipeline.stats, pipeline.health)
        });
        for time in 0..times {
            for key in 0..keys {
                input.send((Command::put(key, text(time, bytes), 0), time));
                if key % 500 == 499 {
                    input.flush();
                    worker.step();
                }
            }
            input.advance_to(time + 1);
            assert!(stats.stash_bytes() <= STASH + STASH / 8 + 4 * MIB, "{}", stats.stash_bytes());
        }
        // However long nothing comes, nothing grows.
        for _ in 0..2_000 {
            worker.step();
        }
        let spilled = stats.spill_bytes();
        assert!(spilled > 8 * STASH as u64, "{spilled} bytes spilled");
        assert_eq!(shard.state().upper, 1);
        for time in 1..followed {
            commit(&active, time, keys, bytes);
            worker.step();
        }
        promotion.promote();
        for _ in 0..ROUNDS_MAX {
            if shard.state().upper >= times {
                break;
            }
            worker.step_or_park(Some(Duration::from_millis(1)));
        }
        let report = health.report();
        assert_eq!(shard.state().upper, times, "{report:?}");
        drop((input, token));
        while worker.has_dataflows() {
            worker.step_or_park(Some(Duration::from_millis(10)));
        }
        spilled
    });
    let mut seen = 0;
    io.block_on(async {
        let mut contents = shard.stream(times - 1).await?;
        while let Some(rows) = contents.next().await? {
            for (key, value) in rows {
                assert_eq!(value.as_deref(), Ok(&*text(times - 1, bytes)), "key {key}");
                seen += 1;
            }
        }
        Ok::<_, differential_upsert::Error>(())
    })
    .expect("a shard");
    assert_eq!(seen, keys);
    // The active has caches of its own.
    let live = 2 * keys as usize * (bytes + 100) + 2 * CACHE;
    let stashed = times * keys * (bytes as u64 + 100);
    let Allowed { bounds, live, .. } = allowed(live, bytes, (0, 0));
    Allowed { bounds: bounds + OVERLAY, live, spilled: (spilled, stashed + STASH as u64) }
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
