//! Owns the meaning of one shard's `Sync` responses: which changes they are, and which of their cursors
//! is a position. It does not own the connection they come by. Pure: no clock, no waiting.
//!
//! A response is a unit, with its cursor; rows of a response without a cursor, or with one that
//! is not a position, wait for the next. Transactions and a copy's end have no markers: a cursor has a
//! last primary key, or has not.
//!
//! | cursor | position |
//! | --- | --- |
//! | with a key, copying | the set and the key |
//! | without, streaming, or copying after a cursor with a key | streaming: the copy's last has no key |
//! | without, at the start: the first one | none: the copy's first comes before all rows |
//! | without, at the start: a later one, and a strictly larger set | streaming |
//! | none | none |
//!
//! The last but one rule is how the copy of an *empty* table ends: the server goes from the copy's
//! first cursor straight on to replication, and the next transaction of the shard, on whatever table,
//! shows that it has. A table with rows cannot take this way, because its rows, and a cursor with a
//! key, come before. A cursor that merely repeats the first one shows nothing: one set may come in
//! several responses. So on a shard without any transaction an empty table stays at its start, from
//! which nothing can be lost; a run that is to stop at the current position waits for one.

use super::columns::{Columns, KeyColumns};
use super::failure::{definite, of_response, transient};
use super::gtid::Gtid;
use super::merge::Merge;
use super::position::{LastPk, VStreamPosition};
use super::proto::{Field, QueryResult, Row, SyncResponse, TableCursor};
use super::rows::{self, Read};
use super::unique::Unique;
use crate::codec::canonical::Scratch;
use crate::source::{Change, Event, Failure, Partition, Position, Received};

type Out = Vec<Event<String, String, VStreamPosition>>;

/// Reads the responses of one shard's connection.
#[derive(Debug)]
pub(super) struct Units {
    keyspace: String,
    table: String,
    shard: Partition,
    key: KeyColumns,
    /// The last boundary.
    at: Option<VStreamPosition>,
    /// The first set without a key, while at the start.
    first: Option<Gtid>,
    columns: Option<Columns>,
    unique: Unique,
    /// Of deletes, which may have the key's columns alone.
    delete_columns: Option<Columns>,
    scratch: Scratch,
}

impl Units {
    /// Begins a connection at a place; `None` is the shard's start.
    pub(super) fn new(
        keyspace: &str,
        table: &str,
        key: Vec<String>,
        shard: Partition,
        at: Option<VStreamPosition>,
    ) -> Self {
        let (keyspace, table) = (keyspace.to_string(), table.to_string());
        let (key, scratch) = (KeyColumns::new(key), Scratch::default());
        let (first, columns, delete_columns, unique) = (None, None, None, Unique::default());
        Units { keyspace, table, shard, key, at, first, columns, unique, delete_columns, scratch }
    }

    /// Returns the place, as an error names it.
    pub(super) fn place(&self) -> String {
        format!("{}/{} (shard {})", self.keyspace, self.table, self.shard)
    }

    /// Takes in a response, and returns what it comes to.
    pub(super) fn take(&mut self, response: SyncResponse) -> Result<Out, Failure> {
        let place = self.place();
        // First of all: nothing that comes beside an error is believed.
        if let Some(failure) = response.error.as_ref().and_then(|error| of_response(error, &place))
        {
            return Err(failure);
        }
        // Inserts first, for the columns that later lists may leave out.
        let mut inserts = Vec::new();
        let in_order = response.updates.is_empty() && response.deletes.is_empty();
        if !in_order {
            self.unique.forget();
        }
        for result in &response.result {
            let rows = self.read(result)?;
            if in_order {
                self.prove_unique(result, &rows)?;
            }
            inserts.extend(rows);
        }
        let change = |shard: &Partition, change| Event::Change(shard.clone(), change);
        let mut out: Out = match in_order {
            // As in a copy: nothing has to be ordered.
            true => inserts
                .into_iter()
                .map(|row| change(&self.shard, Change::Put(row.key, row.value)))
                .collect(),
            false => {
                let changes = self.merge(inserts, &response)?;
                changes.changes().map(|merged| change(&self.shard, merged)).collect()
            }
        };
        if let Some(position) = self.position(response.cursor)? {
            self.at = Some(position.clone());
            out.push(Event::Boundary(Received::at(self.shard.clone(), position)));
        }
        Ok(out)
    }

    fn merge(&mut self, inserts: Vec<Read>, response: &SyncResponse) -> Result<Merge, Failure> {
        let mut merge = Merge::default();
        inserts.into_iter().for_each(|row| merge.insert(row));
        for update in &response.updates {
            let none = QueryResult::default();
            let after = update.after.as_ref().unwrap_or(&none);
            let before = update.before.as_ref().unwrap_or(&none);
            // Whichever comes first describes the columns.
            let (before, after) = match after.fields.is_empty() {
                true => (self.read(before)?, self.read(after)?),
                false => {
                    let after = self.read(after)?;
                    (self.read(before)?, after)
                }
            };
            if before.len() != after.len() {
                let hint = "set binlog_row_image=FULL";
                let what = "an update without its row before or after";
                return Err(definite(what, &self.place(), hint));
            }
            for (before, after) in before.into_iter().zip(after) {
                merge.update(before, after);
            }
        }
        for delete in response.deletes.iter().filter_map(|delete| delete.result.as_ref()) {
            for key in self.read_keys(delete)? {
                merge.delete(key);
            }
        }
        Ok(merge)
    }

    fn read(&mut self, result: &QueryResult) -> Result<Vec<Read>, Failure> {
        if !result.fields.is_empty() {
            self.columns = Some(self.describe(&result.fields)?);
        }
        let columns = of(&self.columns, &result.rows, &self.place())?;
        let read = |(columns, row)| rows::read(columns, row, &mut self.scratch);
        columns.into_iter().map(read).collect()
    }

    /// Refuses rows of one key, which are others by their primary keys.
    fn prove_unique(&mut self, result: &QueryResult, rows: &[Read]) -> Result<(), Failure> {
        let place = self.place();
        let Some(columns) = &self.columns else { return Ok(()) };
        for (row, read) in result.rows.iter().zip(rows) {
            if let Some(id) = rows::identity(columns, row, &mut self.scratch)? {
                self.unique.comes(&read.key, &id, &place)?;
            }
        }
        Ok(())
    }

    fn read_keys(&mut self, result: &QueryResult) -> Result<Vec<String>, Failure> {
        if !result.fields.is_empty() {
            self.delete_columns = Some(self.describe(&result.fields)?);
        }
        let columns = match &self.delete_columns {
            None => &self.columns,
            known => known,
        };
        let columns = of(columns, &result.rows, &self.place())?;
        let read = |(columns, row)| rows::read_key(columns, row, &mut self.scratch);
        columns.into_iter().map(read).collect()
    }

    fn describe(&mut self, fields: &[Field]) -> Result<Columns, Failure> {
        let place = self.place();
        self.key.columns(&place, fields, false)
    }

    /// Returns the position that a cursor stands for, if it does.
    fn position(
        &mut self,
        cursor: Option<TableCursor>,
    ) -> Result<Option<VStreamPosition>, Failure> {
        let Some(cursor) = cursor else { return Ok(None) };
        if !cursor.shard.is_empty() && cursor.shard != *self.shard {
            let what = format!("a cursor of the shard {:?}", cursor.shard);
            let hint = "the keyspace was resharded; use protocol=vstream, which follows";
            return Err(definite(what, &self.place(), hint));
        }
        if cursor.position.is_empty() {
            let key = cursor.last_known_pk.map(|_| transient("a key without a set", &self.place()));
            return key.map_or(Ok(None), Err);
        }
        let hint = "the source must run MySQL with gtid_mode=ON";
        let gtid = Gtid::parse(&cursor.position);
        let gtid = gtid.map_err(|what| definite(what, &self.place(), hint))?;
        let hint = "nothing can resume from there; use Vitess 16 or newer";
        let last_pk = cursor.last_known_pk.map(|pk| LastPk::new(&pk)).transpose();
        let last_pk = last_pk.map_err(|what| definite(what, &self.place(), hint))?;
        Ok(match (&self.at, last_pk) {
            // It was asked for replication alone: a key is of no copy of ours.
            (Some(at), _) if !at.is_snapshot() => Some(VStreamPosition::streaming(gtid)),
            (at, Some(pk)) => Some(VStreamPosition::copying(gtid, pk, at.as_ref())),
            (Some(_), None) => Some(VStreamPosition::streaming(gtid)),
            (None, None) => match &self.first {
                Some(first) if gtid.contains(first) && gtid != *first => {
                    Some(VStreamPosition::streaming(gtid))
                }
                first => {
                    self.first = first.clone().or(Some(gtid));
                    None
                }
            },
        })
    }
}

/// Returns rows with their columns, which must be known if there are any.
fn of<'a>(
    columns: &'a Option<Columns>,
    rows: &'a [Row],
    place: &str,
) -> Result<Vec<(&'a Columns, &'a Row)>, Failure> {
    let known = |row| match columns {
        Some(columns) => Ok((columns, row)),
        None => {
            let hint = "turn on schema tracking (--track_schema_versions)";
            Err(definite("rows whose columns were never described", place, hint))
        }
    };
    rows.iter().map(known).collect()
}

#[cfg(test)]
#[path = "unit_tests.rs"]
mod tests;
