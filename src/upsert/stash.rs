//! Owns the stash: commands received and not yet drained, indexed by time. It does not own what a
//! command does, nor when it is eligible, nor how its bound in bytes is kept: that is [`bound`](super::bound)'s.
//!
//! The index by time is what keeps a wake-up O(eligible + new): K pending times cost nothing until
//! their turn. Within a time, commands pile up unsorted and are pruned to those that take effect each
//! time their number doubles, so memory follows distinct keys and patches, and pruning is O(n log n) in all.
//!
//! What counts as bytes is what is allocated: the commands with their spare room, the index, each buffer that a row
//! keeps, once and whole, and what has been sealed until it is drained.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::merge::Merge;
use super::pending::Pending;
use super::pile::Pile;
use super::pins::Pins;
use super::resets::Resets;
use super::rows::Kept;
use super::run::Run;
use super::spill::{SharedSpill, SpillError};
use super::spilled::Spilled;
use super::spilling::Spilling;

/// Commands by time, bounded in bytes: past the bound, they go to scratch space.
pub struct Stash<K, V, O, T> {
    pub(super) piles: BTreeMap<T, Pile<K, V, O>>,
    /// The bytes of the piles themselves.
    pub(super) heap: usize,
    pub(super) pins: Pins,
    /// The bytes of what is sealed, until it is drained; its rows are in `pins`.
    draining: Draining,
    /// What has left in this wake-up.
    left: Pins,
    /// Dead bytes that copying could not give back when it was last tried.
    pub(super) dead: usize,
    /// Commands, in memory and spilled.
    rows: u64,
    pub(super) done: Done,
    pub(super) bytes_max: usize,
    pub(super) spill: SharedSpill,
    pub(super) spilled: Spilled<K, V, O, T>,
    pub(super) spilling: Option<Spilling<K, V, O, T>>,
}

/// The bytes of what is sealed.
#[derive(Clone, Copy, Debug, Default)]
struct Draining {
    /// Of the commands in memory.
    heap: usize,
    /// Of the runs.
    runs: usize,
    /// Commands that the runs had.
    commands: u64,
}

/// What the stash has done by the way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Commands found superseded.
    pub superseded: u64,
    /// Commands and times looked at, beside those that came or went.
    pub looked_at: u64,
}

/// Everything that the stash had for one time.
pub struct Sealed<K, V, O, T> {
    /// The commands.
    pub merge: Merge<K, V, O, T>,
    /// The resets.
    pub resets: Option<Box<Resets<O>>>,
}

impl<K, V, O, T> std::fmt::Debug for Stash<K, V, O, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stash")
            .field("times", &self.piles.len())
            .field("rows", &self.rows)
            .finish_non_exhaustive()
    }
}

impl<K, V, O, T> Stash<K, V, O, T>
where
    K: Kept<V> + Ord + Serialize + DeserializeOwned,
    V: Ord + Serialize + DeserializeOwned,
    O: Ord + Serialize + DeserializeOwned,
    T: Ord + Clone + Serialize + DeserializeOwned,
{
    /// Returns an empty stash.
    pub fn new(bytes_max: usize, spill: SharedSpill) -> Self {
        Stash {
            piles: BTreeMap::new(),
            heap: 0,
            pins: Pins::default(),
            draining: Draining::default(),
            left: Pins::default(),
            dead: 0,
            rows: 0,
            done: Done::default(),
            bytes_max,
            spill,
            spilled: Spilled::default(),
            spilling: None,
        }
    }

    /// Adds a command at a time.
    pub fn push(&mut self, time: T, command: Pending<K, V, O>) {
        let Stash { heap, pins, .. } = self;
        let pile = pile_of(&mut self.piles, heap, time);
        let before = pile.heap_bytes::<T>();
        let superseded = pile.push(command, pins);
        *heap += pile.heap_bytes::<T>() - before;
        self.rows += 1;
        self.superseded(superseded);
    }

    /// Adds a reset, of a collection or of all keys, at a time.
    pub fn reset(&mut self, time: T, collection: Option<String>, order: O) {
        let pile = pile_of(&mut self.piles, &mut self.heap, time);
        self.heap -= pile.heap_bytes::<T>();
        pile.reset(collection, order);
        self.heap += pile.heap_bytes::<T>();
    }

    /// Puts commands back whose rows are counted already.
    pub(super) fn put_back(&mut self, time: T, commands: Vec<Pending<K, V, O>>) {
        if commands.is_empty() {
            return;
        }
        let pile = pile_of(&mut self.piles, &mut self.heap, time);
        self.heap -= pile.heap_bytes::<T>();
        pile.adopt(commands);
        self.heap += pile.heap_bytes::<T>();
    }

    pub(super) fn superseded(&mut self, commands: u64) {
        self.rows -= commands;
        self.done.superseded += commands;
    }

    /// Returns what was done since this was last asked.
    pub fn take_done(&mut self) -> Done {
        std::mem::take(&mut self.done)
    }

    /// Drops what lies below `bound`, about `commands_max` at the most, and returns how many commands that was.
    /// The caller knows that these times are persisted, so nothing is lost.
    ///
    /// # Errors
    ///
    /// What the spill reports.
    pub fn shed(&mut self, bound: &T, commands_max: u64) -> Result<u64, SpillError> {
        let mut shed = 0;
        if self.first_of_spilling().is_some_and(|first| first < bound) {
            self.end_spilling()?;
        }
        let mut piles = 0;
        while let Some(mut entry) = self.piles.first_entry() {
            if entry.key() >= bound || shed + piles >= commands_max {
                break;
            }
            piles += 1;
            let pile = entry.get_mut();
            let now = (commands_max - shed).min(pile.commands.len() as u64);
            pile.truncate(pile.commands.len() - now as usize, &mut self.pins);
            shed += now;
            if pile.commands.is_empty() {
                self.heap -= entry.remove().heap_bytes::<T>();
            }
        }
        if shed < commands_max {
            shed += self.spilled.shed(bound, commands_max - shed)?;
        }
        self.rows -= shed;
        Ok(shed)
    }

    /// Drops all that is pending, in memory and spilled.
    pub fn clear(&mut self) {
        (self.heap, self.draining, self.dead, self.rows) = (0, Draining::default(), 0, 0);
        self.piles.clear();
        self.pins.clear();
        self.left.clear();
        self.spilled.clear();
        self.spilling = None;
    }

    /// Begins a wake-up: what leaves from here on leaves together.
    pub fn wake(&mut self) {
        self.left.clear();
    }

    /// Takes out the least time, pruned. Its bytes count here until [`unseal`](Stash::unseal).
    ///
    /// # Errors
    ///
    /// What the spill reports.
    pub fn seal(&mut self) -> Result<Option<Sealed<K, V, O, T>>, SpillError> {
        let Some(time) = self.first_time().cloned() else { return Ok(None) };
        if self.first_of_spilling() == Some(&time) {
            self.end_spilling()?;
        }
        let mut pile = match self.piles.remove(&time) {
            Some(pile) => {
                self.heap -= pile.heap_bytes::<T>();
                pile
            }
            None => Pile::default(),
        };
        let superseded = pile.prune(&mut self.pins);
        self.superseded(superseded);
        // The receiver of the rows counts their bytes and not what they keep. What leaves with them shares it, and what is
        // still here is counted here with the whole of it.
        pile.repack(&mut self.pins, &mut self.left);
        if !crate::mutant::on("piles_judged_alone") {
            pile.commands.iter().for_each(|command| command.hold(&mut self.left));
        }
        self.rows -= pile.commands.len() as u64;
        let mut resets = pile.resets.take();
        let heap = pile.heap_bytes::<T>();
        let mut merge = Merge::new(time.clone(), pile.commands, self.spilled.take(&time)?);
        merge.resets(&mut resets)?;
        let heap = heap + resets.as_ref().map_or(0, |resets| resets.heap_bytes());
        let commands = merge.runs.iter().map(Run::commands).sum();
        self.draining = Draining { heap, runs: merge.held_bytes(), commands };
        Ok(Some(Sealed { merge, resets }))
    }

    /// Notes the bytes of the runs that are being drained, and of what the drain has taken out of them.
    pub fn drains(&mut self, bytes: usize) {
        self.draining.runs = bytes;
    }

    /// Takes back what was not drained of a time that was sealed: all of it, or what its runs have of other times.
    pub fn unseal(&mut self, merge: Merge<K, V, O, T>) {
        let Merge { time, memory, runs, .. } = merge;
        let left: u64 = runs.iter().map(Run::commands).sum();
        let commands = std::mem::take(&mut self.draining).commands;
        self.rows -= commands - left;
        let rest: Vec<_> = memory.collect();
        self.rows += rest.len() as u64;
        self.put_back(time, rest);
        runs.into_iter().for_each(|run| self.spilled.insert(run));
    }

    /// Takes back all of a time that was sealed, its resets too.
    pub fn unseal_whole(&mut self, sealed: Sealed<K, V, O, T>) {
        let Sealed { merge, resets } = sealed;
        for (collection, order) in resets.into_iter().flat_map(|resets| resets.into_orders()) {
            self.reset(merge.time.clone(), collection, order);
        }
        self.unseal(merge);
    }

    /// Returns the least time with a command or a reset.
    pub fn first_time(&self) -> Option<&T> {
        let piles = self.piles.first_key_value().map(|(time, _)| time);
        let others = self.first_of_spilling().into_iter().chain(self.spilled.first_time());
        others.chain(piles).min()
    }

    /// Returns the hashes and keys of what is in memory of the first times, as long as they are wanted by time and number of
    /// commands.
    pub fn first_commands(
        &self,
        wanted: impl Fn(&(&T, usize)) -> bool,
    ) -> impl Iterator<Item = (u64, &K)> {
        let piles = self.piles.iter();
        let piles = piles.take_while(move |(time, pile)| wanted(&(*time, pile.commands.len())));
        piles.flat_map(|(_, pile)| pile.commands.iter().map(|one| (one.hash, &one.key)))
    }

    /// Returns the commands, in memory and spilled.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Returns the bytes in memory.
    pub fn bytes(&mut self) -> usize {
        let spilling = self.spilling.as_ref().map(Spilling::heap_bytes).unwrap_or(0);
        let draining = self.draining.heap + self.draining.runs;
        self.heap + self.pins.bytes() + draining + self.spilled.bytes() + spilling
    }

    /// Returns the bytes of the scratch file.
    pub fn spill_bytes(&self) -> u64 {
        self.spill.borrow().bytes()
    }

    /// Returns what rows keep allocated, for the drain to take off what it takes.
    pub fn pins(&mut self) -> &mut Pins {
        &mut self.pins
    }
}

/// Returns the pile of a time, and makes it if there is none.
fn pile_of<'a, K, V, O, T: Ord>(
    piles: &'a mut BTreeMap<T, Pile<K, V, O>>,
    heap: &mut usize,
    time: T,
) -> &'a mut Pile<K, V, O> {
    piles.entry(time).or_insert_with(|| {
        let pile = Pile::default();
        *heap += pile.heap_bytes::<T>();
        pile
    })
}

#[cfg(test)]
#[path = "stash_tests.rs"]
mod tests;
