//! Owns leases: what one is, how an entry changes the table of them, and how far they let since and
//! the floor go. Pure; how a handle keeps its own is [`keep`](super::keep)'s.
//!
//! A lease is three promises by everybody else, kept until an entry ends it: since does not pass its
//! `since`, no part that the state of entry `seqno` names is deleted, and what lies in the folder of
//! its token is no orphan. Clocks decide only who proposes to end it. So a writer names a part of
//! its own only while the log shows its lease, and that is judged like any other condition.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::entry::{Collected, Entry, Leased, Merged};
use super::part::PartRef;
use super::rows::Prepared;
use super::state::{Batch, History, Part, Retired, State};
use super::token::Token;
use crate::error::{Error, ErrorKind};

/// What the holder of a lease may rely on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The shard's since does not pass it; `None` holds no history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
    /// No part that the state of this entry names is deleted; `None` holds none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seqno: Option<u64>,
    /// When it may be ended unless it is renewed: milliseconds since 1970, by its holder's clock.
    pub expires_ms: u64,
}

/// A lease and its name, which is also the folder of its holder's parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The name, never granted again once it has been ended.
    pub token: Token,
    /// What it says.
    pub lease: Lease,
}

/// Returns the since that no lease lets the shard's pass.
pub(super) fn least_hold(leases: &BTreeMap<Token, Lease>) -> u64 {
    leases.values().filter_map(|lease| lease.since).min().unwrap_or(u64::MAX)
}

/// Returns the key of a part.
pub(super) fn part_key(shard: &str, lease: Token, part: Token) -> String {
    format!("{shard}/part/{lease}/{part}")
}

/// Returns the lease under which a part was uploaded.
pub(super) fn lease_of(key: &str) -> Option<Token> {
    let (folder, _) = key.rsplit_once('/')?;
    folder.rsplit('/').next()?.parse().ok()
}

impl State {
    /// Refuses parts whose lease is not in the log: they may have been swept.
    pub(super) fn may_name(&self, parts: &[Prepared]) -> Result<(), Error> {
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

    pub(super) fn is_leased(&self, part: &PartRef) -> bool {
        lease_of(&part.key).is_some_and(|lease| self.leases.contains_key(&lease))
    }

    /// Returns the since after an entry that makes the upper `upper`, grants and ends leases.
    pub(super) fn since_after(
        &self,
        upper: u64,
        history: History,
        grant: Option<&Grant>,
        ended: &[Token],
    ) -> u64 {
        let allowed = match history {
            History::Keep => 0,
            History::Last(times) => upper.saturating_sub(times),
        };
        self.since.max(allowed.min(self.hold_after(grant, ended)))
    }

    fn hold_after(&self, grant: Option<&Grant>, ended: &[Token]) -> u64 {
        let stays = |token: &Token| {
            !ended.contains(token) && grant.is_none_or(|grant| grant.token != *token)
        };
        let others = self.leases.iter().filter(|(token, _)| stays(token));
        let others = others.filter_map(|(_, lease)| lease.since);
        others.chain(grant.and_then(|grant| grant.lease.since)).min().unwrap_or(u64::MAX)
    }

    /// Returns up to which time all holders have read: batches below it may be merged without
    /// anybody reading twice what is in them.
    pub(super) fn read_by_all(&self) -> u64 {
        least_hold(&self.leases).saturating_add(1)
    }

    /// Whether the rows at `from` and later are still apart from those before it.
    pub fn tells_apart(&self, from: u64) -> bool {
        from == 0
            || self
                .batches
                .iter()
                .filter(|batch| batch.upper > from)
                .all(|batch| batch.forwarded.is_none_or(|forwarded| forwarded < from))
    }

    /// Returns the greatest entry up to which the log may be collected, as far as readers and rows
    /// inside entries are concerned.
    pub(super) fn collectable(&self) -> u64 {
        let inline = self.batches.iter().flat_map(|batch| &batch.parts);
        let inline = inline.filter_map(|part| match part {
            Part::Inline { seqno, .. } => Some(seqno.saturating_sub(1)),
            Part::Stored { .. } => None,
        });
        let held = self.leases.values().filter_map(|lease| lease.seqno).min().unwrap_or(u64::MAX);
        // Who holds a state before a merge may be reading the entries that it emptied.
        let emptied = self.retired.iter().filter(|retired| held < retired.seqno);
        let emptied = emptied.filter_map(|retired| retired.inline?.checked_sub(1));
        inline.chain(emptied).chain([held]).min().unwrap_or(u64::MAX)
    }

    /// Checks the since that an entry makes, and the lease that it grants.
    pub(super) fn check_leases(
        &self,
        entry: &Entry,
        since: u64,
        grant: Option<&Grant>,
        ended: &[Token],
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

    /// Takes a `lease` entry, or says why it cannot follow this state.
    pub(super) fn take_lease(&mut self, entry: &Entry, leased: &Leased) -> Result<(), String> {
        let released: &[Token] = leased.release.as_slice();
        self.check_leases(entry, leased.since, leased.grant.as_ref(), released)?;
        if leased.since > self.upper {
            return Err(format!("has since {} beyond upper {}", leased.since, self.upper));
        }
        if leased.history.is_some() && self.seqno > 0 {
            return Err("sets the history again".into());
        }
        if leased.history == Some(History::Last(0)) {
            return Err("sets a history of 0 times".into());
        }
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

    /// Returns the batches from the one of entry `first` to the one of entry `last`.
    pub(super) fn run(&self, first: u64, last: u64) -> Option<std::ops::Range<usize>> {
        let at = |seqno| self.batches.binary_search_by_key(&seqno, |batch| batch.seqno).ok();
        let (first, last) = (at(first)?, at(last)?);
        (first <= last).then_some(first..last + 1)
    }

    /// Takes a `compact` entry, or says why it cannot follow this state.
    pub(super) fn take_merged(&mut self, entry: &Entry, merged: &Merged) -> Result<(), String> {
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
        self.batches.splice(run, [whole]);
        if !retired.keys.is_empty() || retired.inline.is_some() {
            self.retired.push(retired);
        }
        self.sign(entry);
        Ok(())
    }

    /// Takes a `collect` entry, or says why it cannot follow this state.
    pub(super) fn take_collected(&mut self, entry: &Entry, done: &Collected) -> Result<(), String> {
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

impl From<PartRef> for Part {
    fn from(part: PartRef) -> Part {
        let PartRef { key, bytes, crc, updates, .. } = part;
        Part::Stored { key, bytes, crc, updates }
    }
}
