//! Owns what a shard stores as a value: a value's bytes or an error's text, behind a tag that tells which. It does not
//! own the value's own bytes, which are the codec's, nor how values of several shapes are read, which is
//! [`values`](super::values)'.

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

/// Tag of a stored value of the shape that the shard was made with.
const VALUE: u8 = 0;
/// Tag of a stored error, whose bytes are its text.
const ERROR: u8 = 1;
/// Tag of a stored value of a later shape, whose number comes before its bytes.
const SHAPED: u8 = 2;

/// Appends a value or an error as a shard stores it: a tag, then its bytes. The value is of the shape that the shard was
/// made with.
///
/// # Errors
///
/// `Invalid` if the value cannot be encoded.
pub fn encode_stored<V, C: Codec<V>>(
    value: &Result<V, DataError>,
    into: &mut Vec<u8>,
) -> Result<(), Error> {
    encode_shaped::<V, C>(value, 0, into)
}

/// As [`encode_stored`], with a value whose shape has a number.
pub(crate) fn encode_shaped<V, C: Codec<V>>(
    value: &Result<V, DataError>,
    shape: u16,
    into: &mut Vec<u8>,
) -> Result<(), Error> {
    match value {
        Ok(value) => encode_value::<V, C>(value, shape, into),
        Err(DataError(text)) => {
            into.push(ERROR);
            into.extend_from_slice(text.as_bytes());
            Ok(())
        }
    }
}

/// As [`encode_shaped`], of a value.
pub(crate) fn encode_value<V, C: Codec<V>>(
    value: &V,
    shape: u16,
    into: &mut Vec<u8>,
) -> Result<(), Error> {
    match shape {
        0 => into.push(VALUE),
        _ if crate::mutant::on("shape_forgotten") => into.push(VALUE),
        shape => {
            into.push(SHAPED);
            into.extend_from_slice(&shape.to_le_bytes());
        }
    }
    C::encode(value, into)
}

/// Decodes what [`encode_stored`] appended.
///
/// # Errors
///
/// `Corrupt` if the bytes are not such an encoding; `Unsupported` if they are of a later shape.
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
    match split(bytes)? {
        Stored::Value(0, value) => C::decode(value).map(Ok),
        Stored::Value(number, _) => {
            let what = format!("a value of shape {number} of the shard, which is not known here");
            Err(Error::new(ErrorKind::Unsupported, what).hint("read it through a `Shard`"))
        }
        Stored::Error(error) => Ok(Err(error)),
    }
}

/// What is stored as a value.
pub(super) enum Stored<'a> {
    /// A value: the number of its shape, and its bytes.
    Value(u16, &'a [u8]),
    /// An error.
    Error(DataError),
}

/// Tells what stored bytes are.
///
/// # Errors
///
/// `Corrupt` if they are neither.
pub(super) fn split(bytes: &[u8]) -> Result<Stored<'_>, Error> {
    match bytes {
        [VALUE, value @ ..] => Ok(Stored::Value(0, value)),
        [SHAPED, low, high, value @ ..] => {
            Ok(Stored::Value(u16::from_le_bytes([*low, *high]), value))
        }
        [ERROR, text @ ..] => match std::str::from_utf8(text) {
            Ok(text) => Ok(Stored::Error(DataError(text.to_string()))),
            Err(e) => Err(Error::new(ErrorKind::Corrupt, "a stored error is not UTF-8").because(e)),
        },
        _ => Err(Error::new(ErrorKind::Corrupt, "a stored value has no known tag")),
    }
}

/// Whether stored bytes are an error.
pub(crate) fn is_error(stored: &[u8]) -> bool {
    stored.first() == Some(&ERROR)
}
