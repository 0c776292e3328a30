//! Workloads whose rows are large, or pin what is large.

use differential_upsert::Command;

use crate::bed::{Bed, STASH, Timed, puts};
use crate::{Allowed, MIB};

/// Puts a time of such rows, one row a container, and then another version of each.
fn two_versions(keys: u64, bytes: usize) -> Allowed {
    let mut bed = Bed::new();
    for time in 0..2 {
        for key in 0..keys {
            bed.send(puts(std::iter::once((key, time)), bytes, time, 0));
        }
        bed.close_below(time + 1);
        bed.until(Some(time + 1));
        bed.commit(time + 1);
    }
    assert_eq!(bed.contents, (0..keys).map(|k| (k, 1)).collect());
    let live = keys as usize * (bytes + 100);
    // On its way through a row is there a few times: as sent, as read back from scratch, as emitted.
    let mut allowed = bed.allowed(live, live + 2 * STASH);
    allowed.bounds += 6 * bytes;
    allowed
}

pub fn large_values() -> Allowed {
    two_versions(150, 1_000_000)
}

pub fn huge_values() -> Allowed {
    two_versions(12, 16 * MIB)
}

/// Containers of 1 MiB in which all rows but one are of a key that each container writes again.
pub fn pinned_buffers() -> Allowed {
    let mut bed = Bed::new();
    for batch in 0..300u64 {
        let rows = (0..1000).map(|n| (if n == 500 { 1000 + batch } else { 7 }, batch));
        let rows: Vec<Timed> = puts(rows, 1000, 0, batch);
        bed.send(rows);
    }
    // The same by time: of each container one row waits, the others are long persisted.
    for batch in 0..300u64 {
        let rows = (0..1000).map(|n| (2000 + n, batch));
        let mut rows: Vec<Timed> = puts(rows, 1000, 0, 1000);
        let Some((Command::Put { key, value, .. }, _)) = rows.pop() else { unreachable!("puts") };
        drop(rows);
        bed.send(vec![(Command::put(key, value, 1000), 1 + batch)]);
    }
    for time in 0..=300 {
        bed.close_below(time + 1);
        bed.until(Some(time + 1));
        bed.commit(time + 1);
    }
    let expected = (0..300).map(|b| (1000 + b, b)).chain([(7, 299), (2999, 299)]).collect();
    assert_eq!(bed.contents, expected);
    bed.allowed(2 * MIB, 64 * MIB)
}
