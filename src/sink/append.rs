//! Owns the append: it collects every worker's response to an interval, has them committed in one
//! compare-and-append, one in flight, and tells every worker when it is settled. How an append is
//! carried through its races is [`commit`](super::commit)'s.

use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use tokio::sync::mpsc;

use super::commit::{Commit, Settled};
use super::context::SinkContext;
use super::counts::SharedTotals;
use super::messages::{Response, Written};
use super::turn::Turn;
use crate::command::time::retain;
use crate::control::waking::Waking;
use crate::error::Error;
use crate::logging::{AppendEvent, AppendOutcome, UpsertLogger, logger};

/// Commits, on worker 0, what the workers have written. Returns the settled uppers, each addressed
/// to every worker: a hint to read the log now.
pub(super) fn append<'scope>(
    responses: StreamVec<'scope, u64, Response>,
    turn: &Turn,
    totals: &SharedTotals,
    context: &SinkContext,
) -> StreamVec<'scope, u64, (u64, u64)> {
    let scope = responses.scope();
    let mut builder = context.status.lifecycle().operator("UpsertAppend", scope);
    let operator_info = builder.operator_info();
    let mut input = builder.new_input(responses, pact::Exchange::new(|_: &Response| 0));
    let (output, stream) = builder.new_output();
    let mut output = OutputBuilder::<_, CapacityContainerBuilder<Vec<(u64, u64)>>>::from(output);
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let sender =
        Waking::new(sender, scope.worker().sync_activator_for(operator_info.address.to_vec()));
    let peers = scope.peers();
    let mut appender = Appender {
        context: context.clone(),
        turn: turn.clone(),
        totals: totals.clone(),
        peers,
        answers: 0,
        written: Written::default(),
        settling: None,
        sender,
        log: logger(scope.worker()).map(|logger| (logger, operator_info.global_id)),
    };

    builder.build_reschedule(move |_| {
        move |_| {
            input.for_each(|message, responses| {
                let capability = match retain(&message, 0) {
                    Ok(capability) => capability,
                    Err(error) => return appender.context.status.fail(error),
                };
                for response in responses.drain(..) {
                    if let Some(interval) = appender.respond(response) {
                        appender.commit(interval, capability.clone());
                    }
                }
            });
            appender.give_up_if_stopping();
            while let Ok(settled) = receiver.try_recv() {
                if let Some(time) = appender.settled(settled) {
                    let upper = appender.context.status.upper();
                    let told = (0..peers as u64).map(|worker| (worker, upper));
                    output.activate().session(&time).give_iterator(told);
                }
            }
            // Not done while an append is under way, even when all inputs have ended.
            appender.turn.is_in_flight()
        }
    });
    stream
}

/// An interval that every worker has written.
struct Interval {
    lower: u64,
    upper: u64,
    written: Written,
}

/// Collects responses and has them committed; on worker 0.
struct Appender {
    context: SinkContext,
    turn: Turn,
    totals: SharedTotals,
    peers: usize,
    /// Workers that have answered the present interval.
    answers: usize,
    /// What they have written of it.
    written: Written,
    settling: Option<Settling>,
    sender: Waking<mpsc::UnboundedSender<Result<Settled, Error>>>,
    /// Where the worker has a logger for it; with the operator's identifier.
    log: Option<(UpsertLogger, usize)>,
}

/// An append under way.
struct Settling {
    lower: u64,
    upper: u64,
    /// At which the workers are told.
    time: Capability<u64>,
}

impl Appender {
    /// Takes in one worker's response. The last one completes the interval, which is then returned.
    fn respond(&mut self, response: Response) -> Option<Interval> {
        match response {
            Response::Stopping => self.turn.stop(),
            Response::Failed => {
                self.context.status.vitals().set_interval(None);
                self.turn.fail();
            }
            Response::Counted(dropped) => self.totals.dropped(dropped),
            // The interval is given up: nothing refers to these parts, so they are orphans.
            Response::Written { .. } if self.turn.is_stopping() => {}
            Response::Written { lower, upper, written, dropped } => {
                self.totals.dropped(dropped);
                self.written.extend(written);
                self.answers += 1;
                if self.answers == self.peers {
                    self.answers = 0;
                    let written = std::mem::take(&mut self.written);
                    return Some(Interval { lower, upper, written });
                }
            }
        }
        None
    }

    /// Has an interval committed. The task runs to its end even when the dataflow is gone: an append
    /// under way must be settled, not dropped.
    fn commit(&mut self, interval: Interval, time: Capability<u64>) {
        let Interval { lower, upper, written } = interval;
        let context = &self.context;
        let commit = Commit {
            lower,
            upper,
            written,
            terms: context.checked.terms(&context.handle.state(), lower, upper),
            // What is not claimed has no rows to append.
            epoch: context.status.epoch().get().unwrap_or(0),
            feed: context.feed.clone(),
            history: context.history,
            cursors: context.cursors.clone(),
            totals: self.totals.clone(),
            handle: context.handle.clone(),
        };
        let stopping = self.turn.0.stopping.clone();
        let sender = self.sender.clone();
        context.status.vitals().set_appending();
        context.io.spawn_answered("the commit", commit.run_until(stopping), move |settled| {
            sender.send(settled);
        });
        self.settling = Some(Settling { lower, upper, time });
        self.log(None);
    }

    /// Gives up an interval that is named and not yet being appended, if a worker is stopping.
    fn give_up_if_stopping(&mut self) {
        let is_only_named = self.turn.is_in_flight() && self.settling.is_none();
        if self.turn.is_stopping() && is_only_named {
            (self.answers, self.written) = (0, Written::default());
            self.context.status.vitals().set_interval(None);
            self.turn.give_back();
        }
    }

    /// Takes in what became of an append. Returns the capability at which the workers are told.
    fn settled(&mut self, settled: Result<Settled, Error>) -> Option<Capability<u64>> {
        self.log(Some(outcome(&settled)));
        let context = &self.context;
        context.status.vitals().set_interval(None);
        match settled {
            Ok(Settled::Known(won)) => {
                if let Some(upper) = won {
                    context.checked.won(upper);
                    // Beside everything: no append waits for it, and its failure fails nothing.
                    context.handle.maintain_aside();
                }
                self.turn.give_back();
            }
            Ok(Settled::Unknown) => {
                tracing::info!("stopped before an append was settled; it may be in the log");
                self.turn.give_back();
            }
            Err(error) => {
                self.turn.fail();
                context.status.fail(error);
            }
        }
        context.status.wake_all();
        self.settling.take().map(|settling| settling.time)
    }

    /// Writes the begin or the end of an append to timely's logger.
    fn log(&self, outcome: Option<AppendOutcome>) {
        if let (Some((logger, operator)), Some(append)) = (&self.log, &self.settling) {
            let (lower, upper, operator) = (append.lower, append.upper, *operator);
            logger.log(AppendEvent { operator, lower, upper, outcome });
        }
    }
}

fn outcome(settled: &Result<Settled, Error>) -> AppendOutcome {
    match settled {
        Ok(Settled::Known(Some(_))) => AppendOutcome::Won,
        Ok(Settled::Known(None)) => AppendOutcome::Lost,
        Ok(Settled::Unknown) => AppendOutcome::Unknown,
        Err(_) => AppendOutcome::Failed,
    }
}
