//! Owns how a row becomes JSON: the key an object of the key's columns, the value an object of all. Where a feed has
//! several tables, the key is that of the table's collection. It does not own which rows there are. Pure.
//!
//! The copy and the stream bring the same texts, those of the types' output functions under the same settings, so a
//! value is written in one way whichever of them it came by.

use crate::codec::canonical::{Reader, Scratch, quote};
use crate::codec::{DataError, in_collection, partial};

use super::pgoutput::{Cell, Column};

/// The columns of a table, as rows have them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Columns {
    /// The table's index in the feed.
    table: usize,
    /// The collection of its keys, where the feed has several.
    collection: Option<String>,
    columns: Vec<Column>,
    /// Indexes of all, by name.
    all: Vec<usize>,
    /// Indexes of the key's, in the order of the key.
    key: Vec<usize>,
    /// The same, by name.
    key_by_name: Vec<usize>,
}

/// A key: of which table, the JSON that it is stored as, and the texts of its columns, as the server is asked for it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key {
    pub(super) table: usize,
    pub(super) json: String,
    pub(super) texts: Vec<String>,
}

/// A row after a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Row {
    Whole(Result<String, DataError>),
    /// The patch of the row before: some of its columns did not change and were not sent.
    Partial(Result<String, DataError>),
}

impl Columns {
    /// Takes the columns of rows; `None` if one of the key's is not among them.
    pub(super) fn new(columns: Vec<Column>, key: &[String]) -> Option<Columns> {
        let place = |name: &String| columns.iter().position(|column| column.name == *name);
        let key: Vec<usize> = key.iter().map(place).collect::<Option<_>>()?;
        let by_name = |mut places: Vec<usize>| {
            places.sort_by(|one, other| columns[*one].name.cmp(&columns[*other].name));
            places
        };
        let (all, key_by_name) = (by_name((0..columns.len()).collect()), by_name(key.clone()));
        Some(Columns { columns, all, key, key_by_name, ..Columns::default() })
    }

    /// Says of which table they are, and of which collection its keys.
    pub(super) fn of(self, table: usize, collection: Option<&str>) -> Columns {
        Columns { table, collection: collection.map(str::to_string), ..self }
    }

    pub(super) fn len(&self) -> usize {
        self.columns.len()
    }

    /// Reads the key of a row; `None` if the row does not have all of it.
    pub(super) fn key(&self, row: &[Cell<'_>], scratch: &mut Scratch) -> Option<Key> {
        let text = |at: &usize| match row.get(*at)? {
            Cell::Text(bytes) => Some(std::str::from_utf8(bytes).ok()?.to_string()),
            Cell::Null | Cell::Unsent => None,
        };
        let texts = self.key.iter().map(text).collect::<Option<_>>()?;
        let json = self.object(&self.key_by_name, row, scratch).ok()?;
        let json = match &self.collection {
            Some(name) => in_collection(name, &json),
            None => json,
        };
        Some(Key { table: self.table, json, texts })
    }

    /// Reads a row.
    pub(super) fn row(&self, row: &[Cell<'_>], scratch: &mut Scratch) -> Row {
        if !row.contains(&Cell::Unsent) {
            return Row::Whole(self.object(&self.all, row, scratch).map_err(DataError));
        }
        let is_sent = |at: &usize| row.get(*at) != Some(&Cell::Unsent);
        let (sent, unsent): (Vec<usize>, Vec<usize>) = self.all.iter().partition(|at| is_sent(at));
        let object = self.object(&sent, row, scratch).map_err(DataError);
        let names: Vec<&str> = unsent.iter().map(|at| &*self.columns[*at].name).collect();
        Row::Partial(object.map(|row| partial(&row, &names, scratch)))
    }

    fn object(
        &self,
        which: &[usize],
        row: &[Cell<'_>],
        scratch: &mut Scratch,
    ) -> Result<String, String> {
        // Names, quotes and texts; what has to be escaped may be longer.
        let length = |at: &usize| match row.get(*at) {
            Some(Cell::Text(bytes)) => self.columns[*at].name.len() + bytes.len() + 6,
            _ => self.columns[*at].name.len() + 8,
        };
        let mut out = String::with_capacity(which.iter().map(length).sum::<usize>() + 2);
        out.push('{');
        for (index, at) in which.iter().enumerate() {
            out.push_str(if index == 0 { "" } else { "," });
            let column = &self.columns[*at];
            quote(&column.name, &mut out);
            out.push(':');
            match row.get(*at) {
                Some(Cell::Text(bytes)) => value(column.kind, bytes, &mut out, scratch)
                    .map_err(|what| format!("the column {:?} has {what}", column.name))?,
                _ => out.push_str("null"),
            }
        }
        out.push('}');
        Ok(out)
    }
}

/// Oids of the types whose values are no strings of JSON (src/include/catalog/pg_type.dat).
mod oid {
    pub(super) const BOOL: u32 = 16;
    pub(super) const INT8: u32 = 20;
    pub(super) const INT2: u32 = 21;
    pub(super) const INT4: u32 = 23;
    pub(super) const OID: u32 = 26;
    pub(super) const JSON: u32 = 114;
    pub(super) const FLOAT4: u32 = 700;
    pub(super) const FLOAT8: u32 = 701;
    pub(super) const JSONB: u32 = 3802;
}

/// Appends the JSON of a value that is not null; otherwise says what it is instead.
fn value(kind: u32, bytes: &[u8], out: &mut String, scratch: &mut Scratch) -> Result<(), String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "text that is not UTF-8".to_string())?;
    match kind {
        oid::BOOL if matches!(text, "t" | "f") => {
            out.push_str(if text == "t" { "true" } else { "false" });
        }
        oid::INT2 | oid::INT4 | oid::INT8 | oid::OID => out.push_str(text),
        // NaN and the infinities are strings.
        oid::FLOAT4 | oid::FLOAT8 if !text.ends_with(|last: char| last.is_ascii_alphabetic()) => {
            out.push_str(text);
        }
        oid::JSON | oid::JSONB => {
            let mut reader = Reader::new(text, scratch);
            let read = reader.value(out, 1).and_then(|()| reader.finish());
            read.map_err(|e| format!("JSON that is none: {} at byte {}", e.what, e.byte))?;
        }
        _ => quote(text, out),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns() -> Columns {
        let column = |name: &str, kind| Column { name: name.into(), kind };
        let all = vec![column("z", 23), column("doc", 25), column("a", 1700), column("j", 3802)];
        Columns::new(all, &["z".to_string(), "a".to_string()]).unwrap()
    }

    fn cells<'a>(texts: &[&'a str]) -> Vec<Cell<'a>> {
        let cell = |text: &&'a str| match *text {
            "null" => Cell::Null,
            "-" => Cell::Unsent,
            text => Cell::Text(text.as_bytes()),
        };
        texts.iter().map(cell).collect()
    }

    #[test]
    fn a_row_is_an_object_by_name_and_its_key_another() {
        let (columns, mut scratch) = (columns(), Scratch::default());
        let row = cells(&["7", "x\"y", "1.50", "{\"b\": 1.0, \"a\":[]}"]);
        let key = columns.key(&row, &mut scratch).unwrap();
        assert_eq!(
            (&*key.json, &key.texts[..]),
            (r#"{"a":"1.50","z":7}"#, &["7".to_string(), "1.50".into()][..])
        );
        let expected = r#"{"a":"1.50","doc":"x\"y","j":{"a":[],"b":1.0},"z":7}"#;
        assert_eq!(columns.row(&row, &mut scratch), Row::Whole(Ok(expected.into())));
        for short in [&["7", "x", "null", "null"][..], &["-", "x", "1", "null"], &["7"]] {
            assert_eq!(columns.key(&cells(short), &mut scratch), None, "{short:?}");
        }
        assert_eq!(Columns::new(Vec::new(), &["z".to_string()]), None);
    }

    #[test]
    fn what_was_not_sent_is_named() {
        let (columns, mut scratch) = (columns(), Scratch::default());
        let patch = r#"{"row":{"a":"2","j":null,"z":7},"unsent":["doc"]}"#;
        let row = cells(&["7", "-", "2", "null"]);
        assert_eq!(columns.row(&row, &mut scratch), Row::Partial(Ok(patch.into())));
    }

    #[test]
    fn a_key_of_several_tables_is_of_a_collection() {
        let columns = columns().of(1, Some("s.t"));
        let key = columns.key(&cells(&["7", "x", "2", "null"]), &mut Scratch::default()).unwrap();
        assert_eq!((key.table, &*key.json), (1, r#"["s.t",{"a":"2","z":7}]"#));
    }

    #[test]
    fn numbers_that_json_has_are_numbers() {
        for (kind, text, expected) in [
            (16, "t", "true"),
            (16, "f", "false"),
            (20, "-9223372036854775808", "-9223372036854775808"),
            (701, "1e+20", "1e+20"),
            (701, "-0", "-0"),
            (700, "NaN", "\"NaN\""),
            (701, "-Infinity", "\"-Infinity\""),
            (1700, "NaN", "\"NaN\""),
            (1700, "10.50", "\"10.50\""),
            (17, "\\x00ff", "\"\\\\x00ff\""),
            (1007, "{1,NULL}", "\"{1,NULL}\""),
            (114, " [1, {\"b\":2,\"a\":1}] ", "[1,{\"a\":1,\"b\":2}]"),
        ] {
            let mut out = String::new();
            value(kind, text.as_bytes(), &mut out, &mut Scratch::default()).unwrap();
            assert_eq!(out, expected, "{kind} {text}");
        }
        let error = value(25, &[0xFF], &mut String::new(), &mut Scratch::default()).unwrap_err();
        assert!(error.contains("UTF-8"), "{error}");
    }
}
