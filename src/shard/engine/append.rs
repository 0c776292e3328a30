//! Owns an append as a value, what a state says of it, and the commit that it makes. How it comes into
//! the log is [`settle`](crate::shard)'s.

use super::entry::{Commit, EntryPart, Feed, History};
use super::lease::least_hold;
use super::part::{PartHeader, Prepared};
use super::state::State;
use super::sum::{Mark, Sum, differs, unknown};
use crate::error::{Error, ErrorKind};

/// What to append: rows already [prepared](crate::shard::Handle::prepare), and what goes with them.
#[derive(Clone, Debug, Default)]
pub struct Append {
    /// The upper the shard must have.
    pub lower: u64,
    /// The upper it shall have.
    pub upper: u64,
    /// The rows; those outside `[lower, upper)` do not count.
    pub parts: Vec<Prepared>,
    /// The epoch the shard must have; `None` is 0, which it has until somebody takes it over.
    pub fence: Option<u64>,
    /// Raises the shard's epoch to this; at or below the present one is [`Appended::Fenced`].
    pub epoch: Option<u64>,
    /// Whether the shard stays everybody's that opens it after that: without this, raising the epoch makes it exclusive.
    pub shared: bool,
    /// Changes how far since lags upper, from this commit on.
    pub history: Option<History>,
    /// Closes the shard for good at `upper`.
    pub seal: bool,
    /// The source cursor that covers all rows below `upper`.
    pub cursor: Option<Vec<u8>>,
    /// What feeds the shard; kept from the first commit that says so.
    pub feed: Option<Feed>,
    /// What the caller's feed has below `lower`: the shard must have been made from the same. `None`
    /// checks nothing.
    pub base: Option<Sum>,
    /// What the caller's feed has below `upper`. Without it the shard can never be checked again. Where it is `base`, no
    /// command is in between, and there are no rows, unless it raises the epoch: a repair by rows that no feed has does.
    pub sum: Option<Sum>,
    /// Where the caller's feed began, if it continues another.
    pub mark: Option<Mark>,
}

/// How an append ended. Losing is normal: somebody else was first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Appended {
    /// It is durable, as this entry.
    Won {
        /// The number of the entry.
        seqno: u64,
    },
    /// Nothing was appended: the shard's upper is this.
    UpperMismatch(u64),
    /// Nothing was appended: the shard's epoch is this.
    Fenced(u64),
}

impl Append {
    /// Checks what no state could make right.
    ///
    /// # Errors
    ///
    /// `Invalid`.
    pub fn validate(&self) -> Result<(), Error> {
        let (lower, upper) = (self.lower, self.upper);
        let wrong = |what: String| Err(Error::new(ErrorKind::Invalid, what));
        if upper < lower {
            return wrong(format!("an append of [{lower}, {upper})"));
        }
        let marks = self.seal
            || self.epoch.is_some()
            || self.history.is_some()
            || self.feed.is_some()
            || self.cursor.is_some();
        if upper == lower && (!self.parts.is_empty() || !marks) {
            return wrong(format!("an append of nothing at {lower}"));
        }
        if self.epoch == Some(u64::MAX) {
            return wrong(format!("an append of epoch {}", u64::MAX));
        }
        if self.history == Some(History::Last(0)) {
            return wrong("a history of 0 times".into());
        }
        for part in &self.parts {
            let last = last_time(part)?;
            // Below lower is fine: somebody has committed it. Beyond upper would be lost.
            if last >= upper {
                return wrong(format!("a row at time {last} in an append up to {upper}"));
            }
        }
        Ok(())
    }

    /// Checks that no row counts.
    fn check_rowless(&self) -> Result<(), Error> {
        for part in &self.parts {
            let last = last_time(part)?;
            if last >= self.lower {
                let what = format!("rows at time {last} with the sum of no command");
                return Err(Error::new(ErrorKind::Invalid, what));
            }
        }
        Ok(())
    }
}

/// Returns the greatest time of a part's rows.
fn last_time(part: &Prepared) -> Result<u64, Error> {
    match part {
        Prepared::Stored(part) => Ok(part.time_max),
        Prepared::Inline(bytes, _) => Ok(PartHeader::decode(bytes)?.time_max),
    }
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
        // An epoch also shuts out a writer that knows of none.
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
            let theirs = self.sum().ok_or_else(|| unknown(self.upper))?;
            if ours != theirs && !crate::mutant::on("feed_not_compared") {
                return Err(differs(self.upper, ours, theirs));
            }
            // A writer that has worked out later times would take the sums to say that its rows still stand; a raised
            // epoch shuts it out. Only here: a base that others have overtaken is of a later time than `lower`.
            let no_commands = append.sum == append.base && append.epoch.is_none();
            if no_commands && !crate::mutant::on("rows_without_commands") {
                append.check_rowless()?;
            }
        }
        if append.epoch.is_some_and(|epoch| epoch <= self.epoch) {
            return Ok(Some(Appended::Fenced(self.epoch)));
        }
        if !crate::mutant::on("name_without_lease") {
            self.may_name(&append.parts)?;
        }
        Ok(None)
    }

    /// Refuses parts whose lease is not in the log: they may have been swept.
    pub(crate) fn may_name(&self, parts: &[Prepared]) -> Result<(), Error> {
        let stored = parts.iter().filter_map(|part| match part {
            Prepared::Stored(part) => Some(part),
            Prepared::Inline(..) => None,
        });
        match stored.into_iter().find(|part| !self.is_leased(part)) {
            None => Ok(()),
            Some(part) => {
                let what = format!("the lease that kept part {} has run out", part.key);
                Err(Error::new(ErrorKind::LeaseLost, what)
                    .hint("prepare the rows again; renew more often than others collect"))
            }
        }
    }

    /// Returns the commit that an append makes of this state; `history` is for the first commit.
    pub(crate) fn commit(
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
            shared: append.shared,
            cursor: append.cursor.clone(),
            history,
            sealed_at: append.seal.then_some(append.upper),
            grant: None,
        }
    }
}

/// Lays out prepared parts as an entry names them, and the raw bytes of the inline ones.
pub(crate) fn entry_parts(prepared: &[Prepared]) -> (Vec<EntryPart>, Vec<u8>) {
    let mut raw = Vec::new();
    let mut parts = Vec::with_capacity(prepared.len());
    for part in prepared {
        parts.push(match part {
            Prepared::Stored(part) => EntryPart::Stored(part.clone()),
            Prepared::Inline(bytes, updates) => {
                let offset = raw.len() as u64;
                raw.extend_from_slice(bytes);
                let crc = crc32c::crc32c(bytes);
                EntryPart::Inline { offset, bytes: bytes.len() as u64, crc, updates: *updates }
            }
        });
    }
    (parts, raw)
}
