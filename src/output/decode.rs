//! Owns how stored rows become typed ones again, inside a dataflow. It does not own the encoding; that is
//! [`codec`](crate::codec).

use differential_dataflow::{AsCollection, ExchangeData, VecCollection};

use crate::codec::packed::Encoded;
use crate::codec::{Codec, DataError, decode_stored};
use crate::error::Error;
use crate::health::Status;
use crate::health::convert::convert;

/// A committed collection, as it is stored.
pub(crate) type Rows<'scope> = VecCollection<'scope, u64, (Encoded, Encoded), isize>;

/// Returns the keys that have a value, decoded.
pub(crate) fn committed<'scope, K: ExchangeData, V: ExchangeData, C: Codec<K> + Codec<V>>(
    rows: &Rows<'scope>,
    status: &Status,
) -> VecCollection<'scope, u64, (K, V), isize> {
    decoded(rows, status, |(key, value): &(Encoded, Encoded)| {
        let Ok(value) = decode_stored::<V, C>(value.as_bytes())? else { return Ok(None) };
        Ok(Some((C::decode(key.as_bytes())?, value)))
    })
}

/// Returns the keys that have an error, decoded.
pub(crate) fn committed_errors<'scope, K: ExchangeData, V: ExchangeData, C: Codec<K> + Codec<V>>(
    rows: &Rows<'scope>,
    status: &Status,
) -> VecCollection<'scope, u64, (K, DataError), isize> {
    decoded(rows, status, |(key, value): &(Encoded, Encoded)| {
        let Err(error) = decode_stored::<V, C>(value.as_bytes())? else { return Ok(None) };
        Ok(Some((C::decode(key.as_bytes())?, error)))
    })
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
