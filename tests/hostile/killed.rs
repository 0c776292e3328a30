//! Resets through the durable loop, over a state of many times what it may have in memory, by writers that die in the midst
//! of them.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command as Process;
use std::time::Duration;

use differential_upsert::io::Io;
use differential_upsert::shard::HandleConfig;
use differential_upsert::store::{Access, Root};
use differential_upsert::{Command, PipelineConfig, Shard, UpsertInto};
use timely::dataflow::operators::Input;

use crate::{Allowed, MIB};

/// Where a child of this process has its shard, and the time in whose drain it dies.
const CHILD: [&str; 2] = ["HOSTILE_SHARD", "HOSTILE_TIME"];

const KEYS: u64 = 40_000;
const BYTES: usize = 1_000;
const TIMES: u64 = 4;
const ROUNDS_MAX: usize = 60_000;

const STATE: usize = 4 * MIB;
const STASH: usize = 8 * MIB;
const INFLIGHT: usize = 4 * MIB;
const OVERLAY: usize = 4 * MIB;
const PART: usize = MIB;
const CACHE: usize = 2 * MIB;
const READ: usize = 4 * MIB;
const COMPACT: usize = 4 * MIB;
const BESIDE: usize = 8 * MIB;

type Row = (Command<u64, String, u64>, u64);

fn text(number: u64) -> String {
    format!("{number:08}{}", "x".repeat(BYTES))
}

fn puts(time: u64, keys: std::ops::Range<u64>, order: u64) -> impl Iterator<Item = Row> {
    keys.map(move |key| (Command::put(key, text(time), order), time))
}

/// All keys; a reset of half of them; all keys; a reset of all. A few are put before and after each reset.
fn feed() -> impl Iterator<Item = Row> {
    let first = puts(0, 0..KEYS, 0);
    let half = [(Command::reset_of("even".to_string(), 5), 1)];
    let half = half.into_iter().chain(puts(1, 0..4, 4)).chain(puts(1, 4..8, 6));
    let all = [(Command::reset(5), 3)].into_iter().chain(puts(3, 0..4, 4));
    let all = all.chain(puts(3, KEYS - 4..KEYS + 4, 6));
    first.chain(half).chain(puts(2, 0..KEYS, 0)).chain(all)
}

/// What is there as of a time: each key, and the time whose value it has.
fn expected(time: u64) -> BTreeMap<u64, u64> {
    match time {
        0 | 2 => (0..KEYS).map(|key| (key, time)).collect(),
        1 => {
            let odd = (0..KEYS).filter(|key| key % 2 == 1).map(|key| (key, 0));
            odd.chain([(1, 1), (3, 1), (4, 1), (5, 1), (6, 1), (7, 1)]).collect()
        }
        _ => (KEYS - 4..KEYS + 4).map(|key| (key, time)).collect(),
    }
}

fn open(directory: &Path) -> Shard<u64, String> {
    let io = Io::process().expect("a runtime");
    let root = Root::open(&format!("file:{}", directory.display()), Access::Write);
    let config = HandleConfig {
        cache_bytes_max: CACHE,
        part_bytes_max: PART,
        read_bytes_max: READ,
        compact_bytes_max: COMPACT,
        ..HandleConfig::default()
    };
    let shard = io.block_on(Shard::open_with(root.expect("a directory"), io.clone(), config));
    let parity = |key: &u64| if key.is_multiple_of(2) { "even" } else { "odd" };
    shard.expect("a shard").with_collections("parity", parity)
}

/// Runs the feed to its end, or dies in the midst of the drain of a time.
fn run(shard: &Shard<u64, String>, dies_at: Option<u64>) {
    let shard = shard.clone();
    timely::execute_directly(move |worker| {
        let config = PipelineConfig {
            state_bytes_max: Some(STATE),
            stash_bytes_max: STASH,
            inflight_bytes_max: INFLIGHT,
            overlay_bytes_max: OVERLAY,
            part_bytes_max: PART,
            ..PipelineConfig::default()
        };
        let (mut input, token, stats, health) = worker.dataflow(|scope| {
            let (input, commands) = scope.new_input();
            let pipeline = commands.upsert_into(&shard, config);
            (input, pipeline.token, pipeline.stats, pipeline.health)
        });
        let look = || {
            // A reset waits for its turn: what is emitted now is of that time.
            let bytes = stats.inflight_bytes();
            if dies_at == Some(shard.state().upper) && bytes > MIB {
                println!("{bytes} bytes of time {} emitted", shard.state().upper);
                std::process::abort();
            }
        };
        for (number, (command, time)) in feed().enumerate() {
            if *input.time() < time {
                input.advance_to(time);
            }
            input.send((command, time));
            if number % 500 == 499 {
                input.flush();
                worker.step();
                look();
            }
        }
        input.advance_to(TIMES);
        for _ in 0..ROUNDS_MAX {
            if shard.state().upper >= TIMES {
                break;
            }
            worker.step_or_park(Some(Duration::from_millis(1)));
            look();
        }
        let report = health.report();
        assert_eq!(shard.state().upper, TIMES, "{report:?}");
        drop((input, token));
        while worker.has_dataflows() {
            worker.step_or_park(Some(Duration::from_millis(10)));
        }
    });
}

/// The part of a child.
pub fn child() {
    let [Ok(directory), Ok(time)] = CHILD.map(std::env::var) else { return };
    run(&open(Path::new(&directory)), Some(time.parse().expect("a time")));
}

fn check(shard: &Shard<u64, String>, upper: u64) {
    let mut seen = BTreeMap::new();
    let read = shard.io().block_on(async {
        let mut contents = shard.stream(upper - 1).await?;
        while let Some(rows) = contents.next().await? {
            for (key, value) in rows {
                let value = value.expect("a value");
                assert_eq!(value.len(), 8 + BYTES);
                let again = seen.insert(key, value[..8].parse().expect("a time"));
                assert_eq!(again, None, "key {key}");
            }
        }
        Ok::<_, differential_upsert::Error>(())
    });
    read.expect("a shard");
    assert!(seen == expected(upper - 1), "{} keys below {upper}", seen.len());
}

/// Two writers die, each in the drain of a reset; a third one does the rest.
pub fn resets() -> Allowed {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("shard");
    for time in [1, 3] {
        let mut child = Process::new(std::env::current_exe().expect("this test"));
        child.args(["a_child_of_a_test", "--exact", "--nocapture"]);
        child.env(CHILD[0], &path).env(CHILD[1], time.to_string());
        let ended = child.output().expect("a process");
        let said = String::from_utf8_lossy(&ended.stdout);
        assert!(said.contains(&format!("of time {time} emitted")), "{said}");
        assert!(!ended.status.success());
        let shard = open(&path);
        assert_eq!(shard.state().upper, time, "nothing of what was emitted is there");
        check(&shard, time);
    }
    let shard = open(&path);
    run(&shard, None);
    check(&shard, TIMES);
    let bounds = STATE + STASH + INFLIGHT + OVERLAY + 2 * CACHE + COMPACT + 2 * READ + BESIDE;
    // The index, and this test's folds.
    Allowed { bounds, live: KEYS as usize * (40 + 3 * 40), spilled: (0, 0) }
}
