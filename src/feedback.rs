//! Owns the way back: a shard read as a collection, first its contents, then every later commit. It
//! does not own what is read, nor who reads it.
//!
//! # Operators
//!
//! ```text
//!   [ shard ] --log--> follower (task) --channel--> Feedback ----> rows, exchanged by key
//!                                                      '---------> known upper (shared cell)
//! ```
//!
//! Each worker has a follower, which reads the parts that fall to it. The parts of a commit are
//! dealt out by number, the same on every process.
//!
//! # Frontiers
//!
//! * rows, `p`: every row below it has been sent. It follows the log, whoever wrote the commit.
//! * known: the upper of the log, which is ahead of `p` while rows are still on their way.
//!
//! # Limits
//!
//! Parts in flight per worker: [`PARTS_AHEAD`]. A commit of this process is seen at once, another
//! process's within the poll interval.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use differential_dataflow::consolidation::consolidate_updates;
use differential_dataflow::{AsCollection, VecCollection};
use futures::StreamExt;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::Scope;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::scheduling::SyncActivator;
use tokio::sync::{Notify, mpsc};

use crate::error::Error;
use crate::health::{Status, Vitals, fenced};
use crate::io::Io;
use crate::packed::Encoded;
use crate::shard::{Batch, Handle, Update};
use crate::token::Phase;
use crate::upsert::Known;

/// Parts that are fetched or wait for the worker at a time.
const PARTS_AHEAD: usize = 4;

/// Rows of the first contents that are consolidated together.
const WINDOW_ROWS: usize = 1 << 17;

/// When a follower looks for another process's commits.
pub(crate) struct Poll {
    /// At the latest.
    pub(crate) interval: Duration,
    /// At once.
    pub(crate) news: Arc<Notify>,
}

enum Message {
    /// The log's upper.
    Known(u64),
    /// Rows of the shard.
    Rows(Vec<Update>),
    /// All rows below this time have been sent.
    Complete(u64),
    /// The shard cannot be read any further.
    Failed(Error),
}

/// Reads a shard as a collection, from its contents as of `upper - 1` on.
pub(crate) fn feedback<'scope>(
    scope: Scope<'scope, u64>,
    handle: Handle,
    io: &Io,
    poll: Poll,
    known: Known<u64>,
    status: Status,
) -> VecCollection<'scope, u64, (Encoded, Encoded), isize> {
    let mut builder = OperatorBuilder::new("UpsertFeedback".into(), scope);
    let address = builder.operator_info().address;
    let activator = scope.activator_for(Rc::clone(&address));
    status.wake(activator.clone());
    let (output, stream) = builder.new_output();
    let mut output = OutputBuilder::<_, CapacityContainerBuilder<Vec<Update>>>::from(output);

    let (sender, mut receiver) = mpsc::channel(PARTS_AHEAD);
    let follower = Follower {
        handle,
        epoch: status.epoch(),
        poll,
        worker: scope.index(),
        peers: scope.peers(),
        outlet: Outlet { sender, wake: scope.worker().sync_activator_for(address.to_vec()) },
        vitals: Arc::clone(status.vitals()),
    };
    let vitals = Arc::clone(status.vitals());
    io.spawn_answered("the reader of the shard", follower.run(), move |outcome| {
        // What it has found itself it has sent; what it could not say is said here.
        if let Err(error) = outcome {
            vitals.fail(error);
        }
    });

    builder.build(move |mut capabilities| {
        let mut capability = capabilities.pop();
        // Where the collection ends, once the pipeline has ended.
        let mut end = None;
        move |_| {
            let released = status.phase() == Phase::Released;
            if released && status.has_ended() {
                // Everything is committed, and maybe not yet read: until it is, the collection has
                // not ended, or its reader would take a part for the whole.
                end.get_or_insert_with(|| status.upper());
            }
            let whole = |time: u64| end.is_none_or(|end| end <= time);
            let stopped = released && (end.is_none() || status.lifecycle().is_dropped());
            if stopped || capability.as_ref().is_some_and(|held| released && whole(*held.time())) {
                // The follower ends with the channel.
                capability = None;
                receiver.close();
            }
            let Some(held) = &mut capability else { return };
            // No more than what the channel held, so that other operators have their turn.
            for _ in 0..PARTS_AHEAD {
                match receiver.try_recv() {
                    Ok(Message::Known(upper)) => {
                        known.advance(upper);
                        status.wake_all();
                    }
                    Ok(Message::Rows(mut rows)) => {
                        output.activate().session(held).give_container(&mut rows);
                    }
                    Ok(Message::Complete(upper)) => {
                        held.downgrade(&upper);
                        status.set_read_to(upper);
                        if end.is_some() {
                            // It may be whole now.
                            break;
                        }
                    }
                    Ok(Message::Failed(error)) => status.fail(error),
                    Err(_) => return,
                }
            }
            activator.activate();
        }
    });
    stream.as_collection()
}

/// Where a follower puts what it reads.
struct Outlet {
    sender: mpsc::Sender<Message>,
    wake: SyncActivator,
}

impl Outlet {
    /// Sends, and wakes the operator. Returns false when it is gone.
    async fn send(&self, message: Message) -> bool {
        let sent = self.sender.send(message).await.is_ok();
        // An error means that the worker is gone, which the next send reports.
        let _ = self.wake.activate();
        sent
    }
}

struct Follower {
    handle: Handle,
    epoch: u64,
    poll: Poll,
    worker: usize,
    peers: usize,
    outlet: Outlet,
    vitals: Arc<Vitals>,
}

impl Follower {
    async fn run(self) -> Result<(), Error> {
        if let Err(error) = self.follow().await {
            self.outlet.send(Message::Failed(error)).await;
        }
        Ok(())
    }

    /// Sends what is in the shard and what comes, until the operator is gone.
    async fn follow(&self) -> Result<(), Error> {
        // The contents first, forwarded to the time before the upper.
        let mut upper = self.handle.state().upper;
        let mut as_of = upper.saturating_sub(1);
        let mut from = 0;
        loop {
            let state = self.handle.state();
            if state.epoch != self.epoch {
                // Not one row or time of another epoch: they say nothing about our feed.
                return Err(fenced(state.epoch));
            }
            let first = state.batches.partition_point(|batch| batch.lower < from);
            let batches = state.batches[first..].to_vec();
            upper = upper.max(state.upper);
            drop(state);
            if !self.outlet.send(Message::Known(upper)).await {
                return Ok(());
            }
            if !self.send_batches(&batches, from, as_of).await? {
                return Ok(());
            }
            if !self.outlet.send(Message::Complete(upper)).await {
                return Ok(());
            }
            (from, as_of) = (upper, 0);
            loop {
                // Before the look, so that no change falls between the two.
                let change = self.handle.next_change();
                let state = self.handle.state();
                if state.upper != from || state.epoch != self.epoch {
                    break;
                }
                drop(state);
                tokio::select! {
                    biased;
                    () = self.outlet.sender.closed() => return Ok(()),
                    () = change => {}
                    () = self.poll.news.notified() => {
                        self.handle.refresh().await?;
                    }
                    () = tokio::time::sleep(self.poll.interval) => {
                        self.handle.refresh().await?;
                    }
                }
            }
        }
    }

    /// Sends this worker's parts of some batches, each time at least `as_of`.
    async fn send_batches(
        &self,
        batches: &[Arc<Batch>],
        from: u64,
        as_of: u64,
    ) -> Result<bool, Error> {
        let mut fetches = Vec::new();
        for batch in batches {
            for number in 0..batch.parts.len() {
                if (batch.seqno as usize + number) % self.peers == self.worker {
                    let (handle, batch) = (self.handle.clone(), Arc::clone(batch));
                    fetches.push(async move {
                        let lower = batch.lower.max(from);
                        handle.fetch(&batch.parts[number], lower, batch.upper).await
                    });
                }
            }
        }
        self.vitals.found_parts(fetches.len());
        let mut fetched = futures::stream::iter(fetches).buffered(PARTS_AHEAD);
        let mut window = Vec::new();
        while let Some(rows) = fetched.next().await {
            let mut rows = rows?;
            self.vitals.read_part();
            if as_of == 0 {
                if !rows.is_empty() && !self.outlet.send(Message::Rows(rows)).await {
                    return Ok(false);
                }
                continue;
            }
            // History at one time mostly cancels. A window bounds what it pins in memory.
            rows.iter_mut().for_each(|(_, time, _)| *time = (*time).max(as_of));
            window.append(&mut rows);
            if window.len() >= WINDOW_ROWS && !self.send_window(&mut window).await {
                return Ok(false);
            }
        }
        Ok(self.send_window(&mut window).await)
    }

    async fn send_window(&self, window: &mut Vec<Update>) -> bool {
        consolidate_updates(window);
        window.is_empty() || self.outlet.send(Message::Rows(std::mem::take(window))).await
    }
}
