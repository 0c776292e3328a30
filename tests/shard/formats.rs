//! Goal: a shard that an earlier program wrote goes on: parts of format 1 are read beside parts of format 2, and merged
//! with them they become format 2. Method: shards in memory whose parts and whose merge are put there as that program
//! made them, by an encoder of format 1 that is written out here; contents are compared before and after.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::common::{append, config, contents, io, row, runtime, schema};
use bytes::Bytes;
use differential_upsert::shard::{
    Access, Append, Appended, Handle, HandleConfig, HandleOptions, History, Id, Part, PartRef,
    Prepared, Update, verify,
};
use differential_upsert::store::Root;
use differential_upsert::unstable::engine::entry::{Change, Entry, Merged};
use differential_upsert::unstable::engine::part::{self, PartHeader};

/// Encodes as format 1 does: in the order of keys, six columns, each with its checksum.
fn format_1(mut rows: Vec<Update>) -> Vec<u8> {
    rows.sort_by_key(|((key, value), time, diff)| (key.clone(), *time, *diff, value.clone()));
    let column = |of: &dyn Fn(&Update) -> Vec<u8>| rows.iter().flat_map(of).collect::<Vec<u8>>();
    let length = |bytes: &[u8]| (bytes.len() as u32).to_le_bytes().to_vec();
    let columns = [
        column(&|((key, _), ..)| length(key.as_bytes())),
        column(&|((key, _), ..)| key.as_bytes().to_vec()),
        column(&|((_, value), ..)| length(value.as_bytes())),
        column(&|((_, value), ..)| value.as_bytes().to_vec()),
        column(&|(_, time, _)| time.to_le_bytes().to_vec()),
        column(&|(_, _, diff)| (*diff as i64).to_le_bytes().to_vec()),
    ];
    let times = rows.iter().map(|(_, time, _)| *time);
    let mut bytes = [&b"DUPSPRT\n"[..], &1u16.to_le_bytes(), &[0; 6]].concat();
    for word in [rows.len() as u64, times.clone().min().unwrap(), times.max().unwrap()] {
        bytes.extend(word.to_le_bytes());
    }
    for column in &columns {
        bytes.extend((column.len() as u64).to_le_bytes());
        bytes.extend(crc32c::crc32c(column).to_le_bytes());
    }
    bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
    bytes.extend(columns.concat());
    bytes
}

async fn open(root: &Root, base: u64, compact_bytes_max: usize) -> Handle {
    let config = HandleConfig {
        inline_bytes_max: 90,
        part_bytes_max: 400,
        compact_bytes_max,
        history: Some(History::Last(1)),
        ..config()
    };
    let options = HandleOptions::write("data", schema()).with_config(config);
    Handle::open(root.clone(), io(base), options).await.unwrap()
}

/// Prepares rows as a program did that knew format 1 alone.
async fn prepare_1(root: &Root, handle: &Handle, rows: Vec<Update>) -> Vec<Prepared> {
    let mut prepared = handle.prepare(rows).await.unwrap();
    for part in &mut prepared {
        let old = |bytes: Vec<u8>| format_1(part::decode(&Arc::new(bytes), 0, u64::MAX).unwrap());
        match part {
            Prepared::Inline(bytes, _) => *bytes = old(std::mem::take(bytes)),
            Prepared::Stored(part) => {
                let bytes = old(root.blob().get(&part.key).await.unwrap().unwrap().to_vec());
                (part.bytes, part.crc) = (bytes.len() as u64, crc32c::crc32c(&bytes));
                root.blob().put(&part.key, Bytes::from(bytes)).await.unwrap();
            }
        }
    }
    prepared
}

/// Replaces all batches by one of several parts, in the order of keys.
async fn merge_1(root: &Root, handle: &Handle) {
    let state = handle.refresh().await.unwrap();
    let live = handle.snapshot(state.since).await.unwrap();
    let mut parts: Vec<PartRef> = Vec::new();
    for rows in live.chunks(5) {
        for part in prepare_1(root, handle, rows.to_vec()).await {
            let Prepared::Stored(part) = part else { panic!("{} rows inline", rows.len()) };
            parts.push(part);
        }
    }
    assert!(parts.len() > 3, "{} parts", parts.len());
    let (first, last) = (state.batches[0].seqno, state.batches.last().unwrap().seqno);
    let change =
        Change::Compact(Merged { first, last, forwarded: state.since, since: state.since, parts });
    let state = handle.refresh().await.unwrap();
    let (seqno, prev_token) = (state.seqno + 1, state.token);
    let entry = Entry {
        seqno,
        token: Id(1 << 90),
        prev_token,
        writer: Id(1 << 91),
        at_ms: None,
        lost: vec![],
        change,
    };
    let created = root.log("data").create(seqno, Bytes::from(entry.encode(&[]).unwrap())).await;
    let _ = created.unwrap();
    assert_eq!(handle.refresh().await.unwrap().batches.len(), 1);
}

/// The formats of the parts that a state names.
async fn formats(root: &Root, handle: &Handle) -> BTreeMap<u16, usize> {
    let mut formats = BTreeMap::new();
    for part in handle.state().batches.iter().flat_map(|batch| &batch.parts) {
        let Part::Stored { key, .. } = part else { continue };
        let bytes = root.blob().get(key).await.unwrap().unwrap();
        *formats.entry(PartHeader::decode(&bytes).unwrap().version).or_default() += 1;
    }
    formats
}

/// Each time changes four of thirty keys.
fn rows(time: u64, live: &mut BTreeMap<String, String>) -> Vec<Update> {
    let mut rows = Vec::new();
    for n in 0..4 {
        let (key, value) = (format!("key{:02}", (time * 7 + n * 11) % 30), format!("at {time}"));
        if let Some(old) = live.insert(key.clone(), value.clone()) {
            rows.push(row(&key, &old, time, -1));
        }
        rows.push(row(&key, &value, time, 1));
    }
    rows
}

#[test]
fn parts_of_format_1_are_read_and_become_format_2() {
    for (compact_bytes_max, merged) in [(1, false), (1, true), (usize::MAX, true)] {
        runtime().block_on(async {
            let root = Root::open("mem:", Access::Write).unwrap();
            let mut live = BTreeMap::new();
            let old = open(&root, 1, compact_bytes_max).await;
            for time in 0..20 {
                let parts = prepare_1(&root, &old, rows(time, &mut live)).await;
                let append = Append { lower: time, upper: time + 1, parts, ..Append::default() };
                let won = old.compare_and_append(append).await.unwrap();
                assert!(matches!(won, Appended::Won { .. }));
            }
            // What the writer wrote it has at hand, as it was before it was replaced.
            let new = open(&root, 1 << 40, compact_bytes_max).await;
            if merged {
                merge_1(&root, &new).await;
            }
            let new = open(&root, 1 << 41, compact_bytes_max).await;
            assert!(formats(&root, &new).await.keys().eq([&1]));
            let expected = |live: &BTreeMap<String, String>| -> Vec<_> {
                live.iter().map(|(key, value)| (key.clone(), value.clone(), 1)).collect()
            };
            assert_eq!(contents(&new, 19).await.unwrap(), expected(&live));
            for time in 20..30 {
                let won = append(&new, time, time + 1, rows(time, &mut live)).await.unwrap();
                assert!(matches!(won, Appended::Won { .. }));
            }
            assert!(formats(&root, &new).await.keys().eq([&1, &2]), "side by side");
            assert_eq!(contents(&new, 29).await.unwrap(), expected(&live));
            verify(root.clone(), io(1)).await.unwrap();

            let _ = new.compact().await.unwrap();
            assert!(formats(&root, &new).await.keys().eq([&2]), "merged");
            assert_eq!(contents(&new, 29).await.unwrap(), expected(&live));
            verify(root, io(1)).await.unwrap();
        });
    }
}
