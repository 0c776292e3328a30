//! Owns the feed of a run and its oracle: what the collection is at every time, folded from
//! scratch out of the definition of a command. It shares no code with the crate.

use std::collections::{BTreeMap, BTreeSet};

use differential_upsert::{Command, DataError, Encoded};

use crate::random::Random;

/// A command and its time. Keys and values are below 128, so that one byte encodes each and the
/// order of bytes is the order of numbers.
pub type Row = (Command<u64, u64, u64>, u64);

/// What a key has whose patch found no value: an error, which no value is.
pub const NO_VALUE: u64 = 200;

/// How a shard stores that: 1 tags an error.
pub const NO_VALUE_STORED: &[u8] = b"\x01a patch of a key that has no value";

/// Returns what a shard has stored for a value: one byte behind the tag 0, or the error above.
pub fn stored(bytes: &Encoded) -> u64 {
    match bytes.as_bytes() {
        [0, number] => u64::from(*number),
        NO_VALUE_STORED => NO_VALUE,
        other => panic!("not a value: {other:?}"),
    }
}

/// Names the fold below.
pub const FOLD: &str = "feed-1";

/// What a patch makes of a value: another one for each order of patches.
pub fn fold(value: u64, patch: u64) -> Result<u64, DataError> {
    Ok((3 * value + patch + 1) % 128)
}

/// Names the function below.
pub const COLLECTIONS: &str = "third-1";

/// Which collection a key is of.
pub fn collection(key: &u64) -> &'static str {
    ["a", "b", "c"][(*key % 3) as usize]
}

/// What a key has, by key.
pub type Contents = BTreeMap<u64, u64>;

/// A definite feed: every replica gets the same rows at the same times.
#[derive(Clone, Debug)]
pub struct Feed {
    /// By time.
    pub rows: Vec<Row>,
    /// The first time that never comes: the last row's and one.
    pub end: u64,
    /// The contents at each time below the end.
    history: Vec<Contents>,
}

impl Feed {
    /// Makes a feed of the rows, in the order given within a time.
    pub fn new(mut rows: Vec<Row>) -> Feed {
        rows.sort_by_key(|(_, time)| *time);
        let end = rows.last().map_or(0, |(_, time)| time + 1);
        let mut history: Vec<Contents> = Vec::new();
        for time in 0..end {
            let before = history.last().cloned().unwrap_or_default();
            let now = rows.iter().filter(|row| row.1 == time).map(|row| &row.0);
            history.push(after(before, &now.collect::<Vec<_>>()));
        }
        Feed { rows, end, history }
    }

    /// Closes times past the last row.
    pub fn extend_to(&mut self, end: u64) {
        let last = self.history.last().cloned().unwrap_or_default();
        self.history.resize(end as usize, last);
        self.end = end;
    }

    /// Few keys, few values, few orders: ties, rewrites and deletes of nothing all happen.
    pub fn random(random: &Random) -> Feed {
        let times = 2 + random.below(12);
        let keys = 1 + random.below(8);
        let (resets, patches) = (random.one_in(3), random.one_in(2));
        let mut rows = Vec::new();
        let mut time = random.below(3);
        for _ in 0..times {
            // Some times are large, so that a batch is several parts.
            let count = if random.one_in(6) { 20 + random.below(40) } else { random.below(6) };
            for _ in 0..count {
                let (key, order) = (random.below(keys), random.below(4));
                let command = match random.below(12) {
                    0 if resets => Command::reset(order),
                    1 | 2 if resets => Command::reset_of(collection(&key).to_string(), order),
                    0..4 => Command::delete(key, order),
                    4 | 5 if patches => Command::patch(key, random.below(4), order),
                    _ => Command::put(key, random.below(4), order),
                };
                rows.push((command, time));
            }
            time += 1 + random.pick(&[0, 0, 0, 1, 5]);
        }
        rows.push((Command::put(random.below(keys), random.below(100), 9), time));
        Feed::new(rows)
    }

    /// The contents as of a time below the end.
    pub fn at(&self, time: u64) -> &Contents {
        &self.history[time as usize]
    }

    /// The contents just before a time: all of it, below that.
    pub fn before(&self, time: u64) -> Contents {
        time.checked_sub(1).map(|time| self.at(time).clone()).unwrap_or_default()
    }

    /// Those of them that are no errors.
    pub fn values_before(&self, time: u64) -> Contents {
        let mut contents = self.before(time);
        contents.retain(|_, value| *value != NO_VALUE);
        contents
    }
}

/// What a command does to a key, in ascending order of effect.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Effect {
    Gone,
    Put(u64),
    Patch(u64),
}

/// The contents after the commands of one time: each key's by order, at equal orders deletes, puts and patches by
/// value; a reset deletes every key, or those of its collection, at its order.
fn after(before: Contents, commands: &[&Command<u64, u64, u64>]) -> Contents {
    let mut keys: BTreeSet<u64> = commands.iter().filter_map(|c| c.key().copied()).collect();
    keys.extend(before.keys());
    let mut contents = before;
    for key in keys {
        let resets = commands.iter().filter(|c| match c {
            Command::Reset { .. } => true,
            Command::ResetOf { collection: name, .. } => name == collection(&key),
            _ => false,
        });
        let resets = resets.map(|c| (*c.order(), Effect::Gone));
        let own = commands.iter().filter(|c| c.key() == Some(&key)).map(|c| match c {
            Command::Put { value, order, .. } => (*order, Effect::Put(*value)),
            Command::Patch { patch, order, .. } => (*order, Effect::Patch(*patch)),
            Command::Delete { order, .. }
            | Command::Reset { order }
            | Command::ResetOf { order, .. } => (*order, Effect::Gone),
        });
        // Not a set: equal patches of one order are as many.
        let mut effects: Vec<_> = own.chain(resets).collect();
        effects.sort();
        for (_, effect) in effects {
            let value = match (effect, contents.get(&key)) {
                (Effect::Gone, _) => None,
                (Effect::Put(value), _) => Some(value),
                (Effect::Patch(_), None | Some(&NO_VALUE)) => Some(NO_VALUE),
                (Effect::Patch(patch), Some(value)) => fold(*value, patch).ok(),
            };
            match value {
                Some(value) => drop(contents.insert(key, value)),
                None => drop(contents.remove(&key)),
            }
        }
    }
    contents
}
