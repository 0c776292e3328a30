//! Owns what a line of a feed with minted times does: to which key, or what is bad about it. It does not
//! own reading lines, nor where a line ends. Pure.
//!
//! `ts` says nothing here, and `{"closed": N}` neither: the order is the file's. An `offset` may not
//! decrease, so that a feed whose lines were mixed up is noticed.

use differential_upsert::DataError;
use differential_upsert::source::Change;

use crate::debezium::Envelopes;
use crate::json::Json;
use crate::jsonl::{Bad, Line, LineParser};
use crate::lines::Piece;
use crate::position::Offsets;

/// What the value of a row is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// The key's value, or null for a delete.
    #[default]
    Json,
    /// A Debezium envelope, or null for a delete; times are minted.
    Debezium,
}

/// Reads lines, one after the other.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    parser: LineParser,
    envelopes: Option<Envelopes>,
    offsets: Offsets,
}

impl Changes {
    /// Goes on behind rows that say this about their `offset`s.
    pub(crate) fn after(format: Format, offsets: Offsets) -> Changes {
        let envelopes = (format == Format::Debezium).then(Envelopes::default);
        Changes { envelopes, offsets, ..Changes::default() }
    }

    /// Returns what the rows so far say about their `offset`s.
    pub(crate) fn offsets(&self) -> Offsets {
        self.offsets
    }

    /// Returns the change that a line makes, `None` if it makes none.
    pub(crate) fn line(&mut self, piece: &Piece<'_>) -> Result<Option<Change<Json, Json>>, Bad> {
        if piece.too_long {
            return Err(Bad::too_long());
        }
        let row = match self.parser.parse(piece.bytes) {
            Ok(Line::Row(row)) => row,
            Ok(Line::Blank | Line::Closed(_)) => return Ok(None),
            Err(bad) => return Err(self.unwrapped(bad)),
        };
        let mut offsets = self.offsets;
        if let Err(bad) = offsets.row(&row) {
            return Err(self.unwrapped(bad.of(&row)));
        }
        let change = match (&mut self.envelopes, row.value) {
            (None, None) => Change::Delete(row.key),
            (None, Some(value)) => Change::Put(row.key, Ok(value)),
            (Some(envelopes), value) => envelopes.change(row.key, value)?,
        };
        self.offsets = offsets;
        Ok(Some(change))
    }

    fn unwrapped(&mut self, bad: Bad) -> Bad {
        let Some(envelopes) = &mut self.envelopes else { return bad };
        Bad { key: bad.key.map(|key| envelopes.key(key)), ..bad }
    }
}

/// Returns the error value that a bad line is kept as, under its key if it has one.
pub(crate) fn kept(bad: Bad, piece: &Piece<'_>) -> Change<Json, Json> {
    let key = bad.key.unwrap_or_else(|| Json::key_base64(piece.bytes));
    // Without the feed's name: every replica must store the same bytes, whatever it calls the feed.
    Change::Put(key, Err(DataError(format!("{} at line {}", bad.what, piece.number))))
}
