//! Owns what a part is: rows made ready for an append, and the bytes of either format back into rows. It does not know
//! where a part is kept; that is `rows`'s. Format 2 is written; 1 is read.

mod shape;

mod column;

mod one;

mod two;

mod write;

use std::ops::RangeInclusive;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub(crate) use shape::{ALL, version};
pub use shape::{PartHeader, UPDATE_BYTES, Update};
pub(crate) use two::{Row, Scan};
pub(crate) use write::{Line, Writer, Written, write};

use crate::codec::deal::hash;
use crate::codec::packed::{Encoded, Packed};
use crate::error::Error;
use shape::{BYTES_MAX, diff_of};

/// A part under a key of its own, as an entry names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartRef {
    /// The key, relative to the root.
    pub key: String,
    /// How many bytes are there.
    pub bytes: u64,
    /// The crc32c of them all.
    pub crc: u32,
    /// How many updates they hold.
    pub updates: u64,
    /// The least time of an update.
    pub time_min: u64,
    /// The greatest time of an update.
    pub time_max: u64,
}

/// Rows made ready for an append, in nobody's sight yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Prepared {
    /// Uploaded under a key of its own.
    Stored(PartRef),
    /// The bytes of a small part, and how many updates they hold.
    Inline(Vec<u8>, u64),
}

impl Prepared {
    /// Returns how many updates it holds.
    pub fn updates(&self) -> u64 {
        match self {
            Prepared::Stored(part) => part.updates,
            Prepared::Inline(_, updates) => *updates,
        }
    }
}

/// Whether a part can hold a row whose key and value have so many bytes.
pub(crate) fn fits(key: u64, value: u64) -> bool {
    let around = (two::HEADER + two::FENCE + UPDATE_BYTES) as u64;
    key.saturating_add(value).saturating_add(around) <= BYTES_MAX
}

/// Encodes updates in the order given, which has to be that of a part: by the hash of the key, key, time, diff and
/// value. O(bytes).
///
/// # Panics
///
/// Panics if there are none: a part without rows is not written.
pub fn encode(updates: &[Update]) -> Vec<u8> {
    write(updates.iter().map(|update| Line::of(hash(update.0.0.as_bytes()), update))).bytes
}

impl PartHeader {
    /// Decodes the header of a whole part, checking every length against the bytes there are.
    ///
    /// # Errors
    ///
    /// `Corrupt` for damage; `Unsupported` for a version, codec or compression that this program
    /// does not know.
    pub fn decode(bytes: &[u8]) -> Result<PartHeader, Error> {
        match version(bytes)? {
            1 => one::Header::decode(bytes).map(|header| header.shown()),
            _ => two::Header::decode(bytes).map(|header| header.shown()),
        }
    }
}

/// Decodes the updates whose time is in `lower..upper`; rows share the buffer, none is copied.
///
/// # Errors
///
/// As [`PartHeader::decode`]; `Corrupt` also for rows that are not in the order of their format. Never panics, and
/// allocates no more than a small multiple of the bytes that are there, whatever they are.
pub fn decode(buffer: &Arc<Vec<u8>>, lower: u64, upper: u64) -> Result<Vec<Update>, Error> {
    if version(buffer)? == 2 {
        two::Header::decode(buffer)?.check_body(buffer)?;
    }
    decode_share(buffer, lower, upper, ALL)
}

/// As [`decode`], only the rows of keys whose hash is in `hashes`, and of bytes whose checksum as a whole has been
/// looked at. Of format 2 only those rows are decoded, and a few before them.
pub(crate) fn decode_share(
    buffer: &Arc<Vec<u8>>,
    lower: u64,
    upper: u64,
    hashes: RangeInclusive<u64>,
) -> Result<Vec<Update>, Error> {
    if version(buffer)? == 1 {
        let wanted = |key: &Encoded| hashes == ALL || hashes.contains(&hash(key.as_bytes()));
        return one::decode(buffer, lower, upper, wanted);
    }
    let mut scan = Scan::new(Arc::clone(buffer), hashes)?;
    // What a header says of rows is not allocated before they are seen.
    let mut updates = Vec::with_capacity(scan.rows_max().min(buffer.len() / 16));
    while let Some(row) = scan.next()? {
        // Rows of times that other writers had committed stay in the part and do not count.
        if lower <= row.time && row.time < upper {
            let place = |(at, length)| Packed::within(buffer, at, length);
            updates.push(((place(row.key), place(row.value)), row.time, diff_of(row.diff)?));
        }
    }
    Ok(updates)
}

#[cfg(test)]
mod tests;
