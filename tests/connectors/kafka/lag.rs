//! Goal: how far the shard is behind the topic shows: messages that are not durable, how old they are, and nothing once all
//! is. Method: librdkafka's mock brokers, and a standby, which receives and makes nothing durable.

use std::time::Duration;

use differential_upsert::Promotion;
use differential_upsert::health::SourceLag;
use differential_upsert::store::{Access, Root};
use rdkafka::config::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::kafka::client::{Client, PATIENCE, Setting, contents};

const TOPIC: &str = "orders";

/// Long ago, in milliseconds since 1970.
const MADE: i64 = 1_700_000_000_000;

fn write(producer: &BaseProducer, keys: std::ops::Range<i32>, made: i64) {
    for key in keys {
        let name = format!("k{key}");
        let record = BaseRecord::to(TOPIC).partition(key % 2).key(&name).payload("1");
        producer.send(record.timestamp(made)).map_err(|(error, _)| error).expect("room");
    }
    producer.flush(PATIENCE).expect("written");
}

#[test]
fn the_lag_shows_until_all_is_durable() {
    let cluster = MockCluster::new(1).expect("mock brokers");
    cluster.create_topic(TOPIC, 2, 1).expect("a topic");
    let brokers = cluster.bootstrap_servers();
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &brokers).set("linger.ms", "0");
    let producer: BaseProducer = config.create().expect("a producer");
    write(&producer, 0..30, MADE);

    let root = Root::open("mem:", Access::Write).expect("memory");
    let writes = Setting::new(format!("kafka://{brokers}/{TOPIC}?key=string&value=string"));
    let promotion = Promotion::default();
    let standby = Setting { standby: Some(promotion.clone()), ..writes };
    let mut client = Client::start(&root, &standby);
    let is = |rows, aged: fn(Duration) -> bool| {
        move |client: &mut Client| {
            let SourceLag { rows: found, bytes, age, .. } = client.health.report().lag;
            (found, bytes, age.is_some_and(aged)) == (Some(rows), None, true)
        }
    };
    let old = |age: Duration| age > Duration::from_secs(1_000_000);
    client.until("all is received, and none of it durable", is(30, old));
    // What is written meanwhile is behind, too.
    write(&producer, 30..35, MADE + 1_000);
    client.until("what is new is received", is(35, old));
    promotion.promote();
    client.until("nothing is behind", is(0, |age| age.is_zero()));
    assert_eq!(contents(&root).len(), 35);
    client.stop();
}
