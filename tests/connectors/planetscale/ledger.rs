//! Owns what was said between server and client: every place that the server has sent as one to
//! resume from, with the table's part there, and every cursor that it was given. A cursor that
//! is not one of those places is a fault.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::planetscale::model::{Key, Model, Row};
use crate::planetscale::shard::{Set, read_set};
use crate::random::Random;

/// A place in one shard: the transactions before it, and how far its copy is if there is one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub shard: String,
    pub set: Set,
    pub pk: Option<Key>,
}

pub type Rows = Arc<BTreeMap<Key, Row>>;

/// What a client asked for.
#[derive(Clone, Debug)]
pub struct Given {
    /// How often the client had been started.
    pub life: u64,
    /// How many requests there had been, of all lives.
    pub request: u64,
    /// The server had told it in this life that a place is lost.
    pub lost: bool,
    /// The shard, and where in it: `None` for its start.
    pub shard: String,
    pub place: Option<Place>,
}

#[derive(Default)]
pub struct Ledger {
    life: u64,
    lost: bool,
    request: u64,
    sent: BTreeMap<Place, Rows>,
    pub given: Vec<Given>,
    pub faults: Vec<String>,
    /// How often each kind of thing was done: a test that never does what it is for proves nothing.
    pub seen: BTreeMap<String, u64>,
}

impl Ledger {
    /// Notes that a client may resume from here.
    pub fn resumable(&mut self, place: Place, rows: Rows) {
        self.sent.insert(place, rows);
    }

    /// Notes that a client asks for something.
    pub fn requested(&mut self) {
        self.request += 1;
    }

    /// Notes that a client wants to resume from here.
    pub fn given(&mut self, shard: &str, place: Option<Place>) {
        if let Some(place) = &place
            && !self.sent.contains_key(place)
        {
            self.fault(format!("was given {place:?}, which it never sent as one to resume from"));
        }
        let (life, request, lost) = (self.life, self.request, self.lost);
        self.given.push(Given { life, request, lost, shard: shard.into(), place });
    }

    /// Notes that the client is started once more. Returns how often it has been.
    pub fn begin_life(&mut self) -> u64 {
        (self.life, self.lost) = (self.life + 1, false);
        self.life
    }

    /// Notes that the client is told that a place is lost.
    pub fn lose(&mut self) {
        self.lost = true;
        self.count("position lost");
    }

    pub fn fault(&mut self, what: String) {
        self.faults.push(what);
    }

    pub fn count(&mut self, what: impl Into<String>) {
        *self.seen.entry(what.into()).or_default() += 1;
    }

    /// The table's part at a place that was sent.
    pub fn rows(&self, place: &Place) -> Option<&Rows> {
        self.sent.get(place)
    }

    /// What each shard was first asked for in a life: the durable cursor, unless that was lost. All
    /// shards are asked for at once, or else each by a request of its own.
    pub fn firsts(&self, life: u64, at_once: bool) -> BTreeMap<&str, Option<&Place>> {
        let (mut firsts, mut first) = (BTreeMap::new(), None);
        for given in self.given.iter().filter(|given| given.life == life && !given.lost) {
            if !at_once || *first.get_or_insert(given.request) == given.request {
                firsts.entry(given.shard.as_str()).or_insert(given.place.as_ref());
            }
        }
        firsts
    }
}

/// A place, and what is there.
pub fn resumable(model: &Model, shard: &str, at: usize, pk: Option<Key>) -> (Place, Rows) {
    let state = &model.shards[shard];
    let mut rows = state.contents(at);
    if let Some(pk) = pk {
        rows.retain(|key, _| *key <= pk);
    }
    let gtid = state.gtid(at, &Random::new(0));
    let set = read_set(&gtid).expect("as it was written");
    (Place { shard: shard.into(), set, pk }, Arc::new(rows))
}
