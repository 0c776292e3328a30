//! Owns what a line of a feed with minted times does: to which key, or what is bad about it. It does not
//! own reading lines, nor where a line ends. Pure.
//!
//! `ts` says nothing here, and `{"closed": N}` neither: the order is the file's. An `offset` may not
//! decrease, so that a feed whose lines were mixed up is noticed.

use super::config::{Config, Format};
use super::cut::Piece;
use super::formats::{Formatted, Said};
use super::line::{Bad, Line, LineParser, key_base64};
use super::position::Offsets;
use super::resnapshot::Snapshots;
use crate::codec::{DataError, Json};
use crate::connect::debezium::{Envelopes, named};
use crate::source::Change;

/// Reads lines, one after the other.
#[derive(Debug, Default)]
pub(super) struct Changes {
    parser: LineParser,
    envelopes: Option<Envelopes>,
    /// What reads its lines, if not the parser.
    formatted: Option<Formatted>,
    snapshots: Snapshots,
    offsets: Offsets,
    /// Rows before the next line.
    rows: u64,
    /// Whether a bad line is a row, its error.
    keeps_bad: bool,
}

/// What a good line does.
#[derive(Debug)]
pub(super) enum Does {
    /// Nothing; it has no row.
    Nothing,
    /// Nothing; it is a message, and none that changes a row.
    Message,
    Change(Change<Json, Json>),
    /// Changes, one at least, which are one unit.
    Changes(Vec<Change<Json, Json>>),
}

impl Changes {
    /// Goes on behind so many rows, which say this about their `offset`s.
    pub(super) fn after(config: &Config, rows: u64, offsets: Offsets) -> Changes {
        let is_debezium = config.format == Format::Debezium;
        let envelopes = is_debezium.then(|| Envelopes::new(config.on_unavailable));
        let snapshots = Snapshots::new(config.resnapshot);
        let parser = LineParser::new(config.shape.clone());
        let formatted = Formatted::new(config);
        let keeps_bad = config.quarantine.is_none();
        Changes { envelopes, formatted, snapshots, offsets, rows, keeps_bad, parser }
    }

    /// Returns what the rows so far say about their `offset`s.
    pub(super) fn offsets(&self) -> Offsets {
        self.offsets
    }

    /// Returns the snapshots so far: a bad line may begin or end one, too.
    pub(super) fn snapshots(&mut self) -> &mut Snapshots {
        &mut self.snapshots
    }

    /// Whether what a line does depends on the lines before it, beyond what a place says.
    pub(super) fn remembers(&self) -> bool {
        self.formatted.as_ref().is_some_and(Formatted::remembers) || self.snapshots.remembers()
    }

    /// Learns from a line, before the place to go on from, which table the feed is of. Returns whether
    /// no more is to be learned.
    pub(super) fn learn(&mut self, piece: &Piece<'_>) -> bool {
        if let Some(formatted) = &mut self.formatted {
            return !piece.too_long && formatted.learn(piece.bytes);
        }
        let Some(envelopes) = &mut self.envelopes else { return true };
        let row = match self.parser.parse(piece.bytes) {
            Ok(Line::Row(row)) if !piece.too_long => row,
            _ => return false,
        };
        let table = envelopes.message(row.key, row.value).table;
        // The first decides, so nothing can differ from it.
        table.is_some_and(|table| self.snapshots.table(&table).is_ok())
    }

    /// Returns what a line does.
    pub(super) fn line(&mut self, piece: &Piece<'_>) -> Result<Does, Bad> {
        let does = self.read(piece);
        self.rows += match &does {
            Ok(Does::Nothing | Does::Message) => 0,
            Ok(Does::Changes(changes)) => changes.len() as u64,
            Ok(Does::Change(_)) => 1,
            Err(_) => u64::from(self.keeps_bad),
        };
        does
    }

    fn read(&mut self, piece: &Piece<'_>) -> Result<Does, Bad> {
        if piece.too_long {
            return Err(Bad::too_long(piece.bytes));
        }
        if let Some(formatted) = &mut self.formatted {
            return Ok(match formatted.line(piece.bytes)? {
                Said::Nothing => Does::Nothing,
                Said::Message => Does::Message,
                Said::Rows(changes, _) => Does::Changes(changes),
            });
        }
        let row = match self.parser.parse(piece.bytes) {
            Ok(Line::Row(row)) => row,
            Ok(Line::Blank | Line::Closed(_)) => return Ok(Does::Nothing),
            Err(bad) => return Err(self.unwrapped(bad)),
        };
        let mut offsets = self.offsets;
        if let Err(bad) = offsets.row(&row) {
            return Err(self.unwrapped(bad.of(&row)));
        }
        let change = match (&mut self.envelopes, row.value) {
            (None, None) => Change::Delete(row.key),
            (None, Some(value)) => Change::Put(row.key, Ok(value)),
            (Some(envelopes), value) => {
                let message = envelopes.message(row.key, value);
                let change = message.change;
                if let Ok(None) = change {
                    self.offsets = offsets;
                    return Ok(Does::Message);
                }
                if let Some(table) = message.table {
                    // Before anything else of it counts; and its key would be another row's.
                    self.snapshots.table(&table)?;
                }
                self.snapshots.message(message.mark, piece.number, self.rows);
                match change? {
                    Some(change) => change,
                    None => return Ok(Does::Message),
                }
            }
        };
        self.offsets = offsets;
        Ok(Does::Change(change))
    }

    fn unwrapped(&mut self, bad: Bad) -> Bad {
        let Some(envelopes) = &mut self.envelopes else { return bad };
        let key = bad.key.map(|key| envelopes.key(key));
        Bad { key: key.and_then(named), ..bad }
    }
}

/// Returns the error value that a bad line is kept as, under its key if it has one.
pub(super) fn kept(bad: Bad, piece: &Piece<'_>) -> Change<Json, Json> {
    let key = bad.key.unwrap_or_else(|| key_base64(piece.bytes));
    // Without the feed's name: every replica must store the same bytes, whatever it calls the feed.
    Change::Put(key, Err(DataError(format!("{} at line {}", bad.what, piece.number))))
}
