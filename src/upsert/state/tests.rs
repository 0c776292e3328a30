//! Goal: the state against a map: what lives is found, and what dies is given back.

use super::tiny::{Key, TINY_ROWS, Value};
use super::*;
use proptest::prelude::*;

use crate::codec::packed::Encoded;
use crate::upsert::cold::Job;
use crate::upsert::placed::ColdFile;
use crate::upsert::rows::KeyHash;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

pub(super) fn bytes(text: &str) -> Encoded {
    Encoded::from_bytes(text.as_bytes().to_vec())
}

pub(super) fn contents<K: Kept<V> + Clone + Ord, V: Clone + Ord>(
    state: &mut State<K, V>,
) -> BTreeMap<K, V> {
    let mut all = BTreeMap::new();
    let mut last = None;
    while let Some(live) = state.next(last).unwrap() {
        let (key, value) = state.get(live.slot).unwrap();
        assert!(all.insert(key, value).is_none(), "two live rows for a key");
        last = Some(live.slot);
    }
    all
}

/// Returns a key's value, read as a drain reads it.
pub(super) fn read<K: Kept<V> + Clone + Ord, V: Clone + Ord>(
    state: &mut State<K, V>,
    hash: u64,
    key: &K,
) -> Result<Option<V>, Error> {
    let mut found = Vec::new();
    state.bring([(hash, key)].into_iter())?;
    state.find_all([(hash, key)].into_iter(), &mut found);
    let Some(entry) = found[0] else { return Ok(None) };
    state.fetch([entry].into_iter())?;
    state.arrive()?;
    assert!(state.is_here(&entry), "it reads at once");
    let slot = state.confirm(hash, key, &entry)?;
    Ok(slot.and_then(|slot| state.get(slot)).map(|(_, value)| value))
}

/// Key `number` of those below `numbers`, and its hash.
pub(super) fn key_of(number: u64) -> (Encoded, u64) {
    let key = bytes(&format!("key {number}"));
    let hash = key.key_hash();
    (key, hash)
}

/// Puts of changing length, deletes and rewrites against a plain map: the index, overwriting in
/// place, moving, compaction, writing out and reading must not lose, keep or mix a row.
fn matches_a_map_under_churn(bytes_max: Option<usize>, steps: u64) {
    let mut state = State::<Encoded, Encoded>::new(bytes_max, ColdSpace::default());
    let mut model = BTreeMap::<Encoded, Encoded>::new();
    let mut random = fastrand::Rng::with_seed(7);
    let mut cold_rows = 0;
    for step in 0..steps {
        let (key, hash) = key_of(random.u64(..3000));
        let prior = model.get(&key).cloned();
        if random.bool() {
            assert_eq!(read(&mut state, hash, &key).unwrap(), prior, "step {step}");
        }
        let length = 20 + random.usize(..3) * 300;
        let value = bytes(&format!("{step:0length$}"));
        match (prior, random.u32(..4)) {
            (Some(prior), 0) => {
                state.apply(hash, &key, &prior, -1).unwrap();
                model.remove(&key);
            }
            (Some(prior), 1) => {
                // As feedback that comes the other way round.
                state.apply(hash, &key, &value, 1).unwrap();
                state.apply(hash, &key, &prior, -1).unwrap();
                model.insert(key, value);
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
        state.keep_bound().unwrap();
        cold_rows = cold_rows.max(state.places().cold_rows);
        let places = state.places();
        assert_eq!(places.hot_rows + places.cold_rows, model.len() as u64, "step {step}");
        if let Some(max) = bytes_max {
            // The index, what is known of each chunk, the tail and one more, what was read, and a row larger than a chunk.
            let least = state.index.bytes() + state.chunks.count() * 200 + (64 << 10);
            assert!(state.bytes() < max.max(least), "{} bytes, bound {max}", state.bytes());
        }
    }
    assert_eq!(cold_rows > 0, bytes_max.is_some());
    assert_eq!(contents(&mut state), model);
    assert_eq!(state.len(), model.len());
    assert!(state.unsettled().is_none());
    let live: usize = model.iter().map(|(k, v)| k.as_bytes().len() + v.as_bytes().len()).sum();
    assert!(state.bytes() < 3 * live + (4 << 20), "{} for {live} live", state.bytes());
    // Chunks of a few rows take a unit of the file each.
    let units = 4096 * state.chunks.count() as u64;
    assert!(state.places().cold_bytes < 3 * live as u64 + units, "{:?}", state.places());
    // What is deleted leaves nothing behind.
    for (key, value) in model {
        state.apply(key.key_hash(), &key, &value, -1).unwrap();
    }
    assert_eq!((state.len(), state.places().cold_bytes), (0, 0));
}

#[test]
fn matches_a_map() {
    matches_a_map_under_churn(None, 200_000);
}

/// With a chunk written out at every one that is sealed, and so at nearly every step.
#[test]
fn matches_a_map_with_two_chunks_in_memory() {
    matches_a_map_under_churn(Some(0), 60_000);
}

#[test]
fn matches_a_map_with_a_part_in_memory() {
    matches_a_map_under_churn(Some(64 << 10), 60_000);
    matches_a_map_under_churn(Some(400 << 10), 60_000);
}

#[test]
fn settles_whatever_the_order() {
    let [key, one, two] = ["k", "one", "two"].map(bytes);
    let mut state = State::<Encoded, Encoded>::default();
    // +one, then -one +two in the wrong order, with a stray pair in between.
    state.apply(key.key_hash(), &key, &one, 1).unwrap();
    state.apply(key.key_hash(), &key, &two, 1).unwrap();
    assert!(state.unsettled().is_some());
    state.apply(key.key_hash(), &key, &one, 2).unwrap();
    state.apply(key.key_hash(), &key, &one, -3).unwrap();
    assert!(state.unsettled().is_none());
    assert_eq!(contents(&mut state), BTreeMap::from([(key.clone(), two.clone())]));
    // A retraction ahead of its insertion.
    let late = bytes("late");
    state.apply(late.key_hash(), &late, &one, -1).unwrap();
    assert!(state.unsettled().is_some());
    state.apply(late.key_hash(), &late, &one, 1).unwrap();
    assert!(state.unsettled().is_none());
    assert!(
        !state.replace(None, key.key_hash(), &key, &one, &two).unwrap(),
        "`one` is not the live value"
    );
    assert_eq!(contents(&mut state), BTreeMap::from([(key, two)]));
}

/// A key whose updates do not add up yet has others go on as before, and reads nothing but its own row.
#[test]
fn one_key_that_waits_does_not_make_others_read() {
    let mut state = State::<Encoded, Encoded>::new(Some(0), ColdSpace::default());
    let [old, new] = ["an old value", "a new one"].map(bytes);
    for number in 0..500 {
        let (key, hash) = key_of(number);
        state.apply(hash, &key, &old, 1).unwrap();
    }
    let (first, first_hash) = key_of(0);
    state.apply(first_hash, &first, &new, 1).unwrap();
    assert!(!state.is_settled());
    let counts = state.unsettled().map(|(key, counts)| (key.clone(), counts)).unwrap();
    assert_eq!(counts, (first.clone(), BTreeMap::from([(old.clone(), 1), (new.clone(), 1)])));
    assert!(state.take_counts().reads <= 1);
    for number in 1..500 {
        let (key, hash) = key_of(number);
        match number % 3 {
            0 => assert!(state.replace(None, hash, &key, &old, &new).unwrap(), "{number}"),
            1 => state.apply(hash, &key, &old, -1).unwrap(),
            _ => {}
        }
    }
    assert_eq!(state.take_counts().reads, 0);
    assert!(!state.replace(None, first_hash, &first, &old, &new).unwrap());
    state.apply(first_hash, &first, &old, -1).unwrap();
    assert!(state.is_settled());
    let value = |number| match number % 3 {
        0 => Some(new.clone()),
        1 => None,
        _ => Some(old.clone()),
    };
    for number in 0..500 {
        let (key, hash) = key_of(number);
        assert_eq!(read(&mut state, hash, &key).unwrap(), value(number), "{number}");
    }
}

/// Looking up many keys at once finds what looking up each does, also where hashes collide.
#[test]
fn many_look_ups_are_many_times_one() {
    let mut state = State::<Key, Value>::default();
    let keys: Vec<_> = (0..250).map(|n| (Key(n).key_hash(), Key(n))).collect();
    for (hash, key) in keys.iter().step_by(3) {
        state.apply(*hash, key, &Value(key.0), 1).unwrap();
    }
    let mut found = Vec::new();
    state.find_all(keys.iter().map(|(hash, key)| (*hash, key)), &mut found);
    assert_eq!(found.len(), keys.len());
    for ((at, (hash, key)), entry) in keys.iter().enumerate().zip(found) {
        assert_eq!(entry, state.find(*hash, key));
        let row = entry.and_then(|entry| state.get(entry.slot()));
        assert_eq!(row, (at % 3 == 0).then_some((*key, Value(key.0))));
    }
}

/// Rows that die while their chunk still takes rows are given back as well: 100,000 keys come and go, few at a time.
#[test]
fn what_dies_young_is_given_back() {
    for at_a_time in [1, 3, 700] {
        let mut state = State::<Encoded, Encoded>::default();
        for number in 0..30_000u64 {
            let (key, value) = (bytes(&number.to_string()), bytes(&format!("{number:01000}")));
            state.apply(key.key_hash(), &key, &value, 1).unwrap();
            if let Some(old) = number.checked_sub(at_a_time) {
                let (key, value) = (bytes(&old.to_string()), bytes(&format!("{old:01000}")));
                state.apply(key.key_hash(), &key, &value, -1).unwrap();
            }
            assert!(state.bytes() < 6 << 20, "{} bytes for {} keys", state.bytes(), state.len());
        }
        assert_eq!(state.len(), at_a_time as usize);
        assert!(state.chunks.count() < 6, "{} chunks", state.chunks.count());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// A state with room for a handful of chunks, all in memory or two of them, driven to its end and beyond: it says that
    /// it is full, and never loses, keeps or mixes a row; what is deleted makes room again.
    #[test]
    fn a_full_state_keeps_every_row(
        chunks_max in 2..6usize,
        is_bounded in any::<bool>(),
        looks in any::<bool>(),
        steps in prop::collection::vec((0..40u8, any::<u8>(), 0..4u8), 1..400),
    ) {
        let mut state = State::<Key, Value>::new(is_bounded.then_some(0), ColdSpace::default());
        state.chunks.chunks_max = chunks_max;
        let mut model = BTreeMap::new();
        for (key, value, verb) in steps {
            let (key, value) = (Key(key), Value(value));
            let hash = key.key_hash();
            match (model.get(&key).copied(), verb) {
                (Some(prior), 0 | 1) => {
                    prop_assert!(state.apply(hash, &key, &prior, -1).is_ok());
                    model.remove(&key);
                }
                (Some(prior), _) => match state.replace(None, hash, &key, &prior, &value) {
                    Ok(replaced) => {
                        prop_assert!(replaced);
                        model.insert(key, value);
                    }
                    Err(_) => prop_assert!(model.len() >= TINY_ROWS / 2 * (chunks_max - 1)),
                },
                (None, _) => match state.apply(hash, &key, &value, 1) {
                    Ok(()) => drop(model.insert(key, value)),
                    Err(_) => prop_assert!(model.len() >= TINY_ROWS / 2 * (chunks_max - 1)),
                },
            }
            prop_assert!(state.keep_bound().is_ok());
            prop_assert!(state.chunks.count() <= chunks_max);
            // What was read is in memory for a while, and has to be left out of it to be looked for by its hash.
            if !looks {
                continue;
            }
            for number in 0..40 {
                let key = Key(number);
                let found = read(&mut state, key.key_hash(), &key).unwrap();
                prop_assert_eq!(found, model.get(&key).copied());
            }
            prop_assert_eq!(&contents(&mut state), &model);
        }
        prop_assert!(state.is_settled());
        prop_assert_eq!(&contents(&mut state), &model);
    }
}

/// What a file may do to its reader.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Fault {
    Fails,
    Short,
    /// It has what was written there first.
    OtherVersion,
    /// One byte is another.
    Flipped(usize),
}

/// A file in memory that keeps the first version of each byte beside the last.
#[derive(Default)]
pub(super) struct Faulty {
    first: Mutex<Vec<Option<u8>>>,
    pub(super) last: Mutex<Vec<u8>>,
    fault: Mutex<Option<Fault>>,
}

impl ColdFile for Faulty {
    fn read_at(&self, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        let range = at as usize..at as usize + bytes.len();
        let (first, last) = (self.first.lock().unwrap(), self.last.lock().unwrap());
        bytes.copy_from_slice(last.get(range.clone()).ok_or(io::ErrorKind::UnexpectedEof)?);
        match *self.fault.lock().unwrap() {
            None => {}
            Some(Fault::Fails) => return Err(io::ErrorKind::TimedOut.into()),
            Some(Fault::Short) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Some(Fault::OtherVersion) => {
                let first = first[range].iter().map(|byte| byte.unwrap_or(0));
                bytes.iter_mut().zip(first).for_each(|(byte, first)| *byte = first);
            }
            Some(Fault::Flipped(at)) => {
                let length = bytes.len();
                bytes[at % length] ^= 0x10;
            }
        }
        Ok(())
    }

    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        if self.fault.lock().unwrap().is_some() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let end = at as usize + bytes.len();
        let (mut first, mut last) = (self.first.lock().unwrap(), self.last.lock().unwrap());
        let length = last.len().max(end);
        first.resize(length, None);
        last.resize(length, 0);
        last[at as usize..end].copy_from_slice(bytes);
        for (byte, new) in first[at as usize..end].iter_mut().zip(bytes) {
            byte.get_or_insert(*new);
        }
        Ok(())
    }

    fn cut(&self, _: u64) -> io::Result<()> {
        Ok(())
    }
}

/// A file in memory that outlives the state that writes it.
pub(super) fn kept_file(file: &Arc<Faulty>) -> ColdSpace {
    let made = Arc::clone(file);
    ColdSpace {
        file: Some(Box::new(move || Ok(Arc::clone(&made) as Arc<dyn ColdFile>))),
        ..ColdSpace::default()
    }
}

/// A read that fails, is short, returns another version or one bit that is another is an error, and never a row.
#[test]
fn what_is_read_is_what_was_written_or_an_error() {
    let faults = [Fault::Fails, Fault::Short, Fault::OtherVersion];
    let flips = (0..64).map(Fault::Flipped);
    for fault in faults.into_iter().chain(flips) {
        let file = Arc::new(Faulty::default());
        let mut state = State::<Encoded, Encoded>::new(Some(0), kept_file(&file));
        let value = |number, round: u64| bytes(&format!("{round} {number:050}"));
        for number in 0..500u64 {
            let (key, hash) = key_of(number);
            state.apply(hash, &key, &value(number, 0), 1).unwrap();
        }
        // Each row anew, so that the file is written over.
        for round in 1..5u64 {
            for number in 0..500 {
                let (key, hash) = key_of(number);
                let (old, new) = (value(number, round - 1), value(number, round));
                assert!(state.replace(None, hash, &key, &old, &new).unwrap());
            }
        }
        *file.fault.lock().unwrap() = Some(fault);
        let (mut told, mut whole) = (0, 0);
        for number in 0..500 {
            let (key, hash) = key_of(number);
            match read(&mut state, hash, &key) {
                Ok(found) => {
                    assert_eq!(found, Some(value(number, 4)), "{fault:?}, key {number}");
                    whole += 1;
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::StateLost, "{fault:?}: {error}");
                    told += 1;
                }
            }
        }
        assert!(told > 0 && whole > 0, "{fault:?}: {told} errors, {whole} rows");
    }
}

/// A file that takes nothing is an error, and the rows are in memory still.
#[test]
fn what_cannot_be_written_stays() {
    let file = Arc::new(Faulty::default());
    *file.fault.lock().unwrap() = Some(Fault::Fails);
    let mut state = State::<Encoded, Encoded>::new(Some(0), kept_file(&file));
    let mut refused = 0;
    for number in 0..500u64 {
        let (key, hash) = key_of(number);
        refused += u32::from(state.apply(hash, &key, &bytes("some value"), 1).is_err());
    }
    assert!(refused > 0);
    for number in 0..400 {
        let (key, hash) = key_of(number);
        let found = read(&mut state, hash, &key).unwrap();
        assert!(found.is_none_or(|value| value == bytes("some value")));
    }
    assert_eq!(state.places().cold_rows, 0);
}

/// Reads that come late, of rows that have moved since and whose places have others: they bring nothing.
#[test]
fn a_read_that_comes_late_brings_nothing() {
    let jobs = Rc::new(RefCell::new(Vec::<Job>::new()));
    let queue = Rc::clone(&jobs);
    let space = ColdSpace {
        readers: Some(Box::new(move |job| queue.borrow_mut().push(job))),
        ..ColdSpace::default()
    };
    let mut state = State::<Key, Value>::new(Some(0), space);
    let mut random = fastrand::Rng::with_seed(7);
    let mut model = BTreeMap::<Key, Value>::new();
    let mut reads = 0;
    for step in 0..20_000 {
        let key = Key(random.u8(..40));
        let (hash, value) = (key.key_hash(), Value(random.u8(..)));
        match model.get(&key).copied() {
            Some(prior) if random.bool() => {
                state.apply(hash, &key, &prior, -1).unwrap();
                model.remove(&key);
            }
            Some(prior) => {
                assert!(state.replace(None, hash, &key, &prior, &value).unwrap());
                model.insert(key, value);
            }
            None => {
                state.apply(hash, &key, &value, 1).unwrap();
                model.insert(key, value);
            }
        }
        state.keep_bound().unwrap();
        let mut found = Vec::new();
        let wanted: Vec<_> = (0..4).map(|_| Key(random.u8(..40))).collect();
        state.find_all(wanted.iter().map(|key| (key.key_hash(), key)), &mut found);
        reads += state.fetch(found.iter().flatten().copied()).unwrap().begun;
        // Some of what was asked for now or long ago is done, in any order.
        while random.u32(..3) > 0 && !jobs.borrow().is_empty() {
            let at = random.usize(..jobs.borrow().len());
            let job = jobs.borrow_mut().swap_remove(at);
            // One in ten is given up; it says so, and is asked for again.
            if random.u32(..10) > 0 { job() } else { drop(job) }
        }
        match state.arrive() {
            Ok(()) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}"),
        }
        for (key, entry) in wanted.iter().zip(&found) {
            let Some(entry) = entry.filter(|entry| state.is_here(entry)) else { continue };
            let slot = state.confirm(key.key_hash(), key, &entry).unwrap();
            let value = slot.and_then(|slot| state.get(slot)).map(|(_, value)| value);
            assert_eq!(value, model.get(key).copied(), "step {step}");
        }
    }
    assert!(reads > 1000, "{reads} reads");
    assert_eq!(contents(&mut state), model);
}
