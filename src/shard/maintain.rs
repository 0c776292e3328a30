//! Owns when a writer compacts and collects by itself. What these do is [`compact`](super::compact)'s
//! and [`collect`](super::collect)'s.
//!
//! A round begins with an entry that claims it, so that of many writers one does the work. If it
//! dies, the next round is as far away as ever.

use std::collections::BTreeMap;
use std::time::Duration;

use super::compact::{AT_THE_END, IN_A_ROUND, tier};
use super::counters::MaintenanceStats;
use super::entry::Collected;
use super::handle::Handle;
use super::space::{Space, floor, is_due};
use super::state::State;
use super::token::Token;
use crate::error::Error;
use crate::store::Access;

/// Merges in one round; more wait for the next.
const MERGES_MAX: usize = 4;
/// What a last round leaves as it is: less than this, and whatever is in proportion.
const TIDY_BYTES_MIN: u64 = 64 << 10;
/// More than this is not merged by a last round: it would not end.
const TIDY_BYTES_MAX: u64 = 1 << 30;
/// How long a last round waits for the store.
const ANSWER_MAX: Duration = Duration::from_secs(3);
/// How many durations past its end a lease is ended by whoever sees it for the first time.
const GRACE: u64 = 4;

/// The leases that this handle has seen: until when each lasts, and since when it says so.
#[derive(Debug, Default)]
pub(super) struct Watched(BTreeMap<Token, (u64, u64)>);

impl Watched {
    /// Returns the leases that have run out. A clock that is an hour fast must not end those of
    /// everybody else: besides being over, a lease has gone without renewal for its duration before
    /// our own eyes, or is over for long.
    fn expired(&mut self, state: &State, now_ms: u64, duration_ms: u64) -> Vec<Token> {
        self.0.retain(|token, _| state.leases.contains_key(token));
        let mut expired = Vec::new();
        for (token, lease) in &state.leases {
            let seen = self.0.entry(*token).or_insert((lease.expires_ms, now_ms));
            if seen.0 != lease.expires_ms {
                *seen = (lease.expires_ms, now_ms);
            }
            let unchanged = now_ms.saturating_sub(seen.1) >= duration_ms;
            let over = now_ms.saturating_sub(lease.expires_ms);
            if over > 0 && unchanged || over > duration_ms.saturating_mul(GRACE) {
                expired.push(*token);
            }
        }
        expired
    }
}

impl Handle {
    /// Does a round of maintenance if it is time: [`maintain_every`](super::HandleConfig::maintain_every)
    /// entries after the last, whoever did that, or as soon as there is much to merge or to delete.
    /// Returns at once otherwise. Ends leases that have run out, merges what is out of proportion, and
    /// deletes what nobody needs. Never fails: what goes wrong is logged, and done by a later round.
    ///
    /// Call it now and then on a task of its own: no append waits for it.
    pub async fn maintain(&self) {
        if self.inner.access == Access::Read || !is_due(&self.state(), &self.inner.config) {
            return;
        }
        let Ok(mut watched) = self.inner.maintaining.try_lock() else { return };
        let mut stats = MaintenanceStats::default();
        if let Err(e) = self.round(&mut watched, &mut stats).await {
            tracing::warn!(shard = self.inner.root.url(), error = %e, "maintenance is put off");
        }
        self.inner.maintenance.add(&stats);
    }

    async fn round(
        &self,
        watched: &mut Watched,
        stats: &mut MaintenanceStats,
    ) -> Result<(), Error> {
        let config = &self.inner.config;
        let duration_ms = u64::try_from(config.lease.as_millis()).unwrap_or(u64::MAX);
        let expired = watched.expired(&self.state(), self.inner.io.now_ms(), duration_ms);
        let (limits, seen) = (config.clone(), self.state().leases.clone());
        let claimed = self.enter_collected(move |state| {
            // Renewed in the last moment, or ended by somebody else?
            let same = |token: &Token| state.leases.get(token) == seen.get(token);
            let expired: Vec<_> = expired.iter().copied().filter(same).collect();
            is_due(state, &limits).then_some(Collected { expired, ..Collected::default() })
        });
        let Some(claim) = claimed.await? else { return Ok(()) };
        stats.leases_expired += claim.expired.len() as u64;
        // What earlier rounds replaced goes first, so that there is room for what this one writes.
        if Space::of(&self.state()).is_much_freeable() {
            self.collect_log(floor(&self.state(), config.entries_kept), stats).await?;
        }
        self.merge_tiers(IN_A_ROUND, config.entries_kept, stats).await?;
        self.collect_log(floor(&self.state(), config.entries_kept), stats).await?;
        if !claim.expired.is_empty() {
            self.sweep(stats).await?;
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
    /// [`ANSWER_MAX`]. What is left to do the next writer does.
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
        let state = self.state();
        if !state.retired.is_empty() {
            self.collect_log(state.collectable().min(state.seqno), stats).await?;
        }
        Ok(())
    }
}
