//! Workloads that are hard on the state, or on what keeps one row per key.

use differential_upsert::Command;

use crate::bed::{Bed, Packing, key, puts, value};
use crate::{Allowed, MIB};

/// A million puts of one key in one time.
pub fn hot_key() -> Allowed {
    let mut bed = Bed::new();
    for batch in 0..1000 {
        let puts = (0..1000).map(|n| (7, batch * 1000 + n));
        let mut rows = puts_in_order(puts, batch * 1000);
        rows.truncate(1000);
        bed.send(rows);
    }
    bed.commands = None;
    bed.until(None);
    bed.commit(1);
    assert_eq!(bed.contents.into_iter().collect::<Vec<_>>(), [(7, 999_999)]);
    Allowed { ..Bed::new().allowed(0, 0) }
}

fn puts_in_order(rows: impl Iterator<Item = (u64, u64)>, first: u64) -> Vec<crate::bed::Timed> {
    let rows = puts(rows, 100, 0, 0).into_iter().zip(first..);
    let ordered = |((command, time), order)| match command {
        Command::Put { key, value, .. } => (Command::put(key, value, order), time),
        other => (other, time),
    };
    rows.map(ordered).collect()
}

/// 100,000 keys of 1 KB come and go, one after another, as a history says that nobody has merged: 100 MB for no key.
pub fn ever_new_keys() -> Allowed {
    let mut bed = Bed::new();
    let keys = 100_000;
    for first in (0..keys).step_by(1000) {
        for (command, time) in puts((first..first + 1000).map(|k| (k, k)), 1000, 0, 0) {
            if let Command::Put { key, value, .. } = command {
                bed.feed((key.clone(), value.clone()), time, 1);
                bed.feed((key, value), time, -1);
            }
        }
        bed.fed_below(0);
    }
    bed.fed_below(1);
    assert_eq!(bed.stats.state_keys(), 0);
    // One is put and deleted through the operator, too.
    bed.send(puts(std::iter::once((7, 1)), 1000, 1, 0));
    bed.send(deletes(7..8, 2));
    for time in [1, 2] {
        bed.close_below(time + 1);
        bed.until(Some(time + 1));
        bed.commit(time + 1);
    }
    assert_eq!((bed.contents.len(), bed.stats.state_keys()), (0, 0));
    bed.allowed(0, 0)
}

fn deletes(keys: std::ops::Range<u64>, time: u64) -> Vec<crate::bed::Timed> {
    let mut packing = Packing::default();
    keys.for_each(|k| packing.add(&key(k)));
    packing.rows().into_iter().map(|key| (Command::delete(key, 0), time)).collect()
}

/// 200,000 keys, then a reset and 100,000 puts in one time, half of them of keys that there were.
pub fn reset_over_many() -> Allowed {
    let mut bed = Bed::new();
    for batch in 0..200 {
        bed.send(puts((batch * 1000..batch * 1000 + 1000).map(|k| (k, 1)), 100, 0, 0));
    }
    bed.close_below(1);
    bed.until(Some(1));
    bed.commit(1);
    let full = bed.stats.state_bytes();
    bed.send(vec![(Command::reset(5), 1)]);
    for batch in 150..250 {
        bed.send(puts((batch * 1000..batch * 1000 + 1000).map(|k| (k, 2)), 100, 1, 6));
    }
    bed.close_below(2);
    bed.until(Some(2));
    bed.commit(2);
    assert_eq!(bed.contents, (150_000..250_000).map(|k| (k, 2)).collect());
    assert_eq!(bed.stats.state_keys(), 100_000);
    // The test's own fold of the contents, too.
    bed.allowed(2 * full + 200_000 * 24, 64 * MIB)
}

/// Resets of one collection and of everything, over a state of eight times what it may have in memory.
pub fn reset_over_cold() -> Allowed {
    const STATE: usize = 8 * MIB;
    let keys = 100_000u64;
    let mut bed = Bed::with_state(Some(STATE));
    let fill = |bed: &mut Bed, time: u64| {
        for first in (0..keys).step_by(1000) {
            bed.send(puts((first..first + 1000).map(|k| (k, time)), 600, time, 0));
        }
        bed.close_below(time + 1);
        bed.until(Some(time + 1));
        bed.commit(time + 1);
    };
    fill(&mut bed, 0);
    let places = bed.stats.state_places();
    assert!(places.cold_bytes > 5 * STATE as u64, "{places:?}");
    bed.send(vec![(Command::reset_of("even".into(), 5), 1)]);
    // One that the reset is after, and one that is after the reset; of the others, one is touched.
    bed.send(puts([(0, 7), (3, 7)].into_iter(), 600, 1, 4));
    bed.send(puts(std::iter::once((2, 7)), 600, 1, 6));
    bed.close_below(2);
    bed.until(Some(2));
    bed.commit(2);
    let mut expected: std::collections::BTreeMap<u64, u64> =
        (0..keys).filter(|k| k % 2 == 1).map(|k| (k, 0)).collect();
    expected.extend([(2, 7), (3, 7)]);
    assert_eq!(bed.contents, expected);
    drop(expected);
    fill(&mut bed, 2);
    bed.send(vec![(Command::reset(5), 3)]);
    bed.send(puts((keys - 10..keys + 10).map(|k| (k, 9)), 600, 3, 6));
    bed.close_below(4);
    bed.until(Some(4));
    bed.commit(4);
    assert_eq!(bed.contents, (keys - 10..keys + 10).map(|k| (k, 9)).collect());
    assert_eq!(bed.stats.state_keys(), 20);
    // The test's own folds of the contents, too.
    let Allowed { bounds, live, .. } = bed.allowed(3 * keys as usize * 24, 0);
    Allowed { bounds: bounds + STATE, live, spilled: (bed.spilled, 2 * keys * 700) }
}

/// A restart that reads 30 versions of 4,000 keys, the newest first: until the oldest has come, no key has
/// one live value.
pub fn unmerged_history() -> Allowed {
    let mut bed = Bed::new();
    let (keys, versions) = (4_000, 30);
    for version in (0..versions).rev() {
        let rows = puts((0..keys).map(|k| (k, version)), 1000, 0, 0);
        let more = (version > 0).then(|| puts((0..keys).map(|k| (k, version - 1)), 1000, 0, 0));
        for (rows, diff) in [(Some(rows), 1), (more, -1)] {
            for (command, _) in rows.into_iter().flatten() {
                if let Command::Put { key, value, .. } = command {
                    bed.feed((key, value), version, diff);
                }
            }
            bed.fed_below(0);
        }
    }
    bed.fed_below(versions);
    for _ in 0..200 {
        bed.step();
    }
    assert_eq!(bed.stats.state_keys(), keys as usize);
    bed.send(puts((0..keys).map(|k| (k, versions - 1)), 1000, versions, 0));
    bed.close_below(versions + 1);
    bed.until(Some(versions + 1));
    assert_eq!(bed.stats.unchanged(), keys);
    assert_eq!(value(1, 1000).len(), 1000);
    // Two versions of a key are counted at a time, and the state has room for half as much again.
    bed.allowed(4 * keys as usize * 1100, 0)
}
