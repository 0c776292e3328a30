//! Owns the two operators of the check: what is counted where, and whose frontier holds. The
//! comparison itself is [`ledger`](super::ledger)'s.

use std::cell::RefCell;
use std::rc::Rc;

use differential_dataflow::ExchangeData;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::progress::Antichain;
use timely::progress::frontier::MutableAntichain;

use super::digest::Digest;
use super::ledger::{Ledger, Terms};
use crate::codec::packed::Encoded;
use crate::command::Command;
use crate::command::time::least;
use crate::control::lifecycle::Phase;
use crate::error::Error;
use crate::health::Status;
use crate::input::end::Ends;
use crate::shard::{Feed, Resumes, State, Sum};

/// A command and its time.
type Timed<O> = (Command<Encoded, Encoded, O>, u64);

/// What one worker has counted: a time, and how many commands of which sum. No sum: its part ends
/// there.
type Counted = (u64, Option<(u64, u128)>);

/// Counts and hashes commands, and passes them all on: what the shard has already is dropped by the operator,
/// which knows what it has emitted. Dropped here, by an upper that the operator has not heard of, it would be
/// missing from what the operator runs ahead on. `digest` hashes them.
pub(crate) fn tally<'scope, O: ExchangeData>(
    commands: StreamVec<'scope, u64, Timed<O>>,
    checked: bool,
    mut digest: Digest,
    ends: Ends,
    status: Status,
) -> (StreamVec<'scope, u64, Timed<O>>, StreamVec<'scope, u64, Counted>) {
    let mut builder = status.lifecycle().operator("UpsertTally", commands.scope());
    let mut input = builder.new_input_connection(commands, pact::Pipeline, []);
    let by_input = || [(0, Antichain::from_elem(0))];
    let (output, passed) = builder.new_output_connection(by_input());
    let mut output = OutputBuilder::<_, CapacityContainerBuilder<Vec<Timed<O>>>>::from(output);
    let (counts, counted) = builder.new_output_connection(by_input());
    let mut counts = OutputBuilder::<_, CapacityContainerBuilder<Vec<Counted>>>::from(counts);
    builder.build(move |mut capabilities| {
        let mut last = capabilities.pop();
        let mut failed = false;
        let mut held: Option<(Capability<u64>, Capability<u64>)> = None;
        move |frontiers: &[MutableAntichain<u64>]| {
            input.for_each(|message, commands| {
                let both = || message.retain_least(0).zip(message.retain_least(1));
                if failed {
                    // As in `convert`: earlier times too.
                    let earlier = held.take().into_iter().chain(both());
                    held = earlier.min_by_key(|(capability, _)| *capability.time());
                    return;
                }
                let summed = least(&message).and_then(|_| match checked {
                    true => sums(&mut digest, commands),
                    false => Ok(Vec::new()),
                });
                match summed {
                    Ok(mut sums) => counts.activate().session(&message).give_container(&mut sums),
                    Err(error) => {
                        // The failure holds, so that nobody takes these times for done.
                        held = both();
                        failed = true;
                        return status.fail(error);
                    }
                }
                if crate::mutant::on("tally_drops") {
                    let (all, upper) = (commands.len(), status.upper());
                    commands.retain(|(_, time)| *time >= upper);
                    status.vitals().stats.add_below((all - commands.len()) as u64);
                }
                output.activate().session(&message).give_container(commands);
            });
            match status.phase() {
                Phase::Running => {}
                // An input that closes now has not ended.
                Phase::Stopping | Phase::Silent => return,
                Phase::Released => return (last, held) = (None, None),
            }
            match (frontiers[0].frontier().first(), &mut last) {
                (Some(time), Some(last)) => last.downgrade(time),
                (None, Some(capability)) => {
                    if let (true, Some(end)) = (checked, ends.get()) {
                        counts.activate().session(capability).give((end, None));
                    }
                    last = None;
                }
                (_, None) => {}
            }
        }
    });
    (passed, counted)
}

/// Returns the sums of some commands, neighbours of one time together.
fn sums<O: ExchangeData>(
    digest: &mut Digest,
    commands: &[Timed<O>],
) -> Result<Vec<Counted>, Error> {
    let mut sums: Vec<Counted> = Vec::new();
    for (command, time) in commands {
        let one = digest.command(command, *time)?;
        match sums.last_mut() {
            Some((at, Some((rows, digest)))) if at == time => {
                *rows += 1;
                *digest = digest.wrapping_add(one.digest);
            }
            _ => sums.push((*time, Some((one.rows, one.digest)))),
        }
    }
    Ok(sums)
}

/// What the sink asks of the check, on worker 0.
#[derive(Clone, Debug, Default)]
pub(crate) struct Checked(Option<Rc<RefCell<Ledger>>>);

impl Checked {
    /// Returns the sums for an append of `[lower, upper)`, below the checked frontier.
    pub(crate) fn terms(&self, state: &State, lower: u64, upper: u64) -> Terms {
        let terms = |ledger: &Rc<RefCell<Ledger>>| ledger.borrow_mut().terms(state, lower, upper);
        self.0.as_ref().map(terms).unwrap_or_default()
    }

    /// Notes that an append of ours up to `upper` is in the shard.
    pub(crate) fn won(&self, upper: u64) {
        if let Some(ledger) = &self.0 {
            ledger.borrow_mut().won(upper);
        }
    }
}

/// Compares, on worker 0, what all workers have counted with what the shard was made from. A feed that
/// `stops` may end before it. Returns a stream without rows whose frontier is the checked one.
pub(crate) fn check<'scope>(
    counted: StreamVec<'scope, u64, Counted>,
    checked: bool,
    feed: Feed,
    stops: bool,
    resumes: Resumes,
    status: Status,
) -> (StreamVec<'scope, u64, ()>, Checked) {
    let scope = counted.scope();
    let mut builder = status.lifecycle().operator("UpsertCheck", scope);
    let to_first = pact::Exchange::new(|_: &Counted| 0);
    let mut input = builder.new_input_connection(counted, to_first, []);
    let (output, stream) = builder.new_output_connection([(0, Antichain::from_elem(0))]);
    // Never written: the stream is its frontier.
    let _ = OutputBuilder::<_, CapacityContainerBuilder<Vec<()>>>::from(output);
    let leads = scope.index() == 0;
    let shared = Checked(checked.then(|| Rc::new(RefCell::new(Ledger::new(stops)))));
    let ledger = shared.0.clone();

    builder.build(move |mut capabilities| {
        let mut capability = capabilities.pop().filter(|_| leads);
        let mut failed = false;
        move |frontiers: &[MutableAntichain<u64>]| {
            let Some(held) = &mut capability else { return input.for_each(|_, _| {}) };
            let closed = frontiers[0].frontier().first().copied();
            let outcome = match &ledger {
                Some(ledger) => {
                    let ledger = &mut *ledger.borrow_mut();
                    input.for_each(|_, counted| {
                        for (time, sum) in counted.drain(..) {
                            match sum {
                                Some((rows, digest)) => ledger.add(time, Sum { rows, digest }),
                                None => ledger.end(time),
                            }
                        }
                    });
                    let running = !failed && status.phase() == Phase::Running;
                    let state = status.state().filter(|_| running);
                    state.map(|state| compare(ledger, closed, &state, &feed, &resumes))
                }
                None => Some(Ok(closed.is_none())),
            };
            match outcome {
                Some(Err(error)) => {
                    failed = true;
                    status.fail(error);
                }
                Some(Ok(done)) => match closed {
                    Some(closed) => held.downgrade(&closed),
                    None if done => capability = None,
                    None => {}
                },
                // The failure holds; so does a stop, until all know of it.
                None => {}
            }
            if status.phase() == Phase::Released {
                capability = None;
            }
        }
    });
    (stream, shared)
}

/// Compares as far as the feed has come. Returns whether it has ended and is compared whole.
fn compare(
    ledger: &mut Ledger,
    closed: Option<u64>,
    state: &State,
    feed: &Feed,
    resumes: &Resumes,
) -> Result<bool, Error> {
    state.check_feed(feed)?;
    let resumes = if ledger.has_begun() { Vec::new() } else { resumes.get() };
    match closed {
        Some(closed) => {
            ledger.close(closed);
            ledger.look(state, &resumes)?;
            Ok(false)
        }
        None => ledger.finish(state, &resumes),
    }
}
