//! Owns feedback on its way into the state: it waits while a drain reads the state as it is, and goes in a piece at a
//! time. It does not own when the state may be read.
//!
//! What waits is bounded by what was emitted. A drain begins when all that came is in the state. From then on what comes back
//! is of times before the drain's, which the operator has emitted itself, if it runs ahead, and has in its overlay until then;
//! the same rows, whichever writer has committed them. An upper past the drain's time comes before the rows, and ends the drain.
//!
//! The place that a drain found a row at is not kept for its feedback, which looks it up once more. Ahead, a commit holds many
//! times and comes back by hash: the kept place would be found by a look-up of its own, as dear (3.5 % of a worker of one million
//! uniform keys) as the part that it saves (3.6 %): the row itself is read all the same, to verify what is retracted.

use std::collections::VecDeque;

use super::rows::{Kept, KeyHash};
use super::state::{Broken, State};

/// An update of the collection.
pub(super) type Update<K, V, T> = ((K, V), T, isize);

/// Changes looked up together.
const APPLY_WINDOW: usize = 256;

/// Updates that were fed back and are not in the state yet.
pub struct Inbox<K, V, T> {
    batches: VecDeque<Vec<Update<K, V, T>>>,
    /// How far the first batch is applied.
    at: usize,
    /// Updates that came since the last piece.
    arrived: usize,
    /// The greatest time applied.
    applied: Option<T>,
}

impl<K, V, T> Default for Inbox<K, V, T> {
    fn default() -> Self {
        Inbox { batches: VecDeque::new(), at: 0, arrived: 0, applied: None }
    }
}

impl<K, V, T> Inbox<K, V, T>
where
    K: Kept<V> + Clone + Ord,
    V: Clone + Ord,
    T: Clone + Ord,
{
    /// Adds updates.
    pub fn push(&mut self, updates: Vec<Update<K, V, T>>) {
        self.arrived += updates.len();
        if !updates.is_empty() {
            self.batches.push_back(updates);
        }
    }

    /// Whether all that came is in the state.
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Drops what waits.
    pub fn clear(&mut self) {
        *self = Inbox::default();
    }

    /// Returns the greatest time applied.
    pub fn applied(&self) -> Option<&T> {
        self.applied.as_ref()
    }

    /// Applies a piece: as many updates as came since the last one, so that no more wait than did, and `updates_max` of
    /// those that waited. Returns how many that was.
    ///
    /// # Errors
    ///
    /// [`Broken`] if the state cannot go on.
    pub fn apply(&mut self, state: &mut State<K, V>, updates_max: usize) -> Result<u64, Broken> {
        let mut left = std::mem::take(&mut self.arrived).saturating_add(updates_max);
        let mut done = 0;
        while let Some(batch) = self.batches.front()
            && left > 0
        {
            let piece = &batch[self.at..];
            let piece = &piece[..piece.len().min(left)];
            let count = piece.len();
            apply(state, piece, &mut self.applied)?;
            left -= count;
            done += count as u64;
            self.at += count;
            if self.at == batch.len() {
                self.batches.pop_front();
                self.at = 0;
            }
        }
        Ok(done)
    }
}

fn apply<K, V, T>(
    state: &mut State<K, V>,
    updates: &[Update<K, V, T>],
    applied: &mut Option<T>,
) -> Result<(), Broken>
where
    K: Kept<V> + Clone + Ord,
    V: Clone + Ord,
    T: Clone + Ord,
{
    let (mut steps, mut found) = (Vec::new(), Vec::new());
    let mut rest = updates;
    while !rest.is_empty() {
        // Look-ups ahead of the changes bring the rows into the cache, many at a time.
        steps.clear();
        rest = take_steps(rest, &mut steps);
        let keys = steps.iter().map(|step: &Step<K, V, T>| (step.hash, &step.update.0.0));
        state.find_all(keys, &mut found);
        let version = state.version();
        for (step, found) in steps.iter().zip(&found) {
            let (hash, ((key, value), time, diff)) = (step.hash, step.update);
            if applied.as_ref().is_none_or(|applied| applied < time) {
                *applied = Some(time.clone());
            }
            let Some(new) = step.replaced_by else {
                state.apply(hash, key, value, *diff)?;
                continue;
            };
            // One that was not there may be there by now.
            let found = found.and_then(|found| state.still(version, found, hash));
            if !state.replace(found, hash, key, value, new)? {
                state.apply(hash, key, value, -1)?;
                state.apply(hash, key, new, 1)?;
            }
        }
    }
    Ok(())
}

/// One change of the state: an update, or two.
struct Step<'a, K, V, T> {
    hash: u64,
    update: &'a Update<K, V, T>,
    /// It is a retraction, directly followed by its key's insertion, of this value: a replacement in place.
    replaced_by: Option<&'a V>,
}

/// Takes as many steps as are looked up together. Returns the other updates.
fn take_steps<'a, K: KeyHash + Eq, V, T: Eq>(
    mut updates: &'a [Update<K, V, T>],
    steps: &mut Vec<Step<'a, K, V, T>>,
) -> &'a [Update<K, V, T>] {
    while steps.len() < APPLY_WINDOW
        && let [update, rest @ ..] = updates
    {
        let ((key, _), time, diff) = update;
        let replaced_by = match rest {
            [((next_key, new), next_time, 1), ..]
                if *diff == -1 && (next_key, next_time) == (key, time) =>
            {
                Some(new)
            }
            _ => None,
        };
        steps.push(Step { hash: key.key_hash(), update, replaced_by });
        updates = &rest[usize::from(replaced_by.is_some())..];
    }
    updates
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::packed::Encoded;

    /// Updates of one window, whose key's row leaves its place on the way: what is left there looks live.
    #[test]
    fn a_place_is_good_until_a_row_leaves_it() {
        let bytes = |text: &str| Encoded::from_bytes(text.as_bytes().to_vec());
        let row = |key, value, time, diff| ((bytes(key), bytes(value)), time, diff);
        let (mut state, mut inbox) = (State::default(), Inbox::default());
        inbox.push(vec![row("other", "stays", 0, 1), row("key", "short", 0, 1)]);
        inbox.apply(&mut state, 0).unwrap();
        let all = ["short", "longer", "short", "other"];
        let steps = all.windows(2).zip(1..);
        let updates = steps
            .flat_map(|(two, time)| [row("key", two[0], time, -1), row("key", two[1], time, 1)]);
        inbox.push(updates.collect());
        inbox.apply(&mut state, 0).unwrap();
        let key = bytes("key");
        let mut found = Vec::new();
        state.find_all([(key.key_hash(), &key)].into_iter(), &mut found);
        let live = found[0].and_then(|entry| state.get(entry.slot()));
        assert_eq!(live, Some((key, bytes("other"))));
        assert!(state.unsettled().is_none() && inbox.is_empty());
        assert_eq!((state.len(), inbox.applied()), (2, Some(&3)));
    }
}
