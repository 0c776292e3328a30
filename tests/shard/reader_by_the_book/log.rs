//! Goal: the log of a root, by the chapter `guide::format` alone. Method: plain code over the files of a root; what the
//! chapter calls damage is a panic.

use std::collections::BTreeMap;

use serde_json::Value;

/// The files of a root, by their keys.
pub type Files = BTreeMap<String, Vec<u8>>;

pub fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ ((crc & 1) * 0x82F6_3B78))
    };
    !bytes.iter().fold(!0, step)
}

/// The number that stands at a place, of so many bytes.
pub fn number_at(bytes: &[u8], at: usize, width: usize) -> u64 {
    bytes[at..at + width].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn crc_at(bytes: &[u8], at: usize) -> u32 {
    number_at(bytes, at, 4) as u32
}

/// The object of FORMAT and of INCARNATION.
pub fn two_lines(bytes: &[u8]) -> Value {
    let text = std::str::from_utf8(bytes).unwrap();
    let line = text.split_inclusive('\n').next().unwrap();
    assert_eq!(text[line.len()..], format!("crc32c {:08x}\n", crc32c(line.as_bytes())));
    serde_json::from_str(line).unwrap()
}

/// The JSON text and the raw bytes of a frame.
pub fn frame<'a>(magic: &[u8; 8], bytes: &'a [u8]) -> (Value, &'a [u8]) {
    let (body, crc) = bytes.split_at(bytes.len() - 4);
    assert_eq!((&body[..8], number_at(body, 8, 2), number_at(body, 10, 2)), (&magic[..], 1, 0));
    assert_eq!(crc32c(body), crc_at(crc, 0), "the crc of a frame");
    let (json, raw) = body[16..].split_at(number_at(body, 12, 4) as usize);
    (serde_json::from_slice(json).unwrap(), raw)
}

/// What is there of a log.
#[derive(Debug, Default)]
pub struct Log {
    pub floor: u64,
    pub entries: BTreeMap<u64, Vec<u8>>,
    /// How many segments were read.
    pub segments: usize,
}

/// What follows a prefix, of the keys that have it.
pub fn below<'a>(files: &'a Files, prefix: &str) -> Vec<(&'a str, &'a [u8])> {
    let name = |key: &'a String| key.strip_prefix(prefix);
    files.iter().filter_map(|(key, bytes)| Some((name(key)?, &bytes[..]))).collect()
}

/// Reads a log.
pub fn read(files: &Files, shard: &str) -> Log {
    if let Some(marks) = files.get(&format!("{shard}/log/marks")) {
        return read_segments(files, shard, marks);
    }
    let number = |name: &str| name.parse::<u64>().unwrap();
    let floors = below(files, &format!("{shard}/floor/"));
    let floors = floors.into_iter().map(|(name, _)| number(name));
    let entries = below(files, &format!("{shard}/log/")).into_iter();
    let entries = entries.filter(|(_, bytes)| *bytes != b"DUPSLOG\n\xff\xff in segments\n");
    Log {
        floor: floors.max().unwrap_or(0),
        entries: entries.map(|(name, bytes)| (number(name), bytes.to_vec())).collect(),
        segments: 0,
    }
}

/// A record: the number of its entry, the entry, where the next one begins, and how far the segment was durable.
struct Record<'a> {
    seqno: u64,
    entry: &'a [u8],
    end: usize,
    synced: usize,
}

/// The whole record at a place of a segment.
fn record(number: u64, segment: &[u8], at: usize) -> Option<Record<'_>> {
    let head = segment.get(at..at + 24).filter(|head| head.starts_with(b"rec1"))?;
    let end = at + 24 + number_at(head, 4, 4) as usize;
    let all = segment.get(at..end.next_multiple_of(8))?;
    let place = [number.to_le_bytes(), (at as u64).to_le_bytes()].concat();
    let crc = crc32c(&[&place, &all[..20], &all[24..]].concat());
    (crc == crc_at(all, 20)).then(|| Record {
        seqno: number_at(all, 8, 8),
        entry: &segment[at + 24..end],
        end: end.next_multiple_of(8),
        synced: number_at(all, 16, 4) as usize,
    })
}

fn read_segments(files: &Files, shard: &str, marks: &[u8]) -> Log {
    assert_eq!(marks.len(), 2048);
    assert_eq!((&marks[..8], number_at(marks, 8, 4)), (&b"DULOGMRK"[..], 1));
    assert_eq!((number_at(marks, 12, 4), crc_at(marks, 16)), (0, crc32c(&marks[..16])));
    let bounds = [512, 1024].into_iter().filter_map(|at| {
        let is_whole = crc_at(marks, at + 24) == crc32c(&marks[at..at + 24]);
        let word = |index: usize| number_at(marks, at + 8 * index, 8);
        is_whole.then(|| (word(0), word(1), word(2)))
    });
    let (floor, gone, first) = bounds.max().expect("bounds that are whole");
    let durable = (crc_at(marks, 1552) == crc32c(&marks[1536..1552]))
        .then(|| (number_at(marks, 1536, 8), number_at(marks, 1544, 8)))
        .map_or((first, 32), |durable| durable.max((first, 32)));

    let mut log = Log { floor, ..Log::default() };
    let (mut end, mut torn) = ((first, 32), false);
    for number in first.. {
        let Some(segment) = files.get(&format!("{shard}/log/{number:016x}.seg")) else { break };
        let all = (32..segment.len()).step_by(8).filter_map(|at| record(number, segment, at));
        let is_new = |seqno: u64| seqno > gone && !log.entries.contains_key(&seqno);
        let has_news = all.into_iter().any(|record| is_new(record.seqno));
        let header = segment.get(..32).filter(|header| {
            header.starts_with(b"DULOGSEG")
                && (number_at(header, 8, 4), number_at(header, 16, 8)) == (1, number)
                && (crc_at(header, 24), crc_at(header, 28)) == (crc32c(&header[..24]), 0)
        });
        let Some(header) = header else {
            // In the making.
            let next = format!("{shard}/log/{:016x}.seg", number + 1);
            assert!(!has_news && (number, 32) >= durable && !files.contains_key(&next), "a header");
            break;
        };
        if torn {
            assert!(!has_news && number_at(header, 12, 4) <= end.1, "a torn tail before a segment");
            break;
        }
        let mut at = 32;
        while let Some(Record { seqno, entry, end, .. }) = record(number, segment, at) {
            log.entries.entry(seqno).or_insert(entry.to_vec());
            at = end;
        }
        let rest = (at..segment.len()).step_by(8).filter_map(|at| record(number, segment, at));
        assert!(rest.into_iter().all(|later| later.synced <= at), "damage at byte {at}");
        torn = segment[at..].iter().any(|byte| *byte != 0);
        end = (number, at as u64);
        log.segments += 1;
    }
    assert!(end >= durable, "the log ends at {end:?}, before {durable:?}");
    log.entries.retain(|seqno, _| *seqno > gone);
    log
}
