//! Owns tables of PostgreSQL as a source: a copy, and the stream of a replication slot, without gap or overlap. It does
//! not own retries, units nor acks; those are every source's.
//!
//! ```text
//!   catalog, slot --.
//!                    \             .--> pieces of a table, as of a snapshot ----.
//!   PostgreSQL -------+-- session -+                                            +--> changes, boundaries
//!                     '-- slot ----'--> transactions, in order of commit -------'
//! ```
//!
//! # What is read
//!
//! Of one table, keys are JSON objects of the table's key: its primary key, or the columns of its replica identity's index.
//! Of several, over one slot, they are `["SCHEMA.TABLE",KEY]`: keys of named [collections](crate::codec::collection()). All
//! have one upper: a transaction over several tables is one time. Values are JSON objects of all columns that the publication
//! sends, as canonical text. Copy and stream bring the texts of the types' output functions under the same settings (UTC, ISO
//! dates, hexadecimal bytes), so one value is written in one way:
//!
//! | type | JSON |
//! | --- | --- |
//! | `smallint`, `integer`, `bigint`, `oid` | a number |
//! | `real`, `double precision` | a number, the shortest of its value; `"NaN"`, `"Infinity"`, `"-Infinity"` |
//! | `boolean` | `true`, `false` |
//! | `json`, `jsonb` | as it is, canonical |
//! | all others: `numeric`, dates and times, `bytea`, arrays, enums, domains, .. | a string |
//! | NULL | `null` |
//!
//! # Invariants
//!
//! 1. A place is one: how much of the log is handed over, and up to which table and key is copied, one table after the
//!    other. So a copy that was cut off goes on, and what changed meanwhile in the rows that were copied comes by the log.
//!    See [`stream`](self) for why nothing is missed or doubled between a piece of the copy and the log.
//! 2. A place is of a history: the system, the timeline and the tables' oids. A server restored from a backup, a promoted
//!    standby and a table that was dropped and made again have another: the place is lost, never skipped.
//! 3. The slot is told of durable places alone. A slot that is ahead of our place, missing, or invalidated has lost what lies
//!    between: the place is lost.
//! 4. The first boundary is the place at which the slot was found or made, before the first row: so what happens while
//!    nothing is connected is not missed, however early that is.
//! 5. A table without traffic moves on with what the server says of others: the slot keeps no log for it.
//! 6. An update that does not send a column that is stored apart (TOAST) is a patch of its row: the shard wants
//!    [`keep_unsent`](crate::codec::keep_unsent) as its [fold](crate::Shard::with_fold). If the key changes as well, the row
//!    is read anew. So `REPLICA IDENTITY FULL` is not needed.
//! 7. `TRUNCATE` is a reset; of one of several tables, a reset of its collection: the shard wants
//!    [`collection`](crate::codec::collection()) as what says which keys
//!    [those](crate::Shard::with_collections) are. A table made again is copied anew, like any place that is lost, unless
//!    [`OnPositionLost`](crate::source::OnPositionLost) says otherwise.
//!
//! # Limits
//!
//! * PostgreSQL 14 or newer, `wal_level=logical`, and a user with `REPLICATION` and `SELECT` on the table. The publication
//!   sends inserts, updates, deletes and truncates; of a partitioned table `publish_via_partition_root`.
//! * TLS is checked against the server's name, so the host is a name, not an IP address; or `tls=off`. Messages are `pgoutput`'s
//!   of version 1: a transaction is sent when it commits, and the server keeps it until then.
//! * Two sessions per feed (`max_wal_senders`). One writer: the slot has one reader. Another waits until it is free.
//! * A partition that is truncated, dropped, detached or attached says nothing of its rows to the stream of its root: copy
//!   anew then. Of tables that inherit, rows of children are not read.
//! * The key is of PostgreSQL's own types, enums and domains of these: of an extension's type the order is not known.
//! * Of several tables, `TRUNCATE` of one goes through the keys of all, once, while nothing runs ahead.
//! * Which tables they are is part of which feed it is: with another list, copy into another shard. If one of several was
//!   made again or given another name, all are copied anew. A table that is replaced by another, by names, is noticed within
//!   5 s, or with the next row.
//! * The copy waits for transactions that ran when it connected. To copy anew keeps the log until the copy is whole.
//! * Rows that a statement changes without a change of their own (`ADD COLUMN .. DEFAULT`, another type of a column) stay
//!   as they were until they are updated. Generated columns are not sent.
//! * A column's default, and rows of its filter, are as of the connect. A publication that changes is read anew then.
//! * A piece of the copy is held in memory, and what the stream says of its rows until the mark: 100 rows, then as many as
//!   4 MiB would be by the size of those before, four times as many at the most. Of the stream 64 messages wait, and 4 MiB of
//!   a transaction while the table is copied.
//! * While rows whose key moved wait to be read anew, transactions become one unit: a boundary comes when none waits.
//! * A server that was set back to an earlier state of itself is noticed at a connect, if its log ends before our place.

mod address;
mod behind;
mod changes;
mod failure;
mod pgoutput;
mod position;
mod question;
mod rows;
mod session;
mod slot;
mod snapshot;
mod stream;
#[cfg(test)]
mod stream_model;
#[cfg(test)]
mod stream_tests;
mod table;
mod wire;
#[cfg(test)]
mod written;

use std::time::Duration;

pub use position::{PgPosition, lsn_text};

use self::address::{Address, Name};
use self::behind::Behind;
use self::changes::Changes;
use self::failure::{lost, transient};
use self::position::{Copied, History};
use self::session::{Server, Session};
use self::slot::{Slot, mark, now};
use self::stream::Stream;
use self::table::Table;
use self::wire::Wire;
use crate::error::Error;
use crate::source::{Ack, Boundary, Durable, Events, Failure, Lag, Partition, Source};

/// A table of PostgreSQL, or several.
///
/// # Examples
///
/// ```
/// use differential_upsert::source::Source;
/// use differential_upsert::connect::postgres::Postgres;
///
/// let url = "postgres://me@localhost:5432/shop?table=public.orders&slot=orders&publication=shop";
/// let table = Postgres::open(url, None)?;
/// assert_eq!(table.identity(), "postgres:shop/public.orders");
/// let url = "postgres://me@localhost:5432/shop?table=orders,lines&slot=orders&publication=shop";
/// assert_eq!(Postgres::open(url, None)?.identity(), "postgres:shop/public.lines,public.orders");
/// assert!(Postgres::open("postgres://localhost/shop", None).is_err());
/// # Ok::<(), differential_upsert::Error>(())
/// ```
pub struct Postgres {
    address: Address,
    password: Option<String>,
    partition: Partition,
    wire: Option<Wire>,
    /// Of the connection before, what is known of the end of its history's log.
    before: Option<(History, Behind)>,
}

impl Postgres {
    /// Opens what an address names; connects to nothing yet.
    ///
    /// # Errors
    ///
    /// `Invalid` for an address that is none, an unknown parameter, or one said twice.
    pub fn open(url: &str, password: Option<String>) -> Result<Postgres, Error> {
        let address = Address::parse(url)?;
        let partition = Partition::from("");
        Ok(Postgres { address, password, partition, wire: None, before: None })
    }

    /// Returns how often in a row a unit may fail, if the address says so: it is for
    /// [`AttemptConfig::attempts_max`](crate::source::AttemptConfig::attempts_max).
    pub fn attempts_max(&self) -> Option<u32> {
        self.address.attempts
    }

    /// Returns how long a boundary without rows waits to be made durable, if the address says so: it is
    /// for [`SourceConfig::idle_commit`](crate::reclock::SourceConfig::idle_commit).
    pub fn idle_commit(&self) -> Option<Duration> {
        self.address.idle_commit
    }

    fn place(&self) -> String {
        let tables: Vec<String> = self.address.tables.iter().map(Name::to_string).collect();
        format!("{}/{}", self.address.database, tables.join(","))
    }

    fn disconnect(&mut self) {
        self.before = self.wire.take().map(Wire::give_up).or(self.before.take());
    }

    /// Returns a session, what the tables are and of which history.
    async fn look(&self) -> Result<(Session, Server, Vec<Table>, History), Failure> {
        let (mut session, server) = self.session().await?;
        let tables = Table::look_all(&mut session, &self.address).await?;
        let (system, timeline) = (server.system, server.timeline);
        let history =
            History { system, timeline, tables: tables.iter().map(Table::lineage).collect() };
        Ok((session, server, tables, history))
    }

    async fn session(&self) -> Result<(Session, Server), Failure> {
        Session::open(&self.address, self.password.as_deref(), &self.place()).await
    }

    /// Returns where to go on, and what the slot has been told.
    async fn begin(
        &self,
        session: &mut Session,
        history: &History,
        from: Option<&PgPosition>,
    ) -> Result<(PgPosition, u64), Failure> {
        let place = self.place();
        let slot = Slot::look(session, &self.address, &place).await?;
        let Some(from) = from else {
            let slot = match slot {
                Some(slot) if slot.is_valid => slot,
                other => Slot::make(session, &self.address, other.is_some(), &place).await?,
            };
            let copy = Some(Copied::default());
            return Ok((
                PgPosition { history: history.clone(), lsn: slot.confirmed, copy },
                slot.confirmed,
            ));
        };
        if from.history != *history && !crate::mutant::on("any_history") {
            let names = self.address.tables.iter().zip(&*from.history.tables);
            let others: Vec<String> = names
                .zip(&*history.tables)
                .filter(|((_, ours), theirs)| ours != theirs)
                .map(|((name, ours), theirs)| format!("; {name} was {ours}, and is {theirs}"))
                .collect();
            let what = format!(
                "the rows are of {}, and the server has {history}{}",
                from.history,
                others.concat()
            );
            return Err(lost(&what, &place));
        }
        let name = &self.address.slot;
        match slot {
            None => Err(lost(&format!("the slot {name} is gone"), &place)),
            Some(slot) if !slot.is_valid => {
                Err(lost(&format!("the slot {name} does not keep the log any more"), &place))
            }
            Some(slot) if slot.confirmed > from.lsn && !crate::mutant::on("slot_ahead") => {
                let (theirs, ours) = (lsn_text(slot.confirmed), from.lsn());
                Err(lost(&format!("the slot {name} is at {theirs}, past our place {ours}"), &place))
            }
            Some(slot) => Ok((from.clone(), slot.confirmed)),
        }
    }
}

impl std::fmt::Debug for Postgres {
    /// Without the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Postgres").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Source for Postgres {
    type Key = String;
    type Value = String;
    type Position = PgPosition;

    /// Database and tables: hosts change, and which server it is, is part of a place.
    fn identity(&self) -> String {
        format!("postgres:{}", self.place())
    }

    async fn connect(&mut self, from: &Boundary<PgPosition>) -> Result<(), Failure> {
        self.disconnect();
        let place = self.place();
        let (mut session, server, tables, history) = self.look().await?;
        let now = now(&mut session, &place).await?;
        let from_place = from.get(&self.partition);
        if let Some(ahead) = from_place.filter(|at| at.history == history && at.lsn > server.end) {
            let what = format!(
                "the server's log ends at {}, before our place {}: it is an earlier state of itself",
                lsn_text(server.end),
                ahead.lsn()
            );
            return Err(lost(&what, &place));
        }
        let (at, kept_from) = self.begin(&mut session, &history, from_place).await?;
        let password = self.password.as_deref();
        let from_now = crate::mutant::on("stream_from_now");
        let after = if from_now { server.end } else { at.lsn };
        let is_new = from_place.is_none();
        // Of a copy that goes on, it is not known how much it has.
        let rows_left = match is_new {
            true => {
                let oids = tables.iter().map(|table| table.followed.oid);
                behind::rows_of(&mut session, oids).await?
            }
            false => None,
        };
        let client =
            session::stream(&self.address, password, &place, server, after, kept_from).await?;
        let followed = tables.iter().map(|table| table.followed.clone()).collect();
        let changes = Changes::new(place.clone(), followed);
        let mut stream = Stream::new(Partition::clone(&self.partition), changes, at, now);
        if is_new {
            stream.say();
        }
        let before = self.before.take().filter(|(of, _)| !is_new && *of == history);
        let behind = match before {
            Some((_, behind)) => behind.again(after, server.end),
            None => Behind::new(after, server.end, rows_left),
        };
        self.wire = Some(Wire::new(session, client, tables, stream, behind, place, history));
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<Events<Self>>, Failure> {
        let Some(wire) = &mut self.wire else {
            return Err(transient("it is not connected", &self.place()));
        };
        let events = wire.next().await;
        if !matches!(events, Ok(Some(_))) {
            self.disconnect();
        }
        events
    }

    async fn current(&mut self) -> Result<Vec<(Partition, PgPosition)>, Failure> {
        let place = self.place();
        let (mut session, _, _, history) = self.look().await?;
        // A mark, so that the stream surely gets there.
        let lsn = mark(&mut session, &place).await?;
        let at = PgPosition { history, lsn, copy: None };
        Ok(vec![(Partition::clone(&self.partition), at)])
    }

    fn ack(&mut self, durable: &Durable<PgPosition>) -> Ack {
        let place = durable.cursor().get(&self.partition);
        if let (Some(wire), Some(place)) = (&self.wire, place) {
            wire.ack(place);
        }
        Box::pin(std::future::ready(Ok(())))
    }

    /// Bytes of the server's log, and how long ago the oldest transaction was committed that is not durable. While the tables
    /// are copied, rows that are not read yet, by the statistics that the tables had when the copy began.
    fn lag(&mut self, durable: &Durable<PgPosition>) -> Lag {
        match (&mut self.wire, durable.get(&self.partition)) {
            (Some(wire), Some(place)) => wire.lag(place),
            _ => Lag::default(),
        }
    }

    fn durable_since(&mut self) -> Vec<u64> {
        self.wire.as_mut().map(|wire| wire.take_durable()).unwrap_or_default()
    }
}
