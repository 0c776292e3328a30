//! Measures a topic as a source against a bare consumer of the same topic, in one run: how fast messages of 1 KiB
//! are received and dropped, handed over as changes, and written to a shard in a local directory. The brokers are
//! librdkafka's mock ones, in this process, which hand over about 1 MB of a partition at a time, as brokers do,
//! and keep 5 MB of each; so there are many partitions, and the ratios say more than the rates. All have
//! librdkafka's default settings. Rounds of all three follow one another.
//!
//! A rate is that from the first message to the last, as long feeds have it; `begins` says how long the first
//! took to come. CPU is that of the whole process, the brokers' in it.
//!
//! ```text
//! cargo bench --features kafka --bench kafka -- [MESSAGES] [ROUNDS] [source|shard]
//! ```

use std::time::{Duration, Instant};

use differential_upsert::codec::{Json, JsonText};
use differential_upsert::connect::kafka::Kafka;
use differential_upsert::reclock::SourceConfig;
use differential_upsert::source::{Boundary, Event, Source, SourceStats};
use differential_upsert::{Pipeline, PipelineConfig, Shard};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};

const TOPIC: &str = "orders";

/// Messages in a partition: what its broker keeps.
const EACH: u64 = 4_000;

/// What is read.
struct Feed {
    brokers: String,
    messages: u64,
    partitions: i32,
}

fn main() {
    let numbers: Vec<u64> = std::env::args().filter_map(|arg| arg.parse().ok()).collect();
    let messages = numbers.first().copied().unwrap_or(200_000);
    let rounds = numbers.get(1).copied().unwrap_or(5);
    let cluster = MockCluster::new(1).expect("mock brokers");
    let partitions = messages.div_ceil(EACH) as i32;
    cluster.create_topic(TOPIC, partitions, 1).expect("a topic");
    let feed = Feed { brokers: cluster.bootstrap_servers(), messages, partitions };
    feed.write();
    println!("{messages} messages of 1 KiB in {partitions} partitions, {rounds} rounds; medians");
    type Contestant = (&'static str, fn(&Feed, &mut Watch));
    let all: [Contestant; 3] = [("bare", bare), ("source", source), ("shard", shard)];
    let named = |name: &str| std::env::args().any(|arg| arg == name);
    let is_asked =
        |name: &str| name == "bare" || named(name) || !(named("source") || named("shard"));
    let contestants: Vec<_> = all.into_iter().filter(|(name, _)| is_asked(name)).collect();
    let mut measured: Vec<Vec<Measured>> = contestants.iter().map(|_| Vec::new()).collect();
    for _ in 0..rounds {
        for ((_, run), measured) in contestants.iter().zip(&mut measured) {
            let mut watch = Watch { began: Instant::now(), first: None };
            let cpu = cpu_seconds();
            run(&feed, &mut watch);
            let first = watch.first.expect("a first message");
            let rate = messages as f64 / first.elapsed().as_secs_f64();
            let begins = (first - watch.began).as_secs_f64();
            measured.push(Measured { rate, begins, cpu: cpu_seconds() - cpu });
        }
    }
    println!(
        "{:>8} {:>12} {:>7} {:>10} {:>7} {:>10}",
        "", "messages/s", "ratio", "cpu us", "ratio", "begins ms"
    );
    let medians: Vec<Measured> = measured.into_iter().map(median).collect();
    for ((name, _), is) in contestants.iter().zip(&medians) {
        let Measured { rate, begins, cpu } = is;
        let (rate_ratio, cpu_ratio) = (rate / medians[0].rate, cpu / medians[0].cpu);
        let each = cpu * 1e6 / messages as f64;
        println!(
            "{name:>8} {rate:>12.0} {rate_ratio:>7.2} {each:>10.2} {cpu_ratio:>7.2} {:>10.0}",
            begins * 1e3
        );
    }
}

/// When a run began, and when its first message came.
struct Watch {
    began: Instant,
    first: Option<Instant>,
}

impl Watch {
    fn message(&mut self) {
        self.first.get_or_insert_with(Instant::now);
    }
}

struct Measured {
    rate: f64,
    begins: f64,
    cpu: f64,
}

/// The median of each.
fn median(of: Vec<Measured>) -> Measured {
    let middle = |value: fn(&Measured) -> f64| {
        let mut values: Vec<f64> = of.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    Measured {
        rate: middle(|measured| measured.rate),
        begins: middle(|measured| measured.begins),
        cpu: middle(|measured| measured.cpu),
    }
}

/// User and system time of this process; 0 where the system does not say it so.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    ticks as f64 / 100.0
}

impl Feed {
    fn write(&self) {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers).set("linger.ms", "20");
        config.set("queue.buffering.max.messages", "1000000");
        let producer: BaseProducer = config.create().expect("a producer");
        let filler = "x".repeat(980);
        for number in 0..self.messages {
            let key = format!("\"key-{:08}\"", number % (self.messages / 2).max(1));
            let number = number + 10_000_000;
            let value = format!("{{\"filler\":\"{filler}\",\"number\":{number:08}}}");
            loop {
                let partition = (number % self.partitions as u64) as i32;
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

    fn topic(&self) -> Kafka {
        Kafka::open(&format!("kafka://{}/{TOPIC}", self.brokers)).expect("an address")
    }
}

/// Receives all, and drops it.
fn bare(feed: &Feed, watch: &mut Watch) {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &feed.brokers).set("group.id", "bare");
    config.set("enable.auto.commit", "false").set("isolation.level", "read_committed");
    let consumer: BaseConsumer = config.create().expect("a consumer");
    let mut list = TopicPartitionList::new();
    for partition in 0..feed.partitions {
        list.add_partition_offset(TOPIC, partition, Offset::Offset(0)).expect("a partition");
    }
    consumer.assign(&list).expect("assigned");
    let mut received = 0;
    while received < feed.messages {
        if let Some(message) = consumer.poll(Duration::from_secs(1)) {
            message.expect("a message");
            watch.message();
            received += 1;
        }
    }
    // As the source's is, beside what is measured.
    std::thread::spawn(move || drop(consumer));
}

/// Hands all over as changes, and drops them.
fn source(feed: &Feed, watch: &mut Watch) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    runtime.block_on(async {
        let mut topic = feed.topic();
        topic.connect(&Boundary::start(&topic.identity())).await.expect("connected");
        let mut received = 0;
        while received < feed.messages {
            let events = topic.next().await.expect("events").expect("a connection");
            let change = |event: &&_| matches!(event, Event::Change(..));
            let changes = events.iter().filter(change).count() as u64;
            if changes > 0 {
                watch.message();
            }
            received += changes;
        }
    });
    runtime.shutdown_background();
}

/// Writes all into a shard in a directory of its own, and ends.
fn shard(feed: &Feed, watch: &mut Watch) {
    let directory = tempfile::tempdir().expect("a directory");
    let url = format!("file:{}", directory.path().display());
    let shard = Shard::<Json, Json, JsonText>::open(&url).expect("a shard");
    let stats = SourceStats::default();
    let topic = feed.topic().count_into(stats.clone());
    let first = timely::execute_directly(move |worker| {
        let mut watch = Watch { began: Instant::now(), first: None };
        let token = worker.dataflow(|scope| {
            let source = SourceConfig { stop_at_current: true, ..SourceConfig::default() };
            let config = PipelineConfig { source, ..PipelineConfig::default() };
            Pipeline::from_source(scope, || Some(topic), &shard, config).token
        });
        while worker.has_dataflows() {
            worker.step_or_park(Some(Duration::from_millis(1)));
            if stats.rows_read() > 0 {
                watch.message();
            }
        }
        drop(token);
        watch.first
    });
    watch.first = first;
}
