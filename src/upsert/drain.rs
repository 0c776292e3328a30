//! Owns what an eligible time turns into: commands and prior values in, retractions and insertions
//! out. It neither decides eligibility nor changes the state, so a drain can stop and go on, or be
//! given up, at any row.

use std::cmp::Ordering;
use std::collections::VecDeque;

use super::merge::Merge;
use super::overlay::Overlay;
use super::pending::Pending;
use super::pins::Pins;
use super::rows::{Kept, Rows};
use super::slot::{Slot, Slots};
use super::spill::SpillError;
use super::stash::Sealed;
use super::state::State;

/// One time on its way out.
pub struct Drain<K, V, O, T> {
    merge: Merge<K, V, O, T>,
    reset: Option<Reset<O>>,
    /// Commands that take effect.
    window: VecDeque<Pending<K, V, O>>,
    /// The places of the last of their keys in the state, which stands still.
    slots: Vec<Option<Slot>>,
}

struct Reset<O> {
    order: O,
    /// Rows whose key has a command that survives the reset.
    touched: Slots,
    /// Where the sweep over the other rows stands.
    swept: Option<Slot>,
}

/// What a drain did, and with the commands that it did not emit.
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
    /// All of it is out.
    pub done: bool,
}

/// A wake-up's share: a drain stops when one of these is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Updates to emit.
    pub rows: usize,
    /// Bytes of their keys and values.
    pub bytes: usize,
    /// Commands and rows to look at.
    pub work: usize,
}

impl Piece {
    /// Whether something of it is used up.
    pub fn is_used_up(&self) -> bool {
        self.rows == 0
            || (self.bytes == 0 || self.work == 0) && !crate::mutant::on("pieces_by_rows")
    }

    fn emit(&mut self, bytes: usize) {
        self.rows = self.rows.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    fn look(&mut self, commands: u64, drained: &mut Drained) {
        self.work = self.work.saturating_sub(commands as usize);
        drained.work += commands;
    }
}

/// Keys looked up together, so that their cache misses overlap.
const WINDOW: usize = 256;
/// Bytes of commands looked up together; one command may be larger.
const WINDOW_BYTES: usize = 1 << 20;

impl<K, V, O, T> Drain<K, V, O, T>
where
    K: Kept<V> + Clone + Ord + serde::de::DeserializeOwned,
    V: Clone + Ord + serde::de::DeserializeOwned,
    O: Clone + Ord + serde::de::DeserializeOwned,
    T: Clone + Ord + serde::de::DeserializeOwned,
{
    /// Starts to drain a time.
    pub fn new(sealed: Sealed<K, V, O, T>) -> Self {
        let Sealed { merge, reset } = sealed;
        let reset = reset.map(|order| Reset { order, touched: Slots::default(), swept: None });
        Drain { merge, reset, window: VecDeque::new(), slots: Vec::new() }
    }

    /// Returns the time.
    pub fn time(&self) -> &T {
        &self.merge.time
    }

    /// Returns the bytes in memory of the runs that it reads.
    pub fn run_bytes(&self) -> usize {
        self.merge.run_bytes()
    }

    /// Appends updates to `out` until the piece is used up; the last row may exceed it. What was in memory is taken off
    /// `pins` when it is looked at. A key's prior value is what the overlay has, or else the state; what is
    /// emitted goes into the overlay.
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
        overlay: &mut Overlay<K, V, T>,
        pins: &mut Pins,
        piece: &mut Piece,
        out: &mut Vec<((K, V), T, isize)>,
    ) -> Result<Drained, SpillError> {
        let mut drained = Drained::default();
        overlay.index();
        while !piece.is_used_up() {
            if self.window.is_empty() {
                let ended = self.fill_window(state, pins, piece, &mut drained)?;
                if ended && self.window.is_empty() {
                    drained.done = self.sweep(state, piece, out, &mut drained);
                    break;
                }
            }
            self.emit(state, overlay, piece, out, &mut drained);
        }
        Ok(drained)
    }

    /// Ends the drain. Returns how many commands it had taken and not emitted, and those it had not taken.
    pub fn give_up(self) -> (u64, Merge<K, V, O, T>) {
        ((self.window.len() + self.merge.group.len()) as u64, self.merge)
    }

    /// Takes the next commands that take effect, and looks their keys up. Returns whether those were the last.
    fn fill_window(
        &mut self,
        state: &State<K, V>,
        pins: &mut Pins,
        piece: &mut Piece,
        drained: &mut Drained,
    ) -> Result<bool, SpillError> {
        let mut bytes = 0;
        let window = WINDOW.min(piece.rows);
        let ended = loop {
            if self.window.len() >= window || bytes >= WINDOW_BYTES || piece.work == 0 {
                break false;
            }
            let Some((command, superseded)) = self.merge.next(pins)? else { break true };
            piece.look(1 + superseded, drained);
            drained.superseded += superseded;
            match &self.reset {
                Some(reset) if !reset.survives(&command) => drained.superseded += 1,
                _ => {
                    bytes += command.heap_bytes();
                    self.window.push_back(command);
                }
            }
        };
        let keys = self.window.iter().map(|command| (command.hash, &command.key));
        state.find_all(keys, &mut self.slots);
        if let Some(reset) = &mut self.reset {
            self.slots.iter().flatten().for_each(|slot| reset.touched.insert(*slot));
        }
        Ok(ended)
    }

    /// Emits what the window's commands turn into, as far as the piece goes.
    fn emit(
        &mut self,
        state: &State<K, V>,
        overlay: &mut Overlay<K, V, T>,
        piece: &mut Piece,
        out: &mut Vec<((K, V), T, isize)>,
        drained: &mut Drained,
    ) {
        // The prior values that have to be retracted share buffers.
        let mut gather = <K::Rows as Rows<K, V>>::Gather::default();
        let slots = &self.slots[self.slots.len() - self.window.len()..];
        let mut found = Vec::with_capacity(slots.len());
        for (command, slot) in self.window.iter().zip(slots) {
            if piece.is_used_up() {
                break;
            }
            let emitted = overlay.get(command.hash, &command.key);
            let one = match (emitted, *slot, &command.value) {
                (Some(None), _, Some(_)) | (None, None, Some(_)) => Found::Absent,
                (Some(Some(prior)), _, value) if value.as_ref().is_none_or(|v| v != prior) => {
                    piece.emit(K::heap_bytes(&command.key, Some(prior)));
                    Found::Emitted(prior.clone())
                }
                (None, Some(slot), value)
                    if value.as_ref().is_none_or(|v| !state.holds(slot, v)) =>
                {
                    state.gather(slot, &mut gather);
                    piece.emit(state.row_bytes(slot));
                    Found::Prior
                }
                _ => Found::Unchanged,
            };
            let unchanged = matches!(one, Found::Unchanged);
            if !unchanged && command.value.is_some() {
                piece.emit(command.heap_bytes());
            }
            drained.unchanged += u64::from(unchanged);
            drained.emitted += u64::from(!unchanged);
            found.push(one);
        }
        let mut priors = <K::Rows as Rows<K, V>>::values(&mut gather);
        let time = &self.merge.time;
        // What a reset sweeps is not recorded: nothing past it is looked up before it has come back.
        let records = self.reset.is_none();
        for (command, found) in self.window.drain(..found.len()).zip(found) {
            let Pending { hash, key, value, .. } = command;
            let prior = match found {
                Found::Unchanged => continue,
                Found::Absent => None,
                Found::Prior => priors.next(),
                Found::Emitted(prior) => Some(prior),
            };
            if records {
                overlay.record(hash, &key, value.as_ref(), time);
            }
            if let Some(prior) = prior {
                out.push(((key.clone(), prior), time.clone(), -1));
            }
            if let Some(value) = value {
                out.push(((key, value), time.clone(), 1));
            }
        }
    }

    /// Retracts, after a reset, the rows that no command has touched. Returns whether all is done.
    fn sweep(
        &mut self,
        state: &State<K, V>,
        piece: &mut Piece,
        out: &mut Vec<((K, V), T, isize)>,
        drained: &mut Drained,
    ) -> bool {
        let Some(reset) = &mut self.reset else { return true };
        while !piece.is_used_up() {
            let Some(slot) = state.next(reset.swept) else { return true };
            reset.swept = Some(slot);
            piece.look(1, drained);
            if !reset.touched.contains(slot) {
                piece.emit(state.row_bytes(slot));
                out.push((state.get(slot), self.merge.time.clone(), -1));
            }
        }
        false
    }
}

/// What a key has, seen from its command.
enum Found<V> {
    /// The value that the command wants, or nothing where it wants nothing.
    Unchanged,
    /// Nothing, where the command wants a value.
    Absent,
    /// A value to retract, out of the state.
    Prior,
    /// A value to retract, emitted and not read back yet.
    Emitted(V),
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
        Drain::new(Sealed { merge: Merge::new(5, commands, Vec::new()), reset })
    }

    fn piece(rows: usize) -> Piece {
        Piece { rows, bytes: usize::MAX, work: usize::MAX }
    }

    /// Steps to the end, a piece at a time. Returns also how many pieces it took.
    fn run(
        mut drain: Drain<u64, String, u8, u64>,
        state: &State<u64, String>,
        piece: Piece,
    ) -> (Vec<Row>, Drained, usize) {
        let (mut all, mut sum, mut pieces, mut pins) =
            (Vec::new(), Drained::default(), 0, Pins::default());
        let mut overlay = Overlay::new(0);
        loop {
            let step =
                drain.step(state, &mut overlay, &mut pins, &mut { piece }, &mut all).unwrap();
            sum.emitted += step.emitted;
            sum.superseded += step.superseded;
            sum.unchanged += step.unchanged;
            sum.work += step.work;
            pieces += 1;
            assert!(step.work <= piece.work as u64, "{step:?} in one piece");
            if step.done {
                return (all, sum, pieces);
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
        let (rows, drained, _) = run(drain(None, &commands), &state, piece(100));
        let row = |key, value: &str, diff| ((key, value.to_string()), 5, diff);
        assert_eq!(rows, [row(1, "a", -1), row(1, "x", 1), row(3, "c", -1), row(5, "y", 1)]);
        let expected = Drained { emitted: 3, unchanged: 2, work: 5, ..Drained::default() };
        assert_eq!(drained, expected);
    }

    #[test]
    fn a_reset_sweeps_what_no_surviving_command_has_touched() {
        let state = state(&[(1, "a"), (2, "b"), (3, "c"), (4, "d")]);
        // Later, equal and earlier orders; the last also for a delete.
        let commands = [(1, Some("a"), 9), (2, Some("z"), 5), (3, Some("c"), 4), (4, None, 5)];
        for rows_max in [1, 100] {
            let (mut rows, drained, _) = run(drain(Some(5), &commands), &state, piece(rows_max));
            rows.sort();
            let row = |key, value: &str, diff| ((key, value.to_string()), 5, diff);
            assert_eq!(rows, [row(2, "b", -1), row(2, "z", 1), row(3, "c", -1), row(4, "d", -1)]);
            assert_eq!((drained.superseded, drained.unchanged), (2, 1));
        }
    }

    /// Rewrites, superseded commands and swept rows count against a piece as well as what is emitted, and large rows
    /// count by their bytes.
    #[test]
    fn a_piece_is_bounded_by_work_rows_and_bytes() {
        let all: Vec<_> = (0..2000).map(|key| (key, "v")).collect();
        let state = state(&all);
        let rewrites: Vec<_> = (0..2000).map(|key| (key, Some("v"), 9)).collect();
        let earlier: Vec<_> = (0..2000).map(|key| (key, Some("w"), 1)).collect();
        let work = Piece { work: 100, ..piece(usize::MAX) };
        for (drain, emitted, pieces) in [
            (drain(None, &rewrites), 0, 20),
            (drain(Some(5), &rewrites), 0, 40),
            (drain(Some(5), &earlier), 2000, 40),
        ] {
            let (rows, _, took) = run(drain, &state, work);
            assert_eq!(rows.len(), emitted);
            assert!((pieces..=pieces + 1).contains(&took), "{took} pieces");
        }
        let bytes = Piece { bytes: 1, ..piece(usize::MAX) };
        let (rows, _, took) = run(drain(Some(5), &earlier), &state, bytes);
        assert!(rows.len() == 2000 && took >= 2000, "{took} pieces");
    }

    /// What was emitted and has not come back goes before the state, a deletion too.
    #[test]
    fn the_overlay_goes_before_the_state() {
        let state = state(&[(1, "a"), (2, "b"), (3, "c"), (4, "d")]);
        let mut overlay = Overlay::new(1 << 20);
        let emitted = [(1, Some("x")), (2, None), (4, Some("y"))];
        for (key, value) in emitted {
            overlay.record(key.hashed(), &key, value.map(str::to_string).as_ref(), &4);
        }
        let commands = [(1, Some("z"), 0), (2, Some("b"), 0), (3, None, 0), (4, Some("y"), 0)];
        let (mut out, mut pins) = (Vec::new(), Pins::default());
        let mut drain = drain(None, &commands);
        let step = drain.step(&state, &mut overlay, &mut pins, &mut piece(100), &mut out).unwrap();
        let row = |key, value: &str, diff| ((key, value.to_string()), 5, diff);
        out.sort();
        assert_eq!(out, [row(1, "x", -1), row(1, "z", 1), row(2, "b", 1), row(3, "c", -1)]);
        assert_eq!((step.emitted, step.unchanged, step.done), (3, 1, true));
        overlay.index();
        let get = |key: u64| overlay.get(key.hashed(), &key).map(|value| value.cloned());
        assert_eq!((get(1), get(3)), (Some(Some("z".to_string())), Some(None)));
    }

    #[test]
    fn what_is_not_drained_is_counted() {
        let commands: Vec<_> = (0..WINDOW as u64 * 2).map(|key| (key, Some("v"), 0)).collect();
        let mut drain = drain(None, &commands);
        let mut out = Vec::new();
        let (state, mut overlay) = (state(&[]), Overlay::new(0));
        let mut piece = Piece { rows: WINDOW, bytes: 1, work: usize::MAX };
        let step =
            drain.step(&state, &mut overlay, &mut Pins::default(), &mut piece, &mut out).unwrap();
        assert!(!step.done);
        let (taken, rest) = drain.give_up();
        assert_eq!(out.len() + taken as usize + rest.memory.count(), commands.len());
    }
}
