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
//! Each worker has a follower, which sends the rows of its worker's keys: those that the exchange
//! brings to this worker anyway.
//!
//! # Dealing
//!
//! Followers look at the shard at different moments, and so at different states: one before a
//! compaction, the next after it. Whatever deals parts or batches out would lose rows or double
//! them. A key is the one thing that no compaction changes. Every state holds the same collection at
//! every time that it tells apart, so each follower sends exactly its keys' share of that, whichever
//! states it has read; together the shares are the collection. The price is that every follower reads
//! every part; inside a process the cache hands it on.
//!
//! A step sends the times `[from, upper)` of one state, and no step begins before the one before it
//! is whole. A state may be used for it if no batch that reaches beyond `from` was forwarded to
//! `from` or later. The lease sees to that, and to the parts being there until the step is done.
//!
//! # Frontiers
//!
//! * rows, `p`: every row below it has been sent. It follows the log, whoever wrote the commit.
//! * known: the upper of the log, which is ahead of `p` while rows are still on their way.
//!
//! # Limits
//!
//! Parts in flight per worker: [`PARTS_AHEAD`], and bytes of parts, from the moment they are asked for
//! until the worker has taken their rows:
//! [`read_bytes_max`](crate::shard::HandleConfig::read_bytes_max). A commit of this process is seen at once, another
//! process's within the poll interval. Workers that start while others write may begin at different
//! times; until the latest of these the collection is not whole.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use differential_dataflow::consolidation::consolidate_updates;
use differential_dataflow::{AsCollection, Hashable, VecCollection};
use futures::StreamExt;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::Scope;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::scheduling::SyncActivator;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::codec::is_error;
use crate::codec::packed::Encoded;
use crate::control::epoch::Epoch;
use crate::control::lifecycle::{GRACE, Phase};
use crate::error::{Error, ErrorKind};
use crate::health::{Status, Vitals};
use crate::io::Io;
use crate::shard::{
    Batch, Handle, Hold, Reading, Room, State, Token as LeaseName, Update, Window, fenced,
};
use crate::upsert::Known;

/// Parts that are fetched or wait for the worker at a time.
const PARTS_AHEAD: usize = 4;

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
    /// Rows of the shard, and the room of their parts.
    Rows(Vec<Update>, Vec<Room>),
    /// The shard is sealed, and all of it was sent.
    Sealed,
    /// All rows below this time have been sent.
    Complete(u64),
    /// The shard cannot be read any further.
    Failed(Error),
}

impl Message {
    fn is_empty(&self) -> bool {
        matches!(self, Message::Rows(rows, _) if rows.is_empty())
    }
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
    let mut builder = status.lifecycle().operator("UpsertFeedback", scope);
    let address = builder.operator_info().address;
    let activator = scope.activator_for(Rc::clone(&address));
    let (output, stream) = builder.new_output();
    let mut output = OutputBuilder::<_, CapacityContainerBuilder<Vec<Update>>>::from(output);

    let (sender, mut receiver) = mpsc::channel(PARTS_AHEAD);
    let (finished, mut finish) = oneshot::channel();
    // Cancelled when the operator is gone, or waits for nothing more than this reader.
    let leave = CancellationToken::new();
    let follower = Follower {
        window: handle.window(),
        handle,
        epoch: status.epoch().clone(),
        poll,
        worker: scope.index() as u64,
        peers: scope.peers() as u64,
        outlet: Outlet { sender, wake: scope.worker().sync_activator_for(address.to_vec()) },
        vitals: Arc::clone(status.vitals()),
        leave: leave.clone(),
        finished,
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
        let leave = leave.drop_guard();
        let mut leave = Some(leave);
        move |_| {
            let released = status.phase() == Phase::Released;
            if released && status.has_ended() {
                // Everything is committed, and maybe not yet read: until it is, the collection has
                // not ended, or its reader would take a part for the whole.
                end.get_or_insert_with(|| status.upper());
            }
            let whole = |time: u64| end.is_none_or(|end| end <= time);
            let stopped = released && (end.is_none() || status.lifecycle().is_dropped());
            let is_whole = capability.as_ref().is_some_and(|held| released && whole(*held.time()));
            if stopped || is_whole {
                // The follower ends with the channel, and gives its hold back before it does.
                leave = leave.take().filter(|_| !stopped);
                receiver.close();
                if !matches!(finish.try_recv(), Err(oneshot::error::TryRecvError::Empty)) {
                    capability = None;
                }
                return;
            }
            let Some(held) = &mut capability else { return };
            // No more than what the channel held, so that other operators have their turn.
            for _ in 0..PARTS_AHEAD {
                match receiver.try_recv() {
                    Ok(Message::Known(upper)) => {
                        known.advance(upper);
                        status.wake_all();
                    }
                    Ok(Message::Rows(mut rows, _room)) => {
                        let errors =
                            rows.iter().filter(|((_, value), ..)| is_error(value.as_bytes()));
                        let more: isize = errors.map(|(.., diff)| diff).sum();
                        if more != 0 {
                            status.vitals().add_error_keys(more as i64);
                        }
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
                    Ok(Message::Sealed) => status.wake_all(),
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

/// A state that may be read, and the lease that keeps it so.
type Readable = (Arc<State>, Option<LeaseName>);

struct Follower {
    handle: Handle,
    epoch: Epoch,
    poll: Poll,
    worker: u64,
    peers: u64,
    outlet: Outlet,
    vitals: Arc<Vitals>,
    window: Window,
    /// From then on there is time for a quick answer only.
    leave: CancellationToken,
    /// Dropped last.
    finished: oneshot::Sender<()>,
}

impl Follower {
    async fn run(self) -> Result<(), Error> {
        let (handle, mut hold) = (self.handle.clone(), None);
        // Every await in there races the stop.
        let followed = tokio::select! {
            biased;
            () = self.outlet.sender.closed() => Ok(()),
            followed = self.follow(&mut hold) => followed,
            never = handle.attend() => match never {},
        };
        if let Err(error) = followed {
            self.outlet.send(Message::Failed(error)).await;
        }
        if let Some(hold) = hold {
            let over = async {
                self.leave.cancelled().await;
                tokio::time::sleep(GRACE).await;
            };
            tokio::select! {
                biased;
                () = handle.release(hold) => {}
                // It runs out by itself.
                () = over => {}
            }
        }
        drop(self.finished);
        let _ = self.outlet.wake.activate();
        Ok(())
    }

    /// Sends what is in the shard and what comes, until the operator is gone.
    async fn follow(&self, held: &mut Option<Hold>) -> Result<(), Error> {
        let mut upper = self.ours()?.upper;
        // The contents first, forwarded to the time before the upper.
        let mut as_of = upper.saturating_sub(1);
        let mut from = 0;
        let mut sealed = false;
        if upper == 0 {
            // No history, and nothing to hold: our own first append will say it by the way.
            *held = Some(self.handle.enlist(as_of));
        } else {
            let hold = self.handle.hold(as_of).await?;
            as_of = held.insert(hold).since();
        }
        loop {
            let Some((state, lease)) = self.readable(from).await? else { return Ok(()) };
            let first = state.batches.partition_point(|batch| batch.upper <= from);
            let batches = state.batches[first..].to_vec();
            upper = upper.max(state.upper);
            drop(state);
            if !self.outlet.send(Message::Known(upper)).await {
                return Ok(());
            }
            if !self.send_batches(&batches, from, as_of, lease).await? {
                return Ok(());
            }
            if !self.outlet.send(Message::Complete(upper)).await {
                return Ok(());
            }
            (from, as_of) = (upper, 0);
            if let Some(held) = held {
                self.handle.advance(held, from.saturating_sub(1));
            }
            loop {
                // Before the look, so that no change falls between the two.
                let change = self.handle.next_change();
                let state = self.handle.state();
                if state.upper != from || !self.epoch.admits(state.epoch) {
                    break;
                }
                if state.sealed_at.is_some() && !std::mem::replace(&mut sealed, true) {
                    drop(state);
                    if !self.outlet.send(Message::Sealed).await {
                        return Ok(());
                    }
                    continue;
                }
                drop(state);
                tokio::select! {
                    biased;
                    () = self.outlet.sender.closed() => return Ok(()),
                    () = change => continue,
                    () = self.poll.news.notified() => {}
                    () = tokio::time::sleep(self.poll.interval) => {}
                }
                self.handle.refresh().await?;
                // At rest no state before the newest is needed: an idle shard is collected, too.
                if let Some(held) = held {
                    self.handle.advance(held, from.saturating_sub(1));
                }
                self.keep().await;
            }
        }
    }

    /// Returns the state, if it is of our epoch: not one row or time of another says anything about
    /// our feed.
    fn ours(&self) -> Result<Arc<State>, Error> {
        let state = self.handle.state();
        if self.epoch.admits(state.epoch) { Ok(state) } else { Err(fenced(state.epoch)) }
    }

    /// Returns a state whose rows from `from` on are apart from those before, and the lease as long
    /// as which its parts stay; `None` if the operator is gone.
    async fn readable(&self, from: u64) -> Result<Option<Readable>, Error> {
        let state = self.handle.state();
        if state.upper > from {
            drop(state);
            self.handle.keep_surely().await?;
        }
        // Not older than the lease, or a collection before the lease may have taken its parts.
        let lease = self.handle.lease();
        let state = self.ours()?;
        if !state.tells_apart(from) {
            return Err(lost(from));
        }
        Ok((!self.outlet.sender.is_closed()).then_some((state, lease)))
    }

    /// Renews the lease if it is time, or tries to: it goes on as it was until it has run out, which
    /// the next step will find.
    async fn keep(&self) {
        if self.handle.state().upper > 0
            && let Err(e) = self.handle.keep().await
        {
            tracing::debug!(error = %e, "a lease was not renewed");
        }
    }

    /// Sends this worker's rows of some batches, each time at least `as_of`.
    async fn send_batches(
        &self,
        batches: &[Arc<Batch>],
        from: u64,
        as_of: u64,
        lease: Option<LeaseName>,
    ) -> Result<bool, Error> {
        let parts: Vec<_> = batches
            .iter()
            .flat_map(|batch| (0..batch.parts.len()).map(|number| (Arc::clone(batch), number)))
            .collect();
        self.vitals.found_parts(parts.len());
        // In their order: one that came in before those ahead of it would keep their room.
        let entered = futures::stream::iter(parts).then(|(batch, number)| {
            let room = self.window.enter(batch.parts[number].bytes());
            async move { (room.await, batch, number) }
        });
        let fetched = entered.map(|(room, batch, number)| async move {
            Ok::<_, Error>((self.fetch(&batch, number, from, lease).await?, room))
        });
        let mut fetched = std::pin::pin!(fetched.buffered(PARTS_AHEAD));
        let mut gathered = Gathered::default();
        while let Some(fetched) = fetched.next().await {
            let (mut rows, room) = fetched?;
            self.vitals.read_part();
            self.keep().await;
            if as_of == 0 {
                let message = Message::Rows(rows, vec![room]);
                if !message.is_empty() && !self.outlet.send(message).await {
                    return Ok(false);
                }
                continue;
            }
            // History at one time mostly cancels. What is gathered pins whole parts in memory.
            rows.iter_mut().for_each(|(_, time, _)| *time = (*time).max(as_of));
            gathered.add(rows, room);
            if gathered.bytes >= self.window.half() && !self.send_gathered(&mut gathered).await {
                return Ok(false);
            }
        }
        Ok(self.send_gathered(&mut gathered).await)
    }

    /// Reads this worker's rows of one part.
    async fn fetch(
        &self,
        batch: &Arc<Batch>,
        number: usize,
        from: u64,
        lease: Option<LeaseName>,
    ) -> Result<Vec<Update>, Error> {
        let (worker, peers) = (self.worker, self.peers);
        let ours = |key: &Encoded| peers == 1 || key.hashed() % peers == worker;
        let (part, lower) = (&batch.parts[number], batch.lower.max(from));
        let rows = self.handle.read(part, lower, batch.upper, Reading::Following, ours).await;
        match rows {
            Err(e) if e.kind() == ErrorKind::Missing => {
                Err(self.handle.gone(lease, e, || lost(from)).await)
            }
            rows => rows,
        }
    }

    async fn send_gathered(&self, gathered: &mut Gathered) -> bool {
        let Gathered { mut rows, rooms, .. } = std::mem::take(gathered);
        consolidate_updates(&mut rows);
        rows.is_empty() || self.outlet.send(Message::Rows(rows, rooms)).await
    }
}

/// Rows of several parts that are consolidated together.
#[derive(Default)]
struct Gathered {
    rows: Vec<Update>,
    rooms: Vec<Room>,
    /// What their parts have.
    bytes: u64,
}

impl Gathered {
    fn add(&mut self, mut rows: Vec<Update>, room: Room) {
        // A part without rows for us is let go at once.
        if !rows.is_empty() {
            self.rows.append(&mut rows);
            self.bytes = self.bytes.saturating_add(room.bytes());
            self.rooms.push(room);
        }
    }
}

fn lost(from: u64) -> Error {
    let what =
        format!("the shard's history from time {from} on is merged away, and no lease has held it");
    Error::new(ErrorKind::LeaseLost, what).hint("start again; it reads the contents anew")
}
