//! Owns the feed of a run and its oracle: what the collection is at every time, folded from
//! scratch out of the definition of a command. It shares no code with the crate.

use std::collections::BTreeMap;

use differential_upsert::Command;

use crate::random::Random;

/// A command and its time. Keys and values are below 128, so that one byte encodes each and the
/// order of bytes is the order of numbers.
pub type Row = (Command<u64, u64, u64>, u64);

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
        let resets = random.one_in(3);
        let mut rows = Vec::new();
        let mut time = random.below(3);
        for _ in 0..times {
            // Some times are large, so that a batch is several parts.
            let count = if random.one_in(6) { 20 + random.below(40) } else { random.below(6) };
            for _ in 0..count {
                let (key, order) = (random.below(keys), random.below(4));
                let command = match random.below(12) {
                    0 if resets => Command::reset(order),
                    0..4 => Command::delete(key, order),
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
}

/// The contents after the commands of one time: per key the greatest order wins, at equal orders a
/// put beats a delete and the greater value the lesser; a reset deletes every key at its order.
fn after(before: Contents, commands: &[&Command<u64, u64, u64>]) -> Contents {
    let reset = commands.iter().filter(|c| c.key().is_none()).map(|c| *c.order()).max();
    let mut keys: Vec<u64> = commands.iter().filter_map(|c| c.key().copied()).collect();
    keys.extend(before.keys());
    keys.sort_unstable();
    keys.dedup();
    let mut contents = before;
    for key in keys {
        let own = commands.iter().filter(|c| c.key() == Some(&key)).map(|c| match c {
            Command::Put { value, order, .. } => (*order, Some(*value)),
            Command::Delete { order, .. } | Command::Reset { order } => (*order, None),
        });
        match own.chain(reset.map(|order| (order, None))).max() {
            Some((_, Some(value))) => drop(contents.insert(key, value)),
            Some((_, None)) => drop(contents.remove(&key)),
            None => {}
        }
    }
    contents
}
