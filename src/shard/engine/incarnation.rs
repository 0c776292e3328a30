//! Owns the bytes of the object `INCARNATION`. When it is made, and looked at, is
//! `shard::incarnation`'s.
//!
//! ```text
//! {"incarnation":"<32 hex digits>"}
//! crc32c <8 hex digits>
//! ```
//!
//! With version 2 of the layout the member is called `root`. A program that knows version 1 alone refuses that,
//! and one that has the root open already finds that these are other bytes: so nothing that counts on files of
//! entries goes on once the log is in segments.

use serde::{Deserialize, Serialize};

use super::format::{checked_line, with_checksum};
use super::id::Id;
use crate::error::{Error, ErrorKind};

const WHAT: &str = "INCARNATION file";

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Line {
    Files { incarnation: Id },
    Segments { root: Id },
}

/// Encodes the file of an incarnation, in a root with this version of the layout.
///
/// # Panics
///
/// Never: a string always is JSON.
pub fn encode(incarnation: Id, version: u32) -> Vec<u8> {
    let line = match version {
        1 => Line::Files { incarnation },
        _ => Line::Segments { root: incarnation },
    };
    with_checksum(serde_json::to_string(&line).expect("a string is JSON"))
}

/// Decodes it.
///
/// # Errors
///
/// `Corrupt` for damage; `Unsupported` for a later kind.
pub fn decode(bytes: &[u8]) -> Result<Id, Error> {
    let line = checked_line(WHAT, bytes)?;
    match serde_json::from_str(line) {
        Ok(Line::Files { incarnation: id } | Line::Segments { root: id }) => Ok(id),
        // Intact, but not of our shape.
        Err(e) => Err(Error::new(ErrorKind::Unsupported, "an unknown kind of incarnation")
            .hint("use a newer version of the program")
            .because(e)),
    }
}
