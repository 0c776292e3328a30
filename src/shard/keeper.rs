//! Owns the one lease of a handle as a value: what its followers still need, what the lease says, and
//! when it is renewed. Pure; how that comes into the log is [`holds`](super::holds)'s, what a lease
//! promises is [`lease`](super::engine::lease)'s.
//!
//! A moment here is the time since one fixed moment, by a clock that only measures.

use std::collections::BTreeMap;
use std::time::Duration;

use super::config::HandleConfig;
use super::engine::entry::{Change, Commit, Entry};
use super::engine::id::Id;
use super::engine::lease::{Grant, Lease};
use super::engine::state::State;

/// What a handle holds, and for whom.
#[derive(Debug)]
pub(super) struct Keeper {
    /// The name of the lease.
    pub(super) token: Id,
    /// It was seen in the log: should it be missing from now on, it has been ended.
    granted: bool,
    /// The number of the last state looked at.
    seen: u64,
    /// What it says in the log, and since which moment.
    held: Option<(Lease, Duration)>,
    /// What it said when an entry asked for it: it must say something else.
    asked: Option<Lease>,
    /// Parts may lie in its folder.
    pub(super) uploads: bool,
    needs: BTreeMap<u64, Need>,
    next: u64,
}

/// What one follower needs: no later since, and the parts that the state of entry `seqno` names.
#[derive(Clone, Copy, Debug)]
struct Need {
    since: u64,
    seqno: u64,
}

/// What time it is, by both clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    /// The moment.
    pub(super) at: Duration,
    /// Milliseconds since 1970.
    pub(super) clock_ms: u64,
}

impl Keeper {
    pub(super) fn new(token: Id) -> Keeper {
        let (held, asked, needs) = (None, None, BTreeMap::new());
        Keeper { token, granted: false, seen: 0, held, asked, uploads: false, needs, next: 0 }
    }

    /// Adds a follower, and returns its number.
    pub(super) fn enlist(&mut self, since: u64, seqno: u64) -> u64 {
        self.next += 1;
        self.needs.insert(self.next, Need { since, seqno });
        self.next
    }

    /// Says that a follower needs no time before `since` and no state before that of entry `seqno`.
    pub(super) fn advance(&mut self, follower: u64, since: u64, seqno: u64) {
        if let Some(need) = self.needs.get_mut(&follower) {
            need.since = need.since.max(since);
            need.seqno = need.seqno.max(seqno);
        }
    }

    /// Removes a follower; whether it was the last one.
    pub(super) fn strike(&mut self, follower: u64) -> bool {
        self.needs.remove(&follower).is_some() && self.needs.is_empty()
    }

    /// Removes all followers, and gives up what was uploaded.
    pub(super) fn clear(&mut self) {
        self.uploads = false;
        self.needs.clear();
    }

    /// Returns how many followers there are.
    pub(super) fn followers(&self) -> usize {
        self.needs.len()
    }

    /// Looks at a state: a lease that was ended needs another name. One that another task has overtaken
    /// says nothing: it may be from before the lease.
    pub(super) fn see(&mut self, state: &State, at: Duration, fresh: impl Fn() -> Id) {
        if state.seqno < self.seen {
            return;
        }
        self.seen = state.seqno;
        if let Some(lease) = state.leases.get(&self.token) {
            self.granted = true;
            if self.held.is_none_or(|(held, _)| held != *lease) {
                self.held = Some((*lease, at));
            }
        } else if self.granted {
            (self.token, self.granted, self.held) = (fresh(), false, None);
        }
    }

    /// Hears whether an entry asks for this lease, as it is in the state after it.
    pub(super) fn hear(&mut self, entry: &Entry, state: &State) {
        let Change::Collect(done) = &entry.change else { return };
        if done.asked.contains(&self.token) {
            self.asked = state.leases.get(&self.token).copied();
        }
    }

    fn is_wanted(&self) -> bool {
        self.uploads || !self.needs.is_empty()
    }

    /// What it should say, in the entry after `state`.
    pub(super) fn grant(&self, state: &State, expires_ms: u64) -> Grant {
        let since = self.needs.values().map(|need| need.since.max(state.since)).min();
        let seqno = self.needs.values().map(|need| need.seqno).min();
        // A renewal can be told from what it renews, also within a millisecond.
        let same = state.leases.get(&self.token).is_some_and(|held| held.expires_ms == expires_ms);
        let expires_ms = expires_ms.saturating_add(u64::from(same));
        Grant { token: self.token, lease: Lease { since, seqno, expires_ms } }
    }

    /// Puts the lease, renewed, into a commit that follows `state`.
    pub(super) fn renew_in(&self, state: &State, commit: &mut Commit, expires_ms: u64) {
        if self.is_wanted() {
            commit.grant = Some(self.grant(state, expires_ms));
            let history = commit.history.unwrap_or(state.history);
            commit.since = state.since_after(commit.upper, history, commit.grant.as_ref(), &[]);
        }
    }

    /// Whether the lease, as `state` has it, says less than it must, or says it no longer for long.
    pub(super) fn is_due(&self, state: &State, now: Now, config: &HandleConfig) -> bool {
        let Some(held) = state.leases.get(&self.token) else { return self.is_wanted() };
        let wanted = self.grant(state, 0).lease;
        // By both clocks: one may have been set back, and the other stands while the machine sleeps.
        let unchanged = |since: Duration| now.at.saturating_sub(since) >= config.lease / 4;
        let is_old = self.held.is_some_and(|(_, since)| unchanged(since));
        let (duration, left) = (config.lease_ms(), held.expires_ms.saturating_sub(now.clock_ms));
        let is_over_soon = left < duration - duration / 4;
        let is_asked_for = self.asked.is_some_and(|asked| asked == *held);
        let behind = wanted.seqno.zip(held.seqno).map_or(0, |(new, old)| new.saturating_sub(old));
        let is_behind = behind >= config.maintain_every;
        // Less was held than is needed now: before anybody relies on it.
        let is_too_late = |since: u64| held.since.is_none_or(|held| held > since);
        let says_too_little = wanted.since.is_some_and(is_too_late);
        says_too_little || self.is_wanted() && (is_old || is_over_soon || is_asked_for || is_behind)
    }
}
