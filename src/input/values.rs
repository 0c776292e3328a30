//! Owns the operator that takes a feed's values for good ones: a stream of your own has no errors among its
//! values. It does not own how they become bytes; that is [`encode`](super::encode).

use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact;
use timely::dataflow::operators::generic::Operator;

use crate::codec::DataError;
use crate::command::Command;

/// Makes each value one that could be read.
pub(crate) fn values<'scope, K, V, O>(
    rows: StreamVec<'scope, u64, (Command<K, V, O>, u64)>,
) -> StreamVec<'scope, u64, (Command<K, Result<V, DataError>, O>, u64)>
where
    K: Clone + 'static,
    V: Clone + 'static,
    O: Clone + 'static,
{
    #[allow(clippy::disallowed_methods, reason = "it passes rows on and holds nothing")]
    rows.unary(pact::Pipeline, "UpsertValues", |_, _| {
        |input, output| {
            input.for_each(|time, commands| {
                let rows = commands.drain(..).map(|(command, at)| {
                    let command = match command {
                        Command::Put { key, value, order } => Command::put(key, Ok(value), order),
                        Command::Patch { key, patch, order } => {
                            Command::patch(key, Ok(patch), order)
                        }
                        Command::Delete { key, order } => Command::delete(key, order),
                        Command::Reset { order } => Command::reset(order),
                        Command::ResetOf { collection, order } => {
                            Command::reset_of(collection, order)
                        }
                    };
                    (command, at)
                });
                let mut rows: Vec<_> = rows.collect();
                output.session(&time).give_container(&mut rows);
            });
        }
    })
}
