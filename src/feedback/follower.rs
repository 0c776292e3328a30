//! Owns the task that follows a shard for one worker: what it holds, which state a step reads, and what
//! it tells the operator. It does not own which rows are this worker's; that is [`share`](super::share)'s.

use std::sync::Arc;

use futures::{FutureExt, StreamExt};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::message::{Message, PARTS_AHEAD, Poll};
use super::share::{Gathered, Share, lost};
use crate::control::epoch::Epoch;
use crate::control::lifecycle::GRACE;
use crate::control::waking::Waking;
use crate::error::Error;
use crate::health::Vitals;
use crate::shard::{Batch, Hold, Id as LeaseName, State, arranged, fenced};

/// A part of so many bytes is handed on together with what follows it.
const FEW_BYTES: u64 = 64 << 10;

/// A state that may be read, and the lease that keeps it so.
type Readable = (Arc<State>, Option<LeaseName>);

/// The task of one worker.
pub(super) struct Follower {
    pub(super) share: Share,
    pub(super) epoch: Epoch,
    pub(super) poll: Poll,
    pub(super) outlet: Waking<mpsc::Sender<Message>>,
    pub(super) vitals: Arc<Vitals>,
    /// From then on there is time for a quick answer only.
    pub(super) leave: CancellationToken,
    /// Dropped last.
    pub(super) finished: Waking<oneshot::Sender<()>>,
}

impl Follower {
    /// Follows the shard until the operator is gone, and gives its hold back.
    pub(super) async fn run(self) -> Result<(), Error> {
        let (handle, mut hold) = (self.share.handle.clone(), None);
        // Every await in there races the stop.
        let followed = tokio::select! {
            biased;
            () = self.outlet.closed() => Ok(()),
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
        Ok(())
    }

    /// Sends what is in the shard and what comes, until the operator is gone.
    async fn follow(&self, held: &mut Option<Hold>) -> Result<(), Error> {
        let mut upper = self.ours()?.upper;
        // The contents first, forwarded to the time before the upper.
        let mut as_of = upper.saturating_sub(1);
        let mut from = 0;
        let mut sealed = false;
        let mut pace = self.poll.pace();
        if upper == 0 {
            // No history, and nothing to hold: our own first append will say it by the way.
            *held = Some(self.share.handle.holds().enlist(as_of));
        } else {
            let hold = self.share.handle.hold(as_of).await?;
            as_of = held.insert(hold).since();
        }
        loop {
            let Some((state, lease)) = self.readable(from).await? else { return Ok(()) };
            let first = state.batches.partition_point(|batch| batch.upper <= from);
            let batches = state.batches[first..].to_vec();
            upper = upper.max(state.upper);
            drop(state);
            // What follows wakes the operator, or the wait for it.
            if !self.outlet.send_ahead(Message::Known(upper)).await {
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
                self.share.handle.advance(held, from.saturating_sub(1));
            }
            pace.wake();
            loop {
                // Before the look, so that no change falls between the two.
                let change = self.share.handle.next_change();
                let state = self.share.handle.state();
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
                let pause = pace.pause();
                tokio::select! {
                    biased;
                    () = self.outlet.closed() => return Ok(()),
                    () = change => continue,
                    () = self.poll.news.notified() => pace.wake(),
                    () = tokio::time::sleep(pause) => pace.rest(pause),
                }
                match pace.is_at_rest() {
                    true => self.share.handle.glance().await?,
                    false => drop(self.share.handle.refresh().await?),
                }
                // At rest no state before the newest is needed: an idle shard is collected, too.
                if let Some(held) = held {
                    self.share.handle.advance(held, from.saturating_sub(1));
                }
                self.keep().await;
            }
        }
    }

    /// Returns the state, if it is of our epoch: not one row or time of another says anything about
    /// our feed.
    fn ours(&self) -> Result<Arc<State>, Error> {
        let state = self.share.handle.state();
        if self.epoch.admits(state.epoch) { Ok(state) } else { Err(fenced(state.epoch)) }
    }

    /// Returns a state whose rows from `from` on are apart from those before, and the lease as long
    /// as which its parts stay; `None` if the operator is gone.
    async fn readable(&self, from: u64) -> Result<Option<Readable>, Error> {
        let state = self.share.handle.state();
        if state.upper > from {
            drop(state);
            self.share.handle.holds().keep_surely().await?;
        }
        // Not older than the lease, or a collection before the lease may have taken its parts.
        let lease = self.share.handle.holds().lease();
        let state = self.ours()?;
        if !state.tells_apart(from) {
            return Err(lost(from));
        }
        Ok((!self.outlet.is_closed()).then_some((state, lease)))
    }

    /// Renews the lease if it is time, or tries to: it goes on as it was until it has run out, which
    /// the next step will find.
    async fn keep(&self) {
        if self.share.handle.state().upper > 0
            && let Err(e) = self.share.handle.keep().await
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
            let room = self.share.window.enter(batch.parts[number].bytes());
            async move { (room.await, batch, number) }
        });
        let fetched = entered.map(|(room, batch, number)| async move {
            let (share, bytes) = (self.share.clone(), batch.parts[number].bytes());
            let fetch = async move { share.fetch(&batch, number, from, lease).await };
            Ok::<_, Error>((self.share.handle.beside(bytes, fetch).await?, room))
        });
        let mut fetched = std::pin::pin!(fetched.buffered(PARTS_AHEAD));
        let mut gathered = Gathered::default();
        loop {
            let next = match fetched.next().now_or_never() {
                Some(next) => next,
                None => {
                    self.outlet.wake();
                    fetched.next().await
                }
            };
            let Some(fetched) = next else { break };
            let (mut rows, room) = fetched?;
            self.vitals.read_part();
            self.keep().await;
            if as_of == 0 {
                let few = room.bytes() <= FEW_BYTES;
                let message = Message::Rows(rows, vec![room]);
                let sent = message.is_empty()
                    || match few {
                        true => self.outlet.send_ahead(message).await,
                        // Its rows are taken while the next part is decoded.
                        false => self.outlet.send(message).await,
                    };
                if !sent {
                    return Ok(false);
                }
                continue;
            }
            // History at one time mostly cancels. What is gathered pins whole parts in memory.
            rows.iter_mut().for_each(|(_, time, _)| *time = (*time).max(as_of));
            gathered.add(rows, room);
            let full = match crate::mutant::on("hydrate_by_rows") {
                true => gathered.rows.len() >= 1 << 17,
                false => gathered.bytes >= self.share.window.half(),
            };
            if full && !self.send_gathered(&mut gathered).await? {
                return Ok(false);
            }
        }
        self.send_gathered(&mut gathered).await
    }

    async fn send_gathered(&self, gathered: &mut Gathered) -> Result<bool, Error> {
        let Gathered { rows, rooms, .. } = std::mem::take(gathered);
        // Parts are sorted, so that this merges a few runs, and leaves one alone as it is.
        let rows = arranged(rows)?;
        Ok(rows.is_empty() || self.outlet.send(Message::Rows(rows, rooms)).await)
    }
}
