//! Owns how a shard's keys and values become bytes: the codec trait and the default codec here, each other
//! matter in a file of its own. It does not own the bytes around them.

#[cfg(any(feature = "json", feature = "planetscale", feature = "postgres-source"))]
pub(crate) mod canonical;
#[cfg(any(feature = "json", feature = "planetscale", feature = "postgres-source"))]
mod collection;
pub(crate) mod deal;
mod evolving;
#[cfg(feature = "json")]
mod json;
pub(crate) mod name;
#[cfg(any(feature = "json", feature = "planetscale", feature = "postgres-source"))]
pub(crate) mod object;
pub mod packed;
#[cfg(any(feature = "json", feature = "planetscale", feature = "postgres-source"))]
mod partial;
pub mod shape;
mod stored;
mod values;

use serde::Serialize;
use serde::de::DeserializeOwned;

#[cfg(feature = "postgres-source")]
pub(crate) use collection::in_collection;
#[cfg(any(feature = "json", feature = "planetscale", feature = "postgres-source"))]
pub use collection::{COLLECTIONS, collection, collection_name, split_collection};
pub use evolving::Evolving;
#[cfg(feature = "json")]
pub use json::{Json, JsonText};
#[cfg(any(feature = "json", feature = "planetscale", feature = "postgres-source"))]
pub(crate) use partial::partial;
#[cfg(any(feature = "json", feature = "planetscale", feature = "postgres-source"))]
pub use partial::{KEEP_UNSENT, keep_unsent};
pub use stored::{DataError, decode_stored, encode_stored};
pub(crate) use stored::{encode_shaped, encode_value, is_error};
pub(crate) use values::{UNWRITTEN, Values};

use self::name::short_name;
use self::shape::Shape;
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
    /// [`shape`]: another shape is refused. `None`, the default, leaves it at the
    /// [`fingerprint`](Codec::fingerprint).
    ///
    /// A codec of your own may say the shape of a type that cannot be traced, or that of the version
    /// of its rows; it may hand everything else on to [`Postcard`].
    fn shape() -> Option<String> {
        None
    }

    /// Says whether values of another shape, which a shard has too, can be [upgraded](Codec::upgrade). It is asked of each
    /// when a shard is opened, and of values alone: keys are found by their bytes.
    ///
    /// # Errors
    ///
    /// `Unsupported`, the default, if they cannot: then the shard is not opened.
    fn upgrades(from: &Shape) -> Result<(), Error> {
        let _ = from;
        let what = "this codec reads one shape alone";
        Err(Error::new(ErrorKind::Unsupported, what).hint(
            "open it with the types it was made with, or use `codec::Evolving`, which reads fields by their names",
        ))
    }

    /// Decodes a value from bytes that were encoded with another shape. It must come to the same value in every version of
    /// the program. What is stored stays as it is, until the key gets another value.
    ///
    /// # Errors
    ///
    /// `Unsupported` if the type does not take the value; `Corrupt` if the bytes are not of that shape.
    fn upgrade(from: &Shape, bytes: &[u8]) -> Result<T, Error> {
        let _ = bytes;
        Self::upgrades(from).and_then(|()| {
            let what = "a codec that upgrades, and does not say how";
            Err(Error::new(ErrorKind::Unsupported, what))
        })
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
}
