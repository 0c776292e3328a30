//! Owns when a writer compacts and collects by itself. What these do is [`compact`](super::compact)'s
//! and [`collect`](super::collect)'s.
//!
//! A round begins with an entry that claims it, so that of many writers one does the work, and the next rounds too. If it
//! dies, another takes its place after half as many entries as there are between two rounds at the most.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex as AsyncMutex;

use super::collect::Collector;
use super::compact::{AT_THE_END, Compactor, IN_A_ROUND};
use crate::error::Error;
use crate::shard::counters::{MaintenanceCell, MaintenanceStats};
use crate::shard::engine::entry::Collected;
use crate::shard::engine::id::Id;
use crate::shard::engine::space::{Due, Space, floor};
use crate::shard::engine::state::State;
use crate::shard::holds::Holds;
use crate::shard::rows::Rows;
use crate::shard::settle::Settler;
use crate::shard::view::View;
use crate::store::Access;

/// What a last round leaves as it is: less than this, and whatever is in proportion.
const TIDY_BYTES_MIN: u64 = 64 << 10;
/// More than this is not merged by a last round: it would not end.
const TIDY_BYTES_MAX: u64 = 1 << 30;
/// How long a last round waits for the store.
const ANSWER_MAX: Duration = Duration::from_secs(3);

/// What keeps the shard small; clones share the round that is under way.
#[derive(Clone, Debug)]
pub(crate) struct Upkeep {
    view: Arc<View>,
    holds: Holds,
    compactor: Compactor,
    collector: Collector,
    maintenance: Arc<MaintenanceCell>,
    /// Held by the one round of this handle; whether one has swept.
    maintaining: Arc<AsyncMutex<bool>>,
}

impl Upkeep {
    pub(crate) fn new(settler: &Settler, rows: &Rows) -> Upkeep {
        let (view, holds) = (Arc::clone(&settler.view), rows.holds.clone());
        let compactor = Compactor::new(settler.clone(), rows.clone());
        let collector = Collector::new(settler.clone(), holds.clone());
        let (maintenance, maintaining) = (Arc::default(), Arc::default());
        Upkeep { view, holds, compactor, collector, maintenance, maintaining }
    }

    /// Returns what was done so far.
    pub(crate) fn maintenance(&self) -> MaintenanceStats {
        self.maintenance.read()
    }

    /// See [`Handle::compact`](crate::shard::Handle::compact).
    pub(crate) async fn compact(&self) -> Result<MaintenanceStats, Error> {
        self.view.must_write("a compaction of")?;
        let mut stats = MaintenanceStats::default();
        let done = self.compactor.compact_all(&mut stats).await;
        self.maintenance.add(&stats);
        done.map(|()| stats)
    }

    /// See [`Handle::collect`](crate::shard::Handle::collect).
    pub(crate) async fn collect(&self) -> Result<MaintenanceStats, Error> {
        self.view.must_write("a collection of")?;
        let mut stats = MaintenanceStats::default();
        let done = self.collector.collect_all(&mut stats).await;
        self.maintenance.add(&stats);
        done.map(|()| stats)
    }

    /// See [`Handle::end_lease`](crate::shard::Handle::end_lease).
    pub(crate) async fn end_lease(&self, token: Id) -> Result<bool, Error> {
        self.collector.end_lease(token).await
    }

    /// See [`Handle::attend`](crate::shard::Handle::attend).
    pub(crate) async fn attend(&self) -> Infallible {
        let every = (self.view.config.answer / 4).max(Duration::from_millis(1));
        loop {
            tokio::time::sleep(every).await;
            // In an empty shard there is nothing to hold.
            let idle = self.view.state().upper == 0 && self.holds.lease().is_none();
            if self.view.access == Access::Read || idle {
                continue;
            }
            let kept = async {
                // Where a follower looks, that will do.
                if !self.view.has_looked(every) {
                    self.view.glance().await?;
                }
                self.holds.keep().await
            };
            if let Err(e) = kept.await {
                tracing::debug!(shard = self.view.url(), error = %e, "a lease was not renewed");
            }
            if !crate::mutant::on("idle_grows") {
                self.maintain_aside();
            }
        }
    }

    /// See [`Handle::maintain`](crate::shard::Handle::maintain).
    pub(crate) async fn maintain(&self) {
        if !self.wants_round() {
            return;
        }
        let Ok(mut swept) = self.maintaining.try_lock() else { return };
        let mut stats = MaintenanceStats::default();
        if let Err(e) = self.round(&mut swept, &mut stats).await {
            tracing::warn!(shard = self.view.root.url(), error = %e, "maintenance is put off");
        }
        self.maintenance.add(&stats);
    }

    /// As [`maintain`](Upkeep::maintain), on a task of its own, if it is time.
    pub(crate) fn maintain_aside(&self) {
        if !self.wants_round() {
            return;
        }
        let upkeep = self.clone();
        let round = async move {
            upkeep.maintain().await;
            Ok(())
        };
        self.view.io.aside().spawn_answered("maintenance", round, |outcome| {
            if let Err(error) = outcome {
                tracing::warn!(%error, "a round of maintenance is lost");
            }
        });
    }

    /// Whether a round is due, or a lease may be ended. Watches the leases on the way.
    fn wants_round(&self) -> bool {
        if self.view.access == Access::Read {
            return false;
        }
        let ended = self.collector.verdict().ended;
        let (pace, claimed) = (self.view.config.pace(), self.collector.claimed());
        Due::of(&self.view.state(), pace, claimed).is_any() || !ended.is_empty()
    }

    async fn round(&self, swept: &mut bool, stats: &mut MaintenanceStats) -> Result<(), Error> {
        let config = &self.view.config;
        let (verdict, pace) = (self.collector.verdict(), config.pace());
        let before = self.collector.claimed();
        let due = Due::of(&self.view.state(), pace, before);
        let claimed = self.collector.enter_collected(move |state| {
            // Renewed in the last moment, or ended by somebody else?
            let (expired, asked) = (verdict.still_ended(state), verdict.still_doubtful(state));
            let due = Due::of(state, pace, before).is_any() || !expired.is_empty();
            due.then_some(Collected { expired, asked, ..Collected::default() })
        });
        let Some(claim) = claimed.await? else { return Ok(()) };
        self.collector.note_asked(Some(&claim));
        stats.leases_expired += claim.expired.len() as u64;
        // What earlier rounds replaced goes first, so that there is room for what this one writes.
        if Space::of(&self.view.state()).is_much_freeable() {
            self.collector
                .collect_log(floor(&self.view.state(), config.entries_kept), stats)
                .await?;
        }
        // What only waits to be deleted is no reason to merge the little that has come since. What an ended lease held
        // may be much.
        if due.merge || !claim.expired.is_empty() || crate::mutant::on("collection_merges") {
            // More may have come meanwhile, or a little that keeps what was replaced from going.
            let enough = |state: &State| {
                let (space, part_bytes) = (Space::of(state), pace.part_bytes);
                space.is_much_mergeable(part_bytes) || space.is_much_stuck(part_bytes)
            };
            self.compactor.merge_tiers(IN_A_ROUND, config.entries_kept, enough, stats).await?;
        }
        self.collector.collect_log(floor(&self.view.state(), config.entries_kept), stats).await?;
        // Once, for those that died before this process began, and after every lease that is ended.
        self.view.uploads.lock().settle(&self.view.state());
        let garbage = self.view.uploads.lock().has_garbage();
        if !claim.expired.is_empty() || garbage || !*swept {
            self.collector.sweep(stats).await?;
            *swept = true;
        }
        Ok(())
    }

    /// See [`Handle::tidy`](crate::shard::Handle::tidy).
    pub(crate) async fn tidy(&self, within: Duration) {
        if self.view.access == Access::Read {
            return;
        }
        let mut stats = MaintenanceStats::default();
        let done =
            tokio::time::timeout(within, self.unless_silent(self.tidy_all(&mut stats))).await;
        match done {
            Ok(Some(Ok(()))) => {}
            Ok(Some(Err(e))) => {
                tracing::info!(shard = self.view.root.url(), error = %e, "not tidied up");
            }
            Ok(None) | Err(_) => {
                tracing::info!(shard = self.view.root.url(), "not tidied up: it took too long");
            }
        }
        self.maintenance.add(&stats);
    }

    /// Does some work, and gives up if no byte has come or gone for [`ANSWER_MAX`].
    async fn unless_silent<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = std::pin::pin!(work);
        let mut before = None;
        loop {
            match tokio::time::timeout(ANSWER_MAX, &mut work).await {
                Ok(done) => return Some(done),
                Err(_) if before == Some(self.view.counters()) => return None,
                Err(_) => before = Some(self.view.counters()),
            }
        }
    }

    async fn tidy_all(&self, stats: &mut MaintenanceStats) -> Result<(), Error> {
        // A round that is under way needs the lease.
        let _round = self.maintaining.lock().await;
        self.holds.close().await?;
        let state = self.view.refresh().await?;
        let space = Space::of(&state);
        if space.mergeable + space.freeable <= TIDY_BYTES_MIN.max(space.settled / 8) {
            return Ok(());
        }
        drop(state);
        if space.mergeable <= TIDY_BYTES_MAX {
            self.compactor.merge_tiers(AT_THE_END, 0, |_| true, stats).await?;
            // What was uploaded for it is in the log, or never will be.
            self.holds.close().await?;
        }
        if self.view.uploads.lock().has_garbage() {
            self.collector.sweep(stats).await?;
        }
        let state = self.view.state();
        if !state.retired.is_empty() {
            self.collector.collect_log(state.collectable().min(state.seqno), stats).await?;
        }
        Ok(())
    }
}
