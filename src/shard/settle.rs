//! Owns how an entry is settled: the one create that commits, and every way of not knowing whether
//! it did. What an append is, and would do, is [`engine::append`](super::engine::append)'s, where rows
//! go is [`rows`](super::rows)'s.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Mutex as AsyncMutex;

use super::engine::append::{Append, Appended, entry_parts};
use super::engine::entry::{Change, Entry, LOST_MAX};
use super::engine::rollup;
use super::engine::state::State;
use super::view::View;
use crate::error::{Error, ErrorKind};
use crate::store::{Budget, Create};

/// Lost races for an entry's number after which a call gives up. Each is another writer's
/// progress, and counts apart from attempts at a store that does not answer.
const RACES_MAX: u32 = 1_000;

/// What became of the entry we tried to create.
enum Settled {
    Ours,
    /// Another entry has its number.
    Theirs,
    /// Its number is below the floor: whatever is there, or lands there, says nothing any more.
    Collected,
}

/// What enters changes into the log, one at a time; clones share it.
#[derive(Clone, Debug)]
pub(super) struct Settler {
    pub(super) view: Arc<View>,
    /// Held by the one entry in flight.
    entering: Arc<AsyncMutex<()>>,
    /// The numbers that others took from us since our last entry.
    lost: Arc<Mutex<Vec<u64>>>,
}

impl Settler {
    pub(super) fn new(view: Arc<View>) -> Settler {
        Settler { view, entering: Arc::default(), lost: Arc::default() }
    }

    /// See [`Handle::compare_and_append`](super::Handle::compare_and_append).
    pub(super) async fn compare_and_append(&self, append: Append) -> Result<Appended, Error> {
        self.view.must_write("an append to")?;
        let settler = self.clone();
        // On a task of its own: a create that is dropped half way is an outcome nobody learns.
        let task = self.view.io.spawn(async move { settler.append(append).await });
        let appended = task.await.unwrap_or_else(|e| {
            Err(Error::new(ErrorKind::Indeterminate, "an append was stopped")
                .hint("read the upper, then decide")
                .because(e))
        });
        let counters = &self.view.counters;
        match &appended {
            Ok(Appended::Won { .. }) => counters.appends_won.add(1),
            Ok(_) => counters.appends_lost.add(1),
            Err(e) if e.kind() == ErrorKind::Indeterminate => counters.appends_unknown.add(1),
            Err(_) => {}
        }
        appended
    }

    /// Raises the epoch, which shuts out every other writer, and returns it.
    ///
    /// # Errors
    ///
    /// As [`compare_and_append`](Settler::compare_and_append).
    pub(super) async fn take_over(&self) -> Result<u64, Error> {
        loop {
            let state = self.view.refresh().await?;
            let upper = state.upper;
            // The last number stands for none.
            let Some(epoch) = state.epoch.checked_add(1).filter(|epoch| *epoch < u64::MAX) else {
                return Err(Error::new(ErrorKind::Invalid, "the shard has no epoch left")
                    .at(self.view.url())
                    .hint("use another shard"));
            };
            let append = Append { lower: upper, upper, epoch: Some(epoch), ..Append::default() };
            // Lost: somebody else was faster, and we are later.
            if let Appended::Won { .. } = self.compare_and_append(append).await? {
                return Ok(epoch);
            }
        }
    }

    async fn append(&self, append: Append) -> Result<Appended, Error> {
        let view = &*self.view;
        let _entering = self.entering.lock().await;
        for _ in 0..RACES_MAX {
            let mut state = view.state();
            if !matches!(state.judge(&append), Ok(None)) {
                // Our state may be old, from before the lease of a part that another process wrote:
                // lose against the newest, or fail.
                state = self.view.refresh().await?;
            }
            if let Some(lost) = state.judge(&append).map_err(|e| e.at(view.url()))? {
                return Ok(lost);
            }
            let (parts, raw) = entry_parts(&append.parts);
            let mut commit = state.commit(&append, parts, view.config.history);
            {
                let mut keeper = view.keeper.lock();
                keeper.see(&state, view.now(), || view.fresh());
                keeper.renew_in(&state, &mut commit, view.expires_ms());
            }
            let change = Change::Append(commit);
            if let Some(entry) = self.enter(state, change, &raw).await? {
                view.uploads.lock().named(&append.parts);
                return Ok(Appended::Won { seqno: entry.seqno });
            }
        }
        Err(self.overtaken())
    }

    /// Enters what `decide` makes of the state known here, again after each lost race, until it is
    /// in the log or `decide` makes nothing. Returns what was entered.
    ///
    /// # Errors
    ///
    /// As [`compare_and_append`](Settler::compare_and_append), and those of `decide`.
    pub(super) async fn propose(
        &self,
        mut decide: impl FnMut(&State) -> Result<Option<Change>, Error> + Send + 'static,
    ) -> Result<Option<Change>, Error> {
        let settler = self.clone();
        // As for an append: runs to its end, and alone.
        let task = self.view.io.spawn(async move {
            let _entering = settler.entering.lock().await;
            for _ in 0..RACES_MAX {
                let state = settler.view.state();
                let Some(change) = decide(&state)? else { return Ok(None) };
                if let Some(entry) = settler.enter(state, change, &[]).await? {
                    return Ok(Some(entry.change));
                }
            }
            Err(settler.overtaken())
        });
        task.await.unwrap_or_else(|e| {
            Err(Error::new(ErrorKind::Indeterminate, "an entry was stopped").because(e))
        })
    }

    fn overtaken(&self) -> Error {
        Error::new(ErrorKind::Unavailable, "lost every race for the next entry")
            .at(self.view.url())
            .hint("retry; other writers are faster")
    }

    /// Enters a change right after `state`. Returns its entry, or `None` if another entry is there,
    /// and the state known here is then a later one.
    async fn enter(
        &self,
        state: Arc<State>,
        change: Change,
        raw: &[u8],
    ) -> Result<Option<Entry>, Error> {
        let view = &*self.view;
        let Some(seqno) = state.seqno.checked_add(1) else {
            return Err(Error::new(ErrorKind::Invalid, "the log is full"));
        };
        let token = view.fresh();
        let (prev_token, writer, lost) = (state.token, view.writer, self.lost.lock().clone());
        let at_ms = Some(view.io.now_ms());
        let entry = Entry { seqno, token, prev_token, writer, at_ms, lost, change };
        // Held no longer, so that the entry is applied in place.
        drop(state);
        let bytes = Bytes::from(entry.encode(raw)?);
        view.counters.bytes_written.add(bytes.len() as u64);
        match self.settle(&entry, bytes).await? {
            Settled::Ours => {
                self.lost.lock().clear();
                view.publish_entry(&entry, raw)?;
                self.roll_up().await;
                Ok(Some(entry))
            }
            // Its number is taken for good, so ours did not happen: judge again.
            Settled::Theirs => {
                self.note_lost(seqno);
                self.view.refresh().await?;
                Ok(None)
            }
            Settled::Collected => Ok(self.was_collected(&entry).await?.then_some(entry)),
        }
    }

    fn note_lost(&self, seqno: u64) {
        let mut lost = self.lost.lock();
        lost.push(seqno);
        let over = lost.len().saturating_sub(LOST_MAX);
        lost.drain(..over);
    }

    /// Creates one entry until its outcome is known.
    async fn settle(&self, entry: &Entry, bytes: Bytes) -> Result<Settled, Error> {
        let place = self.view.log.place(entry.seqno);
        let attempts = self.view.patience.begin("creating", place.clone());
        let budget = attempts.budget;
        // Whether any attempt so far may have been applied, now or later.
        let in_doubt = AtomicBool::new(false);
        // The same entry with the same token again: whichever attempt lands, it is ours.
        let attempt = || self.attempt(entry, bytes.clone(), budget, &in_doubt);
        attempts.retry_transient(attempt).await.map_err(|e| {
            let (kind, what) = match (e.kind(), in_doubt.load(Ordering::Relaxed)) {
                (ErrorKind::Corrupt | ErrorKind::Unsupported | ErrorKind::Replaced, _) => return e,
                (_, true) => (ErrorKind::Indeterminate, "an append may have happened"),
                (kind, false) => (kind, "the store takes no entry"),
            };
            let hint = e.advice().unwrap_or("read the shard's upper, then decide");
            Error::new(kind, format!("{what}: {}", e.what())).at(place).hint(hint).because(e)
        })
    }

    /// Creates an entry once, and looks what that did.
    async fn attempt(
        &self,
        entry: &Entry,
        bytes: Bytes,
        budget: Budget,
        in_doubt: &AtomicBool,
    ) -> Result<Settled, Error> {
        let created = budget.answer(self.view.log.create(entry.seqno, bytes)).await;
        match &created {
            Err(e) if e.kind() == ErrorKind::Replaced => return Err(e.clone()),
            // It surely was not applied.
            Err(e) if matches!(e.kind(), ErrorKind::Unavailable | ErrorKind::Refused) => {}
            _ => in_doubt.store(true, Ordering::Relaxed),
        }
        if created.is_err() && crate::mutant::on("unknown_is_lost") {
            return Ok(Settled::Theirs);
        }
        let settled = self.look(entry, created).await?;
        settled.ok_or_else(|| Error::new(ErrorKind::Unavailable, "no answer settles it"))
    }

    /// Looks what one attempt did: `None` if that cannot be known yet.
    async fn look(
        &self,
        entry: &Entry,
        created: Result<Create, Error>,
    ) -> Result<Option<Settled>, Error> {
        let looked = self.look_once(entry, created).await;
        self.view.same_root(looked).await
    }

    async fn look_once(
        &self,
        entry: &Entry,
        created: Result<Create, Error>,
    ) -> Result<Option<Settled>, Error> {
        let (log, seqno) = (&self.view.log, entry.seqno);
        if let Ok(Create::Created) = created {
            let collected = self.is_collected(seqno).await?;
            return Ok(Some(if collected { Settled::Collected } else { Settled::Ours }));
        }
        let Some(bytes) = log.get(seqno).await? else {
            // Absent proves nothing: the create may still be on its way. Unless the number is below
            // the floor, where whatever lands does not count.
            if log.floor().await? >= seqno {
                return Ok(Some(Settled::Collected));
            }
            return created.map(|_| None);
        };
        let found = Entry::token_of(seqno, &bytes).map_err(|e| e.at(log.place(seqno)))?;
        if self.is_collected(seqno).await? {
            return Ok(Some(Settled::Collected));
        }
        if found != entry.token {
            return Ok(Some(Settled::Theirs));
        }
        // It can be seen, but the attempt that reported a failure may have failed to sync it.
        log.sync_head().await?;
        Ok(Some(Settled::Ours))
    }

    /// Whether an entry is below the floor: whose it is counts only above a floor read after it.
    async fn is_collected(&self, seqno: u64) -> Result<bool, Error> {
        let collected = self.view.log.floor().await? >= seqno;
        Ok(collected && !crate::mutant::on("believe_under_floor"))
    }

    /// Says whether our entry was in the log before its number was collected.
    async fn was_collected(&self, entry: &Entry) -> Result<bool, Error> {
        let in_doubt = |what: &str| {
            Error::new(ErrorKind::Indeterminate, what)
                .at(self.view.log.place(entry.seqno))
                .hint("read the shard's upper, then decide")
        };
        let state = self.view.refresh().await.map_err(|e| match e.kind() {
            ErrorKind::Replaced => e,
            _ => in_doubt("an append whose entry was collected").because(e),
        })?;
        state.has_entry(self.view.writer, entry.seqno, entry.token).ok_or_else(|| {
            in_doubt("an append was overtaken by more writers than the shard remembers")
        })
    }

    /// Writes a rollup if it is time. Failing costs the next opener some reading, nothing else.
    async fn roll_up(&self) {
        let view = &*self.view;
        let state = view.state();
        let every = view.config.rollup_every.max(state.batches.len() as u64 / 4);
        if state.seqno.saturating_sub(view.last_rollup.load(Ordering::Relaxed)) < every {
            return;
        }
        let key = rollup::key(&view.name, state.seqno, state.token);
        let written = match rollup::encode(&state) {
            Ok(bytes) => view.blob.put(&key, Bytes::from(bytes)).await,
            Err(e) => Err(e),
        };
        match written {
            Ok(()) => view.last_rollup.store(state.seqno, Ordering::Relaxed),
            Err(e) => tracing::warn!(shard = view.url(), error = %e, "rollup not written"),
        }
    }
}
