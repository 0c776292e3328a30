//! Owns one shard of the database: the log of its transactions, their GTIDs, and what its part of the
//! table was at any place in it. What happens there is not its business.

use std::collections::BTreeMap;

use crate::planetscale::model::{Change, Key, Kind, Row, Transaction};
use crate::random::Random;

/// A set of GTIDs that is read: for each server, the transactions up to a number.
pub type Set = BTreeMap<String, usize>;

/// Reads a set, however it is written; `None` if it is not one that this server could have written.
pub fn read_set(text: &str) -> Option<Set> {
    let mut set = Set::new();
    for part in text.strip_prefix("MySQL56/")?.split(',') {
        let (server, intervals) = part.trim().split_once(':')?;
        let mut next = 1;
        for interval in intervals.split(':') {
            let (from, to) = interval.split_once('-').unwrap_or((interval, interval));
            let (from, to) = (from.parse::<usize>().ok()?, to.parse::<usize>().ok()?);
            // The logs here have no gaps; a client that makes one up is wrong.
            (from == next && to >= from).then_some(())?;
            next = to + 1;
        }
        (set.insert(server.to_lowercase(), next - 1).is_none()).then_some(())?;
    }
    Some(set)
}

/// One shard: a place in it is the number of its transactions up to there.
#[derive(Clone, Debug)]
pub struct Shard {
    pub name: String,
    pub regions: Vec<char>,
    /// What it began with, at place `first`, which nobody can read from before.
    pub base: BTreeMap<Key, Row>,
    pub first: usize,
    /// How many columns the table had then.
    columns: usize,
    pub log: Vec<Transaction>,
    /// The binlog has no transaction below this place any more.
    pub purged: usize,
    /// The servers that have been its primary, and the place from which.
    pub servers: Vec<(String, usize)>,
    /// It has given its rows away.
    pub retired: bool,
}

/// Why a stream cannot begin where a client wants it to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    Purged,
    Mismatch,
}

impl Shard {
    pub fn new(
        name: &str,
        regions: &[char],
        server: String,
        first: usize,
        columns: usize,
    ) -> Shard {
        Shard {
            name: name.into(),
            regions: regions.to_vec(),
            base: BTreeMap::new(),
            first,
            columns,
            log: Vec::new(),
            purged: first,
            servers: vec![(server, 0)],
            retired: false,
        }
    }

    /// The place after the last transaction.
    pub fn end(&self) -> usize {
        self.first + self.log.len()
    }

    /// The place where a copy may begin: never past a journal, which would go unseen.
    pub fn copy_at(&self) -> usize {
        self.end() - usize::from(self.retired)
    }

    pub fn transaction(&self, place: usize) -> &Transaction {
        &self.log[place - self.first]
    }

    /// How many columns the table has at a place.
    pub fn columns_at(&self, place: usize) -> usize {
        let before = place.checked_sub(self.first + 1).map(|last| &self.log[last]);
        before.map_or(self.columns, |transaction| transaction.columns)
    }

    pub fn holds(&self, region: char) -> bool {
        self.regions.contains(&region)
    }

    /// The table's part at a place.
    pub fn contents(&self, place: usize) -> BTreeMap<Key, Row> {
        let mut rows = self.base.clone();
        for transaction in &self.log[..place - self.first] {
            let Kind::Rows(changes) = &transaction.kind else { continue };
            for change in changes {
                apply(&mut rows, change);
            }
        }
        rows
    }

    fn set(&self, place: usize) -> Set {
        let ends = self.servers.iter().skip(1).map(|(_, from)| *from).chain([usize::MAX]);
        let mut set = Set::new();
        for ((server, from), to) in self.servers.iter().zip(ends) {
            if place.min(to) > *from {
                set.insert(server.clone(), place.min(to) - from);
            }
        }
        set
    }

    /// Writes the set of the transactions up to a place, in one of the ways to write it.
    pub fn gtid(&self, place: usize, random: &Random) -> String {
        let mut parts: Vec<String> = Vec::new();
        for (server, count) in self.set(place) {
            let server = if random.one_in(4) { server.to_uppercase() } else { server };
            let split = (random.one_in(4) && count > 1).then(|| 1 + random.index(count - 1));
            let range = |from: usize, to: usize| match from == to {
                true => from.to_string(),
                false => format!("{from}-{to}"),
            };
            parts.push(match split {
                Some(at) => format!("{server}:{}:{}", range(1, at), range(at + 1, count)),
                None => format!("{server}:{}", range(1, count)),
            });
        }
        if random.one_in(2) {
            parts.reverse();
        }
        format!("MySQL56/{}", parts.join(","))
    }

    /// Finds the place that a set stands for.
    pub fn find(&self, set: &Set) -> Result<usize, Refused> {
        let place = (self.first..=self.end()).find(|place| self.set(*place) == *set);
        match place {
            Some(place) if place >= self.purged => Ok(place),
            Some(_) => Err(Refused::Purged),
            None => Err(Refused::Mismatch),
        }
    }
}

/// Does to rows what a change says.
pub fn apply(rows: &mut BTreeMap<Key, Row>, change: &Change) {
    match change {
        Change::Insert(row) => {
            assert!(rows.insert(row.key(), row.clone()).is_none(), "inserted twice: {row:?}");
        }
        Change::Update(before, after) => {
            assert_eq!(rows.remove(&before.key()).as_ref(), Some(before));
            assert!(rows.insert(after.key(), after.clone()).is_none(), "twice: {after:?}");
        }
        Change::Delete(row) => assert_eq!(rows.remove(&row.key()).as_ref(), Some(row)),
    }
}
