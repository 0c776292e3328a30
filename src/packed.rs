//! Owns [`Packed`]: a value of any serde type kept as bytes, by offset and length in a buffer that
//! many rows share. It does not choose the encoding of a shard; that is [`codec`](crate::codec).

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, ErrorKind};

/// How the visitor of a [`Packed`] says what it expects: the name of the type follows.
pub(crate) const EXPECTED: &str = "packed ";

/// Encoded bytes whose type is known elsewhere: the keys and values of a shard.
pub type Encoded = Packed<()>;

/// A `T` kept as bytes: 16 bytes of handle, cloned by a reference count, compared and hashed as
/// bytes.
///
/// Rows made by one [`Packer`] share one buffer, so a batch of rows costs one allocation. A buffer
/// lives as long as any of its rows; state therefore copies the bytes it keeps.
///
/// ```
/// use differential_upsert::Packed;
/// let packed = Packed::pack(&("peanut".to_string(), 7u32)).unwrap();
/// assert_eq!(packed.unpack().unwrap(), ("peanut".to_string(), 7));
/// assert_eq!(packed.as_bytes(), b"\x06peanut\x07");
/// ```
pub struct Packed<T> {
    buffer: Arc<Vec<u8>>,
    offset: u32,
    length: u32,
    marker: PhantomData<fn() -> T>,
}

impl<T> Packed<T> {
    /// Wraps bytes that already are the encoding of a `T`.
    ///
    /// # Panics
    ///
    /// Panics if there are 4 GiB of them or more.
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        let length = bytes.len();
        Packed::within(&Arc::new(bytes), 0, length)
    }

    /// Wraps `length` bytes at `offset` of a shared buffer.
    ///
    /// # Panics
    ///
    /// Panics if the range is not inside the buffer, or the buffer has 4 GiB or more.
    pub fn within(buffer: &Arc<Vec<u8>>, offset: usize, length: usize) -> Self {
        assert!(
            offset.checked_add(length).is_some_and(|end| end <= buffer.len()),
            "bytes {offset}+{length} outside a buffer of {}",
            buffer.len()
        );
        assert!(buffer.len() <= u32::MAX as usize, "a buffer of {} bytes", buffer.len());
        Packed {
            buffer: Arc::clone(buffer),
            offset: offset as u32,
            length: length as u32,
            marker: PhantomData,
        }
    }

    /// Returns the encoded bytes.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        let offset = self.offset as usize;
        &self.buffer[offset..offset + self.length as usize]
    }

    /// Returns the same bytes as the encoding of another type, which the caller vouches for.
    pub fn cast<U>(self) -> Packed<U> {
        Packed {
            buffer: self.buffer,
            offset: self.offset,
            length: self.length,
            marker: PhantomData,
        }
    }
}

impl<T: Serialize + DeserializeOwned> Packed<T> {
    /// Encodes a value, in a buffer of its own. Use a [`Packer`] for many.
    ///
    /// # Errors
    ///
    /// `Invalid` if serde cannot serialize the value.
    pub fn pack(value: &T) -> Result<Self, Error> {
        postcard::to_stdvec(value).map(Packed::from_bytes).map_err(|e| {
            Error::new(ErrorKind::Invalid, "a value that serde cannot serialize").because(e)
        })
    }

    /// Decodes the value.
    ///
    /// # Errors
    ///
    /// `Corrupt` if the bytes are not the encoding of a `T`.
    pub fn unpack(&self) -> Result<T, Error> {
        let wrong = || Error::new(ErrorKind::Corrupt, "bytes that do not decode as their type");
        match postcard::take_from_bytes(self.as_bytes()) {
            Ok((value, [])) => Ok(value),
            Ok(_) => Err(wrong()),
            Err(e) => Err(wrong().because(e)),
        }
    }
}

impl<T> AsRef<[u8]> for Packed<T> {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl<T> Clone for Packed<T> {
    #[inline]
    fn clone(&self) -> Self {
        Packed {
            buffer: Arc::clone(&self.buffer),
            offset: self.offset,
            length: self.length,
            marker: PhantomData,
        }
    }
}

impl<T> PartialEq for Packed<T> {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl<T> Eq for Packed<T> {}

impl<T> PartialOrd for Packed<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Packed<T> {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl<T> Hash for Packed<T> {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(self.as_bytes());
    }
}

impl<T> fmt::Debug for Packed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Packed(\"{}\")", self.as_bytes().escape_ascii())
    }
}

impl<T> Serialize for Packed<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.as_bytes())
    }
}

impl<'de, T> Deserialize<'de> for Packed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes<T>(PhantomData<fn() -> T>);
        impl<T> serde::de::Visitor<'_> for Bytes<T> {
            type Value = Packed<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let name = crate::codec::short_name(std::any::type_name::<T>());
                write!(f, "{EXPECTED}{name}")
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Packed<T>, E> {
                Ok(Packed::from_bytes(bytes.to_vec()))
            }
            fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Packed<T>, E> {
                Ok(Packed::from_bytes(bytes))
            }
        }
        deserializer.deserialize_byte_buf(Bytes(PhantomData))
    }
}

/// Makes many [`Packed`] rows that share one buffer.
///
/// ```
/// use differential_upsert::{Packed, Packer};
/// let mut packer = Packer::default();
/// packer.push_with(|buffer| buffer.extend_from_slice(b"one"));
/// packer.push_with(|_| {});
/// let rows: Vec<Packed<()>> = packer.finish().collect();
/// assert_eq!((rows[0].as_bytes(), rows[1].as_bytes()), (&b"one"[..], &b""[..]));
/// ```
#[derive(Debug, Default)]
pub struct Packer {
    buffer: Vec<u8>,
    ends: Vec<usize>,
}

impl Packer {
    /// Starts one more row and lets `write` append its bytes.
    pub fn push_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.buffer);
        self.ends.push(self.buffer.len());
    }

    /// Returns the bytes written so far.
    pub fn bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Returns the rows, in the order they were pushed, and leaves the packer empty.
    pub fn finish<T>(&mut self) -> impl Iterator<Item = Packed<T>> + use<T> {
        let buffer = Arc::new(std::mem::take(&mut self.buffer));
        let mut start = 0;
        std::mem::take(&mut self.ends).into_iter().map(move |end| {
            let row = Packed::within(&buffer, start, end - start);
            start = end;
            row
        })
    }
}
