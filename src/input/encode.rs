//! Owns how typed commands become bytes inside a dataflow. It does not choose the encoding: that is
//! [`codec`](crate::codec).

use differential_dataflow::ExchangeData;
use timely::dataflow::StreamVec;

use crate::codec::packed::{Encoded, Packer};
use crate::codec::{Codec, DataError, encode_shaped};
use crate::command::Command;
use crate::error::Error;
use crate::health::Status;
use crate::health::convert::convert;

/// Turns keys and values, whose shape has a number in their shard, into bytes, which the rows of a container share.
pub(crate) fn encode<'scope, K, V, O, C>(
    commands: StreamVec<'scope, u64, (Command<K, Result<V, DataError>, O>, u64)>,
    shape: u16,
    status: Status,
) -> StreamVec<'scope, u64, (Command<Encoded, Encoded, O>, u64)>
where
    K: ExchangeData,
    V: ExchangeData,
    O: ExchangeData,
    C: Codec<K> + Codec<V>,
{
    let mut packer = Packer::default();
    convert(commands, "UpsertEncode", status, move |commands| {
        let mut failure = None;
        let mut push = |write: &dyn Fn(&mut Vec<u8>) -> Result<(), Error>| {
            let pushed = packer.push_with(|buffer| {
                if let Err(error) = write(buffer) {
                    failure = Some(error);
                }
            });
            if let Err(error) = pushed {
                failure.get_or_insert(error);
            }
        };
        for (command, _) in commands.iter() {
            if let Some(key) = command.key() {
                push(&|buffer| C::encode(key, buffer));
            }
            if let Command::Put { value, .. } | Command::Patch { patch: value, .. } = command {
                push(&|buffer| encode_shaped::<V, C>(value, shape, buffer));
            }
        }
        let mut encoded = packer.finish();
        if let Some(error) = failure {
            return Err(error);
        }
        // The second walk takes out what the first has put in: a difference would give a row another
        // one's key, and be written.
        let mut next = || encoded.next().expect("every key and value comes out that was put in");
        let encode = |(command, time)| {
            let command = match command {
                Command::Put { order, .. } => Command::put(next(), next(), order),
                Command::Patch { order, .. } => Command::patch(next(), next(), order),
                Command::Delete { order, .. } => Command::delete(next(), order),
                Command::Reset { order } => Command::reset(order),
                Command::ResetOf { collection, order } => Command::reset_of(collection, order),
            };
            (command, time)
        };
        let rows = commands.drain(..).map(encode).collect();
        assert!(encoded.next().is_none(), "no more comes out than what was put in");
        Ok(rows)
    })
}
