//! Owns how far what is durable lies behind the topic: the ends of its logs, as far as brokers have said them with what
//! they were asked anyway, and when messages were made that are on their way. It does not own the places themselves.
//!
//! Rows are offsets: those that compaction has taken, and control records, count as messages until they are passed.
//! Bytes are not known.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::judge::Marks;
use super::position::KafkaPosition;
use crate::source::trail::Trail;
use crate::source::{Age, Durable, Lag};

/// What is known of a connection's topic; shared by the thread that polls and the pipeline.
#[derive(Clone, Debug, Default)]
pub(super) struct Behind(Arc<Mutex<BTreeMap<i32, Log>>>);

#[derive(Debug, Default)]
struct Log {
    /// Where it began when it was first seen.
    start: u64,
    end: u64,
    /// Everything before it was handed over.
    reached: u64,
    made: Trail,
}

impl Behind {
    /// Takes in where the logs begin and end.
    pub(super) fn looked(&self, partitions: &BTreeMap<i32, Marks>) {
        let mut logs = self.0.lock();
        for (partition, Marks { start, end }) in partitions {
            let new = || Log { start: *start, reached: *start, ..Log::default() };
            let log = logs.entry(*partition).or_insert_with(new);
            log.end = log.end.max(*end);
        }
    }

    /// Takes in that everything of a partition up to an offset has come, the oldest of it made at a time.
    pub(super) fn reached(&self, partition: i32, offset: u64, made_ms: Option<u64>) {
        let mut logs = self.0.lock();
        let log = logs.entry(partition).or_default();
        if let Some(made_ms) = made_ms {
            log.made.add(offset, made_ms);
        }
        log.reached = log.reached.max(offset);
        log.end = log.end.max(offset);
    }

    /// Returns how far what is durable is behind.
    pub(super) fn lag(&self, durable: &Durable<KafkaPosition>) -> Lag {
        let mut logs = self.0.lock();
        let lag = |(partition, log): (&i32, &mut Log)| {
            let durable = durable.get(&partition.to_string()).map(|place| place.offset);
            let to = match crate::mutant::on("kafka_lag_of_received") {
                true => log.reached,
                false => durable.unwrap_or(log.start),
            };
            let rows = log.end.saturating_sub(to);
            let age = match log.made.age(to, log.reached >= log.end) {
                _ if rows == 0 => Age::Current,
                // It is on its way, and says not when it was made.
                Age::Current => Age::Unknown,
                age => age,
            };
            Lag { rows: Some(rows), bytes: None, age }
        };
        match logs.is_empty() {
            true => Lag::default(),
            false => logs.iter_mut().map(lag).sum(),
        }
    }

    /// Returns when the messages were made that have become durable.
    pub(super) fn take_durable(&self) -> Vec<u64> {
        self.0.lock().values_mut().flat_map(|log| log.made.take_durable()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::position;
    use super::*;
    use crate::source::{Cursor, Partition};

    fn durable(places: &[(i32, u64)]) -> Durable<KafkaPosition> {
        let log = Arc::new(position::Log { cluster: "c".to_string(), topic: None });
        let place = |(partition, offset): &(i32, u64)| {
            let log = Arc::clone(&log);
            let place = KafkaPosition { offset: *offset, log, seen: None, until: None };
            (Partition::from(partition.to_string()), place)
        };
        Durable::read(&Cursor::of("f", 0, places.iter().map(place)).encode()).unwrap()
    }

    #[test]
    fn what_the_topic_has_and_is_not_durable_is_behind() {
        let behind = Behind::default();
        assert!(behind.lag(&durable(&[])).is_unknown(), "before a look");
        let marks = |start, end| Marks { start, end };
        behind.looked(&BTreeMap::from([(0, marks(5, 10)), (1, marks(0, 0))]));
        let lag = |rows, age| Lag { rows: Some(rows), bytes: None, age };
        assert_eq!(behind.lag(&durable(&[])), lag(5, Age::Unknown));
        behind.reached(0, 8, Some(1_000));
        behind.reached(0, 10, Some(2_000));
        assert_eq!(behind.lag(&durable(&[])), lag(5, Age::AsOf(1_000)));
        assert_eq!(behind.lag(&durable(&[(0, 8), (1, 0)])), lag(2, Age::AsOf(2_000)));
        assert_eq!(behind.lag(&durable(&[(0, 10), (1, 0)])), lag(0, Age::Current));
        // There is more, which has not come yet.
        behind.looked(&BTreeMap::from([(0, marks(5, 30)), (1, marks(0, 0))]));
        assert_eq!(behind.lag(&durable(&[(0, 10), (1, 0)])), lag(20, Age::Unknown));
        // It has come, and has no time.
        behind.reached(1, 3, None);
        let both = behind.lag(&durable(&[(0, 30), (1, 0)]));
        assert_eq!(both, lag(3, Age::Unknown));
    }
}
