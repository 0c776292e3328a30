//! Owns the epoch that a pipeline writes in: known from the start, or claimed by one process and told
//! to the others. It does not own how a shard is taken over.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use timely::container::CapacityContainerBuilder;
use timely::dataflow::Scope;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::generic::{Operator, OutputBuilder};

use crate::control::lifecycle::Phase;
use crate::health::Status;
use crate::waking::Sleepers;

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

    /// An epoch that is yet to be claimed. Until then the pipeline follows whoever writes.
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
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Epoch").field(&self.get()).finish()
    }
}

/// Tells every process of a cluster the epoch that worker 0 has claimed.
///
/// A process that has not heard of it yet drops nothing wrongly: no row of ours exists before the
/// claim, and if another takes the shard over in the meantime, our own append is refused.
pub(crate) fn tell(scope: Scope<'_, u64>, epoch: Epoch, status: Status) {
    let mut builder = status.lifecycle().operator("UpsertEpoch", scope);
    let address = builder.operator_info().address;
    epoch.0.sleepers.add(scope.worker().sync_activator_for(address.to_vec()));
    let (output, stream) = builder.new_output();
    let mut output = OutputBuilder::<_, CapacityContainerBuilder<Vec<(u64, u64)>>>::from(output);
    let (leads, peers) = (scope.index() == 0, scope.peers() as u64);
    let claimed = epoch.clone();
    builder.build(move |mut capabilities| {
        let mut capability = capabilities.pop().filter(|_| leads);
        move |_| {
            let Some(held) = &capability else { return };
            if let Some(epoch) = claimed.get() {
                let told = (0..peers).map(|worker| (worker, epoch));
                output.activate().session(held).give_iterator(told);
                capability = None;
            } else if status.phase() == Phase::Released {
                capability = None;
            }
        }
    });
    let to_all = Exchange::new(|(worker, _): &(u64, u64)| *worker);
    stream.sink(to_all, "UpsertEpochTold", move |(input, _)| {
        input.for_each(|_, told| {
            for (_, told) in told.drain(..) {
                if epoch.get() != Some(told) {
                    epoch.claim(told);
                }
            }
        });
    });
}
