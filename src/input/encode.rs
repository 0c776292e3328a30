//! Owns how typed commands become bytes inside a dataflow. It does not choose the encoding: that is
//! [`codec`](crate::codec).

use differential_dataflow::ExchangeData;
use timely::dataflow::StreamVec;

use crate::codec::packed::{Encoded, Packer};
use crate::codec::{Codec, DataError, encode_stored};
use crate::command::Command;
use crate::error::{Error, ErrorKind};
use crate::health::Status;
use crate::health::convert::convert;

/// Turns keys and values into bytes, which the rows of a container share.
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
            if let Command::Put { value, .. } = command {
                push(&|buffer| encode_stored::<V, C>(value, buffer));
            }
        }
        let mut encoded = packer.finish();
        if let Some(error) = failure {
            return Err(error);
        }
        let mut next = || encoded.next().ok_or_else(too_few);
        let encode = |(command, time)| {
            let command = match command {
                Command::Put { order, .. } => Command::put(next()?, next()?, order),
                Command::Delete { order, .. } => Command::delete(next()?, order),
                Command::Reset { order } => Command::reset(order),
            };
            Ok((command, time))
        };
        commands.drain(..).map(encode).collect()
    })
}

/// What cannot be, and must not pass for an empty key.
fn too_few() -> Error {
    Error::new(ErrorKind::Corrupt, "fewer keys and values came out of a buffer than went in")
        .hint("report this; nothing of it was written")
}
