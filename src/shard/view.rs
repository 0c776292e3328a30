//! Owns a [`View`], which all parts of a [`Handle`](super::Handle) share: opening a shard, and following
//! its log to the head. What is entered into the log is [`settle`](super::settle)'s, rows are
//! [`rows`](super::rows)', leases are [`holds`](super::holds)'.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::futures::Notified;
use tokio::sync::{Mutex as AsyncMutex, Notify, watch};
use tokio::time::Instant;

use super::cache::{Cache, PartId};
use super::config::{HandleConfig, HandleOptions};
use super::counters::{Counters, CountersCell};
use super::engine::entry::{Change, Entry, EntryPart};
use super::engine::format::{FORMAT_KEY, Schema};
use super::engine::id::Id;
use super::engine::state::{Part, State};
use super::incarnation;
use super::keeper::Keeper;
use super::open::{RELOADS_MAX, create_format, newest_rollup, read_format, upgrade_format};
use super::uploads::Uploads;
use crate::error::{Error, ErrorKind};
use crate::io::Io;
use crate::store::{Access, Blob, Consensus, Guarded, Patience, Root, Trouble};

/// How long an opening waits for a store that does not answer.
const OPENING_MAX: Duration = Duration::from_secs(10);

/// One of so many glances is a thorough look.
const THOROUGH: u32 = 8;

/// What one process knows of a shard: the state, as far as its log was read, and what is its own. It
/// opens and reads on; it writes nothing but what makes a shard out of an empty root.
pub(crate) struct View {
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
    opened: Instant,
    /// Names this handle in the state's table of writers.
    pub(super) writer: Id,
    /// This handle's lease.
    pub(super) keeper: Mutex<Keeper>,
    pub(super) counters: CountersCell,
    /// The parts of this handle that are not decided.
    pub(super) uploads: Mutex<Uploads>,
    pub(super) cache: Mutex<Cache>,
    /// The number of the last rollup known.
    pub(super) last_rollup: AtomicU64,
    reading: AsyncMutex<()>,
    /// When the log was last looked at, and how often only a little.
    looked: Mutex<Option<Duration>>,
    glances: AtomicU32,
    /// What the caller asked for.
    wanted: Option<Schema>,
    /// What `FORMAT` says; `None` until a reader of an empty root has seen one.
    stored: Mutex<Option<Schema>>,
    state: Mutex<Arc<State>>,
    changed: watch::Sender<u64>,
    /// The same for our own followers: a watch wakes its receivers in a random order.
    news: Notify,
}

impl View {
    /// Opens the shard that `options` name and reads its log to the head.
    pub(super) async fn open(
        root: Root,
        io: Io,
        options: HandleOptions,
    ) -> Result<Arc<View>, Error> {
        options.config.validate()?;
        if options.access == Access::Write && root.access() == Access::Read {
            return Err(Error::new(ErrorKind::Invalid, "a root that was opened for reading")
                .at(root.url())
                .hint("open it for writing, or the shard for reading"));
        }
        let mut bounds = options.config.patience();
        let outage_max = bounds.outage_max;
        bounds.outage_max = outage_max.min(OPENING_MAX);
        let patience = Patience::new(io.clone(), bounds);
        let root = root.patient(patience.clone());
        let view = View::open_patient(root, io, options, patience.clone()).await?;
        patience.set_outage_max(outage_max);
        Ok(view)
    }

    /// As [`open`](View::open), in a root that is seen through a patience.
    async fn open_patient(
        root: Root,
        io: Io,
        options: HandleOptions,
        patience: Patience,
    ) -> Result<Arc<View>, Error> {
        let HandleOptions { name, schema, access, config } = options;
        let guarded = root.guarded();
        // Before anything is created: what was removed under us must not come back by our hand.
        guarded.check().await?;
        let found = match read_format(&root, access).await? {
            None if access == Access::Write => {
                Some(create_format(&root, schema.as_ref(), &io).await?)
            }
            found => found,
        };
        if let (Some((stored, _)), Some(wanted)) = (&found, &schema) {
            stored.check(wanted).map_err(|e| e.at(root.blob().place(FORMAT_KEY)))?;
        }
        let old = |layout| access == Access::Write && layout < root.layout();
        if let Some((stored, _)) = found.as_ref().filter(|(_, layout)| old(*layout)) {
            upgrade_format(&root, stored, &io).await?;
        }
        let stored = found.map(|(stored, _)| stored);
        match access {
            Access::Write => incarnation::establish(&guarded, &io, root.layout()).await?,
            Access::Read if stored.is_some() => incarnation::meet(&guarded, root.layout()).await?,
            Access::Read => {}
        }
        let writer = Id(io.token());
        let view = Arc::new(View {
            access,
            blob: guarded.blob(),
            log: guarded.log(root.log(&name)),
            opened: Instant::now(),
            writer,
            keeper: Mutex::new(Keeper::new(writer)),
            counters: CountersCell::default(),
            uploads: Mutex::default(),
            cache: Mutex::new(Cache::new(config.cache_bytes_max)),
            last_rollup: AtomicU64::new(0),
            reading: AsyncMutex::new(()),
            looked: Mutex::default(),
            glances: AtomicU32::new(0),
            wanted: schema,
            stored: Mutex::new(stored),
            state: Mutex::default(),
            changed: watch::Sender::new(0),
            news: Notify::new(),
            name,
            root,
            patience,
            guarded,
            io,
            config,
        });
        if let Some(state) = view.same_root(view.newest_rollup(0).await).await? {
            view.last_rollup.store(state.seqno, Ordering::Relaxed);
            view.catch_up(Arc::new(state), true).await?;
        } else {
            view.refresh().await?;
        }
        let state = view.state();
        let (shard, State { seqno, upper, .. }) = (view.root.url(), &*state);
        tracing::debug!(shard, seqno, upper, "opened");
        Ok(view)
    }

    /// Opens another shard of the same root, for the same kind of access.
    pub(super) async fn sibling(&self, name: &str) -> Result<Arc<View>, Error> {
        let config = HandleConfig { history: None, ..self.config.clone() };
        let (name, access) = (name.to_string(), self.access);
        let options = HandleOptions { name, schema: None, access, config };
        let (root, io) = (self.root.clone(), self.io.clone());
        View::open_patient(root, io, options, self.patience.clone()).await
    }

    /// Refuses to write through what was opened for reading.
    pub(super) fn must_write(&self, what: &str) -> Result<(), Error> {
        if self.access == Access::Write {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Invalid, format!("{what} a shard opened for reading"))
            .at(self.root.url()))
    }

    /// Returns a name that nothing else has.
    pub(super) fn fresh(&self) -> Id {
        Id(self.io.token())
    }

    /// Returns the time since this was opened, by a clock that only measures.
    pub(super) fn now(&self) -> Duration {
        self.opened.elapsed()
    }

    /// Returns when a lease ends that is granted now.
    pub(super) fn expires_ms(&self) -> u64 {
        self.io.now_ms().saturating_add(self.config.lease_ms())
    }

    /// Returns how many followers read through this.
    pub(super) fn followers(&self) -> usize {
        self.keeper.lock().followers()
    }

    /// Names a part for people.
    pub(super) fn place(&self, part: &Part) -> String {
        match part {
            Part::Stored { key, .. } => self.blob.place(key),
            Part::Inline { seqno, .. } => self.log.place(*seqno),
        }
    }

    async fn newest_rollup(&self, floor: u64) -> Result<Option<State>, Error> {
        newest_rollup(&self.root, &self.name, &self.patience, floor).await
    }

    /// Returns what the shard's keys and values are; for a reader of an empty shard what it asked
    /// for, or empty names.
    pub(super) fn schema(&self) -> Schema {
        let stored = self.stored.lock().clone();
        stored.or_else(|| self.wanted.clone()).unwrap_or_default()
    }

    /// Returns the address of the root.
    pub(super) fn url(&self) -> &str {
        self.root.url()
    }

    /// Returns what has had no answer of the store for longest, here or in a sibling.
    pub(super) fn trouble(&self, now: Instant) -> Option<Trouble> {
        self.patience.trouble(now)
    }

    /// Whether a trouble is still one.
    pub(super) fn is_in(&self, trouble: &Trouble) -> bool {
        self.patience.is_in(trouble)
    }

    /// Returns the last settled state known here. No I/O.
    pub(super) fn state(&self) -> Arc<State> {
        Arc::clone(&self.state.lock())
    }

    /// Returns what this handle has done since it was opened. No I/O.
    pub(super) fn counters(&self) -> Counters {
        self.counters.read()
    }

    /// Returns the number of the last settled entry as it changes; it is sent before the call that
    /// changed it returns.
    pub(super) fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Waits for the next change of the state after this call. Waiters are woken in the order in
    /// which they came, so that a simulation replays.
    pub(super) fn next_change(&self) -> Notified<'_> {
        self.news.notified()
    }

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
    async fn catch_up(&self, state: Arc<State>, from_rollup: bool) -> Result<Arc<State>, Error> {
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
            stored.check(wanted).map_err(|e| e.at(self.blob.place(FORMAT_KEY)))?;
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

    /// Makes a settled state the one known here, unless a later one is.
    fn publish(&self, state: Arc<State>) {
        let seqno = state.seqno;
        {
            let mut known = self.state.lock();
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
            let mut known = self.state.lock();
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
        self.changed.send_if_modified(|known| {
            let newer = seqno > *known;
            *known = seqno.max(*known);
            newer
        });
        self.news.notify_waiters();
    }

    /// Keeps the inline parts of an entry: their readers need not fetch it again.
    fn cache_inline(&self, entry: &Entry, raw: &[u8]) {
        let Change::Append(commit) = &entry.change else { return };
        for part in &commit.parts {
            if let EntryPart::Inline { offset, bytes, .. } = part {
                // Inside, since the entry was decoded or made here.
                let range = *offset as usize..(*offset + *bytes) as usize;
                let id = PartId::Inline { seqno: entry.seqno, offset: *offset };
                self.cache.lock().put(id, Arc::new(raw[range].to_vec()));
            }
        }
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("View")
            .field("root", &self.root)
            .field("name", &self.name)
            .field("seqno", &state.seqno)
            .field("upper", &state.upper)
            .finish_non_exhaustive()
    }
}
