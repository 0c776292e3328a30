//! Owns how a [`View`] reads on: its log from the state that it knows to the head, whether that is still the log of
//! the root that was opened, and what a log at rest is asked. What becomes of entries is the state's.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::engine::entry::Entry;
use super::engine::format::FORMAT_KEY;
use super::engine::state::State;
use super::incarnation;
use super::open::{RELOADS_MAX, read_format};
use super::view::View;
use crate::error::{Error, ErrorKind};

/// One of so many glances is a thorough look.
const THOROUGH: u32 = 8;

impl View {
    /// Reads the log to its head and returns the state there. One get and one list when there is
    /// nothing new.
    ///
    /// # Errors
    ///
    /// `Corrupt` for damage, `Unsupported` for entries of a later version, `Replaced` if the shard was
    /// removed or replaced, else those of the store. The state stays what it was.
    pub(super) async fn refresh(&self) -> Result<Arc<State>, Error> {
        self.catch_up(self.state(), false).await
    }

    /// As [`refresh`](View::refresh), for one that looks at a log at rest and will look again. While a lease of ours
    /// is in the log, no entry that we lack is collected: one that is not there has not come, so that a
    /// get of it says all. Every eighth look is thorough: the lease may have been ended, and the root removed.
    pub(super) async fn glance(&self) -> Result<(), Error> {
        let state = self.state();
        let holds = state.leases.contains_key(&self.keeper.lock().token);
        let thorough = self.glances.fetch_add(1, Ordering::Relaxed) % THOROUGH == THOROUGH - 1;
        let next = state.seqno.saturating_add(1);
        drop(state);
        if thorough || !holds || self.log.get(next).await?.is_some() {
            self.refresh().await?;
        }
        *self.looked.lock() = Some(self.now());
        Ok(())
    }

    /// Whether the log was looked at, in whatever way, within the last so long.
    pub(super) fn has_looked(&self, within: Duration) -> bool {
        let now = self.now();
        self.looked.lock().is_some_and(|looked| now.saturating_sub(looked) < within)
    }

    /// Returns what a reading came to, unless the root is another by now: whatever was missing or
    /// damaged there says nothing then.
    pub(super) async fn same_root<T>(&self, read: Result<T, Error>) -> Result<T, Error> {
        match read {
            Ok(read) => Ok(read),
            Err(e) => Err(match self.check_root().await {
                Err(replaced) if replaced.kind() == ErrorKind::Replaced => replaced,
                _ => e,
            }),
        }
    }

    async fn check_root(&self) -> Result<(), Error> {
        self.guarded.check().await?;
        if self.guarded.is_stranger() {
            let floor = self.log.floor().await?;
            incarnation::recognise(&self.guarded, &*self.log, &self.state(), floor).await?;
        }
        Ok(())
    }

    /// Reads on from a state that this handle or a rollup vouches for, to the head; publishes that.
    pub(super) async fn catch_up(
        &self,
        state: Arc<State>,
        from_rollup: bool,
    ) -> Result<Arc<State>, Error> {
        self.same_root(self.read_on(state, from_rollup).await).await
    }

    async fn read_on(&self, mut state: Arc<State>, from_rollup: bool) -> Result<Arc<State>, Error> {
        let _reading = self.reading.lock().await;
        // Somebody else may have read on while we waited.
        let known = self.state();
        if known.seqno > state.seqno {
            state = Arc::clone(&known);
        }
        let mut seen_new = from_rollup;
        let mut attempts = self.patience.begin_quietly("reading the log of", self.url().into());
        let mut reloads = 0;
        loop {
            reloads += 1;
            if reloads % RELOADS_MAX == 0 {
                let what = "the log is collected faster than it can be read";
                let faster = Error::new(ErrorKind::Unavailable, what)
                    .at(self.root.url())
                    .hint("retry, or collect less often");
                attempts.pause(faster).await?;
            }
            let start = state.seqno;
            let trouble = self.read_entries(&mut state).await?;
            seen_new |= state.seqno > start;
            // After the last entry read: whatever lies above this floor was never deleted, so what
            // we saw there is what was first created there.
            let floor = self.log.floor().await?;
            if self.guarded.is_stranger() {
                incarnation::recognise(&self.guarded, &*self.log, &known, floor).await?;
            }
            if floor > start {
                let Some(newest) = self.newest_rollup(floor).await? else {
                    return Err(Error::new(
                        ErrorKind::Corrupt,
                        format!("no rollup at or above the floor {floor}"),
                    )
                    .at(self.blob.place(&format!("{}/rollup", self.name)))
                    .hint("restore the shard from a copy"));
                };
                state = Arc::new(newest);
                seen_new = true;
                continue;
            }
            if let Some(trouble) = trouble {
                return Err(trouble);
            }
            if seen_new && state.seqno > 0 {
                self.check_format().await?;
                self.log.sync_head().await?;
            }
            self.publish(Arc::clone(&state));
            *self.looked.lock() = Some(self.now());
            return Ok(state);
        }
    }

    /// Checks a `FORMAT` that was not there yet when this handle was opened.
    async fn check_format(&self) -> Result<(), Error> {
        if self.stored.lock().is_some() {
            return Ok(());
        }
        let stored = read_format(&self.root, self.access).await?.map(|(stored, _)| stored);
        if let (Some(stored), Some(wanted)) = (&stored, &self.wanted) {
            stored
                .check_with(wanted, self.upgrades)
                .map_err(|e| e.at(self.blob.place(FORMAT_KEY)))?;
        }
        incarnation::meet(&self.guarded, self.root.layout()).await?;
        *self.stored.lock() = stored;
        Ok(())
    }

    /// Applies entries until there is none; returns what stopped it otherwise. Whether that is
    /// damage is for the floor to say: under it, entries may be anything.
    async fn read_entries(&self, state: &mut Arc<State>) -> Result<Option<Error>, Error> {
        let log = &self.log;
        loop {
            let Some(seqno) = state.seqno.checked_add(1) else { return Ok(None) };
            let Some(bytes) = log.get(seqno).await? else { return Ok(None) };
            self.counters.bytes_read.add(bytes.len() as u64);
            let applied = Entry::decode(seqno, &bytes).and_then(|(entry, raw)| {
                Arc::make_mut(state).apply(&entry)?;
                self.cache_inline(&entry, raw);
                self.keeper.lock().hear(&entry, state);
                Ok(())
            });
            if let Err(e) = applied {
                return Ok(Some(e.at(log.place(seqno))));
            }
        }
    }
}
