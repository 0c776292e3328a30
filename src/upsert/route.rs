//! Owns the way of commands to their workers: each command's hash, computed once, and a reset for every
//! worker. It does not own what a worker does with them.

use differential_dataflow::ExchangeData;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact;
use timely::dataflow::operators::generic::Operator;
use timely::progress::Timestamp;

use super::pending::Action;
use super::rows::KeyHash;
use crate::command::Command;

/// A command on its way to its worker: hash (or worker, for a reset), key, action, order, time.
pub(super) type Routed<K, V, O, T> = (u64, Option<K>, Action<V>, O, T);

/// Computes each command's hash once, and copies a reset to every worker.
pub(super) fn route<'scope, K, V, O, T>(
    commands: StreamVec<'scope, T, (Command<K, V, O>, T)>,
) -> StreamVec<'scope, T, Routed<K, V, O, T>>
where
    K: ExchangeData + KeyHash,
    V: ExchangeData,
    O: ExchangeData,
    T: Timestamp,
{
    let peers = commands.scope().peers() as u64;
    #[allow(clippy::disallowed_methods, reason = "it passes rows on and holds nothing")]
    commands.unary(pact::Pipeline, "UpsertRoute", move |_, _| {
        move |input, output| {
            input.for_each(|capability, commands| {
                let mut routed = Vec::with_capacity(commands.len());
                for (command, time) in commands.drain(..) {
                    match command {
                        Command::Put { key, value, order } => {
                            let action = Action::Put(value);
                            routed.push((key.key_hash(), Some(key), action, order, time));
                        }
                        Command::Patch { key, patch, order } => {
                            let action = Action::Patch(patch);
                            routed.push((key.key_hash(), Some(key), action, order, time));
                        }
                        Command::Delete { key, order } => {
                            routed.push((key.key_hash(), Some(key), Action::Delete, order, time));
                        }
                        Command::Reset { order } => routed.extend((0..peers).map(|worker| {
                            (worker, None, Action::Delete, order.clone(), time.clone())
                        })),
                    }
                }
                output.session(&capability).give_container(&mut routed);
            });
        }
    })
}
