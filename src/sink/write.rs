//! Owns how a worker's updates become durable parts: all that an interval has of them together, and early
//! what is large of one time. It neither decides intervals nor commits; until the append, nothing refers to
//! its parts.
//!
//! A part that is written early is of one time, so that no interval cuts it in two.

use std::rc::Rc;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::progress::Antichain;
use timely::progress::frontier::MutableAntichain;
use tokio::sync::mpsc;

use super::context::SinkContext;
use super::counts::Dropped;
use super::messages::{Announcement, Named, Response, Written};
use super::read_back::ReadBack;
use super::waiting::{TimeRows, Waiting};
use super::whole::all_or_nothing;
use crate::command::time::retain;
use crate::control::lifecycle::Phase;
use crate::control::waking::Waking;
use crate::error::Error;
use crate::health::Role;
use crate::shard::{Prepared, Update};

/// Rows handed to a task, and what became of them.
struct Answer {
    of: Whose,
    /// Their bytes in flight.
    flight: usize,
    prepared: Result<Vec<Prepared>, Error>,
}

/// What rows handed to a task are.
#[derive(Clone, Copy)]
enum Whose {
    /// Some of one time.
    Time(u64),
    /// All that the current interval still had, up to their greatest time.
    Interval(u64),
}

/// Writes each worker's updates of an interval, and responds to worker 0.
pub(super) fn write<'scope>(
    named: StreamVec<'scope, u64, Named>,
    updates: StreamVec<'scope, u64, Update>,
    context: &SinkContext,
) -> StreamVec<'scope, u64, Response> {
    let (scope, context) = (updates.scope(), context.clone());
    let mut builder = context.status.lifecycle().operator("UpsertWrite", scope);
    let address = builder.operator_info().address;
    let wakes = scope.worker().sync_activator_for(address.to_vec());
    let mut read_back = ReadBack::new(&context, scope.activator_for(Rc::clone(&address)), wakes);
    let exchange = pact::Exchange::new(|named: &Named| named.worker);
    let mut named = builder.new_input_connection(named, exchange, []);
    let mut updates = builder.new_input_connection(updates, pact::Pipeline, []);
    let by_interval = [(0, Antichain::from_elem(0))];
    let (output, stream) = builder.new_output_connection(by_interval);
    let mut output = OutputBuilder::<_, CapacityContainerBuilder<Vec<Response>>>::from(output);

    let (sender, receiver) = mpsc::unbounded_channel();
    let sender = Waking::new(sender, scope.worker().sync_activator_for(address.to_vec()));
    let mut writer = Writer {
        may_write: context.standby.is_none(),
        context,
        waiting: Waiting::default(),
        current: None,
        told: Dropped::default(),
        lost: 0,
        failed: false,
        sender,
        receiver,
    };

    builder.build(move |mut capabilities| {
        // Kept to the end, for the last counts.
        let mut last = capabilities.pop();
        let mut told_to_stop = false;
        move |frontiers: &[MutableAntichain<u64>]| {
            writer.receive();
            updates.for_each(|_, rows| writer.gather(std::mem::take(rows)));
            named.for_each(|message, named| {
                let capability = match retain(&message, 0) {
                    Ok(capability) => capability,
                    Err(error) => return writer.context.status.fail(error),
                };
                for Named { what, .. } in named.drain(..) {
                    match what {
                        // One append in flight: the one before has been answered.
                        Announcement::Interval { lower, upper } => {
                            let capability = capability.clone();
                            writer.current =
                                Some(Current { capability, lower, upper, rest: Rest::Waits });
                        }
                        Announcement::Write => writer.writes(),
                        Announcement::End => writer.context.status.set_ended(),
                    }
                }
            });

            writer.shed();

            let mut output = output.activate();
            let phase = writer.context.status.phase();
            // What a stop finds unanswered is not appended: its rows come again in the next run.
            if phase == Phase::Running
                && let Some((capability, response)) = writer.respond(&frontiers[1])
            {
                output.session(&capability).give(response);
            }
            if let Some(held) = &mut last {
                if let Some(time) = frontiers[0].frontier().first() {
                    held.downgrade(time);
                }
                if phase == Phase::Stopping && !told_to_stop {
                    told_to_stop = true;
                    output.session(held).give(Response::Stopping);
                }
                if frontiers[0].is_empty() {
                    // Mint has let go: no append will come, and what is not answered was given up.
                    writer.current = None;
                    if read_back.is_over() {
                        output.session(held).give(Response::Counted(writer.news()));
                        last = None;
                        writer.context.status.lifecycle().advance(Phase::Silent);
                    }
                }
            }
        }
    });
    stream
}

/// The interval to be answered.
struct Current {
    capability: Capability<u64>,
    lower: u64,
    upper: u64,
    rest: Rest,
}

/// The rows of an interval that were not written early.
enum Rest {
    /// Not all of the interval is here yet.
    Waits,
    /// A task writes them.
    Written,
    /// The parts, each with the greatest time in it.
    Is(Vec<(u64, Prepared)>),
}

impl Rest {
    fn is_written(&self) -> bool {
        matches!(self, Rest::Is(_))
    }

    fn parts(self) -> Vec<(u64, Prepared)> {
        match self {
            Rest::Is(parts) => parts,
            Rest::Waits | Rest::Written => Vec::new(),
        }
    }
}

struct Writer {
    /// A standby leaves nothing in the store, not even a part.
    may_write: bool,
    context: SinkContext,
    waiting: Waiting,
    current: Option<Current>,
    /// The counts told so far.
    told: Dropped,
    lost: u64,
    failed: bool,
    sender: Waking<mpsc::UnboundedSender<Answer>>,
    receiver: mpsc::UnboundedReceiver<Answer>,
}

impl Writer {
    /// Takes in a container of updates, in order of time.
    fn gather(&mut self, rows: Vec<Update>) {
        debug_assert!(rows.is_sorted_by_key(|row| row.1), "a container in order of time");
        let Some((_, first, _)) = rows.first() else { return };
        let first = *first;
        self.waiting.push(rows);
        self.start_large(first);
    }

    /// Lets a standby write. What is large already goes at once, so that there is room again.
    fn writes(&mut self) {
        self.may_write = true;
        // Here and not where it is decided: each process of a cluster shows its role.
        self.context.status.set_role(Role::Writer);
        self.start_large(0);
    }

    /// Writes early what is large from a time on. Where there is no room for more, that is the greatest time too:
    /// the rest of it waits for room. Those before it are whole, and go with the next interval.
    fn start_large(&mut self, from: u64) {
        if !self.may_write {
            return;
        }
        let large = |time: &&TimeRows| time.bytes >= self.context.part_bytes_max;
        let all_large = self.waiting.times(from..u64::MAX).filter(large);
        let mut early: Vec<u64> = all_large.map(|time| time.time).collect();
        if self.context.inflight.is_full() {
            early.extend(self.waiting.last().filter(|time| !large(time)).map(|time| time.time));
        }
        for time in early {
            let Some(time_rows) = self.waiting.time_mut(time).filter(|here| here.rows > 0) else {
                continue;
            };
            time_rows.writing += 1;
            let (rows, flight) = self.waiting.take(time..time + 1);
            self.start(Whose::Time(time), rows, flight);
        }
    }

    /// Hands rows to a task, which writes them.
    fn start(&self, of: Whose, rows: Vec<Update>, flight: usize) {
        let (handle, sender) = (self.context.handle.clone(), self.sender.clone());
        self.context.status.vitals().start_part();
        // What is small is written here and now.
        self.context.io.answer_at_once(
            "the writing of a part",
            async move { handle.prepare(rows).await },
            // If the operator is gone, the parts are orphans.
            move |prepared| sender.send(Answer { of, flight, prepared }),
        );
    }

    /// Takes in what tasks have written.
    fn receive(&mut self) {
        while let Ok(Answer { of, flight, prepared }) = self.receiver.try_recv() {
            self.context.inflight.release(flight);
            self.context.status.vitals().end_part();
            match prepared {
                Ok(prepared) => self.keep(of, prepared),
                Err(error) => {
                    self.failed = true;
                    self.context.status.fail(match (of, &self.current) {
                        (Whose::Interval(_), Some(Current { lower, upper, .. })) => {
                            all_or_nothing(error, *lower, *upper)
                        }
                        (Whose::Time(time), _) => match self.waiting.first() {
                            Some(first) => all_or_nothing(error, first, time + 1),
                            None => error,
                        },
                        (Whose::Interval(_), None) => error,
                    });
                }
            }
        }
    }

    fn keep(&mut self, of: Whose, prepared: Vec<Prepared>) {
        match (of, &mut self.current) {
            (Whose::Time(time), _) => match self.waiting.time_mut(time) {
                Some(time_rows) => {
                    time_rows.writing -= 1;
                    time_rows.prepared.extend(prepared);
                }
                None => self.discard(prepared),
            },
            (Whose::Interval(last), Some(current)) => {
                current.rest = Rest::Is(prepared.into_iter().map(|part| (last, part)).collect());
            }
            (Whose::Interval(_), None) => self.discard(prepared),
        }
    }

    /// Drops the times that the shard has passed. Nothing is lost: what we append is taken out of
    /// here first, so another writer committed these, and an interval of ours that covers one
    /// can only lose.
    fn shed(&mut self) {
        // Worker 0 may know of another's commit that this process has not read: no interval begins below it.
        let named = self.current.as_ref().map_or(0, |current| current.lower);
        let lower = if crate::mutant::on("shed_by_own_log") { 0 } else { named };
        let upper = self.context.status.upper().max(lower);
        if self.current.is_none() && crate::mutant::on("keep_lost_rows") {
            return;
        }
        let mut parts = Vec::new();
        for time in self.waiting.remove_before(upper) {
            self.lost += time.emitted.total();
            self.context.inflight.release(time.flight);
            parts.extend(time.prepared);
        }
        self.discard(parts);
    }

    fn discard(&self, prepared: Vec<Prepared>) {
        if !prepared.is_empty() {
            let handle = self.context.handle.clone();
            self.context.io.spawn(async move { handle.discard(prepared).await });
        }
    }

    /// Answers the current interval, once its updates have arrived and are written.
    fn respond(&mut self, frontier: &MutableAntichain<u64>) -> Option<(Capability<u64>, Response)> {
        let Current { lower, upper, rest, .. } = self.current.as_mut()?;
        let (lower, upper) = (*lower, *upper);
        if self.failed {
            let capability = self.current.take()?.capability;
            if crate::mutant::on("failed_part_is_empty") {
                let (written, dropped) = (Default::default(), self.news());
                return Some((capability, Response::Written { lower, upper, written, dropped }));
            }
            return Some((capability, Response::Failed));
        }
        if frontier.less_than(&upper) {
            return None;
        }
        if let Rest::Waits = rest {
            let (rows, flight) = self.waiting.take(lower..upper);
            let last = rows.last().map_or(lower, |row| row.1);
            *rest = if rows.is_empty() { Rest::Is(Vec::new()) } else { Rest::Written };
            if !rows.is_empty() {
                self.start(Whose::Interval(last), rows, flight);
                self.receive();
            }
        }
        if self.waiting.times(lower..upper).any(|time| time.writing > 0) {
            return None;
        }
        let Current { capability, rest, .. } = self.current.take_if(|c| c.rest.is_written())?;
        let times = self.waiting.remove_before(upper);
        let mut written = Written { parts: rest.parts(), emitted: Vec::with_capacity(times.len()) };
        for TimeRows { time, emitted, prepared, .. } in times {
            written.emitted.push((time, emitted));
            written.parts.extend(prepared.into_iter().map(|part| (time, part)));
        }
        let dropped = self.news();
        Some((capability, Response::Written { lower, upper, written, dropped }))
    }

    /// Returns the counts that worker 0 has not been told.
    fn news(&mut self) -> Dropped {
        let stats = &self.context.stats;
        let now = Dropped {
            below: stats.below(),
            superseded: stats.superseded(),
            unchanged: stats.unchanged(),
            lost: self.lost,
        };
        let told = std::mem::replace(&mut self.told, now);
        Dropped {
            below: now.below - told.below,
            superseded: now.superseded - told.superseded,
            unchanged: now.unchanged - told.unchanged,
            lost: now.lost - told.lost,
        }
    }
}
