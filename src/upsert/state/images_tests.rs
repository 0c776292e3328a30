//! Goal: rounds that are captured piece by piece while the state goes on, and starts on what they have made, against a map.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::super::tests::{Faulty, bytes, contents, kept_file, key_of, read};
use super::*;
use crate::codec::packed::Encoded;
use crate::upsert::placed::ColdFile;
use crate::upsert::rows::KeyHash;

/// Begins a round and captures all of it. Returns its pieces and their bytes.
fn capture_all(state: &mut State<Encoded, Encoded>) -> (Vec<Piece>, Vec<Vec<u8>>) {
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
fn reads(pieces: Vec<Vec<u8>>) -> ReadPiece {
    Box::new(move |piece| Ok(pieces[piece as usize].clone()))
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
            let mut start = State::<Encoded, Encoded>::new(bytes_max, kept_file(&disk));
            start.keep_images();
            let pieces: Vec<_> = image.pieces.iter().map(|(piece, _)| *piece).collect();
            let read = reads(image.bytes.clone());
            assert!(start.keep(&pieces, &image.chunks, read), "seed {seed}, step {step}");
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
    let bounds = [None, Some(0), Some(300 << 10), Some(2 << 20)];
    for (seed, bytes_max) in (1..).zip(bounds.into_iter().chain(bounds)) {
        starts_on_every_image(bytes_max, seed);
    }
}

/// A round that ends while a drain waits for rows leaves those that the drain has found where they are.
#[test]
fn what_was_found_stays_where_it_is_as_a_round_ends() {
    let file = Arc::new(Faulty::default());
    let mut state = State::<Encoded, Encoded>::new(Some(0), kept_file(&file));
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
    for number in (0..2000).rev().filter(|number| number % 8 > 0).take(1200) {
        let (key, hash) = key_of(number);
        state.apply(hash, &key, &value, -1).unwrap();
        live.retain(|other| *other != number);
    }
    let keys: Vec<_> = live.iter().map(|number| key_of(*number)).collect();
    let (mut found, moves) = (Vec::new(), state.moves());
    state.find_all(keys.iter().map(|(key, hash)| (*hash, key)), &mut found);
    let chunks = state.write_round(usize::MAX).unwrap().unwrap();
    state.end_round();
    assert_eq!(state.moves(), moves);
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
        let mut start = State::<Encoded, Encoded>::new(None, kept_file(&disk));
        start.keep_images();
        assert!(start.keep(&pieces, &chunks, reads(all)));
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
        let mut start = State::<Encoded, Encoded>::new(None, kept_file(&file));
        start.keep_images();
        let (count, all) = (Arc::clone(&read_pieces), all.clone());
        let reads = Box::new(move |piece: u32| {
            count.fetch_add(1, Ordering::Relaxed);
            Ok(all[piece as usize].clone())
        });
        assert!(start.keep(&pieces, &chunks, reads));
        start
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
    assert!(start.catch_up(4).unwrap() && taken() == 4);
    while start.catch_up(4).unwrap() {}
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
        let mut start = State::<Encoded, Encoded>::new(None, kept_file(&file));
        start.keep_images();
        assert!(start.keep(&pieces, &chunks, reads(all.clone())));
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
    let mut start = State::<Encoded, Encoded>::new(Some(8000), kept_file(&file));
    start.keep_images();
    assert!(start.keep(&pieces, &chunks, reads(all)));
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
    let mut start = State::<Encoded, Encoded>::new(Some(8000), kept_file(&file));
    start.keep_images();
    assert!(start.keep(&pieces, &chunks, reads(all)));
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
    while start.catch_up(1).unwrap() {}
    assert!(start.deferred.is_empty());
    let tail = start.chunks.tail();
    let is_dead = |chunk: &u32| *chunk != tail && start.chunks.is_mostly_dead(*chunk);
    assert_eq!((0..start.chunks.end() as u32).filter(is_dead).count(), 0);
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
