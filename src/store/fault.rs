//! Owns a store that fails on purpose: any operation may or may not be applied, and may or may not
//! say so. It holds no randomness of its own: a plan given by the test decides, so a run replays.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{Blob, Consensus, Create, Listed, Root, Store};
use crate::error::{Error, ErrorKind};

/// What is about to be done to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operation {
    /// [`Blob::put`].
    Put,
    /// [`Blob::create`].
    Create,
    /// [`Blob::get`].
    Get,
    /// [`Blob::list`].
    List,
    /// [`Blob::delete`].
    Delete,
    /// [`Blob::sweep_leftovers`].
    Sweep,
    /// [`Consensus::create`].
    CreateEntry,
    /// [`Consensus::get`].
    GetEntry,
    /// [`Consensus::entries`].
    ListEntries,
    /// [`Consensus::floor`].
    Floor,
    /// [`Consensus::raise_floor`].
    RaiseFloor,
    /// [`Consensus::delete`].
    DeleteEntry,
    /// [`Consensus::sync_head`].
    Sync,
}

impl Operation {
    /// Whether it changes the store.
    pub fn writes(self) -> bool {
        use Operation::*;
        matches!(self, Put | Create | Delete | Sweep | CreateEntry | RaiseFloor | DeleteEntry)
    }
}

/// One operation, as a plan sees it.
#[derive(Clone, Debug)]
pub struct Action {
    /// Counts all operations of one [`Faults`], from 1.
    pub number: u64,
    /// What is done.
    pub operation: Operation,
    /// The key, or the number of the entry.
    pub key: String,
}

/// What the caller of an operation hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// What really happened.
    Truth,
    /// A determinate error (`Unavailable`), whether or not it was applied.
    Error,
    /// An unknown outcome (`Indeterminate`).
    Timeout,
    /// A refusal for good (`Refused`), which is never applied.
    Refused,
}

/// What becomes of one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: it works.
    None,
    /// It is applied, or not, and the caller hears something else.
    Fail {
        /// Whether it is applied before the caller hears anything.
        applied: bool,
        /// What the caller hears; `Truth` counts as `Timeout` when it is not applied.
        report: Report,
    },
    /// Nobody hears anything until [`Faults::let_go`]; then it works.
    Hang,
    /// The caller hears a timeout, and the operation is applied after the next one.
    Late,
    /// It is not applied, and neither is anything after it: the process is dead.
    Crash,
}

type Plan = Box<dyn Fn(&Action) -> Fault + Send + Sync>;
type Pending = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A plan of faults and its progress, shared by all that goes through it.
///
/// ```
/// use differential_upsert::store::{Access, Fault, Faults, Operation, Report, Root};
/// let lost_reply = Faults::new(|action| match action.operation {
///     Operation::CreateEntry => Fault::Fail { applied: true, report: Report::Timeout },
///     _ => Fault::None,
/// });
/// let root = Root::open("mem:", Access::Write).unwrap().with_faults(lost_reply);
/// # let _ = root;
/// ```
pub struct Faults {
    plan: Plan,
    progress: Mutex<Progress>,
    let_go: Notify,
}

#[derive(Default)]
struct Progress {
    operations: u64,
    crashed: bool,
    late: Vec<Pending>,
}

impl Faults {
    /// Creates a plan: a function from each operation to what becomes of it.
    pub fn new(plan: impl Fn(&Action) -> Fault + Send + Sync + 'static) -> Arc<Faults> {
        let (progress, let_go) = (Mutex::default(), Notify::new());
        Arc::new(Faults { plan: Box::new(plan), progress, let_go })
    }

    /// Creates the plan of a process that dies instead of doing its `number`th operation.
    pub fn crash_at(number: u64) -> Arc<Faults> {
        Faults::new(move |action| if action.number >= number { Fault::Crash } else { Fault::None })
    }

    /// Returns how many operations were asked for.
    pub fn operations(&self) -> u64 {
        self.progress.lock().operations
    }

    /// Lets every operation go on that hangs now.
    pub fn let_go(&self) {
        self.let_go.notify_waiters();
    }

    /// Lets all late writes land now.
    pub async fn land(&self) {
        let late = std::mem::take(&mut self.progress.lock().late);
        for write in late {
            write.await;
        }
    }

    async fn run<T: Send + 'static>(
        &self,
        operation: Operation,
        key: String,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let (fault, late) = {
            let mut progress = self.progress.lock();
            progress.operations += 1;
            let action = Action { number: progress.operations, operation, key };
            let fault = if progress.crashed { Fault::Crash } else { (self.plan)(&action) };
            progress.crashed |= fault == Fault::Crash;
            (fault, std::mem::take(&mut progress.late))
        };
        let result = match fault {
            Fault::None => work.await,
            Fault::Hang => {
                self.let_go.notified().await;
                work.await
            }
            Fault::Fail { applied: true, report: Report::Truth } => work.await,
            Fault::Fail { report: Report::Refused, .. } => {
                Err(Error::new(ErrorKind::Refused, "an injected refusal").hint("let it in"))
            }
            Fault::Fail { applied, report } => {
                if applied {
                    let _ = work.await;
                }
                let determinate = report == Report::Error || !operation.writes();
                let kind =
                    if determinate { ErrorKind::Unavailable } else { ErrorKind::Indeterminate };
                Err(Error::new(kind, "an injected fault"))
            }
            Fault::Late => {
                let land: Pending = Box::pin(async move {
                    let _ = work.await;
                });
                self.progress.lock().late.push(land);
                Err(Error::new(ErrorKind::Indeterminate, "an injected timeout"))
            }
            // Final, or a process that is dead would go on asking.
            Fault::Crash => Err(Error::new(ErrorKind::Refused, "an injected crash")),
        };
        for write in late {
            write.await;
        }
        result
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faults").field("operations", &self.operations()).finish_non_exhaustive()
    }
}

impl Root {
    /// Returns this root seen through a fault plan, for tests: see [`Faults`]. What
    /// is opened through it is another process's: it has yet to find out which root this is.
    pub fn with_faults(&self, faults: Arc<Faults>) -> Root {
        self.elsewhere(|inner| Arc::new(FaultyStore { inner, faults }))
    }
}

/// A store seen through a plan.
struct FaultyStore {
    inner: Arc<dyn Store>,
    faults: Arc<Faults>,
}

#[async_trait]
impl Store for FaultyStore {
    fn blob(&self) -> Arc<dyn Blob> {
        Arc::new(FaultyBlob { inner: self.inner.blob(), faults: Arc::clone(&self.faults) })
    }

    fn log(&self, shard: &str) -> Arc<dyn Consensus> {
        Arc::new(FaultyLog { inner: self.inner.log(shard), faults: Arc::clone(&self.faults) })
    }

    fn layout(&self) -> u32 {
        self.inner.layout()
    }
}

#[derive(Debug)]
struct FaultyBlob {
    inner: Arc<dyn Blob>,
    faults: Arc<Faults>,
}

/// Runs one operation of the inner store through the plan: the work owns what it needs, because it
/// may outlive the call.
macro_rules! through {
    ($self:ident, $operation:ident, $key:expr, |$inner:ident| $work:expr) => {{
        let $inner = Arc::clone(&$self.inner);
        $self.faults.run(Operation::$operation, $key, async move { $work.await }).await
    }};
}

#[async_trait]
impl Blob for FaultyBlob {
    async fn put(&self, key: &str, bytes: Bytes) -> Result<(), Error> {
        let name = key.to_string();
        through!(self, Put, key.into(), |inner| inner.put(&name, bytes))
    }

    async fn create(&self, key: &str, bytes: Bytes) -> Result<Create, Error> {
        let name = key.to_string();
        through!(self, Create, key.into(), |inner| inner.create(&name, bytes))
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>, Error> {
        let name = key.to_string();
        through!(self, Get, key.into(), |inner| inner.get(&name))
    }

    async fn list(&self, folder: &str, limit: usize) -> Result<Vec<Listed>, Error> {
        let name = folder.to_string();
        through!(self, List, folder.into(), |inner| inner.list(&name, limit))
    }

    async fn delete(&self, key: &str) -> Result<(), Error> {
        let name = key.to_string();
        through!(self, Delete, key.into(), |inner| inner.delete(&name))
    }

    async fn sweep_leftovers(&self, before_ms: u64) -> Result<u64, Error> {
        through!(self, Sweep, String::new(), |inner| inner.sweep_leftovers(before_ms))
    }

    /// No operation of a plan's: a failure of it is no news to anyone.
    async fn ready(&self, folder: &str) -> Result<(), Error> {
        self.inner.ready(folder).await
    }

    fn place(&self, key: &str) -> String {
        self.inner.place(key)
    }
}

#[derive(Debug)]
struct FaultyLog {
    inner: Arc<dyn Consensus>,
    faults: Arc<Faults>,
}

#[async_trait]
impl Consensus for FaultyLog {
    async fn create(&self, seqno: u64, entry: Bytes) -> Result<Create, Error> {
        through!(self, CreateEntry, seqno.to_string(), |inner| inner.create(seqno, entry))
    }

    async fn get(&self, seqno: u64) -> Result<Option<Bytes>, Error> {
        through!(self, GetEntry, seqno.to_string(), |inner| inner.get(seqno))
    }

    async fn entries(&self) -> Result<Vec<u64>, Error> {
        through!(self, ListEntries, String::new(), |inner| inner.entries())
    }

    async fn floor(&self) -> Result<u64, Error> {
        through!(self, Floor, String::new(), |inner| inner.floor())
    }

    async fn raise_floor(&self, seqno: u64) -> Result<(), Error> {
        through!(self, RaiseFloor, seqno.to_string(), |inner| inner.raise_floor(seqno))
    }

    async fn delete(&self, seqno: u64) -> Result<(), Error> {
        through!(self, DeleteEntry, seqno.to_string(), |inner| inner.delete(seqno))
    }

    async fn sync_head(&self) -> Result<(), Error> {
        through!(self, Sync, String::new(), |inner| inner.sync_head())
    }

    fn owns(&self, key: &str) -> bool {
        self.inner.owns(key)
    }

    fn place(&self, seqno: u64) -> String {
        self.inner.place(seqno)
    }
}
