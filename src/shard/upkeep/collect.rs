//! Owns collection: what may go, and the order in which it goes. It merges nothing; that is
//! [`compact`](super::compact)'s.
//!
//! # Order
//!
//! A rollup at or above the floor to be, then the floor, durably; only then anything is deleted.
//! A collector that dies in between leaves what the next collection finds again: entries and rollups by
//! listing them, replaced parts by the state, which names them until an entry says that they are
//! gone.
//!
//! # Orphans
//!
//! Parts that no entry ever named are found by listing. The listing comes first and the state after
//! it: a part in the listing was uploaded under a lease that was in the log by then, so a state read
//! later that does not show the lease has seen its end, and from there on no entry can name the part
//! for the first time. The other way round a writer may take its lease and upload in between.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::error::Error;
use crate::shard::counters::MaintenanceStats;
use crate::shard::engine::entry::{Change, Collected};
use crate::shard::engine::expiry::{Judge, Verdict, Watched};
use crate::shard::engine::id::Id;
use crate::shard::engine::lease::lease_of;
use crate::shard::engine::rollup;
use crate::shard::engine::state::{Part, State};
use crate::shard::holds::Holds;
use crate::shard::settle::Settler;
use crate::shard::view::View;

/// Rollups that stay: the newest, and the one that an opener may be about to read.
const ROLLUPS_KEPT: usize = 2;

/// What ends leases and deletes what nobody holds; clones share what was watched.
#[derive(Clone, Debug)]
pub(super) struct Collector {
    view: Arc<View>,
    settler: Settler,
    holds: Holds,
    /// The leases in the log, as this handle has watched them.
    watched: Arc<Mutex<Watched>>,
    /// The last entry of a maintainer that this handle made, or found when it was opened.
    claimed: Arc<AtomicU64>,
}

impl Collector {
    pub(super) fn new(settler: Settler, holds: Holds) -> Collector {
        let (view, watched) = (Arc::clone(&settler.view), Arc::default());
        let claimed = Arc::new(AtomicU64::new(view.state().maintained));
        Collector { view, settler, holds, watched, claimed }
    }

    /// Returns the last entry of a maintainer that is this handle's, or was there before it.
    pub(super) fn claimed(&self) -> u64 {
        self.claimed.load(Ordering::Relaxed)
    }

    /// Judges the leases of the state known here, as they are now.
    pub(super) fn verdict(&self) -> Verdict {
        let judge = self.judge();
        self.watched.lock().verdict(&judge)
    }

    /// Collects all that nobody holds.
    pub(super) async fn collect_all(&self, stats: &mut MaintenanceStats) -> Result<(), Error> {
        self.view.refresh().await?;
        self.end_the_silent(stats).await?;
        let now_ms = self.view.io.now_ms();
        let state = self.view.state();
        let kept = if crate::mutant::on("gc_keeps_entries") { 64 } else { 0 };
        let floor = state.collectable().min(state.seqno.saturating_sub(kept));
        self.collect_log(floor, stats).await?;
        self.sweep(stats).await?;
        let before_ms = now_ms.saturating_sub(self.view.config.lease.as_millis() as u64);
        self.view.blob.sweep_leftovers(before_ms).await?;
        Ok(())
    }

    /// Looks at the leases of the state known here, and says by what to judge them now.
    fn judge(&self) -> Judge {
        let (duration, answer) = (self.view.config.lease, self.view.config.answer);
        let (clock_ms, now) = (self.view.io.now_ms(), self.view.now());
        let judge = Judge { duration, answer, clock_ms, now };
        self.watched.lock().see(&self.view.state(), judge.now);
        judge
    }

    /// Asks for the leases that look wrong, and ends those whose holders do not answer, or have been
    /// silent for long before our own eyes.
    async fn end_the_silent(&self, stats: &mut MaintenanceStats) -> Result<(), Error> {
        let judge = self.judge();
        let verdict = self.watched.lock().verdict(&judge);
        let asked = self.enter_collected(move |state| {
            let asked = verdict.still_doubtful(state);
            (!asked.is_empty()).then_some(Collected { asked, ..Collected::default() })
        });
        let asked = asked.await?;
        self.note_asked(asked.as_ref());
        let mut judge = self.judge();
        while self.watched.lock().waits(&judge) {
            tokio::time::sleep(judge.answer / 8).await;
            self.view.refresh().await?;
            judge = self.judge();
        }
        let verdict = self.watched.lock().verdict(&judge);
        let ended = self.enter_collected(move |state| {
            let expired = verdict.still_ended(state);
            (!expired.is_empty()).then_some(Collected { expired, ..Collected::default() })
        });
        stats.leases_expired += ended.await?.map_or(0, |done| done.expired.len() as u64);
        Ok(())
    }

    /// Notes which leases an entry of ours has asked for.
    pub(super) fn note_asked(&self, done: Option<&Collected>) {
        if let Some(done) = done {
            let now = self.judge().now;
            self.watched.lock().asked(&done.asked, now);
        }
    }

    /// See [`Handle::end_lease`](crate::shard::Handle::end_lease).
    pub(super) async fn end_lease(&self, token: Id) -> Result<bool, Error> {
        self.view.must_write("the end of a lease on")?;
        let ended = self.enter_collected(move |state| {
            let there = state.leases.contains_key(&token);
            there.then(|| Collected { expired: vec![token], ..Collected::default() })
        });
        Ok(ended.await?.is_some())
    }

    /// Enters what `decide` makes of the newest state, with the right since. Returns what was
    /// entered.
    pub(super) async fn enter_collected(
        &self,
        decide: impl Fn(&State) -> Option<Collected> + Send + 'static,
    ) -> Result<Option<Collected>, Error> {
        let seqno = Arc::new(AtomicU64::default());
        let tried = Arc::clone(&seqno);
        let proposed = self.settler.propose(move |state| {
            let Some(mut done) = decide(state) else { return Ok(None) };
            tried.store(state.seqno.saturating_add(1), Ordering::Relaxed);
            done.since = state.since_after(state.upper, state.history, None, &done.expired);
            Ok(Some(Change::Collect(done)))
        });
        match proposed.await? {
            Some(Change::Collect(done)) => {
                self.claimed.store(seqno.load(Ordering::Relaxed), Ordering::Relaxed);
                Ok(Some(done))
            }
            _ => Ok(None),
        }
    }

    /// Raises the floor to `wanted`, which a state that was known here has allowed, and deletes what
    /// lies below.
    pub(super) async fn collect_log(
        &self,
        wanted: u64,
        stats: &mut MaintenanceStats,
    ) -> Result<(), Error> {
        let view = &*self.view;
        // A lease that was granted since protects what is read from its own entry on: the floor does
        // not come as far.
        let state = self.view.state();
        let mut floor = view.log.floor().await?;
        if wanted > floor {
            self.ensure_rollup(&state, wanted).await?;
            if !crate::mutant::on("delete_before_floor") {
                view.log.raise_floor(wanted).await?;
            }
            floor = wanted;
        } else if floor > 0 {
            // Another's mark can be seen before it is durable, and that other may be dead.
            view.log.raise_floor(floor).await?;
        }
        // From here on the floor is durable, and nobody believes what lies at or below it.
        let mut gone = 0;
        for retired in state.retired.iter().filter(|retired| retired.seqno <= floor) {
            for key in &retired.keys {
                view.blob.delete(key).await?;
                stats.parts_deleted += 1;
            }
            gone = retired.seqno;
        }
        // From the top: where the deletion of one is that of all before it, the others are done then.
        for seqno in view.log.entries().await?.into_iter().rev().filter(|seqno| *seqno <= floor) {
            view.log.delete(seqno).await?;
            stats.entries_deleted += 1;
        }
        if crate::mutant::on("delete_before_floor") {
            view.log.raise_floor(floor).await?;
        }
        self.delete_rollups(stats).await?;
        if gone > 0 {
            self.enter_collected(move |state| {
                let named = state.retired.iter().any(|retired| retired.seqno <= gone);
                named.then_some(Collected { floor: gone, ..Collected::default() })
            })
            .await?;
        }
        Ok(())
    }

    /// Makes sure that a process which opens the shard finds a state at or above the floor to be.
    async fn ensure_rollup(&self, state: &State, floor: u64) -> Result<(), Error> {
        let view = &*self.view;
        let listed = view.blob.list(&format!("{}/rollup", view.name), usize::MAX).await?;
        let newest = listed.iter().filter_map(|found| rollup::parse_key(&found.key)).max();
        if newest.is_some_and(|(seqno, _)| seqno >= floor) {
            return Ok(());
        }
        let key = rollup::key(&view.name, state.seqno, state.token);
        view.blob.put(&key, Bytes::from(rollup::encode(state)?)).await
    }

    async fn delete_rollups(&self, stats: &mut MaintenanceStats) -> Result<(), Error> {
        let blob = &self.view.blob;
        let listed = blob.list(&format!("{}/rollup", self.view.name), usize::MAX).await?;
        // By number: the names sort as the numbers do.
        let known = listed.iter().filter(|found| rollup::parse_key(&found.key).is_some());
        let known: Vec<_> = known.collect();
        for old in known.iter().rev().skip(ROLLUPS_KEPT) {
            blob.delete(&old.key).await?;
            stats.rollups_deleted += 1;
        }
        Ok(())
    }

    /// Deletes parts that no entry names, nor ever will. The order matters: a part of ours that is in the
    /// listing and not pending after it was decided before, so that a state after that shows it if it
    /// was named.
    pub(super) async fn sweep(&self, stats: &mut MaintenanceStats) -> Result<(), Error> {
        let view = &*self.view;
        view.uploads.lock().settle(&self.view.state());
        view.uploads.lock().begin_sweep();
        let swept = self.sweep_parts(stats).await;
        if swept.is_err() {
            view.uploads.lock().may_have_garbage();
        }
        swept
    }

    async fn sweep_parts(&self, stats: &mut MaintenanceStats) -> Result<(), Error> {
        let view = &*self.view;
        let before = match crate::mutant::on("sweep_before_listing") {
            true => Some(self.view.refresh().await?),
            false => None,
        };
        let listed = view.blob.list(&format!("{}/part", view.name), usize::MAX).await?;
        let ours = self.holds.lease();
        let pending: BTreeSet<&str> = {
            let uploads = view.uploads.lock();
            listed.iter().map(|found| &*found.key).filter(|key| uploads.is_pending(key)).collect()
        };
        let state = match before {
            Some(state) => state,
            None => self.view.refresh().await?,
        };
        let parts = state.batches.iter().flat_map(|batch| &batch.parts);
        let stored = parts.filter_map(|part| match part {
            Part::Stored { key, .. } => Some(key.as_str()),
            Part::Inline { .. } => None,
        });
        // What was merged goes with the floor, not before: older states still name it.
        let retired = state.retired.iter().flat_map(|retired| &retired.keys);
        let named: BTreeSet<&str> = stored.chain(retired.map(String::as_str)).collect();
        for found in &listed {
            let Some(lease) = lease_of(&found.key) else { continue };
            let key = found.key.as_str();
            // Of ours we know what is garbage; of others only that it is once their lease has ended.
            let spared = match ours == Some(lease) && state.leases.contains_key(&lease) {
                true => pending.contains(key) && !crate::mutant::on("sweep_handed_out"),
                false => state.leases.contains_key(&lease) && !crate::mutant::on("sweep_leased"),
            };
            if spared || named.contains(key) {
                continue;
            }
            view.blob.delete(&found.key).await?;
            stats.parts_deleted += 1;
            stats.orphans_deleted += 1;
        }
        Ok(())
    }
}
