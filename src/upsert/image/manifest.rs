//! Owns the bytes of an image's manifest: where its pieces and chunks are, and as of what they stand. It does not own
//! where the manifest is, nor whether it may be trusted.
//!
//! ```text
//! "DUIMAGE" 0x01                              magic and version
//! u64 round | u64 worker | u64 workers        which image of which worker
//! u128 incarnation                            of the shard's root
//! u64 seqno | u128 token | u64 upper          the entry of the log that its reader had come to
//! i64 errors | u64 made_ms                    keys whose value is an error, below the least upper of its pieces
//! u32 chunks | u32 pieces
//! chunks x { u32 chunk | u32 unit | u32 units | u64 bytes | u32 rows | u32 live }
//! pieces x { u32 start | u32 bits | u64 entries | u64 at | u32 crc32c | u64 upper }
//! u32 crc32c                                  of all before it
//! ```
//!
//! Integers are little-endian. The version also stands for how keys and values are hashed, and for the 4 KiB of a unit.

use super::super::cold::{Chunked, Region};
use super::super::entry::ENTRY_BYTES;
use super::super::index::{Piece, Prefix};

/// Seven letters and the version.
const MAGIC: [u8; 8] = *b"DUIMAGE\x01";

/// Where an image stands in the shard's log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The root's incarnation.
    pub(crate) incarnation: u128,
    /// The newest entry that was known when it was made.
    pub(crate) seqno: u64,
    /// The name of that entry.
    pub(crate) token: u128,
    /// The upper that the entry left.
    pub(crate) upper: u64,
}

/// A segment of the index, as it stands in the file of pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    /// Its hashes, and how many entries it has.
    pub(crate) piece: Piece,
    /// Where it begins in the file.
    pub(crate) at: u64,
    /// The crc32c of its bytes.
    pub(crate) crc: u32,
    /// It has all updates below this time, and no other.
    pub(crate) upper: u64,
}

impl Stored {
    /// Returns its bytes in the file.
    pub(crate) fn bytes(&self) -> usize {
        self.piece.entries.saturating_mul(ENTRY_BYTES)
    }
}

/// What a manifest says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// The number of the image; it names the file of pieces.
    pub(crate) round: u64,
    /// Which worker of how many.
    pub(crate) worker: (u64, u64),
    /// Where it stands in the log.
    pub(crate) mark: Mark,
    /// Keys whose value is an error.
    pub(crate) errors: i64,
    /// When it was made, in milliseconds since the Unix epoch.
    pub(crate) made_ms: u64,
    /// The chunks of rows.
    pub(crate) chunks: Vec<Chunked>,
    /// The segments of the index.
    pub(crate) pieces: Vec<Stored>,
}

/// Why bytes are not a manifest that can be read here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// It ends too early.
    Torn,
    /// Its checksum, or what it says, is wrong.
    Damaged,
    /// Another version, or something else.
    Foreign,
}

impl Manifest {
    /// Returns the time from which on a start reads the shard: all pieces have what is below.
    pub(crate) fn least(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.upper).min().unwrap_or(0)
    }

    /// Returns the bytes of the image, with those of its rows.
    pub(crate) fn bytes(&self) -> u64 {
        let rows: u64 = self.chunks.iter().map(|chunk| chunk.region.bytes as u64).sum();
        rows + self.pieces.iter().map(|piece| piece.bytes() as u64).sum::<u64>()
    }

    /// Returns its bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        let mut put = |bytes: &[u8]| out.extend_from_slice(bytes);
        let Mark { incarnation, seqno, token, upper } = self.mark;
        put(&self.round.to_le_bytes());
        put(&self.worker.0.to_le_bytes());
        put(&self.worker.1.to_le_bytes());
        put(&incarnation.to_le_bytes());
        put(&seqno.to_le_bytes());
        put(&token.to_le_bytes());
        put(&upper.to_le_bytes());
        put(&self.errors.to_le_bytes());
        put(&self.made_ms.to_le_bytes());
        put(&(self.chunks.len() as u32).to_le_bytes());
        put(&(self.pieces.len() as u32).to_le_bytes());
        for Chunked { chunk, region, rows, live } in &self.chunks {
            put(&chunk.to_le_bytes());
            put(&region.unit.to_le_bytes());
            put(&region.units.to_le_bytes());
            put(&(region.bytes as u64).to_le_bytes());
            put(&rows.to_le_bytes());
            put(&live.to_le_bytes());
        }
        for Stored { piece, at, crc, upper } in &self.pieces {
            put(&piece.prefix.start.to_le_bytes());
            put(&piece.prefix.bits.to_le_bytes());
            put(&(piece.entries as u64).to_le_bytes());
            put(&at.to_le_bytes());
            put(&crc.to_le_bytes());
            put(&upper.to_le_bytes());
        }
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads one.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Manifest, Unreadable> {
        let magic = bytes.get(..MAGIC.len()).ok_or(Unreadable::Torn)?;
        let (body, sum) = bytes.split_last_chunk::<4>().ok_or(Unreadable::Torn)?;
        if magic != MAGIC {
            return Err(Unreadable::Foreign);
        }
        let is_whole = crc32c::crc32c(body) == u32::from_le_bytes(*sum);
        let mut from = Reader(body.get(MAGIC.len()..).ok_or(Unreadable::Torn)?);
        match Manifest::read(&mut from) {
            Some(manifest) if is_whole && from.0.is_empty() => Ok(manifest),
            Some(_) => Err(Unreadable::Damaged),
            None => Err(Unreadable::Torn),
        }
    }

    fn read(from: &mut Reader<'_>) -> Option<Manifest> {
        let round = from.u64()?;
        let worker = (from.u64()?, from.u64()?);
        let incarnation = u128::from_le_bytes(from.take()?);
        let seqno = from.u64()?;
        let token = u128::from_le_bytes(from.take()?);
        let mark = Mark { incarnation, seqno, token, upper: from.u64()? };
        let errors = i64::from_le_bytes(from.take()?);
        let made_ms = from.u64()?;
        let (chunk_count, piece_count) = (from.u32()?, from.u32()?);
        let (mut chunks, mut pieces) = (Vec::new(), Vec::new());
        for _ in 0..chunk_count {
            let (chunk, unit, units) = (from.u32()?, from.u32()?, from.u32()?);
            let bytes = usize::try_from(from.u64()?).ok()?;
            let region = Region { unit, units, bytes };
            chunks.push(Chunked { chunk, region, rows: from.u32()?, live: from.u32()? });
        }
        for _ in 0..piece_count {
            let prefix = Prefix { start: from.u32()?, bits: from.u32()? };
            let piece = Piece { prefix, entries: usize::try_from(from.u64()?).ok()? };
            let (at, crc, upper) = (from.u64()?, from.u32()?, from.u64()?);
            pieces.push(Stored { piece, at, crc, upper });
        }
        Some(Manifest { round, worker, mark, errors, made_ms, chunks, pieces })
    }
}

/// Takes integers from the front of bytes.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*first)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }
}
