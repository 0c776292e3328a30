//! Owns what a snapshot in a Debezium feed is to the rows before it: where one begins and ends, and
//! whether it takes their place. It does not own reading messages. Pure.
//!
//! A connector that has lost its place takes another snapshot. A row that was deleted meanwhile is not
//! in it, and nothing says so: it would stay for ever. Told to replace, all from the first row of such a
//! snapshot to its last is one unit that begins with a reset, so that such rows go in one step, and until
//! then nothing has changed.
//!
//! The marks of a snapshot are those of one partition of one table's topic: in any other feed its rows
//! come before its mark `first` or behind `last`, too. An incremental snapshot has none, and stands among
//! the changes.

use super::config::Resnapshot;
use super::line::Bad;
use crate::connect::debezium::Mark;

/// The snapshots of a feed so far.
#[derive(Debug, Default)]
pub(super) struct Snapshots {
    mode: Resnapshot,
    /// A second one that has not ended.
    open: Option<Open>,
    /// Whether a reset is due before the next change.
    reset: bool,
    /// The table that rows have named.
    table: Option<String>,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    line: u64,
    rows: u64,
}

impl Snapshots {
    pub(super) fn new(mode: Resnapshot) -> Snapshots {
        Snapshots { mode, ..Snapshots::default() }
    }

    /// Whether a table that was named before decides about a line.
    pub(super) fn remembers(&self) -> bool {
        self.mode == Resnapshot::Replace
    }

    /// Takes a message at a line, with so many rows before it.
    pub(super) fn message(&mut self, mark: Mark, line: u64, before: u64) {
        match mark {
            Mark::First if before > 0 => {
                self.open = Some(Open { line, rows: 1 });
                self.reset = self.mode == Resnapshot::Replace;
                let does = match self.mode {
                    Resnapshot::Keep => "rows that it does not have stay: see --resnapshot replace",
                    Resnapshot::Replace => "it replaces all rows when its last has come",
                };
                tracing::warn!(line, rows = before, "another snapshot begins behind rows; {does}");
            }
            Mark::First => {}
            Mark::Within => self.open = self.open.map(|open| Open { rows: open.rows + 1, ..open }),
            Mark::Last => self.end(1, line),
            // What streams goes into the unit of a snapshot that has not ended, if that replaces.
            Mark::Outside if self.is_open() => {}
            Mark::Outside => self.end(0, line),
        }
    }

    fn end(&mut self, rows: u64, line: u64) {
        let Some(open) = self.open.take() else { return };
        let rows = open.rows + rows;
        tracing::warn!(line, rows, "the snapshot from line {} has ended", open.line);
    }

    /// Returns whether a snapshot is to be replaced as a whole and has not ended.
    pub(super) fn is_open(&self) -> bool {
        self.open.is_some() && self.mode == Resnapshot::Replace
    }

    /// Returns whether a reset goes before the change of this line, once.
    pub(super) fn take_reset(&mut self) -> bool {
        std::mem::take(&mut self.reset)
    }

    /// Returns the line that the open snapshot began at.
    pub(super) fn began(&self) -> Option<u64> {
        self.open.filter(|_| self.is_open()).map(|open| open.line)
    }

    /// Checks that all rows are of the table that the first one names, if a snapshot of it takes the
    /// place of all.
    pub(super) fn table(&mut self, table: &str) -> Result<(), Bad> {
        if self.mode == Resnapshot::Keep {
            return Ok(());
        }
        let known = self.table.get_or_insert_with(|| table.to_string());
        if known == table {
            return Ok(());
        }
        let what = format!("rows of two tables, {known} and {table}, and a snapshot replaces all");
        Err(Bad::new(what, "feed each table to a shard of its own, or use --resnapshot keep"))
    }
}
