//! Owns how a shard's keys and values become bytes: the codec trait, the default codec, and the tag
//! that tells a stored value from a stored error. It does not own the bytes around them.

pub mod packed;
pub mod shape;

use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};

/// How values of type `T` become bytes and come back.
///
/// Keys and values are compared, hashed and tie-broken as these bytes, so equal values must have
/// equal bytes.
pub trait Codec<T>: 'static {
    /// Names the codec; stored with the shard, and another name is refused.
    const ID: &'static str;

    /// Appends the encoding of a value.
    ///
    /// # Errors
    ///
    /// `Invalid` if the value cannot be encoded. What was appended is dropped by the caller; what
    /// was there before stays, also then: it is other rows'.
    fn encode(value: &T, into: &mut Vec<u8>) -> Result<(), Error>;

    /// Decodes a value from exactly the bytes that `encode` appended.
    ///
    /// # Errors
    ///
    /// `Corrupt` if the bytes are not an encoding.
    fn decode(bytes: &[u8]) -> Result<T, Error>;

    /// Names the type, stored with the shard. The default is the type's name without paths. Where
    /// the shape of both is known it is that which counts, and a type may have another name.
    fn fingerprint() -> String {
        short_name(std::any::type_name::<T>())
    }

    /// Returns how values are made up, stored with the shard, in the words of
    /// [`shape`](crate::codec::shape): another shape is refused. `None`, the default, leaves it at the
    /// [`fingerprint`](Codec::fingerprint).
    ///
    /// A codec of your own may say the shape of a type that cannot be traced, or that of the version
    /// of its rows; it may hand everything else on to [`Postcard`].
    fn shape() -> Option<String> {
        None
    }
}

/// A buffer of many rows, lent to postcard: given away, it would be gone with a row that fails.
struct Appended<'a>(&'a mut Vec<u8>);

impl Extend<u8> for Appended<'_> {
    #[inline]
    fn extend<I: IntoIterator<Item = u8>>(&mut self, bytes: I) {
        self.0.extend(bytes);
    }
}

/// The default codec: any serde type, through [`postcard`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Postcard;

impl<T: Serialize + DeserializeOwned> Codec<T> for Postcard {
    const ID: &'static str = "postcard-1";

    fn encode(value: &T, into: &mut Vec<u8>) -> Result<(), Error> {
        match postcard::to_extend(value, Appended(into)) {
            Ok(_) => Ok(()),
            Err(e) => {
                Err(Error::new(ErrorKind::Invalid, "a value that serde cannot serialize")
                    .because(e))
            }
        }
    }

    fn decode(bytes: &[u8]) -> Result<T, Error> {
        let wrong = || Error::new(ErrorKind::Corrupt, "stored bytes do not decode as their type");
        match postcard::take_from_bytes(bytes) {
            Ok((value, [])) => Ok(value),
            Ok(_) => Err(wrong()),
            Err(e) => Err(wrong().because(e)),
        }
    }

    fn shape() -> Option<String> {
        crate::codec::shape::shape::<T>()
    }
}

/// Drops the paths from a type's name, so that moving a type between modules changes nothing.
pub(crate) fn short_name(name: &str) -> String {
    let mut short = String::new();
    let mut word = 0;
    for c in name.chars() {
        short.push(c);
        if c == ':' {
            short.truncate(word);
        } else if !c.is_alphanumeric() && c != '_' {
            word = short.len();
        }
    }
    short
}

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

#[cfg(test)]
mod tests {
    use super::*;

    /// Refuses to be serialized, behind a part that is fine.
    struct Half;

    impl Serialize for Half {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            use serde::ser::{Error as _, SerializeTuple};
            let mut two = serializer.serialize_tuple(2)?;
            two.serialize_element(&7u8)?;
            Err(S::Error::custom("no"))
        }
    }

    impl<'de> serde::Deserialize<'de> for Half {
        fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Half, D::Error> {
            Ok(Half)
        }
    }

    #[test]
    fn a_value_that_fails_leaves_what_was_there() {
        let mut buffer = b"other rows".to_vec();
        assert!(Postcard::encode(&Half, &mut buffer).is_err());
        assert!(buffer.starts_with(b"other rows"), "{buffer:?}");
    }

    #[test]
    fn names_have_no_paths() {
        assert_eq!(short_name("alloc::string::String"), "String");
        assert_eq!(
            short_name("(u64, alloc::vec::Vec<core::option::Option<u8>>)"),
            "(u64, Vec<Option<u8>>)"
        );
        assert_eq!(short_name("&str"), "&str");
    }
}
