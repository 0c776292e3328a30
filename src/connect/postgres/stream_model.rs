//! Owns a model of a server: its tables, its log, which transactions are seen, and the messages and answers that a stream
//! of it gets. It does not own what is checked.

use std::collections::{BTreeMap, BTreeSet};

use super::position::{History, Lineage};
use super::question::{Piece, Wanted};
use super::rows::Key;
use super::snapshot::Snapshot;
use super::written;
use crate::codec::{collection_name, in_collection};

/// Which table, and the key in it.
pub(super) type Id = (usize, u64);

/// What a key has: a column that is stored apart, and another.
pub(super) type Row = (u64, u64);
pub(super) type Tables = BTreeMap<Id, Row>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Insert(Id, Row),
    /// The other column alone.
    Update(Id, u64),
    /// To another key of the table, where there is none.
    Move(Id, Id),
    Delete(Id),
    Truncate(usize),
}

#[derive(Clone, Debug)]
pub(super) struct Logged {
    pub(super) transaction: u64,
    pub(super) ops: Vec<Op>,
    /// The tables before each of them.
    pub(super) before: Vec<Tables>,
    pub(super) end: u64,
}

pub(super) fn oid(table: usize) -> u32 {
    16_384 + table as u32
}

/// One of them is written otherwise in keys than it is called.
pub(super) fn name(table: usize) -> String {
    if table == 1 { "t\"1".to_string() } else { format!("t{table}") }
}

pub(super) fn history(tables: usize) -> History {
    let tables = (0..tables).map(|table| Lineage { oid: oid(table), key: 1 }).collect();
    History { system: 1, timeline: 1, tables }
}

/// A server's tables, their log, and which transactions are seen.
pub(super) struct Model {
    pub(super) random: fastrand::Rng,
    /// How many tables there are.
    pub(super) count: usize,
    tables: Tables,
    pub(super) log: Vec<Logged>,
    /// Committed, and not seen yet.
    pub(super) unseen: BTreeSet<u64>,
    /// Begun.
    pub(super) open: Vec<u64>,
    next: u64,
    pub(super) lsn: u64,
}

fn apply(table: &mut Tables, op: Op) {
    match op {
        Op::Insert(key, row) => drop(table.insert(key, row)),
        Op::Update(key, n) => {
            if let Some(row) = table.get_mut(&key) {
                row.1 = n;
            }
        }
        Op::Move(from, to) => {
            if let Some(row) = table.remove(&from) {
                table.insert(to, row);
            }
        }
        Op::Delete(key) => drop(table.remove(&key)),
        Op::Truncate(which) => table.retain(|(table, _), _| *table != which),
    }
}

impl Model {
    pub(super) fn new(seed: u64) -> Model {
        let mut random = fastrand::Rng::with_seed(seed);
        Model {
            count: random.usize(1..4),
            random,
            tables: Tables::new(),
            log: Vec::new(),
            unseen: BTreeSet::new(),
            open: Vec::new(),
            next: 100,
            lsn: 1000,
        }
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.random.u64(..bound)
    }

    /// Keys that another may not touch yet, since their transaction still holds them; all if it has emptied a table.
    fn held(&self) -> Option<BTreeSet<Id>> {
        let unseen = self.log.iter().filter(|logged| self.unseen.contains(&logged.transaction));
        let mut held = BTreeSet::new();
        for op in unseen.flat_map(|logged| &logged.ops) {
            match *op {
                Op::Insert(key, _) | Op::Update(key, _) | Op::Delete(key) => drop(held.insert(key)),
                Op::Move(from, to) => held.extend([from, to]),
                Op::Truncate(_) => return None,
            }
        }
        Some(held)
    }

    pub(super) fn begin(&mut self) {
        self.open.push(self.next);
        self.next += 1;
    }

    pub(super) fn commit(&mut self) {
        let Some(held) = self.held() else { return };
        if self.open.is_empty() {
            self.begin();
        }
        let at = self.random.usize(..self.open.len());
        let transaction = self.open.swap_remove(at);
        let (mut ops, mut before) = (Vec::new(), Vec::new());
        for _ in 0..1 + self.below(4) {
            let table = self.random.usize(..self.count);
            let (key, to) = ((table, self.below(14)), (table, self.below(14)));
            let n = self.below(1000);
            let op = match (self.below(12), self.tables.contains_key(&key)) {
                (0, _) if held.is_empty() && self.unseen.is_empty() => Op::Truncate(table),
                (1 | 2, true) if !self.tables.contains_key(&to) && !held.contains(&to) => {
                    Op::Move(key, to)
                }
                (3 | 4, true) => Op::Delete(key),
                (_, true) => Op::Update(key, n),
                (_, false) => Op::Insert(key, (n, n)),
            };
            if held.contains(&key) {
                continue;
            }
            before.push(self.tables.clone());
            apply(&mut self.tables, op);
            ops.push(op);
        }
        self.lsn += 10;
        self.unseen.insert(transaction);
        self.log.push(Logged { transaction, ops, before, end: self.lsn });
    }

    /// As a server says it: beyond the last that has ended, all count as not begun.
    pub(super) fn snapshot(&self) -> Snapshot {
        let running: BTreeSet<u64> = self.open.iter().chain(&self.unseen).copied().collect();
        let max = (99..self.next).rev().find(|id| !running.contains(id)).unwrap_or(99) + 1;
        let running: Vec<u64> = running.into_iter().filter(|id| *id < max).collect();
        let min = running.first().copied().unwrap_or(max);
        let running: Vec<String> = running.iter().map(u64::to_string).collect();
        Snapshot::parse(&format!("{min}:{max}:{}", running.join(","))).unwrap()
    }

    /// The collection of a table's keys, if there are several tables.
    pub(super) fn collection(&self, table: usize) -> Option<String> {
        (self.count > 1).then(|| collection_name(&format!("public.{}", name(table))))
    }

    pub(super) fn key_of(&self, (table, key): Id) -> Key {
        let json = format!("{{\"a\":{key}}}");
        let json = match self.collection(table) {
            Some(name) => in_collection(&name, &json),
            None => json,
        };
        Key { table, json, texts: vec![key.to_string()] }
    }

    /// Takes a number for a transaction that does nothing.
    pub(super) fn number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    /// The tables as a snapshot sees them.
    fn seen(&self) -> Tables {
        let mut table = Tables::new();
        let seen = self.log.iter().filter(|logged| !self.unseen.contains(&logged.transaction));
        seen.flat_map(|logged| &logged.ops).for_each(|op| apply(&mut table, *op));
        table
    }

    pub(super) fn as_of(&self, lsn: u64) -> Tables {
        let mut table = Tables::new();
        let until = self.log.iter().filter(|logged| logged.end <= lsn);
        until.flat_map(|logged| &logged.ops).for_each(|op| apply(&mut table, *op));
        table
    }

    /// Reads what is wanted, and puts a mark behind it.
    pub(super) fn read(&mut self, wanted: &Wanted) -> (Piece, bool) {
        let (seen, rows_max) = (self.seen(), 1 + self.random.usize(..4));
        let (Wanted::After(table, _) | Wanted::Keys(table, _)) = wanted;
        let of_table = seen.into_iter().filter(|((of, _), _)| of == table);
        let rows: Vec<(Id, Row)> = match wanted {
            Wanted::After(_, last) => {
                let last = last.as_deref().map(number);
                let left = of_table.filter(|((_, key), _)| last.is_none_or(|last| *key > last));
                left.take(rows_max).collect()
            }
            Wanted::Keys(_, keys) => {
                assert!(keys.iter().all(|key| key.table == *table));
                let wanted =
                    |key: u64| keys.iter().any(|wanted| wanted.texts[0] == key.to_string());
                of_table.filter(|((_, key), _)| wanted(*key)).collect()
            }
        };
        let is_last = rows.len() < rows_max;
        let snapshot = self.snapshot();
        self.lsn += 10;
        let rows = rows.into_iter().map(|(id, row)| (self.key_of(id), Ok(json(id, row)))).collect();
        (Piece { snapshot, rows, high: self.lsn, bytes: 0 }, is_last)
    }
}

pub(super) fn number(texts: &[String]) -> u64 {
    texts[0].parse().unwrap()
}

pub(super) fn json((_, key): Id, (doc, n): Row) -> String {
    format!("{{\"a\":{key},\"doc\":\"{doc}\",\"n\":{n}}}")
}

pub(super) fn message(op: Op, before: &Tables) -> Option<Vec<u8>> {
    let (Op::Insert((table, _), _)
    | Op::Update((table, _), _)
    | Op::Move((table, _), _)
    | Op::Delete((table, _))
    | Op::Truncate(table)) = op;
    let table = oid(table).to_be_bytes();
    let row =
        |(_, key): Id, doc: String, n: u64| written::row(&[key.to_string(), doc, n.to_string()]);
    let old = |(_, key): Id| written::row(&[&*key.to_string(), "null", "null"]);
    Some(match op {
        Op::Insert(key, (doc, n)) => {
            [b"I", &table[..], b"N", &row(key, doc.to_string(), n)].concat()
        }
        Op::Update(key, n) => {
            before.get(&key)?;
            [b"U", &table[..], b"N", &row(key, "-".into(), n)].concat()
        }
        Op::Move(from, to) => {
            let n = before.get(&from)?.1;
            [b"U", &table[..], b"K", &old(from), b"N", &row(to, "-".into(), n)].concat()
        }
        Op::Delete(key) => {
            before.get(&key)?;
            [b"D", &table[..], b"K", &old(key)].concat()
        }
        // Another table of the publication as well.
        Op::Truncate(_) => [b"T\0\0\0\x02\0\0\0\0\x07", &table[..]].concat(),
    })
}

pub(super) fn relation(table: usize) -> Vec<u8> {
    let columns = [("a", 23), ("doc", 25), ("n", 23)];
    written::relation(oid(table), "public", &name(table), &columns)
}
