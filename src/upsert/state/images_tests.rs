//! Goal: rounds that are captured piece by piece while the state goes on, and starts on what they have made, against a map.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::tests::{Faulty, bytes, contents, kept_file, key_of, read};
use super::*;
use crate::codec::packed::Encoded;
use crate::upsert::placed::ColdFile;
use crate::upsert::rows::KeyHash;

/// Begins a round and captures all of it. Returns its pieces and their bytes.
pub(super) fn capture_all(state: &mut State<Encoded, Encoded>) -> (Vec<Piece>, Vec<Vec<u8>>) {
    state.begin_round();
    let (mut from, mut pieces, mut bytes) = (0, Vec::new(), Vec::new());
    while from < 1 << 32 {
        let captured = state.capture(from).unwrap();
        from = captured.piece.prefix.end();
        pieces.push(captured.piece);
        bytes.push(captured.bytes);
    }
    (pieces, bytes)
}

/// Reads pieces out of memory.
pub(super) fn reads(pieces: Vec<Vec<u8>>) -> ReadPiece {
    Box::new(move |piece| Ok(pieces[piece as usize].clone()))
}

/// Starts on an image: its pieces, its chunks, what reads the pieces, and the file.
pub(super) fn start_on(
    bytes_max: Option<usize>,
    (pieces, chunks): (&[Piece], &[Chunked]),
    read: ReadPiece,
    file: &Arc<Faulty>,
) -> State<Encoded, Encoded> {
    let mut start = State::new(bytes_max, kept_file(file));
    start.keep_images();
    assert!(start.keep(pieces, chunks, read), "it is an image");
    start
}

/// What a round has captured: pieces, with the step of each, their bytes, and the chunks.
#[derive(Clone, Default)]
struct Image {
    pieces: Vec<(Piece, usize)>,
    bytes: Vec<Vec<u8>>,
    chunks: Vec<Chunked>,
}

/// One key's change: at which step, what it had and what it has then.
type Change = (usize, Encoded, Option<Encoded>, Option<Encoded>);

fn apply(state: &mut State<Encoded, Encoded>, (_, key, prior, value): &Change) {
    let hash = key.key_hash();
    match (prior, value) {
        (Some(prior), Some(value)) => {
            if !state.replace(None, hash, key, prior, value).unwrap() {
                assert!(state.is_unread(hash), "{key:?}");
                state.apply(hash, key, prior, -1).unwrap();
                state.apply(hash, key, value, 1).unwrap();
            }
        }
        (Some(prior), None) => state.apply(hash, key, prior, -1).unwrap(),
        (None, Some(value)) => state.apply(hash, key, value, 1).unwrap(),
        (None, None) => {}
    }
    state.keep_bound().unwrap();
}

/// Images are taken while the state goes on, a segment or some bytes at a step. At every step a start on the last whole image,
/// on the file as it is at that step, with the changes since each piece, has the contents of that step.
fn starts_on_every_image(bytes_max: Option<usize>, seed: u64) {
    let file = Arc::new(Faulty::default());
    let mut state = State::<Encoded, Encoded>::new(bytes_max, kept_file(&file));
    state.keep_images();
    let (mut model, mut random) = (BTreeMap::new(), fastrand::Rng::with_seed(seed));
    let (mut changes, mut whole) = (Vec::<Change>::new(), None::<Image>);
    let mut round = None::<(Image, u64)>;
    let mut starts = 0;
    for step in 0..40_000 {
        let (key, _) = key_of(random.u64(..20_000));
        let prior = model.get(&key).cloned();
        let length = 10 + random.usize(..2) * 40;
        let value = (random.u32(..5) > 0).then(|| bytes(&format!("{step:0length$}")));
        let change = (step, key.clone(), prior, value.clone());
        apply(&mut state, &change);
        changes.push(change);
        match value {
            Some(value) => drop(model.insert(key, value)),
            None => drop(model.remove(&key)),
        }
        match &mut round {
            None if random.u32(..3000) == 0 => {
                state.begin_round();
                round = Some((Image::default(), 0));
            }
            None => {}
            Some((image, from)) if *from < 1 << 32 && random.u32(..200) == 0 => {
                let captured = state.capture(*from).unwrap();
                *from = captured.piece.prefix.end();
                image.pieces.push((captured.piece, step + 1));
                image.bytes.push(captured.bytes);
            }
            Some((_, from)) if *from < 1 << 32 => {}
            Some((image, _)) => {
                if random.u32(..50) == 0
                    && let Some(chunks) = state.write_round(20_000).unwrap()
                {
                    image.chunks = chunks;
                    state.end_round();
                    whole = round.take().map(|(image, _)| image);
                }
            }
        }
        if let Some(image) = whole.as_ref().filter(|_| random.u32(..2000) == 0) {
            starts += 1;
            let disk = Arc::new(Faulty::default());
            disk.write_at(0, &file.last.lock().unwrap()).unwrap();
            let pieces: Vec<_> = image.pieces.iter().map(|(piece, _)| *piece).collect();
            let read = reads(image.bytes.clone());
            let mut start = start_on(bytes_max, (&pieces, &image.chunks), read, &disk);
            for change in &changes {
                let hashed = Hashed::of(change.1.key_hash());
                let of = image.pieces.iter().find(|(piece, _)| piece.prefix.has(hashed)).unwrap();
                if change.0 >= of.1 {
                    apply(&mut start, change);
                }
            }
            assert!(start.unsettled().is_none(), "seed {seed}, step {step}");
            start.end_replay();
            for number in (0..200).map(|_| random.u64(..20_000)) {
                let (key, hash) = key_of(number);
                let found = read_or(&mut start, hash, &key, seed, step);
                assert_eq!(found, model.get(&key).cloned(), "seed {seed}, step {step}");
            }
            assert_eq!(contents(&mut start), model, "seed {seed}, step {step}");
        }
    }
    assert!(starts > 5, "seed {seed}: {starts} starts");
}

fn read_or(
    state: &mut State<Encoded, Encoded>,
    hash: u64,
    key: &Encoded,
    seed: u64,
    step: usize,
) -> Option<Encoded> {
    read(state, hash, key).unwrap_or_else(|error| panic!("seed {seed}, step {step}: {error}"))
}

#[test]
fn a_start_on_an_image_has_what_came_since() {
    let bounds = [None, Some(0), Some(16 << 10), Some(300 << 10), Some(2 << 20)];
    for (seed, bytes_max) in (1..).zip(bounds.into_iter().chain(bounds)) {
        starts_on_every_image(bytes_max, seed);
    }
}

/// A round that ends while a drain waits for rows leaves those that the drain has found where they are.
#[test]
fn what_was_found_stays_where_it_is_as_a_round_ends() {
    let file = Arc::new(Faulty::default());
    let mut state = State::<Encoded, Encoded>::new(Some(64 << 10), kept_file(&file));
    state.keep_images();
    let value = bytes("a value");
    for number in 0..2000 {
        let (key, hash) = key_of(number);
        state.apply(hash, &key, &value, 1).unwrap();
    }
    let (pieces, _) = capture_all(&mut state);
    let image: usize = pieces.iter().map(|piece| piece.entries).sum();
    // Most of the tail dies, and stays while the round has it.
    let mut live: Vec<_> = (0..2000).collect();
    for number in (0..2000).rev().filter(|number| number % 8 > 0).take(100) {
        let (key, hash) = key_of(number);
        state.apply(hash, &key, &value, -1).unwrap();
        live.retain(|other| *other != number);
    }
    let keys: Vec<_> = live.iter().map(|number| key_of(*number)).collect();
    let (mut found, version) = (Vec::new(), state.version());
    state.find_all(keys.iter().map(|(key, hash)| (*hash, key)), &mut found);
    let chunks = state.write_round(usize::MAX).unwrap().unwrap();
    state.end_round();
    assert_eq!(state.version(), version);
    assert_eq!(chunks.iter().map(|chunk| chunk.live as usize).sum::<usize>(), image);
    for ((key, hash), entry) in keys.iter().zip(found) {
        let entry = entry.unwrap();
        state.fetch([entry].into_iter()).unwrap();
        state.arrive().unwrap();
        assert!(state.is_here(&entry));
        assert_eq!(state.confirm(*hash, key, &entry).unwrap(), Some(entry.slot()));
        assert!(state.holds(entry.slot(), &value));
    }
}

/// A chunk that is left while an image is taken stays in the file for it, and no longer: its live rows have moved, and the
/// image says where they were.
#[test]
fn what_is_left_in_a_round_stays_for_its_image() {
    let file = Arc::new(Faulty::default());
    let mut state = State::<Encoded, Encoded>::new(Some(8000), kept_file(&file));
    state.keep_images();
    let value = bytes("a value");
    let put = |state: &mut State<Encoded, Encoded>, keys: std::ops::Range<u64>, diff| {
        for (key, hash) in keys.map(key_of) {
            state.apply(hash, &key, &value, diff).unwrap();
            state.keep_bound().unwrap();
        }
    };
    put(&mut state, 0..2000, 1);
    let (pieces, all) = capture_all(&mut state);
    let dead = |number: u64| number < 1000 && !number.is_multiple_of(4);
    (0..2000).filter(|number| dead(*number)).for_each(|n| put(&mut state, n..n + 1, -1));
    let chunks = state.write_round(usize::MAX).unwrap().unwrap();
    state.end_round();
    let written = file.last.lock().unwrap().len();
    put(&mut state, 2000..4000, 1);
    let gained = file.last.lock().unwrap().len() - written;

    let disk = Arc::new(Faulty::default());
    disk.write_at(0, &file.last.lock().unwrap()).unwrap();
    let mut start = start_on(Some(8000), (&pieces, &chunks), reads(all), &disk);
    (0..2000).filter(|number| dead(*number)).for_each(|n| put(&mut start, n..n + 1, -1));
    put(&mut start, 2000..4000, 1);
    start.end_replay();
    let model: BTreeMap<_, _> =
        (0..4000).filter(|n| !dead(*n)).map(|n| (key_of(n).0, value.clone())).collect();
    assert!(contents(&mut start) == model);

    // With the next image that room is free for use again.
    capture_all(&mut state);
    state.write_round(usize::MAX).unwrap().unwrap();
    state.end_round();
    let written = file.last.lock().unwrap().len();
    put(&mut state, 4000..6000, 1);
    let gained_then = file.last.lock().unwrap().len() - written;
    assert!(gained_then < gained, "{gained} bytes, then {gained_then}");
}

/// A chunk of an image is compacted while most of the image is yet to be read: the rows that live in it are read first.
#[test]
fn a_chunk_leaves_before_all_of_its_image_is_read() {
    let file = Arc::new(Faulty::default());
    let mut state = State::<Encoded, Encoded>::new(Some(8000), kept_file(&file));
    state.keep_images();
    let value = bytes(&"a value ".repeat(5));
    const KEYS: u64 = 60_000;
    for number in 0..KEYS {
        let (key, hash) = key_of(number);
        state.apply(hash, &key, &value, 1).unwrap();
        state.keep_bound().unwrap();
    }
    let (pieces, all) = capture_all(&mut state);
    let chunks = state.write_round(usize::MAX).unwrap().unwrap();
    assert!(pieces.len() > 8 && chunks.len() > 5000, "{} pieces", pieces.len());
    let mut start = start_on(Some(8000), (&pieces, &chunks), reads(all), &file);
    start.end_replay();
    // The keys of a chunk came one after another; most of the first chunks die.
    let lives = |number: u64| number > 100 || number.is_multiple_of(5);
    for number in (0..KEYS).filter(|number| !lives(*number)) {
        let (key, hash) = key_of(number);
        start.bring([(hash, &key)].into_iter()).unwrap();
        start.apply(hash, &key, &value, -1).unwrap();
    }
    let model: BTreeMap<_, _> =
        (0..KEYS).filter(|n| lives(*n)).map(|n| (key_of(n).0, value.clone())).collect();
    assert!(contents(&mut start) == model);
}

/// Rows that are overwritten in chunks which a round has written do not keep it from its end.
#[test]
fn a_round_ends_however_much_is_overwritten() {
    let file = Arc::new(Faulty::default());
    let mut state = State::<Encoded, Encoded>::new(None, kept_file(&file));
    state.keep_images();
    let value = |version: u32| bytes(&format!("{version:01000}"));
    for number in 0..6000 {
        let (key, hash) = key_of(number);
        state.apply(hash, &key, &value(0), 1).unwrap();
    }
    assert!(state.chunks.count() > 5);
    capture_all(&mut state);
    let (mut version, mut calls) = (0, 0);
    while state.write_round(2 << 20).unwrap().is_none() {
        for number in [0, 1500, 3000] {
            let (key, hash) = key_of(number);
            let (old, new) = (value(version), value(version + 1));
            assert!(state.replace(None, hash, &key, &old, &new).unwrap());
        }
        version += 1;
        calls += 1;
        assert!(calls < 10, "a round that does not end");
    }
}
