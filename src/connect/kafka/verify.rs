//! Owns finding the last messages that were read again, before anything behind them counts: a log that was
//! rewritten has others there. It does not own what a difference means; that is `judge`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::message::BorrowedMessage;
use rdkafka::{Message, Offset, TopicPartitionList};

use super::address::Address;
use super::client::{self, Client};
use super::failure::{self, is_mended, transient};
use super::judge::{Places, Topic, place_of, recognise};
use super::position::Seen;
use crate::source::Failure;

/// How long the messages may take to come, all of them.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a poll waits.
pub(super) const POLL: Duration = Duration::from_millis(100);

/// Checks the last message of each place, where the log still has that offset. Blocks. It has a consumer of its
/// own: librdkafka must not be told to stop reading what it has yet to stop from the time before.
pub(super) fn verify(
    address: &Address,
    topic: &Topic,
    places: &Places,
    goes_on: &dyn Fn() -> bool,
) -> Result<(), Failure> {
    let mut open: BTreeMap<i32, u64> = BTreeMap::new();
    for (partition, place) in places {
        let start = topic.partitions.get(partition).map_or(u64::MAX, |marks| marks.start);
        if let Some(seen) = place.seen.filter(|seen| start <= seen.offset) {
            open.insert(*partition, seen.offset);
        }
    }
    if open.is_empty() {
        return Ok(());
    }
    let client = client::make(address)?;
    assign(&client, &topic.name, &open)?;
    let began = Instant::now();
    while !open.is_empty() {
        if !goes_on() {
            return Err(transient("it was told to stop", &topic.name));
        }
        if began.elapsed() > PATIENCE {
            let partition = open.keys().next().copied().unwrap_or_default();
            let what = "the last message that was read does not come again";
            return Err(transient(what, &place_of(&topic.name, partition)));
        }
        let (partition, found) = match client.poll(POLL) {
            None => continue,
            Some(Ok(message)) => (message.partition(), Some(seen(&message))),
            Some(Err(KafkaError::PartitionEOF(partition))) => (partition, None),
            Some(Err(error)) if error.rdkafka_error_code().is_some_and(is_mended) => continue,
            Some(Err(error)) => {
                return Err(failure::of(&error, client.context().trouble(), true, &topic.name));
            }
        };
        if open.remove(&partition).is_some()
            && let Some(place) = places.get(&partition)
        {
            recognise(topic, partition, place, found)?;
        }
    }
    Ok(())
}

/// Returns the marks of a message.
pub(super) fn seen(message: &BorrowedMessage<'_>) -> Seen {
    let timestamp = message.timestamp().to_millis().unwrap_or(0);
    Seen::of(offset(message), timestamp, message.key(), message.payload())
}

/// Returns a message's offset; those of messages are from 0.
pub(super) fn offset(message: &BorrowedMessage<'_>) -> u64 {
    u64::try_from(message.offset()).unwrap_or(0)
}

/// Reads these partitions from these offsets, beside those that are read already.
pub(super) fn assign(
    client: &Client,
    topic: &str,
    offsets: &BTreeMap<i32, u64>,
) -> Result<(), Failure> {
    let assigned = list(topic, offsets).and_then(|list| client.incremental_assign(&list));
    assigned.map_err(|error| failure::of(&error, None, true, topic))
}

/// Returns offsets of partitions as librdkafka has them.
pub(super) fn list(
    topic: &str,
    offsets: &BTreeMap<i32, u64>,
) -> Result<TopicPartitionList, KafkaError> {
    let mut list = TopicPartitionList::new();
    for (partition, offset) in offsets {
        let offset = i64::try_from(*offset).unwrap_or(i64::MAX);
        list.add_partition_offset(topic, *partition, Offset::Offset(offset))?;
    }
    Ok(list)
}
