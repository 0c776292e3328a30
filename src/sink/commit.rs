//! Owns how an append is carried through: tried until the shard is at or past its upper, by
//! whichever writer. It runs as a task; what a lost race does is [`race`](super::race)'s.

use tokio_util::sync::CancellationToken;

use super::counts::SharedTotals;
use super::messages::Written;
use super::race::{Lost, after_loss};
use super::whole::all_or_nothing;
use crate::control::lifecycle::GRACE;
use crate::definite::Terms;
use crate::error::{Error, ErrorKind};
use crate::reclock::Cursors;
use crate::shard::{Append, Appended, Feed, Handle, History, Prepared, fenced};

/// What became of an append.
pub(super) enum Settled {
    /// The shard is at its upper; the upper, if this append took it there.
    Known(Option<u64>),
    /// A stop came first.
    Unknown,
}

/// An interval on its way into the shard.
pub(super) struct Commit {
    pub(super) lower: u64,
    pub(super) upper: u64,
    pub(super) written: Written,
    pub(super) terms: Terms,
    pub(super) epoch: u64,
    pub(super) feed: Feed,
    pub(super) history: Option<History>,
    pub(super) cursors: Cursors,
    pub(super) totals: SharedTotals,
    pub(super) handle: Handle,
}

impl Commit {
    /// Appends, and after a stop waits for it no longer than [`GRACE`].
    pub(super) async fn run_until(self, stopping: CancellationToken) -> Result<Settled, Error> {
        let over = async {
            stopping.cancelled().await;
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            biased;
            settled = self.run() => settled.map(Settled::Known),
            () = over => Ok(Settled::Unknown),
        }
    }

    /// Appends until the shard is at or past the upper, by whichever writer. Returns the upper if
    /// this append took it there.
    async fn run(mut self) -> Result<Option<u64>, Error> {
        loop {
            if self.written.emitted.is_empty() && crate::mutant::on("skip_empty") {
                return Ok(None);
            }
            let appended = self.handle.compare_and_append(self.append()).await;
            if appended.is_err() && crate::mutant::on("delete_after_unknown") {
                self.drop_below(u64::MAX).await;
            }
            let says = |error: Error| match error.kind() {
                ErrorKind::Refused => all_or_nothing(error, self.lower, self.upper),
                _ => error,
            };
            let shard_upper = match appended.map_err(says)? {
                Appended::Won { .. } => {
                    self.totals.won(self.written.total());
                    return Ok(Some(self.upper));
                }
                Appended::Fenced(epoch) => return Err(fenced(epoch)),
                Appended::UpperMismatch(shard_upper) => shard_upper,
            };
            self.totals.lost_race();
            match after_loss(self.lower, self.upper, shard_upper) {
                Lost::All => {
                    self.drop_below(self.upper).await;
                    return Ok(None);
                }
                Lost::Below(raised) => {
                    if !crate::mutant::on("keep_part_of_lost") {
                        self.drop_below(raised).await;
                    }
                    if crate::mutant::on("keep_rest_unproven") {
                        self.terms = Terms::default();
                    }
                    self.lower = raised;
                }
                Lost::Replaced => return Err(replaced(self.lower, shard_upper)),
            }
        }
    }

    /// Returns what is left to append, by the newest state.
    fn append(&self) -> Append {
        let state = self.handle.state();
        Append {
            cursor: self.cursors.covering(self.upper),
            lower: self.lower,
            upper: self.upper,
            parts: self.written.parts.iter().map(|(_, part)| part.clone()).collect(),
            history: self.history.filter(|history| state.history != *history),
            feed: state.feed.is_none().then(|| self.feed.clone()),
            fence: Some(self.epoch),
            // What is left of a lost run is ours to keep only where what came before it is our feed's too.
            base: self.terms.below(self.lower),
            sum: self.terms.below(self.upper),
            mark: self.terms.mark,
            ..Append::default()
        }
    }

    /// Drops the times below `bound`, which another writer has committed. The loss is settled, so
    /// our parts of them were never committed and may go.
    async fn drop_below(&mut self, bound: u64) {
        let below = self.written.split_below(bound);
        self.totals.lost(below.total().total());
        let parts: Vec<Prepared> = below.parts.into_iter().map(|(_, part)| part).collect();
        if !parts.is_empty() {
            self.handle.discard(parts).await;
        }
    }
}

fn replaced(lower: u64, shard_upper: u64) -> Error {
    let what = format!("the shard's upper went back from {lower} to {shard_upper}");
    Error::new(ErrorKind::Corrupt, what)
        .hint("the shard was replaced under a running writer; start again")
}
