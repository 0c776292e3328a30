//! Owns a place in one shard of a table: how it is compared, and its bytes. It does not own when a
//! server's word becomes one; those are the rules in `phase` and `unit`.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use prost::Message;

use super::charset;
use super::gtid::Gtid;
use super::proto::{Field, QueryResult, types};
use crate::error::{Error, ErrorKind};
use crate::source::Position;

/// A place in one shard of a table.
///
/// Streaming, it is a set of transactions, all of them handed over. Copying, it is such a set and the
/// last primary key copied: rows up to the key are as of the set, the others are still to come. The
/// place before the first of them is the start, and no position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VStreamPosition {
    gtid: Gtid,
    copy: Option<Copy>,
}

/// How far a copy has come.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Copy {
    last_pk: LastPk,
    /// How many boundaries the copy has had: which of two keys comes first may be known to the server
    /// alone, but not which of two boundaries.
    step: u64,
}

/// A primary key as a server sent it: the columns and one row.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct LastPk(Arc<[u8]>);

/// As text, as far as it is any.
impl fmt::Debug for LastPk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let result = self.result();
        let cells = cells(&result).unwrap_or_default().into_iter();
        f.debug_list().entries(cells.map(|cell| cell.map(String::from_utf8_lossy))).finish()
    }
}

impl VStreamPosition {
    pub(super) fn streaming(gtid: Gtid) -> Self {
        VStreamPosition { gtid, copy: None }
    }

    /// The place in a copy that follows `before`, which is `None` at the start.
    pub(super) fn copying(gtid: Gtid, last_pk: LastPk, before: Option<&VStreamPosition>) -> Self {
        let step =
            before.and_then(|at| at.copy.as_ref()).map_or(0, |copy| copy.step.saturating_add(1));
        VStreamPosition { gtid, copy: Some(Copy { last_pk, step }) }
    }

    /// Returns the set of transactions, as the server wrote it.
    pub fn gtid(&self) -> &str {
        self.gtid.text()
    }

    /// Returns the last primary key copied, an encoded `query.QueryResult`; `None` when streaming.
    pub fn last_pk(&self) -> Option<&[u8]> {
        self.copy.as_ref().map(|copy| &*copy.last_pk.0)
    }

    pub(super) fn set(&self) -> &Gtid {
        &self.gtid
    }

    /// Returns the last primary key as a request names it.
    pub(super) fn resume_pk(&self) -> Option<QueryResult> {
        self.copy.as_ref().map(|copy| copy.last_pk.result())
    }
}

impl LastPk {
    /// Takes a last primary key as it is received; otherwise says why nothing can resume there.
    pub(super) fn new(result: &QueryResult) -> Result<LastPk, &'static str> {
        match (result.fields.len(), &result.rows[..]) {
            (0, _) => Err("a last primary key without its columns"),
            (columns, [row]) if row.lengths.len() == columns => {
                Ok(LastPk(result.encode_to_vec().into()))
            }
            _ => Err("a last primary key that is not one row of its columns"),
        }
    }

    fn result(&self) -> QueryResult {
        // Checked when it was made.
        QueryResult::decode(&*self.0).unwrap_or_default()
    }

    /// Whether it is of the same columns, in whatever order these come.
    fn has_columns_of(&self, other: &LastPk) -> bool {
        let names = |key: &LastPk| {
            let mut names: Vec<String> = key.result().fields.into_iter().map(|f| f.name).collect();
            names.sort();
            names
        };
        names(self) == names(other)
    }

    /// Returns which comes first, or `None` if that cannot be told: the order of texts is that of a
    /// collation, which is the server's.
    fn order(&self, other: &LastPk) -> Option<Ordering> {
        let (ours, theirs) = (self.result(), other.result());
        let names =
            |key: &QueryResult| key.fields.iter().map(|f| f.name.clone()).collect::<Vec<_>>();
        if names(&ours) != names(&theirs) {
            return None;
        }
        let (our_cells, their_cells) = (cells(&ours)?, cells(&theirs)?);
        let pairs = our_cells.into_iter().zip(their_cells);
        for (field, (ours, theirs)) in ours.fields.iter().zip(pairs) {
            match order(field, ours, theirs)? {
                Ordering::Equal => {}
                order => return Some(order),
            }
        }
        Some(Ordering::Equal)
    }
}

impl Copy {
    /// Whether this is at `other` or past it; `None` if the two are of different columns.
    fn reaches(&self, other: &Copy) -> Option<bool> {
        if !self.last_pk.has_columns_of(&other.last_pk) {
            return None;
        }
        Some(match self.last_pk.order(&other.last_pk) {
            Some(order) => order != Ordering::Less,
            None => self.step >= other.step,
        })
    }
}

fn cells(result: &QueryResult) -> Option<Vec<Option<&[u8]>>> {
    super::rows::cells(result.rows.first()?, result.fields.len())
}

/// Compares two values of a column in the order of its index; `None` if that cannot be told.
fn order(field: &Field, ours: Option<&[u8]>, theirs: Option<&[u8]>) -> Option<Ordering> {
    if ours == theirs {
        return Some(Ordering::Equal);
    }
    let (ours, theirs) = (ours?, theirs?);
    if field.r#type & types::IS_INTEGRAL != 0 {
        let number = |text: &[u8]| std::str::from_utf8(text).ok()?.parse::<i128>().ok();
        return Some(number(ours)?.cmp(&number(theirs)?));
    }
    // The type of a text with a collation of bytes is that of bytes, and so is that of its ENUM, whose
    // order is that of its members; of a last key Vitess says no collation (vitess
    // go/vt/vttablet/tabletserver/vstreamer/rowstreamer.go, `pkfields`).
    let is_binary = field.r#type & types::IS_BINARY != 0 && field.charset == charset::BINARY;
    is_binary.then(|| ours.cmp(theirs))
}

/// Format of a position's bytes.
const VERSION: u8 = 1;
const STREAMING: u8 = 0;
const COPYING: u8 = 1;

impl Position for VStreamPosition {
    /// Of sets of transactions; while copying, also of keys. Streaming comes after copying.
    fn contains(&self, other: &Self) -> Option<bool> {
        let gtid = self.gtid.contains(&other.gtid);
        match (&self.copy, &other.copy) {
            (None, _) => Some(gtid),
            (Some(_), None) => Some(false),
            (Some(ours), Some(theirs)) => Some(ours.reaches(theirs)? && gtid),
        }
    }

    fn is_snapshot(&self) -> bool {
        self.copy.is_some()
    }

    /// Version 1, phase (0 streaming, 1 copying), length of the set's text as u32 little-endian, the
    /// text; while copying, the step as u64 little-endian, and the key up to the end.
    fn encode(&self, into: &mut Vec<u8>) {
        let text = self.gtid.text().as_bytes();
        into.push(VERSION);
        into.push(if self.copy.is_some() { COPYING } else { STREAMING });
        into.extend_from_slice(&(text.len() as u32).to_le_bytes());
        into.extend_from_slice(text);
        if let Some(Copy { last_pk, step }) = &self.copy {
            into.extend_from_slice(&step.to_le_bytes());
            into.extend_from_slice(&last_pk.0);
        }
    }

    fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let (&version, rest) = bytes.split_first().ok_or_else(|| damaged("no bytes"))?;
        if version != VERSION {
            let what = format!("a place in a shard of version {version}, not {VERSION}");
            return Err(Error::new(ErrorKind::Unsupported, what).hint("use a newer program"));
        }
        let short = || damaged("too few bytes");
        let (&phase, rest) = rest.split_first().ok_or_else(short)?;
        let (length, rest) = rest.split_first_chunk().ok_or_else(short)?;
        let split = rest.split_at_checked(u32::from_le_bytes(*length) as usize);
        let (text, rest) = split.ok_or_else(short)?;
        let text = std::str::from_utf8(text).map_err(|_| damaged("a set that is not UTF-8"))?;
        let gtid = Gtid::parse(text).map_err(|what| damaged(&what))?;
        match phase {
            STREAMING if rest.is_empty() => Ok(VStreamPosition::streaming(gtid)),
            COPYING => {
                let (step, pk) = rest.split_first_chunk().ok_or_else(short)?;
                let step = u64::from_le_bytes(*step);
                let result =
                    QueryResult::decode(pk).map_err(|_| damaged("a key of other bytes"))?;
                LastPk::new(&result).map_err(damaged)?;
                let copy = Copy { last_pk: LastPk(pk.into()), step };
                Ok(VStreamPosition { gtid, copy: Some(copy) })
            }
            _ => Err(damaged("an unknown phase")),
        }
    }
}

fn damaged(what: &str) -> Error {
    Error::new(ErrorKind::Corrupt, format!("a place in a shard: {what}"))
        .hint("restore the shard from a copy")
}

#[cfg(test)]
mod tests {
    use super::super::proto::Row;
    use super::*;

    fn pk(kind: i32, name: &str, values: &[&str]) -> LastPk {
        let field = Field { name: name.to_string(), r#type: kind, ..Field::default() };
        let lengths = values.iter().map(|value| value.len() as i64).collect();
        let row = Row { lengths, values: values.concat().into_bytes() };
        LastPk::new(&QueryResult { fields: vec![field; values.len()], rows: vec![row] }).unwrap()
    }

    fn gtid(last: u64) -> Gtid {
        Gtid::parse(&format!("MySQL56/8bc65c84-3fe4-11ed-a912-257f0fcdd6c9:1-{last}")).unwrap()
    }

    const INT64: i32 = 265;
    const VARCHAR: i32 = 6165;
    const VARBINARY: i32 = 10262;

    #[test]
    fn copying_goes_on_to_streaming_and_never_back() {
        let at =
            |last, key: &[&str]| VStreamPosition::copying(gtid(last), pk(INT64, "id", key), None);
        let (early, late) = (at(5, &["9"]), at(5, &["10"]));
        assert_eq!(late.contains(&early), Some(true));
        assert_eq!(early.contains(&late), Some(false));
        assert_eq!(at(4, &["10"]).contains(&early), Some(false), "an older set");
        let streaming = VStreamPosition::streaming(gtid(5));
        assert_eq!(streaming.contains(&late), Some(true));
        assert_eq!(late.contains(&streaming), Some(false));
        assert_eq!(streaming.contains(&VStreamPosition::streaming(gtid(6))), Some(false));
        assert_eq!(streaming.contains(&at(6, &["1"])), Some(false));
        assert!(late.is_snapshot() && !streaming.is_snapshot());
    }

    #[test]
    fn keys_are_compared_as_far_as_their_order_is_known() {
        let order = |kind, a: &[&str], b: &[&str]| pk(kind, "id", a).order(&pk(kind, "id", b));
        assert_eq!(order(INT64, &["-5"], &["-6"]), Some(Ordering::Greater));
        assert_eq!(order(INT64, &["18446744073709551615"], &["2"]), Some(Ordering::Greater));
        assert_eq!(order(INT64, &["1", "2"], &["1", "3"]), Some(Ordering::Less));
        assert_eq!(order(INT64, &["2", "0"], &["1", "3"]), Some(Ordering::Greater));
        assert_eq!(order(VARBINARY, &["a"], &["b"]), None, "a text with a collation of bytes?");
        assert_eq!(order(VARCHAR, &["a"], &["a"]), Some(Ordering::Equal));
        assert_eq!(order(VARCHAR, &["a"], &["B"]), None);
        let at = |name, key, before| {
            VStreamPosition::copying(gtid(5), pk(VARCHAR, name, &[key]), before)
        };
        let first = at("id", "a", None);
        let second = at("id", "B", Some(&first));
        assert_eq!(second.contains(&first), Some(true), "by the step");
        assert_eq!(first.contains(&second), Some(false));
        assert_eq!(first.contains(&at("no", "a", None)), None, "another key");
        // The value of an ENUM with a collation of bytes: its order is that of its members.
        let bin = |key, before| VStreamPosition::copying(gtid(5), pk(10264, "id", &[key]), before);
        let first = bin("small", None);
        let second = bin("large", Some(&first));
        assert_eq!((second.contains(&first), first.contains(&second)), (Some(true), Some(false)));
        let bytes = |key: &str| {
            let mut result = pk(VARBINARY, "id", &[key]).result();
            result.fields[0].charset = charset::BINARY;
            LastPk::new(&result).unwrap()
        };
        assert_eq!(bytes("a").order(&bytes("b")), Some(Ordering::Less));
    }

    #[test]
    fn the_columns_of_a_key_may_come_in_another_order() {
        let key = |names: [&str; 2], before| {
            let mut result = pk(INT64, "", &["1", "2"]).result();
            result.fields.iter_mut().zip(names).for_each(|(f, name)| f.name = name.to_string());
            VStreamPosition::copying(gtid(5), LastPk::new(&result).unwrap(), before)
        };
        let first = key(["a", "b"], None);
        let second = key(["b", "a"], Some(&first));
        assert_eq!(second.contains(&first), Some(true), "by the step");
        assert_eq!(first.contains(&second), Some(false));
    }

    #[test]
    fn a_key_that_cannot_be_resumed_from_is_refused_when_received() {
        assert!(LastPk::new(&QueryResult::default()).is_err());
        let mut result = pk(INT64, "id", &["1"]).result();
        result.rows[0].lengths.push(0);
        assert!(LastPk::new(&result).is_err());
        result.fields.clear();
        assert!(LastPk::new(&result).is_err());
    }

    #[test]
    fn bytes_come_back_and_a_changed_byte_is_no_panic() {
        let streaming = VStreamPosition::streaming(gtid(7));
        let copying = VStreamPosition::copying(gtid(7), pk(VARCHAR, "id", &["é", ""]), None);
        for position in [streaming, copying] {
            let mut bytes = Vec::new();
            position.encode(&mut bytes);
            assert_eq!(VStreamPosition::decode(&bytes).unwrap(), position);
            for at in 0..bytes.len() {
                let _ = VStreamPosition::decode(&bytes[..at]);
                for bit in 0..8 {
                    let mut broken = bytes.clone();
                    broken[at] ^= 1 << bit;
                    let _ = VStreamPosition::decode(&broken);
                }
            }
            bytes[0] = 2;
            let newer = VStreamPosition::decode(&bytes).unwrap_err();
            assert_eq!(newer.kind(), ErrorKind::Unsupported);
        }
    }

    #[test]
    fn the_bytes_of_version_1_stay_what_they_are() {
        let position = VStreamPosition::copying(gtid(7), pk(INT64, "id", &["42"]), None);
        let mut bytes = Vec::new();
        position.encode(&mut bytes);
        let text = "MySQL56/8bc65c84-3fe4-11ed-a912-257f0fcdd6c9:1-7";
        let mut expected = vec![1, 1, text.len() as u8, 0, 0, 0];
        expected.extend_from_slice(text.as_bytes());
        expected.extend_from_slice(&0u64.to_le_bytes());
        expected.extend_from_slice(&[10, 7, 10, 2, b'i', b'd', 16, 0x89, 2]);
        expected.extend_from_slice(&[34, 7, 10, 1, 4, 18, 2, b'4', b'2']);
        assert_eq!(bytes, expected);
    }
}
