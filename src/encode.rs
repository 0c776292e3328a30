//! Owns how typed commands become bytes inside a dataflow. It does not choose the encoding: that is
//! [`codec`](crate::codec).

use differential_dataflow::ExchangeData;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline as InPlace;
use timely::dataflow::operators::generic::Operator;

use crate::codec::{Codec, DataError, encode_stored};
use crate::command::Command;
use crate::error::Error;
use crate::health::Status;
use crate::packed::{Encoded, Packer};
use crate::token::Phase;

/// Turns keys and values into bytes, one buffer for each container of rows.
pub(crate) fn encode<'scope, K, V, O, C>(
    commands: StreamVec<'scope, u64, (Command<K, Result<V, DataError>, O>, u64)>,
    status: Status,
) -> StreamVec<'scope, u64, (Command<Encoded, Encoded, O>, u64)>
where
    K: ExchangeData,
    V: ExchangeData,
    O: ExchangeData,
    C: Codec<K> + Codec<V>,
{
    commands.unary(InPlace, "UpsertEncode", move |_, _| {
        let mut packer = Packer::default();
        let mut held = None;
        move |input, output| {
            input.for_each(|time, commands| {
                if held.is_some() {
                    return;
                }
                let mut failure = None;
                let mut push = |write: &dyn Fn(&mut Vec<u8>) -> Result<(), Error>| {
                    packer.push_with(|buffer| {
                        if let Err(error) = write(buffer) {
                            failure = Some(error);
                        }
                    });
                };
                for (command, _) in commands.iter() {
                    if let Some(key) = command.key() {
                        push(&|buffer| C::encode(key, buffer));
                    }
                    if let Command::Put { value, .. } = command {
                        push(&|buffer| encode_stored::<V, C>(value, buffer));
                    }
                }
                let mut encoded = packer.finish();
                if let Some(error) = failure {
                    // The failure holds: the capability keeps this row's time, and with it every
                    // later one, from being taken for complete.
                    held = Some(time.retain(0));
                    status.fail(error);
                    return;
                }
                let mut next = || encoded.next().unwrap_or_else(|| Encoded::from_bytes(Vec::new()));
                let encode = |(command, time)| match command {
                    Command::Put { order, .. } => (Command::put(next(), next(), order), time),
                    Command::Delete { order, .. } => (Command::delete(next(), order), time),
                    Command::Reset { order } => (Command::reset(order), time),
                };
                let mut rows: Vec<_> = commands.drain(..).map(encode).collect();
                output.session(&time).give_container(&mut rows);
            });
            if status.phase() == Phase::Released {
                held = None;
            }
        }
    })
}
