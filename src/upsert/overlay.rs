//! Owns what this operator has emitted and not read back yet: key -> last emitted value, or gone. It is
//! laid over the state when a time is drained before the commits below it have come back. It does not own
//! when that may be; that is [`classify`](super::classify).
//!
//! It is not state: it says what was emitted, and ends as the feedback says what became of it.

use std::collections::VecDeque;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::pins::Pins;
use super::rows::Kept;

/// Emissions in order, and the last one of each key.
pub struct Overlay<K, V, T> {
    queue: VecDeque<Emission<K, V, T>>,
    /// The number of the first in the queue; they are counted from the first ever.
    first: u64,
    /// The number of each key's last emission, of those below `indexed`. Numbers below `first` are forgotten, and stay
    /// here until there is no more room: then all of them leave in one sweep. One by one, each would be a look-up.
    index: HashTable<u64>,
    /// Emissions are indexed when one is looked for: most are read back before that, where times are large.
    indexed: u64,
    /// The times drained since, whether or not anything was emitted at them: each is a sum and a cursor elsewhere.
    times: VecDeque<T>,
    /// What the emissions keep allocated.
    pins: Pins,
    /// Of 0, it takes nothing in and admits no time.
    bytes_max: usize,
    /// From this time on nothing may be looked up here: not all that it changes is here.
    barrier: Option<T>,
}

struct Emission<K, V, T> {
    hash: u64,
    key: K,
    /// `None` where the key was deleted.
    value: Option<V>,
    time: T,
}

impl<K, V, T> Overlay<K, V, T>
where
    K: Kept<V> + Eq,
    T: Ord + Clone,
{
    /// Returns an empty overlay of at most so many bytes, and two buffers.
    pub fn new(bytes_max: usize) -> Self {
        Overlay {
            queue: VecDeque::new(),
            first: 0,
            index: HashTable::new(),
            indexed: 0,
            times: VecDeque::new(),
            pins: Pins::default(),
            bytes_max,
            barrier: None,
        }
    }

    /// Whether a time may be drained over it.
    pub fn admits(&mut self, time: &T) -> bool {
        self.bytes() < self.bytes_max && self.barrier.as_ref().is_none_or(|barrier| time < barrier)
    }

    /// Lets no time from `time` on be drained over it, until the feedback has passed that.
    pub fn bar(&mut self, time: T) {
        self.barrier = self.barrier.take().max(Some(time));
    }

    /// Notes what a key was emitted with. What does not fit bars the times after this one instead.
    pub fn record(&mut self, hash: u64, key: &K, value: Option<&V>, time: &T)
    where
        K: Clone,
        V: Clone,
    {
        if self.bytes_max == 0 || (value.is_none() && crate::mutant::on("deletes_not_recorded")) {
            return;
        }
        if self.own_bytes() + self.pins.bytes_but_last() >= self.bytes_max {
            if !crate::mutant::on("overflow_unbarred") {
                self.bar(time.clone());
            }
            return;
        }
        K::places(key, value).into_iter().flatten().for_each(|place| self.pins.hold(place));
        let (key, value) = (key.clone(), value.cloned());
        self.queue.push_back(Emission { hash, key, value, time: time.clone() });
    }

    /// Makes [`get`](Overlay::get) see all that was recorded. O(what is new), amortised.
    pub fn index(&mut self) {
        let Overlay { queue, index, first, .. } = self;
        let end = *first + queue.len() as u64;
        let from = self.indexed.max(*first);
        let hash_of = |number: &u64| numbered(queue, *first, *number).map_or(0, |e| e.hash);
        let new = end.saturating_sub(from) as usize;
        if new > index.capacity() - index.len() {
            index
                .retain(|number| *number >= *first || crate::mutant::on("overlay_keeps_forgotten"));
            // In one step, and as much again as a third of what is left: the next sweep is that far off.
            index.reserve(new.max(index.len() / 3), |number| spread(hash_of(number)));
        }
        for number in from..end {
            let Some(emission) = numbered(queue, *first, number) else { continue };
            let is_key = |n: &u64| {
                let other = numbered(queue, *first, *n);
                other.is_some_and(|other| other.hash == emission.hash && other.key == emission.key)
            };
            match index.entry(spread(emission.hash), is_key, |n| spread(hash_of(n))) {
                Entry::Occupied(mut last) => *last.get_mut() = number,
                Entry::Vacant(vacant) => drop(vacant.insert(number)),
            }
        }
        self.indexed = end;
    }

    /// Returns what a key was last emitted with, among what is [indexed](Overlay::index): a value, or that
    /// it is gone. `None` if it was not emitted.
    #[inline]
    pub fn get(&self, hash: u64, key: &K) -> Option<Option<&V>> {
        if self.index.is_empty() {
            return None;
        }
        let emission = |number: u64| numbered(&self.queue, self.first, number);
        let is_key = |n: &u64| emission(*n).is_some_and(|e| e.hash == hash && e.key == *key);
        let number = self.index.find(spread(hash), is_key)?;
        emission(*number).map(|emission| emission.value.as_ref())
    }

    /// Forgets what was emitted at times below `applied`: the state has it, or what another writer has
    /// committed in its place.
    pub fn expire(&mut self, applied: &T) {
        while let Some(Emission { key, value, time, .. }) = self.queue.front()
            && time < applied
        {
            let places = K::places(key, value.as_ref());
            places.into_iter().flatten().for_each(|place| self.pins.release(place));
            self.queue.pop_front();
            self.first += 1;
        }
        while self.times.front().is_some_and(|time| time < applied) {
            self.times.pop_front();
        }
        if self.barrier.as_ref().is_some_and(|barrier| barrier < applied) {
            self.barrier = None;
        }
        if self.queue.is_empty() {
            // What a large time has taken is given back.
            self.index.clear();
            self.queue.shrink_to(KEPT);
            self.times.shrink_to(KEPT);
            self.index.shrink_to(KEPT, |_| 0);
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Overlay::new(self.bytes_max);
    }

    /// Notes that a time is drained.
    pub fn drained(&mut self, time: &T) {
        if self.bytes_max > 0 && !crate::mutant::on("empty_times_weigh_nothing") {
            self.times.push_back(time.clone());
        }
    }

    /// Returns the bytes of what is recorded, the buffers that rows keep included.
    pub fn bytes(&mut self) -> usize {
        self.own_bytes() + self.pins.bytes()
    }

    /// Returns the bound.
    pub fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    fn own_bytes(&self) -> usize {
        let one = size_of::<Emission<K, V, T>>() + INDEX_BYTES;
        self.queue.len() * one + self.times.len() * TIME_BYTES
    }
}

/// Returns an emission by its number, if it is not forgotten.
#[inline]
fn numbered<E>(queue: &VecDeque<E>, first: u64, number: u64) -> Option<&E> {
    queue.get(number.checked_sub(first)? as usize)
}

/// The index wants bits that are good at both ends; those of a worker's keys may have much in common.
#[inline]
fn spread(hash: u64) -> u64 {
    hash.wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// Bytes of the index per emission, about, the forgotten ones that are still there included.
const INDEX_BYTES: usize = 24;
/// What a time that waits for its commit takes in all, here and beside the commands of the feed.
const TIME_BYTES: usize = 128;
/// Room for so many emissions is kept: that of a usual time, which would else grow anew for each, by doubling.
const KEPT: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::codec::packed::Packed;

    const ONE: usize = size_of::<Emission<u64, String, u64>>() + INDEX_BYTES;

    fn overlay(rows_max: usize) -> Overlay<u64, String, u64> {
        Overlay::new(rows_max * ONE)
    }

    fn record(overlay: &mut Overlay<u64, String, u64>, key: u64, value: Option<&str>, time: u64) {
        overlay.record(key % 3, &key, value.map(str::to_string).as_ref(), &time);
        overlay.index();
    }

    fn get(overlay: &Overlay<u64, String, u64>, key: u64) -> Option<Option<&str>> {
        overlay.get(key % 3, &key).map(|value| value.map(String::as_str))
    }

    #[test]
    fn the_last_emission_of_a_key_counts_until_it_is_read_back() {
        let mut overlay = overlay(100);
        record(&mut overlay, 1, Some("a"), 5);
        record(&mut overlay, 4, Some("x"), 5);
        record(&mut overlay, 1, Some("b"), 6);
        record(&mut overlay, 4, None, 7);
        assert_eq!(
            (get(&overlay, 1), get(&overlay, 4), get(&overlay, 7)),
            (Some(Some("b")), Some(None), None)
        );
        overlay.expire(&6);
        assert_eq!((get(&overlay, 1), get(&overlay, 4)), (Some(Some("b")), Some(None)));
        overlay.expire(&7);
        assert_eq!((get(&overlay, 1), get(&overlay, 4)), (None, Some(None)));
        overlay.expire(&8);
        assert_eq!((overlay.bytes(), get(&overlay, 4), overlay.index.len()), (0, None, 0));
        assert_eq!(overlay.pins.bytes(), 0);
    }

    #[test]
    fn what_is_read_back_before_it_is_looked_for_is_never_indexed() {
        let mut overlay = overlay(100);
        (0..50).for_each(|key| overlay.record(key, &key, None, &5));
        overlay.expire(&6);
        assert_eq!((overlay.index.len(), overlay.first), (0, 50));
        record(&mut overlay, 1, Some("a"), 6);
        assert_eq!(get(&overlay, 1), Some(Some("a")));
    }

    /// Against a list: what is forgotten is not found, also before it is swept, and the index does not grow by it.
    #[test]
    fn finds_what_a_list_of_emissions_has() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut overlay = overlay(usize::MAX / ONE);
        let mut list = Vec::<(u64, Option<String>, u64)>::new();
        for time in 0..3000 {
            for _ in 0..random.u32(..40) {
                let key = random.u64(..1000);
                let value = (random.u32(..4) > 0).then(|| time.to_string());
                overlay.record(key % 300, &key, value.as_ref(), &time);
                list.push((key, value, time));
            }
            overlay.index();
            for key in (0..5).map(|_| random.u64(..1000)) {
                let last = list.iter().rev().find(|(other, ..)| *other == key);
                let expected = last.map(|(_, value, _)| value.as_ref());
                assert_eq!(overlay.get(key % 300, &key), expected, "key {key} at {time}");
            }
            // Nearly all of it once in a while, and some mostly.
            let behind = if random.u32(..50) == 0 { 1 } else { random.u64(..30) };
            let applied = time.saturating_sub(behind);
            overlay.expire(&applied);
            list.retain(|(.., time)| *time >= applied);
            assert!(overlay.index.len() <= 3000, "{} numbers", overlay.index.len());
        }
    }

    #[test]
    fn a_time_that_does_not_fit_bars_those_after_it() {
        let mut overlay = overlay(2);
        record(&mut overlay, 1, Some("a"), 5);
        assert!(overlay.admits(&6));
        record(&mut overlay, 2, Some("a"), 6);
        assert!(!overlay.admits(&7), "full");
        record(&mut overlay, 3, Some("a"), 6);
        overlay.expire(&6);
        // There is room, and key 3 is missing.
        assert!(overlay.bytes() < overlay.bytes_max() && !overlay.admits(&7));
        overlay.expire(&7);
        assert!(overlay.admits(&7));
    }

    #[test]
    fn a_bar_holds_until_the_feedback_has_passed_it() {
        let mut overlay = overlay(100);
        overlay.bar(5);
        assert!(overlay.admits(&4) && !overlay.admits(&5) && !overlay.admits(&6));
        overlay.expire(&5);
        assert!(!overlay.admits(&5));
        overlay.expire(&6);
        assert!(overlay.admits(&6));
    }

    /// A feed of rewrites emits nothing, and may not be read without end before a commit.
    #[test]
    fn a_time_without_emissions_weighs_too() {
        let mut overlay = overlay(100);
        (5..100).for_each(|time| overlay.drained(&time));
        assert!(!overlay.admits(&100));
        overlay.expire(&99);
        assert!(overlay.admits(&100));
        assert_eq!(overlay.bytes(), TIME_BYTES);
    }

    /// One row out of a large buffer keeps the whole of it.
    #[test]
    fn a_row_weighs_what_it_keeps() {
        let buffer = Arc::new(vec![7; 1 << 16]);
        let row = |at| Packed::<()>::within(&buffer, at, 8);
        let mut overlay = Overlay::<Packed<()>, Packed<()>, u64>::new(1 << 16);
        overlay.record(1, &row(0), Some(&row(8)), &5);
        assert!(overlay.bytes() > 1 << 16 && !overlay.admits(&6));
        overlay.expire(&6);
        assert_eq!(overlay.bytes(), 0);
    }

    #[test]
    fn of_no_bytes_it_takes_nothing_and_admits_nothing() {
        let mut overlay = overlay(0);
        record(&mut overlay, 1, Some("a"), 5);
        assert!(!overlay.admits(&6) && overlay.queue.is_empty() && overlay.barrier.is_none());
        overlay.drained(&5);
        assert_eq!(overlay.bytes(), 0);
    }
}
