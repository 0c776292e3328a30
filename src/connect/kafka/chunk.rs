//! Owns what goes from the thread that polls to the pipeline: messages as they were polled, many at a time, one
//! after the other in one buffer; and what they are there, changes and places. So the thread that polls only
//! copies, and what is shared is counted, and what is allocated freed, by one thread: both cost more than to read a
//! message. It does not own which messages are handed over ([`reader`](super::reader)), nor what one says
//! ([`rows`](super::rows)).

use std::sync::Arc;

use parking_lot::Mutex;
use rdkafka::Message;
use rdkafka::message::BorrowedMessage;

use super::asked::Asked;
use super::behind::Behind;
use super::judge::place_of;
use super::position::{KafkaPosition, Log, Seen};
use super::rows::{Bad, Rows, Says};
use crate::codec::{DataError, Json};
use crate::connect::on_error::OnError;
use crate::error::{Error, ErrorKind};
use crate::source::{Change, Event, Failure, Partition, Received};

pub(super) type TopicEvent = Event<Json, Json, KafkaPosition>;

/// A chunk is handed over when it has this many messages or bytes, and when no more has come.
const MESSAGES_MAX: usize = 1024;
const BYTES_MAX: usize = 1 << 20;

/// Messages and places, in order.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    bytes: Vec<u8>,
    items: Vec<Item>,
    parts: Vec<Part>,
}

/// What the messages of a partition have in common.
#[derive(Debug)]
struct Part {
    number: i32,
    name: Partition,
    log: Arc<Log>,
    /// When the oldest of them was made.
    made_ms: Option<u64>,
    /// The offset after the last.
    reached: u64,
}

#[derive(Debug)]
enum Item {
    /// Its key and value follow those before it in `bytes`.
    Message {
        slot: usize,
        key: Option<usize>,
        value: Option<usize>,
        seen: Seen,
        ends: bool,
    },
    Place(Received<KafkaPosition>),
}

/// Where the messages of a partition are in a chunk; forgotten with the chunk.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Slot(Option<usize>);

/// Chunks that were read, for the thread that polls to fill again: to make room anew, there and freed here, costs as
/// much as to fill it. At most as many as are on their way at a time.
#[derive(Clone, Debug, Default)]
pub(super) struct Spare(Arc<Mutex<Vec<Chunk>>>);

impl Spare {
    pub(super) fn take(&self) -> Chunk {
        self.0.lock().pop().unwrap_or_default()
    }

    fn give(&self, mut chunk: Chunk) {
        if chunk.bytes.capacity() <= 2 * BYTES_MAX {
            chunk.bytes.clear();
            chunk.items.clear();
            chunk.parts.clear();
            self.0.lock().push(chunk);
        }
    }
}

impl Chunk {
    /// Adds a message that comes to this place. It is a unit, but for one of a copy.
    pub(super) fn message(
        &mut self,
        slot: &mut Slot,
        name: &Partition,
        place: &KafkaPosition,
        message: &BorrowedMessage<'_>,
    ) {
        let Some(seen) = place.seen else { return };
        let slot = *slot.0.get_or_insert_with(|| {
            let (number, name, log) =
                (message.partition(), Partition::clone(name), Arc::clone(&place.log));
            self.parts.push(Part { number, name, log, made_ms: None, reached: 0 });
            self.parts.len() - 1
        });
        let part = &mut self.parts[slot];
        part.reached = place.offset;
        let made_ms = u64::try_from(seen.timestamp).ok().filter(|ms| *ms > 0);
        part.made_ms = [part.made_ms, made_ms].into_iter().flatten().min();
        let (key, value, ends) = (message.key(), message.payload(), place.until.is_none());
        for bytes in [key, value].into_iter().flatten() {
            self.bytes.extend_from_slice(bytes);
        }
        let (key, value) = (key.map(<[u8]>::len), value.map(<[u8]>::len));
        self.items.push(Item::Message { slot, key, value, seen, ends });
    }

    /// Adds a place without a message.
    pub(super) fn place(&mut self, received: Received<KafkaPosition>) {
        self.items.push(Item::Place(received));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.items.len() >= MESSAGES_MAX || self.bytes.len() >= BYTES_MAX
    }

    /// Returns what it comes to, up to the first message that may not be kept as an error, and that error.
    pub(super) fn events(
        mut self,
        rows: &mut Rows,
        asked: &Asked,
        behind: &Behind,
        spare: &Spare,
    ) -> (Vec<TopicEvent>, Option<Failure>) {
        for part in &self.parts {
            behind.reached(part.number, part.reached, part.made_ms);
        }
        let mut events = Vec::with_capacity(2 * self.items.len());
        let (mut rest, mut read) = (&self.bytes[..], 0);
        for item in self.items.drain(..) {
            let (slot, key, value, seen, ends) = match item {
                Item::Message { slot, key, value, seen, ends } => (slot, key, value, seen, ends),
                Item::Place(received) => {
                    events.push(Event::Boundary(received));
                    continue;
                }
            };
            let Part { number, name, log, .. } = &self.parts[slot];
            let (key, value) = (next(&mut rest, key), next(&mut rest, value));
            let change = match rows.read(key, value) {
                Says::Change(change) => Some(change),
                Says::Nothing => None,
                Says::Bad(bad) if asked.on_error == OnError::Keep => {
                    Some(kept(bad, *number, seen.offset))
                }
                Says::Bad(bad) => {
                    let topic = &asked.address.topic;
                    let place = format!("{}, offset {}", place_of(topic, *number), seen.offset);
                    let error = Error::new(ErrorKind::Invalid, bad.what).at(place).hint(bad.hint);
                    asked.stats.add_rows_read(read);
                    return (events, Some(Failure::Definite(error)));
                }
            };
            match change {
                Some(change) => {
                    read += 1;
                    events.push(Event::Change(Partition::clone(name), change));
                }
                None => asked.stats.add_message(asked.stats.messages() + 1),
            }
            if ends {
                let place = KafkaPosition::past(seen, Arc::clone(log));
                events.push(Event::Boundary(Received::at(Partition::clone(name), place)));
            }
        }
        asked.stats.add_rows_read(read);
        spare.give(self);
        (events, None)
    }
}

/// Takes the next bytes.
fn next<'a>(rest: &mut &'a [u8], length: Option<usize>) -> Option<&'a [u8]> {
    let (bytes, behind) = rest.split_at_checked(length?)?;
    *rest = behind;
    Some(bytes)
}

/// Returns the error value that a bad message is kept as. Without the topic's name: every replica must store
/// the same bytes, whatever it calls the topic.
fn kept(bad: Bad, partition: i32, offset: u64) -> Change<Json, Json> {
    let what = format!("{} in partition {partition} at offset {offset}", bad.what);
    Change::Put(bad.key, Err(DataError(what)))
}
