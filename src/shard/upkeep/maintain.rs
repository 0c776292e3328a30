//! Owns when a writer compacts and collects by itself. What these do is [`compact`](super::compact)'s
//! and [`collect`](super::collect)'s.
//!
//! A round begins with an entry that claims it, so that of many writers one does the work. If it
//! dies, the next round is as far away as ever.

use std::time::Duration;

use super::collect::still_so;
use super::compact::{AT_THE_END, IN_A_ROUND, tier};
use crate::error::Error;
use crate::shard::counters::MaintenanceStats;
use crate::shard::engine::entry::Collected;
use crate::shard::engine::space::{Space, floor, is_due};
use crate::shard::handle::{Handle, lock};
use crate::store::Access;

/// Merges in one round; more wait for the next.
const MERGES_MAX: usize = 4;
/// What a last round leaves as it is: less than this, and whatever is in proportion.
const TIDY_BYTES_MIN: u64 = 64 << 10;
/// More than this is not merged by a last round: it would not end.
const TIDY_BYTES_MAX: u64 = 1 << 30;
/// How long a last round waits for the store.
const ANSWER_MAX: Duration = Duration::from_secs(3);
impl Handle {
    /// Does a round of maintenance if it is time: [`maintain_every`](crate::shard::HandleConfig::maintain_every)
    /// entries after the last one of any writer, or as soon as there is much to merge or to delete.
    /// Returns at once otherwise. Ends leases that have run out, merges what is out of proportion, and
    /// deletes what nobody needs. Never fails: what goes wrong is logged, and done by a later round.
    ///
    /// Call it now and then on a task of its own: no append waits for it.
    pub async fn maintain(&self) {
        if !self.wants_round() {
            return;
        }
        let Ok(mut swept) = self.inner.maintaining.try_lock() else { return };
        let mut stats = MaintenanceStats::default();
        if let Err(e) = self.round(&mut swept, &mut stats).await {
            tracing::warn!(shard = self.inner.root.url(), error = %e, "maintenance is put off");
        }
        self.inner.maintenance.add(&stats);
    }

    /// As [`maintain`](Handle::maintain), on a task of its own, if it is time.
    pub(crate) fn maintain_aside(&self) {
        if !self.wants_round() {
            return;
        }
        let handle = self.clone();
        let round = async move {
            handle.maintain().await;
            Ok(())
        };
        self.inner.io.spawn_answered("maintenance", round, |outcome| {
            if let Err(error) = outcome {
                tracing::warn!(%error, "a round of maintenance is lost");
            }
        });
    }

    /// Whether a round is due, or a lease may be ended. Watches the leases on the way.
    fn wants_round(&self) -> bool {
        if self.inner.access == Access::Read {
            return false;
        }
        let judge = self.judge();
        is_due(&self.state(), self.inner.config.pace())
            || !lock(&self.inner.watched).ended(&judge).is_empty()
    }

    async fn round(&self, swept: &mut bool, stats: &mut MaintenanceStats) -> Result<(), Error> {
        let config = &self.inner.config;
        let judge = self.judge();
        let (ended, doubtful) = {
            let watched = lock(&self.inner.watched);
            (watched.ended(&judge), watched.doubtful(&judge))
        };
        let pace = config.pace();
        let claimed = self.enter_collected(move |state| {
            // Renewed in the last moment, or ended by somebody else?
            let expired = still_so(&ended, state);
            let asked: Vec<_> =
                doubtful.iter().copied().filter(|token| state.leases.contains_key(token)).collect();
            let due = is_due(state, pace) || !expired.is_empty();
            due.then_some(Collected { expired, asked, ..Collected::default() })
        });
        let Some(claim) = claimed.await? else { return Ok(()) };
        self.note_asked(Some(&claim));
        stats.leases_expired += claim.expired.len() as u64;
        // What earlier rounds replaced goes first, so that there is room for what this one writes.
        if Space::of(&self.state()).is_much_freeable() {
            self.collect_log(floor(&self.state(), config.entries_kept), stats).await?;
        }
        self.merge_tiers(IN_A_ROUND, config.entries_kept, stats).await?;
        self.collect_log(floor(&self.state(), config.entries_kept), stats).await?;
        // Once, for those that died before this process began, and after every lease that is ended.
        lock(&self.inner.uploads).settle(&self.state());
        let garbage = lock(&self.inner.uploads).has_garbage();
        if !claim.expired.is_empty() || garbage || !*swept {
            self.sweep(stats).await?;
            *swept = true;
        }
        Ok(())
    }

    /// Merges what the tiers ask for.
    async fn merge_tiers(
        &self,
        proportion: u64,
        entries_kept: u64,
        stats: &mut MaintenanceStats,
    ) -> Result<(), Error> {
        for _ in 0..MERGES_MAX {
            let state = self.state();
            let floor = state.seqno.saturating_sub(entries_kept);
            let Some(run) = tier(&state, floor, proportion) else { break };
            self.merge_batches(&state, run, stats).await?;
        }
        Ok(())
    }

    /// The last work of a writer that is done with the shard, which may be alone for long from here on:
    /// ends its lease, merges more eagerly than a round does, and deletes what nobody holds. Never
    /// fails, and takes `within` at the most; it gives up if the store does not answer for
    /// some seconds. What is left to do the next writer does.
    pub async fn tidy(&self, within: Duration) {
        if self.inner.access == Access::Read {
            return;
        }
        let mut stats = MaintenanceStats::default();
        let done =
            tokio::time::timeout(within, self.unless_silent(self.tidy_all(&mut stats))).await;
        match done {
            Ok(Some(Ok(()))) => {}
            Ok(Some(Err(e))) => {
                tracing::info!(shard = self.inner.root.url(), error = %e, "not tidied up");
            }
            Ok(None) | Err(_) => {
                tracing::info!(shard = self.inner.root.url(), "not tidied up: it took too long");
            }
        }
        self.inner.maintenance.add(&stats);
    }

    /// Does some work, and gives up if no byte has come or gone for [`ANSWER_MAX`].
    async fn unless_silent<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = std::pin::pin!(work);
        let mut before = None;
        loop {
            match tokio::time::timeout(ANSWER_MAX, &mut work).await {
                Ok(done) => return Some(done),
                Err(_) if before == Some(self.counters()) => return None,
                Err(_) => before = Some(self.counters()),
            }
        }
    }

    async fn tidy_all(&self, stats: &mut MaintenanceStats) -> Result<(), Error> {
        // A round that is under way needs the lease.
        let _round = self.inner.maintaining.lock().await;
        self.close().await?;
        let state = self.refresh().await?;
        let space = Space::of(&state);
        if space.mergeable + space.freeable <= TIDY_BYTES_MIN.max(space.settled / 8) {
            return Ok(());
        }
        drop(state);
        if space.mergeable <= TIDY_BYTES_MAX {
            self.merge_tiers(AT_THE_END, 0, stats).await?;
            // What was uploaded for it is in the log, or never will be.
            self.close().await?;
        }
        if lock(&self.inner.uploads).has_garbage() {
            self.sweep(stats).await?;
        }
        let state = self.state();
        if !state.retired.is_empty() {
            self.collect_log(state.collectable().min(state.seqno), stats).await?;
        }
        Ok(())
    }
}
