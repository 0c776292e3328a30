//! Owns what both formats of a part have in common: the magic bytes and the version, what a header says, an update.
//! It does not know where in a part anything else is.

use std::ops::RangeInclusive;

use super::super::frame::{damaged, unsupported_beyond};
use crate::codec::packed::Encoded;
use crate::error::Error;

/// Bytes that one update takes in a part at the most, besides its key and value.
pub const UPDATE_BYTES: usize = 4 + 4 + 8 + 8;

/// One update: `((key, value), time, diff)`.
pub type Update = ((Encoded, Encoded), u64, isize);

pub(super) const MAGIC: &[u8; 8] = b"DUPSPRT\n";
pub(super) const WHAT: &str = "part";

/// All hashes there are.
pub(crate) const ALL: RangeInclusive<u64> = 0..=u64::MAX;

/// The longest part there is: offsets inside it are 32 bits wide.
pub(super) const BYTES_MAX: u64 = u32::MAX as u64;

/// What the header of a part says, whichever format it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartHeader {
    /// The format: 1 or 2.
    pub version: u16,
    /// How many updates there are.
    pub updates: u64,
    /// The least time.
    pub time_min: u64,
    /// The greatest time.
    pub time_max: u64,
}

/// Returns the format of a part.
pub(crate) fn version(bytes: &[u8]) -> Result<u16, Error> {
    if bytes.len() < 16 || bytes.len() as u64 > BYTES_MAX {
        return Err(damaged(WHAT, format!("{} bytes", bytes.len())));
    }
    if &bytes[..8] != MAGIC {
        return Err(damaged(WHAT, "not its magic bytes"));
    }
    // Before the checksum: another version may put it elsewhere.
    match u16::from_le_bytes([bytes[8], bytes[9]]) {
        known @ (1 | 2) => Ok(known),
        version => Err(unsupported_beyond(WHAT, version, 2)),
    }
}

pub(super) fn diff_of(diff: i64) -> Result<isize, Error> {
    isize::try_from(diff).map_err(|_| damaged(WHAT, "a diff too large"))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}
