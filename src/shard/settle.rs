//! Owns how an entry is settled: the one create that commits, and every way of not knowing whether
//! it did. What an append is, and would do, is [`engine::append`](super::engine::append)'s, where rows
//! go is [`rows`](super::rows)'s.

use std::sync::Arc;

use bytes::Bytes;

use super::engine::append::{Append, Appended, entry_parts};
use super::engine::entry::{Change, Entry};
use super::engine::id::Token;
use super::engine::rollup;
use super::engine::state::State;
use super::handle::{Handle, count, lock};
use crate::error::{Error, ErrorKind};
use crate::store::{Access, Create};

/// Lost races for an entry's number after which a call gives up. Each is somebody's progress, so they
/// are no attempts at a store that does not answer.
const RACES_MAX: u32 = 1_000;

/// What became of the entry we tried to create.
enum Settled {
    Ours,
    /// Another entry has its number.
    Theirs,
    /// Its number is below the floor: whatever is there, or lands there, says nothing any more.
    Collected,
}

impl Handle {
    /// Appends iff the shard's upper is `append.lower`, durably, and says who won.
    ///
    /// Runs to its end even if the caller stops waiting. One append is in flight per handle; others
    /// wait. The state known here then holds the entry.
    ///
    /// # Errors
    ///
    /// `Indeterminate`: it may have happened, or may still: read the upper, and delete nothing.
    /// `Unavailable`: it did not happen. `Refused`: nor will it. `Invalid`: it cannot. `LeaseLost`: it names parts that may
    /// have been swept meanwhile. `Replaced`: the shard was removed or replaced, and with it whatever
    /// was under way. `Corrupt`: the log is damaged.
    pub async fn compare_and_append(&self, append: Append) -> Result<Appended, Error> {
        if self.inner.access == Access::Read {
            return Err(Error::new(ErrorKind::Invalid, "an append to a shard opened for reading")
                .at(self.inner.root.url()));
        }
        let handle = self.clone();
        // On a task of its own: a create that is dropped half way is an outcome nobody learns.
        let task = self.inner.io.spawn(async move { handle.append(append).await });
        let appended = task.await.unwrap_or_else(|e| {
            Err(Error::new(ErrorKind::Indeterminate, "an append was stopped")
                .hint("read the upper, then decide")
                .because(e))
        });
        let counters = &self.inner.counters;
        match &appended {
            Ok(Appended::Won { .. }) => count(&counters.appends_won, 1),
            Ok(_) => count(&counters.appends_lost, 1),
            Err(e) if e.kind() == ErrorKind::Indeterminate => count(&counters.appends_unknown, 1),
            Err(_) => {}
        }
        appended
    }

    /// Raises the epoch, which shuts out every other writer, and returns it.
    ///
    /// # Errors
    ///
    /// As [`compare_and_append`](Handle::compare_and_append).
    pub(crate) async fn take_over(&self) -> Result<u64, Error> {
        loop {
            let state = self.refresh().await?;
            let upper = state.upper;
            // The last number stands for none.
            let Some(epoch) = state.epoch.checked_add(1).filter(|epoch| *epoch < u64::MAX) else {
                return Err(Error::new(ErrorKind::Invalid, "the shard has no epoch left")
                    .at(self.inner.root.url())
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
        let inner = &*self.inner;
        let mut last_rollup = inner.appending.lock().await;
        for _ in 0..RACES_MAX {
            let mut state = self.state();
            if !matches!(state.judge(&append), Ok(None)) {
                // Our state may be old, from before the lease of a part that another process wrote:
                // lose against the newest, or fail.
                state = self.refresh().await?;
            }
            if let Some(lost) = state.judge(&append).map_err(|e| e.at(inner.root.url()))? {
                return Ok(lost);
            }
            let (parts, raw) = entry_parts(&append.parts);
            let mut commit = state.commit(&append, parts, inner.config.history);
            self.renew_in(&state, &mut commit);
            let change = Change::Append(commit);
            if let Some(seqno) = self.enter(&mut last_rollup, state, change, &raw).await? {
                lock(&inner.uploads).named(&append.parts);
                return Ok(Appended::Won { seqno });
            }
        }
        Err(self.overtaken())
    }

    /// Enters what `decide` makes of the state known here, again after each lost race, until it is
    /// in the log or `decide` makes nothing. Returns its number.
    ///
    /// # Errors
    ///
    /// As [`compare_and_append`](Handle::compare_and_append), and those of `decide`.
    pub(super) async fn propose(
        &self,
        mut decide: impl FnMut(&Handle, &State) -> Result<Option<Change>, Error> + Send + 'static,
    ) -> Result<Option<u64>, Error> {
        let handle = self.clone();
        // As for an append: runs to its end, and alone.
        let task = self.inner.io.spawn(async move {
            let mut last_rollup = handle.inner.appending.lock().await;
            for _ in 0..RACES_MAX {
                let state = handle.state();
                let Some(change) = decide(&handle, &state)? else { return Ok(None) };
                let entered = handle.enter(&mut last_rollup, state, change, &[]).await?;
                if entered.is_some() {
                    return Ok(entered);
                }
            }
            Err(handle.overtaken())
        });
        task.await.unwrap_or_else(|e| {
            Err(Error::new(ErrorKind::Indeterminate, "an entry was stopped").because(e))
        })
    }

    fn overtaken(&self) -> Error {
        Error::new(ErrorKind::Unavailable, "lost every race for the next entry")
            .at(self.inner.root.url())
            .hint("retry; other writers are faster")
    }

    /// Enters a change right after `state`. Returns its number, or `None` if another entry is there,
    /// and the state known here is then a later one.
    async fn enter(
        &self,
        last_rollup: &mut u64,
        state: Arc<State>,
        change: Change,
        raw: &[u8],
    ) -> Result<Option<u64>, Error> {
        let inner = &*self.inner;
        let Some(seqno) = state.seqno.checked_add(1) else {
            return Err(Error::new(ErrorKind::Invalid, "the log is full"));
        };
        let token = Token(inner.io.token());
        let entry = Entry { seqno, token, prev_token: state.token, writer: inner.writer, change };
        // Held no longer, so that the entry is applied in place.
        drop(state);
        let bytes = Bytes::from(entry.encode(raw)?);
        count(&inner.counters.bytes_written, bytes.len() as u64);
        match self.settle(&entry, bytes).await? {
            Settled::Ours => {
                self.publish_entry(&entry, raw)?;
                self.roll_up(last_rollup).await;
                Ok(Some(seqno))
            }
            // Its number is taken for good, so ours did not happen: judge again.
            Settled::Theirs => {
                self.refresh().await?;
                Ok(None)
            }
            Settled::Collected => Ok(self.was_collected(&entry).await?.then_some(seqno)),
        }
    }

    /// Creates one entry until its outcome is known.
    async fn settle(&self, entry: &Entry, bytes: Bytes) -> Result<Settled, Error> {
        let inner = &*self.inner;
        let seqno = entry.seqno;
        let mut attempts = inner.patience.begin("creating", inner.log.place(seqno));
        // Whether any attempt so far may have been applied, now or later.
        let mut in_doubt = false;
        loop {
            let created = attempts.answer(inner.log.create(seqno, bytes.clone())).await;
            if let Err(e) = &created
                && e.kind() == ErrorKind::Replaced
            {
                return Err(e.clone());
            }
            let surely_not = |kind| matches!(kind, ErrorKind::Unavailable | ErrorKind::Refused);
            in_doubt |= !matches!(&created, Err(e) if surely_not(e.kind()));
            if created.is_err() && crate::mutant::on("unknown_is_lost") {
                return Ok(Settled::Theirs);
            }
            let trouble = match self.look(entry, created).await {
                Ok(Some(settled)) => return Ok(settled),
                Ok(None) => Error::new(ErrorKind::Unavailable, "no answer settles it"),
                Err(e)
                    if matches!(
                        e.kind(),
                        ErrorKind::Corrupt | ErrorKind::Unsupported | ErrorKind::Replaced
                    ) =>
                {
                    return Err(e);
                }
                Err(e) => e,
            };
            // The same entry with the same token again: whichever attempt lands, it is ours.
            attempts.pause(trouble).await.map_err(|e| {
                let (kind, what) = match in_doubt {
                    true => (ErrorKind::Indeterminate, "an append may have happened"),
                    false => (e.kind(), "the store takes no entry"),
                };
                let hint = e.advice().unwrap_or("read the shard's upper, then decide");
                Error::new(kind, format!("{what}: {}", e.what()))
                    .at(inner.log.place(seqno))
                    .hint(hint)
                    .because(e)
            })?;
        }
    }

    /// Looks what one attempt did: `None` if that cannot be known yet.
    async fn look(
        &self,
        entry: &Entry,
        created: Result<Create, Error>,
    ) -> Result<Option<Settled>, Error> {
        let looked = self.look_once(entry, created).await;
        self.same_root(looked).await
    }

    async fn look_once(
        &self,
        entry: &Entry,
        created: Result<Create, Error>,
    ) -> Result<Option<Settled>, Error> {
        let inner = &*self.inner;
        let seqno = entry.seqno;
        let clean = matches!(created, Ok(Create::Created));
        let ours = clean
            || match inner.log.get(seqno).await? {
                Some(bytes) => {
                    let token = Entry::token_of(seqno, &bytes);
                    token.map_err(|e| e.at(inner.log.place(seqno)))? == entry.token
                }
                None => {
                    // Absent proves nothing: the create may still be on its way. Unless the number
                    // is below the floor, where whatever lands does not count.
                    let collected = inner.log.floor().await? >= seqno;
                    return match (collected, created) {
                        (true, _) => Ok(Some(Settled::Collected)),
                        (false, Err(e)) => Err(e),
                        (false, Ok(_)) => Ok(None),
                    };
                }
            };
        // Whose the entry is counts only above a floor read after it.
        if inner.log.floor().await? >= seqno && !crate::mutant::on("believe_under_floor") {
            return Ok(Some(Settled::Collected));
        }
        if ours && !clean {
            // It can be seen, but whoever reported a failure may have failed to sync it.
            inner.log.sync_head().await?;
        }
        Ok(Some(if ours { Settled::Ours } else { Settled::Theirs }))
    }

    /// Says whether our entry was in the log before its number was collected.
    async fn was_collected(&self, entry: &Entry) -> Result<bool, Error> {
        let in_doubt = |what: &str| {
            Error::new(ErrorKind::Indeterminate, what)
                .at(self.inner.log.place(entry.seqno))
                .hint("read the shard's upper, then decide")
        };
        let state = self.refresh().await.map_err(|e| match e.kind() {
            ErrorKind::Replaced => e,
            _ => in_doubt("an append whose entry was collected").because(e),
        })?;
        state.holds(self.inner.writer, entry.seqno, entry.token).ok_or_else(|| {
            in_doubt("an append was overtaken by more writers than the shard remembers")
        })
    }

    /// Writes a rollup if it is time. Failing costs the next opener some reading, nothing else.
    async fn roll_up(&self, last: &mut u64) {
        let inner = &*self.inner;
        let state = self.state();
        let every = inner.config.rollup_every.max(state.batches.len() as u64 / 4);
        if state.seqno.saturating_sub(*last) < every {
            return;
        }
        let key = rollup::key(&inner.name, state.seqno, state.token);
        let written = match rollup::encode(&state) {
            Ok(bytes) => inner.blob.put(&key, Bytes::from(bytes)).await,
            Err(e) => Err(e),
        };
        match written {
            Ok(()) => *last = state.seqno,
            Err(e) => tracing::warn!(shard = inner.root.url(), error = %e, "rollup not written"),
        }
    }
}
