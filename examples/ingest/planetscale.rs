//! Owns a table of PlanetScale or Vitess as a feed of this program: its keys and values, what happens at
//! a value that cannot be read, and what is counted. It does not own the table's protocol.

use differential_upsert::codec::Json;
use differential_upsert::connect::planetscale::{PlanetScale, VStreamPosition};
use differential_upsert::reclock::SourceConfig;
use differential_upsert::source::{
    Ack, Boundary, Change, Durable, Event, Events, Failure, Partition, Source, SourceStats,
};
use differential_upsert::{Error, ErrorKind};

use crate::values::OnError;

/// Sets what the address says of how the table is read.
pub(crate) fn configure(url: &str, mut config: SourceConfig) -> SourceConfig {
    // An address that is none has been refused by now.
    if let Ok(table) = PlanetScale::open(url, None, None) {
        config.attempts.attempts_max = table.attempts_max().unwrap_or(config.attempts.attempts_max);
        config.idle_commit = table.idle_commit().unwrap_or(config.idle_commit);
    }
    config
}

/// A table, not yet connected to.
#[derive(Debug)]
pub(crate) struct Table {
    table: PlanetScale,
    on_error: OnError,
    stats: SourceStats,
    /// Set once a value could not be read, and was not to be kept.
    failed: Option<Error>,
}

impl Table {
    /// Opens the table that a URL names, for the user that the environment names.
    ///
    /// # Errors
    ///
    /// `Invalid` for a user without a password, and for the other way about.
    pub(crate) fn open(url: &str, on_error: OnError, stats: SourceStats) -> Result<Table, Error> {
        let set = |name| std::env::var(name).ok();
        let (user, password) = (set("PLANETSCALE_USER"), set("PLANETSCALE_PASSWORD"));
        let table = PlanetScale::open(url, user, password).map_err(|e| e.at(url))?;
        Ok(Table { table, on_error, stats, failed: None })
    }

    /// Takes an event over, or returns `None` if it ends the run.
    fn event(
        &mut self,
        event: Event<String, String, VStreamPosition>,
    ) -> Option<Event<Json, Json, VStreamPosition>> {
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
        };
        self.stats.add_rows_read(1);
        Some(Event::Change(partition, change))
    }
}

impl Source for Table {
    type Key = Json;
    type Value = Json;
    type Position = VStreamPosition;

    fn identity(&self) -> String {
        self.table.identity()
    }

    fn partitions(&self) -> Vec<Partition> {
        self.table.partitions()
    }

    async fn connect(&mut self, from: &Boundary<VStreamPosition>) -> Result<(), Failure> {
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

    async fn current(&mut self) -> Result<Vec<(Partition, VStreamPosition)>, Failure> {
        self.table.current().await
    }

    fn ack(&mut self, durable: &Durable<VStreamPosition>) -> Ack {
        self.table.ack(durable)
    }
}
