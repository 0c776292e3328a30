//! Owns how a contestant is driven and timed: rows of a time are made outside the clock, handed over, and
//! waited for. It does not own what a contestant does with them.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::load::{Record, mix};
use crate::measure;
use crate::sums::Sums;

/// How far and how long a contestant is driven.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    pub rows_per_time: u64,
    /// Rows handed over and not yet waited for, where a contestant can have such.
    pub window_rows: u64,
    /// The same in times; 0 waits for each.
    pub window_times: u64,
    /// No time is handed over past this.
    pub limit: Duration,
    /// Which rows are this worker's.
    pub share: Share,
}

/// Which part of the rows a worker has.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    pub worker: usize,
    pub workers: usize,
}

impl Share {
    /// The whole, where there is one worker.
    pub const ALL: Share = Share { worker: 0, workers: 1 };

    /// Returns this worker's records of one time.
    fn of(self, records: &[Record]) -> Vec<Record> {
        // All of a key on one worker: a peer without an order key can only fold what it has.
        let mine = |record: &&Record| mix(record.key) as usize % self.workers == self.worker;
        records.iter().filter(mine).copied().collect()
    }
}

/// What one run of a contestant took.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Figures {
    /// Times that were handed over, and have come to their end.
    pub times: u64,
    pub rows: u64,
    /// Wall time, without that of making rows.
    pub seconds: f64,
    /// CPU of all threads, user and system.
    pub cpu_seconds: f64,
    /// What of that went into making rows, on this thread.
    pub made_cpu_seconds: f64,
    /// Peak memory above that of the idle start, in bytes.
    pub peak: u64,
    /// Bytes that went to the disk.
    pub written: u64,
    /// Bytes that came from the disk: that no page cache had.
    #[serde(default)]
    pub fetched: u64,
    /// Bytes of the contestant's directory at the end.
    pub disk: u64,
    /// The most bytes that the directory had, as far as it was looked at.
    #[serde(default)]
    pub disk_peak: u64,
    /// Rows whose prior one was not in memory, and the bytes of the state at the end, where a contestant says so.
    #[serde(default)]
    pub missed: u64,
    #[serde(default)]
    pub state_bytes: u64,
    pub sums: Sums,
}

/// Drives a contestant over `records`. `make` makes one time's rows, outside the clock; `give` gets them
/// with their time, and the time below which all has to have come to its end before it returns.
///
/// The sums and the directory are for the caller to fill in.
pub fn drive<R>(
    records: &[Record],
    pace: Pace,
    mut make: impl FnMut(u64, &[Record]) -> R,
    mut give: impl FnMut(u64, u64, R),
) -> Figures {
    let window = (pace.window_rows / pace.rows_per_time).min(pace.window_times);
    let idle = measure::forget_peak();
    let (written, fetched) = (measure::written(), measure::fetched());
    let cpu = measure::process_cpu();
    let start = Instant::now();
    let (mut made, mut made_cpu) = (Duration::ZERO, 0);
    let (mut times, mut rows) = (0, 0);
    // Some thousand rows at once: looking at a clock takes as long as a row or two.
    let block = pace.rows_per_time * 1024u64.div_ceil(pace.rows_per_time);
    let mut left = records.chunks(block as usize).peekable();
    while let Some(chunk) = left.next() {
        let (before, before_cpu) = (Instant::now(), measure::thread_cpu());
        let batches: Vec<R> = chunk
            .chunks(pace.rows_per_time as usize)
            .zip(times..)
            .map(|(rows, time)| make(time, &pace.share.of(rows)))
            .collect();
        made_cpu += measure::thread_cpu() - before_cpu;
        made += before.elapsed();
        rows += chunk.len() as u64;
        // Several workers have to agree on the last time, and only a count is the same for all.
        let last = left.peek().is_none()
            || (pace.share.workers == 1 && start.elapsed() - made >= pace.limit);
        let end = times + batches.len() as u64;
        for batch in batches {
            let until = match last && times + 1 == end {
                true => end,
                false => (times + 1).saturating_sub(window),
            };
            give(times, until, batch);
            times += 1;
        }
        if last {
            break;
        }
    }
    Figures {
        times,
        rows,
        seconds: (start.elapsed() - made).as_secs_f64(),
        cpu_seconds: (measure::process_cpu() - cpu) as f64 / 1e9,
        made_cpu_seconds: made_cpu as f64 / 1e9,
        peak: measure::peak().saturating_sub(idle),
        written: measure::written() - written,
        fetched: measure::fetched() - fetched,
        ..Figures::default()
    }
}
