//! Owns the scripted source: it reads the run's log as a connector does, in pieces of any size, and
//! fails in every way that one may. It checks where it is connected.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use differential_upsert::source::{
    Ack, Boundary, Change, Durable, Event, Events, Failure, Partition, Received, Source,
};
use differential_upsert::{Error, ErrorKind};

use crate::random::Random;
use crate::sources::place::{Kind, Place, Reached};
use crate::sources::upstream::{Asked, Life, New, Row, Shared, Upstream, collection};

/// A value that no unit has: of rows that are void.
const VOID: u64 = 120;

/// Another writer's copy ends in a log that there is not any more.
pub const ELSEWHERE: &str = "another writer has begun a copy of what is gone";

/// What is on its way.
enum Item {
    Row(usize, Row),
    Void(usize),
    Boundary(Vec<(usize, Place)>, bool),
    /// The stream of a partition breaks.
    Fail(usize),
}

/// A connection.
struct Connection {
    edition: u64,
    /// Where each partition is once everything queued is handed over.
    places: Vec<Option<Place>>,
    /// What is copied is as of so many units.
    copy_of: Vec<Option<u64>>,
    queue: VecDeque<Item>,
    /// The most that is handed over at a time.
    piece: usize,
}

pub struct Scripted {
    upstream: Shared,
    random: Random,
    life: usize,
    names: Vec<Partition>,
    connection: Option<Connection>,
    hangs: bool,
    /// The partition whose stream broke.
    broken: Option<usize>,
    /// Where another writer's copy made anew ends.
    bound: Option<Reached>,
}

impl Scripted {
    /// Begins a life.
    pub fn new(upstream: &Shared, random: &Random) -> Scripted {
        let mut shared = upstream.lock().unwrap();
        shared.lives.push(Life::default());
        Scripted {
            upstream: Arc::clone(upstream),
            random: random.clone(),
            life: shared.lives.len() - 1,
            names: shared.names.clone(),
            connection: None,
            hangs: false,
            broken: None,
            bound: None,
        }
    }

    pub fn life(&self) -> usize {
        self.life
    }

    /// Decides whether this request fails.
    fn fails(&mut self, upstream: &mut Upstream) -> Result<(), Failure> {
        if upstream.away {
            return Err(Failure::Transient(broken("nobody answers")));
        }
        let one_in = upstream.fails_one_in;
        if one_in == 0 || upstream.is_calm() || !self.random.one_in(one_in) {
            return Ok(());
        }
        match self.random.below(24) {
            0 => {
                upstream.lives[self.life].failed = true;
                Err(Failure::Definite(Error::new(ErrorKind::Invalid, "no such table")))
            }
            1..5 => {
                self.hangs = true;
                Ok(())
            }
            _ => Err(Failure::Transient(broken("cancelled, says the other side"))),
        }
    }

    /// Hands over what comes next; `None` if there is nothing yet.
    fn step(&mut self, upstream: &mut Upstream) -> Option<Result<Option<Events<Self>>, Failure>> {
        if !self.hangs
            && let Err(failure) = self.fails(upstream)
        {
            return Some(Err(failure));
        }
        if self.hangs {
            // Until our own deadline, or nothing goes wrong any more.
            return upstream.is_calm().then(|| Err(Failure::Transient(broken("a silent peer"))));
        }
        let connection = self.connection.as_mut()?;
        if connection.edition != upstream.edition() {
            upstream.lives[self.life].lost = true;
            return Some(Err(lost()));
        }
        let closes = upstream.fails_one_in > 0 && !upstream.is_calm();
        if closes && self.random.one_in(upstream.fails_one_in * 4) {
            return Some(Ok(None));
        }
        if connection.queue.is_empty() {
            match connection.fill(upstream, &self.random) {
                Ok(true) => {}
                Ok(false) if upstream.ended => {
                    upstream.lives[self.life].ended = true;
                    return Some(Ok(Some(vec![Event::End])));
                }
                Ok(false) => return None,
                Err(failure) => {
                    upstream.lives[self.life].lost = true;
                    return Some(Err(failure));
                }
            }
        }
        if let Some(Item::Fail(partition)) = connection.queue.front() {
            self.broken = Some(*partition);
            return Some(Err(Failure::Transient(broken("the stream of a partition breaks"))));
        }
        let whole = connection.queue.iter().take_while(|item| !matches!(item, Item::Fail(_)));
        let count = (1 + self.random.index(connection.piece)).min(whole.count());
        let life = &mut upstream.lives[self.life];
        let (said, open) = (life.said.get_or_insert_default(), &mut life.open);
        let mut events = Vec::new();
        for item in connection.queue.drain(..count) {
            match &item {
                Item::Row(partition, _) => *open.entry(*partition).or_default() += 1,
                Item::Void(partition) => drop(open.remove(partition)),
                Item::Boundary(_, true) => open.clear(),
                Item::Boundary(moves, _) => open.retain(|p, _| moves.iter().all(|(m, _)| m != p)),
                Item::Fail(_) => {}
            }
            let name = |partition: usize| Partition::clone(&self.names[partition]);
            events.push(match item {
                Item::Row(partition, (key, new)) => Event::Change(
                    name(partition),
                    match new {
                        New::Gone => Change::Delete(key),
                        New::Value(value) => Change::Put(key, Ok(value)),
                        New::More(by) => Change::Patch(key, by),
                        New::AllGone => Change::ResetOf(collection(&key).to_string()),
                    },
                ),
                Item::Void(partition) => Event::Void(name(partition)),
                Item::Fail(_) => continue,
                Item::Boundary(moves, all) => {
                    let moved = |(partition, place): &(usize, Place)| (name(*partition), *place);
                    for (name, place) in moves.iter().map(moved) {
                        said.places.insert(name.to_string(), place);
                    }
                    let (first, place) = moved(&moves[0]);
                    Event::Boundary(match all {
                        true => Received::all(moves.iter().map(moved)),
                        false => Received::at(first, place),
                    })
                }
            });
        }
        Some(Ok(Some(events)))
    }
}

impl Source for Scripted {
    type Key = u64;
    type Value = u64;
    type Position = Place;

    fn identity(&self) -> String {
        "feed".into()
    }

    fn partitions(&self) -> Vec<Partition> {
        self.names.clone()
    }

    async fn connect(&mut self, from: &Boundary<Place>) -> Result<(), Failure> {
        (self.connection, self.hangs, self.broken) = (None, false, None);
        {
            let life = &mut self.upstream.lock().unwrap().lives[self.life];
            life.open.clear();
            life.connects += 1;
        }
        let slow = self.random.one_in(3);
        self.check_connect(&Reached::of(from.cursor()));
        if slow {
            tokio::time::sleep(Duration::from_millis(self.random.below(40))).await;
        }
        let shared = Arc::clone(&self.upstream);
        let mut upstream = shared.lock().unwrap();
        self.fails(&mut upstream)?;
        let places: Vec<_> = self.names.iter().map(|name| from.get(name).copied()).collect();
        let edition = upstream.edition();
        let gone = |place: Place, purged: u64| place.edition != edition || place.units < purged;
        let mut all = places.iter().zip(&upstream.purged);
        if all.any(|(place, purged)| place.is_some_and(|place| gone(place, *purged))) {
            upstream.lives[self.life].lost = true;
            return Err(lost());
        }
        let piece = self.random.pick(&[1, 2, 6, 40]);
        let (copy_of, queue) = (vec![None; places.len()], VecDeque::new());
        let mut connection = Connection { edition, places, copy_of, queue, piece };
        if from.is_start() && from.generation() > 0 && upstream.copies_as_told {
            let ends = self.ends_of_copy(from.generation(), &upstream)?;
            connection.begin_copy(&ends, &upstream);
        }
        self.connection = Some(connection);
        Ok(())
    }

    fn copy_until(&mut self, bound: Option<&Boundary<Place>>) -> bool {
        self.bound = bound.map(|bound| Reached::of(bound.cursor()));
        self.upstream.lock().unwrap().copies_as_told
    }

    async fn next(&mut self) -> Result<Option<Events<Self>>, Failure> {
        let shared = Arc::clone(&self.upstream);
        let grown = Arc::clone(&shared.lock().unwrap().grown);
        loop {
            // Before the look, so that no growth falls between the two.
            let grown = grown.notified();
            let answer = self.step(&mut shared.lock().unwrap());
            if let Some(answer) = answer {
                if !matches!(answer, Ok(Some(_))) {
                    shared.lock().unwrap().lives[self.life].open.clear();
                }
                return answer;
            }
            grown.await;
        }
    }

    /// Of two lives one can tell.
    fn failed_partition(&self) -> Option<Partition> {
        let tells = self.life.is_multiple_of(2);
        self.broken.filter(|_| tells).map(|partition| Partition::clone(&self.names[partition]))
    }

    async fn current(&mut self) -> Result<Vec<(Partition, Place)>, Failure> {
        let shared = Arc::clone(&self.upstream);
        let mut upstream = shared.lock().unwrap();
        self.hangs = false;
        self.fails(&mut upstream)?;
        let visible = upstream.visible.clone();
        let edition = upstream.edition();
        upstream.lives[self.life].goal = Some((edition, visible.clone()));
        // Never the same as any that is shown later.
        upstream.others += 1;
        let places = visible.into_iter().map(|units| upstream.place(units, None));
        let places = self.names.iter().cloned().zip(places).collect();
        upstream.others += 1;
        Ok(places)
    }

    fn ack(&mut self, durable: &Durable<Place>) -> Ack {
        let (shared, random) = (Arc::clone(&self.upstream), self.random.clone());
        let mut upstream = shared.lock().unwrap();
        let durable = Reached::of(durable.cursor());
        let said = upstream.lives[self.life].said.clone().unwrap_or_default();
        if said.copies() || said.generation != durable.generation {
            upstream.wrong.push(format!("{durable:?} is acked while a copy is made: {said:?}"));
        }
        upstream.asked.push((self.life, Asked::Acked(durable)));
        let fails = upstream.fails_one_in > 0 && !upstream.is_calm() && random.one_in(4);
        let slow = random.below(3);
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(slow)).await;
            if fails { Err(Failure::Transient(broken("no answer to an ack"))) } else { Ok(()) }
        })
    }
}

/// What it has said of units without an end is with nobody once it is gone: a pipeline that fails drops its source
/// before it says so.
impl Drop for Scripted {
    fn drop(&mut self) {
        if let Ok(mut upstream) = self.upstream.lock() {
            upstream.lives[self.life].open.clear();
        }
    }
}

impl Scripted {
    /// A life is connected again exactly where its last boundary was, or at the start of a new copy.
    fn check_connect(&self, from: &Reached) {
        let mut upstream = self.upstream.lock().unwrap();
        let life = &mut upstream.lives[self.life];
        let Some(said) = life.said.clone() else {
            life.said = Some(from.clone());
            return upstream.asked.push((self.life, Asked::From(from.clone())));
        };
        let anew = life.lost && from.places.is_empty() && from.generation >= said.generation;
        if !anew && *from != said {
            let wrong = format!("life {} is connected at {from:?}, was at {said:?}", self.life);
            upstream.wrong.push(wrong);
            return;
        }
        (life.said, life.lost) = (Some(from.clone()), false);
    }
}

impl Scripted {
    /// Where a copy made anew ends in each partition: where another writer's does, or where the log does now.
    fn ends_of_copy(&self, generation: u64, upstream: &Upstream) -> Result<Vec<u64>, Failure> {
        let bound = self.bound.as_ref().filter(|bound| bound.generation == generation);
        let Some(bound) = bound else { return Ok(upstream.visible.clone()) };
        let end = |name: &Partition| {
            let place = bound.places.get(&**name);
            let place = place.filter(|place| place.edition == upstream.edition());
            place.map(|place| place.units)
        };
        let ends: Option<Vec<u64>> = self.names.iter().map(end).collect();
        let elsewhere = || Error::new(ErrorKind::FeedDiffers, ELSEWHERE);
        ends.ok_or_else(|| Failure::Definite(elsewhere()))
    }
}

impl Connection {
    /// Begins a copy of the log up to these ends.
    fn begin_copy(&mut self, ends: &[u64], upstream: &Upstream) {
        let place = |until: &u64| Place { until: Some(*until), ..upstream.place(0, None) };
        let places: Vec<Place> = ends.iter().map(place).collect();
        self.places = places.iter().copied().map(Some).collect();
        // All at once: with a part of them, the copy would look complete without the others.
        self.queue.push_back(Item::Boundary(places.into_iter().enumerate().collect(), true));
    }

    /// Queues the next unit of such a copy: one partition after the other, so that all writers' are the same.
    fn go_on_copying(&mut self, upstream: &Upstream) {
        let places = || self.places.iter().flatten().copied().enumerate();
        let next = places().find(|(_, place)| place.until.is_some_and(|until| place.units < until));
        let Some((partition, place)) = next else {
            let all: Vec<_> = places().map(|(at, p)| (at, upstream.place(p.units, None))).collect();
            self.places = all.iter().map(|(_, place)| Some(*place)).collect();
            return self.queue.push_back(Item::Boundary(all, true));
        };
        let rows = &upstream.units(partition)[place.units as usize];
        self.queue.extend(rows.iter().map(|row| Item::Row(partition, *row)));
        let place = Place { until: place.until, ..upstream.place(place.units + 1, None) };
        self.places[partition] = Some(place);
        self.queue.push_back(Item::Boundary(vec![(partition, place)], false));
    }

    /// Queues one more unit, or one of every partition. Returns whether there is any.
    fn fill(&mut self, upstream: &mut Upstream, random: &Random) -> Result<bool, Failure> {
        if self.places.iter().flatten().any(|place| place.until.is_some()) {
            self.go_on_copying(upstream);
            return Ok(true);
        }
        let mut partitions: Vec<usize> = (0..self.places.len()).collect();
        let first = random.index(partitions.len());
        partitions.rotate_left(first);
        let both = random.one_in(3);
        let mut units: Vec<(usize, VecDeque<Row>, Place)> = Vec::new();
        for partition in partitions {
            if let Some((rows, place)) = self.unit(partition, upstream, random)? {
                self.places[partition] = Some(place);
                units.push((partition, rows.into(), place));
                if !both {
                    break;
                }
            }
        }
        if units.is_empty() {
            return Ok(false);
        }
        // Only where no two writers must agree on units; and all that there are.
        let all = upstream.copies && units.len() == self.places.len() && random.one_in(2);
        for (partition, rows, _) in &units {
            if random.one_in(12) {
                let void = rows.iter().map(|(key, _)| (*key, New::Value(VOID)));
                self.queue.extend(void.map(|row| Item::Row(*partition, row)));
                self.queue.push_back(Item::Void(*partition));
            }
        }
        let mut ends = Vec::new();
        while !units.is_empty() {
            let at = random.index(units.len());
            match units[at].1.pop_front() {
                Some(row) => self.queue.push_back(Item::Row(units[at].0, row)),
                None => {
                    let (partition, _, place) = units.remove(at);
                    if upstream.sick == Some(partition) {
                        self.queue.push_back(Item::Fail(partition));
                    } else if all {
                        ends.push((partition, place));
                    } else {
                        self.queue.push_back(Item::Boundary(vec![(partition, place)], false));
                    }
                }
            }
        }
        if all {
            self.queue.push_back(Item::Boundary(ends, true));
        }
        Ok(true)
    }

    /// The next unit of a partition: its rows, and where it ends.
    fn unit(
        &mut self,
        partition: usize,
        upstream: &mut Upstream,
        random: &Random,
    ) -> Result<Option<(Vec<Row>, Place)>, Failure> {
        let visible = upstream.visible[partition];
        let place = self.places[partition];
        let streams = match place {
            None => !upstream.copies,
            Some(place) => place.copied.is_none(),
        };
        if !streams {
            return self.copy(partition, upstream, random);
        }
        let mut units = place.map_or(0, |place| place.units);
        if units < upstream.purged[partition] {
            return Err(lost());
        }
        if units == visible || place.is_none() {
            // Others' transactions are news too, where a position shows them. And the first boundary
            // is that of the start, for all writers: a reset may go with it.
            let news = place.is_none_or(|p| p.kind == Kind::Set && p.others < upstream.others);
            return Ok(news.then(|| (Vec::new(), upstream.place(units, None))));
        }
        upstream.others += random.below(2);
        let log = upstream.units(partition);
        while log[units as usize].is_empty() && units + 1 < visible && random.one_in(2) {
            units += 1;
        }
        let rows = log[units as usize].clone();
        Ok(Some((rows, upstream.place(units + 1, None))))
    }

    /// The next piece of a copy.
    fn copy(
        &mut self,
        partition: usize,
        upstream: &mut Upstream,
        random: &Random,
    ) -> Result<Option<(Vec<Row>, Place)>, Failure> {
        let visible = upstream.visible[partition];
        let last = self.places[partition].and_then(|place| place.copied);
        let from = self.places[partition].map_or(visible, |place| place.units);
        if from < upstream.purged[partition] {
            return Err(lost());
        }
        // What was copied before must be made as of now, before more is copied of now.
        if from < visible && (self.copy_of[partition].is_none() || random.one_in(4)) {
            self.copy_of[partition] = Some(visible);
            let units = &upstream.units(partition)[from as usize..visible as usize];
            let copied =
                |(key, new): &&Row| last.is_some_and(|last| *key <= last || *new == New::AllGone);
            let rows = units.iter().flatten().filter(copied).copied().collect();
            return Ok(Some((rows, upstream.place(visible, last))));
        }
        let of = *self.copy_of[partition].get_or_insert(from);
        let contents = upstream.contents(partition, of);
        let left = contents.iter().filter(|(key, _)| last.is_none_or(|last| **key > last));
        let left: Vec<Row> = left.map(|(key, value)| (*key, New::Value(*value))).collect();
        let piece: Vec<Row> = left.iter().take(1 + random.index(3)).copied().collect();
        let done = left.len() == piece.len() && (piece.is_empty() || random.one_in(2));
        let copied = piece.last().map(|(key, _)| *key).filter(|_| !done);
        Ok(Some((piece, upstream.place(of, copied))))
    }
}

fn broken(what: &str) -> Error {
    Error::new(ErrorKind::Unavailable, what)
}

fn lost() -> Failure {
    Failure::PositionLost(Error::new(ErrorKind::Missing, "the log is purged"))
}
