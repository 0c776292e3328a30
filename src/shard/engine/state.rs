//! Owns the state of a shard and how an entry changes it: pure, no I/O. It does not know bytes; that
//! is [`entry`](super::entry) and [`rollup`](super::rollup).

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::append::{Append, Appended};
use super::entry::{Change, Commit, Entry, EntryPart};
use super::lease::{Lease, least_hold};
use super::part::PartRef;
use super::sum::{Mark, Sum, digest};
use super::token::{Token, hex};
use crate::definite;
use crate::error::{Error, ErrorKind};

/// How many writers the state remembers: the last ones to commit.
pub const WRITERS_MAX: usize = 64;

/// How many marks the state remembers: the last ones made.
pub const MARKS_MAX: usize = 64;

/// How far `since` lags `upper`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum History {
    /// Every time stays readable.
    Keep,
    /// The last so many times stay readable; at least 1.
    Last(u64),
}

impl Default for History {
    fn default() -> Self {
        History::Last(1)
    }
}

/// What feeds a shard: set by the first commit that says so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Feed {
    /// How times are made; a shard keeps to one way.
    pub mode: String,
    /// Which feed it is, for people.
    pub identity: String,
}

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
    /// never merged. The parts of a merged batch are sorted by key, each behind the one before.
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
    pub token: Token,
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
    pub token: Token,
    /// Times at or beyond it can be told apart.
    pub since: u64,
    /// Times below it are final.
    pub upper: u64,
    /// The upper at which it was closed for good.
    pub sealed_at: Option<u64>,
    /// Raised by a writer that shuts out those before it.
    pub epoch: u64,
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
    pub writers: BTreeMap<Token, Writer>,
    /// Who holds since and the floor back, and who may name parts.
    #[serde(rename = "readers")]
    pub leases: BTreeMap<Token, Lease>,
    /// What merges replaced and no collection has deleted, in the order of their entries.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retired: Vec<Retired>,
    /// The last entry of a maintainer; 0 if there is none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub maintained: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl State {
    /// Judges an append without I/O: `None` if it may go ahead.
    ///
    /// # Errors
    ///
    /// `Invalid` for an append that no state would take, for one at the end of a sealed shard, and
    /// for a feed of another mode than the shard's.
    pub fn judge(&self, append: &Append) -> Result<Option<Appended>, Error> {
        append.validate()?;
        // An epoch shuts out those who know none, too.
        if append.epoch.is_none() && append.fence.unwrap_or(0) != self.epoch {
            return Ok(Some(Appended::Fenced(self.epoch)));
        }
        if append.lower != self.upper {
            return Ok(Some(Appended::UpperMismatch(self.upper)));
        }
        if let Some(end) = self.sealed_at {
            if append.seal && append.upper == end {
                // Another replica sealed it first: the same outcome, so a lost race like any other.
                return Ok(Some(Appended::UpperMismatch(end)));
            }
            return Err(Error::new(ErrorKind::Invalid, format!("the shard is sealed at {end}"))
                .hint("use another shard for more rows"));
        }
        if let Some(feed) = &append.feed {
            self.check_feed(feed)?;
        }
        if let Some(ours) = append.base {
            let theirs = self.sum().ok_or_else(|| definite::unknown(self.upper))?;
            if ours != theirs {
                return Err(definite::differs(self.upper, ours, theirs));
            }
        }
        if append.epoch.is_some_and(|epoch| epoch <= self.epoch) {
            return Ok(Some(Appended::Fenced(self.epoch)));
        }
        self.may_name(&append.parts)?;
        Ok(None)
    }

    /// Returns the sum of all commands below upper, or `None` if an append did not say its.
    pub fn sum(&self) -> Option<Sum> {
        match (self.rows, self.digest) {
            (Some(rows), Some(digest)) => Some(Sum { rows, digest }),
            _ => (self.upper == 0).then(Sum::default),
        }
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

    /// Returns the commit that an append makes of this state; `history` is for the first commit.
    pub(super) fn commit(
        &self,
        append: &Append,
        parts: Vec<EntryPart>,
        history: Option<History>,
    ) -> Commit {
        let first = if self.seqno == 0 { Some(history.unwrap_or_default()) } else { None };
        let history = append.history.or(first);
        let since = match history.unwrap_or(self.history) {
            History::Keep => self.since,
            History::Last(times) => self.since.max(append.upper.saturating_sub(times)),
        };
        let held = least_hold(&self.leases);
        Commit {
            lower: append.lower,
            upper: append.upper,
            since: self.since.max(since.min(held)),
            parts,
            feed: append.feed.clone(),
            rows: append.sum.map(|sum| sum.rows),
            digest: append.sum.map(|sum| sum.digest),
            mark: append.mark,
            epoch: append.epoch,
            cursor: append.cursor.clone(),
            history,
            sealed_at: append.seal.then_some(append.upper),
            grant: None,
        }
    }

    /// Makes this the state after `entry`. Leaves it as it is on an error.
    ///
    /// # Errors
    ///
    /// `Corrupt` if the entry cannot follow this state: its number, the token it follows, or its
    /// interval do not fit.
    pub fn apply(&mut self, entry: &Entry) -> Result<(), Error> {
        let wrong = |what: String| {
            Err(Error::new(ErrorKind::Corrupt, format!("entry {} {what}", entry.seqno))
                .hint("restore the shard from a copy"))
        };
        if self.seqno.checked_add(1) != Some(entry.seqno) {
            return wrong(format!("does not follow entry {}", self.seqno));
        }
        if entry.prev_token != self.token {
            let (found, ours) = (entry.prev_token, self.token);
            return wrong(format!("follows an entry with token {found}, not {ours}"));
        }
        let commit = match &entry.change {
            Change::Append(commit) => commit,
            Change::Lease(leased) => return self.take_lease(entry, leased).or_else(wrong),
            Change::Compact(merged) => return self.take_merged(entry, merged).or_else(wrong),
            Change::Collect(done) => return self.take_collected(entry, done).or_else(wrong),
        };
        let (lower, upper) = (commit.lower, commit.upper);
        if lower != self.upper || upper < lower {
            return wrong(format!("appends [{lower}, {upper}) to a shard at {}", self.upper));
        }
        if commit.since < self.since || commit.since > upper {
            return wrong(format!("has since {} of [{}, {upper}]", commit.since, self.since));
        }
        if self.sealed_at.is_some() && upper > lower {
            return wrong("appends to a sealed shard".into());
        }
        if commit.sealed_at.is_some_and(|end| end != upper) {
            return wrong(format!("seals a shard elsewhere than at its upper {upper}"));
        }
        if commit.history == Some(History::Last(0)) {
            return wrong("sets a history of 0 times".into());
        }
        if commit.epoch.is_some_and(|epoch| epoch <= self.epoch) {
            return wrong(format!("lowers the epoch, which is {}", self.epoch));
        }
        if let Err(what) = self.check_leases(entry, commit.since, commit.grant.as_ref(), &[]) {
            return wrong(what);
        }
        self.take(entry, commit);
        Ok(())
    }

    fn take(&mut self, entry: &Entry, commit: &Commit) {
        self.since = commit.since;
        self.upper = commit.upper;
        self.sealed_at = self.sealed_at.or(commit.sealed_at);
        self.epoch = commit.epoch.unwrap_or(self.epoch);
        self.history = commit.history.unwrap_or(self.history);
        if commit.upper > commit.lower {
            (self.rows, self.digest) = (commit.rows, commit.digest);
        }
        if let Some(mark) = commit.mark.filter(|mark| !self.marks.contains(mark)) {
            self.marks.push(mark);
            let over = self.marks.len().saturating_sub(MARKS_MAX);
            self.marks.drain(..over);
        }
        if self.feed.is_none() {
            self.feed.clone_from(&commit.feed);
        }
        if commit.cursor.is_some() {
            self.cursor.clone_from(&commit.cursor);
        }
        if !commit.parts.is_empty() {
            let parts = commit.parts.iter().map(|part| part.placed(entry.seqno)).collect();
            let (seqno, lower, upper) = (entry.seqno, commit.lower, commit.upper);
            self.batches.push(Arc::new(Batch { seqno, lower, upper, parts, forwarded: None }));
        }
        if let Some(grant) = &commit.grant {
            self.leases.insert(grant.token, grant.lease);
        }
        self.sign(entry);
    }

    /// Makes `entry` the last one.
    pub(super) fn sign(&mut self, entry: &Entry) {
        self.seqno = entry.seqno;
        self.token = entry.token;
        let writer = Writer { token: entry.token, seqno: entry.seqno, upper: self.upper };
        self.writers.insert(entry.writer, writer);
        if self.writers.len() > WRITERS_MAX {
            let oldest = self.writers.iter().min_by_key(|(_, writer)| writer.seqno);
            if let Some(oldest) = oldest.map(|(id, _)| *id) {
                self.writers.remove(&oldest);
            }
        }
    }

    /// Says whether a writer's entry `seqno` with this token is part of the log: `None` if the table
    /// has forgotten it. Only for a writer with no later entry than that.
    pub(super) fn holds(&self, writer: Token, seqno: u64, token: Token) -> Option<bool> {
        match self.writers.get(&writer) {
            Some(last) => Some(last.token == token),
            // The table forgets the oldest first: whoever it would still know is not in the log.
            None => {
                let full = self.writers.len() >= WRITERS_MAX;
                let oldest = self.writers.values().map(|writer| writer.seqno).min();
                let known = !full || oldest.is_some_and(|oldest| oldest < seqno);
                known.then_some(false)
            }
        }
    }
}

impl EntryPart {
    /// Names this part from outside its entry.
    fn placed(&self, seqno: u64) -> Part {
        match self.clone() {
            EntryPart::Stored(PartRef { key, bytes, crc, updates, .. }) => {
                Part::Stored { key, bytes, crc, updates }
            }
            EntryPart::Inline { offset, bytes, crc, updates } => {
                Part::Inline { seqno, offset, bytes, crc, updates }
            }
        }
    }
}
