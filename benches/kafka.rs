//! Measures a topic as a source against a bare consumer of the same topic, in one run: how fast messages of 1 KiB
//! are received and dropped, handed over as changes, and written to a shard in a local directory. The brokers are
//! krafka's fake ones, in this process, so the ratios say more than the rates. Of more than some 100,000 messages
//! librdkafka cannot read their answers.
//!
//! ```text
//! cargo bench --features kafka --bench kafka -- [MESSAGES] [PARTITIONS]
//! ```

use std::time::{Duration, Instant};

use differential_upsert::codec::{Json, JsonText};
use differential_upsert::connect::kafka::Kafka;
use differential_upsert::reclock::SourceConfig;
use differential_upsert::source::{Boundary, Event, Source};
use differential_upsert::{Pipeline, PipelineConfig, Shard};
use krafka::testing::FakeBroker;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};

const TOPIC: &str = "orders";
const ROUNDS: usize = 5;

fn main() {
    let numbers: Vec<u64> = std::env::args().filter_map(|arg| arg.parse().ok()).collect();
    let messages = numbers.first().copied().unwrap_or(60_000);
    let partitions = numbers.get(1).map_or(4, |partitions| *partitions as i32);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let broker = runtime.block_on(FakeBroker::start()).expect("a port");
    broker.create_topic(TOPIC, partitions);
    let brokers = broker.bootstrap_servers();
    write(&brokers, messages, partitions);
    println!("{messages} messages of 1 KiB in {partitions} partitions; messages per second");
    println!("{:>12} {:>12} {:>7} {:>12} {:>7}", "bare", "source", "ratio", "shard", "ratio");
    let mut ratios = Vec::new();
    for _ in 0..ROUNDS {
        let bare = rate(messages, || bare(&brokers, messages, partitions));
        let source = rate(messages, || runtime.block_on(source(&brokers, messages)));
        let shard = rate(messages, || shard(&brokers));
        println!(
            "{bare:>12.0} {source:>12.0} {:>7.2} {shard:>12.0} {:>7.2}",
            source / bare,
            shard / bare
        );
        ratios.push(source / bare);
    }
    ratios.sort_by(f64::total_cmp);
    println!("the source's median: {:.2} of the bare consumer", ratios[ROUNDS / 2]);
}

fn rate(messages: u64, run: impl FnOnce()) -> f64 {
    let began = Instant::now();
    run();
    messages as f64 / began.elapsed().as_secs_f64()
}

fn write(brokers: &str, messages: u64, partitions: i32) {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("linger.ms", "20");
    config.set("queue.buffering.max.messages", "1000000");
    let producer: BaseProducer = config.create().expect("a producer");
    let filler = "x".repeat(980);
    for number in 0..messages {
        let key = format!("\"key-{:08}\"", number % (messages / 2).max(1));
        let value =
            format!("{{\"filler\":\"{filler}\",\"number\":{number:08}}}").replace(":0", ":10");
        loop {
            let partition = (number % partitions as u64) as i32;
            let record = BaseRecord::to(TOPIC).partition(partition).key(&key).payload(&value);
            match producer.send(record) {
                Ok(()) => break,
                Err((error, _)) => {
                    let full = error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull);
                    assert!(full, "{error}");
                    producer.poll(Duration::from_millis(10));
                }
            }
        }
    }
    producer.flush(Duration::from_secs(300)).expect("written");
}

/// Receives all, and drops it.
fn bare(brokers: &str, messages: u64, partitions: i32) {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("group.id", "bare");
    config.set("enable.auto.commit", "false").set("isolation.level", "read_committed");
    let consumer: BaseConsumer = config.create().expect("a consumer");
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition_offset(TOPIC, partition, Offset::Offset(0)).expect("a partition");
    }
    consumer.assign(&list).expect("assigned");
    let mut received = 0;
    while received < messages {
        if let Some(message) = consumer.poll(Duration::from_secs(1)) {
            message.expect("a message");
            received += 1;
        }
    }
    // As the source's is, beside what is measured.
    std::thread::spawn(move || drop(consumer));
}

/// Hands all over as changes, and drops them.
async fn source(brokers: &str, messages: u64) {
    let mut topic = Kafka::open(&format!("kafka://{brokers}/{TOPIC}")).expect("an address");
    topic.connect(&Boundary::start(&topic.identity())).await.expect("connected");
    let mut received = 0;
    while received < messages {
        let events = topic.next().await.expect("events").expect("a connection");
        received += events.iter().filter(|event| matches!(event, Event::Change(..))).count() as u64;
    }
}

/// Writes all into a shard in a directory of its own, and ends.
fn shard(brokers: &str) {
    let directory = tempfile::tempdir().expect("a directory");
    let url = format!("file:{}", directory.path().display());
    let shard = Shard::<Json, Json, JsonText>::open(&url).expect("a shard");
    let topic = Kafka::open(&format!("kafka://{brokers}/{TOPIC}")).expect("an address");
    timely::execute_directly(move |worker| {
        let token = worker.dataflow(|scope| {
            let source = SourceConfig { stop_at_current: true, ..SourceConfig::default() };
            let config = PipelineConfig { source, ..PipelineConfig::default() };
            Pipeline::from_source(scope, || Some(topic), &shard, config).token
        });
        while worker.has_dataflows() {
            worker.step_or_park(None);
        }
        drop(token);
    });
}
