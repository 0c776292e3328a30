//! Owns faults of brokers and of their logs: krafka's fake brokers, whose topic can be replaced at once, and whose
//! logs can be cut from both ends. It does not own what any client of any broker can do; that is
//! [`topic`](super::topic)'s.

use std::ops::Deref;
use std::sync::Arc;

use krafka::testing::FakeBroker;

pub use crate::kafka::topic::TOPIC;
use crate::kafka::topic::{Row, Topic};

/// Fake brokers, and their topic.
pub struct Cluster {
    topic: Topic,
    pub broker: Arc<FakeBroker>,
}

impl Deref for Cluster {
    type Target = Topic;

    fn deref(&self) -> &Topic {
        &self.topic
    }
}

impl Cluster {
    pub fn start(brokers: usize, partitions: i32) -> Cluster {
        let (topic, broker) = Topic::fake(brokers, partitions);
        Cluster { topic, broker }
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
