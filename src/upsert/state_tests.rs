//! Goal: the state against a map: what lives is found, and what dies is given back.

use super::*;
use proptest::prelude::*;

use crate::codec::packed::Encoded;
use crate::upsert::rows::KeyHash;
use std::collections::BTreeMap;

fn bytes(text: &str) -> Encoded {
    Encoded::from_bytes(text.as_bytes().to_vec())
}

fn contents(state: &State<Encoded, Encoded>) -> BTreeMap<Encoded, Encoded> {
    let mut all = BTreeMap::new();
    let mut slot = state.next(None);
    while let Some(at) = slot {
        let (key, value) = state.get(at);
        assert!(all.insert(key, value).is_none(), "two live rows for a key");
        slot = state.next(Some(at));
    }
    all
}

/// Puts of changing length, deletes and rewrites against a plain map: the index, overwriting in
/// place, moving and compaction must not lose, keep or mix a row.
#[test]
fn matches_a_map_under_churn() {
    let mut state = State::<Encoded, Encoded>::default();
    let mut model = BTreeMap::<Encoded, Encoded>::new();
    let mut random = fastrand::Rng::with_seed(7);
    for step in 0..200_000u64 {
        let number = random.u64(..3000);
        let (key, hash) = (bytes(&format!("key {number}")), number);
        let prior = model.get(&key).cloned();
        let length = 20 + random.usize(..3) * 300;
        let value = bytes(&format!("{step:0length$}"));
        match (prior, random.u32(..4)) {
            (Some(prior), 0) => {
                state.apply(hash, &key, &prior, -1).unwrap();
                model.remove(&key);
            }
            (Some(prior), _) => {
                assert!(state.replace(None, hash, &key, &prior, &value).unwrap());
                model.insert(key, value);
            }
            (None, _) => {
                state.apply(hash, &key, &value, 1).unwrap();
                model.insert(key, value);
            }
        }
    }
    assert_eq!(contents(&state), model);
    assert_eq!(state.len(), model.len());
    assert!(state.unsettled().is_none());
    let live: usize = model.iter().map(|(k, v)| k.as_bytes().len() + v.as_bytes().len()).sum();
    assert!(state.bytes() < 3 * live + (4 << 20), "{} for {live} live", state.bytes());
}

#[test]
fn settles_whatever_the_order() {
    let [key, one, two] = ["k", "one", "two"].map(bytes);
    let mut state = State::<Encoded, Encoded>::default();
    // +one, then -one +two in the wrong order, with a stray pair in between.
    state.apply(1, &key, &one, 1).unwrap();
    state.apply(1, &key, &two, 1).unwrap();
    assert!(state.unsettled().is_some());
    state.apply(1, &key, &one, 2).unwrap();
    state.apply(1, &key, &one, -3).unwrap();
    assert!(state.unsettled().is_none());
    assert_eq!(contents(&state), BTreeMap::from([(key.clone(), two.clone())]));
    // A retraction ahead of its insertion.
    let late = bytes("late");
    state.apply(2, &late, &one, -1).unwrap();
    assert!(state.unsettled().is_some());
    state.apply(2, &late, &one, 1).unwrap();
    assert!(state.unsettled().is_none());
    assert!(!state.replace(None, 1, &key, &one, &two).unwrap(), "`one` is not the live value");
    assert_eq!(contents(&state), BTreeMap::from([(key, two)]));
}

/// Looking up many keys at once finds what looking up each does, also where hashes collide.
#[test]
fn many_look_ups_are_many_times_one() {
    let mut state = State::<Encoded, Encoded>::default();
    let keys: Vec<_> = (0..5000u64).map(|n| (n / 7, bytes(&format!("key {n}")))).collect();
    for (hash, key) in keys.iter().step_by(3) {
        state.apply(*hash, key, key, 1).unwrap();
    }
    let mut found = Vec::new();
    state.find_all(keys.iter().map(|(hash, key)| (*hash, key)), &mut found);
    assert_eq!(found.len(), keys.len());
    for ((at, (hash, key)), slot) in keys.iter().enumerate().zip(found) {
        assert_eq!(slot, state.find(*hash, key));
        assert_eq!(slot.map(|slot| state.get(slot).0), (at % 3 == 0).then(|| key.clone()));
    }
}

/// Rows that die while their chunk still takes rows are given back as well: 100,000 keys come and go, few at a time.
#[test]
fn what_dies_young_is_given_back() {
    for at_a_time in [1, 3, 700] {
        let mut state = State::<Encoded, Encoded>::default();
        for number in 0..30_000u64 {
            let (key, value) = (bytes(&number.to_string()), bytes(&format!("{number:01000}")));
            state.apply(number, &key, &value, 1).unwrap();
            if let Some(old) = number.checked_sub(at_a_time) {
                let (key, value) = (bytes(&old.to_string()), bytes(&format!("{old:01000}")));
                state.apply(old, &key, &value, -1).unwrap();
            }
            assert!(state.bytes() < 6 << 20, "{} bytes for {} keys", state.bytes(), state.len());
        }
        assert_eq!(state.len(), at_a_time as usize);
        assert!(state.chunks.len() < 6, "{} chunks", state.chunks.len());
    }
}

/// Chunks of four rows, so that a few rows fill a state.
#[derive(Debug, Default)]
struct Tiny(Vec<(u32, u8, u8)>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key(u8);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Value(u8);

impl KeyHash for Key {
    fn key_hash(&self) -> u64 {
        self.0.into()
    }
}

impl Kept<Value> for Key {
    type Rows = Tiny;
}

const TINY_ROWS: usize = 4;

impl Rows<Key, Value> for Tiny {
    type Gather = Vec<Value>;

    fn push(&mut self, hash: u32, key: &Key, value: &Value) -> Option<u32> {
        self.0.push((hash, key.0, value.0));
        let row = self.0.len() - 1;
        self.0.truncate(TINY_ROWS);
        (row < TINY_ROWS).then_some(row as u32)
    }

    fn push_row(&mut self, other: &Self, row: u32) -> Option<u32> {
        let (hash, key, value) = other.0[row as usize];
        self.push(hash, &Key(key), &Value(value))
    }

    fn hash(&self, row: u32) -> u32 {
        self.0[row as usize].0
    }

    fn key_is(&self, row: u32, key: &Key) -> bool {
        self.0[row as usize].1 == key.0
    }

    fn value_is(&self, row: u32, value: &Value) -> bool {
        self.0[row as usize].2 == value.0
    }

    fn overwrite(&mut self, row: u32, value: &Value) -> bool {
        // Half of the values fit, as if of equal length.
        let fits = (value.0 ^ self.0[row as usize].2).is_multiple_of(2);
        if fits {
            self.0[row as usize].2 = value.0;
        }
        fits
    }

    fn gather(&self, row: u32, into: &mut Vec<Value>) {
        into.push(Value(self.0[row as usize].2));
    }

    fn values(gather: &mut Vec<Value>) -> impl Iterator<Item = Value> {
        std::mem::take(gather).into_iter()
    }

    fn copy_key(&self, row: u32) -> Key {
        Key(self.0[row as usize].1)
    }

    fn get(&self, row: u32) -> (Key, Value) {
        let (_, key, value) = self.0[row as usize];
        (Key(key), Value(value))
    }

    fn next(&self, row: Option<u32>) -> Option<u32> {
        let next = row.map_or(0, |row| row + 1);
        ((next as usize) < self.0.len()).then_some(next)
    }

    fn row_bytes(&self, _row: u32) -> usize {
        8
    }

    fn share(&self, _row: u32) -> usize {
        1
    }

    fn shares(&self) -> usize {
        self.0.len()
    }

    fn heap_bytes(&self) -> usize {
        self.0.len() * 8
    }

    fn seal(&mut self) {}
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// A state with room for a handful of chunks, driven to its end and beyond: it says that it is full, and never loses,
    /// keeps or mixes a row; what is deleted makes room again.
    #[test]
    fn a_full_state_keeps_every_row(
        chunks_max in 2..6usize,
        steps in prop::collection::vec((0..40u8, any::<u8>(), 0..4u8), 1..400),
    ) {
        let mut state = State::<Key, Value> { chunks_max, ..State::default() };
        let mut model = BTreeMap::new();
        for (key, value, verb) in steps {
            // Few hashes, so that they collide.
            let (hash, key, value) = (u64::from(key % 7), Key(key), Value(value));
            match (model.get(&key).copied(), verb) {
                (Some(prior), 0 | 1) => {
                    prop_assert_eq!(state.apply(hash, &key, &prior, -1), Ok(()));
                    model.remove(&key);
                }
                (Some(prior), _) => match state.replace(None, hash, &key, &prior, &value) {
                    Ok(replaced) => {
                        prop_assert!(replaced);
                        model.insert(key, value);
                    }
                    Err(Full) => prop_assert!(model.len() >= TINY_ROWS / 2 * (chunks_max - 1)),
                },
                (None, _) => match state.apply(hash, &key, &value, 1) {
                    Ok(()) => drop(model.insert(key, value)),
                    Err(Full) => prop_assert!(model.len() >= TINY_ROWS / 2 * (chunks_max - 1)),
                },
            }
            let mut contents = BTreeMap::new();
            let mut slot = state.next(None);
            while let Some(at) = slot {
                let (key, value) = state.get(at);
                prop_assert_eq!(contents.insert(key, value), None);
                prop_assert_eq!(state.find(u64::from(key.0 % 7), &key), Some(at));
                slot = state.next(Some(at));
            }
            prop_assert_eq!(&contents, &model);
            prop_assert!(state.chunks.len() <= chunks_max);
        }
    }
}
