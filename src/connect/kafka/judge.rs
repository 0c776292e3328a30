//! Owns what a cursor and a topic as the brokers have it come to: where to read on in each partition, or that
//! the place is lost. It does not own asking the brokers. Pure.
//!
//! | the brokers have | it is |
//! | --- | --- |
//! | another cluster | another feed |
//! | the topic under another id; fewer partitions | lost: it was deleted and made anew |
//! | a log that starts past the cursor | lost: messages were deleted before they were read |
//! | a log that ends before the cursor | lost: messages that were read are gone |
//! | another message where the last one read was | lost: the log was rewritten behind the cursor |
//! | a new partition whose log does not start at 0 | lost: as a start past the cursor |
//! | anything else | the log that the cursor is of |

use std::collections::BTreeMap;
use std::sync::Arc;

use super::position::{KafkaPosition, Log, Seen};
use crate::error::{Error, ErrorKind};
use crate::source::{Cursor, Failure, Partition};

/// A topic as the brokers have it.
#[derive(Clone, Debug)]
pub(super) struct Topic {
    pub(super) name: String,
    pub(super) log: Arc<Log>,
    pub(super) partitions: BTreeMap<i32, Marks>,
}

/// Where the log of a partition starts, and the offset after its last message that may be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Marks {
    pub(super) start: u64,
    pub(super) end: u64,
}

/// The places of all partitions.
pub(super) type Places = BTreeMap<i32, KafkaPosition>;

/// Where to read on.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) places: Places,
    /// Some of these places are new to the cursor.
    pub(super) is_news: bool,
}

/// Returns where to read on after a cursor. `bound` is where another writer has ended the copy that is to
/// be made anew.
pub(super) fn judge(
    from: &Cursor<KafkaPosition>,
    topic: &Topic,
    bound: Option<&Cursor<KafkaPosition>>,
) -> Result<Plan, Failure> {
    if from.is_start() {
        let bound = bound.filter(|bound| bound.generation() == from.generation());
        return match from.generation() {
            0 => Ok(Plan { places: begin(topic, |_, _| None), is_news: true }),
            _ => copy(topic, bound),
        };
    }
    let mut places = Places::new();
    for (name, place) in from.partitions() {
        let partition = number(name)?;
        check(topic, partition, place)?;
        // An id that is not heard of this time is still known.
        let log = if topic.log.topic.is_some() { &topic.log } else { &place.log };
        places.insert(partition, KafkaPosition { log: Arc::clone(log), ..place.clone() });
    }
    let copies = from.is_snapshot();
    let news = topic.partitions.iter().filter(|(partition, _)| !places.contains_key(partition));
    // What is new during a copy waits for its end, which is where it was said to be.
    let news: Vec<(i32, Marks)> = news.filter(|_| !copies).map(|(p, m)| (*p, *m)).collect();
    let is_news = !news.is_empty();
    for (partition, marks) in news {
        places.insert(partition, added(topic, partition, marks)?);
    }
    Ok(Plan { places, is_news })
}

/// Returns the place where a partition begins that was added to a topic that is read.
pub(super) fn added(topic: &Topic, partition: i32, marks: Marks) -> Result<KafkaPosition, Failure> {
    if marks.start > 0 && !crate::mutant::on("kafka_new_start") {
        let start = marks.start;
        let what = format!(
            "partition {partition} is new, and the messages below offset {start} are deleted already"
        );
        return Err(lost(what, &place_of(&topic.name, partition)));
    }
    let log = Arc::clone(&topic.log);
    Ok(KafkaPosition { offset: marks.start, log, seen: None, until: None })
}

/// Checks what a message is that was found where the last one read was, or that nothing is there.
pub(super) fn recognise(
    topic: &Topic,
    partition: i32,
    place: &KafkaPosition,
    found: Option<Seen>,
) -> Result<(), Failure> {
    let Some(seen) = place.seen else { return Ok(()) };
    let same = match found {
        Some(found) if found.offset == seen.offset => found == seen,
        // Compaction takes a message away that a newer one of its key has replaced.
        _ => true,
    };
    if same || crate::mutant::on("kafka_rewritten_log") {
        return Ok(());
    }
    let offset = seen.offset;
    let what = format!("the log was rewritten: another message is at offset {offset} now");
    Err(lost(what, &place_of(&topic.name, partition)))
}

fn check(topic: &Topic, partition: i32, place: &KafkaPosition) -> Result<(), Failure> {
    if place.log.cluster != topic.log.cluster {
        let (theirs, ours) = (&place.log.cluster, &topic.log.cluster);
        let what = format!("FeedDiffers: the shard's rows are of cluster {theirs}, this is {ours}");
        return Err(Failure::Definite(
            Error::new(ErrorKind::FeedDiffers, what).at(&topic.name).hint(
                "correct the address; to replace the rows by this topic's, ingest --copy-anew",
            ),
        ));
    }
    if !place.log.may_be(&topic.log) && !crate::mutant::on("kafka_topic_by_name") {
        let what = "the topic was deleted and made anew under its name".to_string();
        return Err(lost(what, &place_of(&topic.name, partition)));
    }
    let Some(marks) = topic.partitions.get(&partition) else {
        let what = "the topic was deleted and made anew, with fewer partitions".to_string();
        return Err(lost(what, &place_of(&topic.name, partition)));
    };
    let (Marks { start, end }, offset) = (*marks, place.offset);
    if start > offset && !crate::mutant::on("kafka_start_ahead") {
        let what = format!(
            "the messages from offset {offset} to {start} were deleted before they were read"
        );
        return Err(lost(what, &place_of(&topic.name, partition)));
    }
    let needed = place.until.unwrap_or(offset).max(offset);
    if end < needed && !crate::mutant::on("kafka_end_behind") {
        let what = format!(
            "the log ends at offset {end}, and was read up to {needed}: the topic was made anew, or lost \
             messages when a broker failed"
        );
        return Err(lost(what, &place_of(&topic.name, partition)));
    }
    Ok(())
}

/// Returns the beginning of a copy anew of all there is now, or of as much as another writer has bound.
fn copy(topic: &Topic, bound: Option<&Cursor<KafkaPosition>>) -> Result<Plan, Failure> {
    let Some(bound) = bound else {
        let places = begin(topic, |_, marks| Some(marks.end));
        return Ok(Plan { places, is_news: true });
    };
    let mut ends = BTreeMap::new();
    for (name, end) in bound.partitions() {
        let partition = number(name)?;
        let marks = topic.partitions.get(&partition);
        if !end.log.may_be(&topic.log) || marks.is_none_or(|marks| marks.end < end.offset) {
            let what = "another writer has begun a copy of what the topic does not have any more";
            return Err(Failure::Definite(
                Error::new(ErrorKind::FeedDiffers, what)
                    .at(place_of(&topic.name, partition))
                    .hint("that writer can go on; else use a new shard"),
            ));
        }
        ends.insert(partition, end.offset);
    }
    let mut places = begin(topic, |partition, _| ends.get(&partition).copied());
    places.retain(|_, place| place.until.is_some());
    Ok(Plan { places, is_news: true })
}

fn begin(topic: &Topic, until: impl Fn(i32, Marks) -> Option<u64>) -> Places {
    let place = |(&partition, &marks): (&i32, &Marks)| {
        let until = until(partition, marks);
        // Of a copy that is bound, what lies past its end may have been deleted up to there.
        let offset = until.map_or(marks.start, |until| marks.start.min(until));
        let log = Arc::clone(&topic.log);
        (partition, KafkaPosition { offset, log, seen: None, until })
    };
    topic.partitions.iter().map(place).collect()
}

/// Returns the number of a partition of a cursor.
fn number(name: &Partition) -> Result<i32, Failure> {
    name.parse().map_err(|_| {
        let what =
            format!("FeedDiffers: the cursor has a partition {name:?}, which is not a topic's");
        Failure::Definite(
            Error::new(ErrorKind::FeedDiffers, what).hint("feed it as before, or another shard"),
        )
    })
}

/// Returns what a partition is called.
pub(super) fn place_of(topic: &str, partition: i32) -> String {
    format!("{topic}/{partition}")
}

/// Returns that a place is lost, why, and where.
pub(super) fn lost(what: String, place: &str) -> Failure {
    let hint = "see what became of the topic; --on-position-lost copy replaces the rows by what it has now";
    Failure::PositionLost(Error::new(ErrorKind::Missing, what).at(place).hint(hint))
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
