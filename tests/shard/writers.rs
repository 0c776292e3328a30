//! Goal: whatever the store does to its writers, the shard holds what was won, nothing that was
//! lost, and what is unknown at most once; also while they compact and collect under each other, hold
//! history and let it go, and disagree about what time it is.
//! Method: several writers append to one store through random faults, in a random order; a model
//! that knows only the answers is compared with the contents at every time that can be told apart,
//! and `verify` runs. Each run has a seed, printed on failure; `WRITERS_SEED=n` runs just that one.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::common::{Stopped, config, contents, io, io_at, row, runtime, schema};
use crate::random::{Random, for_seeds};
use bytes::Bytes;
use differential_upsert::ErrorKind;
use differential_upsert::shard::{
    Access, Append, Appended, Handle, HandleConfig, HandleOptions, History, verify,
};
use differential_upsert::store::{Fault, Faults, Operation, Report, Root};
use differential_upsert::unstable::engine::rollup;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Answer {
    Won,
    Lost,
    Unknown,
}

const WRITERS: u64 = 3;
const STEPS: u64 = 60;

async fn one_run(seed: u64) {
    let random = Random::new(seed);
    let root = Root::open("mem:", Access::Write).unwrap();
    let mut all_faults = Vec::new();
    let (mut writers, mut clocks, mut holds) = (Vec::new(), Vec::new(), Vec::new());
    let history = random.below(2);
    for n in 0..WRITERS {
        let calm = std::sync::Arc::new(AtomicU64::new(1));
        let (dice, quiet) = (random.clone(), calm.clone());
        let faults = Faults::new(move |action| {
            let writes = action.operation.writes();
            if quiet.load(Ordering::Relaxed) == 1 || action.operation == Operation::Sync {
                return Fault::None;
            }
            match dice.below(12) {
                0 if writes => Fault::Late,
                1 => Fault::Fail { applied: true, report: Report::Timeout },
                2 => Fault::Fail { applied: false, report: Report::Timeout },
                3 => Fault::Fail { applied: false, report: Report::Error },
                _ => Fault::None,
            }
        });
        let config = HandleConfig {
            inline_bytes_max: random.pick(&[0, 1_000]),
            part_bytes_max: 1_000,
            rollup_every: 3,
            outage_max: Duration::from_millis(3),
            lease: Duration::from_secs(100),
            entries_kept: random.below(4),
            maintain_every: 1 + random.below(9),
            compact_bytes_max: 1,
            history: Some([History::Keep, History::Last(3)][history as usize]),
            ..config()
        };
        let clock = std::sync::Arc::new(Stopped::default());
        clock.advance(Duration::from_secs(random.below(3) * 3_600));
        clocks.push(clock.clone());
        let io = io_at(1 + n * 1_000_000, clock);
        let root = root.with_faults(faults.clone());
        let writer =
            Handle::open(root, io, HandleOptions::write("data", schema()).with_config(config));
        writers.push(writer.await.unwrap());
        calm.store(0, Ordering::Relaxed);
        all_faults.push(faults);
    }
    let mut answers: BTreeMap<String, Answer> = BTreeMap::new();
    for step in 0..STEPS {
        let writer = &writers[random.index(writers.len())];
        // Sometimes from what it knows, however old; sometimes from the newest.
        let lower = match random.below(3) {
            0 => writer.refresh().await.unwrap_or_else(|_| writer.state()).upper,
            _ => writer.state().upper,
        };
        let key = format!("{step}");
        let Ok(parts) = writer.prepare(vec![row(&key, "v", lower, 1)]).await else { continue };
        let append = Append { lower, upper: lower + 1, parts: parts.clone(), ..Append::default() };
        let answer = match writer.compare_and_append(append).await {
            Ok(Appended::Won { .. }) => Answer::Won,
            Ok(_) => {
                writer.discard(parts).await;
                Answer::Lost
            }
            Err(e) if e.kind() == ErrorKind::Unavailable => Answer::Lost,
            Err(e) if e.kind() == ErrorKind::LeaseLost => Answer::Lost,
            Err(e) if e.kind() == ErrorKind::Indeterminate => Answer::Unknown,
            Err(e) => panic!("seed {seed}, step {step}: {e}"),
        };
        answers.insert(key, answer);
        let other = random.index(writers.len());
        // They fail as they like; what they leave is looked at below.
        match random.below(12) {
            0 => drop(writers[other].compact().await),
            1 => drop(writers[other].collect().await),
            2 | 3 => writers[other].maintain().await,
            4 => drop(writers[other].close().await),
            5 => {
                let since = writers[other].state().upper.saturating_sub(random.below(9));
                holds.extend(writers[other].hold(since).await.map(|hold| (other, hold)));
            }
            6 if !holds.is_empty() => {
                let (holder, hold) = holds.swap_remove(random.index(holds.len()));
                writers[holder].release(hold).await;
            }
            7 => clocks[other].advance(Duration::from_secs(random.below(200))),
            _ => {}
        }
        if random.one_in(4) {
            all_faults[random.index(writers.len())].land().await;
        }
    }
    for faults in all_faults {
        faults.land().await;
    }
    let reader = Handle::open(
        root.clone(),
        io(u64::MAX / 2),
        HandleOptions::read("data").with_config(config()),
    );
    let reader = reader.await.unwrap_or_else(|e| panic!("seed {seed}: {e}"));
    let (since, upper) = (reader.state().since, reader.state().upper);
    for as_of in since..upper {
        let found = contents(&reader, as_of).await;
        let found = found.unwrap_or_else(|e| panic!("seed {seed}, as of {as_of}: {e}"));
        assert_eq!(found.len() as u64, as_of + 1, "seed {seed}: one row per time");
    }
    let found = match upper {
        0 => Vec::new(),
        _ => contents(&reader, upper - 1).await.unwrap_or_else(|e| panic!("seed {seed}: {e}")),
    };
    let found: BTreeMap<_, _> = found.into_iter().map(|(key, _, diff)| (key, diff)).collect();
    for (key, answer) in &answers {
        let count = found.get(key).copied().unwrap_or(0);
        let fits = match answer {
            Answer::Won => count == 1,
            Answer::Lost => count == 0,
            Answer::Unknown => count == 0 || count == 1,
        };
        assert!(fits, "seed {seed}: row {key} is there {count} times, the answer was {answer:?}");
    }
    assert_eq!(found.len() as u64, upper, "seed {seed}: one row per time");
    verify(root, io(1)).await.unwrap_or_else(|e| panic!("seed {seed}: {e}"));
}

#[test]
fn random_writers_and_faults() {
    for_seeds("WRITERS", 1_000, |seed| runtime().block_on(one_run(seed)));
}

#[test]
fn verify_finds_a_rollup_that_the_log_does_not_make() {
    runtime().block_on(async {
        let root = Root::open("mem:", Access::Write).unwrap();
        let handle = crate::common::open(&root, 1).await.unwrap();
        for time in 0..2 {
            let _ = crate::common::append(&handle, time, time + 1, vec![]).await.unwrap();
        }
        let mut forged = (*handle.state()).clone();
        forged.rows = Some(1);
        let key = rollup::key("data", forged.seqno, forged.token);
        root.blob().put(&key, Bytes::from(rollup::encode(&forged).unwrap())).await.unwrap();
        let error = verify(root, io(1)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains("data/rollup/"), "{error}");
    });
}

#[test]
fn verify_finds_two_live_values() {
    runtime().block_on(async {
        let root = Root::open("mem:", Access::Write).unwrap();
        let handle = crate::common::open(&root, 1).await.unwrap();
        let rows = vec![row("k", "a", 0, 1), row("k", "b", 0, 1)];
        let _ = crate::common::append(&handle, 0, 1, rows).await.unwrap();
        let error = verify(root, io(1)).await.unwrap_err();
        assert!(error.to_string().contains("one live value for key \"k\" at time 0"), "{error}");
    });
}
