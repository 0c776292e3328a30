//! Owns one shard's way through a stream, whatever the protocol: copy, catching up, streaming, the
//! switch to other shards. How that is written is not its business.

use std::collections::VecDeque;

use crate::planetscale::model::{Key, Kind, Model, Row, Transaction};
use crate::random::Random;

#[derive(Clone, Debug)]
enum Phase {
    Stream,
    /// Transactions up to where a copy can go on, then the copy.
    CatchUp,
    /// The first copy batch and those after it.
    Copy(VecDeque<Row>),
    /// All is copied; what is left to say.
    Copied,
    Completed,
    /// At the journal, until all have come there.
    Journal,
}

/// What happens next on a shard.
#[derive(Clone, Debug)]
pub enum Unit {
    /// A copy begins, or goes on after a key, of what is there at this place.
    Begin,
    /// Rows of a copy, up to a key.
    Batch(Vec<Row>),
    /// All rows are copied.
    Copied,
    /// The same, said by the server.
    Completed,
    Transaction(Transaction),
}

#[derive(Clone, Debug)]
pub struct Leg {
    pub shard: String,
    /// Every transaction before this place was sent.
    pub at: usize,
    /// The last key copied, while a copy runs.
    pub pk: Option<Key>,
    /// How many columns the client was told of; 0 for nothing yet.
    pub told: usize,
    phase: Phase,
}

impl Leg {
    /// From the start.
    pub fn copy(shard: &str) -> Leg {
        Leg { shard: shard.into(), at: 0, pk: None, told: 0, phase: Phase::CatchUp }
    }

    /// From a place on, or from the middle of a copy.
    pub fn resume(shard: &str, at: usize, pk: Option<Key>) -> Leg {
        let phase = if pk.is_some() { Phase::CatchUp } else { Phase::Stream };
        Leg { shard: shard.into(), at, pk, told: 0, phase }
    }

    /// Begins again where this was, on another tablet.
    pub fn restarted(mut self) -> Leg {
        self.told = 0;
        if let Phase::Copy(_) = self.phase {
            self.phase = Phase::CatchUp;
        }
        self
    }

    pub fn at_journal(&self) -> bool {
        matches!(self.phase, Phase::Journal)
    }

    pub fn copies(&self) -> bool {
        matches!(self.phase, Phase::Copy(_) | Phase::CatchUp | Phase::Copied | Phase::Completed)
    }

    /// Returns what happens next; `None` when there is nothing.
    pub fn next(&mut self, model: &Model, random: &Random) -> Option<Unit> {
        let shard = &model.shards[&self.shard];
        match &mut self.phase {
            Phase::CatchUp if self.pk.is_some() && self.at < shard.copy_at() => {
                let transaction = shard.transaction(self.at).clone();
                self.at += 1;
                Some(Unit::Transaction(transaction))
            }
            Phase::CatchUp => {
                self.at = shard.copy_at();
                let rows = shard.contents(self.at).into_values();
                let rest = rows.filter(|row| self.pk.is_none_or(|pk| row.key() > pk));
                self.phase = Phase::Copy(rest.collect());
                Some(Unit::Begin)
            }
            Phase::Copy(rest) if rest.is_empty() => {
                (self.phase, self.pk) = (Phase::Copied, None);
                Some(Unit::Copied)
            }
            Phase::Copy(rest) => {
                let count = (1 + random.index(4)).min(rest.len());
                let rows: Vec<Row> = rest.drain(..count).collect();
                self.pk = rows.last().map(Row::key);
                if random.one_in(6) {
                    // A copy does not go on for ever: it catches up, and goes on.
                    self.phase = Phase::CatchUp;
                }
                Some(Unit::Batch(rows))
            }
            Phase::Copied => {
                self.phase = Phase::Completed;
                Some(Unit::Completed)
            }
            Phase::Completed => {
                self.phase = Phase::Stream;
                self.next(model, random)
            }
            Phase::Stream if self.at == shard.end() => None,
            Phase::Stream => {
                let transaction = shard.transaction(self.at).clone();
                if let Kind::Journal(_) = transaction.kind {
                    self.phase = Phase::Journal;
                    return None;
                }
                self.at += 1;
                Some(Unit::Transaction(transaction))
            }
            Phase::Journal => None,
        }
    }
}
