//! Owns the row counters of a pipeline: what became of each command, summed over all workers. It
//! does not own the summary line that shows them.

use std::ops::AddAssign;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::codec::is_error;
use crate::shard::Update;

/// Commands whose effect is in an append, by what they did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Emitted {
    pub(crate) inserted: u64,
    pub(crate) updated: u64,
    pub(crate) deleted: u64,
    pub(crate) errors: u64,
}

impl Emitted {
    pub(crate) fn total(&self) -> u64 {
        self.inserted + self.updated + self.deleted + self.errors
    }

    /// Counts updates of one time in the order of emission, where a key's retraction stands right
    /// before its insertion.
    pub(crate) fn count(rows: &[Update]) -> Emitted {
        let mut emitted = Emitted::default();
        let mut retracted = None;
        for ((key, value), _, diff) in rows {
            if *diff < 0 {
                emitted.deleted += 1;
                retracted = Some(key);
                continue;
            }
            let replaced = retracted.take() == Some(key);
            emitted.deleted -= u64::from(replaced);
            if is_error(value.as_bytes()) {
                emitted.errors += 1;
            } else if replaced {
                emitted.updated += 1;
            } else {
                emitted.inserted += 1;
            }
        }
        emitted
    }
}

impl AddAssign for Emitted {
    fn add_assign(&mut self, more: Emitted) {
        self.inserted += more.inserted;
        self.updated += more.updated;
        self.deleted += more.deleted;
        self.errors += more.errors;
    }
}

/// Commands that never reached an append, by why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Dropped {
    pub(crate) below: u64,
    pub(crate) superseded: u64,
    pub(crate) unchanged: u64,
    pub(crate) lost: u64,
}

/// What became of the commands of a pipeline, summed over all its workers, as far as they have
/// reported. Complete on the process of worker 0 once the pipeline has finished.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Dropped, because their time was already persisted.
    pub below: u64,
    /// Lost to a greater order in the same time, or changed by a later patch of it.
    pub superseded: u64,
    /// Rewrites of the live value, patches that change nothing, and deletes of absent keys.
    pub unchanged: u64,
    /// Emitted here, committed by another writer.
    pub lost: u64,
    /// Committed here: a key that had no value has one.
    pub inserted: u64,
    /// Committed here: a key has another value.
    pub updated: u64,
    /// Committed here: a key has no value any more.
    pub deleted: u64,
    /// Committed here: a key's value is an error.
    pub errors: u64,
    /// Appends won.
    pub wins: u64,
    /// Appends that met another writer's.
    pub losses: u64,
}

/// Shared between the appender and what reads the totals.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedTotals(Arc<Mutex<Totals>>);

impl SharedTotals {
    pub(crate) fn get(&self) -> Totals {
        *self.0.lock()
    }

    fn with(&self, change: impl FnOnce(&mut Totals)) {
        change(&mut self.0.lock());
    }

    pub(crate) fn dropped(&self, more: Dropped) {
        self.with(|totals| {
            totals.below += more.below;
            totals.superseded += more.superseded;
            totals.unchanged += more.unchanged;
            totals.lost += more.lost;
        });
    }

    pub(crate) fn won(&self, more: Emitted) {
        self.with(|totals| {
            totals.wins += 1;
            totals.inserted += more.inserted;
            totals.updated += more.updated;
            totals.deleted += more.deleted;
            totals.errors += more.errors;
        });
    }

    pub(crate) fn lost(&self, rows: u64) {
        self.with(|totals| totals.lost += rows);
    }

    pub(crate) fn lost_race(&self) {
        self.with(|totals| totals.losses += 1);
    }
}

/// Tells what became of a pipeline's commands; cheap to clone.
#[derive(Clone, Debug)]
pub struct Watch(pub(super) SharedTotals);

impl Watch {
    /// Returns the counts of all workers, as far as reported. Only worker 0's are complete.
    pub fn totals(&self) -> Totals {
        self.0.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::packed::Encoded;

    #[test]
    fn a_replacement_counts_once() {
        let bytes = |text: &str| Encoded::from_bytes(text.as_bytes().to_vec());
        let row = |key: &str, value: &str, diff| ((bytes(key), bytes(value)), 0, diff);
        let rows = [
            row("a", "\0old", -1),
            row("a", "\0new", 1),
            row("b", "\0gone", -1),
            row("c", "\0new", 1),
            row("d", "\0good", -1),
            row("d", "\x01bad", 1),
        ];
        let expected = Emitted { inserted: 1, updated: 1, deleted: 1, errors: 1 };
        assert_eq!(Emitted::count(&rows), expected);
    }
}
