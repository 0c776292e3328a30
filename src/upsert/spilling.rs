//! Owns what is known of piles that are on their way to disk, one piece at a time. It does not own which go, or when:
//! that is [`bound`](super::bound)'s.

use std::ops::Bound;

use super::pending::Pending;
use super::run::RunWriter;

/// Piles on their way to disk, in order of time.
pub(super) struct Spilling<K, V, O, T> {
    pub(super) out: RunWriter<T>,
    /// Where the next pile is.
    pub(super) next: Bound<T>,
    /// The pile under way, and its bytes.
    pub(super) pile: Option<(T, std::vec::IntoIter<Pending<K, V, O>>, usize)>,
}

impl<K, V, O, T> Spilling<K, V, O, T> {
    /// Returns the least time written or taken.
    pub(super) fn first_time(&self) -> Option<&T> {
        self.out.first().or(self.pile.as_ref().map(|(time, ..)| time))
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.out.heap_bytes()
    }
}
