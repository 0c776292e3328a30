//! Owns what an eligible time turns into: commands and prior values in, retractions and insertions
//! out. It neither decides eligibility nor changes the state, so a drain can stop and go on, or be
//! given up, at any row.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::rc::Rc;

use super::rows::{Kept, Rows};
use super::spill::{Run, SharedSpill, SpillError};
use super::stash::{Pending, Sealed, merge};
use super::state::{Slot, State};

/// One time on its way out.
pub struct Drain<K, V, O, T> {
    /// The time.
    pub time: T,
    /// Spilled runs to forget at the end.
    pub runs: Vec<Run>,
    commands: Commands<K, V, O>,
    reset: Option<Reset<O>>,
    window: Vec<Pending<K, V, O>>,
}

/// The latest command per key, and how many others of that key went.
type Commands<K, V, O> = Box<dyn Iterator<Item = (Result<Pending<K, V, O>, SpillError>, u64)>>;

struct Reset<O> {
    order: O,
    /// Rows whose key has a command that survives the reset.
    touched: BTreeSet<Slot>,
    /// Where the sweep over the other rows stands.
    swept: Option<Slot>,
}

/// What a drain did with the commands that it did not emit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Changed a key, and emitted.
    pub emitted: u64,
    /// Lost to a greater order in the same time.
    pub superseded: u64,
    /// Rewrites of the live value, and deletes of absent keys.
    pub unchanged: u64,
    /// Commands and swept rows looked at.
    pub work: u64,
}

/// Keys looked up together, so that their cache misses overlap.
const WINDOW: usize = 256;

impl<K, V, O, T> Drain<K, V, O, T>
where
    K: Kept<V> + Clone + Ord + serde::de::DeserializeOwned + 'static,
    V: Clone + Ord + serde::de::DeserializeOwned + 'static,
    O: Clone + Ord + serde::de::DeserializeOwned + 'static,
    T: Clone,
{
    /// Starts to drain a time.
    pub fn new(time: T, sealed: Sealed<K, V, O>, spill: Option<&SharedSpill>) -> Self {
        let Sealed { commands, runs, reset } = sealed;
        let in_memory = commands.into_iter().map(Ok);
        let commands: Commands<K, V, O> = match spill {
            Some(spill) if !runs.is_empty() => {
                let mut all: Vec<Box<dyn Iterator<Item = _>>> = vec![Box::new(in_memory)];
                all.extend(runs.iter().map(|run| {
                    Box::new(run.reader(Rc::clone(spill))) as Box<dyn Iterator<Item = _>>
                }));
                Box::new(merge(all))
            }
            _ => Box::new(in_memory.map(|command| (command, 0))),
        };
        let reset = reset.map(|order| Reset { order, touched: BTreeSet::new(), swept: None });
        Drain { time, runs, commands, reset, window: Vec::with_capacity(WINDOW) }
    }

    /// Appends updates to `out` until it has `rows_max`, at least. Returns whether all is done.
    ///
    /// Emission is minimal: per key at most one retraction, directly followed by at most one
    /// insertion; nothing for a value that stays.
    ///
    /// # Errors
    ///
    /// A spilled run that cannot be read back.
    pub fn step(
        &mut self,
        state: &State<K, V>,
        rows_max: usize,
        out: &mut Vec<((K, V), T, isize)>,
        drained: &mut Drained,
    ) -> Result<bool, SpillError> {
        let mut gather = <K::Rows as Rows<K, V>>::Gather::default();
        while out.len() < rows_max {
            if !self.fill_window(drained)? {
                return Ok(self.sweep(state, rows_max, out, drained));
            }
            let found = self.look_up(state, drained, &mut gather);
            let mut priors = <K::Rows as Rows<K, V>>::values(&mut gather);
            for (Pending { key, value, .. }, found) in self.window.drain(..).zip(found) {
                let prior = match found {
                    Found::Unchanged => continue,
                    Found::Absent => None,
                    Found::Prior => priors.next(),
                };
                if let Some(prior) = prior {
                    out.push(((key.clone(), prior), self.time.clone(), -1));
                }
                if let Some(value) = value {
                    out.push(((key, value), self.time.clone(), 1));
                }
            }
        }
        Ok(false)
    }

    /// Counts, and consumes, the commands that were not drained.
    pub fn remaining(&mut self) -> u64 {
        let window = self.window.drain(..).count() as u64;
        window + self.commands.by_ref().map(|(_, superseded)| 1 + superseded).sum::<u64>()
    }

    /// Takes the next commands that take effect. Returns false when there are none left.
    fn fill_window(&mut self, drained: &mut Drained) -> Result<bool, SpillError> {
        while self.window.len() < WINDOW {
            let Some((command, superseded)) = self.commands.next() else { break };
            drained.work += 1 + superseded;
            drained.superseded += superseded;
            let command = command?;
            match &self.reset {
                Some(reset) if !reset.survives(&command) => drained.superseded += 1,
                _ => self.window.push(command),
            }
        }
        Ok(!self.window.is_empty())
    }

    /// Looks up the window's keys, and collects the prior values that have to be retracted.
    fn look_up(
        &mut self,
        state: &State<K, V>,
        drained: &mut Drained,
        gather: &mut <K::Rows as Rows<K, V>>::Gather,
    ) -> Vec<Found> {
        let mut slots = Vec::with_capacity(WINDOW);
        state.find_all(self.window.iter().map(|command| (command.hash, &command.key)), &mut slots);
        if let Some(reset) = &mut self.reset {
            reset.touched.extend(slots.iter().flatten());
        }
        let look_at = |(command, slot): (&Pending<K, V, O>, Option<Slot>)| {
            let found = match (slot, &command.value) {
                (None, Some(_)) => Found::Absent,
                (Some(slot), value) if value.as_ref().is_none_or(|v| !state.holds(slot, v)) => {
                    state.gather(slot, gather);
                    Found::Prior
                }
                _ => Found::Unchanged,
            };
            let unchanged = matches!(found, Found::Unchanged);
            drained.unchanged += u64::from(unchanged);
            drained.emitted += u64::from(!unchanged);
            found
        };
        self.window.iter().zip(slots).map(look_at).collect()
    }

    /// Retracts, after a reset, the rows that no command has touched. Returns whether all is done.
    fn sweep(
        &mut self,
        state: &State<K, V>,
        rows_max: usize,
        out: &mut Vec<((K, V), T, isize)>,
        drained: &mut Drained,
    ) -> bool {
        let Some(reset) = &mut self.reset else { return true };
        while out.len() < rows_max {
            let Some(slot) = state.next(reset.swept) else { return true };
            reset.swept = Some(slot);
            drained.work += 1;
            if !reset.touched.contains(&slot) {
                out.push((state.get(slot), self.time.clone(), -1));
            }
        }
        false
    }
}

/// What a key has, seen from its command.
enum Found {
    /// The value that the command wants, or nothing where it wants nothing.
    Unchanged,
    /// Nothing, where the command wants a value.
    Absent,
    /// A value to retract.
    Prior,
}

impl<O: Ord> Reset<O> {
    /// Whether a command survives: only a later one does, and at equal orders a put beats the
    /// delete that a reset is for every key.
    fn survives<K, V>(&self, command: &Pending<K, V, O>) -> bool {
        match command.order.cmp(&self.order) {
            Ordering::Greater => true,
            Ordering::Equal => command.value.is_some(),
            Ordering::Less => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use differential_dataflow::Hashable;

    use super::*;

    type Row = ((u64, String), u64, isize);

    fn state(rows: &[(u64, &str)]) -> State<u64, String> {
        let mut state = State::default();
        for (key, value) in rows {
            state.apply(key.hashed(), key, &value.to_string(), 1).unwrap();
        }
        state
    }

    fn drain(
        reset: Option<u8>,
        commands: &[(u64, Option<&str>, u8)],
    ) -> Drain<u64, String, u8, u64> {
        let pending = |(key, value, order): &(u64, Option<&str>, u8)| Pending {
            hash: key.hashed(),
            key: *key,
            value: value.map(str::to_string),
            order: *order,
        };
        let commands = commands.iter().map(pending).collect();
        Drain::new(5, Sealed { commands, runs: Vec::new(), reset }, None)
    }

    /// Steps to the end, at most `rows_max` at a time.
    fn run(
        mut drain: Drain<u64, String, u8, u64>,
        state: &State<u64, String>,
        rows_max: usize,
    ) -> (Vec<Row>, Drained) {
        let (mut all, mut drained) = (Vec::new(), Drained::default());
        loop {
            let mut out = Vec::new();
            let done = drain.step(state, rows_max, &mut out, &mut drained).unwrap();
            all.append(&mut out);
            if done {
                return (all, drained);
            }
        }
    }

    #[test]
    fn emits_the_least() {
        let state = state(&[(1, "a"), (2, "b"), (3, "c")]);
        let commands = [
            (1, Some("x"), 0), // update
            (2, Some("b"), 0), // rewrite
            (3, None, 0),      // delete
            (4, None, 0),      // delete of an absent key
            (5, Some("y"), 0), // insertion
        ];
        let (rows, drained) = run(drain(None, &commands), &state, 100);
        let row = |key, value: &str, diff| ((key, value.to_string()), 5, diff);
        assert_eq!(rows, [row(1, "a", -1), row(1, "x", 1), row(3, "c", -1), row(5, "y", 1)]);
        assert_eq!(drained, Drained { emitted: 3, superseded: 0, unchanged: 2, work: 5 });
    }

    #[test]
    fn a_reset_sweeps_what_no_surviving_command_has_touched() {
        let state = state(&[(1, "a"), (2, "b"), (3, "c"), (4, "d")]);
        // Later, equal and earlier orders; the last also for a delete.
        let commands = [(1, Some("a"), 9), (2, Some("z"), 5), (3, Some("c"), 4), (4, None, 5)];
        for rows_max in [1, 100] {
            let (mut rows, drained) = run(drain(Some(5), &commands), &state, rows_max);
            rows.sort();
            let row = |key, value: &str, diff| ((key, value.to_string()), 5, diff);
            assert_eq!(rows, [row(2, "b", -1), row(2, "z", 1), row(3, "c", -1), row(4, "d", -1)]);
            assert_eq!((drained.superseded, drained.unchanged), (2, 1));
        }
    }

    #[test]
    fn what_is_not_drained_is_counted() {
        let commands: Vec<_> = (0..WINDOW as u64 * 2).map(|key| (key, Some("v"), 0)).collect();
        let mut drain = drain(None, &commands);
        let (mut out, mut drained) = (Vec::new(), Drained::default());
        assert_eq!(drain.step(&state(&[]), 1, &mut out, &mut drained), Ok(false));
        assert_eq!(out.len() + drain.remaining() as usize, commands.len());
    }
}
