//! Owns the epoch that a pipeline writes in: known from the start, or claimed later. It does not own how
//! a shard is taken over, nor how the other processes hear of it; that is [`claim`](crate::reclock::claim).

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use timely::scheduling::SyncActivator;

use crate::control::waking::Sleepers;

/// The epoch of a pipeline, shared by the workers of a process; cheap to clone.
#[derive(Clone)]
pub(crate) struct Epoch(Arc<Shared>);

struct Shared {
    epoch: AtomicU64,
    sleepers: Sleepers,
}

/// No shard gets there.
const UNCLAIMED: u64 = u64::MAX;

impl Epoch {
    /// An epoch that is known.
    pub(crate) fn known(epoch: u64) -> Self {
        Epoch(Arc::new(Shared { epoch: AtomicU64::new(epoch), sleepers: Sleepers::default() }))
    }

    /// An epoch that is yet to be claimed. Until then the pipeline follows any writer.
    pub(crate) fn unclaimed() -> Self {
        Epoch::known(UNCLAIMED)
    }

    pub(crate) fn get(&self) -> Option<u64> {
        let epoch = self.0.epoch.load(Ordering::SeqCst);
        (epoch != UNCLAIMED).then_some(epoch)
    }

    /// Whether what a state of this epoch says may be taken for ours. So may one from before ours, which
    /// this process has read last: no row of ours is in it, and we began with what is.
    pub(crate) fn admits(&self, epoch: u64) -> bool {
        self.get().is_none_or(|ours| epoch <= ours) || crate::mutant::on("fenced_drops")
    }

    /// Says which it is, once and for all.
    pub(crate) fn claim(&self, epoch: u64) {
        self.0.epoch.store(epoch, Ordering::SeqCst);
        self.0.sleepers.wake();
    }

    /// Names an operator to wake when it is claimed.
    pub(crate) fn wake(&self, operator: SyncActivator) {
        self.0.sleepers.add(operator);
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Epoch").field(&self.get()).finish()
    }
}
