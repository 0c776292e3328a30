//! Owns librdkafka: a consumer with our settings, asking it for a topic as it is now, and what it says only in
//! words. It does not own what any of that means.
//!
//! Two things that safety or progress want are in no function that can be called safely, but in texts, which are
//! those of `rdkafka_topic.c` and `rdkafka_fetcher.c`; `tests/connectors/kafka` notices if they change:
//!
//! * a topic's id: a line of its log with `debug=metadata`, written when the metadata is read, before any message of
//!   that topic is fetched by id. Without the line, a topic has no id, and is told by its messages;
//! * the offset of an end of a partition, which may lie past control records. Without it a cursor stays
//!   before them until a message comes.
//!
//! Logs, errors and messages come by one queue, in the order they were put there, to the one thread that polls.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use super::address::Address;
use super::failure::{self, transient};
use super::judge::{Marks, Topic};
use super::position::Log;
use crate::error::{Error, ErrorKind};
use crate::source::Failure;

/// A consumer of one topic.
pub(super) type Client = BaseConsumer<Said>;

/// The group of a consumer whose address names none. Nothing is committed to it.
const NO_GROUP: &str = "differential-upsert";

/// How librdkafka writes the id of a topic that has none.
const NO_ID: &str = "AAAAAAAAAAAAAAAAAAAAAA";

/// The lines of its log that say why a connection was cut. Where the other side has closed it at once, as one does that
/// wants TLS, that is in no error.
const CUT: &str = "FAIL";

/// How long a question may take, each.
const PATIENCE: Duration = Duration::from_secs(10);

/// The first question is asked so often, for a second longer each time: meanwhile the connections are made, and
/// what keeps them from being made is said.
const FIRST: u64 = 4;

/// How long what is in the queue already is waited for.
const QUEUED: Duration = Duration::from_millis(20);

/// What librdkafka has said besides messages, without secrets.
#[derive(Debug)]
pub(super) struct Said {
    address: Address,
    heard: Mutex<Heard>,
    /// The topic's id was another one before. It is asked for with each message.
    changed: AtomicBool,
}

#[derive(Debug, Default)]
struct Heard {
    id: Option<String>,
    /// The last error of a connection, until it is asked for.
    trouble: Option<(Code, String)>,
    /// The offset of the last end of a partition.
    end: Option<u64>,
}

impl Said {
    fn new(address: &Address) -> Said {
        let (address, heard) = (address.clone(), Mutex::default());
        Said { address, heard, changed: AtomicBool::new(false) }
    }

    /// Returns whether the topic was made anew since the consumer was made.
    pub(super) fn has_changed(&self) -> bool {
        self.changed.load(Ordering::Relaxed)
    }

    /// Returns whether the last error of a connection says more than that it is away.
    fn is_telling(&self) -> bool {
        let heard = self.heard.lock();
        heard.trouble.as_ref().is_some_and(|(code, _)| failure::is_telling(*code))
    }

    /// Returns the last error of a connection, once.
    pub(super) fn trouble(&self) -> Option<(Code, String)> {
        self.heard.lock().trouble.take()
    }

    /// Returns the offset of the end of a partition that was polled last.
    pub(super) fn end(&self) -> Option<u64> {
        self.heard.lock().end.take()
    }
}

impl ClientContext for Said {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        if let Some((before, now)) = id_in(text, &self.address.topic) {
            let mut heard = self.heard.lock();
            let known = heard.id.as_deref().unwrap_or(before);
            if known != NO_ID && now != NO_ID && now != known {
                self.changed.store(true, Ordering::Relaxed);
            }
            if now != NO_ID {
                heard.id = Some(now.to_string());
            }
            return;
        }
        let text = self.address.without_secrets(text);
        if (level as i32) <= RDKafkaLogLevel::Warning as i32 {
            tracing::warn!(topic = self.address.topic, facility, "{text}");
        }
        if facility == CUT {
            let cut = || (Code::BrokerTransportFailure, text);
            self.heard.lock().trouble.get_or_insert_with(cut);
        }
    }

    fn error(&self, error: KafkaError, text: &str) {
        let mut heard = self.heard.lock();
        match error.rdkafka_error_code() {
            Some(Code::PartitionEOF) => heard.end = end_in(text),
            Some(code) => {
                let says_more = match heard.trouble {
                    None => true,
                    // That all brokers are away follows from what keeps them away.
                    Some(_) if code == Code::AllBrokersDown => false,
                    Some((known, _)) => failure::is_telling(code) || !failure::is_telling(known),
                };
                if says_more {
                    heard.trouble = Some((code, self.address.without_secrets(text)));
                }
            }
            None => {}
        }
    }
}

impl ConsumerContext for Said {}

/// Reads a topic's ids, before and now, in a line of the log.
fn id_in<'a>(text: &'a str, topic: &str) -> Option<(&'a str, &'a str)> {
    // "[thrd:main]: Topic orders changed id from AAA to BBB"
    let rest = &text[text.find("Topic ")? + "Topic ".len()..];
    let rest = rest.strip_prefix(topic)?.strip_prefix(" changed id from ")?;
    rest.trim_end().split_once(" to ")
}

/// Reads the offset of an end of a partition.
fn end_in(text: &str) -> Option<u64> {
    // "Fetch from broker 1 reached end of partition at offset 5 (HighwaterMark 5)"
    let (_, rest) = text.split_once("end of partition at offset ")?;
    rest.split([' ', '(']).next()?.parse().ok()
}

/// Makes a consumer. Connects to nothing yet.
pub(super) fn make(address: &Address) -> Result<Arc<Client>, Failure> {
    let mut config = ClientConfig::new();
    config.set("group.id", NO_GROUP);
    for (name, value) in address.settings.iter().filter(|(name, _)| name != "debug") {
        config.set(name, value);
    }
    let debug = match address.setting("debug") {
        Some(more) => format!("metadata,{more}"),
        None => "metadata".to_string(),
    };
    config
        .set("bootstrap.servers", &address.brokers)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", "true")
        .set("allow.auto.create.topics", "false")
        .set("debug", debug)
        .set_log_level(RDKafkaLogLevel::Debug);
    let made: Result<Client, KafkaError> = config.create_with_context(Said::new(address));
    made.map(Arc::new).map_err(|e| {
        let what = match &e {
            KafkaError::ClientConfig(_, what, name, _) => format!("rdkafka.{name}: {what}"),
            KafkaError::ClientCreation(what) => what.clone(),
            other => other.to_string(),
        };
        let error = Error::new(ErrorKind::Invalid, address.without_secrets(&what));
        Failure::Definite(error.at(&address.topic).hint("correct the settings rdkafka.NAME="))
    })
}

/// Asks for the topic as it is now, but for its id. Blocks; `goes_on` is asked between questions.
pub(super) fn look(
    client: &Client,
    address: &Address,
    reached: bool,
    goes_on: &dyn Fn() -> bool,
) -> Result<Topic, Failure> {
    let name = &address.topic;
    let metadata = client
        .fetch_metadata(Some(name), PATIENCE)
        .map_err(|error| failure::of(&error, client.context().trouble(), reached, name))?;
    let found = metadata.topics().iter().find(|topic| topic.name() == name);
    let Some(found) = found else {
        return Err(transient("the brokers do not know the topic", name));
    };
    if let Some(error) = found.error() {
        let code = Code::from(error);
        let missing = matches!(code, Code::UnknownTopicOrPartition | Code::UnknownTopic);
        return Err(match missing {
            true => transient("the brokers have no such topic", name),
            false => failure::of_code(code, code.to_string(), reached, name),
        });
    }
    if found.partitions().is_empty() {
        return Err(transient("the topic has no partitions", name));
    }
    let mut partitions = BTreeMap::new();
    for partition in found.partitions() {
        let number = partition.id();
        let place = format!("{name}/{number}");
        if partition.leader() < 0 {
            return Err(transient("the partition has no leader", &place));
        }
        if !goes_on() {
            return Err(transient("it was told to stop", name));
        }
        let failed = |error| failure::of(&error, client.context().trouble(), true, &place);
        let (start, end) = client.fetch_watermarks(name, number, PATIENCE).map_err(failed)?;
        let marks = Marks { start: start.max(0) as u64, end: end.max(start).max(0) as u64 };
        partitions.insert(number, marks);
    }
    let cluster = client.client().fetch_cluster_id(PATIENCE).unwrap_or_default();
    let log = Arc::new(Log { cluster, topic: None });
    Ok(Topic { name: name.clone(), log, partitions })
}

/// As [`look`], with the topic's id. For the thread that polls, while nothing is assigned: it hears the id in
/// what is queued.
pub(super) fn look_and_listen(
    client: &Client,
    address: &Address,
    reached: bool,
    goes_on: &dyn Fn() -> bool,
) -> Result<Topic, Failure> {
    // Other questions say only that the time was up: what is queued says why.
    let mut tries = 0;
    loop {
        tries += 1;
        let asked = client.fetch_metadata(Some(&address.topic), Duration::from_secs(tries));
        while client.poll(QUEUED).is_some() {}
        let Err(error) = asked else { break };
        if tries == FIRST || client.context().is_telling() || !goes_on() {
            return Err(failure::of(&error, client.context().trouble(), reached, &address.topic));
        }
    }
    let mut topic = look(client, address, reached, goes_on)?;
    // What kept a broker away before the answer says nothing of what comes.
    drop(client.context().trouble());
    while client.poll(QUEUED).is_some() {}
    let id = client.context().heard.lock().id.clone();
    topic.log = Arc::new(Log { topic: id, ..(*topic.log).clone() });
    Ok(topic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topics_id_is_heard_in_the_log() {
        let said = Said::new(&Address::parse("kafka://a:1/orders", |_| None).unwrap());
        let hear = |text: &str| said.log(RDKafkaLogLevel::Debug, "METADATA", text);
        hear(
            "[thrd:main]: Topic orders2 changed id from AAAAAAAAAAAAAAAAAAAAAA to BAAAAAAAAAAAAAAAAAAAAA",
        );
        assert_eq!(said.heard.lock().id, None);
        hear(
            "[thrd:main]: Topic orders changed id from AAAAAAAAAAAAAAAAAAAAAA to BAAAAAAAAAAAAAAAAAAAAA",
        );
        assert_eq!(said.heard.lock().id.as_deref(), Some("BAAAAAAAAAAAAAAAAAAAAA"));
        assert!(!said.has_changed());
        hear(
            "[thrd:main]: Topic orders changed id from BAAAAAAAAAAAAAAAAAAAAA to CAAAAAAAAAAAAAAAAAAAAA",
        );
        assert!(said.has_changed());
    }

    /// Whatever librdkafka repeats in its words, for whatever reason.
    #[test]
    fn no_secret_is_kept_of_what_is_said() {
        let url = "kafka://a:1/t?rdkafka.sasl.password=env:ANY";
        let said = Said::new(&Address::parse(url, |_| Some("hunter2".into())).unwrap());
        let error = |code| KafkaError::Global(code);
        said.error(error(Code::Authentication), "hunter2 is wrong");
        // What follows from it says less.
        said.error(error(Code::BrokerTransportFailure), "disconnected");
        said.error(error(Code::AllBrokersDown), "1/1 brokers are down");
        assert!(!format!("{said:?}").contains("hunter2"));
        assert_eq!(said.trouble(), Some((Code::Authentication, "*** is wrong".to_string())));
        said.error(error(Code::BrokerTransportFailure), "a TLS handshake");
        said.error(error(Code::AllBrokersDown), "1/1 brokers are down");
        assert_eq!(said.trouble().map(|(_, text)| text).as_deref(), Some("a TLS handshake"));
    }

    #[test]
    fn the_end_of_a_partition_has_an_offset() {
        let text = "Fetch from broker 1 reached end of partition at offset 5 (HighwaterMark 7)";
        assert_eq!(end_in(text), Some(5));
        assert_eq!(end_in("Fetch from broker 1 reached end of partition"), None);
    }
}
