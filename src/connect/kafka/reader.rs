//! Owns one reading of a topic, on a thread that may block: from the places of a cursor on, message by
//! message, or as a copy up to fixed ends. It does not own what a message says ([`chunk`](super::chunk)), nor
//! whether a place is lost.
//!
//! A copy anew reads one partition after the other, each up to where its log ended when the copy began: so
//! every writer's copy has the same messages in the same order, and ends at the same places.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::Message;
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::BorrowedMessage;
use tokio::sync::mpsc::Sender;

use super::asked::Asked;
use super::behind::Behind;
use super::chunk::{Chunk, Slot, Spare};
use super::client::{self, Client};
use super::failure::{self, is_mended, transient};
use super::judge::{Marks, Plan, Topic, added, judge, lost, place_of};
use super::position::KafkaPosition;
use super::verify::{self, POLL, verify};
use crate::source::{Cursor, Failure, Partition, Received};

/// What the reading thread hands over. A failure is the last, and so is nothing: the end of the connection.
pub(super) type Handed = Result<Chunk, Failure>;

/// How often a topic is looked at before a place in it is given up, and how long between: the metadata of a
/// broker, and the end of a log whose leader is new, may be behind for a moment.
const LOOKS: (u32, Duration) = (3, Duration::from_millis(300));

/// One reading of a topic.
pub(super) struct Reading {
    asked: Arc<Asked>,
    client: Arc<Client>,
    sender: Sender<Handed>,
    topic: Topic,
    parts: BTreeMap<i32, Part>,
    chunk: Chunk,
    spare: Spare,
    behind: Behind,
    /// The partition that is copied now.
    copies: Option<i32>,
    /// The copy is complete: what comes next is read by another consumer, from where it ended.
    copied: bool,
}

/// A partition.
struct Part {
    name: Partition,
    place: KafkaPosition,
    slot: Slot,
}

/// What another thread finds while this one reads; dropped, it stops.
struct Looks {
    found: Arc<Mutex<Option<Result<Topic, Failure>>>>,
    /// How many in a row have failed.
    failed: u32,
    _stop: SyncSender<()>,
}

impl Reading {
    /// Connects: learns what the topic has, and that the cursor's places are in it. Blocks.
    pub(super) fn open(
        asked: Arc<Asked>,
        sender: Sender<Handed>,
        from: &Cursor<KafkaPosition>,
        behind: Behind,
    ) -> Result<Reading, Failure> {
        let goes_on = || !sender.is_closed();
        let (mut looks, (most, pause)) = (0, LOOKS);
        let (client, topic, plan) = loop {
            looks += 1;
            let client = client::make(&asked.address)?;
            let reached = asked.is_reached();
            let topic = client::look_and_listen(&client, &asked.address, reached, &goes_on)?;
            asked.reached();
            let planned = judge(from, &topic, asked.bound.as_ref());
            match planned.and_then(|plan| {
                verify(&asked.address, &topic, &plan.places, &goes_on)?;
                Ok(plan)
            }) {
                Ok(plan) => break (client, topic, plan),
                Err(Failure::PositionLost(_)) if looks < most && goes_on() => {
                    std::thread::sleep(pause);
                }
                Err(failure) => return Err(failure),
            }
        };
        let Plan { places, is_news } = plan;
        let part = |(number, place): (i32, KafkaPosition)| (number, Part::new(number, place));
        let parts: BTreeMap<i32, Part> = places.into_iter().map(part).collect();
        let (chunk, copies, copied) = (Chunk::default(), None, false);
        let spare = Spare::default();
        behind.looked(&topic.partitions);
        let mut reading =
            Reading { asked, client, sender, topic, parts, chunk, spare, behind, copies, copied };
        if is_news {
            // All at once: with a part of them, the others would seem to have been added later.
            reading.chunk.place(reading.all());
        }
        reading.begin()?;
        Ok(reading)
    }

    pub(super) fn client(&self) -> Arc<Client> {
        Arc::clone(&self.client)
    }

    pub(super) fn spare(&self) -> Spare {
        self.spare.clone()
    }

    /// Reads until it fails, or what it reads is not taken any more.
    pub(super) fn run(mut self) {
        let last = match self.read() {
            Ok(()) if self.copied => Ok(Chunk::default()),
            Ok(()) => return,
            Err(failure) => Err(failure),
        };
        // What came before it is good, and goes first. An error means that the other end is gone.
        if self.flush() {
            let _ = self.sender.blocking_send(last);
        }
    }

    fn read(&mut self) -> Result<(), Failure> {
        let mut looks = Looks::begin(&self.client, &self.asked);
        let client = Arc::clone(&self.client);
        while !self.sender.is_closed() && !self.copied {
            let wait = if self.chunk.is_empty() { POLL } else { Duration::ZERO };
            let polled = client.poll(wait);
            if client.context().has_changed() && !crate::mutant::on("kafka_changed_while_read") {
                // Before what was polled: it may be the new topic's.
                let what = "the topic was deleted and made anew under its name while it was read";
                return Err(lost(what.to_string(), &self.topic.name));
            }
            match polled {
                None if !self.flush() => return Ok(()),
                None => {}
                Some(Ok(message)) => self.message(&message)?,
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    self.end(partition, client.context().end())?;
                }
                Some(Err(error)) => self.trouble(&error)?,
            }
            if self.chunk.is_full() && !self.flush() {
                return Ok(());
            }
            if let Some(found) = looks.take()? {
                self.looked(&found)?;
            }
        }
        Ok(())
    }

    /// Begins to read where the places are: the next partition of a copy, or all. Of a copy that is complete
    /// nothing more is read here: a consumer is never told to go back, nor to stop before it is dropped.
    fn begin(&mut self) -> Result<(), Failure> {
        let copies = self.parts.values().any(|part| part.place.until.is_some());
        if !copies {
            let offsets = self.parts.iter().map(|(number, part)| (*number, part.place.offset));
            return verify::assign(&self.client, &self.topic.name, &offsets.collect());
        }
        let is_open = |part: &Part| part.place.until.is_some_and(|until| part.place.offset < until);
        self.copies = self.parts.iter().find(|(_, part)| is_open(part)).map(|(number, _)| *number);
        match self.copies.and_then(|number| Some((number, self.parts.get(&number)?.place.offset))) {
            Some((number, offset)) => {
                let offsets = BTreeMap::from([(number, offset)]);
                verify::assign(&self.client, &self.topic.name, &offsets)
            }
            None => {
                self.parts.values_mut().for_each(|part| part.place.until = None);
                self.chunk.place(self.all());
                self.copied = true;
                Ok(())
            }
        }
    }

    fn message(&mut self, message: &BorrowedMessage<'_>) -> Result<(), Failure> {
        let number = message.partition();
        let offset = verify::offset(message);
        let Some(part) = self.parts.get_mut(&number) else { return Ok(()) };
        if offset < part.place.offset || self.copied {
            return Ok(());
        }
        if let Some(until) = part.place.until
            && (offset >= until || self.copies != Some(number))
        {
            // Past the copy's end: it is read once all of the copy is there.
            return if self.copies == Some(number) { self.copied(number) } else { Ok(()) };
        }
        part.place = part.place.after(verify::seen(message));
        self.chunk.message(&mut part.slot, &part.name, &part.place, message);
        let done = part.place.until.is_some_and(|until| part.place.offset >= until);
        if done { self.copied(number) } else { Ok(()) }
    }

    /// A partition has no more for now: what lies between the last message and its end are control records,
    /// or messages that were taken back or replaced.
    fn end(&mut self, number: i32, end: Option<u64>) -> Result<(), Failure> {
        let Some(part) = self.parts.get_mut(&number) else { return Ok(()) };
        if let Some(until) = part.place.until {
            let done = self.copies == Some(number) && end.is_none_or(|end| end >= until);
            return if done { self.copied(number) } else { Ok(()) };
        }
        let Some(end) = end.filter(|end| *end > part.place.offset) else { return Ok(()) };
        if crate::mutant::on("kafka_control_records") {
            return Ok(());
        }
        part.place.offset = end;
        self.chunk.place(part.received());
        self.behind.reached(number, end, None);
        Ok(())
    }

    /// A partition's copy is complete: the next one is copied, or all are read on.
    fn copied(&mut self, number: i32) -> Result<(), Failure> {
        // What lies past its end is not wanted now. Should it come all the same, it is dropped.
        let ended = verify::list(&self.topic.name, &BTreeMap::from([(number, 0)]));
        let _ = ended.and_then(|list| self.client.pause(&list));
        if let Some(part) = self.parts.get_mut(&number)
            && let Some(until) = part.place.until
        {
            part.place.offset = until;
            self.chunk.place(part.received());
        }
        self.begin()
    }

    fn trouble(&self, error: &KafkaError) -> Result<(), Failure> {
        // Taken where it is used: what keeps a broker away is said before that all are away.
        let said = || self.client.context().trouble();
        let name = &self.topic.name;
        match error.rdkafka_error_code() {
            Some(code) if is_mended(code) => {
                tracing::info!(topic = name, ?code, "a broker is away, or not the leader any more");
                Ok(())
            }
            // Nothing is committed to a group that the address does not name.
            Some(Code::GroupAuthorizationFailed) if self.asked.group().is_none() => Ok(()),
            Some(Code::AutoOffsetReset | Code::OffsetOutOfRange | Code::LogTruncation) => {
                let text = said().map_or_else(|| error.to_string(), |(_, text)| text);
                let what = format!("a place is looked at again: {text}");
                Err(transient(what, name))
            }
            _ => Err(failure::of(error, said(), true, name)),
        }
    }

    /// Takes in what the topic has now: partitions that were added, and how far there is to go.
    fn looked(&mut self, found: &Topic) -> Result<(), Failure> {
        self.behind.looked(&found.partitions);
        let mut news = BTreeMap::new();
        let (mut position, mut length) = (0, 0);
        for (&number, &marks) in &found.partitions {
            let Marks { end, .. } = marks;
            match self.parts.get(&number) {
                Some(part) if end < part.place.offset => {
                    let what = format!("its log ends at offset {end}, and was read further");
                    return Err(transient(what, &place_of(&found.name, number)));
                }
                Some(part) => (position, length) = (position + part.place.offset, length + end),
                None if self.copies.is_some()
                    || self.copied
                    || crate::mutant::on("kafka_partitions_of_start") => {}
                None => {
                    let topic = Topic { log: Arc::clone(&self.topic.log), ..found.clone() };
                    let place = added(&topic, number, marks)?;
                    news.insert(number, place.offset);
                    let part = Part::new(number, place);
                    self.chunk.place(part.received());
                    self.parts.insert(number, part);
                }
            }
        }
        self.asked.stats.set_position(position, Some(length));
        if news.is_empty() {
            return Ok(());
        }
        verify::assign(&self.client, &self.topic.name, &news)
    }

    fn all(&self) -> Received<KafkaPosition> {
        let places = self.parts.values();
        Received::all(places.map(|part| (Partition::clone(&part.name), part.place.clone())))
    }

    /// Hands the chunk over. Returns false if it is not taken any more.
    fn flush(&mut self) -> bool {
        if self.chunk.is_empty() {
            return true;
        }
        if let Some(part) = self.copies.and_then(|number| self.parts.get(&number)) {
            // A copy is one unit, so its places are only to go on from.
            self.chunk.place(part.received());
        }
        self.parts.values_mut().for_each(|part| part.slot = Slot::default());
        let next = self.spare.take();
        self.sender.blocking_send(Ok(std::mem::replace(&mut self.chunk, next))).is_ok()
    }
}

impl Part {
    fn new(number: i32, place: KafkaPosition) -> Part {
        Part { name: Partition::from(number.to_string()), place, slot: Slot::default() }
    }

    fn received(&self) -> Received<KafkaPosition> {
        Received::at(Partition::clone(&self.name), self.place.clone())
    }
}

impl Looks {
    fn begin(client: &Arc<Client>, asked: &Arc<Asked>) -> Looks {
        let (stop, stopped) = sync_channel(1);
        let found = Arc::new(Mutex::new(None));
        let (client, asked, into) = (Arc::clone(client), Arc::clone(asked), Arc::clone(&found));
        // It ends with the reading, or soon after: it is not waited for.
        drop(tokio::task::spawn_blocking(move || watch(&client, &asked, &into, &stopped)));
        Looks { found, failed: 0, _stop: stop }
    }

    /// Returns what was found since.
    fn take(&mut self) -> Result<Option<Topic>, Failure> {
        match self.found.lock().take() {
            None => Ok(None),
            Some(Ok(found)) => {
                self.failed = 0;
                Ok(Some(found))
            }
            // A leader is being elected, or a broker is slow.
            Some(Err(_)) if self.failed == 0 => {
                self.failed = 1;
                Ok(None)
            }
            Some(Err(failure)) => Err(failure),
        }
    }
}

/// Looks at the topic again and again.
fn watch(
    client: &Client,
    asked: &Asked,
    into: &Mutex<Option<Result<Topic, Failure>>>,
    stop: &Receiver<()>,
) {
    let goes_on = || !matches!(stop.try_recv(), Err(std::sync::mpsc::TryRecvError::Disconnected));
    while stop.recv_timeout(asked.look_every) == Err(RecvTimeoutError::Timeout) {
        let found = client::look(client, &asked.address, true, &goes_on);
        *into.lock() = Some(found);
    }
}
