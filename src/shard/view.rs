//! Owns a [`Handle`]: opening a shard and following its log to the head. Appending is
//! [`append`](super::append), rows are [`rows`](super::rows).

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::futures::Notified;
use tokio::sync::{Mutex as AsyncMutex, Notify, watch};
use tokio::time::Instant;

use super::cache::{Cache, PartId};
use super::config::HandleConfig;
use super::counters::{Counters, CountersCell, MaintenanceCell, MaintenanceStats};
use super::engine::entry::{Change, Entry, EntryPart};
use super::engine::expiry::Watched;
use super::engine::format::{FORMAT_KEY, Schema};
use super::engine::id::Token;
use super::engine::state::State;
use super::holds::Keeper;
use super::incarnation;
use super::open::{create_format, read_format};
use super::uploads::Uploads;
use crate::error::{Error, ErrorKind};
use crate::io::Io;
use crate::store::{Access, Blob, Consensus, Guarded, Patience, Root, Trouble};

/// How long an opening waits for a store that does not answer.
const OPENING_MAX: Duration = Duration::from_secs(10);

/// How often a reader starts again from the newest rollup because a collector overtook it.
pub(super) const RELOADS_MAX: u32 = 5;

/// An open shard. Clones share everything: one state, one cache, one append in flight.
#[derive(Clone)]
pub struct Handle {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    /// Every operation of which is patient.
    pub(super) root: Root,
    pub(super) patience: Patience,
    /// Which root it is.
    guarded: Guarded,
    pub(super) name: String,
    pub(super) access: Access,
    pub(super) io: Io,
    pub(super) config: HandleConfig,
    /// Both write only to the root that was opened.
    pub(super) blob: Arc<dyn Blob>,
    pub(super) log: Arc<dyn Consensus>,
    /// From here on moments are measured.
    pub(super) opened: Instant,
    /// Names this handle in the state's table of writers.
    pub(super) writer: Token,
    /// This handle's lease.
    pub(super) keeper: Mutex<Keeper>,
    pub(super) counters: CountersCell,
    pub(super) maintenance: MaintenanceCell,
    /// Held by the one round of maintenance of this handle; whether one has swept.
    pub(super) maintaining: AsyncMutex<bool>,
    /// The leases in the log, as this handle has watched them.
    pub(super) watched: Mutex<Watched>,
    /// The parts of this handle that are not decided.
    pub(super) uploads: Mutex<Uploads>,
    pub(super) cache: Mutex<Cache>,
    /// Held by the one append in flight; the number of the last rollup known.
    pub(super) appending: AsyncMutex<u64>,
    reading: AsyncMutex<()>,
    /// What the caller asked for.
    wanted: Option<Schema>,
    /// What `FORMAT` says; `None` until a reader of an empty root has seen one.
    stored: Mutex<Option<Schema>>,
    state: Mutex<Arc<State>>,
    changed: watch::Sender<u64>,
    /// The same for our own followers: a watch wakes its receivers in a random order.
    news: Notify,
}

impl Handle {
    /// Opens the shard `name` of a root and reads its log to the head.
    ///
    /// A writer makes a shard out of an empty root, for which it needs the schema. A reader changes
    /// nothing; an empty root is an empty shard to it. `None` takes the schema that is stored.
    ///
    /// # Errors
    ///
    /// `Missing` if a reader finds nothing at all; `Invalid` if the root holds something else, or a
    /// new shard has no schema; `Unsupported` for another format, another schema, or a store
    /// without create-if-absent; `Corrupt` for damage; `Replaced` if something was opened through
    /// this root before, and it is gone or another by now; else those of the store.
    pub async fn open(
        root: Root,
        name: &str,
        schema: Option<Schema>,
        access: Access,
        io: Io,
        config: HandleConfig,
    ) -> Result<Handle, Error> {
        config.validate()?;
        if access == Access::Write && root.access() == Access::Read {
            return Err(Error::new(ErrorKind::Invalid, "a root that was opened for reading")
                .at(root.url())
                .hint("open it for writing, or the shard for reading"));
        }
        let mut bounds = config.patience();
        bounds.outage_max = bounds.outage_max.min(OPENING_MAX);
        let (patience, outage_max) = (Patience::new(io.clone(), bounds), config.outage_max);
        let root = root.patient(patience.clone());
        let opened =
            Handle::open_patiently(root, name, schema, access, io, config, patience.clone());
        let handle = opened.await?;
        patience.set_outage_max(outage_max);
        Ok(handle)
    }

    async fn open_patiently(
        root: Root,
        name: &str,
        schema: Option<Schema>,
        access: Access,
        io: Io,
        config: HandleConfig,
        patience: Patience,
    ) -> Result<Handle, Error> {
        let guarded = root.guarded();
        // Before anything is created: what was removed under us must not come back by our hand.
        guarded.check().await?;
        let stored = match read_format(&root, access).await? {
            None if access == Access::Write => {
                Some(create_format(&root, schema.as_ref(), &io).await?)
            }
            found => found,
        };
        if let (Some(stored), Some(wanted)) = (&stored, &schema) {
            stored.check(wanted).map_err(|e| e.at(root.blob().place(FORMAT_KEY)))?;
        }
        match access {
            Access::Write => incarnation::establish(&guarded, &io).await?,
            Access::Read if stored.is_some() => incarnation::meet(&guarded).await?,
            Access::Read => {}
        }
        let writer = Token(io.token());
        let handle = Handle {
            inner: Arc::new(Inner {
                name: name.to_string(),
                access,
                blob: guarded.blob(),
                log: guarded.log(root.log(name)),
                opened: Instant::now(),
                writer,
                keeper: Mutex::new(Keeper::new(writer)),
                counters: CountersCell::default(),
                maintenance: MaintenanceCell::default(),
                maintaining: AsyncMutex::default(),
                watched: Mutex::default(),
                uploads: Mutex::default(),
                cache: Mutex::new(Cache::new(config.cache_bytes_max)),
                appending: AsyncMutex::new(0),
                reading: AsyncMutex::new(()),
                wanted: schema,
                stored: Mutex::new(stored),
                state: Mutex::default(),
                changed: watch::Sender::new(0),
                news: Notify::new(),
                root,
                patience,
                guarded,
                io,
                config,
            }),
        };
        if let Some(state) = handle.same_root(handle.newest_rollup(0).await).await? {
            *handle.inner.appending.lock().await = state.seqno;
            handle.catch_up(Arc::new(state), true).await?;
        } else {
            handle.refresh().await?;
        }
        let state = handle.state();
        tracing::debug!(
            shard = handle.inner.root.url(),
            seqno = state.seqno,
            upper = state.upper,
            "opened"
        );
        Ok(handle)
    }

    /// Opens another shard of the same root, for the same kind of access.
    ///
    /// # Errors
    ///
    /// As [`open`](Handle::open).
    pub(crate) async fn sibling(&self, name: &str) -> Result<Handle, Error> {
        let inner = &*self.inner;
        let config = HandleConfig { history: None, ..inner.config.clone() };
        let (root, io, patience) = (inner.root.clone(), inner.io.clone(), inner.patience.clone());
        Handle::open_patiently(root, name, None, inner.access, io, config, patience).await
    }

    /// Returns what the shard's keys and values are; for a reader of an empty shard what it asked
    /// for, or empty names.
    pub fn schema(&self) -> Schema {
        let stored = lock(&self.inner.stored).clone();
        stored.or_else(|| self.inner.wanted.clone()).unwrap_or_default()
    }

    /// Returns the address of the root.
    pub fn url(&self) -> &str {
        self.inner.root.url()
    }

    /// Returns what has had no answer of the store for longest, here or in a sibling.
    pub(crate) fn trouble(&self, now: Instant) -> Option<Trouble> {
        self.inner.patience.trouble(now)
    }

    /// Whether a trouble is still one.
    pub(crate) fn is_in(&self, trouble: &Trouble) -> bool {
        self.inner.patience.is_in(trouble)
    }

    /// Returns the last settled state known here. No I/O.
    pub fn state(&self) -> Arc<State> {
        Arc::clone(&lock(&self.inner.state))
    }

    /// Returns what this handle has done since it was opened. No I/O.
    pub fn counters(&self) -> Counters {
        self.inner.counters.read()
    }

    /// Returns what its compactions and collections have done. No I/O.
    pub fn maintenance(&self) -> MaintenanceStats {
        self.inner.maintenance.read()
    }

    /// Returns the number of the last settled entry as it changes; it is sent before the call that
    /// changed it returns.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.inner.changed.subscribe()
    }

    /// Waits for the next change of the state after this call. Waiters are woken in the order in
    /// which they came, so that a simulation replays.
    pub(crate) fn next_change(&self) -> Notified<'_> {
        self.inner.news.notified()
    }

    /// Reads the log to its head and returns the state there. One get and one list when there is
    /// nothing new.
    ///
    /// # Errors
    ///
    /// `Corrupt` for damage, `Unsupported` for entries of a later version, `Replaced` if the shard was
    /// removed or replaced, else those of the store. The state stays what it was.
    pub async fn refresh(&self) -> Result<Arc<State>, Error> {
        self.catch_up(self.state(), false).await
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
        let inner = &*self.inner;
        inner.guarded.check().await?;
        if inner.guarded.is_stranger() {
            let floor = inner.log.floor().await?;
            incarnation::recognise(&inner.guarded, &*inner.log, &self.state(), floor).await?;
        }
        Ok(())
    }

    /// Reads on from a state that this handle or a rollup vouches for, to the head; publishes that.
    async fn catch_up(&self, state: Arc<State>, from_rollup: bool) -> Result<Arc<State>, Error> {
        self.same_root(self.read_on(state, from_rollup).await).await
    }

    async fn read_on(&self, mut state: Arc<State>, from_rollup: bool) -> Result<Arc<State>, Error> {
        let inner = &*self.inner;
        let _reading = inner.reading.lock().await;
        // Somebody else may have read on while we waited.
        let known = self.state();
        if known.seqno > state.seqno {
            state = Arc::clone(&known);
        }
        let mut seen_new = from_rollup;
        let mut attempts = inner.patience.begin_quietly("reading the log of", self.url().into());
        let mut reloads = 0;
        loop {
            reloads += 1;
            if reloads % RELOADS_MAX == 0 {
                let what = "the log is collected faster than it can be read";
                let faster = Error::new(ErrorKind::Unavailable, what)
                    .at(inner.root.url())
                    .hint("retry, or collect less often");
                attempts.pause(faster).await?;
            }
            let start = state.seqno;
            let trouble = self.read_entries(&mut state).await?;
            seen_new |= state.seqno > start;
            // After the last entry read: whatever lies above this floor was never deleted, so what
            // we saw there is what was first created there.
            let floor = inner.log.floor().await?;
            if inner.guarded.is_stranger() {
                incarnation::recognise(&inner.guarded, &*inner.log, &known, floor).await?;
            }
            if floor > start {
                let Some(newest) = self.newest_rollup(floor).await? else {
                    return Err(Error::new(
                        ErrorKind::Corrupt,
                        format!("no rollup at or above the floor {floor}"),
                    )
                    .at(inner.blob.place(&format!("{}/rollup", inner.name)))
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
                inner.log.sync_head().await?;
            }
            self.publish(Arc::clone(&state));
            return Ok(state);
        }
    }

    /// Checks a `FORMAT` that was not there yet when this handle was opened.
    async fn check_format(&self) -> Result<(), Error> {
        let inner = &*self.inner;
        if lock(&inner.stored).is_some() {
            return Ok(());
        }
        let stored = read_format(&inner.root, inner.access).await?;
        if let (Some(stored), Some(wanted)) = (&stored, &inner.wanted) {
            stored.check(wanted).map_err(|e| e.at(inner.blob.place(FORMAT_KEY)))?;
        }
        incarnation::meet(&inner.guarded).await?;
        *lock(&inner.stored) = stored;
        Ok(())
    }

    /// Applies entries until there is none; returns what stopped it otherwise. Whether that is
    /// damage is for the floor to say: under it, entries may be anything.
    async fn read_entries(&self, state: &mut Arc<State>) -> Result<Option<Error>, Error> {
        let log = &self.inner.log;
        loop {
            let Some(seqno) = state.seqno.checked_add(1) else { return Ok(None) };
            let Some(bytes) = log.get(seqno).await? else { return Ok(None) };
            count(&self.inner.counters.bytes_read, bytes.len() as u64);
            let applied = Entry::decode(seqno, &bytes).and_then(|(entry, raw)| {
                Arc::make_mut(state).apply(&entry)?;
                self.cache_inline(&entry, raw);
                self.hear(&entry, state);
                Ok(())
            });
            if let Err(e) = applied {
                return Ok(Some(e.at(log.place(seqno))));
            }
        }
    }

    /// Makes a settled state the one known here, unless a later one is.
    fn publish(&self, state: Arc<State>) {
        let seqno = state.seqno;
        {
            let mut known = lock(&self.inner.state);
            if known.seqno >= seqno {
                return;
            }
            *known = state;
        }
        self.notify(seqno);
    }

    /// Makes the state after our own settled entry the one known here.
    pub(super) fn publish_entry(&self, entry: &Entry, raw: &[u8]) -> Result<(), Error> {
        self.cache_inline(entry, raw);
        {
            let mut known = lock(&self.inner.state);
            // A refresh on this handle may have seen it first.
            if known.seqno < entry.seqno {
                // In place, unless somebody holds the old state: no copy per commit.
                Arc::make_mut(&mut known).apply(entry)?;
            }
        }
        self.notify(entry.seqno);
        Ok(())
    }

    fn notify(&self, seqno: u64) {
        self.inner.changed.send_if_modified(|known| {
            let newer = seqno > *known;
            *known = seqno.max(*known);
            newer
        });
        self.inner.news.notify_waiters();
    }

    /// Keeps the inline parts of an entry: their readers need not fetch it again.
    fn cache_inline(&self, entry: &Entry, raw: &[u8]) {
        let Change::Append(commit) = &entry.change else { return };
        for part in &commit.parts {
            if let EntryPart::Inline { offset, bytes, .. } = part {
                // Inside, since the entry was decoded or made here.
                let range = *offset as usize..(*offset + *bytes) as usize;
                let id = PartId::Inline { seqno: entry.seqno, offset: *offset };
                lock(&self.inner.cache).put(id, Arc::new(raw[range].to_vec()));
            }
        }
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("Handle")
            .field("root", &self.inner.root)
            .field("name", &self.inner.name)
            .field("seqno", &state.seqno)
            .field("upper", &state.upper)
            .finish_non_exhaustive()
    }
}

/// Adds to a counter.
pub(super) fn count(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

/// Locks what no panic can leave half done: every critical section here is one assignment.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
