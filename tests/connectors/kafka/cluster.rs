//! Owns the brokers of the tests: krafka's fake ones, which have topic ids, transactions and logs that can be
//! cut, and librdkafka's own producer in front of them. It does not own what is written.

use std::time::Duration;

use krafka::Record;
use krafka::testing::FakeBroker;
use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use tokio::runtime::Runtime;

pub const TOPIC: &str = "orders";

/// A guard against hanging, not a measurement.
const PATIENCE: Duration = Duration::from_secs(60);

/// A message: partition, key, and value or none.
pub type Row<'a> = (i32, &'a str, Option<&'a str>);

pub struct Cluster {
    pub broker: FakeBroker,
    runtime: Runtime,
}

impl Cluster {
    pub fn start(brokers: usize, partitions: i32) -> Cluster {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().build().expect("a runtime");
        let broker = runtime.block_on(FakeBroker::start_cluster(brokers)).expect("free ports");
        // A topic that was deleted is not made by asking for it.
        broker.with_state(|state| state.auto_create_topics = false);
        assert!(broker.create_topic(TOPIC, partitions));
        Cluster { broker, runtime }
    }

    pub fn url(&self, query: &str) -> String {
        let brokers = self.broker.bootstrap_servers();
        format!("kafka://{brokers}/{TOPIC}?key=string&value=string&{query}")
    }

    fn producer(&self) -> BaseProducer {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.broker.bootstrap_servers()).set("linger.ms", "0");
        config.create().expect("a producer")
    }

    /// Writes messages, in order.
    pub fn write(&self, rows: &[Row<'_>]) {
        self.write_to(TOPIC, rows);
    }

    fn write_to(&self, topic: &str, rows: &[Row<'_>]) {
        let producer = self.producer();
        send(&producer, topic, rows);
        producer.flush(PATIENCE).expect("written");
    }

    /// Deletes the topic and makes it again with these messages, before anybody can look.
    pub fn replace(&self, partitions: i32, rows: &[Row<'_>]) {
        assert!(self.broker.create_topic("later", partitions));
        self.write_to("later", rows);
        self.broker.with_state(|state| {
            let later = state.topics.remove("later").expect("it was made");
            state.topics.insert(TOPIC.to_string(), later);
        });
    }

    /// Writes messages in one transaction.
    pub fn transaction(&self, rows: &[Row<'_>], commits: bool) {
        // krafka's producer: librdkafka's ends transactions in a way that these brokers do not know any more.
        self.runtime.block_on(async {
            let kafka = self.broker.kafka().connect().await.expect("a client");
            let producer = kafka.producer().build_transactional("tests").await.expect("a producer");
            producer.begin().expect("a transaction");
            for (partition, key, value) in rows {
                let value = value.map(str::to_string).unwrap_or_default();
                let record = Record::new(TOPIC, value).key(key.to_string()).partition(*partition);
                let _ = producer.send(record).await.expect("written");
            }
            producer.flush().await.expect("written");
            match commits {
                true => producer.commit().await.expect("committed"),
                false => producer.abort().await.expect("taken back"),
            }
        });
    }

    /// Deletes the topic and makes it again.
    pub fn make_anew(&self, partitions: i32) {
        assert!(self.broker.delete_topic(TOPIC));
        assert!(self.broker.create_topic(TOPIC, partitions));
    }

    /// The offset after the last message of a partition.
    pub fn end(&self, partition: i32) -> i64 {
        self.broker.next_offset(TOPIC, partition).expect("the topic")
    }

    /// Deletes the messages of a partition below an offset, as retention does.
    pub fn retain_from(&self, partition: i32, offset: i64) {
        self.broker.with_state(|state| {
            let log = state.partition_mut(TOPIC, partition).expect("the partition");
            log.log_start_offset = offset;
        });
    }

    /// Makes a partition's log end at an offset, as an unclean election does; batches are of one message.
    pub fn cut(&self, partition: i32, offset: i64) {
        self.broker.with_state(|state| {
            let log = state.partition_mut(TOPIC, partition).expect("the partition");
            log.log.truncate(usize::try_from(offset).expect("from 0"));
            log.next_offset = offset;
        });
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
        // So that each is a batch of its own, and a log can be cut anywhere.
        producer.poll(Duration::ZERO);
    }
}
