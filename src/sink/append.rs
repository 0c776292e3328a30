//! Owns the append: it collects every worker's response to an interval, commits them in one
//! compare-and-append, one in flight, and tells every worker when it is settled. What a lost race
//! does is [`race`](super::race)'s.

use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::generic::OutputBuilder;
use tokio::sync::mpsc;

use super::race::{Lost, after_loss};
use super::{Around, Emitted, Pile, Response, SharedTotals, Turn};
use crate::command::time::retain;
use crate::control::lifecycle::GRACE;
use crate::definite::Terms;
use crate::error::{Error, ErrorKind};
use crate::reclock::Cursors;
use crate::shard::{Append, Appended, Feed, Handle, History, Prepared, fenced};

/// Commits, on worker 0, what the workers have written. Returns the settled uppers, each addressed
/// to every worker: a hint to read the log now.
pub(super) fn append<'scope>(
    responses: StreamVec<'scope, u64, Response>,
    turn: &Turn,
    totals: &SharedTotals,
    around: &Around,
) -> StreamVec<'scope, u64, (u64, u64)> {
    let scope = responses.scope();
    let mut builder = around.status.lifecycle().operator("UpsertAppend", scope);
    let address = builder.operator_info().address;
    let mut input = builder.new_input(responses, Exchange::new(|_: &Response| 0));
    let (output, stream) = builder.new_output();
    let mut output = OutputBuilder::<_, CapacityContainerBuilder<Vec<(u64, u64)>>>::from(output);
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let wake = scope.worker().sync_activator_for(address.to_vec());
    let (turn, totals, around) = (turn.clone(), totals.clone(), around.clone());
    let peers = scope.peers();
    let (mut answers, mut piles, mut settling) = (0, Vec::new(), None);

    builder.build_reschedule(move |_| {
        move |_| {
            input.for_each(|message, responses| {
                let capability = match retain(&message, 0) {
                    Ok(capability) => capability,
                    Err(error) => return around.status.fail(error),
                };
                for response in responses.drain(..) {
                    match response {
                        Response::Stopping => turn.stop(),
                        Response::Failed => {
                            around.status.vitals().set_interval(None);
                            turn.fail();
                        }
                        Response::Counted(dropped) => totals.dropped(dropped),
                        // Given up below: nothing refers to these parts, so they are orphans.
                        Response::Written { .. } if turn.is_stopping() => {}
                        Response::Written { lower, upper, piles: more, dropped } => {
                            totals.dropped(dropped);
                            piles.extend(more);
                            answers += 1;
                            if answers < peers {
                                continue;
                            }
                            answers = 0;
                            settling = Some(capability.clone());
                            let (piles, around) = (std::mem::take(&mut piles), around.clone());
                            let (totals, sender, wake) =
                                (totals.clone(), sender.clone(), wake.clone());
                            let state = around.handle.state();
                            let terms = around.checked.terms(&state, lower, upper);
                            drop(state);
                            let (feed, history) = (around.feed.clone(), around.history);
                            let cursors = around.cursors.clone();
                            // What is not claimed has no rows to append.
                            let epoch = around.status.epoch().get().unwrap_or(0);
                            let task = Commit {
                                lower,
                                upper,
                                piles,
                                terms,
                                epoch,
                                feed,
                                history,
                                cursors,
                                totals,
                            };
                            let handle = around.handle.clone();
                            // The task runs to its end even when the dataflow is gone: an append
                            // under way must be settled, not dropped.
                            around.status.vitals().set_appending();
                            let stopping = turn.0.stopping.clone();
                            around.io.spawn_answered(
                                "the commit",
                                async move {
                                    let over = async {
                                        stopping.cancelled().await;
                                        tokio::time::sleep(GRACE).await;
                                    };
                                    tokio::select! {
                                        biased;
                                        settled = task.run(&handle) => settled.map(Settled::Known),
                                        () = over => Ok(Settled::Unknown),
                                    }
                                },
                                move |settled| {
                                    let _ = sender.send(settled);
                                    let _ = wake.activate();
                                },
                            );
                        }
                    }
                }
            });
            if turn.is_stopping() && turn.0.in_flight.get() && settling.is_none() {
                // Named, and not yet appended.
                (answers, piles) = (0, Vec::new());
                around.status.vitals().set_interval(None);
                turn.give_back();
            }
            while let Ok(settled) = receiver.try_recv() {
                around.status.vitals().set_interval(None);
                match settled {
                    Ok(Settled::Known(won)) => {
                        if let Some(upper) = won {
                            around.checked.won(upper);
                            // Beside everything: no append waits for it, and it fails nobody.
                            around.handle.maintain_aside();
                        }
                        turn.give_back();
                    }
                    Ok(Settled::Unknown) => {
                        tracing::info!(
                            "stopped before an append was settled; it may be in the log"
                        );
                        turn.give_back();
                    }
                    Err(error) => {
                        turn.fail();
                        around.status.fail(error);
                    }
                }
                around.status.wake_all();
                if let Some(time) = settling.take() {
                    let upper = around.status.upper();
                    let told = (0..peers as u64).map(|worker| (worker, upper));
                    output.activate().session(&time).give_iterator(told);
                }
            }
            // Not done while an append is under way, even when all inputs have ended.
            turn.0.in_flight.get()
        }
    });
    stream
}

/// What became of an append.
enum Settled {
    /// The shard is at its upper; the upper, if this append took it there.
    Known(Option<u64>),
    /// A stop came first.
    Unknown,
}

struct Commit {
    lower: u64,
    upper: u64,
    piles: Vec<Pile>,
    terms: Terms,
    epoch: u64,
    feed: Feed,
    history: Option<History>,
    cursors: Cursors,
    totals: SharedTotals,
}

impl Commit {
    /// Appends until the shard is at or past the upper, whoever wrote it. Returns the upper if this
    /// did.
    async fn run(mut self, handle: &Handle) -> Result<Option<u64>, Error> {
        loop {
            let state = handle.state();
            let append = Append {
                cursor: self.cursors.covering(self.upper),
                lower: self.lower,
                upper: self.upper,
                parts: self.piles.iter().flat_map(|pile| pile.parts.clone()).collect(),
                history: self.history.filter(|history| state.history != *history),
                feed: state.feed.is_none().then(|| self.feed.clone()),
                fence: Some(self.epoch),
                base: self.terms.below(self.lower),
                sum: self.terms.below(self.upper),
                mark: self.terms.mark,
                ..Append::default()
            };
            drop(state);
            match handle.compare_and_append(append).await? {
                Appended::Won { .. } => {
                    let mut emitted = Emitted::default();
                    self.piles.iter().for_each(|pile| emitted += pile.emitted);
                    self.totals.won(emitted);
                    return Ok(Some(self.upper));
                }
                Appended::UpperMismatch(shard_upper) => {
                    self.totals.lost_race();
                    match after_loss(self.lower, self.upper, shard_upper) {
                        Lost::All => {
                            self.drop_below(handle, self.upper).await;
                            return Ok(None);
                        }
                        Lost::Below(raised) => {
                            self.drop_below(handle, raised).await;
                            self.lower = raised;
                        }
                        Lost::Replaced => {
                            return Err(Error::new(
                                ErrorKind::Corrupt,
                                format!(
                                    "the shard's upper went back from {} to {shard_upper}",
                                    self.lower
                                ),
                            )
                            .hint("the shard was replaced under a running writer; start again"));
                        }
                    }
                }
                Appended::Fenced(epoch) => {
                    return Err(fenced(epoch));
                }
            }
        }
    }

    /// Drops the times below `bound`, which another writer has committed. The loss is settled, so
    /// our parts of them were never committed and may go.
    async fn drop_below(&mut self, handle: &Handle, bound: u64) {
        let (below, kept) =
            std::mem::take(&mut self.piles).into_iter().partition(|pile| pile.time < bound);
        self.piles = kept;
        let below: Vec<Pile> = below;
        self.totals.lost(below.iter().map(|pile| pile.emitted.total()).sum());
        let parts: Vec<Prepared> = below.into_iter().flat_map(|pile| pile.parts).collect();
        if !parts.is_empty() {
            handle.discard(parts).await;
        }
    }
}
