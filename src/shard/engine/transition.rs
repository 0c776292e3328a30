//! Owns how an entry changes a state: what it must fit, and what it does. Pure; what a lease promises is
//! [`lease`](super::lease)'s, and what an append makes of a state [`append`](super::append)'s.

use std::sync::Arc;

use super::entry::{Change, Collected, Commit, Entry, EntryPart, History, Leased, Merged, Shaped};
use super::id::Id;
use super::lease::Grant;
use super::part::PartRef;
use super::state::{Batch, MARKS_MAX, Part, Retired, State, WRITERS_MAX, Writer};
use crate::error::{Error, ErrorKind};

impl State {
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
            Change::Shape(shaped) => return self.take_shape(entry, shaped).or_else(wrong),
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
        if let Some(epoch) = commit.epoch {
            if commit.shared && self.is_shared() {
                self.shared_epoch = epoch;
            }
            self.epoch = epoch;
        }
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
    pub(crate) fn sign(&mut self, entry: &Entry) {
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

    /// Checks the since that an entry makes, and the lease that it grants.
    pub(crate) fn check_leases(
        &self,
        entry: &Entry,
        since: u64,
        grant: Option<&Grant>,
        ended: &[Id],
    ) -> Result<(), String> {
        if since < self.since {
            return Err(format!("lowers since, which is {}", self.since));
        }
        let hold = self.hold_after(grant, ended);
        if since > self.since && since > hold {
            return Err(format!("has since {since}, and a lease holds {hold}"));
        }
        let Some(Grant { lease, .. }) = grant else { return Ok(()) };
        if lease.since.is_some_and(|held| held < self.since) {
            return Err(format!("grants a hold below since, which is {}", self.since));
        }
        if lease.seqno.is_some_and(|held| held > entry.seqno) {
            return Err("grants a hold on an entry to come".into());
        }
        Ok(())
    }

    /// Checks what an entry without rows says of since, and, if it is the first, of the history.
    fn check_beginning(&self, since: u64, history: Option<History>) -> Result<(), String> {
        if since > self.upper {
            return Err(format!("has since {since} beyond upper {}", self.upper));
        }
        if history.is_some() && self.seqno > 0 {
            return Err("sets the history again".into());
        }
        if history == Some(History::Last(0)) {
            return Err("sets a history of 0 times".into());
        }
        Ok(())
    }

    /// Takes a `shape` entry, or says why it cannot follow this state.
    pub(crate) fn take_shape(&mut self, entry: &Entry, shaped: &Shaped) -> Result<(), String> {
        self.check_leases(entry, shaped.since, None, &[])?;
        self.check_beginning(shaped.since, shaped.history)?;
        if usize::from(shaped.number) != self.shapes.len() + 1 {
            let last = self.shapes.len();
            return Err(format!("adds shape {} behind shape {last}", shaped.number));
        }
        self.since = shaped.since;
        self.history = shaped.history.unwrap_or(self.history);
        self.shapes.push(Arc::new(shaped.shape.clone()));
        self.sign(entry);
        Ok(())
    }

    /// Takes a `lease` entry, or says why it cannot follow this state.
    pub(crate) fn take_lease(&mut self, entry: &Entry, leased: &Leased) -> Result<(), String> {
        let released: &[Id] = leased.release.as_slice();
        self.check_leases(entry, leased.since, leased.grant.as_ref(), released)?;
        self.check_beginning(leased.since, leased.history)?;
        self.since = leased.since;
        self.history = leased.history.unwrap_or(self.history);
        if let Some(token) = leased.release {
            self.leases.remove(&token);
        }
        if let Some(grant) = leased.grant {
            self.leases.insert(grant.token, grant.lease);
        }
        self.sign(entry);
        Ok(())
    }

    /// Takes a `compact` entry, or says why it cannot follow this state.
    pub(crate) fn take_merged(&mut self, entry: &Entry, merged: &Merged) -> Result<(), String> {
        self.check_leases(entry, merged.since, None, &[])?;
        let (first, last) = (merged.first, merged.last);
        let Some(run) = self.run(first, last) else {
            return Err(format!("merges batches {first} to {last}, which are not there"));
        };
        let (lower, upper) = (self.batches[run.start].lower, self.batches[run.end - 1].upper);
        if merged.since > self.upper {
            return Err(format!("has since {} beyond upper {}", merged.since, self.upper));
        }
        if merged.forwarded > merged.since || merged.forwarded >= upper {
            return Err(format!("forwards rows of [{lower}, {upper}) to {}", merged.forwarded));
        }
        self.since = merged.since;
        let replaced = self.batches[run.clone()].iter().flat_map(|batch| &batch.parts);
        let mut retired = Retired { seqno: entry.seqno, ..Retired::default() };
        for part in replaced {
            retired.bytes = retired.bytes.saturating_add(part.bytes());
            match part {
                Part::Stored { key, .. } => retired.keys.push(key.clone()),
                Part::Inline { seqno, .. } => {
                    retired.inline = Some(retired.inline.map_or(*seqno, |least| least.min(*seqno)));
                }
            }
        }
        let parts: Vec<Part> = merged.parts.iter().cloned().map(Part::from).collect();
        let forwarded = Some(merged.forwarded);
        let whole = Arc::new(Batch { seqno: last, lower, upper, parts, forwarded });
        // Even if all its rows cancelled: without it nobody could tell that there had been some, and
        // a follower that has sent only the first of them would never send those that undo them.
        let kept = !(whole.parts.is_empty() && crate::mutant::on("forget_cancelled_merge"));
        self.batches.splice(run, kept.then_some(whole));
        if !retired.keys.is_empty() || retired.inline.is_some() {
            self.retired.push(retired);
        }
        self.sign(entry);
        Ok(())
    }

    /// Takes a `collect` entry, or says why it cannot follow this state.
    pub(crate) fn take_collected(&mut self, entry: &Entry, done: &Collected) -> Result<(), String> {
        self.check_leases(entry, done.since, None, &done.expired)?;
        if done.since > self.upper {
            return Err(format!("has since {} beyond upper {}", done.since, self.upper));
        }
        if done.floor > self.seqno {
            return Err(format!("collects up to {}, which is to come", done.floor));
        }
        self.since = done.since;
        self.leases.retain(|token, _| !done.expired.contains(token));
        self.retired.retain(|retired| retired.seqno > done.floor);
        self.maintained = entry.seqno;
        self.sign(entry);
        Ok(())
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
