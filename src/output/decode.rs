//! Owns how stored rows become typed ones again, inside a dataflow. It does not own the encoding; that is
//! [`codec`](crate::codec).

use differential_dataflow::{AsCollection, ExchangeData, VecCollection};

use crate::codec::packed::Encoded;
use crate::codec::{Codec, DataError, Values};
use crate::error::Error;
use crate::health::Status;
use crate::health::convert::convert;

/// A committed collection, as it is stored.
pub(crate) type Rows<'scope> = VecCollection<'scope, u64, (Encoded, Encoded), isize>;

/// Returns the keys that have a value, decoded.
pub(crate) fn committed<'scope, K: ExchangeData, V: ExchangeData, C: Codec<K> + Codec<V>>(
    rows: &Rows<'scope>,
    values: Values<V, C>,
    status: &Status,
) -> VecCollection<'scope, u64, (K, V), isize> {
    decoded(rows, status, move |(key, value): &(Encoded, Encoded)| {
        let key = || <C as Codec<K>>::decode(key.as_bytes());
        let value = values.decode(value.as_bytes()).map_err(|e| of_key(e, key()))?;
        let Ok(value) = value else { return Ok(None) };
        Ok(Some((key()?, value)))
    })
}

/// Returns the keys that have an error, decoded.
pub(crate) fn committed_errors<'scope, K: ExchangeData, V: ExchangeData, C: Codec<K> + Codec<V>>(
    rows: &Rows<'scope>,
    values: Values<V, C>,
    status: &Status,
) -> VecCollection<'scope, u64, (K, DataError), isize> {
    decoded(rows, status, move |(key, value): &(Encoded, Encoded)| {
        let key_of = || <C as Codec<K>>::decode(key.as_bytes());
        let value = values.decode(value.as_bytes()).map_err(|e| of_key(e, key_of()))?;
        let Err(error) = value else { return Ok(None) };
        Ok(Some((C::decode(key.as_bytes())?, error)))
    })
}

/// Says of which key a value is that cannot be read.
fn of_key<K: std::fmt::Debug>(error: Error, key: Result<K, Error>) -> Error {
    match key {
        Ok(key) => error.at(format!("key {key:?}")),
        Err(_) => error,
    }
}

fn decoded<'scope, D: Clone + 'static>(
    rows: &Rows<'scope>,
    status: &Status,
    decode: impl Fn(&(Encoded, Encoded)) -> Result<Option<D>, Error> + 'static,
) -> VecCollection<'scope, u64, D, isize> {
    // A row that does not decode is reported and holds, so it is never taken for an absent one.
    let decoded = convert(rows.inner.clone(), "UpsertDecode", status.clone(), move |rows| {
        let (most, mut decoded) = (rows.len(), Vec::new());
        for (row, at, diff) in rows.drain(..) {
            if let Some(data) = decode(&row)? {
                // Where there is one there are mostly all: in one step.
                decoded.reserve(if decoded.is_empty() { most } else { 1 });
                decoded.push((data, at, diff));
            }
        }
        Ok(decoded)
    });
    decoded.as_collection()
}
