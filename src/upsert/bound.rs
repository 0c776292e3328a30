//! Owns how the stash keeps its bound: what is copied out of large buffers, which times go to disk, and in what pieces.
//! It does not own what the stash has, nor how what was spilled comes back.
//!
//! Past the bound, rows that keep large buffers for little are copied out of them; if that is not enough, the greatest
//! times go to disk.

use std::ops::Bound;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::pins::Pins;
use super::rows::Kept;
use super::run::RunWriter;
use super::spill::SpillError;
use super::spilling::Spilling;
use super::stash::Stash;

/// Bytes written or merged in one wake-up, while the bound holds.
const PIECE_BYTES: usize = 4 << 20;

impl<K, V, O, T> Stash<K, V, O, T>
where
    K: Kept<V> + Ord + Serialize + DeserializeOwned,
    V: Ord + Serialize + DeserializeOwned,
    O: Ord + Serialize + DeserializeOwned,
    T: Ord + Clone + Serialize + DeserializeOwned,
{
    /// Keeps the bound: goes on with what was begun, a piece at a time, and begins if the bound does not hold.
    ///
    /// Once it spills it goes on down to half of the bound, so that the next time is half a bound of commands away:
    /// runs are few and large, and walking over the times costs nothing in comparison.
    ///
    /// Returns whether there is more to do, without anything new.
    ///
    /// # Errors
    ///
    /// What the spill reports.
    pub fn keep_bound(&mut self) -> Result<bool, SpillError> {
        let mut written = 0;
        let more = loop {
            let over = self.bytes() > self.bytes_max;
            if self.spilling.is_some() {
                if written >= PIECE_BYTES && !over {
                    break true;
                }
                written += self.spill_more()?;
            } else if over && self.is_worth_copying() {
                for pile in self.piles.values_mut() {
                    self.done.looked_at += pile.repack(&mut self.pins, &mut Pins::default());
                }
                // What is left belongs to rows that are being drained.
                self.dead = self.pins.dead();
            } else if over && !self.piles.is_empty() && self.is_worth_a_run() {
                self.begin_spilling();
            } else {
                break false;
            }
        };
        let merged = self.spilled.merge(&self.spill, PIECE_BYTES)?;
        self.superseded(merged.superseded);
        self.done.looked_at += merged.looked_at;
        Ok(more || merged.more)
    }

    /// Whether most of what rows keep is dead, and enough more than copying has left to pay for a look at every row.
    fn is_worth_copying(&mut self) -> bool {
        let dead = self.pins.dead();
        self.dead = self.dead.min(dead);
        self.pins.are_mostly_dead() && dead > self.dead + self.bytes_max / 8
    }

    /// Whether what could be spilled is an eighth of the bound: while a large time is drained and its bytes stand, runs
    /// would else be as small as what comes in a wake-up.
    fn is_worth_a_run(&mut self) -> bool {
        self.heap + self.pins.bytes() > self.bytes_max / 8
    }

    /// Chooses the greatest times to be spilled, down to half of the bound.
    fn begin_spilling(&mut self) {
        let mut over = self.bytes().saturating_sub(self.bytes_max / 2);
        let mut first = None;
        for (time, pile) in self.piles.iter().rev() {
            self.done.looked_at += 1;
            first = Some(time.clone());
            over = over.saturating_sub(pile.heap_bytes::<T>() + pile.live_bytes());
            if over == 0 {
                break;
            }
        }
        if let Some(first) = first {
            let out = RunWriter::new(&self.spill);
            self.spilling = Some(Spilling { out, next: Bound::Included(first), pile: None });
        }
    }

    /// Writes what is under way, as far as a piece goes, or takes the next pile, or ends. Returns the bytes written.
    fn spill_more(&mut self) -> Result<usize, SpillError> {
        let Some(Spilling { out, next, pile }) = &mut self.spilling else { return Ok(0) };
        let mut written = 0;
        if let Some((time, commands, bytes)) = pile {
            while written < PIECE_BYTES {
                let Some(command) = commands.next() else {
                    self.heap -= *bytes;
                    *pile = None;
                    break;
                };
                self.done.looked_at += 1;
                command.release(&mut self.pins);
                written += out.command(time, &command)?;
            }
            return Ok(written);
        }
        let range = (next.as_ref(), Bound::Unbounded);
        let Some(time) = self.piles.range::<T, _>(range).next().map(|(time, _)| time.clone())
        else {
            self.end_spilling()?;
            return Ok(written);
        };
        let Some(mut taken) = self.piles.remove(&time) else { return Ok(written) };
        let superseded = taken.prune(&mut self.pins);
        let bytes = taken.heap_bytes::<T>();
        for (collection, order) in taken.resets.iter().flat_map(|resets| resets.orders()) {
            written += out.reset(&time, collection, order)?;
        }
        *next = Bound::Excluded(time.clone());
        *pile = Some((time, taken.commands.into_iter(), bytes));
        self.superseded(superseded);
        Ok(written)
    }

    /// Ends the spilling wherever it is: what is written is a run, the rest is back in memory.
    pub(super) fn end_spilling(&mut self) -> Result<(), SpillError> {
        let Some(Spilling { out, pile, .. }) = self.spilling.take() else { return Ok(()) };
        if let Some((time, rest, bytes)) = pile {
            self.heap -= bytes;
            self.put_back(time, rest.collect());
        }
        if let Some(run) = out.finish()? {
            self.spilled.add(run, &self.spill);
        }
        Ok(())
    }

    pub(super) fn first_of_spilling(&self) -> Option<&T> {
        self.spilling.as_ref().and_then(Spilling::first_time)
    }
}
