//! Owns the end of a bounded input: it holds a capability at the first time that will never be
//! written until the shard's upper has reached it. It does not own commits.
//!
//! Timely jumps from `[5]` to `[]` when an input at 5 is closed, so an empty frontier says nothing
//! about which times are whole; interpreting it would lose the last time or close one too many.
//! Held like this it never needs interpreting: the frontier goes from 5 to 6, time 5 is committed,
//! and only then does the frontier become empty.

use std::cell::Cell;
use std::rc::Rc;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::{Stream, StreamVec};
use timely::progress::Antichain;
use timely::progress::frontier::MutableAntichain;

use crate::command::time::{after, least};
use crate::control::lifecycle::Phase;
use crate::health::Status;

/// Where one worker's input ends, once it has ended cleanly.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ends(Rc<Cell<Option<u64>>>);

impl Ends {
    pub(crate) fn at(&self, end: u64) {
        self.0.set(Some(end));
    }

    pub(crate) fn get(&self) -> Option<u64> {
        self.0.get()
    }
}

/// Passes rows on unchanged, and ends only when the shard has passed the end.
///
/// Each worker holds at its own greatest time + 1. The frontier is the least of these; as the upper
/// reaches one, its holder lets go and the next one's turn comes.
pub(crate) fn hold<'scope, C: Send + 'static + Clone>(
    rows: StreamVec<'scope, u64, (C, u64)>,
    ends: Ends,
    status: Status,
) -> StreamVec<'scope, u64, (C, u64)> {
    let mut builder = status.lifecycle().operator("UpsertHold", rows.scope());
    let mut input = builder.new_input_connection(rows, pact::Pipeline, []);
    let (output, stream): (_, Stream<'scope, u64, Vec<(C, u64)>>) =
        builder.new_output_connection([(0, Antichain::from_elem(0))]);
    let mut output = OutputBuilder::<_, CapacityContainerBuilder<Vec<(C, u64)>>>::from(output);
    builder.build(move |mut capabilities| {
        let mut capability = capabilities.pop();
        let mut end = 0;
        // The least time of a message that was not passed on, since one had a row without an end.
        let mut fails_at: Option<u64> = None;
        move |frontiers: &[MutableAntichain<u64>]| {
            input.for_each(|message, rows| {
                let greatest = rows.iter().map(|(_, time)| *time).max();
                match least(&message).and(greatest.map_or(Ok(0), after)) {
                    Ok(after) if fails_at.is_none() => {
                        end = end.max(after);
                        return output.activate().session(&message).give_container(rows);
                    }
                    // Held by the failure, like what it stands behind.
                    Ok(_) => {}
                    Err(error) => status.fail_source(error),
                }
                // A message without a time is held where this operator stands.
                let here = message.least().or(capability.as_ref().map(|held| held.time()));
                fails_at = here.into_iter().chain(&fails_at).min().copied();
            });
            match status.phase() {
                Phase::Running => {}
                Phase::Stopping | Phase::Silent => return,
                Phase::Released => return capability = None,
            }
            let Some(held) = &mut capability else { return };
            match frontiers[0].frontier().first().into_iter().chain(&fails_at).min() {
                Some(time) => {
                    end = end.max(*time);
                    held.downgrade(time);
                    status.set_input(*time);
                }
                None => {
                    let end = end.max(*held.time());
                    held.downgrade(&end);
                    status.set_input(end);
                    ends.at(end);
                    if status.upper() >= end {
                        capability = None;
                    }
                }
            }
        }
    });
    stream
}
