//! Owns the database behind the server: a sharded table like MySQL's, and all that happens to it
//! (transactions, purge, failover, resharding). It knows nothing of any protocol, and is the oracle:
//! the table is what a client must end up with.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::planetscale::shard::{Shard, apply};
use crate::random::Random;

/// The primary key, in the order in which a copy goes: `id`, then `region`.
pub type Key = (i64, char);

/// A row. The column `extra` is there from the second schema on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Row {
    pub id: i64,
    /// Says which shard has the row.
    pub region: char,
    pub name: Option<String>,
    pub n: u64,
    pub extra: Option<String>,
}

impl Row {
    pub fn key(&self) -> Key {
        (self.id, self.region)
    }

    /// What a client must make of the key.
    pub fn key_json(key: Key) -> Value {
        json!({ "id": key.0, "region": key.1.to_string() })
    }

    /// What a client must make of the row; a column that it cannot know of yet is as good as NULL.
    pub fn json(&self) -> Value {
        let mut value = json!({ "id": self.id, "region": self.region.to_string(), "n": self.n });
        value["name"] = json!(self.name);
        if self.extra.is_some() {
            value["extra"] = json!(self.extra);
        }
        value
    }
}

/// What one row of a transaction does.
#[derive(Clone, Debug)]
pub enum Change {
    Insert(Row),
    Update(Row, Row),
    Delete(Row),
}

#[derive(Clone, Debug)]
pub enum Kind {
    Rows(Vec<Change>),
    /// Of other tables alone.
    Elsewhere,
    /// An administrator's statement.
    Other,
    /// A change of the table's columns.
    Ddl,
    /// The last of a shard: its rows go on in others, from these positions.
    Journal(Vec<(String, usize)>),
}

#[derive(Clone, Debug)]
pub struct Transaction {
    pub kind: Kind,
    /// How many columns the rows have.
    pub columns: usize,
}

/// The database.
pub struct Model {
    random: Random,
    /// All that there are or ever were, by name.
    pub shards: BTreeMap<String, Shard>,
    columns: usize,
    servers: u32,
    /// How often streams were cut off by what happened to the database.
    pub term: u64,
    /// How many transactions there have been, of all shards.
    pub commits: u64,
}

const REGIONS: [char; 4] = ['a', 'b', 'c', 'd'];

impl Model {
    /// A database of 1, 2 or 4 shards.
    pub fn new(random: &Random, shards: usize) -> Model {
        let mut model = Model {
            random: random.clone(),
            shards: BTreeMap::new(),
            columns: 4,
            servers: 0,
            term: 0,
            commits: 0,
        };
        for (name, regions) in layout(shards) {
            let server = model.server();
            model.shards.insert(name.into(), Shard::new(name, &regions, server, 0, 4));
            // A GTID set is never empty: a server begins with its own users and tables.
            model.commit(name, Kind::Elsewhere);
        }
        model
    }

    /// The name of a server that never was before.
    fn server(&mut self) -> String {
        self.servers += 1;
        // Names that do not sort by age.
        let first = self.random.below(1 << 32);
        format!("{first:08x}-0000-11ee-8000-{:012x}", self.servers)
    }

    /// The shards that take writes.
    pub fn serving(&self) -> Vec<String> {
        let serving = self.shards.values().filter(|shard| !shard.retired);
        serving.map(|shard| shard.name.clone()).collect()
    }

    fn commit(&mut self, shard: &str, kind: Kind) {
        let transaction = Transaction { kind, columns: self.columns };
        self.commits += 1;
        self.shards.get_mut(shard).expect("a shard").log.push(transaction);
    }

    /// The whole table, as it is now.
    pub fn table(&self) -> BTreeMap<Key, Row> {
        let serving = self.shards.values().filter(|shard| !shard.retired);
        serving.flat_map(|shard| shard.contents(shard.end())).collect()
    }

    /// Appends a transaction of no rows somewhere, so that positions move.
    pub fn tick(&mut self) {
        for shard in self.serving() {
            self.commit(&shard, Kind::Elsewhere);
        }
    }

    /// Makes something happen on some shard.
    pub fn transact(&mut self) {
        let serving = self.serving();
        let shard = self.random.pick(&serving);
        match self.random.below(12) {
            0 => self.commit(&shard, Kind::Elsewhere),
            1 => self.commit(&shard, Kind::Other),
            2 if self.columns == 4 && self.random.one_in(4) => {
                self.columns = 5;
                for shard in serving {
                    self.commit(&shard, Kind::Ddl);
                }
            }
            2 => self.commit(&shard, Kind::Ddl),
            3 => self.move_row(&serving),
            _ => {
                let count = 1 + self.random.index(6);
                self.write(&shard, count);
            }
        }
    }

    /// A transaction of rows on some shard.
    pub fn write_anywhere(&mut self) {
        let shard = self.random.pick(&self.serving());
        self.write(&shard, 3);
    }

    /// A transaction on one shard.
    pub fn write(&mut self, shard: &str, count: usize) {
        let mut rows = self.shards[shard].contents(self.shards[shard].end());
        let mut changes = Vec::new();
        for _ in 0..count {
            let change = self.change(shard, &rows);
            apply(&mut rows, &change);
            let redo = match &change {
                // A key that goes and comes in one transaction.
                Change::Delete(row) if self.random.one_in(3) => {
                    Some(Change::Insert(self.fresh(row.key())))
                }
                Change::Insert(row) if self.random.one_in(5) => Some(Change::Delete(row.clone())),
                _ => None,
            };
            changes.push(change);
            if let Some(redo) = redo {
                apply(&mut rows, &redo);
                changes.push(redo);
            }
        }
        self.commit(shard, Kind::Rows(changes));
    }

    fn change(&mut self, shard: &str, rows: &BTreeMap<Key, Row>) -> Change {
        let key = self.key(shard);
        let before = match rows.get(&key) {
            Some(row) => row.clone(),
            None if !rows.is_empty() && self.random.one_in(2) => {
                let place = self.random.index(rows.len());
                rows.values().nth(place).expect("in bounds").clone()
            }
            None => return Change::Insert(self.fresh(key)),
        };
        match self.random.below(4) {
            0 => Change::Delete(before),
            // The key itself changes.
            1 => {
                let key = self.key(shard);
                let key = if rows.contains_key(&key) { before.key() } else { key };
                Change::Update(before, self.fresh(key))
            }
            _ => Change::Update(before.clone(), self.fresh(before.key())),
        }
    }

    fn key(&self, shard: &str) -> Key {
        (self.random.below(9) as i64 - 2, self.random.pick(&self.shards[shard].regions))
    }

    fn fresh(&self, (id, region): Key) -> Row {
        let random = &self.random;
        let text = |n: u64| ["", "x", "zwölf", "a \"b\" \\ c", "\u{1F980}"][n as usize].to_string();
        Row {
            id,
            region,
            name: (!random.one_in(4)).then(|| text(random.below(5))),
            n: if random.one_in(8) { u64::MAX } else { random.below(1000) },
            extra: (self.columns == 5 && !random.one_in(3)).then(|| text(random.below(5))),
        }
    }

    /// A row goes to another shard, or region: two transactions, in no order that anyone could know.
    fn move_row(&mut self, serving: &[String]) {
        let rows = self.table();
        if rows.is_empty() {
            return;
        }
        let row = rows.values().nth(self.random.index(rows.len())).expect("in bounds").clone();
        let to = (row.id, self.random.pick(&REGIONS));
        if rows.contains_key(&to) {
            return;
        }
        let owner = |model: &Model, region| {
            serving.iter().find(|shard| model.shards[*shard].holds(region)).expect("one").clone()
        };
        let moved = Row { region: to.1, ..row.clone() };
        let (from, into) = (owner(self, row.region), owner(self, to.1));
        let mut steps = [(from, Change::Delete(row)), (into, Change::Insert(moved))];
        if self.random.one_in(2) {
            steps.reverse();
        }
        for (shard, change) in steps {
            self.commit(&shard, Kind::Rows(vec![change]));
        }
    }

    /// Throws away a part of a shard's binlog.
    pub fn purge(&mut self) {
        let serving = self.serving();
        let shard = self.random.pick(&serving);
        let random = self.random.clone();
        let shard = self.shards.get_mut(&shard).expect("a shard");
        let left = shard.end() - shard.purged;
        shard.purged += random.index(left + 1);
    }

    /// Throws away all that any binlog has.
    pub fn purge_all(&mut self) {
        for shard in self.shards.values_mut() {
            shard.purged = shard.end();
        }
    }

    /// Another server becomes the primary of a shard, and the newest transactions may be lost.
    pub fn fail_over(&mut self) {
        let (serving, server) = (self.serving(), self.server());
        let name = self.random.pick(&serving);
        let random = self.random.clone();
        let shard = self.shards.get_mut(&name).expect("a shard");
        let least = shard.servers.last().map_or(0, |(_, from)| from + 1).max(shard.purged);
        let lost = random.index(1 + (shard.end().saturating_sub(least)).min(3));
        let end = shard.end() - lost;
        // A table's columns do not come back.
        if shard.log[end - shard.first..].iter().any(|t| matches!(t.kind, Kind::Ddl)) {
            return;
        }
        shard.log.truncate(end - shard.first);
        if shard.servers.last().is_some_and(|(_, from)| *from < end) {
            shard.servers.push((server, end));
        }
        self.term += 1;
        self.commit(&name, Kind::Elsewhere);
    }

    /// Deals the rows to other shards, of 1, 2 or 4.
    pub fn reshard(&mut self, count: usize) {
        let (old, table) = (self.serving(), self.table());
        let new = layout(count);
        if new.iter().any(|(name, _)| self.shards.contains_key(*name)) {
            return;
        }
        let mut starts = Vec::new();
        for (name, regions) in new {
            let first = 1 + self.random.index(5);
            let mut shard = Shard::new(name, &regions, self.server(), first, self.columns);
            let ours = table.iter().filter(|(key, _)| regions.contains(&key.1));
            shard.base = ours.map(|(key, row)| (*key, row.clone())).collect();
            starts.push((name.to_string(), first));
            self.shards.insert(name.into(), shard);
        }
        for name in old {
            self.commit(&name, Kind::Journal(starts.clone()));
            self.shards.get_mut(&name).expect("a shard").retired = true;
        }
    }
}

/// The shards of a database of so many, with their regions.
fn layout(count: usize) -> Vec<(&'static str, Vec<char>)> {
    let names: &[&str] = match count {
        1 => &["-"],
        2 => &["-80", "80-"],
        _ => &["-40", "40-80", "80-c0", "c0-"],
    };
    let each = REGIONS.len() / names.len();
    names.iter().zip(REGIONS.chunks(each)).map(|(name, part)| (*name, part.to_vec())).collect()
}

/// The regions that shards of these names hold, whether they are there or not.
pub fn regions_of(name: &str) -> BTreeSet<char> {
    let all = [1, 2, 4].into_iter().flat_map(layout);
    all.filter(|(known, _)| *known == name).flat_map(|(_, regions)| regions).collect()
}
