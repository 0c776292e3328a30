//! Owns a place in the history of tables: how it is compared, and its bytes. It does not own which places there are; the
//! stream says them.

use std::fmt;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use crate::error::{Error, ErrorKind};
use crate::source::Position;

/// A place in the history of tables: of which server, timeline and tables, how much of its log is handed over, and how
/// much of the copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PgPosition {
    /// Which history: a restored backup, a promoted standby and tables of which one was made again have others.
    pub(super) history: History,
    /// Every transaction whose commit ends at or before it is handed over, as far as it is copied.
    pub(super) lsn: u64,
    /// How far the copy is, until it is complete.
    pub(super) copy: Option<Copied>,
}

/// What tells one history from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct History {
    /// The server's `system_identifier`, made by `initdb`.
    pub(super) system: u64,
    /// Its timeline: a promoted standby begins another one.
    pub(super) timeline: u32,
    /// In the order in which they are copied, that of their names.
    pub(super) tables: Arc<[Lineage]>,
}

/// What tells a table from others of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lineage {
    /// A table that is dropped and made again has another.
    pub(super) oid: u32,
    /// The hash of the names of the key's columns: rows are kept under keys of these.
    pub(super) key: u64,
}

/// How far a copy is: the tables before one are in, and of that one the rows up to a key, as of the place in the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Copied {
    /// The index of the table that is copied.
    pub(super) table: usize,
    /// The last key copied, the texts of its columns; none before the first.
    pub(super) last: Option<Vec<String>>,
    /// How many pieces: which of two keys comes first is known to the server alone.
    pub(super) pieces: u64,
}

impl PgPosition {
    /// Returns the place in the log, as PostgreSQL writes it.
    ///
    /// ```
    /// # use differential_upsert::connect::postgres::lsn_text;
    /// assert_eq!(lsn_text(0x16_B374_D848), "16/B374D848");
    /// ```
    pub fn lsn(&self) -> String {
        lsn_text(self.lsn)
    }

    /// Returns whether the copy is complete.
    pub fn is_copied(&self) -> bool {
        self.copy.is_none()
    }
}

impl Lineage {
    pub(super) fn new(oid: u32, key: &[String]) -> Lineage {
        Lineage { oid, key: xxh3_64(key.join("\0").as_bytes()) }
    }
}

/// Returns a place in the log as PostgreSQL writes it.
pub fn lsn_text(lsn: u64) -> String {
    format!("{:X}/{:X}", lsn >> 32, lsn & 0xFFFF_FFFF)
}

/// Reads what [`lsn_text`] writes.
pub(super) fn lsn(text: &str) -> Option<u64> {
    let (high, low) = text.split_once('/')?;
    let part = |text| u32::from_str_radix(text, 16).ok().map(u64::from);
    Some(part(high)? << 32 | part(low)?)
}

impl fmt::Display for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the table of oid {}, key {:016x}", self.oid, self.key)
    }
}

/// Without the tables.
impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "system {}, timeline {}", self.system, self.timeline)
    }
}

/// Formats of a position's bytes: of one table, and of several.
const ONE: u8 = 1;
const SEVERAL: u8 = 2;

impl Position for PgPosition {
    fn contains(&self, other: &Self) -> Option<bool> {
        if self.history != other.history {
            return None;
        }
        let copy = match (&self.copy, &other.copy) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(ours), Some(theirs)) => ours.pieces >= theirs.pieces,
        };
        Some(copy && self.lsn >= other.lsn)
    }

    fn is_snapshot(&self) -> bool {
        self.copy.is_some()
    }

    /// A copy reads what it needs of the log while it runs, and goes on from its place: the server need not keep more.
    fn may_be_acked(&self) -> bool {
        true
    }

    /// Version 1, of one table: system u64, timeline u32, its oid u32, its key u64, place u64; 0 if the copy is complete,
    /// else 1, pieces u64, how many columns the last key has, u32 (0 before the first), and each as its length, u32, and
    /// text. Version 2, of several: how many they are, u32, and oid and key of each, in place of those of the one; the index
    /// of the table that is copied, u32, before the columns. Little-endian.
    fn encode(&self, into: &mut Vec<u8>) {
        let History { system, timeline, tables } = &self.history;
        let version = if tables.len() == 1 { ONE } else { SEVERAL };
        into.push(version);
        into.extend_from_slice(&system.to_le_bytes());
        into.extend_from_slice(&timeline.to_le_bytes());
        if version == SEVERAL {
            into.extend_from_slice(&(tables.len() as u32).to_le_bytes());
        }
        for Lineage { oid, key } in &**tables {
            into.extend_from_slice(&oid.to_le_bytes());
            into.extend_from_slice(&key.to_le_bytes());
        }
        into.extend_from_slice(&self.lsn.to_le_bytes());
        into.push(u8::from(self.copy.is_some()));
        let Some(Copied { table, last, pieces }) = &self.copy else { return };
        into.extend_from_slice(&pieces.to_le_bytes());
        if version == SEVERAL {
            into.extend_from_slice(&(*table as u32).to_le_bytes());
        }
        let key = last.as_deref().unwrap_or_default();
        into.extend_from_slice(&(key.len() as u32).to_le_bytes());
        for text in key {
            into.extend_from_slice(&(text.len() as u32).to_le_bytes());
            into.extend_from_slice(text.as_bytes());
        }
    }

    fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let (&version, rest) = bytes.split_first().ok_or_else(|| damaged("no bytes"))?;
        if !matches!(version, ONE | SEVERAL) {
            let what = format!(
                "a place in tables of version {version}, this program reads {ONE} and {SEVERAL}"
            );
            return Err(Error::new(ErrorKind::Unsupported, what).hint("use a newer program"));
        }
        let mut fields = Fields(rest);
        let (system, timeline) = (fields.long()?, fields.word()?);
        let count = if version == ONE { 1 } else { fields.word()? };
        let tables: Result<_, Error> =
            (0..count).map(|_| Ok(Lineage { oid: fields.word()?, key: fields.long()? })).collect();
        let history = History { system, timeline, tables: tables? };
        let lsn = fields.long()?;
        let copy = match fields.chunk()? {
            [0u8] => None,
            [1] => {
                let pieces = fields.long()?;
                let table = if version == ONE { 0 } else { fields.word()? as usize };
                if table >= history.tables.len() {
                    return Err(damaged("a table that it does not have"));
                }
                let columns = fields.word()?;
                let key: Result<Vec<String>, Error> = (0..columns).map(|_| fields.text()).collect();
                let last = Some(key?).filter(|key| !key.is_empty());
                Some(Copied { table, last, pieces })
            }
            _ => return Err(damaged("a phase that is unknown")),
        };
        match fields.0 {
            [] => Ok(PgPosition { history, lsn, copy }),
            _ => Err(damaged("more bytes than it has")),
        }
    }
}

struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn chunk<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (chunk, rest) = self.0.split_first_chunk().ok_or_else(|| damaged("too few bytes"))?;
        self.0 = rest;
        Ok(*chunk)
    }

    fn long(&mut self) -> Result<u64, Error> {
        self.chunk().map(u64::from_le_bytes)
    }

    fn word(&mut self) -> Result<u32, Error> {
        self.chunk().map(u32::from_le_bytes)
    }

    fn text(&mut self) -> Result<String, Error> {
        let length = self.word()? as usize;
        let split = self.0.split_at_checked(length).ok_or_else(|| damaged("too few bytes"))?;
        self.0 = split.1;
        String::from_utf8(split.0.to_vec()).map_err(|_| damaged("a key that is not UTF-8"))
    }
}

fn damaged(what: &str) -> Error {
    Error::new(ErrorKind::Corrupt, format!("a place in a table has {what}"))
        .hint("verify the shard")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(lsn: u64, copy: Option<(u64, Option<&[&str]>)>) -> PgPosition {
        let texts = |key: &[&str]| key.iter().map(|text| text.to_string()).collect();
        let copy = copy.map(|(pieces, key)| Copied { table: 0, last: key.map(texts), pieces });
        let tables = Arc::from([Lineage { oid: 16_384, key: 9 }]);
        PgPosition { history: History { system: 7, timeline: 1, tables }, lsn, copy }
    }

    fn of_two(mut place: PgPosition) -> PgPosition {
        place.history.tables =
            Arc::from([Lineage { oid: 16_384, key: 9 }, Lineage { oid: 16_390, key: 8 }]);
        if let Some(copy) = &mut place.copy {
            copy.table = 1;
        }
        place
    }

    #[test]
    fn a_place_comes_back_and_no_part_of_it_does() {
        let all = [
            at(0x16_B374_D848, None),
            at(9, Some((0, None))),
            at(u64::MAX, Some((3, Some(&["1", "é"])))),
        ];
        for place in all.iter().cloned().chain(all.iter().cloned().map(of_two)) {
            let mut bytes = Vec::new();
            place.encode(&mut bytes);
            assert_eq!(PgPosition::decode(&bytes).unwrap(), place);
            for cut in 0..bytes.len() {
                assert!(PgPosition::decode(&bytes[..cut]).is_err(), "{place:?} cut at {cut}");
            }
            bytes.push(0);
            assert!(PgPosition::decode(&bytes).is_err());
            bytes[0] = 3;
            assert_eq!(PgPosition::decode(&bytes).unwrap_err().kind(), ErrorKind::Unsupported);
        }
        let mut strange = of_two(at(9, Some((0, None))));
        strange.copy.as_mut().unwrap().table = 2;
        let mut bytes = Vec::new();
        strange.encode(&mut bytes);
        assert_eq!(PgPosition::decode(&bytes).unwrap_err().kind(), ErrorKind::Corrupt);
    }

    fn hex(place: &PgPosition) -> String {
        let mut bytes = Vec::new();
        place.encode(&mut bytes);
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Stored places stay readable for ever.
    #[test]
    fn the_bytes_of_a_place_do_not_change() {
        let place = at(0x0102, Some((3, Some(&["1", "b"]))));
        assert_eq!(
            hex(&place),
            "01070000000000000001000000004000000900000000000000020100000000000001030000000000000002000000\
             01000000310100000062"
        );
        assert_eq!(
            hex(&of_two(place)),
            "0207000000000000000100000002000000004000000900000000000000064000000800000000000000\
             0201000000000000010300000000000000010000000200000001000000310100000062"
        );
    }

    #[test]
    fn another_history_is_not_compared() {
        let mut other = at(9, None);
        other.history.tables = Arc::from([Lineage { oid: 16_385, key: 9 }]);
        assert_eq!(at(9, None).contains(&other), None);
        assert_eq!(at(9, None).contains(&of_two(at(9, None))), None);
        assert_eq!(at(9, None).contains(&at(9, Some((5, None)))), Some(true));
        assert_eq!(at(9, Some((5, None))).contains(&at(9, None)), Some(false));
        assert_eq!(at(9, Some((5, None))).contains(&at(9, Some((6, None)))), Some(false));
        assert_eq!(at(8, None).contains(&at(9, None)), Some(false));
        assert_eq!((lsn("16/B374D848"), lsn("16"), lsn("x/1")), (Some(0x16_B374_D848), None, None));
    }
}
