//! Owns a [`View`], which all parts of a [`Handle`](super::Handle) share: what a process knows of a shard, and how
//! it is opened. How it reads on is [`look`](super::look)'s, what is entered into the log
//! [`settle`](super::settle)'s, rows are [`rows`](super::rows)', leases are [`holds`](super::holds)'.

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
use super::engine::entry::{Change, Entry, EntryPart, History};
use super::engine::format::{FORMAT_KEY, Schema, Upgrades};
use super::engine::id::Id;
use super::engine::state::{Part, State};
use super::incarnation;
use super::keeper::Keeper;
use super::open::{create_format, newest_rollup, read_format, upgrade_format};
use super::own::OwnRows;
use super::uploads::Uploads;
use crate::error::{Error, ErrorKind};
use crate::io::Io;
use crate::store::{Access, Blob, Consensus, Guarded, Patience, Root, Trouble};

/// How long an opening waits for a store that does not answer.
const OPENING_MAX: Duration = Duration::from_secs(10);

/// What one process knows of a shard: the state, as far as its log was read, and what is its own. It
/// opens and reads on; it writes nothing but what makes a shard out of an empty root.
pub(crate) struct View {
    /// Every operation of which is patient.
    pub(super) root: Root,
    pub(super) patience: Patience,
    /// Which root it is.
    pub(super) guarded: Guarded,
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
    pub(super) cache: Mutex<Cache<Vec<u8>>>,
    /// The rows of parts written here.
    pub(super) own: Mutex<Cache<OwnRows>>,
    /// The number of the last rollup known.
    pub(super) last_rollup: AtomicU64,
    pub(super) reading: AsyncMutex<()>,
    /// When the log was last looked at, and how often only a little.
    pub(super) looked: Mutex<Option<Duration>>,
    pub(super) glances: AtomicU32,
    /// What the caller asked for.
    pub(super) wanted: Option<Schema>,
    /// Which values of another shape it reads.
    pub(super) upgrades: Option<Upgrades>,
    /// What `FORMAT` says; `None` until a reader of an empty root has seen one.
    pub(super) stored: Mutex<Option<Schema>>,
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
        let HandleOptions { name, schema, upgrades, access, config } = options;
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
            stored.check_with(wanted, upgrades).map_err(|e| e.at(root.blob().place(FORMAT_KEY)))?;
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
            own: Mutex::new(Cache::new(config.cache_bytes_max)),
            last_rollup: AtomicU64::new(0),
            reading: AsyncMutex::new(()),
            looked: Mutex::default(),
            glances: AtomicU32::new(0),
            wanted: schema,
            upgrades,
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
        let options = HandleOptions { name, schema: None, upgrades: None, access, config };
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

    /// Returns the history that the entry after `state` gives the shard: the first one gives it, whatever else it does.
    pub(super) fn first_history(&self, state: &State) -> Option<History> {
        (state.seqno == 0).then(|| self.config.history.unwrap_or_default())
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

    pub(super) async fn newest_rollup(&self, floor: u64) -> Result<Option<State>, Error> {
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

    /// Makes a settled state the one known here, unless a later one is.
    pub(super) fn publish(&self, state: Arc<State>) {
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
    pub(super) fn cache_inline(&self, entry: &Entry, raw: &[u8]) {
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
