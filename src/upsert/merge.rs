//! Owns how the commands of one time come together from memory and from runs: in order of hash, those of each key
//! that take effect. It does not own which time's turn it is.
//!
//! Of the runs only hashes are compared, which they know without reading a row. And what has no effect goes after each
//! run that is read. So no more rows are in memory than those of one hash that take effect and those that one run has of
//! it, however many runs there are and however large rows are.

use std::collections::VecDeque;

use serde::de::DeserializeOwned;

use super::pending::Pending;
use super::pins::Pins;
use super::resets::{self, Resets};
use super::rows::Kept;
use super::run::{Record, Run};
use super::spill::SpillError;

/// The commands of one time.
pub struct Merge<K, V, O, T> {
    /// The time.
    pub time: T,
    /// What was in memory, pruned and sorted.
    pub memory: std::iter::Peekable<std::vec::IntoIter<Pending<K, V, O>>>,
    /// Runs; only those at this time take part.
    pub runs: Vec<Run<T>>,
    /// The commands of one hash, pruned and sorted.
    pub group: VecDeque<Pending<K, V, O>>,
    /// The bytes of their keys and values.
    group_bytes: usize,
}

/// The commands of one hash, while they are read; pruned and sorted up to `pruned`.
struct Group<K, V, O> {
    commands: Vec<Pending<K, V, O>>,
    pruned: usize,
    superseded: u64,
}

impl<K, V, O> Default for Group<K, V, O> {
    fn default() -> Self {
        Group { commands: Vec::new(), pruned: 0, superseded: 0 }
    }
}

impl<K: Ord, V: Ord, O: Ord> Group<K, V, O> {
    fn prune(&mut self) {
        let came = self.commands.len();
        if came == self.pruned {
            return;
        }
        // Two sorted sequences, one after the other.
        self.commands.sort_by(Pending::compare);
        self.commands.dedup_by(|next, kept| kept.supersedes(next));
        self.pruned = self.commands.len();
        self.superseded += (came - self.pruned) as u64;
    }
}

impl<K, V, O, T> Merge<K, V, O, T>
where
    K: Kept<V> + Ord + DeserializeOwned,
    V: Ord + DeserializeOwned,
    O: Ord + DeserializeOwned,
    T: Ord + DeserializeOwned,
{
    /// Merges commands in memory, pruned and sorted, with those at their time in runs.
    pub fn new(time: T, memory: Vec<Pending<K, V, O>>, runs: Vec<Run<T>>) -> Self {
        Merge {
            time,
            memory: memory.into_iter().peekable(),
            runs,
            group: VecDeque::new(),
            group_bytes: 0,
        }
    }

    /// Takes the time's resets out of the runs, and adds them to others. Call it before the first command.
    ///
    /// # Errors
    ///
    /// What the spill reports.
    pub fn resets(&mut self, all: &mut Option<Box<Resets<O>>>) -> Result<(), SpillError> {
        for run in &mut self.runs {
            while run.time() == Some(&self.time) && run.hash().is_none() {
                if let Some(Record::Reset(collection, order)) = run.take::<K, V, O>()? {
                    resets::add(all, collection, order);
                }
            }
        }
        Ok(())
    }

    /// Returns the next command, and how many others were found superseded; none at the end. What was in memory leaves
    /// the count of `pins`.
    ///
    /// # Errors
    ///
    /// What the spill reports.
    pub fn next(&mut self, pins: &mut Pins) -> Result<Option<(Pending<K, V, O>, u64)>, SpillError> {
        if self.runs.is_empty() {
            return Ok(self.memory.next().map(|command| {
                command.release(pins);
                (command, 0)
            }));
        }
        let mut superseded = 0;
        if self.group.is_empty() {
            superseded = self.gather(pins)?;
        }
        Ok(self.pop().map(|command| (command, superseded)))
    }

    /// Returns the next command if it is of the same key as `command`, which came right before it.
    pub fn next_of(
        &mut self,
        command: &Pending<K, V, O>,
        pins: &mut Pins,
    ) -> Option<Pending<K, V, O>> {
        if !self.runs.is_empty() {
            let is_next = self.group.front().is_some_and(|next| command.same_key(next));
            return if is_next { self.pop() } else { None };
        }
        let next = self.memory.next_if(|next| command.same_key(next))?;
        next.release(pins);
        Some(next)
    }

    fn pop(&mut self) -> Option<Pending<K, V, O>> {
        let command = self.group.pop_front()?;
        self.group_bytes -= command.heap_bytes();
        Some(command)
    }

    /// Brings the commands of the least hash together.
    fn gather(&mut self, pins: &mut Pins) -> Result<u64, SpillError> {
        let time = &self.time;
        let of_run = |run: &Run<T>| run.hash().filter(|_| run.time() == Some(time));
        let in_runs = self.runs.iter().filter_map(of_run).min();
        let in_memory = self.memory.peek().map(|command| command.hash);
        let Some(hash) = in_runs.into_iter().chain(in_memory).min() else { return Ok(0) };
        let mut group = Group::default();
        while let Some(command) = self.memory.next_if(|command| command.hash == hash) {
            command.release(pins);
            group.commands.push(command);
        }
        for run in &mut self.runs {
            while run.time() == Some(&self.time) && run.hash() == Some(hash) {
                if let Some(Record::Command(command)) = run.take()? {
                    group.commands.push(command);
                }
            }
            group.prune();
        }
        self.group_bytes = group.commands.iter().map(Pending::heap_bytes).sum();
        self.group = group.commands.into();
        Ok(group.superseded)
    }

    /// Returns the bytes of the runs in memory, and of what was read out of them and not taken.
    pub fn held_bytes(&self) -> usize {
        self.runs.iter().map(Run::heap_bytes).sum::<usize>() + self.group_bytes
    }
}
