//! Owns how a worker's updates become durable parts: by time, early where a time is large. It
//! neither decides intervals nor commits; until the append, nothing refers to its parts.

use std::collections::BTreeMap;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::progress::Antichain;
use timely::progress::frontier::MutableAntichain;
use tokio::sync::mpsc;

use super::context::SinkContext;
use super::counts::{Dropped, Emitted};
use super::messages::{Announcement, Named, Response, TimeParts};
use crate::command::time::retain;
use crate::control::lifecycle::Phase;
use crate::control::waking::Waking;
use crate::error::Error;
use crate::health::Role;
use crate::shard::{Prepared, Update};
use crate::upsert::{flight_bytes, row_bytes};

/// What became of rows handed to a task: their time, their bytes in flight, their parts.
type Written = (u64, usize, Result<Vec<Prepared>, Error>);

/// Writes each worker's updates of an interval, and responds to worker 0.
pub(super) fn write<'scope>(
    named: StreamVec<'scope, u64, Named>,
    updates: StreamVec<'scope, u64, Update>,
    context: &SinkContext,
) -> StreamVec<'scope, u64, Response> {
    let (scope, context) = (updates.scope(), context.clone());
    let mut builder = context.status.lifecycle().operator("UpsertWrite", scope);
    let address = builder.operator_info().address;
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
        times: BTreeMap::new(),
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
            writer.shed();
            named.for_each(|message, named| {
                let capability = match retain(&message, 0) {
                    Ok(capability) => capability,
                    Err(error) => return writer.context.status.fail(error),
                };
                for Named { what, .. } in named.drain(..) {
                    match what {
                        // One append in flight: the one before has been answered.
                        Announcement::Interval { lower, upper } => {
                            writer.current = Some((capability.clone(), lower, upper));
                        }
                        Announcement::Write => writer.writes(),
                        Announcement::End => writer.context.status.set_ended(),
                    }
                }
            });

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
                    output.session(held).give(Response::Counted(writer.news()));
                    last = None;
                    writer.context.status.lifecycle().advance(Phase::Silent);
                }
            }
        }
    });
    stream
}

/// One time's rows on their way.
#[derive(Default)]
struct TimeRows {
    rows: Vec<Update>,
    bytes: usize,
    /// What they take until they are in a part.
    flight: usize,
    /// Pieces that tasks are writing.
    writing: usize,
    prepared: Vec<Prepared>,
    emitted: Emitted,
}

struct Writer {
    /// A standby leaves nothing in the store, not even a part.
    may_write: bool,
    context: SinkContext,
    times: BTreeMap<u64, TimeRows>,
    current: Option<(Capability<u64>, u64, u64)>,
    /// The counts told so far.
    told: Dropped,
    lost: u64,
    failed: bool,
    sender: Waking<mpsc::UnboundedSender<Written>>,
    receiver: mpsc::UnboundedReceiver<Written>,
}

impl Writer {
    /// Takes in a container of updates, all of one time.
    fn gather(&mut self, rows: Vec<Update>) {
        let Some((_, time, _)) = rows.first() else { return };
        let time = *time;
        debug_assert!(rows.iter().all(|row| row.1 == time), "one container, one time");
        let time_rows = self.times.entry(time).or_default();
        time_rows.emitted += Emitted::count(&rows);
        time_rows.bytes += rows.iter().map(|((k, v), _, _)| row_bytes(k, v)).sum::<usize>();
        time_rows.flight += rows.iter().map(|((k, v), _, _)| flight_bytes(k, v)).sum::<usize>();
        match time_rows.rows.is_empty() {
            true => time_rows.rows = rows,
            false => time_rows.rows.extend(rows),
        }
        let bytes = time_rows.bytes;
        if self.may_write && self.is_large(bytes) {
            self.start(time);
        }
    }

    /// Lets a standby write. What is large already goes at once, so that there is room again.
    fn writes(&mut self) {
        self.may_write = true;
        // Here and not where it is decided: each process of a cluster shows its role.
        self.context.status.set_role(Role::Writer);
        let large = self.times.iter().filter(|(_, time_rows)| self.is_large(time_rows.bytes));
        let large: Vec<u64> = large.map(|(time, _)| *time).collect();
        large.into_iter().for_each(|time| self.start(time));
    }

    /// Whether rows are written before their time is whole. If there is no room for more, they must be:
    /// the rest of their time waits for it.
    fn is_large(&self, bytes: usize) -> bool {
        bytes >= self.context.part_bytes_max || self.context.inflight.is_full()
    }

    /// Hands a time's rows to a task, which writes them.
    fn start(&mut self, time: u64) {
        let Some(time_rows) = self.times.get_mut(&time) else { return };
        if time_rows.rows.is_empty() {
            return;
        }
        time_rows.writing += 1;
        time_rows.bytes = 0;
        let (rows, flight) =
            (std::mem::take(&mut time_rows.rows), std::mem::take(&mut time_rows.flight));
        let (handle, sender) = (self.context.handle.clone(), self.sender.clone());
        self.context.status.vitals().start_part();
        // What is small is written here and now.
        self.context.io.answer_at_once(
            "the writing of a part",
            async move { handle.prepare(rows).await },
            // If the operator is gone, the parts are orphans.
            move |prepared| sender.send((time, flight, prepared)),
        );
    }

    /// Takes in what tasks have written.
    fn receive(&mut self) {
        while let Ok((time, flight, prepared)) = self.receiver.try_recv() {
            self.context.inflight.release(flight);
            self.context.status.vitals().end_part();
            match (prepared, self.times.get_mut(&time)) {
                (Ok(prepared), Some(time_rows)) => {
                    time_rows.writing -= 1;
                    time_rows.prepared.extend(prepared);
                }
                (Ok(prepared), None) => self.discard(prepared),
                (Err(error), _) => {
                    self.failed = true;
                    self.context.status.fail(error);
                }
            }
        }
    }

    /// Drops the times that the shard has passed. Nothing is lost: what we append is taken out of
    /// here first, so another writer committed these, and an interval of ours that covers one
    /// can only lose.
    fn shed(&mut self) {
        let upper = self.context.status.upper();
        while let Some(entry) = self.times.first_entry() {
            let kept = self.current.is_none() && crate::mutant::on("keep_lost_rows");
            if *entry.key() >= upper || kept {
                break;
            }
            let time_rows = entry.remove();
            self.lost += time_rows.emitted.total();
            self.context.inflight.release(time_rows.flight);
            self.discard(time_rows.prepared);
        }
    }

    fn discard(&self, prepared: Vec<Prepared>) {
        if !prepared.is_empty() {
            let handle = self.context.handle.clone();
            self.context.io.spawn(async move { handle.discard(prepared).await });
        }
    }

    /// Answers the current interval, once its updates have arrived and are written.
    fn respond(&mut self, frontier: &MutableAntichain<u64>) -> Option<(Capability<u64>, Response)> {
        let (_, lower, upper) = self.current.as_ref()?;
        let (lower, upper) = (*lower, *upper);
        if self.failed {
            let (capability, ..) = self.current.take()?;
            if crate::mutant::on("failed_part_is_empty") {
                let (times, dropped) = (Vec::new(), self.news());
                return Some((capability, Response::Written { lower, upper, times, dropped }));
            }
            return Some((capability, Response::Failed));
        }
        if frontier.less_than(&upper) {
            return None;
        }
        let closed: Vec<u64> = self.times.range(lower..upper).map(|(time, _)| *time).collect();
        closed.iter().for_each(|time| self.start(*time));
        self.receive();
        if closed.iter().any(|time| self.times[time].writing > 0) {
            return None;
        }
        let take = |time: u64| {
            let time_rows = self.times.remove(&time)?;
            Some(TimeParts { time, parts: time_rows.prepared, emitted: time_rows.emitted })
        };
        let times = closed.into_iter().filter_map(take).collect();
        let dropped = self.news();
        let (capability, lower, upper) = self.current.take()?;
        Some((capability, Response::Written { lower, upper, times, dropped }))
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
