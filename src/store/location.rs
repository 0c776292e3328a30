//! Owns addresses (`file:`, `mem:`, `s3:`, `gs:`, `az:`) and the [`Root`] they open. It does not
//! look inside a root; that is [`shard`](crate::shard).

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use object_store::memory::InMemory;

use super::guard::{Guard, Guarded};
use super::local::{LocalStore, is_beside, sync_directory};
use super::patience::Patience;
use super::patient::PatientStore;
use super::read_only::ReadOnly;
use super::refusal::{Cause, Meaning, Step, meaning};
use super::{Blob, Consensus, ObjectBlob, Store, cloud};
use crate::error::{Error, ErrorKind};
use crate::login::{hint, login};

/// What a program means to do with a root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Access {
    /// Look only: nothing is created, and every write is refused.
    Read,
    /// Write too, and create what is not there.
    Write,
}

/// A store in two parts.
struct Parts<F> {
    blob: Arc<dyn Blob>,
    logs: F,
}

impl<F: Fn(&str) -> Arc<dyn Consensus> + Send + Sync> Store for Parts<F> {
    fn blob(&self) -> Arc<dyn Blob> {
        Arc::clone(&self.blob)
    }

    fn log(&self, shard: &str) -> Arc<dyn Consensus> {
        (self.logs)(shard)
    }
}

/// A place that holds shards; cheap to clone, and clones share it.
#[derive(Clone)]
pub struct Root {
    store: Arc<dyn Store>,
    url: String,
    /// Whether a root without a single key exists: a directory does, a prefix of a bucket does not.
    stands_empty: bool,
    /// Which root it is, once something of it is known.
    guard: Arc<Guard>,
    access: Access,
}

impl Root {
    /// Opens `file:DIR`, a bare path, `mem:`, `s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX` or
    /// `az://CONTAINER/PREFIX`.
    ///
    /// A writer creates DIR, durably; a reader creates nothing. `mem:` is a fresh store of its own
    /// at each call: clone the root to share it. Credentials of a cloud come from its environment
    /// variables.
    ///
    /// # Errors
    ///
    /// `Missing` if a reader names a directory that is not there; `Invalid` for an address that
    /// cannot be one, or a path to something else than a directory; `Unsupported` for a cloud this program was
    /// built without; `Refused` or `Unavailable` if DIR cannot be made.
    pub fn open(url: &str, access: Access) -> Result<Root, Error> {
        if let Some(scheme) = login(url) {
            let what = format!("a user, a password or a token in an address of {scheme}:");
            return Err(Error::new(ErrorKind::Invalid, what).hint(hint(scheme)));
        }
        if url == "mem:" {
            let root = Root::from_object_store(Arc::new(InMemory::new()), "mem:");
            return Ok(Root { access, ..root });
        }
        if let Some(path) = url.strip_prefix("file:") {
            return Root::open_directory(
                Path::new(path.strip_prefix("//").unwrap_or(path)),
                access,
            );
        }
        let blob = match url.split_once("://").map(|(scheme, _)| scheme) {
            Some("s3" | "s3a") => cloud::s3(url)?,
            Some("gs") => cloud::gs(url)?,
            Some("az" | "abfs" | "abfss") => cloud::az(url)?,
            Some(scheme) => {
                let what = format!("no kind of store is called \"{scheme}:\"");
                return Err(Error::new(ErrorKind::Invalid, what)
                    .at(url)
                    .hint("use file:DIR, mem:, s3://, gs:// or az://"));
            }
            None => return Root::open_directory(Path::new(url), access),
        };
        Ok(Root { access, ..Root::of(blob, url.to_string(), false) })
    }

    /// Wraps an `object_store` of the caller's; `url` is what errors call it. Conditional puts go
    /// to it too, so it must not retry them.
    pub fn from_object_store(store: Arc<dyn object_store::ObjectStore>, url: &str) -> Root {
        let blob = ObjectBlob::new(Arc::clone(&store), store, url);
        Root::of(blob, url.to_string(), true)
    }

    /// Makes a root of a store of the caller's: `logs` returns the log of each name of a shard, always the same
    /// one. `url` is what errors call it. Incarnation, patience and leases are around it as around ours.
    ///
    /// A store retries nothing inside, and must pass the suites that the feature `testing` exports. Rows,
    /// rollups and `FORMAT` are blobs; the one thing that must be create-if-absent beside `FORMAT` and
    /// `INCARNATION` is an entry of a log.
    ///
    /// ```
    /// use std::collections::BTreeMap;
    /// use std::sync::{Arc, Mutex};
    ///
    /// use async_trait::async_trait;
    /// use bytes::Bytes;
    /// use differential_upsert::Error;
    /// use differential_upsert::store::{Blob, Consensus, Create, Listed, Root};
    ///
    /// /// A table with a unique key, as a database has.
    /// #[derive(Debug, Default)]
    /// struct Table<K>(Mutex<BTreeMap<K, Bytes>>);
    ///
    /// impl<K: Ord> Table<K> {
    ///     fn insert(&self, key: K, bytes: Bytes) -> Create {
    ///         use std::collections::btree_map::Entry::{Occupied, Vacant};
    ///         match self.0.lock().unwrap().entry(key) {
    ///             Occupied(_) => Create::Exists,
    ///             Vacant(vacant) => { vacant.insert(bytes); Create::Created }
    ///         }
    ///     }
    /// }
    ///
    /// #[async_trait]
    /// impl Blob for Table<String> {
    ///     async fn put(&self, key: &str, bytes: Bytes) -> Result<(), Error> {
    ///         self.0.lock().unwrap().insert(key.to_string(), bytes);
    ///         Ok(())
    ///     }
    ///     async fn create(&self, key: &str, bytes: Bytes) -> Result<Create, Error> {
    ///         Ok(self.insert(key.to_string(), bytes))
    ///     }
    ///     async fn get(&self, key: &str) -> Result<Option<Bytes>, Error> {
    ///         Ok(self.0.lock().unwrap().get(key).cloned())
    ///     }
    ///     async fn list(&self, folder: &str, limit: usize) -> Result<Vec<Listed>, Error> {
    ///         let inside = |key: &str| match key.strip_prefix(folder) {
    ///             Some(rest) => folder.is_empty() || rest.starts_with('/'),
    ///             None => false,
    ///         };
    ///         let table = self.0.lock().unwrap();
    ///         let found = table.iter().filter(|(key, _)| inside(key)).take(limit);
    ///         Ok(found.map(|(k, b)| Listed { key: k.clone(), bytes: b.len() as u64 }).collect())
    ///     }
    ///     async fn delete(&self, key: &str) -> Result<(), Error> {
    ///         self.0.lock().unwrap().remove(key);
    ///         Ok(())
    ///     }
    ///     async fn sweep_leftovers(&self, _: u64) -> Result<u64, Error> {
    ///         Ok(0)
    ///     }
    ///     fn place(&self, key: &str) -> String {
    ///         format!("blobs[{key}]")
    ///     }
    /// }
    ///
    /// /// The log of one shard, and its floor: the greatest number of a second table.
    /// #[derive(Debug, Default)]
    /// struct Log {
    ///     entries: Table<u64>,
    ///     floors: Table<u64>,
    /// }
    ///
    /// #[async_trait]
    /// impl Consensus for Log {
    ///     async fn create(&self, seqno: u64, entry: Bytes) -> Result<Create, Error> {
    ///         Ok(self.entries.insert(seqno, entry))
    ///     }
    ///     async fn get(&self, seqno: u64) -> Result<Option<Bytes>, Error> {
    ///         Ok(self.entries.0.lock().unwrap().get(&seqno).cloned())
    ///     }
    ///     async fn floor(&self) -> Result<u64, Error> {
    ///         Ok(self.floors.0.lock().unwrap().keys().last().copied().unwrap_or(0))
    ///     }
    ///     async fn entries(&self) -> Result<Vec<u64>, Error> {
    ///         Ok(self.entries.0.lock().unwrap().keys().copied().collect())
    ///     }
    ///     async fn raise_floor(&self, seqno: u64) -> Result<(), Error> {
    ///         let _ = self.floors.insert(seqno, Bytes::new());
    ///         Ok(())
    ///     }
    ///     async fn delete(&self, seqno: u64) -> Result<(), Error> {
    ///         self.entries.0.lock().unwrap().remove(&seqno);
    ///         Ok(())
    ///     }
    ///     async fn sync_head(&self) -> Result<(), Error> {
    ///         Ok(())
    ///     }
    ///     fn place(&self, seqno: u64) -> String {
    ///         format!("log[{seqno}]")
    ///     }
    /// }
    ///
    /// fn make() -> Root {
    ///     let logs = Mutex::new(BTreeMap::<String, Arc<Log>>::new());
    ///     let log = move |shard: &str| -> Arc<dyn Consensus> {
    ///         logs.lock().unwrap().entry(shard.to_string()).or_default().clone()
    ///     };
    ///     Root::from_parts(Arc::new(Table::<String>::default()), log, "tables:")
    /// }
    ///
    /// # use differential_upsert::io::Io;
    /// # let io = Io::process()?;
    /// # #[cfg(feature = "testing")]
    /// io.block_on(async {
    ///     differential_upsert::testing::store::all(make, &io).await;
    ///     differential_upsert::testing::shard::all(make, &io).await;
    /// });
    /// # let config = differential_upsert::shard::HandleConfig::default();
    /// let shard = differential_upsert::Shard::<String, u64>::open_with(make(), io.clone(), config);
    /// assert_eq!(io.block_on(shard)?.upper(), 0);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn from_parts(
        blob: Arc<dyn Blob>,
        logs: impl Fn(&str) -> Arc<dyn Consensus> + Send + Sync + 'static,
        url: &str,
    ) -> Root {
        Root::of(Parts { blob, logs }, url.to_string(), true)
    }

    /// Returns this root seen through a patience: what may be repeated is.
    pub(crate) fn patient(&self, patience: Patience) -> Root {
        let store = Arc::new(PatientStore::new(Arc::clone(&self.store), patience));
        Root { store, ..self.clone() }
    }

    /// Returns another process's view of this root, through a store that `wraps` its own: it has yet to
    /// find out which root this is.
    pub(super) fn elsewhere(&self, wraps: impl FnOnce(Arc<dyn Store>) -> Arc<dyn Store>) -> Root {
        let store = wraps(Arc::clone(&self.store));
        Root { store, guard: Arc::new(Guard::new()), ..self.clone() }
    }

    /// Returns the address it was opened with.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns what it was opened for.
    pub fn access(&self) -> Access {
        self.access
    }

    /// Returns its keys and bytes. If it was opened for reading, every write is refused.
    pub fn blob(&self) -> Arc<dyn Blob> {
        match self.access {
            Access::Write => self.store.blob(),
            Access::Read => ReadOnly::blob(self.store.blob(), &self.url),
        }
    }

    /// Returns the log of one of its shards. If it was opened for reading, every write is refused.
    pub fn log(&self, shard: &str) -> Arc<dyn Consensus> {
        match self.access {
            Access::Write => self.store.log(shard),
            Access::Read => ReadOnly::log(self.store.log(shard), &self.url),
        }
    }

    /// Returns this root, every write to which makes sure first that it is still the same.
    pub(crate) fn guarded(&self) -> Guarded {
        Guarded::new(Arc::clone(&self.guard), self.blob(), self.url.clone())
    }

    fn of(store: impl Store + 'static, url: String, stands_empty: bool) -> Root {
        let guard = Arc::new(Guard::new());
        Root { store: Arc::new(store), url, stands_empty, guard, access: Access::Write }
    }

    /// Returns the version of the layout that its store makes.
    pub(crate) fn layout(&self) -> u32 {
        self.store.layout()
    }

    /// Refuses what its store stands on if that cannot hold a shard, beyond what a create can tell.
    pub(crate) async fn check_store(&self, token: u128) -> Result<(), Error> {
        match self.access {
            Access::Write => self.store.check(token).await,
            Access::Read => Ok(()),
        }
    }

    /// Whether this root is there even when it holds no key.
    pub(crate) fn stands_empty(&self) -> bool {
        self.stands_empty
    }

    fn open_directory(path: &Path, access: Access) -> Result<Root, Error> {
        let at = path.display().to_string();
        let trouble = |e: std::io::Error| {
            let Meaning { kind, hint, .. } = meaning(Step::Stage, Cause::from(&e));
            Error::new(kind, format!("the directory cannot be opened: {e}"))
                .at(&at)
                .hint(hint)
                .because(e)
        };
        if at.is_empty() {
            return Err(Error::new(ErrorKind::Invalid, "an address without a path")
                .at("file:")
                .hint("write file:DIR"));
        }
        match std::fs::metadata(path) {
            Ok(found) if !found.is_dir() => {
                return Err(Error::new(ErrorKind::Invalid, "not a directory")
                    .at(&at)
                    .hint("name a directory for the shard"));
            }
            Ok(_) if access == Access::Write => sync_name(path).map_err(trouble)?,
            Ok(_) => {}
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => match access {
                Access::Read => {
                    return Err(Error::new(ErrorKind::Missing, "no shard here")
                        .at(&at)
                        .hint("check the address; only a writer creates a shard"));
                }
                Access::Write => create_directory(path).map_err(trouble)?,
            },
            Err(e) if e.kind() == std::io::ErrorKind::NotADirectory => {
                return Err(Error::new(ErrorKind::Invalid, "a part of the path is a file")
                    .at(&at)
                    .hint("name a directory for the shard"));
            }
            Err(e) => return Err(trouble(e)),
        }
        let path = path.canonicalize().map_err(trouble)?;
        let store = LocalStore::new(path, format!("{}/", at.trim_end_matches('/')));
        Ok(Root { access, ..Root::of(store, format!("file:{at}"), true) })
    }
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Root").field(&self.url).finish()
    }
}

/// Makes the name of a directory durable that is there, and those above it on its file system: their maker may have
/// died before they were. A parent that this user may not open, or that has no sync, is not of our making.
fn sync_name(path: &Path) -> std::io::Result<()> {
    use std::io::ErrorKind as Io;
    let absolute = std::path::absolute(path)?;
    for above in absolute.ancestors().skip(1).take_while(|above| is_beside(&absolute, above)) {
        match sync_directory(above) {
            Err(e) if matches!(e.kind(), Io::PermissionDenied | Io::InvalidInput) => {}
            synced => synced?,
        }
    }
    Ok(())
}

/// Creates a directory and its parents, and syncs the directory above each one made: without that
/// a power loss can take the whole root with it.
fn create_directory(path: &Path) -> std::io::Result<()> {
    let absolute = std::path::absolute(path)?;
    let made: Vec<PathBuf> =
        absolute.ancestors().take_while(|p| !p.exists()).map(PathBuf::from).collect();
    std::fs::create_dir_all(&absolute)?;
    for parent in made.iter().rev().filter_map(|path| path.parent()) {
        sync_directory(parent)?;
    }
    Ok(())
}
