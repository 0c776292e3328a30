//! Owns the look ahead over times of few commands: what a run of them will look up is brought into the processor's cache
//! together, and rows that are in the state's file are asked for. One by one, each command would wait for memory, or for
//! the disk, alone. It finds nothing for anybody: a drain looks up for itself.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::entry::Entry;
use super::overlay::Overlay;
use super::rows::Kept;
use super::stash::Stash;
use super::state::State;
use crate::error::Error;

/// Commands looked up together.
const WINDOW: usize = 256;
/// As many where rows have to be read.
const COLD_WINDOW: usize = 1024;

/// How far ahead the keys of a run have been looked up.
#[derive(Debug, Default)]
pub struct Warm {
    /// Commands looked up and not drained.
    left: u64,
    found: Vec<Option<Entry>>,
}

impl Warm {
    /// Begins a run: nothing is known of what comes, or of what is in the cache by now. What was asked for stays.
    pub fn begin(&mut self, has_cold: bool) {
        self.left = if has_cold { self.left } else { 0 };
    }

    /// Notes that so many commands were drained, and looks the next ones up if those are used up. `closed` says of a time
    /// whether it may be drained soon. Returns how many rows were asked for.
    ///
    /// # Errors
    ///
    /// What asking for them reports.
    pub fn go_on<K, V, O, T>(
        &mut self,
        drained: u64,
        stash: &Stash<K, V, O, T>,
        state: &mut State<K, V>,
        overlay: &Overlay<K, V, T>,
        closed: impl Fn(&T) -> bool,
    ) -> Result<u64, Error>
    where
        K: Kept<V> + Clone + Ord + Serialize + DeserializeOwned,
        V: Clone + Ord + Serialize + DeserializeOwned,
        O: Ord + Serialize + DeserializeOwned,
        T: Ord + Clone + Serialize + DeserializeOwned,
    {
        self.left = self.left.saturating_sub(drained);
        // Without room to read nothing more can be asked for now.
        if self.left > 0 || !state.has_room_to_read() {
            return Ok(0);
        }
        // A drain of more looks up as many itself.
        let few = |(time, commands): &(&T, usize)| closed(time) && *commands < WINDOW;
        let window = if state.has_cold() { COLD_WINDOW } else { WINDOW };
        let keys: Vec<(u64, &K)> = stash.first_commands(few).take(window).collect();
        state.bring(keys.iter().copied())?;
        state.find_all(keys.iter().copied(), &mut self.found);
        self.left = self.found.len() as u64;
        if !state.has_cold() {
            return Ok(0);
        }
        let (both, mut looked) = (keys.iter().zip(&self.found), 0);
        let wanted = both
            .inspect(|_| looked += 1)
            .filter_map(|((hash, key), found)| found.filter(|_| overlay.get(*hash, key).is_none()));
        let fetched = state.fetch(wanted)?;
        if !fetched.is_whole {
            // The last one that was looked at, and those past it, are asked for once the ones before are drained.
            self.left = looked - 1;
        }
        Ok(fetched.begun)
    }
}
