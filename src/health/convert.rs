//! Owns an operator that turns each container of rows into another, and may fail at it: the failure
//! holds its time until all workers may let go. It does not own what is made of the rows.

use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::progress::Antichain;

use crate::command::time::least;
use crate::control::lifecycle::Phase;
use crate::error::Error;
use crate::health::Status;

/// Applies `logic` to every container, on the worker where it is. After the first error nothing more
/// comes out, and the output's frontier does not pass the container that failed.
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
        let (mut failed, mut held) = (false, None);
        move |_| {
            input.for_each(|message, rows| {
                if failed {
                    // What is dropped here is held by the failure, and comes again in the next run.
                    return;
                }
                match least(&message).and_then(|_| logic(rows)) {
                    Ok(mut rows) => output.activate().session(&message).give_container(&mut rows),
                    Err(error) => {
                        (failed, held) = (true, message.retain_least(0));
                        status.fail(error);
                    }
                }
            });
            if status.phase() == Phase::Released {
                held = None;
            }
        }
    });
    stream
}
