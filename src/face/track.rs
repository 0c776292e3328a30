//! Owns what a pipeline was over time, as far as it was looked at: rates of the last ten minutes, and since when each
//! frontier stands. It reads no clock: each look says when it is. It does not own what is looked at.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::health::Seen;

/// How many looks are kept: ten minutes of one a second.
pub(super) const LOOKS_MAX: usize = 600;

/// For how long a pipeline that has committed is at work.
const LATELY: Duration = Duration::from_secs(5);

/// Over how many looks a pace is taken.
const PACE_LOOKS: usize = 30;

/// What was seen of one pipeline.
#[derive(Clone, Debug, Default)]
pub(super) struct Track {
    last: Option<(Instant, (u64, u64))>,
    /// Rows and commits per second, from one look to the next.
    pub(super) rates: VecDeque<(f64, f64)>,
    /// The frontiers of the input, the output, the shard and the feedback.
    pub(super) frontiers: [Stands; 4],
    /// Parts of the shard read by its readers.
    pub(super) parts: Pace,
}

/// A frontier, and since when it is there.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stands {
    at: Option<u64>,
    since: Option<Instant>,
    /// It was seen to move.
    pub(super) moved: bool,
}

impl Track {
    /// Takes a look: what is seen, with the rows received, the commits made and the parts read so far.
    pub(super) fn look(&mut self, now: Instant, seen: &Seen, counts: (u64, u64), parts: u64) {
        let report = &seen.report;
        let frontiers = [report.input, report.output, report.upper, seen.feedback];
        for (stands, at) in self.frontiers.iter_mut().zip(frontiers) {
            stands.look(now, at);
        }
        self.parts.look(now, parts);
        if let Some((then, before)) = self.last.replace((now, counts)) {
            let seconds = now.saturating_duration_since(then).as_secs_f64().max(1e-3);
            // A pipeline that began anew counts from 0.
            let rate = |now: u64, before: u64| tenths(now.saturating_sub(before) as f64 / seconds);
            self.rates.push_back((rate(counts.0, before.0), rate(counts.1, before.1)));
            if self.rates.len() > LOOKS_MAX {
                self.rates.pop_front();
            }
        }
    }

    /// Whether the shard, which is at `upper` now, was seen to move within the last seconds.
    pub(super) fn moved_lately(&self, now: Instant, upper: u64) -> bool {
        let [_, _, shard, _] = &self.frontiers;
        let moved = shard.moved || shard.at != Some(upper);
        moved && shard.lasts(now, upper).is_some_and(|lasts| lasts < LATELY)
    }
}

impl Stands {
    fn look(&mut self, now: Instant, at: u64) {
        if self.at != Some(at) {
            self.moved = self.at.is_some();
            (self.at, self.since) = (Some(at), Some(now));
        }
    }

    /// Returns for how long it has been where it is; `None` where it is seen for the first time.
    pub(super) fn lasts(&self, now: Instant, at: u64) -> Option<Duration> {
        match self.at == Some(at) {
            true => self.since.map(|since| now.saturating_duration_since(since)),
            false => self.at.map(|_| Duration::ZERO),
        }
    }
}

/// How fast a count grows, over the last looks.
#[derive(Clone, Debug, Default)]
pub(super) struct Pace(VecDeque<(Instant, u64)>);

impl Pace {
    pub(super) fn look(&mut self, now: Instant, count: u64) {
        if self.0.back().is_some_and(|(_, last)| *last > count) {
            self.0.clear();
        }
        self.0.push_back((now, count));
        if self.0.len() > PACE_LOOKS {
            self.0.pop_front();
        }
    }

    /// Returns how much comes per second; `None` before two looks.
    pub(super) fn rate(&self) -> Option<f64> {
        let ((then, before), (now, count)) = (self.0.front()?, self.0.back()?);
        let seconds = now.saturating_duration_since(*then).as_secs_f64();
        (seconds > 0.0).then(|| tenths((count - before) as f64 / seconds))
    }

    /// Returns in how many seconds a count that is at `at` gets to `to` at this pace, if it does.
    pub(super) fn eta(&self, at: u64, to: u64) -> Option<f64> {
        let rate = self.rate().filter(|rate| *rate > 0.0)?;
        (to > at).then(|| tenths((to - at) as f64 / rate))
    }
}

/// More digits say nothing.
pub(super) fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

#[cfg(test)]
#[path = "track_tests.rs"]
mod tests;
