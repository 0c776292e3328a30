//! Goal: with librdkafka's own mock brokers, which hand messages over by topic ids and leader epochs as new brokers do,
//! the shard is the fold of the log, whatever becomes of brokers and leaders. Method: messages between faults, one
//! client that lives through all of them.

use std::time::Duration;

use differential_upsert::store::{Access, Root};
use rdkafka::bindings::rd_kafka_resp_err_t as Answer;
use rdkafka::config::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::types::RDKafkaApiKey as ApiKey;

use crate::kafka::client::{Client, PATIENCE, Setting, Table, contents};

const TOPIC: &str = "orders";

#[test]
fn mock_brokers_fail_and_leaders_move_and_the_shard_is_the_fold_of_the_log() {
    let cluster = MockCluster::new(3).expect("mock brokers");
    cluster.create_topic(TOPIC, 2, 3).expect("a topic");
    for partition in 0..2 {
        cluster.partition_leader(TOPIC, partition, Some(1)).expect("a leader");
    }
    let brokers = cluster.bootstrap_servers();
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &brokers).set("linger.ms", "0");
    let producer: BaseProducer = config.create().expect("a producer");
    let root = Root::open("mem:", Access::Write).expect("memory");
    let url = format!("kafka://{brokers}/{TOPIC}?key=string&value=string");
    let mut client = Client::start(&root, &Setting::new(url.clone()));
    let mut expected = Table::new();
    let faults: [(&str, &dyn Fn()); 6] = [
        ("nothing", &|| {}),
        ("leaders move", &|| {
            cluster.partition_leader(TOPIC, 0, Some(2)).expect("a leader");
            cluster.partition_leader(TOPIC, 1, Some(3)).expect("a leader");
        }),
        ("a broker is lost, and the other leads", &|| {
            cluster.broker_down(2).expect("down");
            cluster.partition_leader(TOPIC, 0, Some(3)).expect("a leader");
        }),
        ("it is back and leads again", &|| {
            cluster.broker_up(2).expect("up");
            cluster.partition_leader(TOPIC, 0, Some(2)).expect("a leader");
        }),
        ("fetches fail", &|| {
            use Answer::*;
            let answers = [
                RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
                RD_KAFKA_RESP_ERR_FENCED_LEADER_EPOCH,
                RD_KAFKA_RESP_ERR_UNKNOWN_LEADER_EPOCH,
                RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
            ];
            cluster.request_errors(ApiKey::Fetch, &answers);
        }),
        ("questions fail", &|| {
            let answers = [Answer::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION; 3];
            cluster.request_errors(ApiKey::ListOffsets, &answers);
        }),
    ];
    for (number, (what, fault)) in faults.iter().enumerate() {
        fault();
        for key in 0..20 {
            let (name, value) = (format!("k{key}"), number.to_string());
            let mut record: BaseRecord<'_, str, str> =
                BaseRecord::to(TOPIC).partition(key % 2).key(&name);
            if !(key as usize + number).is_multiple_of(5) {
                record = record.payload(&value);
                expected.insert(format!("\"{name}\""), format!("\"{value}\""));
            } else {
                expected.remove(&format!("\"{name}\""));
            }
            producer.send(record).map_err(|(error, _)| error).expect("room");
        }
        producer.flush(PATIENCE).expect("written");
        client.until(what, |client| {
            assert_eq!(client.error().map(|error| error.to_string()), None, "{what}");
            contents(&root) == expected
        });
    }
    client.stop();
    producer.poll(Duration::ZERO);
    Client::start(&root, &Setting::up_to_now(url)).end();
    assert_eq!(contents(&root), expected);
}
