//! Owns what a source has handed over and is not a complete unit yet: how much of which partition, since
//! when, and when there was last more of it. Pure: it is told the time. It does not own the rows
//! ([`stage`](super::stage)), nor what is said of them ([`health`](crate::health)).

use tokio::time::Instant;

use super::cursor::Position;
use super::stage::{Open, Stager};
use super::stats::Waiting;

/// Follows what a stager has.
#[derive(Debug, Default)]
pub(super) struct Staging(Vec<(Open, Waiting)>);

impl Staging {
    /// Looks at a stager. Returns whether there is anything to tell.
    pub(super) fn see<P: Position>(&mut self, stager: &Stager<P>, now: Instant) -> bool {
        let before = std::mem::take(&mut self.0);
        for open in stager.open() {
            let same = |(known, _): &&(Open, Waiting)| {
                known.partition == open.partition && known.begun == open.begun
            };
            let known = before.iter().find(same);
            let (since, moved) = match known {
                Some((known, waiting)) if *known == open => (waiting.since, waiting.moved),
                Some((_, waiting)) => (waiting.since, now),
                None => (now, now),
            };
            let waiting = Waiting {
                partition: open.partition.clone(),
                copy: open.ends.is_some(),
                rows: open.rows,
                bytes: open.bytes,
                since,
                moved,
            };
            self.0.push((open, waiting));
        }
        !(before.is_empty() && self.0.is_empty())
    }

    /// Says that the source was not asked until now: it is not to blame for the silence.
    pub(super) fn held_back(&mut self, now: Instant) {
        self.0.iter_mut().for_each(|(_, waiting)| waiting.moved = now);
    }

    pub(super) fn waiting(&self) -> Vec<Waiting> {
        self.0.iter().map(|(_, waiting)| waiting.clone()).collect()
    }
}
