//! Workloads with many times, or with one that stays.

use crate::bed::{Bed, STASH, puts};
use crate::{Allowed, MIB};

/// 200,000 times wait; a rival passes most of them at once, the rest is drained one by one.
pub fn distinct_times() -> Allowed {
    let (times, left) = (200_000u64, 2_000u64);
    let mut bed = Bed::new();
    for first in (0..times).step_by(1000) {
        let rows = puts((first..first + 1000).map(|time| (time % 5000, time)), 50, 0, 0);
        let at = |((command, _), time)| (command, time);
        bed.send(rows.into_iter().zip(first..).map(at).collect());
    }
    bed.close_below(times);
    // The rival's last versions of the keys.
    let passed = times - left;
    for time in passed - 5000..passed {
        let Some((differential_upsert::Command::Put { key, value, .. }, _)) =
            puts(std::iter::once((time % 5000, time)), 50, 0, 0).pop()
        else {
            unreachable!("a put")
        };
        bed.feed((key, value), passed - 1, 1);
    }
    bed.contents.extend((passed - 5000..passed).map(|time| (time % 5000, time)));
    bed.fed_below(passed);
    for time in passed..times {
        bed.until(Some(time + 1));
        bed.commit(time + 1);
    }
    assert_eq!(bed.contents, (times - 5000..times).map(|time| (time % 5000, time)).collect());
    assert_eq!(bed.stats.below(), passed);
    bed.allowed(4 * MIB, 64 * MIB)
}

/// One time stays open while 100,000 keys are written 15 times over: what is kept is a row for each.
pub fn open_for_ever() -> Allowed {
    let (keys, rounds) = (100_000u64, 15u64);
    let mut bed = Bed::new();
    for round in 0..rounds {
        for first in (0..keys).step_by(1000) {
            bed.send(puts((first..first + 1000).map(|k| (k, round)), 100, 0, round));
        }
    }
    bed.close_below(1);
    bed.until(Some(1));
    bed.commit(1);
    assert_eq!(bed.contents, (0..keys).map(|k| (k, rounds - 1)).collect());
    // The latest of each key, as much again while runs are merged, and what has not been merged yet.
    let distinct = keys as usize * 150;
    bed.allowed(distinct * 2 + keys as usize * 24, 3 * distinct + 4 * STASH)
}

/// A backlog of 20 MB stands while 120 MB pass through it.
pub fn standing_backlog() -> Allowed {
    let (times, backlog) = (600u64, 100u64);
    let mut bed = Bed::new();
    for time in 0..times {
        bed.send(puts((0..1000).map(|k| (k, time)), 200, time, 0));
        bed.close_below(time + 1);
        if let Some(done) = time.checked_sub(backlog) {
            bed.until(Some(done + 1));
            bed.commit(done + 1);
        }
    }
    for done in times - backlog..times {
        bed.until(Some(done + 1));
        bed.commit(done + 1);
    }
    assert_eq!(bed.contents, (0..1000).map(|k| (k, times - 1)).collect());
    let stashed = backlog as usize * 1000 * 260;
    bed.allowed(2 * MIB, 2 * stashed + STASH)
}
