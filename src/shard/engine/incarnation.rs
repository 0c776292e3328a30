//! Owns the bytes of the object `INCARNATION`. When it is made, and looked at, is
//! `shard::incarnation`'s.
//!
//! ```text
//! {"incarnation":"<32 hex digits>"}
//! crc32c <8 hex digits>
//! ```

use serde::{Deserialize, Serialize};

use super::format::{checked_line, with_checksum};
use super::id::Id;
use crate::error::{Error, ErrorKind};

const WHAT: &str = "INCARNATION file";

#[derive(Debug, Serialize, Deserialize)]
struct Line {
    incarnation: Id,
}

/// Encodes the file of an incarnation.
///
/// # Panics
///
/// Never: a string always is JSON.
pub fn encode(incarnation: Id) -> Vec<u8> {
    let line = serde_json::to_string(&Line { incarnation }).expect("a string is JSON");
    with_checksum(line)
}

/// Decodes it.
///
/// # Errors
///
/// `Corrupt` for damage; `Unsupported` for a later kind.
pub fn decode(bytes: &[u8]) -> Result<Id, Error> {
    let line = checked_line(WHAT, bytes)?;
    match serde_json::from_str(line) {
        Ok(Line { incarnation }) => Ok(incarnation),
        // Intact, but not of our shape.
        Err(e) => Err(Error::new(ErrorKind::Unsupported, "an unknown kind of incarnation")
            .hint("use a newer version of the program")
            .because(e)),
    }
}
