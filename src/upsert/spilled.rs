//! Owns the runs of a stash: which there are, which hold a time, and how they stay few. It does not own what is in
//! memory.
//!
//! A time that outgrows memory many times over leaves many runs, and so does one that is open for ever
//! and written again and again. Eight of about one size that hold the same time are merged into one, a
//! piece at a time, and what is superseded goes: so a time has at most eight runs of each size, and takes
//! about eight times what is left of it at the most. Runs are consumed as they are merged, so a merge can
//! end at any record: what is written is a run, and what is left of the others are runs.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::merge::Merge;
use super::pins::Pins;
use super::rows::Kept;
use super::run::{Run, RunWriter};
use super::spill::{SharedSpill, SpillError};

/// Runs of one size that hold a time, before they are merged, and how much larger the next size is.
const FAN: usize = 8;

/// Runs by the time of their next record.
pub struct Spilled<K, V, O, T> {
    runs: BTreeMap<(T, u64), Run<T>>,
    /// Names the next run among those of its time.
    next: u64,
    /// The bytes in memory of `runs`.
    bytes: usize,
    merging: Option<Merging<K, V, O, T>>,
}

struct Merging<K, V, O, T> {
    merge: Merge<K, V, O, T>,
    out: RunWriter<T>,
}

impl<K, V, O, T> Default for Spilled<K, V, O, T> {
    fn default() -> Self {
        Spilled { runs: BTreeMap::new(), next: 0, bytes: 0, merging: None }
    }
}

impl<K, V, O, T> Spilled<K, V, O, T> {
    /// Returns the least time of a run.
    pub fn first_time(&self) -> Option<&T>
    where
        T: Ord,
    {
        let merging = self.merging.as_ref().and_then(Merging::first_time);
        self.runs.first_key_value().map(|((time, _), _)| time).into_iter().chain(merging).min()
    }

    /// Returns the bytes in memory.
    pub fn bytes(&self) -> usize {
        let inputs = self.merging.iter().flat_map(|merging| &merging.merge.runs);
        let out = self.merging.iter().map(|merging| merging.out.heap_bytes());
        self.bytes + inputs.map(Run::heap_bytes).chain(out).sum::<usize>()
    }

    /// Returns how many runs there are.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.runs.len()
    }
}

impl<K, V, O, T: Ord> Merging<K, V, O, T> {
    fn first_time(&self) -> Option<&T> {
        let inputs = self.merge.runs.iter().filter_map(Run::time);
        inputs.chain(self.out.first()).min()
    }
}

impl<K, V, O, T> Spilled<K, V, O, T>
where
    K: Kept<V> + Ord + Serialize + DeserializeOwned,
    V: Ord + Serialize + DeserializeOwned,
    O: Ord + Serialize + DeserializeOwned,
    T: Ord + Clone + Serialize + DeserializeOwned,
{
    /// Adds a run; one at its end is dropped.
    pub fn insert(&mut self, run: Run<T>) {
        if let Some(time) = run.time() {
            self.bytes += run.heap_bytes();
            self.runs.insert((time.clone(), self.next), run);
            self.next += 1;
        }
    }

    /// Takes out the runs whose next record is of this time. No other run has one.
    ///
    /// # Errors
    ///
    /// What the spill reports.
    pub fn take(&mut self, time: &T) -> Result<Vec<Run<T>>, SpillError> {
        if self.merging.as_ref().and_then(Merging::first_time).is_some_and(|first| first <= time)
            && let Some(run) = self.end_merge()?
        {
            self.insert(run);
        }
        let mut taken = Vec::new();
        while let Some(entry) = self.runs.first_entry() {
            if entry.key().0 > *time {
                break;
            }
            let run = entry.remove();
            self.bytes -= run.heap_bytes();
            taken.push(run);
        }
        Ok(taken)
    }

    /// Drops records below a bound, about so many. Returns how many commands that was.
    ///
    /// # Errors
    ///
    /// What the spill reports.
    pub fn shed(&mut self, bound: &T, records_max: u64) -> Result<u64, SpillError> {
        let (mut shed, mut records) = (0, 0);
        while records < records_max {
            let Some(first) = self.first_time().filter(|first| *first < bound).cloned() else {
                break;
            };
            for mut run in self.take(&first)? {
                if run.last() < bound {
                    shed += run.commands();
                    records += 1;
                    continue;
                }
                while records < records_max && run.time().is_some_and(|time| time < bound) {
                    shed += run.skip()?;
                    records += 1;
                }
                self.insert(run);
            }
        }
        Ok(shed)
    }

    /// Adds a run that was just written, and starts to merge if it is one too many of its size and time.
    pub fn add(&mut self, run: Run<T>, spill: &SharedSpill) {
        let (added, size) = (run.time().cloned(), size(&run));
        self.insert(run);
        let Some(added) = added.filter(|_| self.merging.is_none()) else { return };
        let holds = |(key, run): (&(T, u64), &Run<T>)| {
            (self::size(run) == size && added <= *run.last()).then(|| key.clone())
        };
        let held: Vec<_> =
            self.runs.range(..=(added.clone(), u64::MAX)).filter_map(holds).collect();
        if held.len() < FAN {
            return;
        }
        let mut inputs = Vec::new();
        for key in held {
            if let Some(run) = self.runs.remove(&key) {
                self.bytes -= run.heap_bytes();
                inputs.push(run);
            }
        }
        let Some(first) = inputs.iter().filter_map(Run::time).min().cloned() else { return };
        let merge = Merge::new(first, Vec::new(), inputs);
        self.merging = Some(Merging { merge, out: RunWriter::new(spill) });
    }

    /// Merges a piece of so many bytes, if there is something to merge. Returns how many commands were found
    /// superseded, how many are left, and whether there is more to do.
    ///
    /// # Errors
    ///
    /// What the spill reports.
    pub fn merge(&mut self, spill: &SharedSpill, bytes_max: usize) -> Result<Merged, SpillError> {
        let mut merged = Merged::default();
        let Some(Merging { merge, out }) = &mut self.merging else { return Ok(merged) };
        let mut bytes = 0;
        while bytes < bytes_max {
            if out.first().is_none() || merge.group.is_empty() {
                let mut resets = None;
                merge.resets(&mut resets)?;
                for (collection, order) in resets.iter().flat_map(|resets| resets.orders()) {
                    bytes += out.reset(&merge.time, collection, order)?;
                }
            }
            // Nothing of it is in memory, so nothing is counted there.
            if let Some((command, superseded)) = merge.next(&mut Pins::default())? {
                bytes += out.command(&merge.time, &command)?;
                merged.superseded += superseded;
                merged.looked_at += 1 + superseded;
                continue;
            }
            match merge.runs.iter().filter_map(Run::time).min() {
                Some(time) => merge.time = time.clone(),
                None => {
                    if let Some(run) = self.end_merge()? {
                        self.add(run, spill);
                    }
                    merged.more = self.merging.is_some();
                    return Ok(merged);
                }
            }
        }
        merged.more = true;
        Ok(merged)
    }

    /// Ends a merge wherever it is. Returns what it has written.
    fn end_merge(&mut self) -> Result<Option<Run<T>>, SpillError> {
        let Some(Merging { merge, mut out }) = self.merging.take() else { return Ok(None) };
        for command in merge.group {
            out.command(&merge.time, &command)?;
        }
        merge.runs.into_iter().for_each(|run| self.insert(run));
        out.finish()
    }

    /// Drops everything.
    pub fn clear(&mut self) {
        *self = Spilled::default();
    }
}

/// Returns the class of a run by its pages.
fn size<T>(run: &Run<T>) -> u32 {
    run.pages().max(1).ilog(FAN)
}

/// What a piece of a merge has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// Commands that lost to a greater order.
    pub superseded: u64,
    /// Commands read.
    pub looked_at: u64,
    /// Whether there is more to merge.
    pub more: bool,
}
