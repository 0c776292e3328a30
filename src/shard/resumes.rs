//! Owns where a program was told to continue its feed. Whether the feed is the shard's is
//! [`definite`](crate::definite)'s to say.

use std::sync::Arc;

use parking_lot::Mutex;

use super::engine::state::State;
use super::engine::sum::Mark;

/// The uppers that the program was told to continue at, and the sums there.
#[derive(Clone, Debug, Default)]
pub(crate) struct Resumes(Arc<Mutex<Vec<Mark>>>);

impl Resumes {
    /// So many are kept: the first ones, which a program that only watches must not push out, and the
    /// last ones, for a program that builds one pipeline after the other.
    const MAX: usize = 1 << 10;

    pub(crate) fn get(&self) -> Vec<Mark> {
        self.0.lock().clone()
    }

    pub(crate) fn note(&self, state: &State) {
        let Some(mark) = state.sum().map(|sum| Mark::new(state.upper, sum)) else { return };
        let mut marks = self.0.lock();
        if marks.last() != Some(&mark) {
            if marks.len() == Resumes::MAX {
                marks.remove(Resumes::MAX / 2);
            }
            marks.push(mark);
        }
    }
}
