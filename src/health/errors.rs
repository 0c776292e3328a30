//! Owns the operator that shows a worker's errors as a stream, and answers the watchdog: it runs when the
//! worker does. It does not own what an error does to a part; each part holds by itself.

use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact;
use timely::dataflow::operators::generic::OutputBuilder;

use super::status::Status;
use crate::command::time::least;
use crate::control::lifecycle::Phase;
use crate::error::Error;

/// Shows every error of this worker's part as a stream, and tells the operator's to the health.
pub(crate) fn report<'scope>(
    errors: StreamVec<'scope, u64, Error>,
    status: Status,
) -> StreamVec<'scope, u64, Error> {
    let mut builder = status.lifecycle().operator("UpsertErrors", errors.scope());
    let address = builder.operator_info().address;
    status.vitals().set_wake(errors.scope().worker().sync_activator_for(address.to_vec()));
    let mut input = builder.new_input_connection(errors, pact::Pipeline, []);
    let (output, stream) = builder.new_output_connection([]);
    let mut output = OutputBuilder::<_, CapacityContainerBuilder<Vec<Error>>>::from(output);
    builder.build(move |mut capabilities| {
        let mut capability = capabilities.pop();
        move |_| {
            // The watchdog asks whether the worker runs.
            status.vitals().answer();
            input.for_each(|message, errors| match least(&message) {
                // The operator holds the time that it has failed in.
                Ok(time) => errors.drain(..).for_each(|error| status.fail_at(*time, error)),
                Err(error) => status.fail(error),
            });
            if let Some(held) = &capability {
                let mut output = output.activate();
                let mut session = output.session(held);
                while let Some(error) = status.next_error() {
                    session.give(error);
                }
            }
            if status.phase() == Phase::Released {
                capability = None;
            }
        }
    });
    stream
}
