//! Owns the limits of a [`Handle`](super::Handle). It does not act on them.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};

use super::state::History;
use crate::error::{Error, ErrorKind};

/// Limits of a [`Handle`](super::Handle); plain values.
#[derive(Clone, Debug)]
pub struct HandleConfig {
    /// Bytes of encoded rows up to which a batch rides inside its log entry. 16 KiB.
    pub inline_bytes_max: usize,
    /// Bytes of encoded rows at which a part ends and the next begins; one row may exceed it.
    /// 8 MiB.
    pub part_bytes_max: usize,
    /// Bytes of encoded parts kept for [`fetch`](super::Handle::fetch); the oldest go first.
    /// 64 MiB.
    pub cache_bytes_max: usize,
    /// Entries between two rollups, at the least: with many batches it is a quarter of their count,
    /// so that the cost of writing states stays linear. 64.
    pub rollup_every: u64,
    /// How often one append asks the store before it gives up, at least 1. 8.
    pub append_attempts_max: u32,
    /// The first pause between two attempts. 10 ms.
    pub retry_delay_min: Duration,
    /// The longest pause between two attempts; each is twice the one before. 1 s.
    pub retry_delay_max: Duration,
    /// How long a lease lasts unless it is renewed, which happens at a quarter of it; at least 1 ms.
    /// 15 minutes.
    pub lease: Duration,
    /// Entries that a collection leaves in the log, so that whoever follows it is rarely overtaken.
    /// 64.
    pub entries_kept: u64,
    /// Entries between two rounds of [`maintain`](super::Handle::maintain), at least 1. 64.
    pub maintain_every: u64,
    /// Bytes of rows that a compaction has in memory, about; two parts at the least. 256 MiB.
    pub compact_bytes_max: usize,
    /// The history a shard gets if this handle makes its first entry; 1 if `None`. Later commits
    /// ignore it: see [`Append::history`](super::Append::history).
    pub history: Option<History>,
}

impl Default for HandleConfig {
    fn default() -> Self {
        HandleConfig {
            inline_bytes_max: 16 << 10,
            part_bytes_max: 8 << 20,
            cache_bytes_max: 64 << 20,
            rollup_every: 64,
            append_attempts_max: 8,
            retry_delay_min: Duration::from_millis(10),
            retry_delay_max: Duration::from_secs(1),
            lease: Duration::from_secs(15 * 60),
            entries_kept: 64,
            maintain_every: 64,
            compact_bytes_max: 256 << 20,
            history: None,
        }
    }
}

impl HandleConfig {
    /// Checks the values.
    ///
    /// # Errors
    ///
    /// `Invalid`, naming the field.
    pub fn validate(&self) -> Result<(), Error> {
        let wrong = |what: &str| Err(Error::new(ErrorKind::Invalid, what));
        // Offsets inside a part are 32 bits wide.
        if self.part_bytes_max == 0 || self.part_bytes_max > 1 << 30 {
            return wrong("part_bytes_max must be between 1 and 1 GiB");
        }
        if self.inline_bytes_max > self.part_bytes_max {
            return wrong("inline_bytes_max must not exceed part_bytes_max");
        }
        if self.rollup_every == 0 || self.append_attempts_max == 0 {
            return wrong("rollup_every and append_attempts_max must be at least 1");
        }
        if self.maintain_every == 0 || self.lease.as_millis() == 0 {
            return wrong("maintain_every and lease must be at least 1");
        }
        if self.history == Some(History::Last(0)) {
            return wrong("a history of 0 times");
        }
        Ok(())
    }

    /// Returns the pauses between attempts: doubling, no jitter, so a run replays.
    pub(crate) fn delays(&self) -> impl Iterator<Item = Duration> + use<> {
        ExponentialBuilder::default()
            .with_min_delay(self.retry_delay_min)
            .with_max_delay(self.retry_delay_max)
            .with_max_times(self.append_attempts_max as usize - 1)
            .build()
    }
}
