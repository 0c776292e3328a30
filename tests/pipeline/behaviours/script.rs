//! Owns the scripted source: what a feed says, word by word, at each connect, in the notation of the
//! behaviours. It does not own what must come of it.
//!
//! ```text
//!   B C        begin, commit                 R1 R1=7   row: key 1 has value 1, value 7
//!   V(3)       position: three transactions  D1 X1 T   key 1 deleted; unreadable; all deleted
//!   V(3,2)     in a copy, up to key 2        a:R1      in partition a
//!   V{1,3}     position as a set             ALL(a=3,b=1)  all partitions there are, and where
//!   |          border of a response          HB F VERSION  say nothing
//!   OTHER DDL  a position without rows       CC        the copy is complete
//!   !x         failure: unavailable cancelled deadline lost definite
//!   $          end of the stream             E         end of the feed
//!   ^!x ^hang  the connect fails or hangs    hang w(50)  silence for ever, for 50 ms
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use differential_upsert::source::{
    Ack, Boundary, Change, Durable, Event, Events, Failure, Partition, Position, Received, Source,
};
use differential_upsert::{DataError, Error, ErrorKind};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::random::Random;

/// A place as Vitess has it: a set of transactions of one history, and the last key of a copy that is
/// under way. Sets are ordered by inclusion alone, and two ways to the same set differ in between.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct At {
    pub history: u8,
    pub seen: BTreeSet<u32>,
    pub copied: Option<u64>,
}

impl Position for At {
    fn contains(&self, other: &At) -> Option<bool> {
        let copy = match (self.copied, other.copied) {
            (None, _) => true,
            (Some(ours), Some(theirs)) => ours >= theirs,
            (Some(_), None) => false,
        };
        (self.history == other.history).then(|| copy && self.seen.is_superset(&other.seen))
    }

    fn is_snapshot(&self) -> bool {
        self.copied.is_some()
    }

    fn encode(&self, into: &mut Vec<u8>) {
        into.push(1);
        into.extend(postcard::to_stdvec(self).unwrap());
    }

    fn decode(bytes: &[u8]) -> Result<At, Error> {
        let at = bytes.strip_prefix(&[1]).and_then(|bytes| postcard::from_bytes(bytes).ok());
        at.ok_or_else(|| Error::new(ErrorKind::Corrupt, "no position"))
    }
}

/// The first `count` transactions.
pub fn at(count: u32) -> At {
    At { history: 0, seen: (1..=count).collect(), copied: None }
}

/// The same, with a copy that has come to a key.
pub fn copied(count: u32, key: u64) -> At {
    At { copied: Some(key), ..at(count) }
}

/// One word of a script.
#[derive(Clone, Debug)]
pub enum Step {
    Begin(Partition),
    Commit(Partition),
    Row(Partition, Change<u64, u64>),
    Position(Partition, At),
    /// A position without a transaction around it counts.
    Flush(Partition),
    /// The copy is complete: a position without a key counts.
    Copied(Partition),
    All(Vec<(Partition, At)>),
    Nothing,
    Border,
    Fail(String),
    Close,
    Hang,
    Wait(u64),
    End,
    FailConnect(String),
    HangConnect,
}

/// Reads a script.
pub fn parse(script: &str) -> Vec<Step> {
    script.split_whitespace().map(word).collect()
}

fn word(word: &str) -> Step {
    if let Some(all) = inside(word, "ALL(", ')') {
        let place = |text: &str| {
            let (name, count) = text.split_once('=').unwrap();
            (Partition::from(name), at(count.parse().unwrap()))
        };
        return Step::All(all.split(',').map(place).collect());
    }
    let (partition, word) = word.split_once(':').unwrap_or(("", word));
    let partition = Partition::from(partition);
    match word {
        "B" => Step::Begin(partition),
        "C" => Step::Commit(partition),
        "T" => Step::Row(partition, Change::Reset),
        "OTHER" | "DDL" => Step::Flush(partition),
        "CC" => Step::Copied(partition),
        "HB" | "F" | "VERSION" => Step::Nothing,
        "|" => Step::Border,
        "$" => Step::Close,
        "E" => Step::End,
        "hang" => Step::Hang,
        "^hang" => Step::HangConnect,
        _ => longer(partition, word),
    }
}

fn longer(partition: Partition, word: &str) -> Step {
    if let Some(set) = inside(word, "V{", '}') {
        let seen = set.split(',').map(|number| number.parse().unwrap()).collect();
        return Step::Position(partition, At { history: 0, seen, copied: None });
    }
    if let Some(place) = inside(word, "V(", ')') {
        let place = match place.split_once(',') {
            Some((count, key)) => copied(count.parse().unwrap(), key.parse().unwrap()),
            None => at(place.parse().unwrap()),
        };
        return Step::Position(partition, place);
    }
    if let Some(millis) = inside(word, "w(", ')') {
        return Step::Wait(millis.parse().unwrap());
    }
    let (kind, rest) = word.split_at(1);
    match kind {
        "!" => Step::Fail(rest.to_string()),
        "^" => Step::FailConnect(rest.strip_prefix('!').unwrap().to_string()),
        _ => {
            let (key, value) = rest.split_once('=').unwrap_or((rest, rest));
            let (key, value) = (key.parse().unwrap(), value.parse().unwrap());
            let change = match kind {
                "R" => Change::Put(key, Ok(value)),
                "D" => Change::Delete(key),
                "X" => Change::Put(key, Err(DataError("unreadable".into()))),
                _ => panic!("no word of a script: {word}"),
            };
            Step::Row(partition, change)
        }
    }
}

fn inside<'a>(word: &'a str, open: &str, close: char) -> Option<&'a str> {
    word.strip_prefix(open)?.strip_suffix(close)
}

/// Cuts a script into responses anew, at random.
pub fn rechunk(steps: &[Step], random: &Random) -> Vec<Step> {
    let mut cut = Vec::new();
    let often = 1 + random.below(4);
    for step in steps.iter().filter(|step| !matches!(step, Step::Border)) {
        cut.push(step.clone());
        if random.below(often) == 0 {
            cut.push(Step::Border);
        }
    }
    cut
}

/// Returns the failure that a word names.
pub fn failure(name: &str) -> Failure {
    let unavailable = |what: &str| Error::new(ErrorKind::Unavailable, what).at("the script");
    match name {
        "lost" => Failure::PositionLost(unavailable("the log is purged")),
        "definite" => Failure::Definite(Error::new(ErrorKind::Invalid, "no such table")),
        // Whoever says it: the text is as our own cancel would have it.
        "cancelled" => Failure::Transient(unavailable("cancelled: context canceled")),
        "deadline" => Failure::Transient(unavailable("deadline exceeded")),
        "unavailable" => Failure::Transient(unavailable("unavailable")),
        _ => panic!("no failure: {name}"),
    }
}

/// What a source was asked, and when.
#[derive(Clone, Debug, Default)]
pub struct Asked(Arc<Mutex<Vec<(Instant, Call)>>>);

#[derive(Clone, Debug)]
pub enum Call {
    Connect(Boundary<At>),
    Next,
    Current,
    Ack(Durable<At>),
}

impl Asked {
    pub fn add(&self, call: Call) {
        self.0.lock().unwrap().push((Instant::now(), call));
    }

    /// How often it was asked anything.
    pub fn calls(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// Where it was connected.
    pub fn connects(&self) -> Vec<Boundary<At>> {
        self.times().into_iter().map(|(_, from)| from).collect()
    }

    /// When it was connected, and where.
    pub fn times(&self) -> Vec<(Instant, Boundary<At>)> {
        let calls = self.0.lock().unwrap();
        let connect = |(when, call): &(Instant, Call)| match call {
            Call::Connect(from) => Some((*when, from.clone())),
            _ => None,
        };
        calls.iter().filter_map(connect).collect()
    }

    /// What it was told is durable.
    pub fn acks(&self) -> Vec<Durable<At>> {
        let calls = self.0.lock().unwrap();
        let ack = |(_, call): &(Instant, Call)| match call {
            Call::Ack(durable) => Some(durable.clone()),
            _ => None,
        };
        calls.iter().filter_map(ack).collect()
    }
}

/// A source that follows a script for each connect, and the rules for transactions and copies.
#[derive(Debug)]
pub struct Scripted {
    attempts: VecDeque<Vec<Step>>,
    now: VecDeque<Step>,
    /// What is read of the current response.
    events: Vec<Event<u64, u64, At>>,
    parts: BTreeMap<Partition, Part>,
    /// A partition without a place is copied first.
    copies: bool,
    names: Vec<Partition>,
    /// Answers about where the feed is now.
    current: VecDeque<Result<At, String>>,
    wakes: Option<Instant>,
    from: Option<Boundary<At>>,
    asked: Asked,
}

#[derive(Debug, Default)]
struct Part {
    begun: bool,
    copying: bool,
    position: Option<At>,
}

impl Scripted {
    /// A source with a script for each connect. Beyond them there is a definite failure.
    pub fn new(scripts: &[&str]) -> Scripted {
        Scripted::of(scripts.iter().map(|script| parse(script)).collect())
    }

    pub fn of(attempts: Vec<Vec<Step>>) -> Scripted {
        Scripted {
            attempts: attempts.into(),
            now: VecDeque::new(),
            events: Vec::new(),
            parts: BTreeMap::new(),
            copies: false,
            names: vec![Partition::from("")],
            current: VecDeque::new(),
            wakes: None,
            from: None,
            asked: Asked::default(),
        }
    }

    /// A feed that is copied first.
    pub fn copied(mut self) -> Scripted {
        self.copies = true;
        self
    }

    pub fn partitions(mut self, names: &[&str]) -> Scripted {
        self.names = names.iter().map(|name| Partition::from(*name)).collect();
        self
    }

    /// Adds an answer to where the feed is now; "hang" is none.
    pub fn current(mut self, answer: Result<At, &str>) -> Scripted {
        self.current.push_back(answer.map_err(str::to_string));
        self
    }

    pub fn asked(&self) -> Asked {
        self.asked.clone()
    }

    fn part(&mut self, name: &Partition) -> &mut Part {
        let (copies, from) = (self.copies, &self.from);
        self.parts.entry(Arc::clone(name)).or_insert_with(|| {
            let at = from.as_ref().and_then(|from| from.get(name));
            Part { copying: copies && at.is_none_or(At::is_snapshot), ..Part::default() }
        })
    }

    /// What one word says.
    fn say(&mut self, step: Step) -> Option<Event<u64, u64, At>> {
        match step {
            Step::Row(name, change) => Some(Event::Change(name, change)),
            Step::Begin(name) => {
                let part = self.part(&name);
                part.position = None;
                // One that was begun before and not committed begins again.
                std::mem::replace(&mut part.begun, true).then_some(Event::Void(name))
            }
            Step::Position(name, at) => {
                self.part(&name).position = Some(at);
                None
            }
            Step::Commit(name) => {
                let part = self.part(&name);
                part.begun = false;
                // In a copy, a place without a key may come before any row.
                let keeps = part.copying && part.position.as_ref()?.copied.is_none();
                let at = if keeps { None } else { part.position.take() };
                at.map(|at| Event::Boundary(Received::at(name, at)))
            }
            Step::Flush(name) => {
                let at = self.part(&name).position.take()?;
                Some(Event::Boundary(Received::at(name, at)))
            }
            Step::Copied(name) => {
                let part = self.part(&name);
                part.copying = false;
                let at = part.position.take()?;
                Some(Event::Boundary(Received::at(name, at)))
            }
            Step::All(places) => Some(Event::Boundary(Received::all(places))),
            Step::End => Some(Event::End),
            _ => None,
        }
    }
}

impl Source for Scripted {
    type Key = u64;
    type Value = u64;
    type Position = At;

    fn identity(&self) -> String {
        "script".to_string()
    }

    fn partitions(&self) -> Vec<Partition> {
        self.names.clone()
    }

    async fn connect(&mut self, from: &Boundary<At>) -> Result<(), Failure> {
        self.asked.add(Call::Connect(from.clone()));
        self.from = Some(from.clone());
        self.parts.clear();
        self.events.clear();
        self.wakes = None;
        let Some(script) = self.attempts.pop_front() else {
            let error = Error::new(ErrorKind::Invalid, "the script is over");
            return Err(Failure::Definite(error));
        };
        self.now = script.into();
        match self.now.front() {
            Some(Step::FailConnect(name)) => Err(failure(name)),
            Some(Step::HangConnect) => pending().await,
            _ => Ok(()),
        }
    }

    async fn next(&mut self) -> Result<Option<Events<Self>>, Failure> {
        self.asked.add(Call::Next);
        loop {
            let read = !self.events.is_empty();
            match self.now.front().cloned() {
                Some(Step::Border | Step::Fail(_) | Step::Close | Step::Hang | Step::Wait(_))
                | None
                    if read =>
                {
                    return Ok(Some(std::mem::take(&mut self.events)));
                }
                Some(Step::Fail(name)) => return Err(failure(&name)),
                Some(Step::Close) | None => return Ok(None),
                Some(Step::Hang) => pending().await,
                Some(Step::Wait(millis)) => {
                    let wakes = Instant::now() + Duration::from_millis(millis);
                    tokio::time::sleep_until(*self.wakes.get_or_insert(wakes)).await;
                    self.wakes = None;
                    self.now.pop_front();
                }
                Some(step) => {
                    self.now.pop_front();
                    let said = self.say(step);
                    self.events.extend(said);
                }
            }
        }
    }

    async fn current(&mut self) -> Result<Vec<(Partition, At)>, Failure> {
        self.asked.add(Call::Current);
        match self.current.pop_front() {
            Some(Ok(at)) => Ok(vec![(Partition::from(""), at)]),
            Some(Err(name)) if name == "hang" => pending().await,
            Some(Err(name)) => Err(failure(&name)),
            None => Err(failure("definite")),
        }
    }

    fn ack(&mut self, durable: &Durable<At>) -> Ack {
        self.asked.add(Call::Ack(durable.clone()));
        Box::pin(std::future::ready(Ok(())))
    }
}
