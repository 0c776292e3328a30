//! Owns the bytes of a segment, and of the records in it: pure functions. Which files there are is
//! [`index`](super::index)'s; how far they are durable is in the [`marks`](super::marks).
//!
//! A segment is a file that is as long as it will ever be from the start, written with zeros, so that a record
//! changes bytes of it and nothing else of the file system. Little-endian.
//!
//! ```text
//! segment   "DULOGSEG" | version u32 = 1 | after u32 | number u64 | crc32c u32 of these | 0 u32 | record.. | zeros
//! record    magic u32 | bytes u32 | seqno u64 | synced u32 | crc32c u32 | the entry | zeros up to 8 bytes
//! ```
//!
//! *after* is the place up to which the segment before was durable when this one was made; 0 for the first.
//!
//! A record's checksum covers the number of the segment, the place in it, the header and the entry: so no
//! entry that holds the bytes of a segment is ever taken for a record. *synced* is the place up to which the
//! segment was durable before this record was written. That tells a torn tail from damage: where bytes are
//! not a whole record, and no record after them was begun with them durable, nobody was ever told of them.

use std::ops::Range;

/// Where the first record begins.
pub(super) const HEADER: u64 = 32;
/// The bytes of a record before its entry.
pub(super) const RECORD: usize = 24;

const MAGIC: &[u8; 8] = b"DULOGSEG";
const VERSION: u32 = 1;
const RECORD_MAGIC: [u8; 4] = *b"rec1";

/// Encodes the header of a segment, which comes after so many durable bytes of the one before.
pub(super) fn header(number: u64, after: u64) -> [u8; HEADER as usize] {
    let mut bytes = [0; HEADER as usize];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes[12..16].copy_from_slice(&(after as u32).to_le_bytes());
    bytes[16..24].copy_from_slice(&number.to_le_bytes());
    let crc = crc32c::crc32c(&bytes[..24]);
    bytes[24..28].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// Returns what the header of this segment says it comes after; `None` if bytes do not begin with one.
pub(super) fn read_header(number: u64, bytes: &[u8]) -> Option<u64> {
    let after = u64::from(u32_at(bytes.get(..HEADER as usize)?, 12));
    bytes.starts_with(&header(number, after)).then_some(after)
}

/// Returns how many bytes the record of an entry takes.
pub(super) fn record_len(entry: usize) -> usize {
    (RECORD + entry).next_multiple_of(8)
}

/// Appends the record of an entry, which is to stand at a place in a segment. `synced` is up to where the segment
/// is durable.
pub(super) fn push_record(
    to: &mut Vec<u8>,
    number: u64,
    at: u64,
    synced: u64,
    seqno: u64,
    entry: &[u8],
) {
    let start = to.len();
    to.extend_from_slice(&RECORD_MAGIC);
    to.extend_from_slice(&(entry.len() as u32).to_le_bytes());
    to.extend_from_slice(&seqno.to_le_bytes());
    to.extend_from_slice(&(synced as u32).to_le_bytes());
    to.extend_from_slice(&[0; 4]);
    to.extend_from_slice(entry);
    to.resize(start + record_len(entry.len()), 0);
    let crc = checksum(number, at, &to[start..]);
    to[start + 20..start + RECORD].copy_from_slice(&crc.to_le_bytes());
}

/// The checksum of a record, over all of its bytes but these four.
fn checksum(number: u64, at: u64, record: &[u8]) -> u32 {
    let place = [number.to_le_bytes(), at.to_le_bytes()].concat();
    let crc = crc32c::crc32c_append(crc32c::crc32c(&place), &record[..20]);
    crc32c::crc32c_append(crc, &record[RECORD..])
}

/// A whole record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) seqno: u64,
    /// Where it begins, and where the next one does.
    pub(super) place: Range<u64>,
    /// How many bytes its entry has.
    pub(super) bytes: u32,
    /// The checksum of it all, which tells it from another record in its place.
    pub(super) crc: u32,
    synced: u64,
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

/// Reads the record that stands at a place; `bytes` are the segment's from there on. `None` if no whole one does.
pub(super) fn read_record(number: u64, at: u64, bytes: &[u8]) -> Option<Record> {
    let head = bytes.get(..RECORD)?;
    if head[..4] != RECORD_MAGIC {
        return None;
    }
    let entry = u32_at(head, 4);
    let len = record_len(usize::try_from(entry).ok()?);
    let record = bytes.get(..len)?;
    let crc = u32_at(head, 20);
    if checksum(number, at, record) != crc && !crate::mutant::on("segment_believe_torn") {
        return None;
    }
    let seqno = u64::from(u32_at(head, 8)) | u64::from(u32_at(head, 12)) << 32;
    let place = at..at.checked_add(len as u64)?;
    Some(Record { seqno, place, bytes: entry, crc, synced: u64::from(u32_at(head, 16)) })
}

/// Returns the whole records that stand anywhere from a place on, in the midst of whatever; `bytes` are the
/// segment's from there on.
pub(super) fn find_records(number: u64, from: u64, bytes: &[u8]) -> impl Iterator<Item = Record> {
    (0..bytes.len())
        .step_by(8)
        .filter_map(move |skip| read_record(number, from + skip as u64, &bytes[skip..]))
}

/// What stands in a segment from some place on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Scan {
    /// Whole records, one right after the other.
    pub(super) records: Vec<Record>,
    /// Where the last of them ends.
    pub(super) end: u64,
    pub(super) rest: Rest,
}

/// What stands behind the last whole record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// Zeros, to the end.
    Free,
    /// What a crash has left of records that were never durable: to be overwritten.
    Torn,
    /// What was a durable record once, as a later one says.
    Damaged,
}

/// Reads all that stands in a segment from a place on; `bytes` are the segment's from there on.
pub(super) fn scan(number: u64, from: u64, bytes: &[u8]) -> Scan {
    let (mut records, mut end) = (Vec::new(), from);
    let rest_at = |end: u64| &bytes[(end - from) as usize..];
    while let Some(record) = read_record(number, end, rest_at(end)) {
        end = record.place.end;
        records.push(record);
    }
    let rest = rest_at(end);
    let rest = if rest.iter().all(|byte| *byte == 0) {
        Rest::Free
    } else {
        let mut later = find_records(number, end, rest);
        if later.any(|record| record.synced > end) { Rest::Damaged } else { Rest::Torn }
    };
    Scan { records, end, rest }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(synced: [u64; 3]) -> (Vec<u8>, Vec<u64>) {
        let (mut bytes, mut places) = (header(7, 0).to_vec(), Vec::new());
        for (seqno, synced) in synced.into_iter().enumerate() {
            let at = bytes.len() as u64;
            places.push(at);
            push_record(&mut bytes, 7, at, synced, seqno as u64 + 1, &vec![0xa5; 5 + seqno]);
        }
        bytes.resize(bytes.len() + 100, 0);
        (bytes, places)
    }

    fn scanned(bytes: &[u8]) -> Scan {
        scan(7, HEADER, &bytes[HEADER as usize..])
    }

    #[test]
    fn a_segment_is_read_back() {
        let (bytes, places) = segment([HEADER; 3]);
        assert_eq!((read_header(7, &bytes), read_header(8, &bytes)), (Some(0), None));
        assert_eq!(read_header(8, &header(8, 4_000)), Some(4_000));
        let scan = scanned(&bytes);
        assert_eq!(scan.records.iter().map(|r| r.seqno).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(scan.records.iter().map(|r| r.place.start).collect::<Vec<_>>(), places);
        assert_eq!((scan.end, scan.rest), (bytes.len() as u64 - 100, Rest::Free));
        // The same bytes elsewhere are no records.
        assert_eq!(super::scan(8, HEADER, &bytes[HEADER as usize..]).records, []);
        assert_eq!(super::scan(7, HEADER + 8, &bytes[HEADER as usize..]).records, []);
    }

    #[test]
    fn every_flip_ends_the_records_where_it_is() {
        let (bytes, places) = segment([HEADER; 3]);
        let end = bytes.len() - 100;
        for at in HEADER as usize..end {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            let hit = places.iter().filter(|place| **place <= at as u64).count() - 1;
            let scan = scanned(&flipped);
            assert_eq!((scan.records.len(), scan.end), (hit, places[hit]), "byte {at}");
            // All were written at one time: nothing says that any of them was durable.
            assert_eq!(scan.rest, Rest::Torn, "byte {at}");
        }
    }

    #[test]
    fn a_later_record_tells_damage_from_a_torn_tail() {
        let (_, places) = segment([HEADER; 3]);
        // The third was begun once the second was durable, the second with the first in one go.
        let (bytes, _) = segment([HEADER, HEADER, places[2]]);
        for (place, rest) in [(0, Rest::Damaged), (1, Rest::Damaged), (2, Rest::Torn)] {
            let mut flipped = bytes.clone();
            flipped[places[place] as usize + 21] ^= 4;
            assert_eq!(scanned(&flipped).rest, rest, "record {place}");
        }
    }
}
