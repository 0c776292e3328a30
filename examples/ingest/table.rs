//! Owns a table of a database as a feed of this program: its keys and values, what happens at a value that cannot be
//! read, and what is counted. It does not own the table's protocol.

use differential_upsert::codec::Json;
#[cfg(feature = "planetscale")]
use differential_upsert::connect::planetscale::PlanetScale;
#[cfg(feature = "postgres-source")]
use differential_upsert::connect::postgres::Postgres;
use differential_upsert::reclock::SourceConfig;
use differential_upsert::source::{
    Ack, Boundary, Change, Durable, Event, Events, Failure, Lag, Partition, Source, SourceStats,
};
use differential_upsert::{Error, ErrorKind};

use crate::names::FeedName;
use crate::values::OnError;

/// Sets what the address says of how the table is read.
pub(crate) fn configure(feed: &FeedName, mut config: SourceConfig) -> SourceConfig {
    // An address that is none has been refused by now.
    let (attempts, idle_commit) = match feed {
        #[cfg(feature = "planetscale")]
        FeedName::PlanetScale(url) => match PlanetScale::open(url, None, None) {
            Ok(table) => (table.attempts_max(), table.idle_commit()),
            Err(_) => (None, None),
        },
        #[cfg(feature = "postgres-source")]
        FeedName::Postgres(url) => match Postgres::open(url, None) {
            Ok(table) => (table.attempts_max(), table.idle_commit()),
            Err(_) => (None, None),
        },
        _ => (None, None),
    };
    config.attempts.attempts_max = attempts.unwrap_or(config.attempts.attempts_max);
    config.idle_commit = idle_commit.unwrap_or(config.idle_commit);
    config
}

/// A table, not yet connected to.
#[derive(Debug)]
pub(crate) struct Table<S> {
    table: S,
    on_error: OnError,
    stats: SourceStats,
    /// Set once a value could not be read, and was not to be kept.
    failed: Option<Error>,
}

#[cfg(feature = "planetscale")]
impl Table<PlanetScale> {
    /// Opens the table that a URL names, for the user that the environment names.
    ///
    /// # Errors
    ///
    /// `Invalid` for a user without a password, and for the other way about.
    pub(crate) fn planetscale(
        url: &str,
        on_error: OnError,
        stats: SourceStats,
    ) -> Result<Self, Error> {
        let set = |name| std::env::var(name).ok();
        let (user, password) = (set("PLANETSCALE_USER"), set("PLANETSCALE_PASSWORD"));
        let table = PlanetScale::open(url, user, password).map_err(|e| e.at(url))?;
        Ok(Table { table, on_error, stats, failed: None })
    }
}

#[cfg(feature = "postgres-source")]
impl Table<Postgres> {
    /// Opens the table that a URL names, with the password that the environment names.
    ///
    /// # Errors
    ///
    /// `Invalid` for an address that is none.
    pub(crate) fn postgres(
        url: &str,
        on_error: OnError,
        stats: SourceStats,
    ) -> Result<Self, Error> {
        let table = Postgres::open(url, std::env::var("PGPASSWORD").ok())?;
        Ok(Table { table, on_error, stats, failed: None })
    }
}

impl<S: Source<Key = String, Value = String>> Table<S> {
    /// Takes an event over, or returns `None` if it ends the run.
    fn event(
        &mut self,
        event: Event<String, String, S::Position>,
    ) -> Option<Event<Json, Json, S::Position>> {
        let json = |text: String| Json::from_canonical(&text);
        let (partition, change) = match event {
            Event::Change(partition, change) => (partition, change),
            Event::Boundary(received) => return Some(Event::Boundary(received)),
            Event::Void(partition) => return Some(Event::Void(partition)),
            Event::End => return Some(Event::End),
        };
        let change = match change {
            Change::Put(key, Err(error)) if self.on_error == OnError::Stop => {
                let hint = "correct the row, or keep it with --on-error keep";
                let error = Error::new(ErrorKind::Invalid, error.0);
                self.failed = Some(error.at(format!("{partition}: key {key}")).hint(hint));
                return None;
            }
            Change::Put(key, value) => Change::Put(json(key), value.map(json)),
            Change::Patch(key, patch) => Change::Patch(json(key), json(patch)),
            Change::Delete(key) => Change::Delete(json(key)),
            Change::Reset => Change::Reset,
            Change::ResetOf(collection) => Change::ResetOf(collection),
        };
        self.stats.add_rows_read(1);
        Some(Event::Change(partition, change))
    }
}

impl<S: Source<Key = String, Value = String>> Source for Table<S> {
    type Key = Json;
    type Value = Json;
    type Position = S::Position;

    fn identity(&self) -> String {
        self.table.identity()
    }

    fn partitions(&self) -> Vec<Partition> {
        self.table.partitions()
    }

    async fn connect(&mut self, from: &Boundary<S::Position>) -> Result<(), Failure> {
        self.table.connect(from).await
    }

    async fn next(&mut self) -> Result<Option<Events<Self>>, Failure> {
        if let Some(error) = self.failed.take() {
            return Err(Failure::Definite(error));
        }
        let Some(events) = self.table.next().await? else { return Ok(None) };
        // What comes before a failure goes first: whole transactions may end there.
        let events: Events<Self> =
            events.into_iter().map_while(|event| self.event(event)).collect();
        match self.failed.take_if(|_| events.is_empty()) {
            Some(error) => Err(Failure::Definite(error)),
            None => Ok(Some(events)),
        }
    }

    fn failed_partition(&self) -> Option<Partition> {
        self.table.failed_partition()
    }

    async fn current(&mut self) -> Result<Vec<(Partition, S::Position)>, Failure> {
        self.table.current().await
    }

    fn ack(&mut self, durable: &Durable<S::Position>) -> Ack {
        self.table.ack(durable)
    }

    fn lag(&mut self, durable: &Durable<S::Position>) -> Lag {
        self.table.lag(durable)
    }
}
