//! Goal: past its bound in bytes the stash spills, and nothing else changes: not what is emitted,
//! nor what is counted.
//!
//! Method: the same feed runs with and without room, against a fold; most of it spills, many times,
//! so that a key's commands are spread over runs and memory.
//!
//! `SPILL_SEED` replays a seed.

use std::collections::BTreeMap;

use crate::rig::{Bytes, Layout, Rig, collection, consolidated};
use differential_upsert::{Command, UpsertConfig};
use fastrand::Rng;

const TIMES: u64 = 6;

/// `(time, key, value or delete, order)`; key `None` resets: all keys, or with a value those of its collection.
type Line = (u64, Option<u8>, Option<u8>, u8);

fn feed(random: &mut Rng) -> Vec<Line> {
    let line = |random: &mut Rng| {
        let key = (random.u32(..200) != 0).then(|| random.u8(..40));
        let value = (random.u32(..4) != 0).then(|| random.u8(..200));
        (random.u64(..TIMES), key, value, random.u8(..250))
    };
    (0..3000).map(|_| line(random)).collect()
}

fn oracle(lines: &[Line], upto: u64) -> BTreeMap<u8, Vec<u8>> {
    let mut now = BTreeMap::new();
    for time in 0..=upto {
        for key in 0..40 {
            let is_about = |line: &&Line| match (line.1, line.2) {
                (Some(k), _) => k == key,
                (None, None) => true,
                (None, Some(of)) => collection(of) == collection(key),
            };
            let ours = lines.iter().filter(|line| line.0 == time).filter(is_about);
            let best = ours.map(|(_, k, value, order)| {
                (*order, value.filter(|_| k.is_some()).map(Bytes::value))
            });
            match best.max() {
                Some((_, Some(value))) => drop(now.insert(key, value.unpack().unwrap())),
                Some((_, None)) => drop(now.remove(&key)),
                None => {}
            }
        }
    }
    now
}

/// Runs the feed, in batches; returns the contents after each time, and the counts.
fn run(lines: &[Line], stash_bytes_max: usize) -> (Vec<BTreeMap<u8, Vec<u8>>>, [u64; 3]) {
    let config = UpsertConfig { stash_bytes_max, ..UpsertConfig::default() };
    let mut rig = Rig::<Bytes>::alone(config);
    for batch in lines.chunks(70) {
        for (time, key, value, order) in batch {
            let command = match (key, value) {
                (None, None) => Command::reset(*order),
                (None, Some(of)) => Command::reset_of(collection(*of).to_string(), *order),
                (Some(key), Some(value)) => {
                    Command::put(Bytes::key(*key), Bytes::value(*value), *order)
                }
                (Some(key), None) => Command::delete(Bytes::key(*key), *order),
            };
            rig.send(command, *time);
        }
        rig.settle();
        let bytes = rig.stats.stash_bytes();
        // What names the runs is in memory, and a page of each while they are merged.
        let allowed = stash_bytes_max + (64 << 10);
        assert!(bytes <= allowed, "{bytes} bytes in memory, {allowed} allowed");
    }
    rig.commands = None;
    let (mut contents, mut now) = (Vec::new(), BTreeMap::new());
    for time in 0..TIMES {
        rig.settle();
        let next = (time + 1 < TIMES).then_some(time + 1);
        assert_eq!(rig.frontier(), next, "{:?}", rig.errors.lock().unwrap());
        let raw = rig.emitted.borrow().clone();
        assert_eq!(consolidated(raw.clone()).len(), raw.len(), "time {time} is not minimal");
        // Retractions first, to fold them.
        let mut sorted = raw;
        sorted.sort_unstable_by_key(|(_, _, diff)| *diff);
        for ((key, value), _, diff) in sorted {
            let (key, value) = (key.unpack().unwrap(), value.unpack().unwrap());
            if diff == -1 {
                assert_eq!(now.remove(&key), Some(value));
            } else {
                assert_eq!(now.insert(key, value), None);
            }
        }
        contents.push(now.clone());
        rig.commit(time + 1);
    }
    let stats = &rig.stats;
    (contents, [stats.below(), stats.superseded(), stats.unchanged()])
}

#[test]
fn spilled_commands_take_the_same_effect() {
    let given = std::env::var("SPILL_SEED").ok().and_then(|seed| seed.parse().ok());
    for seed in given.map_or(0..8, |seed: u64| seed..seed + 1) {
        eprintln!("SPILL_SEED={seed}");
        let lines = feed(&mut Rng::with_seed(seed));
        let expected: Vec<_> = (0..TIMES).map(|time| oracle(&lines, time)).collect();
        let (roomy, counts) = run(&lines, 1 << 30);
        assert_eq!(roomy, expected);
        for stash_bytes_max in [0, 500, 20_000] {
            let (tight, tight_counts) = run(&lines, stash_bytes_max);
            assert_eq!(tight, expected, "with {stash_bytes_max} bytes");
            assert_eq!(tight_counts, counts, "with {stash_bytes_max} bytes");
        }
    }
}

/// Times that another writer persists are shed from disk as from memory, and counted.
#[test]
fn spilled_times_are_shed() {
    let config = UpsertConfig { stash_bytes_max: 0, ..UpsertConfig::default() };
    let mut rig = Rig::<Bytes>::alone(config);
    for time in 0..10 {
        for key in 0..20 {
            rig.put(time, key, key, 0);
            rig.put(time, key, key + 1, 1);
        }
        rig.settle();
    }
    rig.close_below(10);
    for key in 0..20 {
        rig.feed(key, key + 1, 0, 1);
    }
    rig.fed_below(9);
    rig.settle();
    assert_eq!((rig.take(), rig.frontier()), (vec![], Some(10)));
    // The last time is unchanged, the nine others are below; superseded ones went before.
    let stats = &rig.stats;
    assert_eq!((stats.below(), stats.superseded(), stats.unchanged()), (180, 200, 20));
    assert_eq!(stats.stash_bytes(), 0);
}
