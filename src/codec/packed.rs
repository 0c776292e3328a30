//! Owns [`Packed`]: a value of any serde type kept as bytes, by offset and length in a buffer that
//! many rows share. It does not choose the encoding of a shard; that is [`codec`](crate::codec).

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::deal;
use super::shape::EXPECTED;
use crate::error::{Error, ErrorKind};

/// Encoded bytes whose type is known elsewhere: the keys and values of a shard.
pub type Encoded = Packed<()>;

/// The greatest length of a row, and of a buffer that rows share: offsets are 32 bits wide.
const ROW_BYTES_MAX: usize = u32::MAX as usize;

/// Bytes of a buffer beside its rows: its reference counts and its vector, and what the allocator adds.
const BUFFER_BYTES: usize = 64;

/// Bytes after which a [`Packer`] begins another buffer. A buffer lives as long as any of its rows, so a small one is
/// given back sooner; at this size the cost of one more is lost in that of its rows.
const PACK_BYTES: usize = 1 << 20;

/// Where the bytes of a row are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Tells one buffer from another, as long as a row keeps it.
    pub buffer: usize,
    /// The bytes allocated for the buffer.
    pub buffer_bytes: usize,
    /// The bytes of the row.
    pub bytes: usize,
}

fn check_length(length: usize, max: usize) -> Result<(), Error> {
    if length <= max {
        return Ok(());
    }
    let what = format!("a key or a value of {length} bytes");
    Err(Error::new(ErrorKind::Invalid, what).hint("keep each below 4 GiB"))
}

/// A `T` kept as bytes: 16 bytes of handle, cloned by a reference count, compared and hashed as
/// bytes.
///
/// Rows made by one [`Packer`] share buffers, so a batch of rows costs few allocations. A buffer
/// lives as long as any of its rows; state therefore copies the bytes it keeps, and the stash counts
/// the whole buffer. A row has less than 4 GiB.
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
    /// Panics if there are 4 GiB of them or more: use [`try_from_bytes`](Packed::try_from_bytes) where that
    /// is not ruled out.
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        let length = bytes.len();
        Packed::within(&Arc::new(bytes), 0, length)
    }

    /// Wraps bytes that already are the encoding of a `T`.
    ///
    /// # Errors
    ///
    /// `Invalid` if there are 4 GiB of them or more.
    pub fn try_from_bytes(bytes: Vec<u8>) -> Result<Self, Error> {
        check_length(bytes.len(), ROW_BYTES_MAX)?;
        Ok(Packed::from_bytes(bytes))
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
        assert!(buffer.len() <= ROW_BYTES_MAX, "a buffer of {} bytes", buffer.len());
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

    /// Returns the hash by which parts are sorted and rows are dealt to workers: never the one of [`Hash`], which any
    /// build may change.
    #[inline]
    pub fn stable_hash(&self) -> u64 {
        deal::hash(self.as_bytes())
    }

    /// Returns where the bytes are, and what they pin.
    pub(crate) fn place(&self) -> Place {
        Place {
            buffer: Arc::as_ptr(&self.buffer) as usize,
            buffer_bytes: self.buffer.capacity() + BUFFER_BYTES,
            bytes: self.length as usize,
        }
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
    /// `Invalid` if serde cannot serialize the value, or it has 4 GiB or more.
    pub fn pack(value: &T) -> Result<Self, Error> {
        let bytes = postcard::to_stdvec(value).map_err(|e| {
            Error::new(ErrorKind::Invalid, "a value that serde cannot serialize").because(e)
        })?;
        Packed::try_from_bytes(bytes)
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

impl<T> Packed<T> {
    /// Whether both are the same bytes of one buffer, as clones are: then these need no look.
    #[inline]
    fn is_clone(&self, other: &Self) -> bool {
        (self.offset, self.length) == (other.offset, other.length)
            && Arc::ptr_eq(&self.buffer, &other.buffer)
    }
}

impl<T> PartialEq for Packed<T> {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.is_clone(other) || self.as_bytes() == other.as_bytes()
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
        match self.is_clone(other) {
            true => Ordering::Equal,
            false => self.as_bytes().cmp(other.as_bytes()),
        }
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
                let name = super::name::short_name(std::any::type_name::<T>());
                write!(f, "{EXPECTED}{name}")
            }
            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Packed<T>, E> {
                self.visit_byte_buf(bytes.to_vec())
            }
            fn visit_byte_buf<E: serde::de::Error>(self, bytes: Vec<u8>) -> Result<Packed<T>, E> {
                Packed::try_from_bytes(bytes).map_err(E::custom)
            }
        }
        deserializer.deserialize_byte_buf(Bytes(PhantomData))
    }
}

/// Makes many [`Packed`] rows that share buffers, of about 1 MiB each; a larger row has one to itself.
///
/// ```
/// use differential_upsert::{Packed, Packer};
/// let mut packer = Packer::default();
/// packer.push_with(|buffer| buffer.extend_from_slice(b"one"))?;
/// packer.push_with(|_| {})?;
/// let rows: Vec<Packed<()>> = packer.finish().collect();
/// assert_eq!((rows[0].as_bytes(), rows[1].as_bytes()), (&b"one"[..], &b""[..]));
/// # Ok::<(), differential_upsert::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct Packer {
    /// Whole ones, each with the ends of its rows.
    full: Vec<Buffer>,
    open: Buffer,
}

#[derive(Debug, Default)]
struct Buffer {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Buffer {
    /// Gives back spare capacity: a buffer grows by doubling, and its rows may keep it for long.
    fn shrunk(mut self) -> Self {
        if self.bytes.capacity() - self.bytes.len() > self.bytes.len() / 4 {
            self.bytes.shrink_to_fit();
        }
        self
    }
}

impl Packer {
    /// Starts one more row and lets `write` append its bytes.
    ///
    /// # Errors
    ///
    /// `Invalid` if the row has 4 GiB or more: it is left out, and the rows before it stay. And if
    /// `write` takes away bytes that were there: then the rows that had them are left out as well.
    pub fn push_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), Error> {
        self.push_within(ROW_BYTES_MAX, write)
    }

    fn push_within(
        &mut self,
        row_bytes_max: usize,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), Error> {
        let start = self.open.bytes.len();
        write(&mut self.open.bytes);
        let Some(length) = self.open.bytes.len().checked_sub(start) else {
            self.open = Buffer::default();
            let what = "the encoder of a row took the bytes of other rows away";
            return Err(
                Error::new(ErrorKind::Invalid, what).hint("let it append, and nothing else")
            );
        };
        if let Err(error) = check_length(length, row_bytes_max) {
            self.open.bytes.truncate(start);
            return Err(error);
        }
        if start > 0 && start + length > PACK_BYTES {
            // What was there is a buffer, and this row begins the next.
            let bytes = self.open.bytes.split_off(start);
            let next = Buffer { bytes, ends: Vec::new() };
            self.full.push(std::mem::replace(&mut self.open, next).shrunk());
        }
        self.open.ends.push(self.open.bytes.len());
        Ok(())
    }

    /// Returns the bytes written so far.
    pub fn bytes(&self) -> usize {
        self.full.iter().chain([&self.open]).map(|buffer| buffer.bytes.len()).sum()
    }

    /// Returns the rows, in the order they were pushed, and leaves the packer empty.
    pub fn finish<T>(&mut self) -> impl Iterator<Item = Packed<T>> + use<T> {
        let Packer { mut full, open } = std::mem::take(self);
        full.push(open.shrunk());
        full.into_iter().flat_map(|Buffer { bytes, ends }| {
            let (buffer, mut start) = (Arc::new(bytes), 0);
            ends.into_iter().map(move |end| {
                let row = Packed::within(&buffer, start, end - start);
                start = end;
                row
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Offsets have 32 bits, so what a packer is given must not end up in one buffer.
    #[test]
    fn a_packer_begins_another_buffer_and_keeps_every_row() {
        let mut packer = Packer::default();
        let lengths = [10, PACK_BYTES - 10, 0, 1, 3 * PACK_BYTES, 0, 7, PACK_BYTES / 2, PACK_BYTES];
        for (at, length) in lengths.into_iter().enumerate() {
            packer.push_with(|buffer| buffer.resize(buffer.len() + length, at as u8)).unwrap();
        }
        assert_eq!(packer.bytes(), lengths.iter().sum::<usize>());
        let rows: Vec<Encoded> = packer.finish().collect();
        assert_eq!((rows.len(), packer.finish::<()>().count()), (lengths.len(), 0));
        for ((at, length), row) in lengths.into_iter().enumerate().zip(&rows) {
            assert!(row.as_bytes() == vec![at as u8; length], "row {at}");
            let most = length.max(PACK_BYTES);
            assert!(row.place().buffer_bytes <= most + most / 4 + BUFFER_BYTES, "row {at}");
        }
        assert_ne!(rows[0].place().buffer, rows[8].place().buffer);
    }

    /// An encoder that gives the buffer away, as one may when it fails, is an error, and no panic.
    #[test]
    fn a_row_that_takes_others_away_is_an_error() {
        let mut packer = Packer::default();
        packer.push_with(|buffer| buffer.extend_from_slice(b"gone")).unwrap();
        let error = packer.push_with(|buffer| drop(std::mem::take(buffer))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        packer.push_with(|buffer| buffer.extend_from_slice(b"here")).unwrap();
        let rows: Vec<Encoded> = packer.finish().collect();
        assert_eq!(rows.iter().map(Encoded::as_bytes).collect::<Vec<_>>(), [b"here"]);
    }

    /// A row that no offset can name is an error, and takes no other row with it.
    #[test]
    fn a_row_over_the_limit_is_an_error() {
        let mut packer = Packer::default();
        let mut push =
            |bytes: &[u8]| packer.push_within(5, |buffer| buffer.extend_from_slice(bytes));
        push(b"fine").unwrap();
        assert_eq!(push(b"too long").unwrap_err().kind(), ErrorKind::Invalid);
        push(b"again").unwrap();
        let rows: Vec<Encoded> = packer.finish().collect();
        assert_eq!(
            rows.iter().map(Encoded::as_bytes).collect::<Vec<_>>(),
            [&b"fine"[..], b"again"]
        );
    }
}
