//! Goal: stored bytes do not change by accident. Method: frozen files in `tests/fixtures/`,
//! by name and version; each must decode to the value below, and the value must encode to the same
//! bytes, but for what is read and written no more. Set `WRITE_FIXTURES=1` to write those that are missing, never to mend a failure: shards
//! in the field hold the old bytes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::common::row;
use differential_upsert::ErrorKind;
use differential_upsert::shard::{
    Batch, Feed, Fingerprint, Grant, History, Id, Lease, Part, PartRef, Retired, Schema, State,
    Update, Writer,
};
use differential_upsert::unstable::engine::entry::{
    Change, Collected, Commit, Entry, EntryPart, Leased, Merged, Shaped,
};
use differential_upsert::unstable::engine::{incarnation, part, rollup};
use xxhash_rust::xxh3::xxh3_64;

fn golden(name: &str, encoded: Vec<u8>) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    if std::env::var_os("WRITE_FIXTURES").is_some() && !path.exists() {
        std::fs::write(&path, &encoded).unwrap();
    }
    let frozen = std::fs::read(&path).unwrap();
    assert!(frozen == encoded, "{name}: encodes to other bytes than those frozen");
    frozen
}

fn schema() -> Schema {
    Schema {
        codec: "postcard".into(),
        key: "alloc::string::String".into(),
        value: "(u32, \"é\")".into(),
    }
}

#[test]
fn format_file_with_shapes() {
    let shape =
        |name: &str, shape: &str| Fingerprint { name: name.into(), shape: Some(shape.into()) };
    let value = shape("Row", "struct{cents: u64, \"the count\": option<u32>}");
    let shaped = Schema { key: shape("String", "string"), value: value.clone(), ..schema() };
    let frozen = golden("FORMAT-shapes-v1", shaped.encode(1));
    assert_eq!(Schema::decode(&frozen, true).unwrap(), (shaped.clone(), 1));
    // By shape where both have one, whatever the name; by name where one has none.
    let named = |key: &str| Schema { key: key.into(), value: "Row".into(), ..shaped.clone() };
    assert!(shaped.check(&named("String")).is_ok());
    assert!(named("String").check(&shaped).is_ok());
    let other = shaped.check(&named("Text")).unwrap_err().to_string();
    assert!(other.starts_with("the shard's keys are \"String\", not \"Text\";"), "{other}");
    let renamed = Fingerprint { name: "Entry".into(), ..value };
    assert!(shaped.check(&Schema { value: renamed, ..shaped.clone() }).is_ok());
    let wide = shape("Row", "struct{cents: u64, \"the count\": option<u64>}");
    let refused = shaped.check(&Schema { value: wide, ..shaped.clone() }).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
    let text = "the shard's values have another shape at \".\"the count\"\": `u32` in the shard's \
                \"Row\", `u64` in \"Row\"; open it with the types it was made with";
    assert_eq!(refused.to_string(), text);
}

#[test]
fn incarnation_file() {
    let id = Id(0x0123_4567_89ab_cdef_0011_2233_4455_6677);
    let frozen = golden("INCARNATION-v1", incarnation::encode(id, 1));
    assert_eq!(incarnation::decode(&frozen).unwrap(), id);
    let segments = golden("INCARNATION-v2", incarnation::encode(id, 2));
    assert_eq!(incarnation::decode(&segments).unwrap(), id);
    let mut damaged = frozen.clone();
    damaged[20] ^= 1;
    assert_eq!(incarnation::decode(&damaged).unwrap_err().kind(), ErrorKind::Corrupt);
}

fn rows() -> Vec<Update> {
    vec![
        row("", "", 0, 1),
        row("key", "old", 7, -1),
        row("key", "new", 7, 1),
        row("zebra", "\u{e9}", u64::MAX - 2, isize::MAX),
    ]
}

fn part_ref() -> PartRef {
    PartRef {
        key: "data/part/000000000000000000000000000000a1/000000000000000000000000000000b2".into(),
        bytes: 4096,
        crc: 0xdead_beef,
        updates: 17,
        time_min: 3,
        time_max: 9,
    }
}

fn commit(raw: &[u8]) -> Commit {
    Commit {
        lower: 3,
        upper: u64::MAX,
        since: 2,
        parts: vec![
            EntryPart::Stored(part_ref()),
            EntryPart::Inline {
                offset: 0,
                bytes: raw.len() as u64,
                crc: crc32c::crc32c(raw),
                updates: 4,
            },
        ],
        feed: Some(Feed { mode: "given".into(), identity: "feed.jsonl".into() }),
        rows: Some(21),
        digest: Some(0x0123_4567_89ab_cdef_0011_2233_4455_6677),
        mark: None,
        epoch: Some(4),
        shared: false,
        cursor: Some(vec![0, 1, 254, 255]),
        history: Some(History::Last(3)),
        sealed_at: Some(u64::MAX),
        grant: None,
    }
}

fn entry(raw: &[u8]) -> Entry {
    Entry {
        seqno: 12,
        token: Id(0xabcd),
        prev_token: Id(u128::MAX),
        writer: Id(0xa1),
        at_ms: None,
        lost: vec![],
        change: Change::Append(commit(raw)),
    }
}

fn state() -> State {
    let PartRef { key, bytes, crc, updates, .. } = part_ref();
    let parts = vec![
        Part::Stored { key, bytes, crc, updates },
        Part::Inline { seqno: 12, offset: 0, bytes: 252, crc: 5, updates: 4 },
    ];
    let writer = Writer { token: Id(0xabcd), seqno: 12, upper: 9 };
    State {
        seqno: 12,
        token: Id(0xabcd),
        since: 8,
        upper: 9,
        sealed_at: Some(9),
        epoch: 4,
        history: History::Keep,
        feed: Some(Feed { mode: "given".into(), identity: "feed.jsonl".into() }),
        rows: Some(21),
        digest: Some(1),
        cursor: Some(vec![7]),
        batches: vec![Arc::new(Batch { seqno: 12, lower: 3, upper: 9, parts, forwarded: None })],
        writers: BTreeMap::from([(Id(0xa1), writer)]),
        ..State::default()
    }
}

#[test]
fn format_file() {
    let frozen = golden("FORMAT-v1", schema().encode(1));
    assert_eq!(Schema::decode(&frozen, true).unwrap(), (schema(), 1));
    let segments = golden("FORMAT-v2", schema().encode(2));
    assert_eq!(Schema::decode(&segments, true).unwrap(), (schema(), 2));
}

/// A part of format 1, which is written no more.
fn part_of_format_1() -> Vec<u8> {
    let fixtures = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    std::fs::read(fixtures.join("part-v1")).unwrap()
}

#[test]
fn part_file_of_format_1() {
    let frozen = part_of_format_1();
    assert_eq!(part::decode(&Arc::new(frozen.clone()), 0, u64::MAX).unwrap(), rows());
    let trimmed = part::decode(&Arc::new(frozen), 1, u64::MAX - 2).unwrap();
    assert_eq!(trimmed, rows()[1..3]);
}

/// The same rows in the order of format 2: by the hash of the key.
fn rows_by_hash() -> Vec<Update> {
    let mut rows = rows();
    rows.sort_by_key(|((key, _), ..)| xxh3_64(key.as_bytes()));
    rows
}

#[test]
fn part_file() {
    let rows = rows_by_hash();
    let frozen = golden("part-v2", part::encode(&rows));
    assert_eq!(part::decode(&Arc::new(frozen.clone()), 0, u64::MAX).unwrap(), rows);
    let trimmed = part::decode(&Arc::new(frozen), 1, u64::MAX - 2).unwrap();
    let within = |(_, time, _): &&Update| (1..u64::MAX - 2).contains(time);
    assert_eq!(trimmed, rows.iter().filter(within).cloned().collect::<Vec<_>>());
}

/// Many rows: fences, several times, widths of 0, 1, 2 and 4 bytes. Made without a look at the code that encodes.
#[test]
fn large_part_file() {
    let mut rows: Vec<Update> = (0..600u64)
        .map(|n| row(&format!("key {n:03}"), &"v".repeat((n % 300) as usize), n * 131, 1))
        .collect();
    rows[7].2 = -1;
    rows.sort_by_key(|((key, _), ..)| xxh3_64(key.as_bytes()));
    let frozen = golden("part-large-v2", part::encode(&rows));
    assert_eq!(part::decode(&Arc::new(frozen), 0, u64::MAX).unwrap(), rows);
}

#[test]
fn entry_file() {
    let raw = part_of_format_1();
    let frozen = golden("entry-v1", entry(&raw).encode(&raw).unwrap());
    let (decoded, inline) = Entry::decode(12, &frozen).unwrap();
    assert_eq!(decoded, entry(&raw));
    assert_eq!(inline, raw);
    assert_eq!(Entry::decode(13, &frozen).unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn least_entry_file() {
    let commit = Commit { upper: 1, ..Commit::default() };
    let least = Entry {
        seqno: 1,
        token: Id(1),
        prev_token: Id(0),
        writer: Id(2),
        at_ms: None,
        lost: vec![],
        change: Change::Append(commit),
    };
    let frozen = golden("entry-least-v1", least.encode(&[]).unwrap());
    assert_eq!(Entry::decode(1, &frozen).unwrap(), (least, &[][..]));
}

/// An entry that tells of races, and of a repair.
#[test]
fn entry_file_that_tells() {
    let raw = part_of_format_1();
    let repair = Commit { epoch: Some(5), shared: true, ..commit(&raw) };
    let told = Entry {
        at_ms: Some(1_700_000_000_123),
        lost: vec![3, 5],
        change: Change::Append(repair),
        ..entry(&raw)
    };
    let frozen = golden("entry-told-v1", told.encode(&raw).unwrap());
    assert_eq!(Entry::decode(12, &frozen).unwrap(), (told, &*raw));
}

#[test]
fn rollup_file_after_a_repair() {
    let state = State { epoch: 5, shared_epoch: 5, ..state() };
    let frozen = golden("rollup-shared-v1", rollup::encode(&state).unwrap());
    assert_eq!(rollup::decode(12, Id(0xabcd), &frozen).unwrap(), state);
}

#[test]
fn rollup_file() {
    let frozen = golden("rollup-v1", rollup::encode(&state()).unwrap());
    assert_eq!(rollup::decode(12, Id(0xabcd), &frozen).unwrap(), state());
    let key = rollup::key("data", 12, Id(0xabcd));
    assert_eq!(rollup::parse_key(&key), Some((12, Id(0xabcd))));
    assert_eq!(rollup::decode(11, Id(0xabcd), &frozen).unwrap_err().kind(), ErrorKind::Corrupt);
}

fn order() -> Fingerprint {
    Fingerprint { name: "Order".into(), shape: Some("struct{cents: u64}".into()) }
}

#[test]
fn rollup_file_with_shapes() {
    let mut state = state();
    state.shapes = vec![Arc::new(order()), Arc::new(Fingerprint::from("Later"))];
    let frozen = golden("rollup-shapes-v1", rollup::encode(&state).unwrap());
    assert_eq!(rollup::decode(12, Id(0xabcd), &frozen).unwrap(), state);
}

/// What programs that know one shape alone are shut out by.
#[test]
fn format_file_with_several_shapes() {
    for layout in [1, 2] {
        let name = format!("FORMAT-several-shapes-v{layout}");
        let frozen = golden(&name, schema().encode_with_shapes(layout));
        assert_eq!(Schema::decode(&frozen, true).unwrap(), (schema(), layout));
        let text = String::from_utf8(frozen).unwrap();
        assert!(text.contains("\"min_reader\":3,\"min_writer\":3"), "{text}");
    }
}

fn grant() -> Grant {
    let lease = Lease { since: Some(7), seqno: Some(11), expires_ms: 1_700_000_000_000 };
    Grant { token: Id(0xa1), lease }
}

#[test]
fn entries_of_every_other_kind() {
    let raw = part_of_format_1();
    let changes = [
        ("entry-append-grant-v1", Change::Append(Commit { grant: Some(grant()), ..commit(&raw) })),
        (
            "entry-lease-v1",
            Change::Lease(Leased {
                since: 7,
                grant: Some(grant()),
                release: Some(Id(0xa2)),
                history: Some(History::Last(2)),
            }),
        ),
        ("entry-lease-least-v1", Change::Lease(Leased::default())),
        (
            "entry-compact-v1",
            Change::Compact(Merged {
                first: 3,
                last: 9,
                forwarded: 6,
                since: 7,
                parts: vec![part_ref(), part_ref()],
            }),
        ),
        ("entry-compact-least-v1", Change::Compact(Merged::default())),
        (
            "entry-collect-v1",
            Change::Collect(Collected {
                since: 7,
                floor: 5,
                expired: vec![Id(1), Id(2)],
                asked: vec![],
            }),
        ),
        (
            "entry-collect-asked-v1",
            Change::Collect(Collected { asked: vec![Id(1)], ..Collected::default() }),
        ),
        ("entry-collect-least-v1", Change::Collect(Collected::default())),
        (
            "entry-shape-v1",
            Change::Shape(Shaped {
                since: 7,
                number: 2,
                shape: order(),
                history: Some(History::Last(2)),
            }),
        ),
        ("entry-shape-least-v1", Change::Shape(Shaped::default())),
    ];
    for (name, change) in changes {
        let inline: &[u8] = if matches!(change, Change::Append(_)) { &raw } else { &[] };
        let made = Entry { change, ..entry(&raw) };
        let frozen = golden(name, made.encode(inline).unwrap());
        assert_eq!(Entry::decode(12, &frozen).unwrap(), (made.clone(), inline), "{name}");
        // Only an append has rows inside.
        let longer = made.encode(&[inline, &[0]].concat()).unwrap();
        assert_eq!(Entry::decode(12, &longer).unwrap_err().kind(), ErrorKind::Corrupt, "{name}");
    }
}

#[test]
fn rollup_file_after_maintenance() {
    let mut state = state();
    let merged = Batch { forwarded: Some(8), ..(*state.batches[0]).clone() };
    state.batches = vec![Arc::new(merged)];
    state.leases = BTreeMap::from([
        (Id(0xa1), grant().lease),
        (Id(0xa2), Lease { expires_ms: 5, ..Lease::default() }),
    ]);
    let keys = vec![part_ref().key];
    state.retired = vec![
        Retired { seqno: 11, keys, inline: Some(4), bytes: 0 },
        Retired { seqno: 12, keys: vec![], inline: None, bytes: 0 },
    ];
    state.maintained = 10;
    let frozen = golden("rollup-maintained-v1", rollup::encode(&state).unwrap());
    assert_eq!(rollup::decode(12, Id(0xabcd), &frozen).unwrap(), state);
    // A program that knows says how many bytes merges have replaced.
    state.retired[0].bytes = 77;
    let frozen = golden("rollup-retired-bytes-v1", rollup::encode(&state).unwrap());
    assert_eq!(rollup::decode(12, Id(0xabcd), &frozen).unwrap(), state);
}

/// Puts a checksum at the end again, so that only what was changed can be objected to.
fn resealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.len() - 4;
    let crc = crc32c::crc32c(&bytes[..end]);
    bytes[end..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn with_json(from: &str, to: &str) -> Vec<u8> {
    let raw = part_of_format_1();
    let bytes = entry(&raw).encode(&raw).unwrap();
    let length = u32::from_le_bytes(bytes[12..16].try_into().unwrap()) as usize;
    let json = String::from_utf8(bytes[16..16 + length].to_vec()).unwrap();
    assert!(json.contains(from), "{json}");
    let json = json.replacen(from, to, 1);
    let mut changed = bytes[..12].to_vec();
    changed.extend_from_slice(&(json.len() as u32).to_le_bytes());
    changed.extend_from_slice(json.as_bytes());
    changed.extend_from_slice(&bytes[16 + length..]);
    resealed(changed)
}

#[test]
fn unknown_members_are_ignored_and_unknown_kinds_and_versions_refused_by_name() {
    let raw = part_of_format_1();
    let more = with_json("{\"seqno\"", "{\"later\":{\"x\":[1]},\"seqno\"");
    assert_eq!(Entry::decode(12, &more).unwrap().0, entry(&raw));
    let other = Entry::decode(12, &with_json("\"append\"", "\"merge\"")).unwrap_err();
    assert_eq!(other.kind(), ErrorKind::Unsupported);
    assert!(other.to_string().contains("\"merge\""), "{other}");
    let mut newer = entry(&raw).encode(&raw).unwrap();
    newer[8] = 2;
    let newer = Entry::decode(12, &resealed(newer)).unwrap_err();
    assert_eq!(newer.kind(), ErrorKind::Unsupported);
    assert!(newer.to_string().contains("version 2"), "{newer}");
    // What the copy of a log of files leaves in the place of the next entry.
    let closed = Entry::decode(12, b"DUPSLOG\n\xff\xff in segments\n").unwrap_err();
    assert_eq!(closed.kind(), ErrorKind::Unsupported);
    assert!(closed.to_string().contains("version 65535"), "{closed}");
    let mut newer = raw.clone();
    newer[8] = 3;
    let newer = part::decode(&Arc::new(newer), 0, 9).unwrap_err();
    assert_eq!(newer.kind(), ErrorKind::Unsupported);

    let format = |from: &str, to: &str| {
        let text = String::from_utf8(schema().encode(1)).unwrap().replacen(from, to, 1);
        let line = text.split_inclusive('\n').next().unwrap().to_string();
        let crc = crc32c::crc32c(line.as_bytes());
        format!("{line}crc32c {crc:08x}\n").into_bytes()
    };
    let writers = format("\"min_writer\":1", "\"min_writer\":4");
    assert_eq!(Schema::decode(&writers, false).unwrap(), (schema(), 1), "may still be read");
    let refused = Schema::decode(&writers, true).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
    let readers = format("\"min_reader\":1", "\"min_reader\":7");
    let refused = Schema::decode(&readers, false).unwrap_err();
    assert!(refused.to_string().contains("version 7"), "{refused}");
}

/// Lengths that lie, under good checksums: refused before anything is allocated for them.
#[test]
fn hostile_lengths() {
    let good = part_of_format_1();
    let with_header = |at: usize, value: u64| {
        let mut bytes = good.clone();
        bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..112]);
        bytes[112..116].copy_from_slice(&crc.to_le_bytes());
        Arc::new(bytes)
    };
    for value in [0, 1, 5, u64::from(u32::MAX), u64::MAX / 8, u64::MAX / 4 + 1, u64::MAX] {
        for at in [16, 40, 52, 64, 76, 88, 100] {
            let error = part::decode(&with_header(at, value), 0, u64::MAX).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{at}: {value}");
        }
    }
    for value in ["1", "252", "18446744073709551615"] {
        let bytes = with_json("\"offset\":0", &format!("\"offset\":{value}"));
        assert_eq!(Entry::decode(12, &bytes).unwrap_err().kind(), ErrorKind::Corrupt);
    }
    let raw = part_of_format_1();
    let mut bytes = entry(&raw).encode(&raw).unwrap();
    bytes[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(Entry::decode(12, &resealed(bytes)).unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(Entry::decode(12, &[]).unwrap_err().kind(), ErrorKind::Corrupt);
}
