//! Owns how the processes of a cluster hear which epoch worker 0 has claimed. It does not own the claim
//! itself; that is the log's, which `co_committed` asks.

use timely::container::CapacityContainerBuilder;
use timely::dataflow::Scope;
use timely::dataflow::channels::pact;
use timely::dataflow::operators::generic::{Operator, OutputBuilder};

use crate::control::epoch::Epoch;
use crate::control::lifecycle::Phase;
use crate::health::Status;

/// Tells every process of a cluster the epoch that worker 0 has claimed.
///
/// A process that has not heard of it yet drops nothing wrongly: no row of ours exists before the
/// claim, and if another takes the shard over in the meantime, our own append is refused.
pub(crate) fn tell(scope: Scope<'_, u64>, epoch: Epoch, status: Status) {
    let mut builder = status.lifecycle().operator("UpsertEpoch", scope);
    let address = builder.operator_info().address;
    let wake = scope.worker().sync_activator_for(address.to_vec());
    epoch.wake(wake);
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
    let to_all = pact::Exchange::new(|(worker, _): &(u64, u64)| *worker);
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
