//! Owns the counters and gauges of one upsert operator. It does not own how they are shown.

use std::iter::Sum;
use std::sync::{Arc, OnceLock};

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
    hot_rows: Counter,
    hot_bytes: Counter,
    cold_rows: Counter,
    cold_bytes: Counter,
    cold_reads: Counter,
    cold_read_bytes: Counter,
    cold_missed: Counter,
    cold_waiting: Counter,
    image_bytes: Counter,
    image_upper: Counter,
    image_made_ms: Counter,
    start: OnceLock<String>,
}

/// Where the rows of a state are: in memory, or in its scratch file. Bytes are those of the chunks that hold them, with
/// what is dead in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StatePlaces {
    /// Live rows in memory.
    pub hot_rows: u64,
    /// Bytes allocated for their chunks.
    pub hot_bytes: u64,
    /// Live rows in the file alone.
    pub cold_rows: u64,
    /// Bytes of the file.
    pub cold_bytes: u64,
}

impl Sum for StatePlaces {
    fn sum<I: Iterator<Item = StatePlaces>>(places: I) -> StatePlaces {
        places.fold(StatePlaces::default(), |sum, one| StatePlaces {
            hot_rows: sum.hot_rows + one.hot_rows,
            hot_bytes: sum.hot_bytes + one.hot_bytes,
            cold_rows: sum.cold_rows + one.cold_rows,
            cold_bytes: sum.cold_bytes + one.cold_bytes,
        })
    }
}

/// The newest image of a state that a start may begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StateImage {
    /// A start on it reads what the shard has gained from this time on.
    pub upper: u64,
    /// Its bytes, with those of the rows that it refers to.
    pub bytes: u64,
    /// When it was made: milliseconds since the Unix epoch, by the clock of the process that made it.
    pub made_ms: u64,
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
    /// Returns the commands drained whose prior row had to be read from the scratch file. Over those drained,
    /// which are [`emitted`](UpsertStats::emitted) and [`unchanged`](UpsertStats::unchanged), it is the miss rate.
    cold_missed, add_cold_missed;
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

    /// Returns where the rows of the state are.
    pub fn state_places(&self) -> StatePlaces {
        StatePlaces {
            hot_rows: self.0.hot_rows.get(),
            hot_bytes: self.0.hot_bytes.get(),
            cold_rows: self.0.cold_rows.get(),
            cold_bytes: self.0.cold_bytes.get(),
        }
    }

    pub(crate) fn set_state_places(&self, places: StatePlaces) {
        self.0.hot_rows.set(places.hot_rows);
        self.0.hot_bytes.set(places.hot_bytes);
        self.0.cold_rows.set(places.cold_rows);
        self.0.cold_bytes.set(places.cold_bytes);
    }

    /// Returns the reads of the scratch file that were ever begun for rows.
    pub fn cold_reads(&self) -> u64 {
        self.0.cold_reads.get()
    }

    /// Returns the bytes that these reads ask for.
    pub fn cold_read_bytes(&self) -> u64 {
        self.0.cold_read_bytes.get()
    }

    /// Says that reads of so many bytes were begun.
    pub(crate) fn add_cold_reads(&self, reads: u64, bytes: u64) {
        self.0.cold_reads.add_alone(reads);
        self.0.cold_read_bytes.add_alone(bytes);
    }

    /// Returns the reads that are under way.
    pub fn cold_waiting(&self) -> u64 {
        self.0.cold_waiting.get()
    }

    /// Says how many reads are under way; say first, by [`add_cold_reads`](Self::add_cold_reads), which were begun.
    pub(crate) fn set_cold_waiting(&self, reads: u64) {
        self.0.cold_waiting.set(reads);
    }

    /// Returns the newest image of the state, if one was made or begun with.
    pub fn image(&self) -> Option<StateImage> {
        let (upper, made_ms) = (self.0.image_upper.get(), self.0.image_made_ms.get());
        let bytes = Some(self.0.image_bytes.get()).filter(|bytes| *bytes > 0)?;
        Some(StateImage { upper, bytes, made_ms })
    }

    /// Returns what the state began with, if it has a directory: its image, or the shard's contents, and why.
    pub fn state_start(&self) -> Option<&str> {
        self.0.start.get().map(String::as_str)
    }

    pub(super) fn set_state_start(&self, line: String) {
        // The first one counts.
        let _ = self.0.start.set(line);
    }

    /// Says which image a start would begin with now; one has more than 0 bytes.
    pub(crate) fn set_image(&self, image: StateImage) {
        self.0.image_upper.set(image.upper);
        self.0.image_made_ms.set(image.made_ms);
        self.0.image_bytes.set(image.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_add_up_and_an_image_has_bytes() {
        let (one, two) = (UpsertStats::default(), UpsertStats::default());
        let places =
            |n| StatePlaces { hot_rows: n, hot_bytes: 2 * n, cold_rows: 3 * n, cold_bytes: 4 * n };
        one.set_state_places(places(1));
        two.set_state_places(places(10));
        let sum: StatePlaces = [&one, &two].map(UpsertStats::state_places).into_iter().sum();
        assert_eq!(sum, places(11));
        assert_eq!(one.image(), None);
        let image = StateImage { upper: 0, bytes: 1, made_ms: 7 };
        one.set_image(image);
        assert_eq!((one.image(), two.image()), (Some(image), None));
    }
}
