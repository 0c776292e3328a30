//! Owns the way of commands to their workers: each command's hash, computed once, and a reset for every
//! worker. It does not own what a worker does with them.

use differential_dataflow::ExchangeData;
use serde::{Deserialize, Serialize};
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact;
use timely::dataflow::operators::generic::Operator;
use timely::progress::Timestamp;

use super::pending::{Action, Pending};
use super::rows::KeyHash;
use crate::command::Command;

/// A command on its way to its worker, and its time.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Routed<K, V, O, T> {
    /// Of one key.
    Keyed(Pending<K, V, O>, T),
    /// A reset: the worker, the collection or all keys, order, time.
    Reset(u64, Option<String>, O, T),
}

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
                    let (key, action, order) = match command {
                        Command::Put { key, value, order } => (key, Action::Put(value), order),
                        Command::Patch { key, patch, order } => (key, Action::Patch(patch), order),
                        Command::Delete { key, order } => (key, Action::Delete, order),
                        Command::Reset { order } => {
                            resets(&mut routed, peers, None, &order, &time);
                            continue;
                        }
                        Command::ResetOf { collection, order } => {
                            resets(&mut routed, peers, Some(collection), &order, &time);
                            continue;
                        }
                    };
                    let hash = key.key_hash();
                    routed.push(Routed::Keyed(Pending { hash, key, action, order }, time));
                }
                output.session(&capability).give_container(&mut routed);
            });
        }
    })
}

/// Copies a reset to every worker.
fn resets<K, V, O: Clone, T: Clone>(
    routed: &mut Vec<Routed<K, V, O, T>>,
    peers: u64,
    collection: Option<String>,
    order: &O,
    time: &T,
) {
    routed.extend(
        (0..peers)
            .map(|worker| Routed::Reset(worker, collection.clone(), order.clone(), time.clone())),
    );
}
