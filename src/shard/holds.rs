//! Owns the leases that a handle takes and gives back: holds for its followers, the folder for its parts.
//! What its lease says, and when it is renewed, is [`keeper`](super::keeper)'s; what a lease promises
//! [`lease`](super::engine::lease)'s.
//!
//! Every append of the handle renews the lease on the way. Only when there was none for a quarter of its
//! duration, or others have gone on for long or have asked for it, an entry of its own does. Once an
//! entry has ended it, its token is never used again: what lies in its folder may be gone at any moment.

use std::sync::Arc;

use super::engine::entry::{Change, Leased};
use super::engine::id::Id;
use super::engine::state::State;
use super::keeper::Now;
use super::settle::Settler;
use super::view::View;
use crate::error::{Error, ErrorKind};
use crate::store::Access;

/// One follower's part of a handle's lease: give it back with [`Handle::release`](crate::shard::Handle::release).
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
    view: &'a View,
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
        self.view.keeper.lock().strike(self.id);
    }
}

/// The lease of a handle; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Holds {
    pub(super) view: Arc<View>,
    settler: Settler,
}

impl Holds {
    pub(super) fn new(settler: Settler) -> Holds {
        Holds { view: Arc::clone(&settler.view), settler }
    }

    /// See [`Handle::hold`](super::Handle::hold).
    pub(crate) async fn hold(&self, since: u64) -> Result<Hold, Error> {
        let unsure = Unsure { view: &self.view, id: self.enlist(since).id };
        // Always behind an append in flight, which may say that we hold later times than this.
        self.renew().await?;
        Ok(Hold { id: unsure.taken(), since: since.max(self.view.state().since) })
    }

    /// As [`hold`](Holds::hold), but nothing is held before the next append of this handle, or the
    /// next [`keep`](Holds::keep): for a follower that finds nothing to read. No I/O.
    pub(crate) fn enlist(&self, since: u64) -> Hold {
        let seqno = self.view.state().seqno;
        Hold { id: self.view.keeper.lock().enlist(since, seqno), since }
    }

    /// Returns the name of this handle's lease, if it is in the log as far as read.
    pub(crate) fn lease(&self) -> Option<Id> {
        let state = self.view.state();
        let mut keeper = self.view.keeper.lock();
        keeper.see(&state, self.view.now(), || self.view.fresh());
        // Judged and named under one lock: another task may see its end in between.
        state.leases.contains_key(&keeper.token).then_some(keeper.token)
    }

    /// See [`Handle::advance`](super::Handle::advance).
    pub(crate) fn advance(&self, hold: &Hold, since: u64) {
        let seqno = self.view.state().seqno;
        self.view.keeper.lock().advance(hold.id, since, seqno);
    }

    /// See [`Handle::keep`](super::Handle::keep).
    pub(crate) async fn keep(&self) -> Result<(), Error> {
        if !is_due(&self.view, &self.view.state()) {
            return Ok(());
        }
        self.renew().await
    }

    /// As [`keep`](Holds::keep), but a renewal that failed is none as long as the lease is there.
    pub(crate) async fn keep_surely(&self) -> Result<(), Error> {
        match self.keep().await {
            Err(e) if e.kind() != ErrorKind::Replaced && self.lease().is_some() => Ok(()),
            kept => kept,
        }
    }

    /// Says what it means to a follower that a part is gone: `lease` is what
    /// [`lease`](Holds::lease) said before the state that names it was read. Nobody deletes what a
    /// lease holds, so it is damage unless the lease was ended meanwhile, which `lost` is the error of.
    pub(crate) async fn gone(
        &self,
        lease: Option<Id>,
        missing: Error,
        lost: impl FnOnce() -> Error,
    ) -> Error {
        // It may have been ended in an entry that is not read yet, and another be there by now.
        if let Err(e) = self.view.refresh().await {
            return e;
        }
        if lease.is_none() || self.lease() != lease {
            return lost().because(missing);
        }
        let place = missing.place().unwrap_or(self.view.root.url()).to_string();
        Error::new(ErrorKind::Corrupt, "a part is lost")
            .at(place)
            .hint("restore the shard from a copy")
            .because(missing)
    }

    /// See [`Handle::release`](super::Handle::release).
    pub(crate) async fn release(&self, hold: Hold) {
        if !self.view.keeper.lock().strike(hold.id) {
            return;
        }
        let view = Arc::clone(&self.view);
        let released = self.settler.propose(move |state| {
            let mut keeper = view.keeper.lock();
            keeper.see(state, view.now(), || view.fresh());
            // Another follower may have come.
            if !state.leases.contains_key(&keeper.token) || keeper.followers() > 0 {
                return Ok(None);
            }
            let mut leased = Leased::default();
            match keeper.uploads {
                true => leased.grant = Some(keeper.grant(state, view.expires_ms())),
                false => leased.release = Some(keeper.token),
            }
            Ok(Some(change(&view, state, leased)))
        });
        if let Err(e) = released.await {
            tracing::debug!(shard = self.view.url(), error = %e, "a lease is left to run out");
        }
    }

    /// See [`Handle::close`](super::Handle::close).
    pub(crate) async fn close(&self) -> Result<(), Error> {
        if self.view.access == Access::Read {
            return Ok(());
        }
        let view = Arc::clone(&self.view);
        let closed = self.settler.propose(move |state| {
            let mut keeper = view.keeper.lock();
            keeper.see(state, view.now(), || view.fresh());
            keeper.clear();
            if !state.leases.contains_key(&keeper.token) {
                return Ok(None);
            }
            let release = Some(keeper.token);
            Ok(Some(change(&view, state, Leased { release, ..Leased::default() })))
        });
        closed.await.map(drop)
    }

    /// Returns the folder for parts, whose lease is in the log.
    pub(super) async fn permit(&self) -> Result<Id, Error> {
        self.view.keeper.lock().uploads = true;
        let view = &*self.view;
        let attempts = view.patience.begin_quietly("taking a lease in", view.url().into());
        attempts.retry_transient(|| self.take()).await.map_err(|e| {
            // No part was written, whatever became of the lease.
            let kind = match e.kind() {
                ErrorKind::Replaced => return e,
                ErrorKind::Indeterminate => ErrorKind::Unavailable,
                kind => kind,
            };
            Error::new(kind, format!("no lease for a part: {}", e.what()))
                .at(e.place().unwrap_or(view.url()))
                .hint(e.advice().unwrap_or("check the store and rerun"))
                .because(e)
        })
    }

    /// Returns the lease, which is taken if there is none.
    async fn take(&self) -> Result<Id, Error> {
        let kept = self.keep().await;
        if let Err(e) = &kept
            && e.kind() == ErrorKind::Replaced
        {
            return Err(e.clone());
        }
        // Whatever became of that: an upload counts only if the lease is in the log as far as
        // read, and it may have been ended while the entry that grants it was being settled.
        self.lease().ok_or_else(|| {
            kept.err().unwrap_or_else(|| {
                Error::new(ErrorKind::Unavailable, "others end it at once")
                    .at(self.view.url())
                    .hint("check the clocks of the collectors")
            })
        })
    }

    async fn renew(&self) -> Result<(), Error> {
        if self.view.access == Access::Read {
            return Ok(());
        }
        let view = Arc::clone(&self.view);
        let renewed = self.settler.propose(move |state| {
            if !is_due(&view, state) {
                return Ok(None);
            }
            let grant = Some(view.keeper.lock().grant(state, view.expires_ms()));
            Ok(Some(change(&view, state, Leased { grant, ..Leased::default() })))
        });
        renewed.await?;
        // So that it is known to have been granted, should it be gone at the next look.
        let _ = self.lease();
        Ok(())
    }
}

/// Whether the lease is to be renewed in the entry after `state`.
fn is_due(view: &View, state: &State) -> bool {
    let mut keeper = view.keeper.lock();
    let now = Now { at: view.now(), clock_ms: view.io.now_ms() };
    keeper.see(state, now.at, || view.fresh());
    view.access == Access::Write && keeper.is_due(state, now, &view.config)
}

/// Makes the change of a lease an entry after `state`.
fn change(view: &View, state: &State, mut leased: Leased) -> Change {
    leased.history = view.first_history(state);
    let history = leased.history.unwrap_or(state.history);
    let ended = leased.release.as_slice();
    leased.since = state.since_after(state.upper, history, leased.grant.as_ref(), ended);
    Change::Lease(leased)
}
