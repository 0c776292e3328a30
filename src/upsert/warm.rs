//! Owns the look ahead over times of few commands: what a run of them will look up is brought into the processor's cache
//! together. One by one, each command would wait for memory alone. It finds nothing for anybody: a drain looks up for
//! itself.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::rows::Kept;
use super::slot::Slot;
use super::stash::Stash;
use super::state::State;

/// Commands looked up together.
const WINDOW: usize = 256;

/// How far ahead the keys of a run have been looked up.
#[derive(Debug, Default)]
pub struct Warm {
    /// Commands looked up and not drained.
    left: u64,
    found: Vec<Option<Slot>>,
}

impl Warm {
    /// Begins a run: nothing is known of what comes.
    pub fn begin(&mut self) {
        self.left = 0;
    }

    /// Notes that so many commands were drained, and looks the next ones up if those are used up. `closed` says of a time
    /// whether it may be drained soon.
    pub fn go_on<K, V, O, T>(
        &mut self,
        drained: u64,
        stash: &Stash<K, V, O, T>,
        state: &State<K, V>,
        closed: impl Fn(&T) -> bool,
    ) where
        K: Kept<V> + Clone + Ord + Serialize + DeserializeOwned,
        V: Clone + Ord + Serialize + DeserializeOwned,
        O: Ord + Serialize + DeserializeOwned,
        T: Ord + Clone + Serialize + DeserializeOwned,
    {
        self.left = self.left.saturating_sub(drained);
        if self.left > 0 {
            return;
        }
        // A drain of more looks up as many itself.
        let few = |(time, commands): &(&T, usize)| closed(time) && *commands < WINDOW;
        let keys: Vec<(u64, &K)> = stash.first_commands(few).take(WINDOW).collect();
        state.find_all(keys.into_iter(), &mut self.found);
        self.left = self.found.len() as u64;
    }
}
