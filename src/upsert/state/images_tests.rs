//! Goal: rounds that are captured piece by piece while the state goes on, and starts on what they have made, against a map.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::tests::{Faulty, bytes, contents, kept_file, key_of, read};
use super::*;
use crate::codec::packed::Encoded;
use crate::upsert::placed::ColdFile;
use crate::upsert::rows::KeyHash;

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
            assert!(state.replace(None, hash, key, prior, value).unwrap(), "{key:?}");
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
            let read = image.bytes.clone();
            let read: ReadPiece = Box::new(move |piece| Ok(read[piece as usize].clone()));
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
    for (seed, bytes_max) in [(1, None), (2, Some(0)), (3, Some(300 << 10)), (4, Some(2 << 20))] {
        starts_on_every_image(bytes_max, seed);
    }
}
