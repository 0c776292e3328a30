//! Owns what a message of the log says of rows: puts, deletes and truncates of the feed's tables. It does not own where
//! they belong while the tables are copied.

use std::collections::BTreeMap;

use super::failure::{definite, lost};
use super::pgoutput::{Cell, Message, Old, Relation, Tuple, read};
use super::rows::{Columns, Key, Row};
use crate::codec::canonical::Scratch;
use crate::source::Failure;

/// A change of a row in the log.
#[derive(Debug)]
pub(super) enum Happened {
    /// `moved`: under another key before.
    Put {
        key: Key,
        row: Row,
        moved: bool,
    },
    Delete(Key),
    /// Of a table, by its index.
    Truncate(usize),
}

impl Happened {
    /// Returns its key; a truncate is of all.
    pub(super) fn key(&self) -> Option<&Key> {
        match self {
            Happened::Put { key, .. } | Happened::Delete(key) => Some(key),
            Happened::Truncate(_) => None,
        }
    }
}

/// A table of the feed.
#[derive(Clone, Debug)]
pub(super) struct Followed {
    pub(super) oid: u32,
    pub(super) schema: String,
    pub(super) name: String,
    /// The names of the key's columns.
    pub(super) key: Vec<String>,
    /// The name of its keys' collection, as they have it, where the feed has several.
    pub(super) collection: Option<String>,
}

/// Reads messages, which say the columns of a table before its first row.
pub(super) struct Changes {
    place: String,
    tables: Vec<(Followed, Option<Columns>)>,
    /// Which of them an oid is.
    indexes: BTreeMap<u32, usize>,
    is_renamed: bool,
    scratch: Scratch,
}

impl Changes {
    pub(super) fn new(place: String, tables: Vec<Followed>) -> Changes {
        let indexes = tables.iter().enumerate().map(|(at, table)| (table.oid, at)).collect();
        let tables = tables.into_iter().map(|table| (table, None)).collect();
        Changes { place, tables, indexes, is_renamed: false, scratch: Scratch::default() }
    }

    /// Whether the log has come to call a table otherwise.
    pub(super) fn is_renamed(&self) -> bool {
        self.is_renamed
    }

    /// Takes in that the tables have their names still.
    pub(super) fn trust_names(&mut self) {
        self.is_renamed = false;
    }

    /// Returns the collection of a table; none if the feed has one table.
    pub(super) fn collection(&self, table: usize) -> Option<&str> {
        self.tables[table].0.collection.as_deref()
    }

    /// Reads a message, and appends what has happened.
    pub(super) fn read(&mut self, bytes: &[u8], into: &mut Vec<Happened>) -> Result<(), Failure> {
        let wrong = |what| definite(what, &self.place, "use a newer program");
        match read(bytes).map_err(wrong)? {
            Message::Relation(relation) => self.describe(relation)?,
            Message::Insert { table, new } => {
                let Some(table) = self.index(table) else { return Ok(()) };
                let (key, row) = self.row(table, &new, None)?;
                // A row that comes into a filter is an update of one that we never had.
                into.push(Happened::Put { key, row, moved: true });
            }
            Message::Update { table, old, new } => {
                let Some(table) = self.index(table) else { return Ok(()) };
                let whole = match &old {
                    Some(Old::Row(row)) => Some(row),
                    _ => None,
                };
                let (key, row) = self.row(table, &new, whole)?;
                let before = match &old {
                    Some(Old::Key(row) | Old::Row(row)) => Some(self.key(table, row)?),
                    None => None,
                };
                let before = before.filter(|before| before.json != key.json);
                let moved = before.is_some();
                into.extend(before.map(Happened::Delete));
                into.push(Happened::Put { key, row, moved });
            }
            Message::Delete { table, old: Old::Key(row) | Old::Row(row) } => {
                let Some(table) = self.index(table) else { return Ok(()) };
                into.push(Happened::Delete(self.key(table, &row)?));
            }
            Message::Truncate { tables } => {
                let ours = tables.iter().filter_map(|table| self.index(*table));
                into.extend(ours.map(Happened::Truncate));
            }
            Message::Other => {}
        }
        Ok(())
    }

    /// Returns the index of a table; of the publication's other tables, nothing.
    fn index(&self, oid: u32) -> Option<usize> {
        self.indexes.get(&oid).copied()
    }

    fn describe(&mut self, relation: Relation) -> Result<(), Failure> {
        let Some(index) = self.index(relation.table) else {
            let is_named = |(table, _): &&(Followed, _)| {
                (&table.schema, &table.name) == (&relation.schema, &relation.name)
            };
            return match self.tables.iter().find(is_named) {
                Some(_) => {
                    let what = format!(
                        "the table {}.{} was dropped and made again",
                        relation.schema, relation.name
                    );
                    Err(lost(&what, &self.place))
                }
                None => Ok(()),
            };
        };
        let (table, columns) = &mut self.tables[index];
        // It may have another name now, or had it when that was written.
        self.is_renamed |= (&table.schema, &table.name) != (&relation.schema, &relation.name);
        *columns = Columns::new(relation.columns, &table.key)
            .map(|columns| columns.of(index, table.collection.as_deref()));
        if columns.is_none() {
            let what = format!("the key's columns of {}.{} have changed", table.schema, table.name);
            return Err(definite(&what, &self.place, "copy it anew: its key is another"));
        }
        Ok(())
    }

    fn columns(&self, table: usize) -> Result<&Columns, Failure> {
        self.tables[table].1.as_ref().ok_or_else(|| {
            definite("rows whose columns were never described", &self.place, "report this")
        })
    }

    fn key(&mut self, table: usize, row: &Tuple<'_>) -> Result<Key, Failure> {
        let mut scratch = std::mem::take(&mut self.scratch);
        let columns = self.columns(table)?;
        let key = (row.len() == columns.len()).then(|| columns.key(row, &mut scratch)).flatten();
        self.scratch = scratch;
        key.ok_or_else(|| {
            let hint =
                "use REPLICA IDENTITY DEFAULT, or that of the index whose columns are the key";
            definite("a row without its key", &self.place, hint)
        })
    }

    /// Reads a row; what it lacks is the row's before, if that is there in whole: a key that is stored apart, too.
    fn row(
        &mut self,
        table: usize,
        new: &Tuple<'_>,
        old: Option<&Tuple<'_>>,
    ) -> Result<(Key, Row), Failure> {
        let filled: Tuple<'_> = match old {
            Some(old) if old.len() == new.len() => new
                .iter()
                .zip(old)
                .map(|(new, old)| if *new == Cell::Unsent { *old } else { *new })
                .collect(),
            _ => new.clone(),
        };
        let key = self.key(table, &filled)?;
        let mut scratch = std::mem::take(&mut self.scratch);
        let row = self.columns(table).map(|columns| columns.row(&filled, &mut scratch));
        self.scratch = scratch;
        Ok((key, row?))
    }
}

#[cfg(test)]
mod tests {
    use super::super::written::row;
    use super::*;

    fn changes(tables: u32) -> Changes {
        let table = |at: u32| Followed {
            oid: 10 + at,
            schema: "s".into(),
            name: format!("t{at}"),
            key: vec!["id".into()],
            collection: (tables > 1).then(|| format!("s.t{at}")),
        };
        let mut changes = Changes::new("db".into(), (0..tables).map(table).collect());
        for at in 0..tables {
            changes.read(&relation(10 + at, &format!("t{at}"), "id"), &mut Vec::new()).unwrap();
        }
        changes
    }

    fn relation(oid: u32, name: &str, key: &str) -> Vec<u8> {
        super::super::written::relation(oid, "s", name, &[(key, 23), ("doc", 25)])
    }

    fn happened(changes: &mut Changes, parts: &[&[u8]]) -> Vec<String> {
        let mut happened = Vec::new();
        changes.read(&parts.concat(), &mut happened).unwrap();
        let text = |happened: &Happened| match happened {
            Happened::Put { key, row: Row::Whole(row), moved } => {
                format!("put {} {} {moved}", key.json, row.as_ref().unwrap())
            }
            Happened::Put { key, row: Row::Partial(row), moved } => {
                format!("patch {} {} {moved}", key.json, row.as_ref().unwrap())
            }
            Happened::Delete(key) => format!("delete {}", key.json),
            Happened::Truncate(table) => format!("truncate {table}"),
        };
        happened.iter().map(text).collect()
    }

    #[test]
    fn what_was_not_sent_is_the_old_rows_or_a_patch() {
        let (new, old) = (row(&["7", "-"]), row(&["7", "long"]));
        let table = 10u32.to_be_bytes();
        let changes = &mut changes(1);
        assert_eq!(
            happened(changes, &[b"U", &table, b"O", &old, b"N", &new]),
            [r#"put {"id":7} {"doc":"long","id":7} false"#]
        );
        assert_eq!(
            happened(changes, &[b"U", &table, b"N", &new]),
            [r#"patch {"id":7} {"row":{"id":7},"unsent":["doc"]} false"#]
        );
        let before = row(&["6", "x"]);
        assert_eq!(
            happened(changes, &[b"U", &table, b"K", &before, b"N", &new]),
            [r#"delete {"id":6}"#, r#"patch {"id":7} {"row":{"id":7},"unsent":["doc"]} true"#]
        );
    }

    #[test]
    fn of_several_tables_each_has_its_collection() {
        let changes = &mut changes(2);
        let new = row(&["7", "x"]);
        for (table, key) in [(10u32, r#"["s.t0",{"id":7}]"#), (11, r#"["s.t1",{"id":7}]"#)] {
            assert_eq!(
                happened(changes, &[b"I", &table.to_be_bytes(), b"N", &new]),
                [format!(r#"put {key} {{"doc":"x","id":7}} true"#)]
            );
            assert_eq!(
                happened(changes, &[b"D", &table.to_be_bytes(), b"K", &new]),
                [format!("delete {key}")]
            );
        }
        assert!(happened(changes, &[b"I", &99u32.to_be_bytes(), b"N", &new]).is_empty());
        let three = [11u32, 99, 10].map(u32::to_be_bytes).concat();
        assert_eq!(
            happened(changes, &[b"T", &3u32.to_be_bytes(), b"\0", &three]),
            ["truncate 1", "truncate 0"]
        );
    }

    #[test]
    fn a_table_made_again_and_another_key_are_noticed() {
        let changes = &mut changes(2);
        let again = changes.read(&relation(99, "t1", "id"), &mut Vec::new());
        assert!(matches!(again, Err(Failure::PositionLost(e)) if e.to_string().contains("s.t1")));
        let key = changes.read(&relation(10, "t0", "other"), &mut Vec::new());
        assert!(matches!(key, Err(Failure::Definite(e)) if e.to_string().contains("s.t0")));
        assert!(!changes.is_renamed());
        changes.read(&relation(10, "t1", "id"), &mut Vec::new()).unwrap();
        assert!(changes.is_renamed());
        changes.trust_names();
        assert!(!changes.is_renamed());
        changes.read(&relation(99, "else", "id"), &mut Vec::new()).unwrap();
    }
}
