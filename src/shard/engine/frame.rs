//! Owns the frame that log entries and rollups share: magic, version, a JSON text, raw bytes, and a
//! checksum over all of it. What the JSON means is not its business.
//!
//! ```text
//! offset  bytes
//! 0       8      magic
//! 8       2      version, u16 LE
//! 10      2      0
//! 12      4      length of the JSON text, u32 LE
//! 16      n      JSON text
//! 16+n    m      raw bytes
//! 16+n+m  4      crc32c of everything before it, u32 LE
//! ```

use crate::error::{Error, ErrorKind};

const HEADER: usize = 16;
const TRAILER: usize = 4;

/// Builds a frame.
///
/// # Errors
///
/// `Invalid` if the JSON text has 4 GiB or more.
pub(crate) fn encode(
    magic: &[u8; 8],
    version: u16,
    json: &[u8],
    raw: &[u8],
) -> Result<Vec<u8>, Error> {
    let length = u32::try_from(json.len())
        .map_err(|_| Error::new(ErrorKind::Invalid, "a header of 4 GiB or more"))?;
    let mut bytes = Vec::with_capacity(HEADER + json.len() + raw.len() + TRAILER);
    bytes.extend_from_slice(magic);
    bytes.extend_from_slice(&version.to_le_bytes());
    bytes.extend_from_slice(&[0; 2]);
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(json);
    bytes.extend_from_slice(raw);
    let crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    Ok(bytes)
}

/// Checks a frame and returns its JSON text and the raw bytes after it.
///
/// # Errors
///
/// `Corrupt` for damage, `Unsupported` for a version beyond the `known` ones.
pub(crate) fn decode<'a>(
    magic: &[u8; 8],
    known: u16,
    what: &str,
    bytes: &'a [u8],
) -> Result<(&'a [u8], &'a [u8]), Error> {
    if bytes.len() < HEADER + TRAILER {
        return Err(damaged(what, format!("only {} bytes", bytes.len())));
    }
    let (body, crc) = bytes.split_at(bytes.len() - TRAILER);
    if &body[..8] != magic {
        return Err(damaged(what, "not its magic bytes"));
    }
    // Before the checksum: another version may put it elsewhere.
    let version = u16::from_le_bytes([body[8], body[9]]);
    if !(1..=known).contains(&version) {
        return Err(unsupported_beyond(what, version, known));
    }
    if crc32c::crc32c(body).to_le_bytes() != crc {
        return Err(damaged(what, "the checksum does not match"));
    }
    let length = u32::from_le_bytes([body[12], body[13], body[14], body[15]]) as usize;
    if body[10..12] != [0; 2] || length > body.len() - HEADER {
        return Err(damaged(what, "lengths that do not fit"));
    }
    Ok(body[HEADER..].split_at(length))
}

/// The error for stored bytes that are not what they should be.
pub(crate) fn damaged(what: &str, why: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Corrupt, format!("a damaged {what}: {why}"))
        .hint("restore the file from a copy")
}

/// The error for a version that this program does not know.
pub(crate) fn unsupported(what: &str, version: impl std::fmt::Display) -> Error {
    unsupported_beyond(what, version, 1)
}

/// As [`unsupported`], where versions up to `known` are read.
pub(crate) fn unsupported_beyond(what: &str, version: impl std::fmt::Display, known: u16) -> Error {
    let known = if known == 1 { "1".to_string() } else { format!("1 to {known}") };
    Error::new(ErrorKind::Unsupported, format!("a {what} of version {version}; this reads {known}"))
        .hint("use a newer version of the program")
}
