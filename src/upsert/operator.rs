//! Owns the operator's ports, and in which order a wake-up takes its four steps. What each of them does is
//! [`steps`](super::steps)'.

use std::sync::Arc;

use differential_dataflow::{AsCollection, ExchangeData, VecCollection};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::order::TotalOrder;
use timely::progress::Timestamp;
use timely::progress::frontier::{Antichain, MutableAntichain};

use super::classify::Frontiers;
use super::config::{UpsertConfig, Upserted};
use super::context::UpsertContext;
use super::events::Events;
use super::inbox::Update;
use super::readers::Wake;
use super::route::{Routed, route};
use super::rows::Kept;
use super::rules::Rules;
use super::steps::UpsertOperator;
use crate::codec::deal::worker;
use crate::command::Command;
use crate::command::time::least;
use crate::control::lifecycle::Phase;
use crate::error::Error;

pub(crate) fn upsert<'scope, K, V, O, T>(
    commands: StreamVec<'scope, T, (Command<K, V, O>, T)>,
    feedback: VecCollection<'scope, T, (K, V), isize>,
    config: UpsertConfig<T>,
    rules: Rules<K, V>,
    mut context: UpsertContext<T>,
) -> Upserted<'scope, K, V, T>
where
    K: ExchangeData + Kept<V>,
    V: ExchangeData,
    O: ExchangeData,
    T: Timestamp + TotalOrder,
{
    let scope = commands.scope();
    let routed = route(commands);
    let mut builder = context.lifecycle.operator(&format!("Upsert: {}", config.name), scope);
    let operator_info = builder.operator_info();
    let address = operator_info.address;
    let activator = scope.activator_for(std::rc::Rc::clone(&address));
    context.inflight.wake(activator.clone());

    let peers = scope.peers() as u64;
    let exchange = pact::Exchange::new(move |routed: &Routed<K, V, O, T>| match routed {
        Routed::Keyed(command, _) => worker(command.hash, peers),
        Routed::Reset(worker, ..) => *worker,
    });
    let mut input = builder.new_input_connection(routed, exchange, []);
    let by_key = move |((key, _), ..): &Update<K, V, T>| worker(key.key_hash(), peers);
    let exchange = pact::Exchange::new(by_key);
    let mut feedback = builder.new_input_connection(feedback.inner, exchange, []);
    // Feedback is connected to neither output: the output waits for the input alone. Connected, the
    // output would wait for the shard, which waits for the output.
    let inputs = if crate::mutant::on("connected_feedback") { 0..2 } else { 0..1 };
    let by_input = || inputs.clone().map(|n| (n, Antichain::from_elem(Default::default())));
    let (updates, updates_stream) = builder.new_output_connection(by_input());
    let (errors, errors_stream) = builder.new_output_connection(by_input());
    let mut updates =
        OutputBuilder::<_, CapacityContainerBuilder<Vec<Update<K, V, T>>>>::from(updates);
    let mut errors = OutputBuilder::<_, CapacityContainerBuilder<Vec<Error>>>::from(errors);

    let stats = context.stats.clone();
    let events = Events::of(scope, operator_info.global_id);
    let mut space = std::mem::take(&mut context.cold);
    let mut images = context.images.take();
    if space.readers.is_some() {
        let woken = scope.worker().sync_activator_for(address.to_vec());
        // An error means that the worker is gone.
        let wake: Wake = Arc::new(move || {
            let _ = woken.activate();
        });
        if let Some((images, _)) = &mut images {
            images.set_wake(Arc::clone(&wake));
        }
        space.wake = Some(wake);
    }
    if let Some((images, _)) = &images {
        space.file = Some(images.file());
    }
    let mut operator = UpsertOperator::new(&config, rules, &context, space, images, events);

    builder.build(move |mut capabilities| {
        operator.capability =
            capabilities.pop().and_then(|errors| Some((capabilities.pop()?, errors)));
        let mut out = Vec::new();
        move |frontiers: &[MutableAntichain<T>]| {
            let mut known = context.known.get();
            if let Some(complete) = frontiers[1].frontier().first()
                && known.less_than(complete)
            {
                known = Antichain::from_elem(complete.clone());
            }
            let at = Frontiers {
                input: frontiers[0].frontier(),
                known: known.borrow(),
                complete: frontiers[1].frontier(),
            };
            let phase = context.lifecycle.phase();

            operator.begin_image();

            // Before anything is dropped: what another has committed past our frontier we have not emitted.
            operator.look_behind(&at);

            // Step 1: take in commands; drop those below, stash the others.
            operator.give_up_drain(&at);
            operator.shed(&at);
            input.for_each(|message, routed| match least(&message) {
                Ok(time) => operator.ingest(time, routed, &at),
                Err(error) => operator.fail(error),
            });
            operator.keep_bound();

            // Step 2: apply feedback to the state.
            feedback.for_each(|message, rows| match least(&message) {
                Ok(_) => operator.absorb(std::mem::take(rows)),
                // Its rows may be of a time that the frontier has completed.
                Err(error) => operator.fail(error),
            });
            operator.apply();
            operator.expire(&at);
            operator.check_state(&at, phase);
            if !crate::mutant::on("drains_in_a_replay") {
                operator.see_exact(&at);
            }

            // Step 3: drain what is equal, time after time, a bounded piece of it.
            if operator.failed.is_none() && phase == Phase::Running {
                operator.drain_equal(&at, &context.inflight, &mut out);
                // The times ascend, so the first one's capability serves them all.
                if let (false, Some((capability, _))) = (out.is_empty(), &operator.capability) {
                    let time = out[0].1.clone();
                    let capability = capability.delayed(&time);
                    updates.activate().session(&capability).give_container(&mut out);
                    out.clear();
                }
            }
            operator.take_image(&at, phase);
            if operator.has_more() {
                activator.activate();
            }

            // Step 4: keep a capability for the least time not drained, or the input frontier.
            operator.settle(&at, phase);
            if let Some(watch) = &context.watch {
                watch(operator.least(), &at);
            }
            if let (Some(error), false, Some((_, capability))) =
                (&operator.failed, operator.reported, &operator.capability)
            {
                errors.activate().session(capability).give(error.clone());
                operator.reported = true;
            }
        }
    });

    Upserted { updates: updates_stream.as_collection(), errors: errors_stream, stats }
}

#[cfg(test)]
#[path = "operator_tests.rs"]
mod tests;
