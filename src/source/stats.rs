//! Owns the counters and gauges of a source, to be read from any thread. It does not own their names
//! outside; that is [`metrics`](crate::metrics).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::Error;

/// What a source is doing; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct SourceStats(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    connects: AtomicU64,
    attempts: AtomicU64,
    units: AtomicU64,
    generations: AtomicU64,
    staged: AtomicU64,
    unbound: AtomicU64,
    acks: AtomicU64,
    acks_failed: AtomicU64,
    /// Why the last attempt failed, and how many in a row reached no boundary.
    attempt_trouble: Mutex<Option<String>>,
    /// Why the last ack failed, and how many in a row have.
    ack_trouble: Mutex<Option<(u64, String)>>,
}

impl SourceStats {
    /// How often it was connected.
    pub fn connects(&self) -> u64 {
        self.0.connects.load(Ordering::Relaxed)
    }

    /// Attempts in a row that reached no boundary.
    pub fn attempts_without_progress(&self) -> u64 {
        self.0.attempts.load(Ordering::Relaxed)
    }

    /// Units handed on, with rows or without.
    pub fn units(&self) -> u64 {
        self.0.units.load(Ordering::Relaxed)
    }

    /// How often its position was lost, and a copy begun anew.
    pub fn copies_anew(&self) -> u64 {
        self.0.generations.load(Ordering::Relaxed)
    }

    /// Bytes of incomplete units, in memory and in the temporary file.
    pub fn staged_bytes(&self) -> u64 {
        self.0.staged.load(Ordering::Relaxed)
    }

    /// Complete units that wait for a time.
    pub fn unbound_units(&self) -> u64 {
        self.0.unbound.load(Ordering::Relaxed)
    }

    /// Acks that the source took.
    pub fn acks(&self) -> u64 {
        self.0.acks.load(Ordering::Relaxed)
    }

    /// Acks that failed.
    pub fn acks_failed(&self) -> u64 {
        self.0.acks_failed.load(Ordering::Relaxed)
    }

    /// Says what is wrong, while it is tried again: why the source is not connected, or why it does
    /// not take acks.
    pub fn trouble(&self) -> Option<String> {
        if let Some(why) = &*lock(&self.0.attempt_trouble) {
            return Some(match self.attempts_without_progress() {
                0 => format!("the source: it is being connected again: {why}"),
                1 => format!("the source: 1 attempt without progress: {why}"),
                attempts => format!("the source: {attempts} attempts without progress: {why}"),
            });
        }
        let trouble = lock(&self.0.ack_trouble);
        let (times, why) = trouble.as_ref()?;
        Some(format!("the source has not taken {times} acks in a row: {why}"))
    }

    pub(super) fn add_connect(&self) {
        self.0.connects.fetch_add(1, Ordering::Relaxed);
    }

    /// Says how many attempts in a row have reached no boundary, and why the last one failed.
    pub(super) fn set_attempts(&self, spent: u32, why: Option<String>) {
        self.0.attempts.store(u64::from(spent), Ordering::Relaxed);
        *lock(&self.0.attempt_trouble) = why;
    }

    /// Says that it is connected again: what was wrong is over, as far as is known.
    pub(super) fn connected(&self) {
        *lock(&self.0.attempt_trouble) = None;
    }

    pub(crate) fn set_unbound(&self, units: u64) {
        self.0.unbound.store(units, Ordering::Relaxed);
    }

    pub(super) fn add_units(&self, units: u64) {
        self.0.units.fetch_add(units, Ordering::Relaxed);
    }

    pub(super) fn add_generation(&self) {
        self.0.generations.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn set_staged(&self, bytes: u64) {
        self.0.staged.store(bytes, Ordering::Relaxed);
    }

    pub(super) fn acked(&self) {
        self.0.acks.fetch_add(1, Ordering::Relaxed);
        *lock(&self.0.ack_trouble) = None;
    }

    pub(super) fn ack_failed(&self, error: &Error) {
        self.0.acks_failed.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(%error, "the source does not take an ack");
        let mut trouble = lock(&self.0.ack_trouble);
        let times = trouble.as_ref().map_or(0, |(times, _)| *times) + 1;
        *trouble = Some((times, error.to_string()));
    }
}

/// Locks what no panic can leave half done: every critical section here is an assignment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_counts_only_what_there_was() {
        let stats = SourceStats::default();
        assert_eq!(stats.trouble(), None);
        for (attempts, says) in [
            (0, "the source: it is being connected again: gone"),
            (1, "the source: 1 attempt without progress: gone"),
            (7, "the source: 7 attempts without progress: gone"),
        ] {
            stats.set_attempts(attempts, Some("gone".to_string()));
            assert_eq!(stats.trouble().as_deref(), Some(says));
        }
    }
}
