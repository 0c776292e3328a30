//! Owns the operator that runs a source on worker 0: rows in, commands with their times out, and
//! the frontier that the source has closed. It does not own what a feed looks like.

use std::rc::Rc;

use differential_dataflow::ExchangeData;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::{Scope, StreamVec};
use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};

use super::end::Ends;
use super::timed::{Event, Outlet, TimedSource};
use crate::command::Command;
use crate::command::time::after;
use crate::control::lifecycle::Phase;
use crate::control::waking::Waking;
use crate::error::{Error, ErrorKind};
use crate::health::Status;
use crate::io::Io;
use crate::upsert::UpsertStats;

/// Batches of rows between source and operator.
const EVENTS_AHEAD: usize = 4;

/// Runs a source. It is held back while `ahead_bytes_max` of commands wait for a commit.
pub(crate) fn source<'scope, S: TimedSource>(
    scope: Scope<'scope, u64>,
    source: impl FnOnce() -> Option<S>,
    io: &Io,
    ends: Ends,
    status: Status,
    stats: UpsertStats,
    ahead_bytes_max: usize,
) -> StreamVec<'scope, u64, (Command<S::Key, S::Value, S::Order>, u64)>
where
    S::Key: ExchangeData,
    S::Value: ExchangeData,
    S::Order: ExchangeData,
{
    let mut builder = status.lifecycle().operator("UpsertSource", scope);
    let address = builder.operator_info().address;
    let activator = scope.activator_for(Rc::clone(&address));
    let (output, stream) = builder.new_output();
    let mut output = OutputBuilder::<_, CapacityContainerBuilder<Vec<_>>>::from(output);
    let leads = scope.index() == 0;
    let (sender, mut receiver) = mpsc::channel(EVENTS_AHEAD);
    let (ended, mut end) = oneshot::channel();
    if let Some(source) = leads.then(source).flatten() {
        if let Some(counts) = source.counts() {
            status.source().set_feed(counts);
        }
        let operator = scope.worker().sync_activator_for(address.to_vec());
        let outlet = Outlet(Waking::new(sender, operator.clone()));
        // Tells that the source is over, also when it panics or its task is dropped.
        let ended = Waking::new(ended, operator);
        io.spawn(async move { ended.send(source.run(outlet).await) });
    }

    builder.build(move |mut capabilities| {
        let mut capability = capabilities.pop().filter(|_| leads);
        let (mut closed, mut ends_at) = (0, None);
        move |_| {
            if status.phase() == Phase::Released {
                capability = None;
                receiver.close();
            }
            let Some(held) = &mut capability else { return };
            if status.phase() != Phase::Running || status.has_failed() {
                // It is told to stop, or something else has failed: read nothing more, hold.
                receiver.close();
                if crate::mutant::on("release_on_failure") {
                    capability = None;
                }
                return;
            }
            for _ in 0..EVENTS_AHEAD {
                // Holding back is safe only while a closed time waits for its commit, which frees
                // bytes. An open time can be closed by the source alone.
                if stats.stash_bytes() >= ahead_bytes_max && closed > status.upper() {
                    return;
                }
                match receiver.try_recv() {
                    Ok(Event::Rows(mut rows)) => {
                        let greatest = rows.iter().map(|(_, time)| *time).max();
                        if let Err(error) = greatest.map_or(Ok(0), after) {
                            // It holds from the next wake-up on, with what it has closed.
                            return status.fail_source(error);
                        }
                        output.activate().session(held).give_container(&mut rows);
                    }
                    Ok(Event::Closed(time)) => {
                        closed = closed.max(time);
                        held.downgrade(&closed);
                        status.set_input(closed);
                    }
                    Err(mpsc::error::TryRecvError::Empty) => return,
                    Err(mpsc::error::TryRecvError::Disconnected) => {
                        // All rows are in. Only now does the outcome count.
                        match end.try_recv() {
                            Ok(Ok(time)) => ends_at = Some(time),
                            Ok(Err(error)) => status.fail_source(error),
                            Err(TryRecvError::Closed)
                                if ends_at.is_none() && !crate::mutant::on("silent_source") =>
                            {
                                status.fail_source(gone());
                            }
                            Err(_) => {}
                        }
                        let Some(time) = ends_at else { return };
                        // The end holds its first unwritten time until the shard has reached it.
                        closed = closed.max(time);
                        held.downgrade(&closed);
                        status.set_input(closed);
                        ends.at(closed);
                        if status.upper() >= closed {
                            capability = None;
                        }
                        return;
                    }
                }
            }
            activator.activate();
        }
    });
    stream
}

/// The error of a source that is over and has said neither `Ok` nor `Err`.
fn gone() -> Error {
    Error::new(ErrorKind::Unavailable, "the source panicked, or its task was dropped")
        .hint("start again; what it had closed is committed")
}
