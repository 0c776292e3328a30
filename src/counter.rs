//! Owns a counter or gauge that any thread reads while others write it. It does not own what is counted,
//! nor how it is shown: each table of counters names its own.
//!
//! Values are exact one by one. Read together they may differ by what happens in between.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A number that is written by some threads and read by any.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Returns the value.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    /// Adds, from any thread.
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Relaxed);
    }

    /// Takes away what was added before, from any thread.
    pub(crate) fn take(&self, less: u64) {
        self.0.fetch_sub(less, Relaxed);
    }

    /// Adds, if no other thread writes: a plain load and store, without a locked instruction.
    pub(crate) fn add_alone(&self, more: u64) {
        self.set(self.get() + more);
    }

    /// Sets the value.
    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    /// Raises the value, and returns whether it was less.
    pub(crate) fn raise(&self, value: u64) -> bool {
        self.0.fetch_max(value, Relaxed) < value
    }
}
