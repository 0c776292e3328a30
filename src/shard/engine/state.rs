//! Owns the state of a shard as a value. How an entry changes it is [`transition`](super::transition)'s,
//! its bytes are [`rollup`](super::rollup)'s.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::entry::{Feed, History};
use super::format::Fingerprint;
use super::id::{Id, hex};
use super::lease::Lease;
use super::part::PartRef;
use super::sum::{Mark, Sum, digest};
use crate::error::{Error, ErrorKind};

/// How many writers the state remembers: the last ones to commit.
pub const WRITERS_MAX: usize = 64;

/// How many marks the state remembers: the last ones made.
pub const MARKS_MAX: usize = 64;

/// Rows that one commit added, or several that were merged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// The entry that added it; the last of them if it was merged.
    pub seqno: u64,
    /// No row counts below it.
    pub lower: u64,
    /// No row counts at or beyond it.
    pub upper: u64,
    /// Where the rows are; at least one part, but for a merge in which all cancelled.
    pub parts: Vec<Part>,
    /// The time, inside the interval, to which a merge forwarded the earlier ones; `None` if it was
    /// never merged. The parts of a merged batch are sorted (by hash; in format 1 by key), each behind the one before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forwarded: Option<u64>,
}

/// Parts that a merge replaced, until they are deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retired {
    /// The entry of the merge: states before it still name them.
    pub seqno: u64,
    /// Their keys.
    pub keys: Vec<String>,
    /// The least entry that some of them ride in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inline: Option<u64>,
    /// How many bytes they have, those in entries too; 0 if an earlier program did not say.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub bytes: u64,
}

/// Where some rows of a batch are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Under a key of their own.
    Stored {
        /// The key, relative to the root.
        key: String,
        /// How many bytes are there.
        bytes: u64,
        /// The crc32c of them all.
        crc: u32,
        /// How many updates they hold.
        updates: u64,
    },
    /// Inside the log entry that added them.
    Inline {
        /// The entry.
        seqno: u64,
        /// Where in its raw bytes they begin.
        offset: u64,
        /// How many bytes there are.
        bytes: u64,
        /// The crc32c of them.
        crc: u32,
        /// How many updates they hold.
        updates: u64,
    },
}

impl Part {
    /// Returns how many bytes it has.
    pub fn bytes(&self) -> u64 {
        match self {
            Part::Stored { bytes, .. } | Part::Inline { bytes, .. } => *bytes,
        }
    }

    /// Returns how many updates it holds.
    pub fn updates(&self) -> u64 {
        match self {
            Part::Stored { updates, .. } | Part::Inline { updates, .. } => *updates,
        }
    }

    /// Returns the crc32c of its bytes.
    pub fn crc(&self) -> u32 {
        match self {
            Part::Stored { crc, .. } | Part::Inline { crc, .. } => *crc,
        }
    }
}

/// The last commit of one writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Writer {
    /// The token of its last entry.
    pub token: Id,
    /// The number of its last entry.
    pub seqno: u64,
    /// The upper that entry made.
    pub upper: u64,
}

/// Everything a shard is, but the rows themselves: the result of its log up to one entry.
///
/// Invariants: `since <= upper`; batches are in the order of their entries, their intervals do not
/// overlap and lie below `upper`. An interval without rows has no batch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The number of the last entry; 0 if there is none.
    pub seqno: u64,
    /// The token of the last entry; 0 if there is none.
    pub token: Id,
    /// Times at or beyond it can be told apart.
    pub since: u64,
    /// Times below it are final.
    pub upper: u64,
    /// The upper at which it was closed for good.
    pub sealed_at: Option<u64>,
    /// Raised by a writer that shuts out those before it.
    pub epoch: u64,
    /// The epoch up to which each raise left the shard to all who open it. Past it, it is exclusive: only the last one to
    /// take it over may write.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub shared_epoch: u64,
    /// How far since lags upper.
    pub history: History,
    /// What feeds it.
    pub feed: Option<Feed>,
    /// How many commands lie below upper, dropped ones too; `None` once an append did not say.
    pub rows: Option<u64>,
    /// The order-free sum of their hashes.
    #[serde(with = "digest")]
    pub digest: Option<u128>,
    /// Where feeds began that continue others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub marks: Vec<Mark>,
    /// The last source cursor committed with rows.
    #[serde(with = "hex")]
    pub cursor: Option<Vec<u8>>,
    /// The rows, in the order they were committed.
    pub batches: Vec<Arc<Batch>>,
    /// The last commit of each of the last [`WRITERS_MAX`] writers.
    pub writers: BTreeMap<Id, Writer>,
    /// What holds since and the floor back, and under which names parts may be named.
    #[serde(rename = "readers")]
    pub leases: BTreeMap<Id, Lease>,
    /// What merges replaced and no collection has deleted, in the order of their entries.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retired: Vec<Retired>,
    /// The last entry of a maintainer; 0 if there is none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub maintained: u64,
    /// The shapes that values have beside the first one, which is in `FORMAT`: number 1 and on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shapes: Vec<Arc<Fingerprint>>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl State {
    /// Returns the sum of all commands below upper, or `None` if an append did not say its.
    pub fn sum(&self) -> Option<Sum> {
        match (self.rows, self.digest) {
            (Some(rows), Some(digest)) => Some(Sum { rows, digest }),
            _ => (self.upper == 0).then(Sum::default),
        }
    }

    /// Whether anybody may write that opens the shard now.
    pub fn is_shared(&self) -> bool {
        self.epoch == self.shared_epoch
    }

    /// Checks a feed against the one that the shard was made from.
    ///
    /// # Errors
    ///
    /// `FeedDiffers` if its times are made in another way.
    pub fn check_feed(&self, ours: &Feed) -> Result<(), Error> {
        let Some(theirs) = self.feed.as_ref().filter(|theirs| theirs.mode != ours.mode) else {
            return Ok(());
        };
        let what = format!(
            "FeedDiffers: the shard has {} times (from {}), and this feed {} ones (from {})",
            theirs.mode, theirs.identity, ours.mode, ours.identity
        );
        Err(Error::new(ErrorKind::FeedDiffers, what).hint("feed it as before, or another shard"))
    }

    /// Says whether a writer's entry `seqno` with this token is part of the log: `None` if the table
    /// has forgotten it. Only for a writer with no later entry than that.
    pub(crate) fn has_entry(&self, writer: Id, seqno: u64, token: Id) -> Option<bool> {
        match self.writers.get(&writer) {
            Some(last) => Some(last.token == token),
            // The table forgets the oldest first: a writer that it would still know is not in the log.
            None => {
                let full = self.writers.len() >= WRITERS_MAX;
                let oldest = self.writers.values().map(|writer| writer.seqno).min();
                let known = !full || oldest.is_some_and(|oldest| oldest < seqno);
                known.then_some(false)
            }
        }
    }

    /// Returns the batches from the one of entry `first` to the one of entry `last`.
    pub(crate) fn run(&self, first: u64, last: u64) -> Option<std::ops::Range<usize>> {
        let at = |seqno| self.batches.binary_search_by_key(&seqno, |batch| batch.seqno).ok();
        let (first, last) = (at(first)?, at(last)?);
        (first <= last).then_some(first..last + 1)
    }
}

impl From<PartRef> for Part {
    fn from(part: PartRef) -> Part {
        let PartRef { key, bytes, crc, updates, .. } = part;
        Part::Stored { key, bytes, crc, updates }
    }
}

/// The error of a writer that another has shut out.
pub(crate) fn fenced(epoch: u64) -> Error {
    let what = format!("Fenced: another writer took the shard over, epoch {epoch}");
    Error::new(ErrorKind::Fenced, what).hint("stop this writer; nothing of its feed was dropped")
}
