//! Owns the bytes of a part of format 1, which is read and no longer written: rows as columns in the order of their keys,
//! each column with its checksum.
//!
//! ```text
//! offset  bytes
//! 0       8    magic
//! 8       2    version, u16 LE: 1
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

use super::super::frame::{damaged, unsupported};
use super::shape::{PartHeader, Update, WHAT, diff_of, u32_at, u64_at};
use crate::codec::packed::{Encoded, Packed};
use crate::error::Error;

const VERSION: u16 = 1;
const SECTIONS: usize = 6;
const TABLE: usize = 40;
const HEADER: usize = TABLE + SECTIONS * 12 + 4;

/// What the header says, and where it says that everything is.
pub(super) struct Header {
    updates: u64,
    time_min: u64,
    time_max: u64,
    sections: [Range<usize>; SECTIONS],
    crcs: [u32; SECTIONS],
}

impl Header {
    /// Decodes the header of a whole part, checking every length against the bytes there are.
    pub(super) fn decode(bytes: &[u8]) -> Result<Header, Error> {
        if bytes.len() < HEADER {
            return Err(damaged(WHAT, format!("{} bytes", bytes.len())));
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
        Ok(Header { updates, time_min, time_max, sections, crcs })
    }

    pub(super) fn shown(&self) -> PartHeader {
        let Header { updates, time_min, time_max, .. } = *self;
        PartHeader { version: VERSION, updates, time_min, time_max }
    }
}

/// Decodes the updates whose time is in `lower..upper` and whose key is `wanted`.
pub(super) fn decode(
    buffer: &Arc<Vec<u8>>,
    lower: u64,
    upper: u64,
    wanted: impl Fn(&Encoded) -> bool,
) -> Result<Vec<Update>, Error> {
    let bytes = buffer.as_slice();
    let header = Header::decode(bytes)?;
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
            let diff = diff_of(diff)?;
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
