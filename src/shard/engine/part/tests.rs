//! What is written as a part of format 2 is what is read, a range of it or all; and whatever else is there is refused.

use super::*;

fn row(key: u64, value: &[u8], time: u64, diff: isize) -> Update {
    let bytes = |bytes: &[u8]| Packed::from_bytes(bytes.to_vec());
    ((bytes(&key.to_le_bytes()), bytes(value)), time, diff)
}

/// Rows of many keys in the order of a part; some keys have several.
fn rows(keys: u64) -> Vec<Update> {
    let mut keys: Vec<u64> = (0..keys).collect();
    keys.sort_by_key(|key| hash(&key.to_le_bytes()));
    let of = |key: u64| match key % 5 {
        0 => vec![row(key, b"old", key % 3, -1), row(key, b"newer", key % 3, 1)],
        1 => vec![row(key, b"", 7, 1), row(key, b"", 900, 1)],
        _ => vec![row(key, &[0; 9][..(key % 9) as usize], 1, 1)],
    };
    keys.into_iter().flat_map(of).collect()
}

fn is_corrupt<T: std::fmt::Debug>(result: Result<T, Error>, case: &str) {
    let error = result.expect_err(case);
    assert_eq!(error.kind(), crate::error::ErrorKind::Corrupt, "{case}: {error}");
}

#[test]
fn every_share_has_its_rows_and_together_they_are_all() {
    for keys in [1, 2, 255, 256, 257, 1_500] {
        let rows = rows(keys);
        let buffer = Arc::new(encode(&rows));
        assert_eq!(decode(&buffer, 0, u64::MAX).unwrap(), rows);
        for peers in [1, 2, 3, 8, 1_000] {
            let mut all = Vec::new();
            for worker in 0..peers {
                let share = crate::codec::deal::share(worker, peers);
                all.extend(decode_share(&buffer, 0, u64::MAX, share).unwrap());
            }
            assert!(all == rows, "{keys} keys, {peers} workers");
        }
        // Each hash alone: also the first and the last behind a fence.
        for ((key, value), time, diff) in &rows {
            let hash = hash(key.as_bytes());
            let found = decode_share(&buffer, *time, *time + 1, hash..=hash).unwrap();
            assert!(found.contains(&((key.clone(), value.clone()), *time, *diff)), "{key:?}");
            assert!(found.iter().all(|((k, _), t, _)| (k, t) == (key, time)));
        }
    }
}

#[test]
fn a_share_is_read_without_the_other_rows() {
    let rows = rows(30_000);
    let mut bytes = encode(&rows);
    // Nonsense before and behind the middle half: no length of theirs is looked at.
    let share = crate::codec::deal::share(1, 3);
    let ours = decode_share(&Arc::new(bytes.clone()), 0, u64::MAX, share.clone()).unwrap();
    let end = bytes.len();
    bytes[end - 1_000..].fill(0xEE);
    assert_eq!(decode_share(&Arc::new(bytes), 0, u64::MAX, share).unwrap(), ours);
    assert!(ours.len() > rows.len() / 4);
}

#[test]
fn rows_out_of_order_are_damage() {
    let good = rows(600);
    for at in [0, 1, 255, 256, 300, good.len() - 2] {
        let mut wrong = good.clone();
        wrong.swap(at, at + 1);
        is_corrupt(decode(&Arc::new(encode(&wrong)), 0, u64::MAX), &format!("swapped at {at}"));
        let mut twice = good.clone();
        twice.insert(at, good[at].clone());
        is_corrupt(decode(&Arc::new(encode(&twice)), 0, u64::MAX), &format!("twice at {at}"));
    }
}

#[test]
fn every_flipped_bit_and_every_cut_is_found() {
    let good = encode(&rows(300));
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            let error = decode(&Arc::new(bad), 0, u64::MAX).unwrap_err().kind();
            use crate::error::ErrorKind::{Corrupt, Unsupported};
            assert!(matches!(error, Corrupt | Unsupported), "byte {at}, bit {bit}: {error:?}");
        }
        is_corrupt(decode(&Arc::new(good[..at].to_vec()), 0, u64::MAX), &format!("cut at {at}"));
    }
}

/// Lengths that lie, under good checksums: refused, before anything is allocated for them.
#[test]
fn lengths_that_lie_are_damage() {
    let good = encode(&rows(3));
    for (at, bytes) in [(16, 8), (40, 8), (48, 8), (64, 1), (73, 1), (82, 1), (91, 1)] {
        for value in [0u64, 1, 2, 5, 8, 1 << 20, 1 << 32, u64::MAX / 16, u64::MAX] {
            let mut bad = good.clone();
            bad[at..at + bytes].copy_from_slice(&value.to_le_bytes()[..bytes]);
            let crc = crc32c::crc32c(&bad[..96]);
            bad[96..100].copy_from_slice(&crc.to_le_bytes());
            if bad != good {
                is_corrupt(decode(&Arc::new(bad), 0, u64::MAX), &format!("{at}: {value}"));
            }
        }
    }
}

#[test]
fn the_checksum_of_the_whole_is_made_of_two() {
    let mut writer = Writer::default();
    let row = Line { hash: hash(b"k"), key: b"k", value: b"v", time: 3, diff: -1 };
    writer.push(&row);
    let written = writer.finish();
    assert_eq!(written.crc, crc32c::crc32c(&written.bytes));
    assert_eq!(written.bytes, write([row].into_iter()).bytes);
}

#[test]
fn a_row_that_no_part_can_hold_is_known_by_its_length() {
    let row = ((Packed::from_bytes(vec![1; 3]), Packed::from_bytes(vec![2; 5])), 0, 1);
    let least = encode(&[row]).len() as u64 - 8;
    // A row among others of another time and length takes more than one that is alone.
    let most = u64::from(u32::MAX) - least - UPDATE_BYTES as u64;
    for (key, value, fits) in [
        (3, 5, true),
        (0, most, true),
        (most, 0, true),
        (1, most, false),
        (most / 2 + 1, most / 2 + 1, false),
        (u64::from(u32::MAX), u64::from(u32::MAX), false),
        (u64::MAX, 1, false),
    ] {
        assert_eq!(super::fits(key, value), fits, "{key} + {value}");
    }
}
