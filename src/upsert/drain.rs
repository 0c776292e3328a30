//! Owns what an eligible time turns into: commands and prior values in, retractions and insertions
//! out. It neither decides eligibility nor changes the state, so a drain can stop and go on, or be
//! given up, at any row.

use std::collections::VecDeque;

use super::entry::Entry;
use super::merge::Merge;
use super::overlay::Overlay;
use super::pending::{Action, Pending};
use super::piece::{Drained, Piece};
use super::pins::Pins;
use super::resets::{Resets, survives};
use super::rows::{Kept, Rows};
use super::rules::Rules;
use super::slot::Slot;
use super::stash::Sealed;
use super::state::State;
use super::state::walk::Live;
use super::wanted::Wanted;
use crate::error::Error;

/// One time on its way out.
pub struct Drain<K, V, O, T> {
    merge: Merge<K, V, O, T>,
    sweep: Option<Sweep<O>>,
    /// The commands of one key that end in a patch, as far as they are taken.
    stack: Option<Stack<K, V, O>>,
    /// What keys are to have.
    window: VecDeque<Wanted<K, V>>,
    /// What the state, which stands still, has of them.
    found: VecDeque<Option<Entry>>,
    /// Of so many the rows were asked for.
    asked: usize,
    /// The merge has no more commands.
    ended: bool,
}

/// The commands of one key, the last first: patches, down to what these change.
struct Stack<K, V, O> {
    last: Pending<K, V, O>,
    /// The patches below the last one, the last first.
    patches: VecDeque<V>,
    /// The greatest order of the resets that speak of the key.
    reset: Option<O>,
    /// What the time itself has put, deleted or reset.
    base: Option<Action<V>>,
    /// The bytes of these patches.
    bytes: usize,
}

/// The resets of the time, and how far the rows are swept that these delete.
struct Sweep<O> {
    resets: Box<Resets<O>>,
    /// Rows whose key has a command that survives its resets are marked in the state, from its first step on.
    begun: bool,
    /// Where the sweep over the other rows stands.
    swept: Option<Slot>,
}

impl<K: Kept<V>, V, O> Stack<K, V, O> {
    /// Begins with a key's last command, a patch.
    fn new(last: Pending<K, V, O>, reset: Option<O>) -> Self {
        // A reset leaves nothing to change.
        let is_reset = reset.is_some() && !crate::mutant::on("patch_over_reset");
        let (base, bytes) = (is_reset.then_some(Action::Delete), last.heap_bytes());
        Stack { last, patches: VecDeque::new(), reset, base, bytes }
    }
}

/// Keys looked up together, so that their cache misses overlap.
const WINDOW: usize = 256;
/// Keys looked up together where rows have to be read: for half of them, reads are under way while the others are emitted.
const COLD_WINDOW: usize = 2048;
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
        let Sealed { merge, resets } = sealed;
        let sweep = |resets| Sweep { resets, begun: false, swept: None };
        Drain {
            merge,
            sweep: resets.map(sweep),
            stack: None,
            window: VecDeque::new(),
            found: VecDeque::new(),
            asked: 0,
            ended: false,
        }
    }

    /// Returns the time.
    pub fn time(&self) -> &T {
        &self.merge.time
    }

    /// Returns the bytes in memory of the runs that it reads, and of the patches that it has taken.
    pub fn held_bytes(&self) -> usize {
        let patched = self.window.iter().filter(|wanted| wanted.is_patched());
        let stacked = self.stack.as_ref().map_or(0, |stack| stack.bytes);
        self.merge.held_bytes() + stacked + patched.map(Wanted::heap_bytes).sum::<usize>()
    }

    /// Appends updates to `out` until the piece is used up; the last row may exceed it. What was in memory is taken off
    /// `pins` when it is looked at. A key's prior value is what the overlay has, or else the state; what is
    /// emitted goes into the overlay.
    ///
    /// Emission is minimal: per key at most one retraction, directly followed by at most one
    /// insertion; nothing for a value that stays.
    ///
    /// Rows that are not in memory are asked for ahead of it. Where the first of them has not come, it
    /// [waits](Drained::waits).
    ///
    /// # Errors
    ///
    /// A spilled run or a row of the state that cannot be read back, and what the rules report.
    pub fn step(
        &mut self,
        state: &mut State<K, V>,
        rules: &Rules<K, V>,
        overlay: &mut Overlay<K, V, T>,
        pins: &mut Pins,
        piece: &mut Piece,
        out: &mut Vec<((K, V), T, isize)>,
    ) -> Result<Drained, Error> {
        let mut drained = Drained::default();
        overlay.index();
        if let Some(sweep) = self.sweep.as_mut().filter(|sweep| !sweep.begun) {
            sweep.begun = true;
            state.untouch();
        }
        while !piece.is_used_up() && !drained.waits {
            let few = state.has_cold() && self.window.len() <= COLD_WINDOW / 2;
            if !self.ended && (self.window.is_empty() || few) {
                self.fill_window(state, rules, pins, piece, &mut drained)?;
            }
            if self.ended && self.window.is_empty() {
                drained.done = self.sweep(state, rules, piece, out, &mut drained)?;
                break;
            }
            if state.has_cold() {
                self.fetch(state, overlay, &mut drained)?;
            }
            self.emit(state, rules, overlay, piece, out, &mut drained)?;
        }
        Ok(drained)
    }

    /// Ends the drain. Returns how many commands it had taken and not emitted, and those it had not taken.
    pub fn give_up(self) -> (u64, Merge<K, V, O, T>) {
        let stacked = usize::from(self.stack.is_some());
        ((self.window.len() + stacked + self.merge.group.len()) as u64, self.merge)
    }

    /// Takes the next commands that take effect, and looks their keys up.
    fn fill_window(
        &mut self,
        state: &mut State<K, V>,
        rules: &Rules<K, V>,
        pins: &mut Pins,
        piece: &mut Piece,
        drained: &mut Drained,
    ) -> Result<(), Error> {
        let had = self.window.len();
        let mut bytes = self.window.iter().map(Wanted::heap_bytes).sum::<usize>();
        let window = if state.has_cold() { COLD_WINDOW } else { WINDOW.min(piece.rows) };
        self.ended = loop {
            if self.window.len() >= window || bytes >= WINDOW_BYTES || piece.work == 0 {
                break false;
            }
            let wanted = match self.stack.take() {
                Some(stack) => self.take_patches(stack, pins, piece, drained),
                None => {
                    let Some((command, superseded)) = self.merge.next(pins)? else { break true };
                    piece.look(1 + superseded, drained);
                    drained.superseded += superseded;
                    let reset = match &self.sweep {
                        Some(sweep) => sweep.resets.of(&command.key, rules)?,
                        None => None,
                    };
                    if !survives(reset, &command) {
                        drained.superseded += 1;
                        continue;
                    }
                    match command.action {
                        Action::Patch(_) => {
                            let stack = Stack::new(command, reset.cloned());
                            self.take_patches(stack, pins, piece, drained)
                        }
                        action => Some(Wanted::new(command.hash, command.key, action)),
                    }
                }
            };
            let Some(wanted) = wanted else { break false };
            bytes += wanted.heap_bytes();
            self.window.push_back(wanted);
        };
        let keys = self.window.iter().skip(had).map(|wanted| (wanted.hash, &wanted.key));
        let mut found = Vec::new();
        state.bring(keys.clone())?;
        state.find_all(keys, &mut found);
        self.found.extend(found);
        Ok(())
    }

    /// Asks for the rows that are not in memory, and takes in those that have come.
    fn fetch(
        &mut self,
        state: &mut State<K, V>,
        overlay: &Overlay<K, V, T>,
        drained: &mut Drained,
    ) -> Result<(), Error> {
        state.arrive()?;
        let both = self.window.iter().zip(&self.found);
        let first = self.found.front().copied().flatten();
        if first.is_some_and(|first| !state.is_here(&first) && !state.is_under_way(&first)) {
            // It was read too long ago, or is yet to be asked for.
            self.asked = 0;
        }
        if self.asked < self.window.len() {
            let (mut asked, sweeps) = (self.asked, self.sweep.is_some());
            let wanted =
                both.skip(self.asked).inspect(|_| asked += 1).filter_map(|(wanted, found)| {
                    found.filter(|_| sweeps || overlay.get(wanted.hash, &wanted.key).is_none())
                });
            let fetched = state.fetch(wanted)?;
            drained.missed += fetched.begun;
            // The one at which it stopped is to be asked for again.
            self.asked = if fetched.is_whole { asked } else { asked - 1 };
            // Where reads are done at once, the rows are here already.
            state.arrive()?;
        }
        Ok(())
    }

    /// Takes the commands that a key's last one, a patch, stands on: patches, and what these change. Returns none, and keeps
    /// what it has, where the piece does not go so far.
    fn take_patches(
        &mut self,
        mut stack: Stack<K, V, O>,
        pins: &mut Pins,
        piece: &mut Piece,
        drained: &mut Drained,
    ) -> Option<Wanted<K, V>> {
        loop {
            if piece.work == 0 && !crate::mutant::on("patches_at_once") {
                self.stack = Some(stack);
                return None;
            }
            let Some(command) = self.merge.next_of(&stack.last, pins) else { break };
            piece.look(1, drained);
            drained.superseded += 1;
            if !survives(stack.reset.as_ref(), &command) {
                continue;
            }
            stack.bytes += command.heap_bytes();
            match command.action {
                Action::Patch(patch) => stack.patches.push_front(patch),
                action => stack.base = Some(action),
            }
        }
        let Stack { last: Pending { hash, key, action, .. }, mut patches, base, .. } = stack;
        patches.extend(action.into_value());
        if crate::mutant::on("patches_reversed") {
            patches.make_contiguous().reverse();
        }
        Some(Wanted::patched(hash, key, base, patches))
    }

    /// Emits what the window's commands turn into, as far as the piece goes.
    fn emit(
        &mut self,
        state: &mut State<K, V>,
        rules: &Rules<K, V>,
        overlay: &mut Overlay<K, V, T>,
        piece: &mut Piece,
        out: &mut Vec<((K, V), T, isize)>,
        drained: &mut Drained,
    ) -> Result<(), Error> {
        // The prior values that have to be retracted share buffers.
        let mut gather = <K::Rows as Rows<K, V>>::Gather::default();
        let mut found = Vec::with_capacity(self.window.len().min(WINDOW));
        for (wanted, entry) in self.window.iter_mut().zip(&self.found) {
            if piece.is_used_up() {
                break;
            }
            let emitted = overlay.get(wanted.hash, &wanted.key);
            let slot = match entry {
                Some(entry) if emitted.is_none() || self.sweep.is_some() => {
                    if !state.is_here(entry) {
                        // Where nothing is being read nothing would wake it: it is asked for anew.
                        drained.waits = state.under_way() > 0;
                        break;
                    }
                    state.confirm(wanted.hash, &wanted.key, entry)?
                }
                _ => None,
            };
            if let (Some(slot), Some(_)) = (slot, &self.sweep) {
                state.touch(wanted.hash, slot);
            }
            if wanted.needs_prior() {
                let emitted = emitted.filter(|_| !crate::mutant::on("patch_over_state"));
                let prior = || slot.and_then(|slot| state.get(slot)).map(|(_, value)| value);
                wanted.set_prior(emitted.map_or_else(prior, Option::<&V>::cloned));
            }
            let at_once = crate::mutant::on("patches_at_once");
            while wanted.is_patched() && (at_once || !piece.is_used_up()) {
                wanted.patch(rules)?;
                piece.look(1, drained);
                if wanted.is_patched() {
                    piece.pass(K::heap_bytes(&wanted.key, wanted.value.as_ref()));
                }
            }
            if wanted.is_patched() {
                break;
            }
            let one = match (emitted, slot, &wanted.value) {
                (Some(None), _, Some(_)) | (None, None, Some(_)) => Found::Absent,
                (Some(Some(prior)), _, value) if value.as_ref().is_none_or(|v| v != prior) => {
                    piece.emit(K::heap_bytes(&wanted.key, Some(prior)));
                    Found::Emitted(prior.clone())
                }
                (None, Some(slot), value)
                    if value.as_ref().is_none_or(|v| !state.holds(slot, v)) =>
                {
                    piece.emit(state.gather(slot, &mut gather));
                    Found::Prior
                }
                _ => Found::Unchanged,
            };
            let unchanged = matches!(one, Found::Unchanged);
            if !unchanged && wanted.value.is_some() {
                piece.emit(wanted.heap_bytes());
            }
            drained.unchanged += u64::from(unchanged);
            drained.emitted += u64::from(!unchanged);
            found.push(one);
        }
        let mut priors = <K::Rows as Rows<K, V>>::values(&mut gather);
        let time = &self.merge.time;
        // What a reset sweeps is not recorded: nothing past it is looked up before it has come back.
        let records = self.sweep.is_none();
        self.found.drain(..found.len());
        self.asked = self.asked.saturating_sub(found.len());
        for (wanted, found) in self.window.drain(..found.len()).zip(found) {
            let Wanted { hash, key, value, .. } = wanted;
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
        Ok(())
    }

    /// Retracts, after resets, the rows that these speak of and no command has touched. Returns whether all is done.
    ///
    /// # Errors
    ///
    /// What the rules report.
    fn sweep(
        &mut self,
        state: &mut State<K, V>,
        rules: &Rules<K, V>,
        piece: &mut Piece,
        out: &mut Vec<((K, V), T, isize)>,
        drained: &mut Drained,
    ) -> Result<bool, Error> {
        let Some(Sweep { resets, swept, .. }) = &mut self.sweep else { return Ok(true) };
        while !piece.is_used_up() {
            let Some(Live { slot, is_touched, bytes }) = state.next(*swept)? else {
                return Ok(true);
            };
            *swept = Some(slot);
            piece.look(1, drained);
            let speaks = |key: Option<K>| match key {
                Some(key) if !resets.are_of_all() => Ok(resets.of(&key, rules)?.is_some()),
                _ => Ok::<_, Error>(true),
            };
            if !is_touched && speaks(state.key(slot))? {
                piece.emit(bytes);
                let row = state.get(slot).map(|row| (row, self.merge.time.clone(), -1));
                out.extend(row);
            }
        }
        Ok(false)
    }
}

/// What a key has, seen from what is wanted.
enum Found<V> {
    /// The value that is wanted, or nothing where nothing is.
    Unchanged,
    /// Nothing, where a value is wanted.
    Absent,
    /// A value to retract, out of the state.
    Prior,
    /// A value to retract, emitted and not read back yet.
    Emitted(V),
}
