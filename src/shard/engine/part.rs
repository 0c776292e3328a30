//! Owns the bytes of a part: rows as columns, each with its checksum; and rows made ready for an
//! append. It does not know where a part is kept; that is `rows`'s.
//!
//! ```text
//! offset  bytes
//! 0       8    magic
//! 8       2    version, u16 LE
//! 10      2    codec: 0, as FORMAT says
//! 12      2    compression: 0, none
//! 14      2    0
//! 16      8    number of updates, u64 LE
//! 24      8    least time
//! 32      8    greatest time
//! 40      12*6 per section: length, u64 LE; crc32c, u32 LE
//! 112     4    crc32c of the bytes before it
//! 116          sections, without gaps: key lengths (u32), key bytes, value lengths (u32), value
//!              bytes, times (u64), diffs (i64); all LE
//! ```

use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::frame::{damaged, unsupported};
use crate::codec::packed::{Encoded, Packed};
use crate::error::Error;

/// One update: `((key, value), time, diff)`.
pub type Update = ((Encoded, Encoded), u64, isize);

const MAGIC: &[u8; 8] = b"DUPSPRT\n";
const WHAT: &str = "part";
const VERSION: u16 = 1;
const SECTIONS: usize = 6;
const TABLE: usize = 40;
const HEADER: usize = TABLE + SECTIONS * 12 + 4;

/// Bytes that one update costs in a part, besides its key and value.
pub const UPDATE_BYTES: usize = 4 + 4 + 8 + 8;

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

/// The longest part there is: offsets inside it are 32 bits wide.
const BYTES_MAX: u64 = u32::MAX as u64;

/// Whether a part can hold a row whose key and value have so many bytes.
pub(crate) fn fits(key: u64, value: u64) -> bool {
    let around = (HEADER + UPDATE_BYTES) as u64;
    key.saturating_add(value).saturating_add(around) <= BYTES_MAX
}

/// Encodes updates in the order given. O(bytes).
///
/// # Panics
///
/// Panics if there are none: a part without rows is not written.
pub fn encode(updates: &[Update]) -> Vec<u8> {
    assert!(!updates.is_empty(), "a part of 0 updates");
    let times = updates.iter().map(|(_, time, _)| *time);
    let (least, greatest) = (times.clone().min(), times.max());
    let data: usize =
        updates.iter().map(|((k, v), _, _)| k.as_bytes().len() + v.as_bytes().len()).sum();
    let mut bytes = Vec::with_capacity(HEADER + data + updates.len() * UPDATE_BYTES);
    bytes.resize(HEADER, 0);

    let mut table = [(0u64, 0u32); SECTIONS];
    let mut section = 0;
    let mut write = |bytes: &mut Vec<u8>, each: &dyn Fn(&mut Vec<u8>, &Update)| {
        let start = bytes.len();
        updates.iter().for_each(|update| each(bytes, update));
        table[section] = ((bytes.len() - start) as u64, crc32c::crc32c(&bytes[start..]));
        section += 1;
    };
    // A Packed row is shorter than 4 GiB by its own invariant.
    let length = |row: &Encoded| (row.as_bytes().len() as u32).to_le_bytes();
    write(&mut bytes, &|bytes, ((key, _), _, _)| bytes.extend_from_slice(&length(key)));
    write(&mut bytes, &|bytes, ((key, _), _, _)| bytes.extend_from_slice(key.as_bytes()));
    write(&mut bytes, &|bytes, ((_, value), _, _)| bytes.extend_from_slice(&length(value)));
    write(&mut bytes, &|bytes, ((_, value), _, _)| bytes.extend_from_slice(value.as_bytes()));
    write(&mut bytes, &|bytes, (_, time, _)| bytes.extend_from_slice(&time.to_le_bytes()));
    write(&mut bytes, &|bytes, (_, _, diff)| {
        bytes.extend_from_slice(&(*diff as i64).to_le_bytes());
    });

    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
    bytes[16..24].copy_from_slice(&(updates.len() as u64).to_le_bytes());
    bytes[24..32].copy_from_slice(&least.unwrap_or_default().to_le_bytes());
    bytes[32..40].copy_from_slice(&greatest.unwrap_or_default().to_le_bytes());
    for (index, (length, crc)) in table.into_iter().enumerate() {
        let at = TABLE + index * 12;
        bytes[at..at + 8].copy_from_slice(&length.to_le_bytes());
        bytes[at + 8..at + 12].copy_from_slice(&crc.to_le_bytes());
    }
    let crc = crc32c::crc32c(&bytes[..HEADER - 4]);
    bytes[HEADER - 4..HEADER].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// What the header of a part says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartHeader {
    /// How many updates there are.
    pub updates: u64,
    /// The least time.
    pub time_min: u64,
    /// The greatest time.
    pub time_max: u64,
    sections: [Range<usize>; SECTIONS],
    crcs: [u32; SECTIONS],
}

impl PartHeader {
    /// Decodes the header of a whole part, checking every length against the bytes there are.
    ///
    /// # Errors
    ///
    /// `Corrupt` for damage; `Unsupported` for a version, codec or compression that this program
    /// does not know.
    pub fn decode(bytes: &[u8]) -> Result<PartHeader, Error> {
        if bytes.len() < HEADER || bytes.len() as u64 > BYTES_MAX {
            return Err(damaged(WHAT, format!("{} bytes", bytes.len())));
        }
        if &bytes[..8] != MAGIC {
            return Err(damaged(WHAT, "not its magic bytes"));
        }
        // Before the checksum: another version may put it elsewhere.
        let version = u16::from_le_bytes([bytes[8], bytes[9]]);
        if version != VERSION {
            return Err(unsupported(WHAT, version));
        }
        if crc32c::crc32c(&bytes[..HEADER - 4]).to_le_bytes() != bytes[HEADER - 4..HEADER] {
            return Err(damaged(WHAT, "the checksum of its header does not match"));
        }
        if bytes[10..16] != [0; 6] {
            return Err(unsupported(WHAT, "1 with another codec or compression"));
        }
        let updates = u64_at(bytes, 16);
        let mut sections: [Range<usize>; SECTIONS] = Default::default();
        let mut crcs = [0; SECTIONS];
        let mut start = HEADER;
        for index in 0..SECTIONS {
            let at = TABLE + index * 12;
            let end = usize::try_from(u64_at(bytes, at))
                .ok()
                .and_then(|length| start.checked_add(length))
                .filter(|end| *end <= bytes.len())
                .ok_or_else(|| damaged(WHAT, "a section beyond its end"))?;
            sections[index] = start..end;
            crcs[index] = u32_at(bytes, at + 8);
            start = end;
        }
        if start != bytes.len() {
            return Err(damaged(WHAT, "bytes after its last section"));
        }
        for (section, width) in [(0, 4), (2, 4), (4, 8), (5, 8)] {
            if updates.checked_mul(width) != Some(sections[section].len() as u64) {
                return Err(damaged(WHAT, "a section of another length than its rows need"));
            }
        }
        let (time_min, time_max) = (u64_at(bytes, 24), u64_at(bytes, 32));
        Ok(PartHeader { updates, time_min, time_max, sections, crcs })
    }
}

/// Decodes the updates whose time is in `lower..upper`; rows share the buffer, none is copied.
///
/// # Errors
///
/// As [`PartHeader::decode`]. Never panics, and allocates no more than a small multiple of the
/// bytes that are there, whatever they are.
pub fn decode(buffer: &Arc<Vec<u8>>, lower: u64, upper: u64) -> Result<Vec<Update>, Error> {
    decode_wanted(buffer, lower, upper, |_| true)
}

/// As [`decode`], only the rows of keys that are `wanted`.
pub(crate) fn decode_wanted(
    buffer: &Arc<Vec<u8>>,
    lower: u64,
    upper: u64,
    wanted: impl Fn(&Encoded) -> bool,
) -> Result<Vec<Update>, Error> {
    let bytes = buffer.as_slice();
    let header = PartHeader::decode(bytes)?;
    for (section, crc) in header.sections.iter().zip(header.crcs) {
        if crc32c::crc32c(&bytes[section.clone()]) != crc {
            return Err(damaged(WHAT, "the checksum of a section does not match"));
        }
    }
    let [key_lengths, keys, value_lengths, values, times, diffs] = &header.sections;
    let mut updates = Vec::with_capacity(header.updates as usize);
    let (mut key, mut value) = (keys.start, values.start);
    for row in 0..header.updates as usize {
        let key_length = u32_at(bytes, key_lengths.start + row * 4) as usize;
        let value_length = u32_at(bytes, value_lengths.start + row * 4) as usize;
        if key_length > keys.end - key || value_length > values.end - value {
            return Err(damaged(WHAT, "a row beyond its section"));
        }
        let time = u64_at(bytes, times.start + row * 8);
        let diff = u64_at(bytes, diffs.start + row * 8) as i64;
        if time < header.time_min || time > header.time_max || diff == 0 {
            return Err(damaged(WHAT, "a time or a diff that cannot be"));
        }
        // Rows of times that other writers had committed stay in the part and do not count.
        if lower <= time && time < upper {
            let diff = isize::try_from(diff).map_err(|_| damaged(WHAT, "a diff too large"))?;
            let name = Packed::within(buffer, key, key_length);
            if wanted(&name) {
                let data = (name, Packed::within(buffer, value, value_length));
                updates.push((data, time, diff));
            }
        }
        key += key_length;
        value += value_length;
    }
    if key != keys.end || value != values.end {
        return Err(damaged(WHAT, "bytes that belong to no row"));
    }
    Ok(updates)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_no_part_can_hold_is_known_by_its_length() {
        let row = ((Packed::from_bytes(vec![1; 3]), Packed::from_bytes(vec![2; 5])), 0, 1);
        let least = encode(&[row]).len() as u64 - 8;
        let most = u64::from(u32::MAX) - least;
        for (key, value, fits) in [
            (3, 5, true),
            (0, most, true),
            (most, 0, true),
            (1, most, false),
            (most / 2 + 1, most / 2 + 1, false),
            (u64::from(u32::MAX), u64::from(u32::MAX), false),
            (u64::MAX, 1, false),
        ] {
            assert_eq!(super::fits(key, value), fits, "{key} + {value}");
        }
    }
}
