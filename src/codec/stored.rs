//! Owns what a shard stores as a value: a value's bytes or an error's text, behind a tag that tells which.
//! It does not own the value's own bytes; those are the codec's.

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
        Ok(value) => {
            into.push(VALUE);
            C::encode(value, into)
        }
        Err(DataError(text)) => {
            into.push(ERROR);
            into.extend_from_slice(text.as_bytes());
            Ok(())
        }
    }
}

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
