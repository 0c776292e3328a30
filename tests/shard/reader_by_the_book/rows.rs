//! Goal: the rows of a shard, by the chapter `guide::format` alone. Method: parts of both versions, checked as the chapter
//! says, and the sum of their diffs.

use std::collections::BTreeMap;

use xxhash_rust::xxh3::xxh3_64;

use super::log::{Files, crc32c, frame, number_at};
use super::state::{Place, Shard};

/// A key, a value, a time, a diff.
pub type Row = (Vec<u8>, Vec<u8>, u64, i64);

/// Takes the next bytes.
fn take<'a>(rest: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (taken, behind) = rest.split_at(length);
    *rest = behind;
    taken
}

/// The updates of a part.
pub fn decode(part: &[u8]) -> Vec<Row> {
    assert_eq!((&part[..8], number_at(part, 10, 6)), (&b"DUPSPRT\n"[..], 0));
    let rows = match number_at(part, 8, 2) {
        1 => decode_1(part),
        2 => decode_2(part),
        other => panic!("a part of version {other}"),
    };
    assert_eq!(rows.len() as u64, number_at(part, 16, 8));
    let times = || rows.iter().map(|row| row.2);
    assert_eq!(times().min().unwrap_or(0), number_at(part, 24, 8));
    assert_eq!(times().max().unwrap_or(0), number_at(part, 32, 8));
    assert!(rows.iter().all(|row| row.3 != 0));
    rows
}

fn together(lengths: &[u64], bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = bytes;
    let all = lengths.iter().map(|length| take(&mut rest, *length as usize).to_vec()).collect();
    assert!(rest.is_empty());
    all
}

fn decode_1(part: &[u8]) -> Vec<Row> {
    assert_eq!(number_at(part, 112, 4), u64::from(crc32c(&part[..112])));
    let mut rest = &part[116..];
    let sections: Vec<&[u8]> = (0..6)
        .map(|section| {
            let bytes = take(&mut rest, number_at(part, 40 + 12 * section, 8) as usize);
            assert_eq!(number_at(part, 48 + 12 * section, 4), u64::from(crc32c(bytes)));
            bytes
        })
        .collect();
    assert!(rest.is_empty());
    let numbers = |section: usize, width: usize| -> Vec<u64> {
        sections[section].chunks(width).map(|bytes| number_at(bytes, 0, width)).collect()
    };
    let keys = together(&numbers(0, 4), sections[1]);
    let values = together(&numbers(2, 4), sections[3]);
    let rows = keys.into_iter().zip(values).zip(numbers(4, 8)).zip(numbers(5, 8));
    let rows: Vec<Row> =
        rows.map(|(((key, value), time), diff)| (key, value, time, diff as i64)).collect();
    assert!(rows.is_sorted_by_key(|(key, value, time, diff)| (key, time, diff, value)));
    rows
}

fn decode_2(part: &[u8]) -> Vec<Row> {
    assert_eq!(number_at(part, 96, 4), u64::from(crc32c(&part[..96])));
    assert_eq!(number_at(part, 92, 4), u64::from(crc32c(&part[100..])));
    let count = number_at(part, 16, 8) as usize;
    assert!(count > 0);
    let mut rest = &part[100..];
    let fences = take(&mut rest, count.div_ceil(256) * 16);
    let columns: Vec<Vec<u64>> = (0..4)
        .map(|column| {
            let (base, width) =
                (number_at(part, 56 + 9 * column, 8), usize::from(part[64 + 9 * column]));
            assert!([0, 1, 2, 4, 8].contains(&width));
            let numbers = take(&mut rest, count * width);
            (0..count)
                .map(|row| base.wrapping_add(number_at(numbers, row * width, width)))
                .collect()
        })
        .collect();
    let keys = take(&mut rest, number_at(part, 40, 8) as usize);
    assert_eq!(rest.len() as u64, number_at(part, 48, 8));
    let (mut key_at, mut value_at) = (0, 0);
    for row in 0..count {
        if row % 256 == 0 {
            let fence = &fences[row / 256 * 16..];
            let key = &keys[key_at as usize..][..columns[0][row] as usize];
            assert_eq!(number_at(fence, 0, 8), xxh3_64(key), "the hash of a fence");
            assert_eq!((number_at(fence, 8, 4), number_at(fence, 12, 4)), (key_at, value_at));
        }
        (key_at, value_at) = (key_at + columns[0][row], value_at + columns[1][row]);
    }
    let (keys, values) = (together(&columns[0], keys), together(&columns[1], rest));
    let rows = keys.into_iter().zip(values).zip(&columns[2]).zip(&columns[3]);
    let rows: Vec<Row> =
        rows.map(|(((key, value), time), diff)| (key, value, *time, *diff as i64)).collect();
    let order =
        |(key, value, time, diff): &Row| (xxh3_64(key), key.clone(), *time, *diff, value.clone());
    let order: Vec<_> = rows.iter().map(order).collect();
    assert!(order.windows(2).all(|two| two[0] < two[1]), "the order of rows");
    rows
}

/// All rows of a shard that count.
pub fn counting(files: &Files, shard: &Shard) -> Vec<Row> {
    let mut all = Vec::new();
    for batch in &shard.state.batches {
        for part in &batch.parts {
            let bytes = match &part.place {
                Place::Stored(key) => files[key].clone(),
                Place::Inline { seqno, offset } => {
                    let (_, raw) = frame(b"DUPSLOG\n", &shard.log.entries[seqno]);
                    raw[*offset..*offset + part.bytes].to_vec()
                }
            };
            assert_eq!((bytes.len(), u64::from(crc32c(&bytes))), (part.bytes, part.crc));
            let rows = decode(&bytes);
            assert_eq!(rows.len() as u64, part.updates);
            all.extend(rows.into_iter().filter(|row| batch.lower <= row.2 && row.2 < batch.upper));
        }
    }
    all
}

/// The rows that are live as of a time, and how often each.
pub fn live(rows: &[Row], as_of: u64) -> BTreeMap<(Vec<u8>, Vec<u8>), i64> {
    let mut live = BTreeMap::new();
    for (key, value, _, diff) in rows.iter().filter(|(_, _, time, _)| *time <= as_of) {
        *live.entry((key.clone(), value.clone())).or_default() += diff;
    }
    live.retain(|_, count| *count != 0);
    live
}
