//! Owns the task that follows a shard for one worker: what it holds, which state a step reads, and what
//! it tells the operator. It does not own which rows are this worker's; that is [`share`](super::share)'s.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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
use crate::upsert::Begin;

/// A part of so many bytes is handed on together with what follows it.
const FEW_BYTES: u64 = 64 << 10;

/// A state that may be read, and the lease that keeps it so.
type Readable = (Arc<State>, Option<LeaseName>);

/// What a follower knows of the image of its worker's state.
pub(super) struct Imaged {
    /// Where it may begin.
    pub(super) begin: Option<Begin>,
    /// The time from which on the history has to stay.
    pub(super) needed: Arc<AtomicU64>,
}

/// The task of one worker.
pub(super) struct Follower {
    pub(super) share: Share,
    pub(super) epoch: Epoch,
    pub(super) poll: Poll,
    /// The image of the state: history from its upper on is held.
    pub(super) image: Option<Imaged>,
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
        let begin = self.image.as_ref().and_then(|image| image.begin);
        if upper == 0 {
            // No history, and nothing to hold: our own first append will say it by the way.
            *held = Some(self.share.handle.holds().enlist(as_of));
            if begin.is_some() && !self.begins(Err("the shard is empty".into())).await {
                return Ok(());
            }
        } else {
            // Before the image is judged, so that no merge goes past it after that.
            let since = begin.map_or(as_of, |begin| as_of.min(begin.from.saturating_sub(1)));
            let hold = self.share.handle.hold(since).await?;
            let hold = held.insert(hold);
            let (since, begins) = (hold.since(), begin.map(|begin| self.judge(begin)));
            let begins = match begins {
                Some(judged) => Some(judged.await?),
                None => None,
            };
            as_of = as_of.max(since);
            if let (Some(begin), Some(Ok(()))) = (begin, &begins) {
                (from, as_of) = (begin.from, 0);
                // The operator says so later; until then a merge would go past it.
                if let Some(image) = &self.image {
                    image.needed.store(begin.from, Ordering::Relaxed);
                }
            } else if let Some(held) = held {
                self.share.handle.advance(held, as_of);
            }
            if let Some(begins) = begins {
                // Ours may have been opened long before the image was made.
                let known = self.ours()?.upper;
                if !self.begins(begins.map(|()| known)).await {
                    return Ok(());
                }
            }
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
                self.share.handle.advance(held, self.needed(from).saturating_sub(1));
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
                    self.share.handle.advance(held, self.needed(from).saturating_sub(1));
                }
                self.keep().await;
            }
        }
    }

    /// Returns the time from which on the history has to stay.
    fn needed(&self, from: u64) -> u64 {
        self.image.as_ref().map_or(from, |image| from.min(image.needed.load(Ordering::Relaxed)))
    }

    async fn begins(&self, begins: Result<u64, String>) -> bool {
        self.outlet.send(Message::Begins(begins)).await
    }

    /// Says whether the shard agrees with the image, or why not.
    async fn judge(&self, begin: Begin) -> Result<Result<(), String>, Error> {
        let Begin { from, mark, .. } = begin;
        if crate::mutant::on("trust_a_stale_image") {
            return Ok(Ok(()));
        }
        let state = self.ours()?;
        if state.seqno < mark.seqno || state.upper < mark.upper.max(from) {
            let (has, at) = (state.upper, mark.upper);
            return Ok(Err(format!("wrong: the shard is at {has}, and was at {at} before")));
        }
        let token = match state.seqno == mark.seqno {
            true => Some(state.token),
            false => self.share.handle.token_of(mark.seqno).await?,
        };
        if token.is_some_and(|token| token.0 != mark.token) {
            let seqno = mark.seqno;
            return Ok(Err(format!("wrong: the shard has another history since entry {seqno}")));
        }
        if !state.tells_apart(from) {
            return Ok(Err(format!("stale: the shard's history from {from} on is merged away")));
        }
        Ok(Ok(()))
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
