//! Owns the counters and gauges of a source, to be read from any thread. It does not own their names
//! outside; that is [`metrics`](crate::pipeline::metrics).

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::by_partition::{Partition, named};
use super::freshness::{Clock, Freshness};
use super::lag::{Age, Lag};
use crate::counter::Counter;
use crate::error::Error;

/// What a source is doing; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct SourceStats(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    connects: Counter,
    attempts: Counter,
    units: Counter,
    generations: Counter,
    unbound: Counter,
    rows_read: Counter,
    rows_skipped: Counter,
    messages: Counter,
    /// The greatest place of the messages counted.
    messages_to: Counter,
    quarantined: Counter,
    quarantined_to: Counter,
    position: Counter,
    length: Counter,
    acks: Counter,
    acks_failed: Counter,
    staged: Mutex<StagedNow>,
    lag: Mutex<Lag>,
    freshness: Freshness,
    /// Those of the feed that it is of, which has its own.
    feed: OnceLock<SourceStats>,
    /// Without one it is not known how long anything took.
    clock: OnceLock<Clock>,
    /// Why the last attempt failed.
    attempt_trouble: Mutex<Option<Failing>>,
    /// Why the last ack failed, and how many in a row have.
    ack_trouble: Mutex<Option<(u64, String)>>,
}

/// What was received and is not a complete unit yet.
#[derive(Clone, Debug, Default)]
pub(crate) struct StagedNow {
    pub(crate) waiting: Vec<Waiting>,
    /// Units before it wait for room, and the source is not asked for more.
    pub(crate) held_back: bool,
}

/// What waits in one partition, and for what.
#[derive(Clone, Debug)]
pub(crate) struct Waiting {
    pub(crate) partition: Partition,
    /// For the end of a copy; else for that of a unit.
    pub(crate) copy: bool,
    /// Those of a copy made anew stand with the first of its partitions.
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    pub(crate) since: Instant,
    /// When there was last something new of it.
    pub(crate) moved: Instant,
}

/// Why attempts fail, and of which partitions.
#[derive(Clone, Debug)]
struct Failing {
    partitions: String,
    why: String,
    /// It is not connected.
    away: bool,
}

/// What is wrong with a source while it is tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) what: String,
    /// It does not answer: more than one attempt in a row has failed, and nothing has come since.
    pub(crate) away: bool,
}

impl SourceStats {
    /// How often it was connected.
    pub fn connects(&self) -> u64 {
        self.0.connects.get()
    }

    /// Attempts in a row without success, of the partition that has most.
    pub fn attempts_without_progress(&self) -> u64 {
        self.0.attempts.get()
    }

    /// Units handed on, with rows or without.
    pub fn units(&self) -> u64 {
        self.0.units.get()
    }

    /// How often its position was lost, and a copy begun anew.
    pub fn copies_anew(&self) -> u64 {
        self.0.generations.get()
    }

    /// Bytes of incomplete units, in memory and in the temporary file.
    pub fn staged_bytes(&self) -> u64 {
        self.0.staged.lock().waiting.iter().map(|waiting| waiting.bytes).sum()
    }

    /// Changes of incomplete units.
    pub fn staged_rows(&self) -> u64 {
        self.0.staged.lock().waiting.iter().map(|waiting| waiting.rows).sum()
    }

    /// Partitions in which a unit or a copy is incomplete.
    pub fn staged_partitions(&self) -> u64 {
        let staged = self.0.staged.lock();
        let names = staged.waiting.iter().map(|waiting| &waiting.partition);
        names.collect::<BTreeSet<_>>().len() as u64
    }

    /// How far what is durable lies behind the end of the feed, as far as the feed has said. While it is not connected,
    /// what was current has no age: what came since is not known.
    pub fn lag(&self) -> Lag {
        let lag = *self.0.lag.lock();
        let is_away = self.0.attempt_trouble.lock().is_some();
        match lag.age {
            Age::Current if is_away && !crate::mutant::on("current_while_away") => {
                Lag { age: Age::Unknown, ..lag }
            }
            _ => lag,
        }
    }

    /// Rows of the feed that were read, [skipped](SourceStats::rows_skipped) ones among them.
    ///
    /// This, and what follows down to [`length`](SourceStats::length), only the feed itself can count, into
    /// stats that it was made with (`Lines::stats`); in a pipeline's own stats it is 0.
    pub fn rows_read(&self) -> u64 {
        self.0.rows_read.get()
    }

    /// Rows of those that the feed did not hand over, since the shard had them when it connected.
    pub fn rows_skipped(&self) -> u64 {
        self.0.rows_skipped.get()
    }

    /// Messages of the feed that were read and change no row.
    pub fn messages(&self) -> u64 {
        self.0.messages.get()
    }

    /// Lines of the feed that could not be read, and were written away. A pipeline's own stats have it too, where the feed
    /// [says](crate::source::Source::counts) what it counts into.
    pub fn quarantined(&self) -> u64 {
        let of_feed = self.0.feed.get().map_or(0, |feed| feed.0.quarantined.get());
        self.0.quarantined.get() + of_feed
    }

    /// How far the feed is, in a unit of its own: bytes, commits.
    pub fn position(&self) -> u64 {
        self.0.position.get()
    }

    /// How far the feed goes as far as is known, in the same unit; 0 if it is not.
    pub fn length(&self) -> u64 {
        self.0.length.get()
    }

    /// For a feed: counts rows that were read.
    pub fn add_rows_read(&self, rows: u64) {
        self.0.rows_read.add(rows);
    }

    /// For a feed: says how many rows were read, of all of it.
    pub fn set_rows_read(&self, rows: u64) {
        self.0.rows_read.set(rows);
    }

    /// For a feed: says how many rows were not handed over, for the shard has them.
    pub fn set_rows_skipped(&self, rows: u64) {
        self.0.rows_skipped.set(rows);
    }

    /// For a feed: counts a message that changes no row; once, however often it is read, if `place`, from
    /// 1, increases from message to message.
    pub fn add_message(&self, place: u64) {
        if self.0.messages_to.raise(place) {
            self.0.messages.add(1);
        }
    }

    /// For a feed: counts a line that was written away, in the way of [`add_message`](SourceStats::add_message).
    pub fn add_quarantined(&self, place: u64) {
        if self.0.quarantined_to.raise(place) {
            self.0.quarantined.add(1);
        }
    }

    /// For a feed: says how far it is, and how far it goes if that is known.
    pub fn set_position(&self, position: u64, length: Option<u64>) {
        self.0.position.set(position);
        self.0.length.set(length.unwrap_or(0));
    }

    /// Counts rows from 0 again, for another run over the same feed; messages stay counted.
    pub fn start_again(&self) {
        self.set_rows_read(0);
        self.set_rows_skipped(0);
        self.0.position.set(0);
    }

    /// Says what the feed itself counts into. What it says first counts.
    pub(crate) fn set_feed(&self, feed: SourceStats) {
        self.0.feed.get_or_init(|| feed);
    }

    /// Returns what is incomplete.
    pub(crate) fn staged(&self) -> StagedNow {
        self.0.staged.lock().clone()
    }

    /// Complete units that wait for a time.
    pub fn unbound_units(&self) -> u64 {
        self.0.unbound.get()
    }

    /// Acks that the source took.
    pub fn acks(&self) -> u64 {
        self.0.acks.get()
    }

    /// Acks that failed.
    pub fn acks_failed(&self) -> u64 {
        self.0.acks_failed.get()
    }

    /// Says what is wrong, while it is tried again: why the source does not go on, or why it does not
    /// take acks.
    pub fn trouble(&self) -> Option<String> {
        self.troubles().map(|trouble| trouble.what)
    }

    pub(crate) fn troubles(&self) -> Option<Trouble> {
        if let Some(Failing { partitions, why, away }) = &*self.0.attempt_trouble.lock() {
            let attempts = self.attempts_without_progress();
            let what = match attempts {
                0 => format!("the source: it is being connected again: {why}"),
                1 => format!("the source: 1 attempt without progress{partitions}: {why}"),
                _ => format!("the source: {attempts} attempts without progress{partitions}: {why}"),
            };
            return Some(Trouble { what, away: *away && attempts > 1 });
        }
        let trouble = self.0.ack_trouble.lock();
        let (times, why) = trouble.as_ref()?;
        let what = format!("the source has not taken {times} acks in a row: {why}");
        Some(Trouble { what, away: false })
    }

    pub(super) fn add_connect(&self) {
        self.0.connects.add(1);
    }

    /// Says how many attempts in a row were without success, of which partitions, and why the last one
    /// failed.
    pub(super) fn failed<'a>(
        &self,
        attempts: u32,
        partitions: impl Iterator<Item = &'a Partition>,
        why: String,
    ) {
        self.0.attempts.set(u64::from(attempts));
        let partitions = named(partitions);
        *self.0.attempt_trouble.lock() = Some(Failing { partitions, why, away: true });
    }

    /// Says that nothing is wrong with the source.
    pub(super) fn succeeded(&self) {
        self.0.attempts.set(0);
        *self.0.attempt_trouble.lock() = None;
    }

    /// Says that it is connected again: unless a unit of it fails, what was wrong is over, as far as is
    /// known.
    pub(super) fn connected(&self, poisoned: bool) {
        let mut trouble = self.0.attempt_trouble.lock();
        match &mut *trouble {
            Some(failing) if poisoned => failing.away = false,
            trouble => *trouble = None,
        }
    }

    pub(crate) fn set_unbound(&self, units: u64) {
        self.0.unbound.set(units);
    }

    pub(super) fn add_units(&self, units: u64) {
        self.0.units.add(units);
    }

    pub(super) fn add_generation(&self) {
        self.0.generations.add(1);
    }

    pub(super) fn set_lag(&self, lag: Lag) {
        *self.0.lag.lock() = lag;
    }

    /// Says when changes were made that have become durable.
    pub(super) fn add_durable(&self, made_ms: &[u64]) {
        if let Some(clock) = self.0.clock.get().filter(|_| !made_ms.is_empty()) {
            self.0.freshness.see(made_ms, clock.now_ms());
        }
    }

    /// Returns stats that know what time it is, in milliseconds since 1970.
    pub(crate) fn timed(now_ms: impl Fn() -> u64 + Send + Sync + 'static) -> SourceStats {
        let stats = SourceStats::default();
        stats.0.clock.get_or_init(|| Clock::new(now_ms));
        stats
    }

    /// Returns how long changes took from their commit at the source until they were durable: how many at most each bound of
    /// seconds, how many in all, and their sum.
    pub(crate) fn freshness(&self) -> (Vec<(f64, u64)>, u64, f64) {
        self.0.freshness.counted()
    }

    pub(super) fn set_staged(&self, waiting: Vec<Waiting>) {
        self.0.staged.lock().waiting = waiting;
    }

    pub(super) fn set_held_back(&self, held_back: bool) {
        self.0.staged.lock().held_back = held_back;
    }

    pub(super) fn acked(&self) {
        self.0.acks.add(1);
        *self.0.ack_trouble.lock() = None;
    }

    pub(super) fn ack_failed(&self, error: &Error) {
        self.0.acks_failed.add(1);
        tracing::warn!(%error, "the source does not take an ack");
        let mut trouble = self.0.ack_trouble.lock();
        let times = trouble.as_ref().map_or(0, |(times, _)| *times) + 1;
        *trouble = Some((times, error.to_string()));
    }
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
            let partitions = [Partition::from("")];
            stats.failed(attempts, partitions.iter(), "gone".to_string());
            assert_eq!(stats.troubles().map(|trouble| trouble.away), Some(attempts > 1));
            assert_eq!(stats.trouble().as_deref(), Some(says));
        }
    }
}
