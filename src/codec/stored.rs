//! Owns what a shard stores as a value: a value's bytes or an error's text, behind a tag that tells which, and how
//! a patch changes it. It does not own the value's own bytes, which are the codec's, nor what a patch means.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Codec;
use crate::error::{Error, ErrorKind};

/// An error that is a key's value: what went wrong with the row that would have set it.
///
/// It takes part in the collection like any value: a later command replaces or deletes it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DataError(pub String);

impl fmt::Display for DataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for DataError {}

/// Tag of a stored value.
const VALUE: u8 = 0;
/// Tag of a stored error, whose bytes are its text.
const ERROR: u8 = 1;

/// Appends a value or an error as a shard stores it: a tag, then its bytes.
///
/// # Errors
///
/// `Invalid` if the value cannot be encoded.
pub fn encode_stored<V, C: Codec<V>>(
    value: &Result<V, DataError>,
    into: &mut Vec<u8>,
) -> Result<(), Error> {
    match value {
        Ok(value) => encode_value::<V, C>(value, into),
        Err(DataError(text)) => {
            into.push(ERROR);
            into.extend_from_slice(text.as_bytes());
            Ok(())
        }
    }
}

/// Appends a value as a shard stores it.
///
/// # Errors
///
/// As [`encode_stored`].
pub(crate) fn encode_value<V, C: Codec<V>>(value: &V, into: &mut Vec<u8>) -> Result<(), Error> {
    into.push(VALUE);
    C::encode(value, into)
}

/// Returns what a patch makes of a stored value: of none, an error; of an error, the same error.
///
/// # Errors
///
/// `Corrupt` if the bytes of one are no such encoding, and what the codec reports.
pub(crate) fn fold_stored<V, C: Codec<V>>(
    prior: Option<&[u8]>,
    patch: &[u8],
    fold: fn(V, V) -> Result<V, DataError>,
) -> Result<Vec<u8>, Error> {
    let patched = match (prior, decode_stored::<V, C>(patch)?) {
        (_, Err(error)) => Err(error),
        (None, Ok(_)) => Err(DataError(PATCH_OF_NOTHING.to_string())),
        (Some(prior), Ok(patch)) => {
            decode_stored::<V, C>(prior)?.and_then(|prior| fold(prior, patch))
        }
    };
    let mut bytes = Vec::new();
    encode_stored::<V, C>(&patched, &mut bytes)?;
    Ok(bytes)
}

/// The error of a patch that found no value. It is stored, so another text would be another value.
const PATCH_OF_NOTHING: &str = "a patch of a key that has no value";

/// Decodes what [`encode_stored`] appended.
///
/// # Errors
///
/// `Corrupt` if the bytes are not such an encoding.
///
/// ```
/// use differential_upsert::codec::{DataError, Postcard, decode_stored, encode_stored};
/// let mut bytes = Vec::new();
/// let error: Result<u32, _> = Err(DataError("not a number".to_string()));
/// encode_stored::<u32, Postcard>(&error, &mut bytes).unwrap();
/// assert_eq!(bytes, b"\x01not a number");
/// assert_eq!(decode_stored::<u32, Postcard>(&bytes).unwrap(), error);
/// assert!(decode_stored::<u32, Postcard>(b"\x07").is_err());
/// ```
pub fn decode_stored<V, C: Codec<V>>(bytes: &[u8]) -> Result<Result<V, DataError>, Error> {
    match bytes.split_first() {
        Some((&VALUE, value)) => C::decode(value).map(Ok),
        Some((&ERROR, text)) => match std::str::from_utf8(text) {
            Ok(text) => Ok(Err(DataError(text.to_string()))),
            Err(e) => Err(Error::new(ErrorKind::Corrupt, "a stored error is not UTF-8").because(e)),
        },
        _ => Err(Error::new(ErrorKind::Corrupt, "a stored value has no known tag")),
    }
}

/// Whether stored bytes are an error.
pub(crate) fn is_error(stored: &[u8]) -> bool {
    stored.first() == Some(&ERROR)
}
