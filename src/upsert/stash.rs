//! Owns the stash: commands received and not yet drained, indexed by time. It does not own what a
//! command does, nor when it is eligible.
//!
//! The index by time is what keeps a wake-up O(eligible + new): K pending times cost nothing until
//! their turn. Within a time, commands pile up unsorted and are folded to the latest per key each
//! time their number doubles, so memory follows distinct keys and folding is O(n log n) in all.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::spill::{Run, SharedSpill, SpillError};

/// A put or a delete of one key, with the key's hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending<K, V, O> {
    /// The key's hash, computed once.
    pub hash: u64,
    /// The key.
    pub key: K,
    /// The new value, or `None` for a delete.
    pub value: Option<V>,
    /// The order among the commands of one key and time.
    pub order: O,
}

impl<K: Ord, V: Ord, O: Ord> Pending<K, V, O> {
    /// Sorts by hash and key, and the command that takes effect first.
    fn compare(&self, other: &Self) -> Ordering {
        (self.hash.cmp(&other.hash))
            .then_with(|| self.key.cmp(&other.key))
            .then_with(|| other.order.cmp(&self.order))
            // `None`, a delete, is the least.
            .then_with(|| other.value.cmp(&self.value))
    }

    fn same_key(&self, other: &Self) -> bool {
        self.hash == other.hash && self.key == other.key
    }
}

/// Commands by time, bounded in bytes: past the bound, whole folded runs go to a [`Spill`].
pub struct Stash<K, V, O, T> {
    times: BTreeMap<T, Pile<K, V, O>>,
    weigh: fn(&K, Option<&V>) -> usize,
    /// Commands, in memory and spilled.
    rows: u64,
    bytes: usize,
    bytes_max: usize,
    spill: Option<SharedSpill>,
}

struct Pile<K, V, O> {
    commands: Vec<Pending<K, V, O>>,
    /// Folding waits until there are this many.
    fold_at: usize,
    bytes: usize,
    runs: Vec<Run>,
    reset: Option<O>,
}

impl<K, V, O> Default for Pile<K, V, O> {
    fn default() -> Self {
        Pile { commands: Vec::new(), fold_at: FOLD_MIN, bytes: 0, runs: Vec::new(), reset: None }
    }
}

const FOLD_MIN: usize = 1 << 14;

/// Everything that the stash had for one time.
pub struct Sealed<K, V, O> {
    /// The latest command per key and run, sorted by hash and key.
    pub commands: Vec<Pending<K, V, O>>,
    /// Runs that were spilled, each sorted in the same way.
    pub runs: Vec<Run>,
    /// The greatest order of a reset.
    pub reset: Option<O>,
}

impl<K, V, O, T> std::fmt::Debug for Stash<K, V, O, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stash")
            .field("times", &self.times.len())
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl<K, V, O, T> Stash<K, V, O, T>
where
    K: Ord + serde::Serialize,
    V: Ord + serde::Serialize,
    O: Ord + serde::Serialize,
    T: Ord,
{
    /// Returns an empty stash. `weigh` says how many bytes a key and value take beyond the row
    /// itself. Without a spill the bound is not kept, only reported.
    pub fn new(
        weigh: fn(&K, Option<&V>) -> usize,
        bytes_max: usize,
        spill: Option<SharedSpill>,
    ) -> Self {
        Stash { times: BTreeMap::new(), weigh, rows: 0, bytes: 0, bytes_max, spill }
    }

    /// Adds a command at a time. Returns how many earlier ones are known, by now, to be superseded.
    pub fn push(&mut self, time: T, command: Pending<K, V, O>) -> u64 {
        let bytes = self.weight(&command);
        let pile = self.times.entry(time).or_default();
        pile.commands.push(command);
        pile.bytes += bytes;
        self.bytes += bytes;
        self.rows += 1;
        if pile.commands.len() < pile.fold_at {
            return 0;
        }
        let (before, superseded) = (pile.bytes, pile.fold(self.weigh));
        pile.fold_at = FOLD_MIN.max(pile.commands.len() * 2);
        self.bytes -= before - pile.bytes;
        self.rows -= superseded;
        superseded
    }

    /// Adds a reset at a time.
    pub fn reset(&mut self, time: T, order: O) {
        let pile = self.times.entry(time).or_default();
        if pile.reset.as_ref().is_none_or(|reset| *reset < order) {
            pile.reset = Some(order);
        }
    }

    /// Drops all that lies below `bound`, and returns how many commands that was. The caller knows
    /// that these times are persisted, so nothing is lost.
    pub fn shed(&mut self, bound: &T) -> u64 {
        let mut shed = 0;
        while let Some(entry) = self.times.first_entry() {
            if entry.key() >= bound {
                break;
            }
            let pile = entry.remove();
            self.bytes -= pile.bytes;
            shed += pile.commands.len() as u64 + self.release(pile.runs);
        }
        self.rows -= shed;
        shed
    }

    /// Drops all that is pending, in memory and spilled.
    pub fn clear(&mut self) {
        (self.rows, self.bytes) = (0, 0);
        for pile in std::mem::take(&mut self.times).into_values() {
            self.release(pile.runs);
        }
    }

    /// Forgets spilled runs and returns how many commands they held.
    pub fn release(&mut self, runs: Vec<Run>) -> u64 {
        let mut released = 0;
        for run in runs {
            released += run.commands;
            if let Some(spill) = &self.spill {
                spill.borrow_mut().forget(run);
            }
        }
        released
    }

    /// Takes out the least time, folded. Returns also how many commands were superseded.
    pub fn seal(&mut self) -> Option<(T, Sealed<K, V, O>, u64)> {
        let (time, mut pile) = self.times.pop_first()?;
        self.bytes -= pile.bytes;
        self.rows -= pile.rows();
        let superseded = pile.fold(self.weigh);
        let Pile { commands, runs, reset, .. } = pile;
        Some((time, Sealed { commands, runs, reset }, superseded))
    }

    /// Returns the least time with a command.
    pub fn first_time(&self) -> Option<&T> {
        self.times.first_key_value().map(|(time, _)| time)
    }

    /// Returns the commands, in memory and spilled.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Returns the bytes in memory.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the spill, to read runs back from.
    pub fn spill(&self) -> Option<&SharedSpill> {
        self.spill.as_ref()
    }

    /// Spills the greatest times, which are needed last, if the bound does not hold. Returns how many
    /// commands were found superseded on the way, and how many times were looked at.
    ///
    /// It goes on down to half of the bound, so that the next time is half a bound of commands away:
    /// runs are few and large, and walking over the times costs nothing in comparison.
    ///
    /// # Errors
    ///
    /// What the spill reports. The commands stay in memory, and nothing is lost.
    pub fn spill_over(&mut self) -> Result<(u64, u64), SpillError> {
        let (mut superseded, mut looked_at, weigh) = (0, 0, self.weigh);
        let Some(spill) = self.spill.as_ref().filter(|_| self.bytes > self.bytes_max) else {
            return Ok((0, 0));
        };
        for pile in self.times.values_mut().rev() {
            if self.bytes <= self.bytes_max / 2 {
                break;
            }
            looked_at += 1;
            let before = pile.bytes;
            let folded = pile.fold(weigh);
            superseded += folded;
            self.rows -= folded;
            self.bytes -= before - pile.bytes;
            if !pile.commands.is_empty() {
                pile.runs.push(Run::write(&mut *spill.borrow_mut(), &pile.commands)?);
                pile.commands = Vec::new();
                self.bytes -= std::mem::take(&mut pile.bytes);
                pile.fold_at = FOLD_MIN;
            }
        }
        Ok((superseded, looked_at))
    }

    fn weight(&self, command: &Pending<K, V, O>) -> usize {
        weight(self.weigh, command)
    }
}

fn weight<K, V, O>(weigh: fn(&K, Option<&V>) -> usize, command: &Pending<K, V, O>) -> usize {
    size_of::<Pending<K, V, O>>() + weigh(&command.key, command.value.as_ref())
}

impl<K: Ord, V: Ord, O: Ord> Pile<K, V, O> {
    fn rows(&self) -> u64 {
        self.commands.len() as u64 + self.runs.iter().map(|run| run.commands).sum::<u64>()
    }

    /// Keeps the latest command per key, sorted by hash and key; returns how many went.
    fn fold(&mut self, weigh: fn(&K, Option<&V>) -> usize) -> u64 {
        let before = self.commands.len();
        self.commands.sort_unstable_by(Pending::compare);
        let mut freed = 0;
        self.commands.dedup_by(|later, kept| {
            let superseded = later.same_key(kept);
            if superseded {
                freed += weight(weigh, later);
            }
            superseded
        });
        self.bytes -= freed;
        (before - self.commands.len()) as u64
    }
}

/// Merges sorted runs into one that has the latest command per key. Counts the others.
pub fn merge<K: Ord, V: Ord, O: Ord, I>(
    runs: Vec<I>,
) -> impl Iterator<Item = (Result<Pending<K, V, O>, SpillError>, u64)>
where
    I: Iterator<Item = Result<Pending<K, V, O>, SpillError>>,
{
    let before = |a: &Result<Pending<K, V, O>, SpillError>, b: &Result<_, _>| match (a, b) {
        (Ok(a), Ok(b)) => a.compare(b) == Ordering::Less,
        // An unreadable run comes out first, so that it is reported before anything past it.
        (Err(_), _) => true,
        (_, Err(_)) => false,
    };
    let mut merged = itertools::kmerge_by(runs, before).peekable();
    std::iter::from_fn(move || {
        let first = merged.next()?;
        let mut superseded = 0;
        if let Ok(kept) = &first {
            while merged.next_if(|next| next.as_ref().is_ok_and(|n| n.same_key(kept))).is_some() {
                superseded += 1;
            }
        }
        Some((first, superseded))
    })
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;
    use crate::upsert::spill::SpillFile;

    type Small = Stash<u32, u32, u8, u64>;

    fn stash(bytes_max: usize) -> Small {
        let spill: SharedSpill = Rc::new(RefCell::new(SpillFile::default()));
        Stash::new(|_, _| 0, bytes_max, Some(spill))
    }

    fn pending(key: u32, value: Option<u32>, order: u8) -> Pending<u32, u32, u8> {
        // Keys 1 and 11 have the same hash.
        Pending { hash: u64::from(key % 10), key, value, order }
    }

    fn plain(commands: &[Pending<u32, u32, u8>]) -> Vec<(u32, Option<u32>)> {
        commands.iter().map(|command| (command.key, command.value)).collect()
    }

    #[test]
    fn seals_the_least_time_with_the_latest_per_key() {
        let mut stash = stash(usize::MAX);
        stash.push(7, pending(1, Some(1), 0));
        for (key, value, order) in [(1, Some(5), 1), (11, Some(6), 0), (1, None, 2), (2, None, 0)] {
            stash.push(3, pending(key, value, order));
        }
        stash.reset(3, 4);
        stash.reset(3, 2);
        let (time, sealed, superseded) = stash.seal().unwrap();
        assert_eq!((time, superseded, sealed.reset), (3, 1, Some(4)));
        assert_eq!(plain(&sealed.commands), [(1, None), (11, Some(6)), (2, None)]);
        assert_eq!(stash.first_time(), Some(&7));
        stash.seal().unwrap();
        assert_eq!((stash.seal().is_none(), stash.bytes()), (true, 0));
    }

    #[test]
    fn equal_orders_go_to_the_greater_value() {
        let mut stash = stash(usize::MAX);
        for value in [None, Some(2), Some(9), Some(3), None] {
            stash.push(0, pending(1, value, 1));
        }
        assert_eq!(plain(&stash.seal().unwrap().1.commands), [(1, Some(9))]);
    }

    /// A key that is written for ever takes no more room than once.
    #[test]
    fn memory_follows_distinct_keys() {
        let mut stash = stash(usize::MAX);
        let mut superseded = 0;
        for i in 0..FOLD_MIN as u32 * 20 {
            superseded += stash.push(0, pending(i % 10, Some(i), 0));
            assert!(stash.bytes() <= FOLD_MIN * size_of::<Pending<u32, u32, u8>>());
        }
        let (_, sealed, rest) = stash.seal().unwrap();
        assert_eq!((sealed.commands.len() as u64 + superseded + rest), FOLD_MIN as u64 * 20);
        assert_eq!(sealed.commands.len(), 10);
    }

    #[test]
    fn sheds_below_a_bound_and_nothing_else() {
        let mut stash = stash(0);
        for time in 0..5 {
            stash.push(time, pending(1, Some(1), 0));
            stash.push(time, pending(2, Some(1), 0));
            if time == 1 {
                // These are on disk, the later ones in memory.
                stash.spill_over().unwrap();
            }
        }
        stash.reset(0, 1);
        assert_eq!(stash.shed(&3), 6);
        assert_eq!(stash.shed(&3), 0);
        assert_eq!(stash.first_time(), Some(&3));
        stash.clear();
        assert_eq!((stash.first_time(), stash.bytes()), (None, 0));
    }

    #[test]
    fn spills_the_greatest_times_down_to_half_of_the_bound() {
        let row = size_of::<Pending<u32, u32, u8>>();
        let mut stash = stash(10 * row);
        for time in 0..10 {
            stash.push(time, pending(1, Some(1), 0));
        }
        assert_eq!(stash.spill_over(), Ok((0, 0)), "the bound holds");
        stash.push(10, pending(1, Some(1), 0));
        assert_eq!(stash.spill_over(), Ok((0, 6)));
        assert_eq!(stash.bytes(), 5 * row);
        for time in 0..11 {
            let (_, sealed, _) = stash.seal().unwrap();
            assert_eq!(
                (sealed.commands.len(), sealed.runs.len()),
                if time < 5 { (1, 0) } else { (0, 1) }
            );
        }
    }

    #[test]
    fn merging_runs_keeps_the_latest_and_reports_what_is_unreadable_first() {
        let run = |commands: &[(u32, u8)]| -> std::vec::IntoIter<Result<_, SpillError>> {
            let all = commands.iter().map(|(key, order)| Ok(pending(*key, Some(7), *order)));
            all.collect::<Vec<_>>().into_iter()
        };
        let merged = merge(vec![run(&[(1, 3), (2, 1)]), run(&[(1, 5), (2, 0)]), run(&[(1, 4)])]);
        let merged: Vec<_> = merged.map(|(kept, gone)| (kept.unwrap(), gone)).collect();
        assert_eq!(merged, [(pending(1, Some(7), 5), 2), (pending(2, Some(7), 1), 1)]);

        let broken = vec![Ok(pending(1, None, 0)), Err(SpillError("torn".into()))].into_iter();
        let mut merged = merge(vec![run(&[(1, 3), (2, 1)]), broken]);
        assert_eq!(merged.next(), Some((Ok(pending(1, Some(7), 3)), 1)));
        assert_eq!(merged.next().unwrap().0, Err(SpillError("torn".into())));
    }
}
