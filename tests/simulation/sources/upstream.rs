//! Owns the feed of a run: a log of units for each partition, how much of it there is by now, what is
//! purged, and what it has been told. And the oracle: the fold of the log up to a cursor, from scratch.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use differential_upsert::DataError;
use differential_upsert::source::Partition;
use tokio::sync::Notify;

use crate::random::Random;
use crate::sources::place::{Kind, Place, Reached};

/// What becomes of a key. Keys and values are below 128: one byte encodes each.
pub type Row = (u64, New);

/// A value, or none, or so much more than the key has: a row that is taken in twice, or not at all, shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum New {
    Gone,
    Value(u64),
    More(u64),
    /// None, for all keys of its [`collection`].
    AllGone,
}

pub type Contents = BTreeMap<u64, u64>;

pub type Shared = Arc<Mutex<Upstream>>;

/// Keys of one partition.
const KEYS: u64 = 16;

/// One run of a source: from the start of a replica until its end.
#[derive(Debug, Default)]
pub struct Life {
    /// The last boundary that the source has said, and where it was connected first.
    pub said: Option<Reached>,
    /// It was told that its position is lost, and has not said a boundary since.
    pub lost: bool,
    /// Where it is to stop: edition and units.
    pub goal: Option<(u64, Vec<u64>)>,
    /// It has said that the feed ends.
    pub ended: bool,
    /// Rows said of units without an end, by partition, on the connection that there is.
    pub open: BTreeMap<usize, u64>,
    /// How often it was connected.
    pub connects: u64,
    /// It was told that something is wrong for good.
    pub failed: bool,
    /// The last cursor it was told to be durable.
    pub acked: Option<Reached>,
}

/// What a source was asked, for the observer to judge.
#[derive(Debug)]
pub enum Asked {
    /// The first connect of a life.
    From(Reached),
    Acked(Reached),
}

/// What happened, for ever.
struct Log {
    /// By partition.
    units: Vec<Vec<Vec<Row>>>,
    /// By partition and units: the contents after them.
    history: Vec<Vec<Contents>>,
}

impl Log {
    fn random(random: &Random, partitions: usize) -> Log {
        let (keys, length) = (1 + random.below(KEYS - 1), 4 + random.below(30));
        let (mut units, mut history) = (Vec::new(), Vec::new());
        for partition in 0..partitions as u64 {
            let mut log: Vec<Vec<Row>> = Vec::new();
            let mut after = vec![Contents::new()];
            for _ in 0..length {
                let unit = unit(random, partition * KEYS, keys, after.last().unwrap());
                let mut contents = after.last().unwrap().clone();
                fold(&mut contents, &unit);
                log.push(unit);
                after.push(contents);
            }
            units.push(log);
            history.push(after);
        }
        Log { units, history }
    }
}

pub struct Upstream {
    pub kind: Kind,
    pub names: Vec<Partition>,
    /// Whether contents are copied first, or all of the log is read.
    pub copies: bool,
    /// Whether several writers read it.
    pub several_write: bool,
    /// Whether a copy of the log that is made anew ends where it is told, and else where the log does as it begins.
    pub copies_as_told: bool,
    /// How often it fails: one request in so many; 0 for never.
    pub fails_one_in: u64,
    /// The logs that there were, the last of which is there.
    editions: Vec<Log>,
    /// How many units there are by now.
    pub visible: Vec<u64>,
    /// Units below it are gone.
    pub purged: Vec<u64>,
    /// Nobody answers, however calm it is.
    pub away: bool,
    /// A partition that fails at the next unit that it has, always.
    pub sick: Option<usize>,
    /// Transactions of others.
    pub others: u64,
    /// No more will come.
    pub ended: bool,
    pub calm: Arc<AtomicBool>,
    pub grown: Arc<Notify>,
    pub lives: Vec<Life>,
    pub asked: Vec<(usize, Asked)>,
    /// What must not be.
    pub wrong: Vec<String>,
}

impl Upstream {
    pub fn random(
        random: &Random,
        several_write: bool,
        kind: Kind,
        copies: bool,
        calm: Arc<AtomicBool>,
    ) -> Upstream {
        let partitions = random.pick(&[1, 1, 2]);
        let log = Log::random(random, partitions);
        let length = log.units[0].len() as u64;
        let begin = |_| random.below(length / 2 + 1);
        Upstream {
            kind,
            names: ["a", "b"][..partitions].iter().map(|name| Partition::from(*name)).collect(),
            copies,
            several_write,
            copies_as_told: several_write && random.one_in(2),
            fails_one_in: random.pick(&[0, 40, 12, 5]),
            visible: (0..partitions).map(begin).collect(),
            purged: vec![0; partitions],
            editions: vec![log],
            away: false,
            sick: None,
            others: 0,
            ended: false,
            calm,
            grown: Arc::default(),
            lives: Vec::new(),
            asked: Vec::new(),
            wrong: Vec::new(),
        }
    }

    pub fn is_calm(&self) -> bool {
        self.calm.load(Ordering::Relaxed)
    }

    /// Shows some more of the log.
    pub fn grow(&mut self, random: &Random) {
        let at = random.index(self.names.len());
        let most = self.units(at).len() as u64;
        self.visible[at] = most.min(self.visible[at] + 1 + random.below(3));
        self.others += random.below(3);
        self.grown.notify_waiters();
    }

    /// Shows all of it, and says that there will be no more.
    pub fn end(&mut self, ended: bool) {
        self.visible = (0..self.names.len()).map(|at| self.units(at).len() as u64).collect();
        self.ended |= ended;
        self.grown.notify_waiters();
    }

    /// Forgets some of the log, if there is a way to live with that.
    pub fn purge(&mut self, random: &Random) {
        if self.copies {
            let at = random.index(self.names.len());
            let more = self.visible[at] - self.purged[at];
            self.purged[at] += random.below(more + 1);
        }
    }

    /// Another log takes the place of this one: nobody's place is in it.
    pub fn replace(&mut self, random: &Random) {
        self.editions.push(Log::random(random, self.names.len()));
        self.visible = vec![0; self.names.len()];
        self.purged = vec![0; self.names.len()];
        self.grown.notify_waiters();
    }

    /// Which log is there.
    pub fn edition(&self) -> u64 {
        self.editions.len() as u64 - 1
    }

    /// Whether it must be copied anew, and nobody may: not if several writers are to agree on several
    /// partitions, and their copies cannot end as told.
    pub fn is_refused(&self) -> bool {
        let agree = self.names.len() == 1 || self.copies_as_told;
        self.edition() > 0 && self.several_write && !agree
    }

    /// The log of a partition.
    pub fn units(&self, partition: usize) -> &[Vec<Row>] {
        &self.editions[self.editions.len() - 1].units[partition]
    }

    /// What there is of a partition after so many units.
    pub fn contents(&self, partition: usize, units: u64) -> &Contents {
        &self.editions[self.editions.len() - 1].history[partition][units as usize]
    }

    /// The fold of all that a cursor covers.
    pub fn fold(&self, reached: &Reached) -> Contents {
        let mut all = Contents::new();
        for (at, name) in self.names.iter().enumerate() {
            let Some(place) = reached.places.get(&**name) else { continue };
            let log = &self.editions[place.edition as usize];
            let rows = log.history[at][place.units as usize].iter();
            let copied = |(key, _): &(&u64, &u64)| place.copied.is_none_or(|last| **key <= last);
            all.extend(rows.filter(copied));
        }
        all
    }

    /// Whether a cursor covers everything there is by now.
    pub fn is_all(&self, reached: &Reached) -> bool {
        self.covers_units(reached, self.edition(), &self.visible)
    }

    /// Whether a cursor covers so many units of each partition, or is in a later edition, and no copy
    /// is under way.
    pub fn covers_units(&self, reached: &Reached, edition: u64, units: &[u64]) -> bool {
        let covered = |(name, units): (&Partition, &u64)| {
            let place = reached.places.get(&**name);
            let far = |place: &Place| (place.edition, place.units) >= (edition, *units);
            place.is_some_and(|place| !place.copies() && far(place))
        };
        self.names.iter().zip(units).all(covered)
    }

    /// A place in the log.
    pub fn place(&self, units: u64, copied: Option<u64>) -> Place {
        let others = if self.kind == Kind::Number { 0 } else { self.others };
        Place { kind: self.kind, edition: self.edition(), units, others, copied, until: None }
    }
}

/// Rows of one unit: none, few or many; puts, rewrites, deletes of what is not there, moves.
fn unit(random: &Random, base: u64, keys: u64, before: &Contents) -> Vec<Row> {
    let count = random.pick(&[0, 0, 1, 1, 2, 3, 5, 12]);
    let mut rows: Vec<Row> = Vec::new();
    for _ in 0..count {
        let key = base + random.below(keys);
        match random.below(8) {
            1 if key.is_multiple_of(4) => rows.push((key, New::AllGone)),
            0 | 1 => rows.push((key, New::Gone)),
            2 | 3 if has(before, &rows, key) => rows.push((key, New::More(random.below(100)))),
            // Of the unit's start: within a unit, the last of a key counts.
            3 => rows.push((key, before.get(&key).map_or(New::Gone, |value| New::Value(*value)))),
            4 => {
                rows.push((key, New::Gone));
                rows.push((base + random.below(keys), New::Value(random.below(100))));
            }
            _ => rows.push((key, New::Value(random.below(100)))),
        }
    }
    rows
}

fn has(before: &Contents, rows: &[Row], key: u64) -> bool {
    let about = |(at, new): &&Row| match new {
        New::AllGone => collection(at) == collection(&key),
        _ => *at == key,
    };
    let last = rows.iter().rev().find(about);
    last.map_or(before.contains_key(&key), |(_, new)| !matches!(new, New::Gone | New::AllGone))
}

/// Which collection a key is of: two in each partition.
pub fn collection(key: &u64) -> &'static str {
    ["a0", "a1", "b0", "b1"][(key / KEYS * 2 + key % 2) as usize]
}

/// What a patch makes of a value.
pub fn more(value: u64, patch: u64) -> Result<u64, DataError> {
    Ok((value + patch) % 128)
}

fn fold(contents: &mut Contents, unit: &[Row]) {
    for (key, new) in unit {
        match new {
            New::Gone => drop(contents.remove(key)),
            New::Value(value) => drop(contents.insert(*key, *value)),
            New::More(by) => drop(contents.insert(*key, (contents[key] + by) % 128)),
            New::AllGone => contents.retain(|other, _| collection(other) != collection(key)),
        }
    }
}
