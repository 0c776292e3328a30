//! Owns how the commands of one time come together from memory and from runs: in order of hash, the latest of each
//! key. It does not own which time's turn it is.
//!
//! Of the runs only hashes are compared, which they know without reading a row. So no more rows are in memory
//! than those of one hash, however many runs there are and however large rows are.

use std::collections::VecDeque;

use serde::de::DeserializeOwned;

use super::pending::Pending;
use super::pins::Pins;
use super::rows::Kept;
use super::run::{Record, Run};
use super::spill::SpillError;

/// The commands of one time.
pub struct Merge<K, V, O, T> {
    /// The time.
    pub time: T,
    /// The latest command per key of what was in memory, sorted.
    pub memory: std::iter::Peekable<std::vec::IntoIter<Pending<K, V, O>>>,
    /// Runs; only those at this time take part.
    pub runs: Vec<Run<T>>,
    /// The commands of one hash, out of the runs.
    pub group: VecDeque<Pending<K, V, O>>,
}

impl<K, V, O, T> Merge<K, V, O, T>
where
    K: Kept<V> + Ord + DeserializeOwned,
    V: Ord + DeserializeOwned,
    O: Ord + DeserializeOwned,
    T: Ord + DeserializeOwned,
{
    /// Merges commands in memory, folded, with those at their time in runs.
    pub fn new(time: T, memory: Vec<Pending<K, V, O>>, runs: Vec<Run<T>>) -> Self {
        Merge { time, memory: memory.into_iter().peekable(), runs, group: VecDeque::new() }
    }

    /// Takes the greatest order of the time's resets out of the runs. Call it before the first command.
    ///
    /// # Errors
    ///
    /// What the spill reports.
    pub fn reset(&mut self) -> Result<Option<O>, SpillError> {
        let mut greatest = None;
        for run in &mut self.runs {
            while run.time() == Some(&self.time) && run.hash().is_none() {
                if let Some(Record::Reset(order)) = run.take::<K, V, O>()? {
                    greatest = greatest.max(Some(order));
                }
            }
        }
        Ok(greatest)
    }

    /// Returns the next key's latest command, and how many others were found superseded; none at the end. What was in
    /// memory leaves the count of `pins`.
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
        Ok(self.group.pop_front().map(|command| (command, superseded)))
    }

    /// Brings the commands of the least hash together.
    fn gather(&mut self, pins: &mut Pins) -> Result<u64, SpillError> {
        let time = &self.time;
        let of_run = |run: &Run<T>| run.hash().filter(|_| run.time() == Some(time));
        let in_runs = self.runs.iter().filter_map(of_run).min();
        let in_memory = self.memory.peek().map(|command| command.hash);
        let Some(hash) = in_runs.into_iter().chain(in_memory).min() else { return Ok(0) };
        let mut superseded = 0;
        while let Some(command) = self.memory.next_if(|command| command.hash == hash) {
            command.release(pins);
            superseded += add(&mut self.group, command);
        }
        for run in &mut self.runs {
            while run.time() == Some(&self.time) && run.hash() == Some(hash) {
                if let Some(Record::Command(command)) = run.take()? {
                    superseded += add(&mut self.group, command);
                }
            }
        }
        Ok(superseded)
    }

    /// Returns the bytes of the runs in memory.
    pub fn run_bytes(&self) -> usize {
        self.runs.iter().map(Run::heap_bytes).sum()
    }
}

/// Adds a command to those of its hash, which are in order of key; of two of one key the one that takes effect stays.
/// Returns how many went.
fn add<K: Ord, V: Ord, O: Ord>(
    group: &mut VecDeque<Pending<K, V, O>>,
    command: Pending<K, V, O>,
) -> u64 {
    match group.binary_search_by(|kept| kept.key.cmp(&command.key)) {
        Err(at) => {
            group.insert(at, command);
            0
        }
        Ok(at) => {
            if command.compare(&group[at]).is_lt() {
                group[at] = command;
            }
            1
        }
    }
}
