//! Owns what the changes of one `Sync` response come to, whose order is lost. It does not own how rows
//! are read.
//!
//! Inserts, deletes and updates come in three lists. The updates are in order among themselves; where
//! the inserts and deletes belong is not said. What can be told, per key:
//!
//! * A row that comes, less a row that goes, is +1 if the key is there afterwards and was not before,
//!   -1 if it is the other way round. An update that changes the key is one of each.
//! * At 0 the key is there afterwards iff it was before. Updates alone are in order. If the rows that
//!   came are all seen to go again, because an update takes them away, the key is gone. Otherwise it
//!   counts as there: a delete and an insert of one key is taken for a replacement. **A row that is
//!   inserted and deleted within one response can not be told from that, and would stay**; VStream,
//!   which keeps the order, has no such case.
//! * The row that is there is the last inserted one with the updates that follow on from it, each from
//!   the row it says was before; if none was inserted, it is that of the last update. If rows
//!   came to a key both by an insert and from another key, that the inserted one is left is a guess.

use std::collections::BTreeMap;

use super::rows::Read;
use crate::codec::DataError;
use crate::source::Change;

type Value = Result<String, DataError>;

/// The changes of one response.
#[derive(Debug, Default)]
pub(super) struct Merge {
    keys: BTreeMap<String, Key>,
    /// The keys, as they came.
    order: Vec<String>,
}

/// What happens to one key.
#[derive(Debug, Default)]
struct Key {
    deletes: usize,
    inserts: Vec<Value>,
    /// In order: from which row, to which row; `None` if the row goes to, or comes from, another key.
    updates: Vec<(Option<Value>, Option<Value>)>,
}

impl Merge {
    pub(super) fn delete(&mut self, key: String) {
        self.key(key).deletes += 1;
    }

    pub(super) fn insert(&mut self, row: Read) {
        self.key(row.key).inserts.push(row.value);
    }

    pub(super) fn update(&mut self, before: Read, after: Read) {
        if before.key == after.key {
            self.key(after.key).updates.push((Some(before.value), Some(after.value)));
        } else {
            self.key(before.key).updates.push((Some(before.value), None));
            self.key(after.key).updates.push((None, Some(after.value)));
        }
    }

    fn key(&mut self, key: String) -> &mut Key {
        if !self.keys.contains_key(&key) {
            self.order.push(key.clone());
        }
        self.keys.entry(key).or_default()
    }

    /// Returns one change per key.
    pub(super) fn changes(mut self) -> impl Iterator<Item = Change<String, String>> {
        self.order.into_iter().filter_map(move |key| {
            let outcome = self.keys.remove(&key)?.outcome();
            Some(match outcome {
                Some(value) => Change::Put(key, value),
                None => Change::Delete(key),
            })
        })
    }
}

impl Key {
    /// Returns the row that is there in the end.
    fn outcome(mut self) -> Option<Value> {
        let last_update = self.updates.pop();
        let updated = last_update.as_ref().and_then(|(_, after)| after.clone());
        self.updates.extend(last_update);
        if self.inserts.is_empty() && self.deletes == 0 {
            return updated;
        }
        let comes = self.updates.iter().filter(|(before, _)| before.is_none()).count();
        let goes = self.updates.iter().filter(|(_, after)| after.is_none()).count();
        let (comes, goes) = (comes + self.inserts.len(), goes + self.deletes);
        if comes < goes {
            return None;
        }
        let alone = self.inserts.len() == 1 && self.deletes == 0 && goes == 0;
        if alone && updated.is_some() {
            // The insert came first, however the rows are written.
            return updated;
        }
        match self.inserts.pop() {
            Some(row) => match self.follow(row) {
                // Gone again under another key: it is there only if more came than went.
                None if comes == goes => None,
                None => updated,
                row => row,
            },
            None => updated,
        }
    }

    /// Follows a row through the updates; `None` if it goes to another key.
    fn follow(&self, mut row: Value) -> Option<Value> {
        for (before, after) in &self.updates {
            if before.as_ref() == Some(&row) {
                row = after.clone()?;
            }
        }
        Some(row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(key: &str, value: &str) -> Read {
        Read { key: key.to_string(), value: Ok(value.to_string()) }
    }

    /// `-k` deletes, `+k=v` inserts, `k=v>k=v` updates.
    fn outcome(script: &str) -> String {
        let mut merge = Merge::default();
        let of = |text: &str| {
            let (key, value) = text.split_once('=').unwrap();
            row(key, value)
        };
        for change in script.split_whitespace() {
            match (change.strip_prefix('-'), change.strip_prefix('+'), change.split_once('>')) {
                (Some(key), _, _) => merge.delete(key.to_string()),
                (_, Some(insert), _) => merge.insert(of(insert)),
                (_, _, Some((before, after))) => merge.update(of(before), of(after)),
                _ => unreachable!(),
            }
        }
        let mut changes: Vec<String> = merge
            .changes()
            .map(|change| match change {
                Change::Put(key, value) => format!("{key}={}", value.unwrap()),
                Change::Delete(key) => format!("-{key}"),
                Change::Patch(..) | Change::Reset | Change::ResetOf(_) => unreachable!(),
            })
            .collect();
        changes.sort();
        changes.join(" ")
    }

    #[test]
    fn what_is_there_afterwards_is_counted_not_guessed() {
        for (script, expected) in [
            ("+a=1", "a=1"),
            ("-a", "-a"),
            ("a=1>a=2", "a=2"),
            ("a=1>a=2 a=2>a=3", "a=3"),
            // An insert and what became of it, whichever list is read first.
            ("+a=1 a=1>a=2", "a=2"),
            ("+a=1 a=other>a=2", "a=2"),
            // An update, then a delete.
            ("-a a=1>a=2", "-a"),
            // A replacement: the inserted row, and its updates.
            ("-a +a=2", "a=2"),
            ("-a +a=2 a=2>a=3", "a=3"),
            ("-a +a=3 a=1>a=2", "a=3"),
            ("-a -a +a=2 +a=3", "a=3"),
            ("-a -a +a=2", "-a"),
        ] {
            assert_eq!(outcome(script), expected, "{script}");
        }
    }

    #[test]
    fn a_changed_key_goes_from_one_and_comes_to_the_other() {
        for (script, expected) in [
            ("a=1>b=1", "-a b=1"),
            ("a=1>b=1 b=1>c=1", "-a -b c=1"),
            ("a=1>b=1 b=1>b=2", "-a b=2"),
            // A swap, by way of a third.
            ("a=1>x=1 b=2>a=2 x=1>b=1", "-x a=2 b=1"),
            // Its place is taken anew.
            ("a=1>b=1 +a=5", "a=5 b=1"),
            ("a=1>b=1 c=3>a=3", "-c a=3 b=1"),
            // It had just been inserted.
            ("+a=1 a=1>b=1", "-a b=1"),
            // The place it goes to is made free first.
            ("-b a=1>b=1", "-a b=1"),
            ("a=1>b=1 -b", "-a b=1"),
        ] {
            assert_eq!(outcome(script), expected, "{script}");
        }
    }

    /// A transaction in order, then as three lists: they come to the same rows, but for a key that was
    /// not there before and is not afterwards, and one that rows come to in both ways.
    #[test]
    fn lists_come_to_what_the_order_does() {
        let seed = std::env::var("PLANETSCALE_SEED").ok().and_then(|seed| seed.parse().ok());
        for seed in seed.map_or(0..20_000, |seed: u64| seed..seed + 1) {
            let mut generator = fastrand::Rng::with_seed(seed);
            let mut random = |below: usize| generator.usize(..below);
            let keys = ["a", "b", "c"];
            let mut rows: BTreeMap<&str, String> = BTreeMap::new();
            keys.iter().filter(|_| random(2) == 0).for_each(|key| {
                rows.insert(*key, "old".to_string());
            });
            let before = rows.clone();
            let (mut merge, mut updates, mut script) = (Merge::default(), Vec::new(), Vec::new());
            for step in 0..1 + random(6) {
                let (key, to, value) = (keys[random(3)], keys[random(3)], format!("v{step}"));
                match (rows.remove(key), random(3)) {
                    (Some(_), 0) => {
                        script.push(format!("-{key}"));
                        merge.delete(key.to_string());
                    }
                    (Some(old), _) if to == key || !rows.contains_key(to) => {
                        script.push(format!("{key}>{to}={value}"));
                        updates.push((row(key, &old), row(to, &value)));
                        rows.insert(to, value);
                    }
                    (Some(old), _) => {
                        rows.insert(key, old);
                    }
                    (None, _) => {
                        script.push(format!("+{key}={value}"));
                        merge.insert(row(key, &value));
                        rows.insert(key, value);
                    }
                }
            }
            updates.into_iter().for_each(|(before, after)| merge.update(before, after));
            let mut merged: BTreeMap<String, String> =
                before.iter().map(|(key, value)| (key.to_string(), value.clone())).collect();
            for change in merge.changes() {
                match change {
                    Change::Put(key, value) => merged.insert(key, value.unwrap()),
                    Change::Delete(key) => merged.remove(&key),
                    Change::Patch(..) | Change::Reset | Change::ResetOf(_) => unreachable!(),
                };
            }
            for key in keys {
                let comes = |how: &str| script.iter().any(|change: &String| change.contains(how));
                if comes(&format!("+{key}=")) && comes(&format!(">{key}=")) {
                    let moved = |from: &&str| comes(&format!("{from}>{key}="));
                    if keys.iter().filter(|from| **from != key).any(moved) {
                        continue;
                    }
                }
                if before.contains_key(key) || rows.contains_key(key) {
                    let what = format!("PLANETSCALE_SEED={seed}: {before:?} {script:?}, key {key}");
                    assert_eq!(merged.get(key), rows.get(key), "{what}");
                }
            }
        }
    }
}
