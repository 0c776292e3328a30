//! Owns the commands of one time in memory: as they came, cut down now and then to those of each key that take
//! effect. It does not own the other times.

use super::pending::Pending;
use super::pins::Pins;
use super::resets::{self, Resets};
use super::rows::Kept;

/// Commands of one time.
pub struct Pile<K, V, O> {
    /// The commands, as they came since they were last pruned.
    pub commands: Vec<Pending<K, V, O>>,
    /// Pruning waits until there are this many.
    prune_at: usize,
    /// The bytes of keys and values.
    live: usize,
    /// What it has of resets.
    pub resets: Option<Box<Resets<O>>>,
}

impl<K, V, O> Default for Pile<K, V, O> {
    fn default() -> Self {
        // Many piles have one command each.
        Pile { commands: Vec::with_capacity(1), prune_at: PRUNE_MIN, live: 0, resets: None }
    }
}

/// Commands that are not worth pruning.
pub const PRUNE_MIN: usize = 1 << 14;

impl<K: Kept<V> + Ord, V: Ord, O: Ord> Pile<K, V, O> {
    /// Adds a command. Returns how many were found superseded.
    pub fn push(&mut self, command: Pending<K, V, O>, pins: &mut Pins) -> u64 {
        command.hold(pins);
        self.live += command.heap_bytes();
        self.commands.push(command);
        if self.commands.len() < self.prune_at {
            return 0;
        }
        let superseded = self.prune(pins);
        self.prune_at = PRUNE_MIN.max(self.commands.len() * 2);
        superseded
    }

    /// Adds a reset, of a collection or of all keys.
    pub fn reset(&mut self, collection: Option<String>, order: O) {
        resets::add(&mut self.resets, collection, order);
    }

    /// Keeps the commands that take effect, sorted; returns how many went.
    pub fn prune(&mut self, pins: &mut Pins) -> u64 {
        let before = self.commands.len();
        sort(&mut self.commands);
        let mut freed = 0;
        self.commands.dedup_by(|later, kept| {
            let superseded = kept.supersedes(later);
            if superseded {
                later.release(pins);
                freed += later.heap_bytes();
            }
            superseded
        });
        self.live -= freed;
        (before - self.commands.len()) as u64
    }

    /// Takes commands whose rows are counted already.
    pub fn adopt(&mut self, commands: Vec<Pending<K, V, O>>) {
        self.live += commands.iter().map(Pending::heap_bytes).sum::<usize>();
        self.commands.extend(commands);
    }

    /// Drops the newest commands, down to `left` of them.
    pub fn truncate(&mut self, left: usize, pins: &mut Pins) {
        for command in self.commands.drain(left..) {
            command.release(pins);
            self.live -= command.heap_bytes();
        }
    }

    /// Copies rows out of buffers of which less than half is in use, by all that `pins` and `others` count. Returns how
    /// many rows it looked at.
    pub fn repack(&mut self, pins: &mut Pins, others: &mut Pins) -> u64 {
        let mut batch: Vec<&mut Pending<K, V, O>> = Vec::new();
        let mut bytes = 0;
        let looked_at = self.commands.len() as u64;
        for command in &mut self.commands {
            if command.is_wasteful(pins, others) {
                command.release(pins);
                bytes += command.heap_bytes();
                batch.push(command);
            }
            if bytes >= BATCH_BYTES {
                copy(&mut batch, pins);
                bytes = 0;
            }
        }
        copy(&mut batch, pins);
        looked_at
    }
}

/// Sorts as [`Pending::compare`] says. Nearly all is decided by hashes: those are sorted, each with its place, and the commands, which
/// are larger, move once. Takes up to 16 bytes per command while it sorts.
fn sort<K: Ord, V: Ord, O: Ord>(commands: &mut [Pending<K, V, O>]) {
    if commands.len() < SORT_HASHES_MIN {
        return commands.sort_unstable_by(Pending::compare);
    }
    commands.sort_by_cached_key(|command| command.hash);
    for alike in commands.chunk_by_mut(|one, next| one.hash == next.hash) {
        alike.sort_unstable_by(Pending::compare);
    }
}

/// Fewer commands are sorted as they are, which is as fast.
const SORT_HASHES_MIN: usize = 64;

/// Bytes of rows copied together, into one buffer.
const BATCH_BYTES: usize = 1 << 20;

fn copy<K: Kept<V>, V, O>(batch: &mut Vec<&mut Pending<K, V, O>>, pins: &mut Pins) {
    K::repack(batch.iter_mut().map(|command| (&mut command.key, command.action.value_mut())));
    batch.drain(..).for_each(|command| command.hold(pins));
}

impl<K, V, O> Pile<K, V, O> {
    /// Returns the bytes allocated for the commands themselves, for resets, and for the pile among others of times `T`.
    pub fn heap_bytes<T>(&self) -> usize {
        // Nodes of the index are half full at the worst.
        let node = 2 * (size_of::<T>() + size_of::<Self>());
        let resets = self.resets.as_ref().map_or(0, |resets| resets.heap_bytes());
        self.commands.capacity() * size_of::<Pending<K, V, O>>() + node + resets
    }

    /// Returns the bytes of keys and values.
    pub fn live_bytes(&self) -> usize {
        self.live
    }
}

#[cfg(test)]
mod tests {
    use super::super::pending::Action;
    use super::*;
    use crate::codec::packed::Encoded;
    use std::collections::BTreeMap;

    /// As many commands as are sorted by their hashes, and fewer, of keys of few hashes: of each key the last one is left.
    #[test]
    fn of_each_key_the_last_command_is_left() {
        let encoded = |number: u32| Encoded::from_bytes(number.to_le_bytes().to_vec());
        let mut random = fastrand::Rng::with_seed(7);
        for count in (0..20).chain([SORT_HASHES_MIN - 1, SORT_HASHES_MIN, 5000]) {
            let (mut pile, mut pins) = (Pile::<_, _, u32>::default(), Pins::default());
            let mut last = BTreeMap::new();
            for order in 0..count as u32 {
                let (key, value) = (random.u32(0..100), random.u32(..));
                let order = order ^ 1;
                let (hash, action) = (u64::from(key % 10), Action::Put(encoded(value)));
                pile.push(Pending { hash, key: encoded(key), action, order }, &mut pins);
                let last = last.entry((hash, encoded(key))).or_insert((order, value));
                *last = (*last).max((order, value));
            }
            assert_eq!(pile.prune(&mut pins), (count - last.len()) as u64);
            let left = pile.commands.iter().map(|one| ((one.hash, one.key.clone()), &one.action));
            let value = |(key, (_, value))| (key, Action::Put(encoded(value)));
            let last: Vec<_> = last.into_iter().map(value).collect();
            assert!(left.eq(last.iter().map(|(key, action)| (key.clone(), action))), "{count}");
        }
    }
}
