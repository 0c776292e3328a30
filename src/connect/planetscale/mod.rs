//! Owns the source of PlanetScale and Vitess tables: one table, of one or many shards. It does not own
//! the cursors' way into a shard, nor retries; those are every source's.
//!
//! ```text
//!   planetscale://HOST:PORT/KEYSPACE/TABLE?shard=-80,80-&key=COL,COL&..
//! ```
//!
//! * `shard`: the shards to read, with commas between; default `-`, an unsharded keyspace. A cursor
//!   that names others, because the keyspace was resharded, goes before this.
//! * `key`: the columns that are a row's key; default the table's primary key, as the server marks it.
//! * `protocol`: `vstream` is VTGate's own, `vtgateservice.Vitess/VStream`: one stream of all shards,
//!   which keeps the order within a transaction, says where a copy ends, and follows a reshard. `sync`
//!   is PlanetScale's `psdbconnect.v1alpha1.Connect/Sync`: one stream per shard, which does
//!   not do these three. Default: `vstream`, which both serve.
//! * `tls`: default `on`. `off` sends everything in the clear, the password too.
//! * `ca`: a file of PEM with the authorities that may have signed the server's certificate; default the roots of the
//!   system. `cert` and `key_file`: files of PEM with the client's certificate and its key.
//! * `auth`: how user and password are sent. `basic`, the default, is HTTP's; `static` is VTGate's
//!   static authentication, `username` and `password` in the metadata.
//! * `tablet`: `primary`, the default, `replica` or `rdonly`; `cells`: where to pick tablets, with commas
//!   between.
//! * `attempts`: how often in a row a unit may fail, or the position be lost; `idle_commit`: how many
//!   seconds a boundary without rows waits to be made durable. Both are for the program that runs the source: see
//!   [`PlanetScale::attempts_max`] and [`PlanetScale::idle_commit`].
//!
//! Names are percent-encoded. A row's key is an object of the key's columns, its value an object of all,
//! both canonical JSON text (see the table in the documentation of [`PlanetScale`]).
//!
//! # Promises
//!
//! 1. A partition is a shard. Its position is a set of transactions, and while it is copied also the
//!    last primary key; both are sent to resume. Sets are compared by what they contain.
//! 2. The first position of a copy, which comes before all rows, is never a cursor.
//! 3. A transaction is one unit, in however many responses it comes. A change of a row's key deletes the
//!    old key and puts the new one in the same unit.
//! 4. In `sync`, the order within a response is lost. A key that is deleted and inserted is there with
//!    the inserted row. So a row that is *inserted and deleted* in one transaction stays: a table
//!    with such transactions needs `vstream`.
//! 5. In `sync`, the copy of an empty table is complete with the shard's next transaction, on whatever
//!    table.
//! 6. A statement that removes or brings rows is not the change of a row. In `vstream`, `TRUNCATE`, `DROP` and a
//!    table renamed away are a reset in their unit, where there is one shard; of many, and for
//!    partitions and tables that are exchanged, everything is copied anew. `sync` does not say such
//!    statements.
//! 7. A place that the server does not have any more is copied anew, unless
//!    [`OnPositionLost`](crate::source::OnPositionLost) says otherwise; not if its shards have never
//!    run on any server that the cursor knows: that is another database, and `FeedDiffers`.
//! 8. What cannot be read of a value is that key's error. A key that cannot be read is kept by its bytes,
//!    as `{"key_base64": ".."}`.
//! 9. With `binlog_row_image=NOBLOB`, MySQL leaves `TEXT` and `BLOB` columns out: those that an update did not change, and
//!    those that an insert did not name. Such an update is a patch, and the shard needs
//!    [`keep_unsent`](crate::codec::keep_unsent) as its [fold](crate::Shard::with_fold); such an insert has NULL there. If
//!    the key has changed, or the column cannot be NULL, or the row in the shard does not have it, this is the key's error.
//!    A row that lacks another column, or a key outside of the primary key, is an error of the feed.
//!
//! # Limits
//!
//! * One shard of the database has a key: of two, the row that came last stays. A row that moves to another
//!   shard stays if its new shard's insert came in this process, among the last million keys; else a
//!   delete in the old shard that comes after it takes it away. To copy anew mends it.
//! * The first connection that fails because nobody knows the host, or nobody trusts the certificate, ends
//!   the run; later ones are tried again.
//! * A response is held whole: [`PlanetScale::message_bytes_max`].
//! * With `NOBLOB`, a `TEXT` or `BLOB` column that was added is not in the rows of before: the first update of such a row that does
//!   not set it is an error of its key, until the row is written whole or the table is copied anew.
//! * MySQL must run with `gtid_mode=ON`, `binlog_format=ROW` and `binlog_row_image=FULL`; by `vstream` it may be `NOBLOB`.
//!   Other modes and formats are refused, and so is a row that another image has cut. `sync` does not say which columns
//!   were sent, so it needs `FULL`, and other images are not noticed.
//! * While a table is copied, an update of a row that is not copied yet may come. One that lacks columns is that key's error
//!   until the row is copied; where [`PatchErrors::Stop`](crate::PatchErrors) is set, it stops the pipeline.
//! * Vitess 16 or newer for `vstream`: an older one does not say where a copy ends, and none would.
//!   Many shards need the shard's name on every event, as VTGate sends it.
//! * A primary key that changes is an error when the table is read, but not noticed if that happens
//!   while nothing is connected, unless `key` names its columns.
//! * Rows that a statement changes without a change of their own (`ADD COLUMN .. DEFAULT`) stay as they
//!   were; a warning says so.
//! * A statement that names the table second, or is sent from another database, is not sent as one.
//! * A reshard is followed while streaming, by `vstream`. During a copy, and in `sync`, it is an error.

mod asked;
mod asking;
mod channel;
mod charset;
mod columns;
mod ddl;
mod doubt;
mod failure;
mod gtid;
mod members;
mod merge;
mod number;
mod owners;
mod phase;
mod position;
mod proto;
mod ranges;
mod row_change;
mod rows;
mod sync;
mod tablet;
mod unique;
mod unit;
mod url;
mod vstream;

use std::time::Duration;

use tokio::time::timeout;

pub use position::VStreamPosition;
pub use tablet::Tablet;

use self::asked::Asked;
use self::channel::Server;
use self::failure::transient;
use self::gtid::Gtid;
use self::owners::Owners;
use self::sync::Streams;
use self::url::{Address, Protocol};
use self::vstream::VStream;
use crate::error::{Error, ErrorKind};
use crate::source::{Boundary, Cursor, Events, Failure, Partition, Source};

/// A table of PlanetScale or Vitess.
///
/// Keys and values are canonical JSON text: members sorted by the bytes of their names, no white space,
/// numbers in a `JSON` column as written. Text is decoded from the column's character set: `utf8mb4`,
/// `utf8mb3`, `ascii`, `latin1`, `ucs2`, `utf16`, `utf16le` and `utf32`; any other is refused.
///
/// | column | JSON |
/// | --- | --- |
/// | integers, `YEAR` | a number, without leading zeros |
/// | `DOUBLE` | a number, the shortest of its value: `0.1`, `1e20` |
/// | `FLOAT` | a number of six significant digits: a copy sends no more |
/// | `DECIMAL` | a string, with its whole scale: `"0.50"` |
/// | dates and times, text, `ENUM`, `SET` | a string |
/// | `BIT`, binary, `BLOB`, geometry, vectors | a string, base64 |
/// | `JSON` | as it is |
/// | NULL | `null` |
///
/// # Examples
///
/// ```
/// use differential_upsert::source::Source;
/// use differential_upsert::connect::planetscale::PlanetScale;
///
/// let url = "planetscale://localhost:15991/commerce/customer?shard=-80,80-&key=id&tls=off";
/// let table = PlanetScale::open(url, None, None)?;
/// assert_eq!(table.identity(), "planetscale:commerce/customer");
/// assert_eq!(table.partitions(), ["-80".into(), "80-".into()]);
/// assert!(PlanetScale::open("planetscale://localhost/commerce", None, None).is_err());
/// # Ok::<(), differential_upsert::Error>(())
/// ```
#[derive(Debug)]
pub struct PlanetScale {
    asked: Asked,
    wire: Option<Wire>,
    /// Where the connection began.
    places: Places,
    owners: Owners,
    /// Something has come, in this process.
    heard: bool,
    /// What the server said when it did not have such a place: it is asked which it is.
    lost: Option<Error>,
    /// The shard whose stream failed last.
    failed: Option<Partition>,
}

/// To learn where a shard is may take this long: it says so at once, or not at all.
const CURRENT_MAX: Duration = Duration::from_secs(45);

/// A connection.
#[derive(Debug)]
enum Wire {
    VStream(Box<VStream>),
    Sync(Streams),
}

impl PlanetScale {
    /// Opens a table; connects to nothing yet. User and password are sent to the server as basic
    /// authentication.
    ///
    /// # Errors
    ///
    /// `Invalid` for an address that is none, an unknown parameter, one said twice, or one of user and
    /// password without the other.
    pub fn open(
        url: &str,
        user: Option<String>,
        password: Option<String>,
    ) -> Result<PlanetScale, Error> {
        let address = Address::parse(url)?;
        let login = match (&user, &password) {
            (Some(user), Some(password)) => Some((&**user, &**password)),
            (None, None) => None,
            _ => {
                let what = "a user without a password, or a password without a user";
                return Err(Error::new(ErrorKind::Invalid, what)
                    .hint("set both PLANETSCALE_USER and PLANETSCALE_PASSWORD, or neither"));
            }
        };
        let server = Server::new(&address, login)?;
        let (tablet, cells, silence) = (address.tablet, address.cells.clone(), None);
        let asked = Asked { address, server, user, tablet, cells, silence };
        Ok(PlanetScale {
            asked,
            wire: None,
            places: Vec::new(),
            owners: Owners::default(),
            heard: false,
            lost: None,
            failed: None,
        })
    }

    /// Returns how often in a row a unit may fail, if the address says so: it is for
    /// [`AttemptConfig::attempts_max`](crate::source::AttemptConfig::attempts_max).
    pub fn attempts_max(&self) -> Option<u32> {
        self.asked.address.attempts
    }

    /// Returns how long a boundary without rows waits to be made durable, if the address says so: it is
    /// for [`SourceConfig::idle_commit`](crate::reclock::SourceConfig::idle_commit).
    pub fn idle_commit(&self) -> Option<Duration> {
        self.asked.address.idle_commit
    }

    /// Sets the size of a response that is still taken, in bytes; a larger one is a definite error.
    /// Default: 256 MiB. A transaction may be larger: it comes in many.
    pub fn message_bytes_max(mut self, bytes: usize) -> Self {
        self.asked.server.message_bytes_max = bytes;
        self
    }

    /// Sets how long nothing may come before the connection counts as lost. Default: 30 s for `vstream`,
    /// whose heartbeats come every 5 s; for ever for `sync`, which has none: there the operating system
    /// notices a dead server in a minute and a half.
    pub fn silence_max(mut self, silence: Duration) -> Self {
        self.asked.silence = Some(silence);
        self
    }

    /// Sets the tablets to read from. Default: what the address says, else the primary.
    pub fn tablet(mut self, tablet: Tablet) -> Self {
        self.asked.tablet = tablet;
        self
    }

    /// Sets the cells to pick tablets from. Default: what the address says, else none, which leaves it to the server.
    pub fn cells(mut self, cells: impl IntoIterator<Item = String>) -> Self {
        self.asked.cells = cells.into_iter().collect();
        self
    }

    /// Tells what it means that the server does not have our place: its logs are gone, or it is another
    /// database, whose table must not take the place of this one's without a word.
    async fn is_lost(&mut self, error: Error) -> Failure {
        let theirs = match self.current().await {
            Ok(theirs) => theirs,
            // Not known yet: it is asked again.
            Err(failure) => return failure,
        };
        // A shard keeps the servers that it ever ran on, also in a backup. After a reshard the shards
        // are others, and of these nothing is known.
        let place =
            |name: &Partition| self.places.iter().find(|(ours, _)| ours == name)?.1.as_ref();
        let pairs = theirs.iter().filter_map(|(name, at)| Some((place(name)?.set(), at.set())));
        let mut pairs = pairs.filter(|(ours, _)| ours.servers().next().is_some()).peekable();
        let share = |(ours, theirs): (&Gtid, &Gtid)| {
            ours.servers().any(|server| theirs.servers().any(|other| other == server))
        };
        if pairs.peek().is_none() || pairs.any(share) {
            return Failure::PositionLost(error);
        }
        let at = format!("{} of {}", self.asked.place(), self.asked.address.authority);
        let what = "FeedDiffers: another database: none of the servers that the shard's rows came from \
                    has ever been one of its";
        Failure::Definite(Error::new(ErrorKind::FeedDiffers, what).because(error).at(at).hint(
            "correct the address; to replace the rows by this database's, ingest --copy-anew",
        ))
    }

    /// Returns where to begin in every shard.
    fn places(&self, from: &Cursor<VStreamPosition>) -> Result<Places, Failure> {
        let named = &self.asked.address.shards;
        if from.partitions().all(|(name, _)| named.iter().any(|other| **other == **name)) {
            let place = |name: &String| (Partition::from(&**name), from.get(name).cloned());
            return Ok(named.iter().map(place).collect());
        }
        // The set changes as a whole, so that after a reshard the cursor has all of it. In a first copy
        // it has not: what the other shards have would never come.
        let names: Vec<&str> = from.partitions().map(|(name, _)| &**name).collect();
        if !ranges::cover_the_same(names.iter().copied(), named.iter().map(|name| &**name)) {
            let what =
                format!("the cursor is of the shards {names:?}, and the address names {named:?}");
            let hint = "name the shards as before, or copy the table into a new shard";
            return Err(failure::definite(what, &self.asked.place(), hint));
        }
        Ok(from.partitions().map(|(name, at)| (name.clone(), Some(at.clone()))).collect())
    }
}

/// The shards to read, and from where; `None` is a shard's start.
type Places = Vec<(Partition, Option<VStreamPosition>)>;

impl Source for PlanetScale {
    type Key = String;
    type Value = String;
    type Position = VStreamPosition;

    /// Keyspace and table: hosts and shards change.
    fn identity(&self) -> String {
        format!("planetscale:{}", self.asked.place())
    }

    fn partitions(&self) -> Vec<Partition> {
        self.asked.address.shards.iter().map(|name| Partition::from(&**name)).collect()
    }

    async fn connect(&mut self, from: &Boundary<VStreamPosition>) -> Result<(), Failure> {
        self.wire = None;
        self.lost = None;
        self.failed = None;
        let places = self.places(from.cursor())?;
        self.places.clone_from(&places);
        self.owners.begin(places.iter().map(|(name, _)| name.clone()), from.is_start());
        let channel = self.asked.server.connect(&self.asked.place()).await?;
        self.wire = Some(match self.asked.address.protocol {
            Protocol::VStream => {
                Wire::VStream(Box::new(VStream::begin(&self.asked, &channel, &places, self.heard)))
            }
            Protocol::Sync => Wire::Sync(Streams::begin(&self.asked, &channel, &places)),
        });
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<Events<Self>>, Failure> {
        if let Some(error) = self.lost.clone() {
            let failure = self.is_lost(error).await;
            self.lost = None;
            return Err(failure);
        }
        let events = match &mut self.wire {
            Some(Wire::VStream(stream)) => stream.next().await,
            Some(Wire::Sync(streams)) => streams.next().await,
            None => return Err(transient("it is not connected", &self.asked.place())),
        };
        if !matches!(events, Ok(Some(_))) {
            // One stream brings all shards, or each has its own.
            self.failed = match self.wire.take() {
                Some(Wire::Sync(streams)) => streams.failed().cloned(),
                _ => None,
            };
        }
        match events {
            // Kept meanwhile: this call may be dropped, and made again.
            Err(Failure::PositionLost(error)) if error.kind() == failure::NOT_THERE => {
                self.lost = Some(error.clone());
                let failure = self.is_lost(error).await;
                self.lost = None;
                Err(failure)
            }
            Ok(Some(mut events)) => {
                self.heard = true;
                self.owners.sift(&mut events);
                Ok(Some(events))
            }
            events => events,
        }
    }

    fn failed_partition(&self) -> Option<Partition> {
        self.failed.clone()
    }

    async fn current(&mut self) -> Result<Vec<(Partition, VStreamPosition)>, Failure> {
        let (asked, place) = (&self.asked, self.asked.place());
        let channel = asked.server.connect(&place).await?;
        let current = async {
            match asked.address.protocol {
                Protocol::VStream => vstream::current(asked, &channel).await,
                Protocol::Sync => sync::current(asked, &channel).await,
            }
        };
        let all = timeout(CURRENT_MAX, current).await;
        all.unwrap_or_else(|_| {
            let seconds = CURRENT_MAX.as_secs();
            Err(transient(format!("a shard did not say in {seconds} s where it is"), &place))
        })
    }
}
