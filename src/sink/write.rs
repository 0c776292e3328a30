//! Owns how a worker's updates become durable parts: by time, early where a time is large. It
//! neither decides intervals nor commits; until the append, nothing refers to its parts.

use std::collections::BTreeMap;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::progress::Antichain;
use timely::progress::frontier::MutableAntichain;
use timely::scheduling::SyncActivator;
use tokio::sync::mpsc;

use super::{Around, Dropped, Emitted, Named, Pile, Response, What};
use crate::command::time::retain;
use crate::control::lifecycle::Phase;
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
    around: &Around,
) -> StreamVec<'scope, u64, Response> {
    let (scope, around) = (updates.scope(), around.clone());
    let mut builder = around.status.lifecycle().operator("UpsertWrite", scope);
    let address = builder.operator_info().address;
    let exchange = Exchange::new(|named: &Named| named.worker);
    let mut named = builder.new_input_connection(named, exchange, []);
    let mut updates = builder.new_input_connection(updates, Pipeline, []);
    let by_interval = [(0, Antichain::from_elem(0))];
    let (output, stream) = builder.new_output_connection(by_interval);
    let mut output = OutputBuilder::<_, CapacityContainerBuilder<Vec<Response>>>::from(output);

    let (sender, receiver) = mpsc::unbounded_channel();
    let wake = scope.worker().sync_activator_for(address.to_vec());
    let mut writer = Writer {
        may_write: around.standby.is_none(),
        around,
        piles: BTreeMap::new(),
        current: None,
        told: Dropped::default(),
        lost: 0,
        failed: false,
        sender,
        receiver,
        wake,
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
                    Err(error) => return writer.around.status.fail(error),
                };
                for Named { what, .. } in named.drain(..) {
                    match what {
                        // One append in flight: the one before has been answered.
                        What::Interval { lower, upper } => {
                            writer.current = Some((capability.clone(), lower, upper));
                        }
                        What::Write => writer.writes(),
                        What::End => writer.around.status.set_ended(),
                    }
                }
            });

            let mut output = output.activate();
            let phase = writer.around.status.phase();
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
                    // Mint has let go: nobody will append any more, and what is not answered was
                    // given up.
                    writer.current = None;
                    output.session(held).give(Response::Counted(writer.news()));
                    last = None;
                    writer.around.status.lifecycle().advance(Phase::Silent);
                }
            }
        }
    });
    stream
}

/// One time's rows on their way.
#[derive(Default)]
struct Rows {
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
    around: Around,
    piles: BTreeMap<u64, Rows>,
    current: Option<(Capability<u64>, u64, u64)>,
    /// The counts told so far.
    told: Dropped,
    lost: u64,
    failed: bool,
    sender: mpsc::UnboundedSender<Written>,
    receiver: mpsc::UnboundedReceiver<Written>,
    wake: SyncActivator,
}

impl Writer {
    /// Takes in a container of updates, all of one time.
    fn gather(&mut self, rows: Vec<Update>) {
        let Some((_, time, _)) = rows.first() else { return };
        let time = *time;
        debug_assert!(rows.iter().all(|row| row.1 == time), "one container, one time");
        let pile = self.piles.entry(time).or_default();
        pile.emitted += Emitted::count(&rows);
        pile.bytes += rows.iter().map(|((k, v), _, _)| row_bytes(k, v)).sum::<usize>();
        pile.flight += rows.iter().map(|((k, v), _, _)| flight_bytes(k, v)).sum::<usize>();
        match pile.rows.is_empty() {
            true => pile.rows = rows,
            false => pile.rows.extend(rows),
        }
        let bytes = pile.bytes;
        if self.may_write && self.is_large(bytes) {
            self.start(time);
        }
    }

    /// Lets a standby write. What is large already goes at once, so that there is room again.
    fn writes(&mut self) {
        self.may_write = true;
        // Here and not where it is decided: each process of a cluster shows its role.
        self.around.status.set_role(Role::Writer);
        let large = self.piles.iter().filter(|(_, pile)| self.is_large(pile.bytes));
        let large: Vec<u64> = large.map(|(time, _)| *time).collect();
        large.into_iter().for_each(|time| self.start(time));
    }

    /// Whether rows are written before their time is whole. If there is no room for more, they must be:
    /// the rest of their time waits for it.
    fn is_large(&self, bytes: usize) -> bool {
        bytes >= self.around.part_bytes_max || self.around.inflight.is_full()
    }

    /// Hands a time's rows to a task, which writes them.
    fn start(&mut self, time: u64) {
        let Some(pile) = self.piles.get_mut(&time) else { return };
        if pile.rows.is_empty() {
            return;
        }
        pile.writing += 1;
        pile.bytes = 0;
        let (rows, flight) = (std::mem::take(&mut pile.rows), std::mem::take(&mut pile.flight));
        let (handle, sender) = (self.around.handle.clone(), self.sender.clone());
        let wake = self.wake.clone();
        self.around.status.vitals().start_part();
        self.around.io.spawn_answered(
            "the writing of a part",
            async move { handle.prepare(rows).await },
            move |prepared| {
                // An error of either means that the operator is gone, and the parts are orphans.
                let _ = sender.send((time, flight, prepared));
                let _ = wake.activate();
            },
        );
    }

    /// Takes in what tasks have written.
    fn receive(&mut self) {
        while let Ok((time, flight, prepared)) = self.receiver.try_recv() {
            self.around.inflight.release(flight);
            self.around.status.vitals().end_part();
            match (prepared, self.piles.get_mut(&time)) {
                (Ok(prepared), Some(pile)) => {
                    pile.writing -= 1;
                    pile.prepared.extend(prepared);
                }
                (Ok(prepared), None) => self.discard(prepared),
                (Err(error), _) => {
                    self.failed = true;
                    self.around.status.fail(error);
                }
            }
        }
    }

    /// Drops the times that the shard has passed. Nothing is lost: what we append is taken out of
    /// the piles first, so another writer committed these, and an interval of ours that covers one
    /// can only lose.
    fn shed(&mut self) {
        let upper = self.around.status.upper();
        while let Some(entry) = self.piles.first_entry() {
            if *entry.key() >= upper {
                break;
            }
            let pile = entry.remove();
            self.lost += pile.emitted.total();
            self.around.inflight.release(pile.flight);
            self.discard(pile.prepared);
        }
    }

    fn discard(&self, prepared: Vec<Prepared>) {
        if !prepared.is_empty() {
            let handle = self.around.handle.clone();
            self.around.io.spawn(async move { handle.discard(prepared).await });
        }
    }

    /// Answers the current interval, once its updates have arrived and are written.
    fn respond(&mut self, frontier: &MutableAntichain<u64>) -> Option<(Capability<u64>, Response)> {
        let (_, lower, upper) = self.current.as_ref()?;
        let (lower, upper) = (*lower, *upper);
        if self.failed {
            let (capability, ..) = self.current.take()?;
            return Some((capability, Response::Failed));
        }
        if frontier.less_than(&upper) {
            return None;
        }
        let times: Vec<u64> = self.piles.range(lower..upper).map(|(time, _)| *time).collect();
        times.iter().for_each(|time| self.start(*time));
        if times.iter().any(|time| self.piles[time].writing > 0) {
            return None;
        }
        let take = |time: u64| {
            let pile = self.piles.remove(&time)?;
            Some(Pile { time, parts: pile.prepared, emitted: pile.emitted })
        };
        let piles = times.into_iter().filter_map(take).collect();
        let dropped = self.news();
        let (capability, lower, upper) = self.current.take()?;
        Some((capability, Response::Written { lower, upper, piles, dropped }))
    }

    /// Returns the counts that worker 0 has not been told.
    fn news(&mut self) -> Dropped {
        let stats = &self.around.stats;
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
