//! Owns a feed that has a log: it is copied and streamed, grows, fails, is purged and fails over, and
//! says the same transactions in other orders, units and responses each time. It does not own what
//! its contents are; that is [`oracle`](crate::behaviours::oracle).

use std::collections::{BTreeSet, VecDeque};
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use differential_upsert::source::{
    Ack, Boundary, Change, Durable, Event, Events, Failure, Partition, Received, Source,
};
use differential_upsert::{DataError, Error, ErrorKind};

use crate::behaviours::oracle::{KEYS, Log, Transaction, collection, name};
use crate::behaviours::place::Place;
use crate::behaviours::script::failure;
use crate::random::Random;

/// What is behind the source, and outlives it.
#[derive(Clone)]
pub struct Server(Arc<Mutex<State>>);

pub struct State {
    pub logs: Vec<Log>,
    /// It copies a partition before it streams it, can purge its log, and fail over.
    pub copies: bool,
    /// Before it goes on with a copy, it leaves out changes of rows that are yet to be copied.
    pub filters: bool,
    /// It says that it has ended.
    pub ends: bool,
    /// One of so many things goes wrong; 0 for none.
    pub fails: u64,
    /// Transactions that are still to come.
    pub left: u64,
    /// Counts what no connection survives.
    epoch: u64,
    value: u64,
    /// Cursors that it was told are durable.
    pub acks: Vec<Vec<u8>>,
    /// How often it was connected.
    pub connects: u64,
    random: Random,
}

impl Server {
    pub fn new(seed: u64, copies: bool) -> Server {
        let random = Random::new(seed ^ 0x5eed);
        let log = Log { histories: vec![Vec::new()], purged: 0 };
        let mut state = State {
            logs: vec![log; 1 + random.index(3)],
            copies,
            filters: random.one_in(2),
            ends: random.one_in(2),
            fails: random.pick(&[0, 40, 12, 6]),
            left: 20 + random.below(80),
            epoch: 0,
            value: 0,
            acks: Vec::new(),
            connects: 0,
            random,
        };
        for _ in 0..state.random.below(15) {
            state.grow();
        }
        Server(Arc::new(Mutex::new(state)))
    }

    /// One that surely has something from the start.
    pub fn grown(seed: u64, copies: bool) -> Server {
        let server = Server::new(seed, copies);
        (0..10).for_each(|_| server.state().grow());
        server
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// From now on nothing more comes, and nothing goes wrong.
    pub fn calm(&self) {
        let mut state = self.state();
        (state.fails, state.left) = (0, 0);
    }

    pub fn source<P: Place>(&self, seed: u64) -> Feed<P> {
        Feed {
            server: self.clone(),
            random: Random::new(seed),
            legs: Vec::new(),
            epoch: 0,
            position: PhantomData,
        }
    }
}

impl State {
    /// Adds a transaction to some partition.
    pub fn grow(&mut self) {
        let number = self.random.index(self.logs.len());
        let changes = match self.random.below(8) {
            0 => 0,
            1 => 1 + self.random.below(12),
            _ => 1 + self.random.below(3),
        };
        let alone = self.logs.len() == 1;
        let mut transaction = Transaction::new();
        for _ in 0..changes {
            self.value += 1;
            let key = number as u64 * KEYS + self.random.below(12);
            transaction.push(match self.random.below(40) {
                // All keys of all partitions would go.
                0 if alone => Change::Reset,
                3 if alone => Change::ResetOf(collection(key).to_string()),
                1 | 2 => Change::Put(key, Err(DataError(format!("unreadable {}", self.value)))),
                0..12 => Change::Delete(key),
                12..17 => Change::Patch(key, self.value),
                _ => Change::Put(key, Ok(self.value)),
            });
        }
        self.logs[number].histories.last_mut().unwrap().push(transaction);
    }

    /// Lets something happen to the log.
    pub fn live(&mut self) {
        if self.left > 0 && self.random.one_in(3) {
            self.left -= 1;
            self.grow();
        }
        if self.copies && self.left > 0 && self.fails > 0 && self.random.one_in(60) {
            let number = self.random.index(self.logs.len());
            let log = &mut self.logs[number];
            let count = log.now().len();
            self.epoch += 1;
            if self.random.one_in(2) {
                log.purged += self.random.below(1 + count as u64 - u64::from(log.purged)) as u32;
            } else {
                // A replica takes over that had not got the last ones.
                let kept = count - self.random.index(count.min(4) + 1);
                let history = log.now()[..kept].to_vec();
                log.histories.push(history);
                log.purged = log.purged.min(kept as u32);
            }
        }
    }

    fn goes_wrong(&self, random: &Random) -> bool {
        self.fails > 0 && random.one_in(self.fails)
    }
}

/// What a connection has yet to say of one partition.
struct Leg<P> {
    name: Partition,
    events: VecDeque<Event<u64, u64, P>>,
    seen: BTreeSet<u32>,
    /// How far a copy is, of the transactions of `seen` when it began.
    copied: Option<u64>,
}

/// A connection.
pub struct Feed<P> {
    server: Server,
    random: Random,
    legs: Vec<Leg<P>>,
    epoch: u64,
    position: PhantomData<P>,
}

/// Whether the order of two transactions matters.
fn conflict(one: &Transaction, other: &Transaction) -> bool {
    let keys = |transaction: &Transaction| -> Option<BTreeSet<u64>> {
        let key = |change: &Change<u64, u64>| match change {
            Change::Put(key, _) | Change::Patch(key, _) | Change::Delete(key) => Some(*key),
            Change::Reset | Change::ResetOf(_) => None,
        };
        transaction.iter().map(key).collect()
    };
    match (keys(one), keys(other)) {
        (Some(one), Some(other)) => !one.is_disjoint(&other),
        _ => true,
    }
}

impl<P: Place> Feed<P> {
    /// Returns the transactions that a set lacks, in some order that a replica may have them.
    fn order(&self, log: &Log, seen: &BTreeSet<u32>) -> Vec<u32> {
        let mut left: Vec<u32> = log.all().difference(seen).copied().collect();
        let mut order = Vec::new();
        while !left.is_empty() {
            let of = |number: u32| &log.now()[number as usize - 1];
            let is_free = |at: usize| left[..at].iter().all(|n| !conflict(of(*n), of(left[at])));
            let free: Vec<usize> = (0..left.len()).filter(|at| is_free(*at)).collect();
            let sets = P::SETS && !self.random.one_in(3);
            let next = if sets { free[self.random.index(free.len())] } else { 0 };
            order.push(left.remove(next));
        }
        order
    }

    /// Says a unit, sometimes only after it was begun and begun again.
    fn unit(&self, leg: &mut Leg<P>, changes: Vec<Change<u64, u64>>, history: u8) {
        let at = P::place(history, &leg.seen, leg.copied);
        let change =
            |change: &Change<u64, u64>| Event::Change(Arc::clone(&leg.name), change.clone());
        if self.random.one_in(6) {
            let begun = self.random.index(changes.len() + 1);
            leg.events.extend(changes[..begun].iter().map(change));
            leg.events.push_back(Event::Void(Arc::clone(&leg.name)));
        }
        leg.events.extend(changes.iter().map(change));
        leg.events.push_back(Event::Boundary(Received::at(Arc::clone(&leg.name), at)));
    }

    /// Says the transactions that are not yet seen, some of them in one unit.
    fn stream(&self, log: &Log, leg: &mut Leg<P>, filters: bool) {
        let filter = leg.copied.filter(|_| filters);
        let mut changes = Vec::new();
        let order = self.order(log, &leg.seen);
        for (at, number) in order.iter().enumerate() {
            leg.seen.insert(*number);
            let transaction = &log.now()[*number as usize - 1];
            let wanted = |change: &&Change<u64, u64>| match (filter, change) {
                (
                    Some(copied),
                    Change::Put(key, _) | Change::Patch(key, _) | Change::Delete(key),
                ) => *key <= copied,
                _ => true,
            };
            changes.extend(transaction.iter().filter(wanted).cloned());
            // Two writers must see the same units, where they look at their order.
            let joins = P::SETS && at + 1 < order.len() && self.random.one_in(4);
            if !joins {
                self.unit(leg, std::mem::take(&mut changes), log.history());
            }
        }
    }

    /// Says the rows beyond a key, in units, and the end.
    fn copy(&self, log: &Log, leg: &mut Leg<P>) {
        let rows = log.fold(log.history(), &leg.seen);
        let beyond = leg.copied.map_or(0, |key| key + 1);
        let rows: Vec<_> = rows.range(beyond..).map(|(k, v)| (*k, v.clone())).collect();
        let mut rest = &rows[..];
        while !rest.is_empty() {
            let (some, others) = rest.split_at(1 + self.random.index(rest.len().min(4)));
            leg.copied = some.last().map(|(key, _)| *key);
            let changes = some.iter().map(|(key, value)| Change::Put(*key, value.clone()));
            self.unit(leg, changes.collect(), log.history());
            rest = others;
        }
        leg.copied = None;
        self.unit(leg, Vec::new(), log.history());
    }

    async fn pause(&self) {
        for _ in 0..self.random.below(3) {
            tokio::task::yield_now().await;
        }
        if self.random.one_in(10) {
            tokio::time::sleep(Duration::from_millis(self.random.below(40))).await;
        }
    }
}

impl<P: Place> Source for Feed<P> {
    type Key = u64;
    type Value = u64;
    type Position = P;

    fn identity(&self) -> String {
        "feed".to_string()
    }

    fn partitions(&self) -> Vec<Partition> {
        (0..self.server.state().logs.len()).map(|n| Partition::from(name(n))).collect()
    }

    async fn connect(&mut self, from: &Boundary<P>) -> Result<(), Failure> {
        self.pause().await;
        let mut state = self.server.state();
        state.connects += 1;
        state.live();
        if state.goes_wrong(&self.random) {
            return Err(failure("unavailable"));
        }
        let mut legs = Vec::new();
        for (number, log) in state.logs.iter().enumerate() {
            let name = Partition::from(name(number));
            let at = from.get(&name).cloned();
            let (seen, copied) = at.as_ref().map(|at| (at.seen(), at.copied())).unwrap_or_default();
            let kept = (1..=log.purged).all(|number| seen.contains(&number));
            let is_ours = at.as_ref().is_none_or(|at| at.history() == log.history());
            if !is_ours || (!kept && (at.is_some() || !state.copies)) {
                return Err(failure("lost"));
            }
            let mut leg = Leg { name, events: VecDeque::new(), seen, copied };
            if at.is_none() && state.copies {
                leg.seen = log.all();
            } else {
                self.stream(log, &mut leg, state.filters);
            }
            if state.copies && (at.is_none() || copied.is_some()) {
                self.copy(log, &mut leg);
            }
            legs.push(leg);
        }
        self.epoch = state.epoch;
        drop(state);
        self.legs = legs;
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<Events<Self>>, Failure> {
        loop {
            self.pause().await;
            let mut state = self.server.state();
            state.live();
            if state.epoch != self.epoch {
                return Err(failure("unavailable"));
            }
            if state.goes_wrong(&self.random) {
                return match self.random.below(3) {
                    0 => Ok(None),
                    1 => Err(failure("cancelled")),
                    _ => Err(failure("unavailable")),
                };
            }
            let mut events = Vec::new();
            for _ in 0..1 + self.random.below(8) {
                let at = self.random.index(self.legs.len());
                let leg = &mut self.legs[at];
                for _ in 0..1 + self.random.below(4) {
                    events.extend(leg.events.pop_front());
                }
            }
            if !events.is_empty() {
                return Ok(Some(events));
            }
            if self.legs.iter().any(|leg| !leg.events.is_empty()) {
                continue;
            }
            let mut legs = std::mem::take(&mut self.legs);
            for (log, leg) in state.logs.iter().zip(&mut legs) {
                self.stream(log, leg, state.filters);
            }
            self.legs = legs;
            let is_over = self.legs.iter().all(|leg| leg.events.is_empty()) && state.left == 0;
            if is_over && state.ends {
                return Ok(Some(vec![Event::End]));
            }
        }
    }

    async fn current(&mut self) -> Result<Vec<(Partition, P)>, Failure> {
        self.pause().await;
        let state = self.server.state();
        if state.goes_wrong(&self.random) {
            let error = Error::new(ErrorKind::Unavailable, "cannot tell where it is");
            return Err(Failure::Transient(error));
        }
        let place = |(number, log): (usize, &Log)| {
            (Partition::from(name(number)), P::place(log.history(), &log.all(), None))
        };
        // A partition without anything has no place, unless it is copied.
        let has = |(_, log): &(usize, &Log)| state.copies || !log.now().is_empty();
        Ok(state.logs.iter().enumerate().filter(has).map(place).collect())
    }

    fn ack(&mut self, durable: &Durable<P>) -> Ack {
        let mut state = self.server.state();
        state.acks.push(durable.to_bytes());
        let fails = state.goes_wrong(&self.random);
        let answer = if fails { Err(failure("unavailable")) } else { Ok(()) };
        Box::pin(std::future::ready(answer))
    }
}
