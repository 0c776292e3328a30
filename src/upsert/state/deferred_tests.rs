//! Goal: updates that wait for their segments of an image come to the same state, however they come and whenever a segment is
//! read, and what was found of rows stays where it is meanwhile. Method: images in memory, of which each read is counted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::super::tests::{Faulty, bytes, contents, kept_file, key_of, read};
use super::tests::{capture_all, reads, start_on};
use super::*;
use crate::codec::packed::Encoded;
use crate::upsert::placed::ColdFile;

/// Updates since the image that do not add up at first read rows that the file may have in a later version: by their key. So it
/// is where few of them wait for their segment until the replay is over, and where all of them bring it in.
#[test]
fn updates_since_an_image_come_in_any_order() {
    let file = Arc::new(Faulty::default());
    let mut state = State::<Encoded, Encoded>::new(None, kept_file(&file));
    state.keep_images();
    let value = |number, version: u32| bytes(&format!("{number} in version {version}"));
    for number in 0..500 {
        let (key, hash) = key_of(number);
        state.apply(hash, &key, &value(number, 0), 1).unwrap();
    }
    for (every, is_read) in [(1, true), (20, false), (1, false)] {
        let (pieces, all) = capture_all(&mut state);
        // Before their chunks are in the file some rows are overwritten there.
        for number in (0..500).step_by(every) {
            let (key, hash) = key_of(number);
            let [old, new] = [0, 1].map(|version| value(number, version));
            assert!(state.replace(None, hash, &key, &old, &new).unwrap());
        }
        let chunks = state.write_round(usize::MAX).unwrap().unwrap();
        state.end_round();
        let disk = Arc::new(Faulty::default());
        disk.write_at(0, &file.last.lock().unwrap()).unwrap();
        let mut start = start_on(None, (&pieces, &chunks), reads(all), &disk);
        for number in (0..500).step_by(every) {
            let (key, hash) = key_of(number);
            if is_read {
                start.bring([(hash, &key)].into_iter()).unwrap();
            }
            start.apply(hash, &key, &value(number, 1), 1).unwrap();
            assert_eq!(start.is_settled(), start.is_unread(hash));
            start.apply(hash, &key, &value(number, 0), -1).unwrap();
            assert!(start.is_settled(), "key {number}");
        }
        start.end_replay();
        assert_eq!(start.index.has_unread(), every == 20);
        for number in 0..500 {
            let (key, hash) = key_of(number);
            let version = u32::from(number % every as u64 == 0);
            assert_eq!(read(&mut start, hash, &key).unwrap(), Some(value(number, version)));
        }
        for number in (0..500).step_by(every) {
            let (key, hash) = key_of(number);
            let [old, new] = [0, 1].map(|version| value(number, version));
            assert!(state.replace(None, hash, &key, &new, &old).unwrap());
        }
    }
}

/// A start whose updates are of every segment reads those that it looks into, and the others in its own time; the updates are
/// counted until then.
#[test]
fn an_update_waits_for_its_segment() {
    let file = Arc::new(Faulty::default());
    let mut state = State::<Encoded, Encoded>::new(None, kept_file(&file));
    state.keep_images();
    let value = |number: u64, version: u32| bytes(&format!("{number} in version {version}"));
    const KEYS: u64 = 60_000;
    for number in 0..KEYS {
        let (key, hash) = key_of(number);
        state.apply(hash, &key, &value(number, 0), 1).unwrap();
    }
    let (pieces, all) = capture_all(&mut state);
    let chunks = state.write_round(usize::MAX).unwrap().unwrap();
    let read_pieces = Arc::new(AtomicUsize::new(0));
    let begin = || {
        let (count, all) = (Arc::clone(&read_pieces), all.clone());
        let reads = Box::new(move |piece: u32| {
            count.fetch_add(1, Ordering::Relaxed);
            Ok(all[piece as usize].clone())
        });
        start_on(None, (&pieces, &chunks), reads, &file)
    };
    let taken = || read_pieces.swap(0, Ordering::Relaxed);

    let mut start = begin();
    let (empty, mut model) = (start.bytes(), BTreeMap::new());
    for number in 0..KEYS {
        let (key, hash) = key_of(number);
        let mut live = value(number, 0);
        if number % 20 == 0 {
            start.apply(hash, &key, &live, -1).unwrap();
            live = value(number, 1);
            start.apply(hash, &key, &live, 1).unwrap();
        }
        model.insert(key, live);
    }
    start.end_replay();
    assert_eq!(taken(), 0);
    assert!(start.bytes() > empty + 3000 * 2 * 30, "{} bytes more", start.bytes() - empty);
    // One key's segment comes in, and what waited for it.
    let ((key, hash), mut found) = (key_of(0), Vec::new());
    start.bring([(hash, &key)].into_iter()).unwrap();
    start.find_all([(hash, &key)].into_iter(), &mut found);
    assert_eq!(taken(), 1);
    assert!(start.holds(found[0].unwrap().slot(), &value(0, 1)));
    start.catch_up(4).unwrap();
    assert!(taken() == 4 && start.is_behind());
    while start.is_behind() {
        start.catch_up(4).unwrap();
    }
    assert_eq!(taken(), pieces.len() - 5);
    assert_eq!(start.deferred.bytes(), 0);
    assert!(start.is_settled() && contents(&mut start) == model);

    // Many updates of one segment bring it in by themselves.
    let mut start = begin();
    let prefix = pieces[3].prefix;
    let mut waiting = 0;
    for version in 0..200 {
        for number in 0..KEYS {
            let (key, hash) = key_of(number);
            if prefix.has(Hashed::of(hash)) {
                start.apply(hash, &key, &value(number, version), -1).unwrap();
                start.apply(hash, &key, &value(number, version + 1), 1).unwrap();
            }
        }
        waiting = waiting.max(start.deferred.bytes());
    }
    assert_eq!(taken(), 1);
    let entries = pieces[3].entries * ENTRY_BYTES;
    assert!(waiting <= entries, "{waiting} bytes wait for {entries}");
}

/// Updates that a segment cannot have had are found when it is read.
#[test]
fn a_damaged_shard_is_found_with_its_segment() {
    let file = Arc::new(Faulty::default());
    let mut state = State::<Encoded, Encoded>::new(None, kept_file(&file));
    state.keep_images();
    for number in 0..100 {
        let (key, hash) = key_of(number);
        state.apply(hash, &key, &bytes("live"), 1).unwrap();
    }
    let (key, hash) = key_of(7);
    let (pieces, all) = capture_all(&mut state);
    let chunks = state.write_round(usize::MAX).unwrap().unwrap();
    let begin = || {
        let mut start = start_on(None, (&pieces, &chunks), reads(all.clone()), &file);
        start.apply(hash, &key, &bytes("another"), -1).unwrap();
        start.end_replay();
        assert!(start.is_settled());
        start
    };
    let mut start = begin();
    start.bring([(hash, &key)].into_iter()).unwrap();
    assert!(start.unsettled().is_some());
    // No image is taken of it.
    let mut start = begin();
    start.begin_round();
    assert_eq!(start.capture(0).unwrap_err().kind(), ErrorKind::Corrupt);
}

/// Rows die in chunks while updates of others wait for their segments: what was found stays where it is until these are in, and
/// then no chunk is left mostly dead.
#[test]
fn rows_stay_in_their_places_while_some_wait() {
    let file = Arc::new(Faulty::default());
    let mut state = State::<Encoded, Encoded>::new(Some(8000), kept_file(&file));
    state.keep_images();
    let value = bytes(&"a value ".repeat(5));
    let of = |part: u32, count| {
        let keys = (0..).map(key_of);
        let is_of = move |(_, hash): &(Encoded, u64)| Hashed::of(*hash).high() >> 28 == part;
        keys.filter(is_of).take(count).collect::<Vec<_>>()
    };
    // A chunk has some rows of one segment, and one of another.
    let (some, others) = (of(0, 600), of(15, 100));
    let mixed = some.chunks(6).zip(&others).flat_map(|(six, one)| six.iter().chain([one]));
    let rest = (1_000_000..1_060_000).map(key_of);
    let mut model = BTreeMap::new();
    for (key, hash) in mixed.cloned().chain(rest) {
        state.apply(hash, &key, &value, 1).unwrap();
        state.keep_bound().unwrap();
        model.insert(key, value.clone());
    }
    let (pieces, all) = capture_all(&mut state);
    let chunks = state.write_round(usize::MAX).unwrap().unwrap();
    let mut start = start_on(Some(8000), (&pieces, &chunks), reads(all), &file);
    start.end_replay();
    let mut retract = |start: &mut State<Encoded, Encoded>, (key, hash): &(Encoded, u64)| {
        start.apply(*hash, key, &value, -1).unwrap();
        model.remove(key);
    };
    others.iter().for_each(|one| retract(&mut start, one));
    assert!(!start.deferred.is_empty());
    let keys = || some.iter().step_by(6).map(|(key, hash)| (*hash, key));
    start.bring(some.iter().map(|(key, hash)| (*hash, key))).unwrap();
    let (mut found, mut then) = (Vec::new(), Vec::new());
    start.find_all(keys(), &mut found);
    for five in some.chunks(6).map(|six| &six[1..]) {
        five.iter().for_each(|one| retract(&mut start, one));
    }
    assert!(!start.deferred.is_empty() && start.is_behind());
    start.find_all(keys(), &mut then);
    assert_eq!(found, then);
    while start.is_behind() {
        start.catch_up(1).unwrap();
    }
    assert!(start.deferred.is_empty());
    let tail = start.chunks.tail();
    let is_dead = |chunk: &u32| *chunk != tail && start.chunks.is_mostly_dead(*chunk);
    assert_eq!((0..start.chunks.end() as u32).filter(is_dead).count(), 0);
    assert!(contents(&mut start) == model);
}
