//! Owns how the workers of a shard that is followed end: together. It does not own what a stop is.
//!
//! # Stopping
//!
//! A worker reads its own keys' rows only. So if one stops, all must, before any lets its frontier go:
//! each tells all others when it stops, or has read a sealed shard to its end, and lets go once it has
//! heard of every one.

use timely::container::CapacityContainerBuilder;
use timely::dataflow::Scope;
use timely::dataflow::channels::pact;
use timely::dataflow::operators::generic::{Operator, OutputBuilder};

use crate::control::lifecycle::Phase;
use crate::health::Status;

/// Lets every worker go once all have stopped, or have read a sealed shard to its end.
pub(crate) fn stop_together(scope: Scope<'_, u64>, status: Status) {
    let mut builder = status.lifecycle().operator("UpsertFollow", scope);
    let (output, stream) = builder.new_output();
    let mut output = OutputBuilder::<_, CapacityContainerBuilder<Vec<(u64, bool)>>>::from(output);
    let peers = scope.peers() as u64;
    let own = status.clone();
    builder.build(move |mut capabilities| {
        let mut capability = capabilities.pop();
        move |_| {
            let Some(held) = &capability else { return };
            let sealed = own.state().and_then(|state| state.sealed_at);
            let whole =
                own.is_hydrated() && sealed.is_some_and(|end| end <= own.vitals().read_to());
            if whole {
                own.set_ended();
            } else if own.phase() < Phase::Stopping {
                return;
            }
            let told = (0..peers).map(|worker| (worker, whole));
            output.activate().session(held).give_iterator(told);
            capability = None;
        }
    });
    let to_all = pact::Exchange::new(|(worker, _): &(u64, bool)| *worker);
    let mut heard = 0;
    stream.sink(to_all, "UpsertFollowTold", move |(input, _)| {
        let before = heard;
        input.for_each(|_, told| {
            for (_, whole) in told.drain(..) {
                heard += 1;
                if !whole {
                    status.lifecycle().advance(Phase::Stopping);
                }
            }
        });
        if heard > before && heard == peers {
            status.lifecycle().advance(Phase::Released);
        }
    });
}
