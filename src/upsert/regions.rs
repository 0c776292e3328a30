//! Owns which parts of a file are in use: regions of whole units, taken and given back. It does not own the file.
//!
//! The first free region that is large enough is taken, so that what is in use stays near the start.

use std::collections::BTreeMap;

/// Free regions of a file, and its end.
#[derive(Debug, Default)]
pub struct Regions {
    /// Where each begins, and its units; no two of them touch, and none touches the end.
    free: BTreeMap<u32, u32>,
    /// Units below this number are in use or free.
    end: u32,
}

impl Regions {
    /// Returns the regions of a file in which those given, as unit and units, are in use; `None` if two of them overlap.
    pub fn of_used(mut used: Vec<(u32, u32)>) -> Option<Regions> {
        used.sort_unstable();
        let mut regions = Regions::default();
        for (at, units) in used {
            let gap = at.checked_sub(regions.end)?;
            if gap > 0 {
                regions.free.insert(regions.end, gap);
            }
            regions.end = at.checked_add(units)?;
        }
        Some(regions)
    }

    /// Takes so many units next to each other; returns the first, or `None` where the file can have no more.
    pub fn take(&mut self, units: u32) -> Option<u32> {
        let found = self.free.iter().find(|(_, free)| **free >= units);
        if let Some((&at, &free)) = found {
            self.free.remove(&at);
            if free > units {
                self.free.insert(at + units, free - units);
            }
            return Some(at);
        }
        let at = self.end;
        self.end = at.checked_add(units)?;
        Some(at)
    }

    /// Gives units back.
    pub fn give(&mut self, mut at: u32, mut units: u32) {
        if let Some((&before, &free)) = self.free.range(..at).next_back()
            && before + free == at
        {
            self.free.remove(&before);
            (at, units) = (before, units + free);
        }
        if let Some(free) = self.free.remove(&(at + units)) {
            units += free;
        }
        match at + units == self.end {
            true => self.end = at,
            false => drop(self.free.insert(at, units)),
        }
    }

    /// Returns the units of the file.
    pub fn end(&self) -> u32 {
        self.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against a list of units: none is taken twice, and what is given back is used again.
    #[test]
    fn no_unit_is_taken_twice() {
        let mut random = fastrand::Rng::with_seed(7);
        let (mut regions, mut used) = (Regions::default(), Vec::<(u32, u32)>::new());
        for _ in 0..20_000 {
            if used.len() < 50 && random.bool() {
                let units = random.u32(1..4);
                let at = regions.take(units).unwrap();
                let apart = |(a, u): &(u32, u32)| at + units <= *a || a + u <= at;
                assert!(used.iter().all(apart), "{at}, {units} among {used:?}");
                used.push((at, units));
            } else if !used.is_empty() {
                let (at, units) = used.swap_remove(random.usize(..used.len()));
                regions.give(at, units);
            }
            let end = used.iter().map(|(at, units)| at + units).max().unwrap_or(0);
            assert_eq!(regions.end(), end);
        }
        assert!(regions.end() < 300, "{}", regions.end());
    }
}
