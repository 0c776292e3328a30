//! Owns the sessions with a server: how they are opened, and questions in SQL. It does not own what is asked.
//!
//! All of them are the transport's replication sessions, which answer SQL as well: so one way of logging in, one of TLS.
//! Their settings are fixed: the same value has the same text in the copy and in the stream.

use std::time::Duration;

use pgwire_replication::{Lsn, ReplicationClient, ReplicationConfig, SslMode, TlsConfig};
use tokio::time::timeout;

use super::address::{Address, Tls};
use super::failure::{of, transient};
use crate::source::Failure;

/// What decides how values are written, and what is read.
const SETTINGS: &str = "-c datestyle=ISO -c intervalstyle=postgres -c timezone=UTC -c bytea_output=hex \
     -c extra_float_digits=1 -c standard_conforming_strings=on -c search_path=pg_catalog -c lc_monetary=C \
     -c quote_all_identifiers=off -c row_security=off -c statement_timeout=0 \
     -c idle_in_transaction_session_timeout=0";

/// To connect may take this long, and an answer that.
const CONNECT_MAX: Duration = Duration::from_secs(20);
const ANSWER_MAX: Duration = Duration::from_secs(300);

/// How often the server is told what is durable, at least; sooner when that has changed.
const STATUS: Duration = Duration::from_secs(5);

/// Events that wait to be taken.
const BUFFERED: usize = 1024;

/// A row, in texts.
pub(super) type Texts = Vec<Option<String>>;

/// A session that answers questions.
pub(super) struct Session {
    client: ReplicationClient,
    place: String,
}

/// What a server says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) system: u64,
    pub(super) timeline: u32,
}

fn config(address: &Address, password: Option<&str>) -> ReplicationConfig {
    let mut config = ReplicationConfig::new(
        address.host.clone(),
        address.user.clone(),
        password.unwrap_or_default(),
        address.database.clone(),
        address.slot.clone(),
        address.publication.clone(),
    );
    config.port = address.port;
    config.tls = match address.tls {
        Tls::Off => TlsConfig::disabled(),
        Tls::On => TlsConfig {
            mode: SslMode::VerifyFull,
            ca_pem_path: address.ca.clone(),
            ..TlsConfig::default()
        },
    };
    config.options = Some(SETTINGS.to_string());
    config.application_name = Some("differential-upsert".to_string());
    config.status_interval = STATUS;
    config.buffer_events = BUFFERED;
    config
}

/// Opens the stream of the slot, after a place in the log; `kept_from` is what the slot has been told so far.
pub(super) async fn stream(
    address: &Address,
    password: Option<&str>,
    place: &str,
    after: u64,
    kept_from: u64,
) -> Result<ReplicationClient, Failure> {
    let mut config = config(address, password);
    (config.start_lsn, config.ack_lsn) = (Lsn(after), Some(Lsn(kept_from)));
    let opening = async {
        let mut client = ReplicationClient::connect(config).await?;
        client.wait_started().await?;
        Ok(client)
    };
    let opened = timeout(CONNECT_MAX, opening).await.map_err(|_| late(place))?;
    opened.map_err(|error| of(error, place))
}

fn late(place: &str) -> Failure {
    transient("the server does not answer", place)
}

impl Session {
    pub(super) async fn open(
        address: &Address,
        password: Option<&str>,
        place: &str,
    ) -> Result<(Session, Server), Failure> {
        let config = config(address, password);
        let opening = async {
            let mut client = ReplicationClient::connect_gated(config).await?;
            let server = client.identify_system().await?;
            Ok((client, server))
        };
        let opened = timeout(CONNECT_MAX, opening).await.map_err(|_| late(place))?;
        let (client, server) = opened.map_err(|error| of(error, place))?;
        let system = server.system_id.parse().map_err(|_| {
            transient(&format!("a system identifier of {:?}", server.system_id), place)
        })?;
        let session = Session { client, place: place.to_string() };
        Ok((session, Server { system, timeline: server.timeline }))
    }

    /// Asks in SQL, and returns the rows in texts.
    ///
    /// Dropped before it is done, the question may still be answered: ask such that this does no harm.
    pub(super) async fn ask(&mut self, sql: &str) -> Result<Vec<Texts>, Failure> {
        let answer = timeout(ANSWER_MAX, self.client.simple_query(sql)).await;
        let rows = answer.map_err(|_| late(&self.place))?;
        let rows = rows.map_err(|error| of(error, &self.place))?;
        let text = |cell: bytes::Bytes| String::from_utf8_lossy(&cell).into_owned();
        Ok(rows
            .into_iter()
            .map(|row| row.into_iter().map(|cell| cell.map(text)).collect())
            .collect())
    }

    /// Asks in SQL, and returns the rows in bytes.
    pub(super) async fn rows(
        &mut self,
        sql: &str,
    ) -> Result<Vec<Vec<Option<bytes::Bytes>>>, Failure> {
        let answer = timeout(ANSWER_MAX, self.client.simple_query(sql)).await;
        answer.map_err(|_| late(&self.place))?.map_err(|error| of(error, &self.place))
    }
}

/// Returns a name in quotes.
pub(super) fn name(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

/// Returns a text in quotes.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
