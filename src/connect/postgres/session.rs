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
     -c quote_all_identifiers=off -c row_security=off -c idle_in_transaction_session_timeout=0";

/// The stream is asked for an answer so often, at least; questions end at the server once their answers are not waited for.
const OF_STREAM: &str = "-c statement_timeout=0 -c wal_sender_timeout=60s";
const OF_QUESTIONS: &str =
    "-c statement_timeout=290s -c lock_timeout=60s -c wal_sender_timeout=60s";

/// To connect may take this long, and an answer that.
const CONNECT_MAX: Duration = Duration::from_secs(20);
const ANSWER_MAX: Duration = Duration::from_secs(300);

/// How often the server is told what is durable, at least; sooner when that has changed.
const STATUS: Duration = Duration::from_secs(5);

/// Messages that wait to be taken.
const BUFFERED: usize = 64;

/// A row, in texts.
pub(super) type Texts = Vec<Option<String>>;

/// Returns a text of a row; of NULL, and of what is not there, an empty one.
pub(super) fn cell(row: &Texts, at: usize) -> &str {
    row.get(at).and_then(Option::as_deref).unwrap_or_default()
}

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
    /// The end of its log.
    pub(super) end: u64,
}

impl Server {
    async fn ask(
        client: &mut ReplicationClient,
    ) -> pgwire_replication::Result<Result<Server, String>> {
        let said = client.identify_system().await?;
        let (timeline, end) = (said.timeline, said.xlogpos.as_u64());
        let system = said
            .system_id
            .parse()
            .map_err(|_| format!("a system identifier of {:?}", said.system_id));
        Ok(system.map(|system| Server { system, timeline, end }))
    }
}

fn config(address: &Address, password: Option<&str>, settings: &str) -> ReplicationConfig {
    let mut config = ReplicationConfig::new(
        address.host.clone(),
        address.user.clone(),
        password.unwrap_or_default(),
        address.database.clone(),
        address.slot.clone(),
        // As the server splits a list of names.
        name(&address.publication),
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
    config.options = Some(format!("{SETTINGS} {settings}"));
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
    server: Server,
    after: u64,
    kept_from: u64,
) -> Result<ReplicationClient, Failure> {
    let mut config = config(address, password, OF_STREAM);
    (config.start_lsn, config.ack_lsn) = (Lsn(after), Some(Lsn(kept_from)));
    let opening = async {
        let mut client = ReplicationClient::connect_gated(config).await?;
        // A name may stand for several servers.
        let said = Server::ask(&mut client).await?;
        let is_same =
            said.is_ok_and(|said| (said.system, said.timeline) == (server.system, server.timeline));
        if is_same {
            client.start().await?;
            client.wait_started().await?;
        }
        Ok(is_same.then_some(client))
    };
    let opened = timeout(CONNECT_MAX, opening).await.map_err(|_| late(place))?;
    let opened = opened.map_err(|error| of(error, place))?;
    opened.ok_or_else(|| transient("two connections came to two servers", place))
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
        let config = config(address, password, OF_QUESTIONS);
        let opening = async {
            let mut client = ReplicationClient::connect_gated(config).await?;
            let server = Server::ask(&mut client).await?;
            Ok((client, server))
        };
        let opened = timeout(CONNECT_MAX, opening).await.map_err(|_| late(place))?;
        let (client, server) = opened.map_err(|error| of(error, place))?;
        let server = server.map_err(|what| transient(&what, place))?;
        Ok((Session { client, place: place.to_string() }, server))
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
