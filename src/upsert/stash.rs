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
        Stash { times: BTreeMap::new(), weigh, bytes: 0, bytes_max, spill }
    }

    /// Adds a command at a time. Returns how many earlier ones are known, by now, to be superseded.
    pub fn push(&mut self, time: T, command: Pending<K, V, O>) -> u64 {
        let bytes = self.weight(&command);
        let pile = self.times.entry(time).or_default();
        pile.commands.push(command);
        pile.bytes += bytes;
        self.bytes += bytes;
        if pile.commands.len() < pile.fold_at {
            return 0;
        }
        let (before, superseded) = (pile.bytes, pile.fold(self.weigh));
        pile.fold_at = FOLD_MIN.max(pile.commands.len() * 2);
        self.bytes -= before - pile.bytes;
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
        shed
    }

    /// Drops all that is pending, in memory and spilled.
    pub fn clear(&mut self) {
        self.bytes = 0;
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
        let superseded = pile.fold(self.weigh);
        let Pile { commands, runs, reset, .. } = pile;
        Some((time, Sealed { commands, runs, reset }, superseded))
    }

    /// Returns the least time with a command.
    pub fn first_time(&self) -> Option<&T> {
        self.times.first_key_value().map(|(time, _)| time)
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
            superseded += pile.fold(weigh);
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
