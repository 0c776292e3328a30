//! Owns the counters and gauges of one upsert operator. It does not own how they are shown.

use std::cell::Cell;
use std::rc::Rc;

/// What one worker's operator has done and holds; cheap to clone, read on the worker's thread.
#[derive(Clone, Debug, Default)]
pub struct UpsertStats(Rc<Cells>);

#[derive(Debug, Default)]
struct Cells {
    below: Cell<u64>,
    superseded: Cell<u64>,
    unchanged: Cell<u64>,
    work: Cell<u64>,
    stash_bytes: Cell<usize>,
    state_keys: Cell<usize>,
    state_bytes: Cell<usize>,
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident, $add:ident;)*) => {
        impl UpsertStats {
            $(
                $(#[$doc])*
                pub fn $name(&self) -> u64 {
                    self.0.$name.get()
                }

                pub(crate) fn $add(&self, more: u64) {
                    self.0.$name.set(self.0.$name.get() + more);
                }
            )*
        }
    };
}

counters! {
    /// Returns the commands dropped because their time was already persisted.
    below, add_below;
    /// Returns the commands that lost to a greater order in the same time.
    superseded, add_superseded;
    /// Returns the rewrites of a live value and the deletes of absent keys.
    unchanged, add_unchanged;
    /// Returns the elementary steps so far: commands received, folded or drained, times sealed,
    /// rows swept. It grows with what is eligible and new, never with what waits.
    work, add_work;
}

impl UpsertStats {
    /// Returns the bytes that the stash holds in memory.
    pub fn stash_bytes(&self) -> usize {
        self.0.stash_bytes.get()
    }

    /// Returns the keys with a live value.
    pub fn state_keys(&self) -> usize {
        self.0.state_keys.get()
    }

    /// Returns the bytes allocated for the state.
    pub fn state_bytes(&self) -> usize {
        self.0.state_bytes.get()
    }

    pub(super) fn set_gauges(&self, stash_bytes: usize, state_keys: usize, state_bytes: usize) {
        self.0.stash_bytes.set(stash_bytes);
        self.0.state_keys.set(state_keys);
        self.0.state_bytes.set(state_bytes);
    }
}
