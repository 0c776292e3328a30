//! Owns the one lease of a handle: what its followers still need, when it is renewed and when it
//! ends. What a lease promises is [`lease`](super::lease)'s.
//!
//! Every append of the handle renews it on the way. Only when there was none for a quarter of its
//! duration, or others have gone on for long or have asked for it, an entry of its own does. Once an
//! entry has ended it, its token is never used again: what lies in its folder may be gone at any moment.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use tokio::time::Instant;

use super::config::HandleConfig;
use super::engine::entry::{Change, Commit, Entry, Leased};
use super::engine::id::Token;
use super::engine::lease::{Grant, Lease};
use super::engine::state::State;
use super::handle::{Handle, lock};
use crate::error::{Error, ErrorKind};
use crate::store::Access;

/// What a handle holds, and for whom.
#[derive(Debug)]
pub(super) struct Keeper {
    token: Token,
    /// It was seen in the log: should it be missing from now on, it has been ended.
    granted: bool,
    /// The number of the last state looked at.
    seen: u64,
    /// What it says in the log, and since when: by a clock that only measures.
    held: Option<(Lease, Instant)>,
    /// What it said when an entry asked for it: it must say something else.
    asked: Option<Lease>,
    /// Parts may lie in its folder.
    uploads: bool,
    needs: BTreeMap<u64, Need>,
    next: u64,
}

#[derive(Clone, Copy, Debug)]
struct Need {
    since: u64,
    seqno: u64,
}

/// One follower's part of a handle's lease: give it back with [`Handle::release`].
#[derive(Debug)]
#[must_use = "it holds history until it is released"]
pub struct Hold {
    id: u64,
    since: u64,
}

impl Hold {
    /// Returns the time that can still be told from those before it: the since when it was taken.
    pub fn since(&self) -> u64 {
        self.since
    }
}

/// A hold that nobody has yet: gone again if the call that takes it fails, or is dropped. Else every
/// later renewal would hold for it.
struct Unsure<'a> {
    handle: &'a Handle,
    id: u64,
}

impl Unsure<'_> {
    /// Says that the caller has it.
    fn taken(self) -> u64 {
        let id = self.id;
        // Of two plain values: nothing leaks.
        std::mem::forget(self);
        id
    }
}

impl Drop for Unsure<'_> {
    fn drop(&mut self) {
        lock(&self.handle.inner.keeper).needs.remove(&self.id);
    }
}

impl Keeper {
    pub(super) fn new(token: Token) -> Keeper {
        let (held, asked, needs) = (None, None, BTreeMap::new());
        Keeper { token, granted: false, seen: 0, held, asked, uploads: false, needs, next: 0 }
    }

    /// Looks at a state: a lease that was ended needs another name. One that another task has overtaken
    /// says nothing: it may be from before the lease.
    fn see(&mut self, state: &State, fresh: impl Fn() -> Token) {
        if state.seqno < self.seen {
            return;
        }
        self.seen = state.seqno;
        if let Some(lease) = state.leases.get(&self.token) {
            self.granted = true;
            if self.held.is_none_or(|(held, _)| held != *lease) {
                self.held = Some((*lease, Instant::now()));
            }
        } else if self.granted {
            (self.token, self.granted, self.held) = (fresh(), false, None);
        }
    }

    fn is_wanted(&self) -> bool {
        self.uploads || !self.needs.is_empty()
    }

    /// What it should say, in the entry after `state`.
    fn grant(&self, state: &State, expires_ms: u64) -> Grant {
        let since = self.needs.values().map(|need| need.since.max(state.since)).min();
        let seqno = self.needs.values().map(|need| need.seqno).min();
        // A renewal can be told from what it renews, also within a millisecond.
        let same = state.leases.get(&self.token).is_some_and(|held| held.expires_ms == expires_ms);
        let expires_ms = expires_ms.saturating_add(u64::from(same));
        Grant { token: self.token, lease: Lease { since, seqno, expires_ms } }
    }

    /// Whether `held` says less than it must, or says it no longer for long.
    fn is_due(&self, held: Option<&Lease>, state: &State, now_ms: u64, all: &HandleConfig) -> bool {
        let Some(held) = held else { return self.is_wanted() };
        let wanted = self.grant(state, 0).lease;
        let left = held.expires_ms.saturating_sub(now_ms);
        let duration = duration_ms(all);
        // By both clocks: one may have been set back, and the other stands while the machine sleeps.
        let old = self.held.is_some_and(|(_, since)| since.elapsed() >= all.lease / 4);
        let asked = self.asked.is_some_and(|asked| asked == *held);
        let behind = wanted.seqno.zip(held.seqno).map_or(0, |(new, old)| new.saturating_sub(old));
        let old = old || left < duration - duration / 4;
        self.is_wanted() && (old || asked || behind >= all.maintain_every)
            // Less was held than is needed now: before anybody relies on it.
            || wanted.since.is_some_and(|since| held.since.is_none_or(|held| held > since))
    }
}

fn duration_ms(config: &HandleConfig) -> u64 {
    u64::try_from(config.lease.as_millis()).unwrap_or(u64::MAX)
}

impl Handle {
    /// Holds the shard's history: from now on times at or after `since` stay apart, and no part of
    /// the states that this handle reads is deleted. If since has passed the one asked for, it holds
    /// the present one: see [`Hold::since`]. No entry if the handle's lease says so already.
    ///
    /// A handle opened for reading holds nothing, and no harm is done: a part that is gone is then
    /// an error.
    ///
    /// # Errors
    ///
    /// As [`compare_and_append`](Handle::compare_and_append); nothing is held then.
    pub async fn hold(&self, since: u64) -> Result<Hold, Error> {
        let unsure = Unsure { handle: self, id: self.enlist(since).id };
        // Always behind an append in flight, which may say that we hold later times than this.
        self.renew().await?;
        Ok(Hold { id: unsure.taken(), since: since.max(self.state().since) })
    }

    /// As [`hold`](Handle::hold), but nothing is held before the next append of this handle, or the
    /// next [`keep`](Handle::keep): for a follower that finds nothing to read. No I/O.
    pub(crate) fn enlist(&self, since: u64) -> Hold {
        let seqno = self.state().seqno;
        let mut keeper = lock(&self.inner.keeper);
        keeper.next += 1;
        let id = keeper.next;
        keeper.needs.insert(id, Need { since, seqno });
        Hold { id, since }
    }

    /// Returns the name of this handle's lease, if it is in the log as far as read.
    pub(crate) fn lease(&self) -> Option<Token> {
        let state = self.state();
        let mut keeper = lock(&self.inner.keeper);
        keeper.see(&state, || Token(self.inner.io.token()));
        // Judged and named under one lock: another task may see its end in between.
        state.leases.contains_key(&keeper.token).then_some(keeper.token)
    }

    /// Says that a follower needs no time before `since` and no state before the one known here. No
    /// I/O: the next entry of this handle says it on.
    pub fn advance(&self, hold: &Hold, since: u64) {
        let seqno = self.state().seqno;
        if let Some(need) = lock(&self.inner.keeper).needs.get_mut(&hold.id) {
            need.since = need.since.max(since);
            need.seqno = need.seqno.max(seqno);
        }
    }

    /// Renews the lease if it is time, and takes a new one if it was ended. No I/O otherwise.
    ///
    /// # Errors
    ///
    /// As [`hold`](Handle::hold). If the lease is still in the log it goes on as it was.
    pub async fn keep(&self) -> Result<(), Error> {
        if !self.is_due(&self.state()) {
            return Ok(());
        }
        self.renew().await
    }

    /// Keeps the lease for as long as this is polled, for a caller that reads or holds and may have
    /// nothing to write for long: looks at the log, renews the lease when it is time or when another asks
    /// for it, and keeps an idle shard small. Never ends, and fails nobody.
    pub async fn attend(&self) -> Infallible {
        let every = (self.inner.config.answer / 4).max(Duration::from_millis(1));
        loop {
            tokio::time::sleep(every).await;
            // In an empty shard there is nothing to hold.
            let idle = self.state().upper == 0 && self.lease().is_none();
            if self.inner.access == Access::Read || idle {
                continue;
            }
            let kept = match self.refresh().await {
                Ok(_) => self.keep().await,
                Err(e) => Err(e),
            };
            if let Err(e) = kept {
                tracing::debug!(shard = self.inner.root.url(), error = %e, "a lease was not renewed");
            }
            if !crate::mutant::on("idle_grows") {
                self.maintain_aside();
            }
        }
    }

    /// Hears whether an entry asks for this handle's lease, as it is in the state after it.
    pub(super) fn hear(&self, entry: &Entry, state: &State) {
        let Change::Collect(done) = &entry.change else { return };
        let mut keeper = lock(&self.inner.keeper);
        if done.asked.contains(&keeper.token) {
            keeper.asked = state.leases.get(&keeper.token).copied();
        }
    }

    /// As [`keep`](Handle::keep), but a renewal that failed is none as long as the lease is there.
    pub(crate) async fn keep_surely(&self) -> Result<(), Error> {
        match self.keep().await {
            Err(e) if e.kind() != ErrorKind::Replaced && self.lease().is_some() => Ok(()),
            kept => kept,
        }
    }

    /// Says what it means to a follower that a part is gone: `lease` is what
    /// [`lease`](Handle::lease) said before the state that names it was read. Nobody deletes what a
    /// lease holds, so it is damage unless the lease was ended meanwhile, which `lost` is the error of.
    pub(crate) async fn gone(
        &self,
        lease: Option<Token>,
        missing: Error,
        lost: impl FnOnce() -> Error,
    ) -> Error {
        // It may have been ended in an entry that is not read yet, and another be there by now.
        if let Err(e) = self.refresh().await {
            return e;
        }
        if lease.is_none() || self.lease() != lease {
            return lost().because(missing);
        }
        let place = missing.place().unwrap_or(self.inner.root.url()).to_string();
        Error::new(ErrorKind::Corrupt, "a part is lost")
            .at(place)
            .hint("restore the shard from a copy")
            .because(missing)
    }

    /// Gives a hold back; the last one ends the lease, or what it holds. If that cannot be written
    /// it runs out.
    pub async fn release(&self, hold: Hold) {
        let last = {
            let mut keeper = lock(&self.inner.keeper);
            keeper.needs.remove(&hold.id).is_some() && keeper.needs.is_empty()
        };
        if !last {
            return;
        }
        let released = self.propose(|handle, state| {
            let mut keeper = lock(&handle.inner.keeper);
            keeper.see(state, || Token(handle.inner.io.token()));
            // Another follower may have come.
            if !state.leases.contains_key(&keeper.token) || !keeper.needs.is_empty() {
                return Ok(None);
            }
            let mut leased = Leased::default();
            match keeper.uploads {
                true => leased.grant = Some(keeper.grant(state, handle.expires_ms())),
                false => leased.release = Some(keeper.token),
            }
            Ok(Some(handle.leased(state, leased)))
        });
        if let Err(e) = released.await {
            tracing::debug!(shard = self.inner.root.url(), error = %e, "a lease is left to run out");
        }
    }

    /// Ends this handle's lease, for a caller that is done: parts that it has uploaded and not
    /// appended are orphans from here on. The handle can still be used; it takes a new lease then.
    ///
    /// # Errors
    ///
    /// As [`hold`](Handle::hold). The lease runs out by itself then.
    pub async fn close(&self) -> Result<(), Error> {
        if self.inner.access == Access::Read {
            return Ok(());
        }
        self.propose(|handle, state| {
            let mut keeper = lock(&handle.inner.keeper);
            keeper.see(state, || Token(handle.inner.io.token()));
            keeper.uploads = false;
            keeper.needs.clear();
            if !state.leases.contains_key(&keeper.token) {
                return Ok(None);
            }
            let release = Some(keeper.token);
            Ok(Some(handle.leased(state, Leased { release, ..Leased::default() })))
        })
        .await?;
        Ok(())
    }

    /// Returns the folder for parts, whose lease is in the log.
    pub(super) async fn permit(&self) -> Result<Token, Error> {
        lock(&self.inner.keeper).uploads = true;
        let inner = &*self.inner;
        let mut attempts =
            inner.patience.begin_quietly("taking a lease in", inner.root.url().into());
        loop {
            let kept = self.keep().await;
            if let Err(e) = &kept
                && e.kind() == ErrorKind::Replaced
            {
                return Err(e.clone());
            }
            // Whatever became of that: an upload counts only if the lease is in the log as far as
            // read, and it may have been ended while the entry that grants it was being settled.
            if let Some(token) = self.lease() {
                return Ok(token);
            }
            let why = kept.err().unwrap_or_else(|| {
                Error::new(ErrorKind::Unavailable, "others end it at once")
                    .at(inner.root.url())
                    .hint("check the clocks of those who collect")
            });
            attempts.pause(why).await.map_err(|e| {
                // No part was written, whatever became of the lease.
                let kind = match e.kind() {
                    ErrorKind::Indeterminate => ErrorKind::Unavailable,
                    kind => kind,
                };
                Error::new(kind, format!("no lease for a part: {}", e.what()))
                    .at(e.place().unwrap_or(inner.root.url()))
                    .hint(e.advice().unwrap_or("check the store and rerun"))
                    .because(e)
            })?;
        }
    }

    /// Returns how many followers read through this handle.
    pub(super) fn followers(&self) -> usize {
        lock(&self.inner.keeper).needs.len()
    }

    /// Puts the lease, renewed, into a commit that follows `state`.
    pub(super) fn renew_in(&self, state: &State, commit: &mut Commit) {
        let mut keeper = lock(&self.inner.keeper);
        keeper.see(state, || Token(self.inner.io.token()));
        if keeper.is_wanted() {
            commit.grant = Some(keeper.grant(state, self.expires_ms()));
            let history = commit.history.unwrap_or(state.history);
            commit.since = state.since_after(commit.upper, history, commit.grant.as_ref(), &[]);
        }
    }

    async fn renew(&self) -> Result<(), Error> {
        if self.inner.access == Access::Read {
            return Ok(());
        }
        self.propose(|handle, state| {
            if !handle.is_due(state) {
                return Ok(None);
            }
            let grant = Some(lock(&handle.inner.keeper).grant(state, handle.expires_ms()));
            Ok(Some(handle.leased(state, Leased { grant, ..Leased::default() })))
        })
        .await?;
        // So that it is known to have been granted, should it be gone at the next look.
        let _ = self.lease();
        Ok(())
    }

    fn is_due(&self, state: &State) -> bool {
        let mut keeper = lock(&self.inner.keeper);
        keeper.see(state, || Token(self.inner.io.token()));
        let (held, now_ms) = (state.leases.get(&keeper.token), self.inner.io.now_ms());
        self.inner.access == Access::Write && keeper.is_due(held, state, now_ms, &self.inner.config)
    }

    fn expires_ms(&self) -> u64 {
        self.inner.io.now_ms().saturating_add(duration_ms(&self.inner.config))
    }

    fn leased(&self, state: &State, mut leased: Leased) -> Change {
        // The first entry of a shard gives it its history, whatever else it does.
        leased.history = (state.seqno == 0).then(|| self.inner.config.history.unwrap_or_default());
        let history = leased.history.unwrap_or(state.history);
        let ended = leased.release.as_slice();
        leased.since = state.since_after(state.upper, history, leased.grant.as_ref(), ended);
        Change::Lease(leased)
    }
}
