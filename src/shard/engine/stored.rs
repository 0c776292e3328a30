//! Owns the check of stored rows against what a state says of them. It does not read them.

use super::entry::Entry;
use super::frame::damaged;
use super::part;
use super::state::Part;
use crate::error::Error;

/// Returns the bytes of an inline part, out of the entry that has them.
pub(crate) fn inline_rows(part: &Part, entry: &[u8]) -> Result<Vec<u8>, Error> {
    let Part::Inline { seqno, offset, bytes, .. } = part else { return Ok(Vec::new()) };
    let (_, raw) = Entry::decode(*seqno, entry)?;
    let range = usize::try_from(*offset).ok().zip(usize::try_from(*bytes).ok());
    let rows = range.and_then(|(offset, bytes)| raw.get(offset..)?.get(..bytes));
    let rows = rows.ok_or_else(|| damaged("log entry", "shorter than the state says"))?;
    check(part, rows)?;
    Ok(rows.to_vec())
}

/// Checks the bytes of a part against what the state says of it.
pub(crate) fn check(part: &Part, bytes: &[u8]) -> Result<(), Error> {
    if bytes.len() as u64 != part.bytes() || crc32c::crc32c(bytes) != part.crc() {
        return Err(damaged("part", "its length or checksum is not what its entry says"));
    }
    let updates = part::PartHeader::decode(bytes)?.updates;
    if updates != part.updates() {
        return Err(damaged("part", format!("{updates} updates, not {}", part.updates())));
    }
    Ok(())
}
