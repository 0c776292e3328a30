//! Owns an operator that turns rows into others, and may fail at it: the failure holds its time until all workers
//! may let go. It does not own what is made of the rows.
//!
//! Rows carry their times, so those of several small messages go on together, under the capability of the first. What a
//! message costs, here and in each operator after this one, is then not the price of every time.

use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::progress::Antichain;

use crate::command::time::{least, retain};
use crate::control::lifecycle::Phase;
use crate::error::Error;
use crate::health::Status;

/// Rows that go on together: more are not worth a copy.
const TOGETHER: usize = 1 << 10;

/// Applies `logic` to rows, on the worker where they are. After the first error nothing more comes out, and the
/// output's frontier does not pass what failed.
pub(crate) fn convert<'scope, D, R>(
    rows: StreamVec<'scope, u64, D>,
    name: &str,
    status: Status,
    mut logic: impl FnMut(&mut Vec<D>) -> Result<Vec<R>, Error> + 'static,
) -> StreamVec<'scope, u64, R>
where
    D: Clone + 'static,
    R: Clone + 'static,
{
    let mut builder = status.lifecycle().operator(name, rows.scope());
    let mut input = builder.new_input_connection(rows, pact::Pipeline, []);
    if crate::mutant::on("encode_unwoken") {
        builder.set_notify_for(0, timely::progress::operate::FrontierInterest::Never);
    }
    let by_input = [(0, Antichain::from_elem(0))];
    let (output, stream) = builder.new_output_connection(by_input);
    let mut output = OutputBuilder::<_, CapacityContainerBuilder<Vec<R>>>::from(output);
    builder.build(move |_| {
        let (mut failed, mut held) = (false, None::<Capability<u64>>);
        move |_| {
            let mut give = |capability: Option<Capability<u64>>, rows: Result<Vec<D>, Error>| {
                if failed {
                    // What is dropped here is held by the failure, and comes again in the next run: earlier times too,
                    // for messages may go back in time.
                    if !crate::mutant::on("failure_passes_earlier") {
                        held = held.take().into_iter().chain(capability).min_by_key(|c| *c.time());
                    }
                    return;
                }
                match (rows.and_then(|mut rows| logic(&mut rows)), &capability) {
                    (Ok(mut rows), Some(capability)) => {
                        output.activate().session(capability).give_container(&mut rows);
                    }
                    (Ok(_), None) => {}
                    (Err(error), _) => {
                        (failed, held) = (true, capability);
                        status.fail(error);
                    }
                }
            };
            let mut together: Option<(Capability<u64>, Vec<D>)> = None;
            input.for_each(|message, rows| {
                if let (Some((capability, before)), Ok(time)) = (&mut together, least(&message))
                    && (capability.time() <= time || crate::mutant::on("together_descending"))
                    && before.len() + rows.len() <= TOGETHER
                {
                    before.append(rows);
                    return;
                }
                if let Some((capability, rows)) = together.take() {
                    give(Some(capability), Ok(rows));
                }
                match retain(&message, 0) {
                    Ok(capability) => together = Some((capability, std::mem::take(rows))),
                    Err(error) => give(None, Err(error)),
                }
            });
            if let Some((capability, rows)) = together {
                give(Some(capability), Ok(rows));
            }
            if status.phase() == Phase::Released {
                held = None;
            }
        }
    });
    stream
}
