//! Owns a topic of the tests as any client of its brokers sees it: made, written to, in transactions or not, given
//! more partitions, deleted and made anew. Its brokers are krafka's fake ones, in this process, or those that
//! `KAFKA_BROKERS` names. It does not own what is written, nor faults; those are [`cluster`](super::cluster)'s.
//!
//! A trap: krafka's brokers answer a fetch with all of the log, whatever the bounds that the client sets. An answer of more
//! than librdkafka's `receive.message.max.bytes`, 100 MB, is `BadMessage` there: at 1 KiB that is some 95,000 messages. Real
//! brokers, and librdkafka's mock ones, keep the bounds.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use krafka::Record;
use krafka::testing::FakeBroker;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use tokio::runtime::Runtime;

use crate::kafka::client::runtime;

/// The topic's name at fake brokers.
pub const TOPIC: &str = "orders";

/// A guard against hanging, not a measurement.
const PATIENCE: Duration = Duration::from_secs(60);

/// A message: partition, key, and value or none.
pub type Row<'a> = (i32, &'a str, Option<&'a str>);

pub struct Topic {
    pub name: String,
    brokers: String,
    /// None if others run them.
    fake: Option<Arc<FakeBroker>>,
    runtime: Runtime,
}

impl Topic {
    /// Makes a topic at the brokers that `KAFKA_BROKERS=HOST:PORT[,HOST:PORT]` names, which is deleted at the end;
    /// without it, at a fake broker.
    pub fn anywhere(partitions: i32) -> Topic {
        let Ok(brokers) = std::env::var("KAFKA_BROKERS") else {
            return Topic::fake(1, partitions).0;
        };
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let (process, number) = (std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let since = std::time::UNIX_EPOCH.elapsed().expect("a clock").as_millis();
        let name = format!("differential-upsert-test-{since}-{process}-{number}");
        let topic = Topic { name, brokers, fake: None, runtime: runtime() };
        topic.make(partitions);
        topic
    }

    /// Makes one at so many fake brokers.
    pub fn fake(brokers: usize, partitions: i32) -> (Topic, Arc<FakeBroker>) {
        let runtime = runtime();
        let fake = runtime.block_on(FakeBroker::start_cluster(brokers)).expect("free ports");
        // A topic that was deleted is not made by asking for it.
        fake.with_state(|state| state.auto_create_topics = false);
        let (fake, brokers) = (Arc::new(fake), String::new());
        let name = TOPIC.to_string();
        let topic = Topic { name, brokers, fake: Some(Arc::clone(&fake)), runtime };
        topic.make(partitions);
        (topic, fake)
    }

    /// The brokers' addresses.
    pub fn brokers(&self) -> String {
        self.fake.as_ref().map_or_else(|| self.brokers.clone(), |fake| fake.bootstrap_servers())
    }

    pub fn url(&self, query: &str) -> String {
        let (brokers, name) = (self.brokers(), &self.name);
        format!("kafka://{brokers}/{name}?key=string&value=string&{query}")
    }

    /// Runs what needs a runtime of tokio.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.brokers()).set("linger.ms", "0");
        // Each message is a batch of its own, so that a log can be cut anywhere.
        config.set("batch.num.messages", "1");
        config
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.config().create().expect("a client")
    }

    fn make(&self, partitions: i32) {
        if let Some(fake) = &self.fake {
            return assert!(fake.create_topic(&self.name, partitions));
        }
        let (admin, begun) = (self.admin(), Instant::now());
        let topic = NewTopic::new(&self.name, partitions, TopicReplication::Fixed(1));
        loop {
            let made = self.runtime.block_on(admin.create_topics([&topic], &AdminOptions::new()));
            match made.expect("an answer").remove(0) {
                Ok(_) => break,
                // Brokers delete the one before it at their leisure.
                Err((_, Code::TopicAlreadyExists)) => {
                    assert!(begun.elapsed() < PATIENCE, "{} is never gone", self.name);
                }
                Err((_, code)) => panic!("{}: {code}", self.name),
            }
        }
        self.until_led(partitions);
    }

    /// Waits until each partition has a leader, and says where it ends.
    fn until_led(&self, partitions: i32) {
        let begun = Instant::now();
        let consumer: BaseConsumer = self.config().create().expect("a consumer");
        let is_led = |partition| {
            consumer.fetch_watermarks(&self.name, partition, Duration::from_secs(5)).is_ok()
        };
        while !(0..partitions).all(is_led) {
            assert!(begun.elapsed() < PATIENCE, "{} has never got its leaders", self.name);
        }
    }

    fn delete(&self) {
        match &self.fake {
            Some(fake) => assert!(fake.delete_topic(&self.name)),
            None => {
                let (admin, options) = (self.admin(), AdminOptions::new());
                let deleted = self.runtime.block_on(admin.delete_topics(&[&self.name], &options));
                deleted.expect("an answer").remove(0).expect("deleted");
            }
        }
    }

    /// Deletes the topic and makes it again.
    pub fn make_anew(&self, partitions: i32) {
        self.delete();
        self.make(partitions);
    }

    /// Adds partitions, so that it has so many.
    pub fn add_partitions(&self, to: i32) {
        match &self.fake {
            Some(fake) => drop(fake.add_partitions(&self.name, to)),
            None => {
                let (admin, options) = (self.admin(), AdminOptions::new());
                let more = NewPartitions::new(&self.name, to as usize);
                let added = self.runtime.block_on(admin.create_partitions([&more], &options));
                added.expect("an answer").remove(0).expect("added");
                self.until_led(to);
            }
        }
    }

    /// Writes messages, in order.
    pub fn write(&self, rows: &[Row<'_>]) {
        self.write_to(&self.name, rows);
    }

    /// Writes messages to another topic.
    pub fn write_to(&self, topic: &str, rows: &[Row<'_>]) {
        let producer: BaseProducer = self.config().create().expect("a producer");
        send(&producer, topic, rows);
        producer.flush(PATIENCE).expect("written");
    }

    /// Writes messages in one transaction.
    pub fn transaction(&self, rows: &[Row<'_>], commits: bool) {
        match &self.fake {
            // librdkafka's producer ends transactions in a way that these brokers do not know any more.
            Some(fake) => self.runtime.block_on(fake_transaction(fake, &self.name, rows, commits)),
            None => {
                let mut config = self.config();
                config.set("transactional.id", &self.name);
                let producer: BaseProducer = config.create().expect("a producer");
                producer.init_transactions(PATIENCE).expect("transactions");
                producer.begin_transaction().expect("a transaction");
                send(&producer, &self.name, rows);
                producer.flush(PATIENCE).expect("written");
                match commits {
                    true => producer.commit_transaction(PATIENCE).expect("committed"),
                    false => producer.abort_transaction(PATIENCE).expect("taken back"),
                }
            }
        }
    }

    /// The offset after the last message of a partition, control records among them.
    pub fn end(&self, partition: i32) -> i64 {
        let consumer: BaseConsumer = self.config().create().expect("a consumer");
        let marks = consumer.fetch_watermarks(&self.name, partition, PATIENCE);
        marks.expect("an answer").1
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        if self.fake.is_none() && !std::thread::panicking() {
            self.delete();
        }
    }
}

async fn fake_transaction(fake: &FakeBroker, topic: &str, rows: &[Row<'_>], commits: bool) {
    let kafka = fake.kafka().connect().await.expect("a client");
    let producer = kafka.producer().build_transactional("tests").await.expect("a producer");
    producer.begin().expect("a transaction");
    for (partition, key, value) in rows {
        let value = value.map(str::to_string).unwrap_or_default();
        let record = Record::new(topic, value).key(key.to_string()).partition(*partition);
        let _ = producer.send(record).await.expect("written");
    }
    producer.flush().await.expect("written");
    match commits {
        true => producer.commit().await.expect("committed"),
        false => producer.abort().await.expect("taken back"),
    }
}

fn send(producer: &BaseProducer, topic: &str, rows: &[Row<'_>]) {
    for (partition, key, value) in rows {
        let mut record: BaseRecord<'_, str, str> =
            BaseRecord::to(topic).partition(*partition).key(key);
        if let Some(value) = value {
            record = record.payload(value);
        }
        producer.send(record).map_err(|(error, _)| error).expect("room");
    }
}
