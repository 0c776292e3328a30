//! Owns when to append: it names the next interval as soon as one may be written. It neither writes
//! nor appends.

use std::rc::Rc;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::progress::frontier::MutableAntichain;

use super::context::SinkContext;
use super::messages::{Announcement, Named};
use super::turn::Turn;
use crate::control::lifecycle::Phase;
use crate::error::Error;
use crate::health::Role;

/// Names, on worker 0, every interval to be appended, once for each worker.
pub(super) fn mint<'scope>(
    frontier: StreamVec<'scope, u64, Error>,
    checked: StreamVec<'scope, u64, ()>,
    turn: &Turn,
    context: &SinkContext,
) -> StreamVec<'scope, u64, Named> {
    let (scope, turn, context) = (frontier.scope(), turn.clone(), context.clone());
    let mut builder = context.status.lifecycle().operator("UpsertMint", scope);
    let address = builder.operator_info().address;
    let activator = scope.activator_for(Rc::clone(&address));
    *turn.0.mint.borrow_mut() = Some(activator);
    let mut input = builder.new_input_connection(frontier, pact::Pipeline, []);
    let _checked = builder.new_input_connection(checked, pact::Pipeline, []);
    let (output, stream) = builder.new_output_connection([]);
    let mut output = OutputBuilder::<_, CapacityContainerBuilder<Vec<Named>>>::from(output);
    let (leads, peers) = (scope.index() == 0, scope.peers() as u64);
    let mut standby = context.standby.clone();
    if let Some(promotion) = &standby {
        context.status.set_role(Role::Standby);
        promotion.wake(scope.worker().sync_activator_for(address.to_vec()));
    }

    builder.build(move |mut capabilities| {
        let mut capability = capabilities.pop().filter(|_| leads);
        let mut last = None;
        move |frontiers: &[MutableAntichain<u64>]| {
            input.for_each(|_, _| {});
            let first = |input: &MutableAntichain<u64>| input.frontier().first().copied();
            if let Some(frontier) = first(&frontiers[0]) {
                context.status.set_output(frontier);
            }
            let frontier = frontiers.iter().filter_map(first).min();
            let Some(held) = &mut capability else { return };
            let ignored =
                last.replace(frontier) == Some(frontier) && crate::mutant::on("only_on_change");
            if turn.is_in_flight() {
                return;
            }
            let bare =
                crate::mutant::on("append_on_empty") && *held.time() <= context.status.upper();
            let Some(upper) = frontier.or(bare.then(|| context.status.upper() + 1)) else {
                // Nobody stopped, or it would still hold the frontier: the end.
                let end = |worker| Named { worker, what: Announcement::End };
                output.activate().session(held).give_iterator((0..peers).map(end));
                capability = None;
                return;
            };
            if turn.is_stopping() || context.status.phase() != Phase::Running {
                // Letting go tells every worker that no append will come.
                capability = None;
                return;
            }
            if let Some(promotion) = &standby {
                let ready = promotion.is_promoted() && context.status.is_hydrated();
                if !ready && !crate::mutant::on("standby_writes") {
                    return;
                }
                // Every worker must know before the first interval: one whose updates wait for room
                // gets it only by writing, and no frontier passes them until then.
                let write = |worker| Named { worker, what: Announcement::Write };
                output.activate().session(held).give_iterator((0..peers).map(write));
                standby = None;
            }
            let lower = context.status.upper();
            if lower < upper && !turn.0.failed.get() && !ignored {
                turn.take();
                context.status.set_interval(lower, upper);
                held.downgrade(&lower.max(*held.time()));
                let interval =
                    |worker| Named { worker, what: Announcement::Interval { lower, upper } };
                output.activate().session(held).give_iterator((0..peers).map(interval));
            }
        }
    });
    stream
}
