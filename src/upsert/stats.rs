//! Owns the counters and gauges of one upsert operator. It does not own how they are shown.

use std::sync::Arc;

use crate::counter::Counter;

/// What one worker's operator has done and holds; cheap to clone, read from any thread.
///
/// Each value is exact, and they are read one by one: a sum over several may be off by what happens
/// in between.
#[derive(Clone, Debug, Default)]
pub struct UpsertStats(Arc<Cells>);

/// Written by the operator's thread alone.
#[derive(Debug, Default)]
struct Cells {
    below: Counter,
    stashed: Counter,
    emitted: Counter,
    superseded: Counter,
    unchanged: Counter,
    work: Counter,
    stash_rows: Counter,
    stash_bytes: Counter,
    spill_bytes: Counter,
    inflight_bytes: Counter,
    overlay_bytes: Counter,
    overlay_bytes_max: Counter,
    state_keys: Counter,
    state_bytes: Counter,
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
                    self.0.$name.add_alone(more);
                }
            )*
        }
    };
}

counters! {
    /// Returns the commands dropped because their time was already persisted.
    below, add_below;
    /// Returns the commands that were ever stashed to wait for their time.
    stashed, add_stashed;
    /// Returns the commands that changed a key when their time came, and were emitted.
    emitted, add_emitted;
    /// Returns the commands that lost to a greater order in the same time, and those that a later patch of it has changed.
    superseded, add_superseded;
    /// Returns the rewrites of a live value, the patches that changed nothing, and the deletes of absent keys.
    unchanged, add_unchanged;
    /// Returns the elementary steps so far: commands received, folded or drained, times sealed,
    /// rows swept. It grows with what is eligible and new, never with what waits.
    work, add_work;
}

impl UpsertStats {
    /// Returns the commands that the stash holds, in memory and spilled.
    pub fn stash_rows(&self) -> u64 {
        self.0.stash_rows.get()
    }

    /// Returns the bytes that the stash holds in memory: what is allocated for it, with each buffer that a row
    /// keeps, and what is being drained.
    pub fn stash_bytes(&self) -> usize {
        self.0.stash_bytes.get() as usize
    }

    /// Returns the bytes of the stash's scratch file.
    pub fn spill_bytes(&self) -> u64 {
        self.0.spill_bytes.get()
    }

    /// Returns the bytes that take what was emitted and is not in a durable part yet; 0 for an operator that stands alone.
    pub fn inflight_bytes(&self) -> usize {
        self.0.inflight_bytes.get() as usize
    }

    /// Returns the bytes of what was emitted and has not come back as feedback, over which the operator runs ahead.
    pub fn overlay_bytes(&self) -> usize {
        self.0.overlay_bytes.get() as usize
    }

    /// Returns the keys with a live value.
    pub fn state_keys(&self) -> usize {
        self.0.state_keys.get() as usize
    }

    /// Returns the bytes allocated for the state.
    pub fn state_bytes(&self) -> usize {
        self.0.state_bytes.get() as usize
    }

    pub(super) fn set_stash(&self, rows: u64, bytes: usize, spilled: u64) {
        self.0.stash_rows.set(rows);
        self.0.stash_bytes.set(bytes as u64);
        self.0.spill_bytes.set(spilled);
    }

    pub(super) fn set_inflight(&self, bytes: usize) {
        self.0.inflight_bytes.set(bytes as u64);
    }

    /// Returns the bound of [`overlay_bytes`](UpsertStats::overlay_bytes).
    pub fn overlay_bytes_max(&self) -> usize {
        self.0.overlay_bytes_max.get() as usize
    }

    pub(super) fn set_overlay(&self, bytes: usize, bytes_max: usize) {
        self.0.overlay_bytes.set(bytes as u64);
        self.0.overlay_bytes_max.set(bytes_max as u64);
    }

    pub(super) fn set_state(&self, keys: usize, bytes: usize) {
        self.0.state_keys.set(keys as u64);
        self.0.state_bytes.set(bytes as u64);
    }
}

impl UpsertStats {
    pub(super) fn set_state_places(&self, _: u64, _: u64, _: u64, _: u64) {}
    pub(super) fn add_cold_reads(&self, _: u64, _: u64) {}
    pub(super) fn add_cold_missed(&self, _: u64) {}
    pub(super) fn set_cold_waiting(&self, _: u64) {}
}
