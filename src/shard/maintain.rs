//! Owns when a writer compacts and collects by itself. What these do is [`compact`](super::compact)'s
//! and [`collect`](super::collect)'s.
//!
//! A round begins with an entry that claims it, so that of many writers one does the work. If it
//! dies, the next round is as far away as ever.

use std::collections::BTreeMap;

use super::compact::tier;
use super::counters::MaintenanceStats;
use super::entry::Collected;
use super::handle::Handle;
use super::state::State;
use super::token::Token;
use crate::error::Error;
use crate::store::Access;

/// Merges in one round; more wait for the next.
const MERGES_MAX: usize = 4;
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
    /// entries after the last, whoever did that. Returns at once otherwise. Ends leases that have run
    /// out, merges what is out of proportion, and deletes what nobody needs. Never fails: what goes
    /// wrong is logged, and done by a later round.
    ///
    /// Call it now and then on a task of its own: no append waits for it.
    pub async fn maintain(&self) {
        let every = self.inner.config.maintain_every;
        let state = self.state();
        if self.inner.access == Access::Read || since_last(&state) < every {
            return;
        }
        drop(state);
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
        let (every, seen) = (config.maintain_every, self.state().leases.clone());
        let claimed = self.enter_collected(move |state| {
            // Renewed in the last moment, or ended by somebody else?
            let same = |token: &Token| state.leases.get(token) == seen.get(token);
            let expired: Vec<_> = expired.iter().copied().filter(same).collect();
            let due = since_last(state) >= every;
            due.then_some(Collected { expired, ..Collected::default() })
        });
        let Some(claim) = claimed.await? else { return Ok(()) };
        stats.leases_expired += claim.expired.len() as u64;
        for _ in 0..MERGES_MAX {
            let state = self.state();
            let floor = state.seqno.saturating_sub(config.entries_kept);
            let Some(run) = tier(&state, floor) else { break };
            self.merge_batches(&state, run, stats).await?;
        }
        self.collect_log(stats).await?;
        if !claim.expired.is_empty() {
            self.sweep(stats).await?;
        }
        Ok(())
    }
}

fn since_last(state: &State) -> u64 {
    state.seqno.saturating_sub(state.maintained)
}
