//! Owns what a [`Handle`](super::Handle) is opened with: which shard, and the limits. It does not act on
//! them.

use std::time::Duration;

use super::engine::entry::History;
use super::engine::format::{Schema, Upgrades};
use super::engine::space::Pace;
use crate::error::{Error, ErrorKind, at_least, in_order};
use crate::store::{Access, Bounds};

/// Which shard of a root is opened, and for what.
#[derive(Clone, Debug)]
pub struct HandleOptions {
    /// Its name in the root: `data` has rows.
    pub name: String,
    /// What its keys and values are: a new shard needs it, another stored one is refused. `None` takes
    /// what is stored.
    pub schema: Option<Schema>,
    /// Which values of another shape are read, too; `None` reads those of the schema alone.
    pub upgrades: Option<Upgrades>,
    /// For what.
    pub access: Access,
    /// Its limits.
    pub config: HandleConfig,
}

impl HandleOptions {
    /// Opens a shard for reading, whatever its keys and values are.
    pub fn read(name: &str) -> HandleOptions {
        let (access, config) = (Access::Read, HandleConfig::default());
        HandleOptions { name: name.to_string(), schema: None, upgrades: None, access, config }
    }

    /// Opens a shard for writing; `None` takes the schema that is stored.
    pub fn write(name: &str, schema: impl Into<Option<Schema>>) -> HandleOptions {
        let (schema, access, config) = (schema.into(), Access::Write, HandleConfig::default());
        HandleOptions { name: name.to_string(), schema, upgrades: None, access, config }
    }

    /// Returns the same with keys and values that the stored ones must be.
    pub fn with_schema(self, schema: Schema) -> HandleOptions {
        HandleOptions { schema: Some(schema), ..self }
    }

    /// Returns the same for a program that reads values of other shapes, too.
    pub fn with_upgrades(self, upgrades: Upgrades) -> HandleOptions {
        HandleOptions { upgrades: Some(upgrades), ..self }
    }

    /// Returns the same with other limits.
    pub fn with_config(self, config: HandleConfig) -> HandleOptions {
        HandleOptions { config, ..self }
    }
}

/// Limits of a [`Handle`](super::Handle); plain values.
#[derive(Clone, Debug)]
pub struct HandleConfig {
    /// Bytes of encoded rows up to which a batch rides inside its log entry. 16 KiB.
    pub inline_bytes_max: usize,
    /// Bytes of encoded rows at which a part ends and the next begins; one row may exceed it. A merge ends them at a
    /// 32nd of what it merges, if that is less, but not below 1 MiB. 8 MiB.
    pub part_bytes_max: usize,
    /// Bytes of encoded parts kept for [`fetch`](super::Handle::fetch), and as many again of the rows of parts written
    /// here and not read back, with the buffers that they keep; the oldest go first. 64 MiB.
    pub cache_bytes_max: usize,
    /// Bytes of parts that one reader (a follower, a snapshot) has asked for and not yet handed on;
    /// two parts, if they are larger. At least 2. 64 MiB.
    pub read_bytes_max: usize,
    /// Entries between two rollups, at the least: with many batches it is a quarter of their count,
    /// so that the cost of writing states stays linear. 64.
    pub rollup_every: u64,
    /// How long one operation of the store may go without an answer, whatever number of attempts that
    /// is; then it has failed. 0 tries once. What is refused for good fails at once. While a handle is
    /// opened it is 10 s at most: until then nothing says that the address is right. 5 minutes.
    pub outage_max: Duration,
    /// The first pause between two attempts, at most: it is any part of that, at random. 10 ms.
    pub retry_delay_min: Duration,
    /// The longest pause between two attempts, at most; each bound is twice the one before. 2 s.
    pub retry_delay_max: Duration,
    /// How long a lease lasts unless it is renewed, which happens at a quarter of it; at least 1 ms.
    /// About the same for all that open the shard: a process that has watched another's lease for so long without
    /// a change ends it. 15 minutes.
    pub lease: Duration,
    /// How long the holder of a lease that looks wrong has to renew it, once an entry has asked for it;
    /// a handle that [attends](super::Handle::attend) looks four times as often. At least 1 ms. 10 s.
    pub answer: Duration,
    /// Entries that a round of maintenance leaves in the log, so that a follower is rarely
    /// overtaken. 64.
    pub entries_kept: u64,
    /// Entries between two rounds of [`maintain`](super::Handle::maintain), at least 1. 64.
    pub maintain_every: u64,
    /// Bytes of parts that a compaction reads at a time; two parts at the least. It has two more in memory, which it
    /// writes. What is more is merged in several passes. 64 MiB.
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
            read_bytes_max: 64 << 20,
            rollup_every: 64,
            outage_max: Duration::from_secs(5 * 60),
            retry_delay_min: Duration::from_millis(10),
            retry_delay_max: Duration::from_secs(2),
            lease: Duration::from_secs(15 * 60),
            answer: Duration::from_secs(10),
            entries_kept: 64,
            maintain_every: 64,
            compact_bytes_max: 64 << 20,
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
        at_least("part_bytes_max", self.part_bytes_max, 1)?;
        // Offsets inside a part are 32 bits wide.
        in_order(("part_bytes_max", self.part_bytes_max), ("1 GiB", 1 << 30))?;
        let (inline, part) = (self.inline_bytes_max, self.part_bytes_max);
        in_order(("inline_bytes_max", inline), ("part_bytes_max", part))?;
        at_least("read_bytes_max", self.read_bytes_max, 2)?;
        at_least("rollup_every", self.rollup_every, 1)?;
        at_least("maintain_every", self.maintain_every, 1)?;
        at_least("lease", self.lease, Duration::from_millis(1))?;
        at_least("answer", self.answer, Duration::from_millis(1))?;
        let (least, most) = (self.retry_delay_min, self.retry_delay_max);
        in_order(("retry_delay_min", least), ("retry_delay_max", most))?;
        if self.history == Some(History::Last(0)) {
            return Err(Error::new(
                ErrorKind::Invalid,
                "history must be at least 1 time, and is 0",
            ));
        }
        Ok(())
    }

    /// Returns when a round of maintenance is due.
    pub(super) fn pace(&self) -> Pace {
        Pace { entries: self.maintain_every, part_bytes: self.part_bytes_max as u64 }
    }

    /// Returns how long a lease lasts, in milliseconds.
    pub(super) fn lease_ms(&self) -> u64 {
        u64::try_from(self.lease.as_millis()).unwrap_or(u64::MAX)
    }

    /// Returns how patient a handle is with its store.
    pub(super) fn patience(&self) -> Bounds {
        Bounds {
            outage_max: self.outage_max,
            delay_min: self.retry_delay_min,
            delay_max: self.retry_delay_max,
        }
    }
}
