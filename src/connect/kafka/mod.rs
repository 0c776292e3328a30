//! Owns topics of Kafka as a source. It does not own the cursors' way into a shard, nor retries; those are
//! every source's.
//!
//! ```text
//!   kafka://HOST:PORT[,HOST:PORT]/TOPIC?key=..&value=..&rdkafka.NAME=VALUE&..
//! ```
//!
//! * `key`: what the bytes of a key are. `json`, the default; `string`, UTF-8; `bytes`, which become base64.
//! * `value`: the same of a value, or `debezium`: an envelope as JSON, read as [lines](super::lines) of
//!   Debezium are.
//! * `rdkafka.NAME`: a setting of librdkafka, TLS and SASL among them. `env:NAME` takes its value from the environment, and what
//!   is a secret has to. With `rdkafka.group.id`, places are committed to that group once they are
//!   durable, for monitoring alone: nothing is ever resumed from there.
//!
//! Values are percent-encoded. Keys and values are [`Json`].
//!
//! # Operators
//!
//! ```text
//!   brokers --> librdkafka --messages, logs, errors, one queue--> [ a thread: judge, verify, poll ]
//!                    ^                                              ^             |
//!                    '------------- looks, every 3 s ---------------'             chunks
//!                                                                                 v
//!                                                                        Source: read what they say
//! ```
//!
//! # Promises
//!
//! 1. A partition of the topic is a partition of the feed. A message is a unit, its order its offset. A message
//!    without a value deletes its key, and so does the JSON text `null`.
//! 2. Only what is committed is read. What is taken back, replaced by compaction, or a control record moves the
//!    cursor without a row, also where nothing comes after it.
//! 3. A place names the cluster, the topic by its id, and the last message read. Another cluster is `FeedDiffers`. A
//!    topic deleted and made anew, a log that starts past the cursor or ends before it, or has another message
//!    where the last one was, is a lost position: it fails, or all is copied anew in one step, as
//!    [`OnPositionLost`](crate::source::OnPositionLost) says. Nothing is ever skipped.
//! 4. Partitions that are added are read from their start, within seconds.
//! 5. Times are bound ahead of the rows, so any number of programs follow one topic, and give each message
//!    the same time. A copy anew ends at the same places in all of them.
//! 6. Told to stop, it stops: it does not wait for what a broker still owes.
//!
//! # Limits
//!
//! * The topic's id comes from a line of librdkafka's log, of brokers from 2.8 on. Without it, a topic made anew is
//!   told by its offsets and by the last message of each partition: one that has grown past the cursor, and
//!   from which compaction has taken the message at that very offset, is not noticed.
//! * Brokers before 3.1 hand over messages by the topic's name: of a topic made anew *while it is read*, those
//!   past the cursor may be handed over before the id is looked at, every 3 s. Then the position is lost all the same.
//! * Compaction takes tombstones away after `delete.retention.ms`: a shard whose programs are away for longer keeps the rows that
//!   they deleted. To copy anew mends it.
//! * Compaction between two programs' readings makes their feeds differ at a time: the second stops with
//!   `FeedDiffers`, and goes on when it is started again.
//! * A key is in one partition: of two messages of one key and time the one with the greater offset stays. So a
//!   key may have an older value after partitions were added, until it is written again.
//! * A Debezium message that empties a table is a reset of all partitions, at its own offset.
//! * The end of a log that is compared with the cursor is that of its leader: brokers from 2.2 on say when
//!   they do not know it yet.
//! * One thread polls, and one task reads what messages say: `benches/kafka.rs` measures them against a consumer
//!   that drops them.
//! * How far the shard is behind is said in messages and in time, not in bytes. Messages are told by offsets: those
//!   that compaction has taken count until they are passed.
//! * librdkafka keeps up to 64 MiB of messages ahead of what is read: `rdkafka.queued.max.messages.kbytes`.

mod address;
mod asked;
mod behind;
mod chunk;
mod client;
mod failure;
mod judge;
mod position;
mod reader;
mod rows;
mod verify;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{CommitMode, Consumer};
use tokio::sync::{mpsc, oneshot};

pub use position::KafkaPosition;

use self::address::Address;
use self::asked::Asked;
use self::behind::Behind;
use self::chunk::Spare;
use self::client::Client;
use self::failure::transient;
use self::judge::Topic;
use self::reader::{Handed, Reading};
use self::rows::Rows;
use crate::codec::Json;
use crate::connect::debezium::OnUnavailable;
use crate::connect::on_error::OnError;
use crate::error::Error;
use crate::source::{Ack, Boundary, Durable, Events, Failure, Lag, Partition, Source, SourceStats};

/// Chunks of messages between the thread that polls and the pipeline.
const CHUNKS_AHEAD: usize = 4;

/// A topic of Kafka, not yet connected to.
///
/// Memory: what librdkafka keeps ahead, and about 8 MiB of messages on their way.
///
/// # Examples
///
/// ```
/// use differential_upsert::connect::kafka::Kafka;
/// use differential_upsert::source::Source;
///
/// let topic = Kafka::open("kafka://localhost:9092/orders?key=string")?;
/// assert_eq!(topic.identity(), "kafka:orders (key string, value json)");
/// assert!(Kafka::open("kafka://localhost/orders").is_err(), "no port");
/// assert!(Kafka::open("kafka://h:1/t?rdkafka.sasl.password=secret").is_err(), "not in the address");
/// # Ok::<(), differential_upsert::Error>(())
/// ```
#[derive(Debug)]
pub struct Kafka {
    asked: Asked,
    /// Over all connections: what one has received may become durable in a later one.
    behind: Behind,
    connected: Option<Connected>,
}

/// A thread that polls, what it hands over, and what it polls.
struct Connected {
    handed: mpsc::Receiver<Handed>,
    client: Arc<Client>,
    spare: Spare,
    rows: Rows,
    /// What comes after what was handed over last.
    failed: Option<Failure>,
}

impl std::fmt::Debug for Connected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connected").finish_non_exhaustive()
    }
}

impl Kafka {
    /// Opens a topic; connects to nothing yet. Settings `env:NAME` are read from the environment now.
    ///
    /// # Errors
    ///
    /// `Invalid` for an address that is none, an unknown parameter, one said twice, a secret in the
    /// address, and a variable that is not set.
    pub fn open(url: &str) -> Result<Kafka, Error> {
        let address = Address::parse(url, |name| std::env::var(name).ok())?;
        let (asked, behind) = (Asked::new(address), Behind::default());
        Ok(Kafka { asked, behind, connected: None })
    }

    /// Says what happens at a message that cannot be read; [`OnError::Stop`] by default.
    pub fn on_error(mut self, on_error: OnError) -> Kafka {
        self.asked.on_error = on_error;
        self
    }

    /// Says what a Debezium update comes to whose row lacks columns; [`OnUnavailable::Error`] by default.
    pub fn on_unavailable(mut self, on_unavailable: OnUnavailable) -> Kafka {
        self.asked.on_unavailable = on_unavailable;
        self
    }

    /// Counts into these, so that runs over the same topic share them: rows, messages that change none, and
    /// the offsets of all partitions, and how far they go.
    pub fn count_into(mut self, stats: SourceStats) -> Kafka {
        self.asked.stats = stats;
        self
    }

    /// Sets how often the topic is looked at while it is read, for partitions that were added. Default: 3 s.
    pub fn look_every(mut self, every: Duration) -> Kafka {
        self.asked.look_every = every;
        self
    }
}

impl Source for Kafka {
    type Key = Json;
    type Value = Json;
    type Position = KafkaPosition;

    /// The topic's name, and how it is read; each place says of which cluster and topic it is.
    fn identity(&self) -> String {
        let Address { topic, key, value, .. } = &self.asked.address;
        format!("kafka:{topic} (key {}, value {})", key.name(), value.name())
    }

    /// Nothing: only the brokers know, and say so at the first boundary.
    fn partitions(&self) -> Vec<Partition> {
        Vec::new()
    }

    async fn connect(&mut self, from: &Boundary<KafkaPosition>) -> Result<(), Failure> {
        // The thread before ends at the next thing that it hands over.
        self.connected = None;
        if from.is_start() {
            self.behind = Behind::default();
        }
        let (sender, handed) = mpsc::channel(CHUNKS_AHEAD);
        let (ready, opened) = oneshot::channel();
        let (asked, from) = (Arc::new(self.asked.clone()), from.cursor().clone());
        let (behind, place) = (self.behind.clone(), self.asked.address.topic.clone());
        // It is not waited for: a broker that does not answer must not hold up a stop.
        drop(tokio::task::spawn_blocking(move || {
            let reading = Reading::open(asked, sender, &from, behind);
            match reading {
                Ok(reading) => {
                    if ready.send(Ok((reading.client(), reading.spare()))).is_ok() {
                        reading.run();
                    }
                }
                // An error means that the connect was given up.
                Err(failure) => drop(ready.send(Err(failure))),
            }
        }));
        let gone = |_| transient("the thread that reads the topic is gone", &place);
        let (client, spare) = opened.await.map_err(gone)??;
        self.asked.reached();
        let Address { key, value, .. } = self.asked.address;
        let rows = Rows::new(key, value, self.asked.on_unavailable);
        self.connected = Some(Connected { handed, client, spare, rows, failed: None });
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<Events<Self>>, Failure> {
        let topic = &self.asked.address.topic;
        let Some(connected) = &mut self.connected else {
            return Err(transient("it is not connected", topic));
        };
        if let Some(failure) = connected.failed.take() {
            // What comes behind it must not be handed over.
            self.connected = None;
            return Err(failure);
        }
        let Some(handed) = connected.handed.recv().await else {
            return Err(transient("the thread that reads the topic is gone", topic));
        };
        let (events, failed) =
            handed?.events(&mut connected.rows, &self.asked, &self.behind, &connected.spare);
        connected.failed = failed;
        if events.is_empty()
            && let Some(failure) = connected.failed.take()
        {
            self.connected = None;
            return Err(failure);
        }
        Ok(Some(events).filter(|events| !events.is_empty()))
    }

    /// The ends of the logs, of what is committed.
    async fn current(&mut self) -> Result<Vec<(Partition, KafkaPosition)>, Failure> {
        let asked = self.asked.clone();
        let looking = tokio::task::spawn_blocking(move || {
            let client = client::make(&asked.address)?;
            client::look_and_listen(&client, &asked.address, asked.is_reached(), &|| true)
        });
        let gone = |_| transient("the look at the topic is gone", &self.asked.address.topic);
        let Topic { log, partitions, .. } = looking.await.map_err(gone)??;
        self.asked.reached();
        let ends = partitions.into_iter().filter(|(_, marks)| marks.end > marks.start);
        let end = |(number, marks): (i32, judge::Marks)| {
            let log = Arc::clone(&log);
            let place = KafkaPosition { offset: marks.end, log, seen: None, until: None };
            (Partition::from(number.to_string()), place)
        };
        Ok(ends.map(end).collect())
    }

    /// Commits the offsets to the group that the address names, to be watched there.
    fn ack(&mut self, durable: &Durable<KafkaPosition>) -> Ack {
        let (Some(_), Some(connected)) = (self.asked.group(), &self.connected) else {
            return Box::pin(std::future::ready(Ok(())));
        };
        let offset = |(name, place): (&Partition, &KafkaPosition)| {
            name.parse().ok().map(|number: i32| (number, place.offset))
        };
        let offsets: BTreeMap<i32, u64> = durable.partitions().filter_map(offset).collect();
        let (client, topic) = (Arc::clone(&connected.client), self.asked.address.topic.clone());
        Box::pin(async move {
            let gone = transient("the commit to the group is gone", &topic);
            let commit = tokio::task::spawn_blocking(move || {
                let list = verify::list(&topic, &offsets);
                let committed = list.and_then(|list| client.commit(&list, CommitMode::Sync));
                committed.map_err(|error| failure::of(&error, None, true, &topic))
            });
            commit.await.unwrap_or(Err(gone))
        })
    }

    /// Messages, by offsets, and how long ago the oldest was made that is not durable.
    fn lag(&mut self, durable: &Durable<KafkaPosition>) -> Lag {
        self.connected.as_ref().map_or_else(Lag::default, |_| self.behind.lag(durable))
    }

    fn durable_since(&mut self) -> Vec<u64> {
        self.behind.take_durable()
    }

    fn copy_until(&mut self, bound: Option<&Boundary<KafkaPosition>>) -> bool {
        self.asked.bound = bound.map(|bound| bound.cursor().clone());
        true
    }
}
