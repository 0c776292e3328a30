//! Owns a place in a feed of lines whose times are minted: what it says, its bytes, and the hash of
//! what lies before it. It does not own reading up to there.
//!
//! A file is told apart by what is in it, not by its name: it has grown if the bytes up to the place
//! still hash to what they did.

use xxhash_rust::xxh3::Xxh3;

use super::line::{Bad, Row};
use crate::error::{Error, ErrorKind};
use crate::source::Position;

/// The end of a line, whose change and all before it have been handed over: a place in a feed of lines
/// whose times are minted. Ordered by bytes; a place in a file of other contents is not comparable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilePosition {
    /// Bytes up to here.
    pub(super) offset: u64,
    /// Lines up to here.
    pub(super) line: u64,
    /// Rows up to here, kept bad lines among them.
    pub(super) rows: u64,
    /// What the bytes up to here hash to.
    pub(super) prefix: u128,
    /// What the rows up to here say about `offset` members.
    pub(super) offsets: Offsets,
}

/// The xxh3-128 of all bytes added.
#[derive(Clone, Default)]
pub(super) struct Prefix(Box<Xxh3>);

/// What the rows so far say about their `offset`s: all have one or none has, the first decides, and
/// they do not decrease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Offsets {
    /// The first row is yet to come.
    #[default]
    Undecided,
    Absent,
    Last(u64),
}

impl FilePosition {
    /// Returns how many bytes of the feed lie before this place.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Returns how many lines end at or before this place, blank ones too.
    pub fn line(&self) -> u64 {
        self.line
    }

    /// Returns how many of these are rows, bad lines that were kept among them.
    pub fn rows(&self) -> u64 {
        self.rows
    }
}

/// Format of a position's bytes.
const VERSION: u8 = 1;
const BYTES: usize = 1 + 8 + 8 + 8 + 16 + 1 + 8;

impl Position for FilePosition {
    fn contains(&self, other: &Self) -> Option<bool> {
        // Of two places with one offset and two hashes neither is before the other.
        let differ = self.offset == other.offset && self.prefix != other.prefix;
        (!differ).then_some(self.offset >= other.offset)
    }

    fn order(&self) -> Option<u64> {
        Some(self.offset)
    }

    fn encode(&self, into: &mut Vec<u8>) {
        let (tag, last) = match self.offsets {
            Offsets::Undecided => (0, 0),
            Offsets::Absent => (1, 0),
            Offsets::Last(last) => (2, last),
        };
        into.push(VERSION);
        for number in [self.offset, self.line, self.rows] {
            into.extend_from_slice(&number.to_le_bytes());
        }
        into.extend_from_slice(&self.prefix.to_le_bytes());
        into.push(tag);
        into.extend_from_slice(&last.to_le_bytes());
    }

    fn decode(bytes: &[u8]) -> Result<Self, Error> {
        if let [version, ..] = bytes
            && *version != VERSION
        {
            let what = format!("a position of version {version}, this program reads {VERSION}");
            return Err(Error::new(ErrorKind::Unsupported, what).hint("use a newer program"));
        }
        let bytes: &[u8; BYTES] = bytes.try_into().map_err(|_| damaged("of another length"))?;
        let number = |at: usize| {
            let mut number = [0; 8];
            number.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(number)
        };
        let offsets = match (bytes[41], number(42)) {
            (0, 0) => Offsets::Undecided,
            (1, 0) => Offsets::Absent,
            (2, last) => Offsets::Last(last),
            _ => return Err(damaged("with an unknown tag")),
        };
        Ok(FilePosition {
            offset: number(1),
            line: number(9),
            rows: number(17),
            prefix: u128::from(number(25)) | u128::from(number(33)) << 64,
            offsets,
        })
    }
}

fn damaged(how: &str) -> Error {
    Error::new(ErrorKind::Corrupt, format!("a position in a file {how}"))
        .hint("restore the shard from a copy")
}

impl Prefix {
    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(super) fn hash(&self) -> u128 {
        self.0.digest128()
    }
}

impl std::fmt::Debug for Prefix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Prefix({:032x})", self.hash())
    }
}

impl Offsets {
    /// Takes a row's `offset`, or says why the row is bad; then nothing has changed.
    pub(super) fn row(&mut self, row: &Row) -> Result<(), Bad> {
        *self = match (*self, row.offset) {
            (Offsets::Undecided | Offsets::Absent, None) => Offsets::Absent,
            (Offsets::Undecided, Some(offset)) => Offsets::Last(offset),
            (Offsets::Last(last), Some(offset)) if offset >= last => Offsets::Last(offset),
            (Offsets::Last(last), Some(offset)) => {
                let what = format!("\"offset\" decreases from {last} to {offset}");
                let hint = "drop \"offset\", or hand over one partition, or correct the line";
                return Err(Bad::new(what, hint));
            }
            (Offsets::Last(_), None) => return Err(Bad::offset_on_some(true)),
            (Offsets::Absent, Some(_)) => return Err(Bad::offset_on_some(false)),
        };
        Ok(())
    }
}
