//! Goal: what is larger than memory is read within the bound, and is what was written. Method: shards in memory of many
//! parts, written by hand, read with a bound of a few of them; the gauge is read at every call of the store; contents are
//! those of a fold of what was appended.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crate::common::{append, config, io, row, runtime, schema};
use crate::random::{Random, for_seeds};
use differential_upsert::codec::{Postcard, encode_stored};
use differential_upsert::shard::{
    Access, Append, Handle, HandleConfig, HandleOptions, History, SnapshotStream, Update, verify,
};
use differential_upsert::store::{Fault, Faults, Root};
use differential_upsert::{Encoded, Error, ErrorKind, Packed};

const PART: usize = 2 << 10;
/// Eight parts.
const BOUND: usize = 8 * PART;

type Contents = BTreeMap<String, String>;
type Typed = differential_upsert::Shard<u64, u64>;

fn bounded() -> HandleConfig {
    HandleConfig {
        inline_bytes_max: 100,
        part_bytes_max: PART,
        read_bytes_max: BOUND,
        compact_bytes_max: BOUND,
        maintain_every: u64::MAX,
        entries_kept: 0,
        ..config()
    }
}

async fn handle(root: &Root, base: u64, options: HandleOptions, bounds: &HandleConfig) -> Handle {
    Handle::open(root.clone(), io(base), options.with_config(bounds.clone())).await.unwrap()
}

fn text(row: &Encoded) -> String {
    String::from_utf8(row.as_bytes().to_vec()).unwrap()
}

/// Reads a snapshot to its end, from some rows on.
async fn rest(stream: &mut SnapshotStream, contents: &mut Contents) -> Result<(), Error> {
    while let Some(rows) = stream.next().await? {
        add(rows, stream.as_of(), contents);
    }
    assert_eq!(stream.next().await?, None);
    Ok(())
}

fn add(rows: Vec<Update>, as_of: u64, contents: &mut Contents) {
    assert!(!rows.is_empty());
    for ((key, value), time, diff) in rows {
        assert_eq!((time, diff), (as_of, 1));
        let again = contents.insert(text(&key), text(&value));
        assert_eq!(again, None, "a key comes once");
    }
}

async fn streamed(handle: &Handle, as_of: u64) -> Result<Contents, Error> {
    let mut contents = Contents::new();
    rest(&mut handle.stream(as_of).await?, &mut contents).await?;
    Ok(contents)
}

/// Changes at one time: puts and deletes of random keys, some of them long.
fn changes(random: &Random, time: u64, live: &mut Contents) -> Vec<Update> {
    let mut rows = Vec::new();
    for _ in 0..random.pick(&[1, 20, 200]) {
        let key = format!("key{}", random.below(300));
        if rows.iter().any(|((k, _), ..): &Update| text(k) == key) {
            continue;
        }
        if let Some(old) = live.remove(&key) {
            rows.push(row(&key, &old, time, -1));
        }
        if !random.one_in(5) {
            let value = format!("{time}{}", "x".repeat(random.below(60) as usize));
            rows.push(row(&key, &value, time, 1));
            live.insert(key, value);
        }
    }
    rows
}

/// However many parts there are, and however they overlap.
#[test]
fn a_stream_is_the_collection_in_bounded_memory() {
    for_seeds("LARGER", 20, |seed| {
        runtime().block_on(async {
            let random = Random::new(seed);
            let root = Root::open("mem:", Access::Write).unwrap();
            let (watched, most) = (Arc::<OnceLock<Handle>>::default(), Arc::<AtomicU64>::default());
            let (handle_at, greatest) = (Arc::clone(&watched), Arc::clone(&most));
            let faults = Faults::new(move |_| {
                let bytes = handle_at.get().map_or(0, |handle| handle.memory().read_bytes);
                greatest.fetch_max(bytes, Ordering::Relaxed);
                Fault::None
            });
            let options = HandleOptions::write("data", schema());
            let writer = handle(&root, 1, options, &bounded()).await;
            let (mut live, mut history) = (Contents::new(), Vec::new());
            for time in 0..30 {
                let mut rows = changes(&random, time, &mut live);
                history.push(live.clone());
                let mut parts = Vec::new();
                // Several calls, whose rows overlap.
                for _ in 0..random.pick(&[1, 4]) {
                    let few = rows.split_off(rows.len() - rows.len() / 2);
                    parts.extend(writer.prepare(std::mem::replace(&mut rows, few)).await.unwrap());
                }
                parts.extend(writer.prepare(rows).await.unwrap());
                let history = Some(History::Keep);
                let append =
                    Append { lower: time, upper: time + 1, parts, history, ..Append::default() };
                let _ = writer.compare_and_append(append).await.unwrap();
                if random.one_in(10) {
                    let _ = writer.compact().await.unwrap();
                }
            }
            let options = HandleOptions::read("data");
            let reader = handle(&root.with_faults(faults), 1 << 40, options, &bounded()).await;
            watched.set(reader.clone()).unwrap();
            for as_of in [0, 7, 15, 28, 29] {
                assert_eq!(streamed(&reader, as_of).await.unwrap(), history[as_of as usize]);
            }
            let all: u64 =
                reader.state().batches.iter().flat_map(|b| &b.parts).map(|p| p.bytes()).sum();
            let most = most.load(Ordering::Relaxed);
            let bound = BOUND as u64;
            println!("{all} bytes, {most} in memory");
            assert!(all > 2 * bound && most <= bound, "{most} bytes in memory, of {bound}");
            assert_eq!(reader.memory().read_bytes, 0);
            let invalid = reader.stream(30).await.unwrap_err();
            assert_eq!(invalid.kind(), ErrorKind::Invalid);
            verify(root, io(1)).await.unwrap();
        });
    });
}

/// Without a hold it goes on behind the row it stands at, as long as the time is told apart.
#[test]
fn a_stream_outlives_the_parts_it_began_with() {
    runtime().block_on(async {
        let root = Root::open("mem:", Access::Write).unwrap();
        let write = HandleOptions::write("data", schema());
        let keep = HandleConfig { history: Some(History::Keep), ..bounded() };
        let writer = handle(&root, 1, write.clone(), &keep).await;
        let value = |n: u64| "x".repeat((n % 50) as usize);
        let rows = |time, keys: std::ops::Range<u64>| {
            keys.map(|n| row(&format!("key{n}"), &value(n), time, 1)).collect()
        };
        let _ = append(&writer, 0, 1, rows(0, 0..500)).await.unwrap();
        let _ = append(&writer, 1, 2, rows(1, 500..700)).await.unwrap();
        // One run, which is read part by part.
        let _ = writer.compact().await.unwrap();
        let expected: Contents = (0..700).map(|n| (format!("key{n}"), value(n))).collect();

        let options = HandleOptions::read("data");
        let reader = handle(&root, 1 << 40, options, &bounded()).await;
        let (mut stream, mut seen) = (reader.stream(1).await.unwrap(), Contents::new());
        let mut time = 2;
        let mut restarts = 0;
        loop {
            let missing = reader.state().seqno;
            let Some(rows) = stream.next().await.unwrap() else { break };
            add(rows, 1, &mut seen);
            restarts += u32::from(reader.state().seqno != missing);
            if seen.len() < 600 && seen.len() % 3 == 0 {
                // Other parts have the same rows now, and those that it reads are gone.
                let _ = append(&writer, time, time + 1, rows_of_nobody(time)).await.unwrap();
                let _ = (writer.compact().await.unwrap(), writer.collect().await.unwrap());
                time += 1;
            }
        }
        assert_eq!(seen, expected);
        assert!(restarts > 3, "{restarts} times its parts were gone");

        // A writer holds what it reads; a reader hears that the time is told apart no more.
        let (mut held, mut lost) =
            (writer.stream(time - 1).await.unwrap(), reader.stream(time - 1).await.unwrap());
        let (mut seen, mut part) = (Contents::new(), Contents::new());
        add(held.next().await.unwrap().unwrap(), time - 1, &mut seen);
        add(lost.next().await.unwrap().unwrap(), time - 1, &mut part);
        let other = handle(&root, 1 << 30, write, &keep).await;
        let advance = async |times: std::ops::Range<u64>| {
            for time in times {
                let parts = other.prepare(rows_of_nobody(time)).await.unwrap();
                let (upper, history) = (time + 1, Some(History::Last(1)));
                let append = Append { lower: time, upper, parts, history, ..Append::default() };
                let _ = other.compare_and_append(append).await.unwrap();
                let _ = (other.compact().await.unwrap(), other.collect().await.unwrap());
            }
        };
        advance(time..time + 3).await;
        rest(&mut held, &mut seen).await.unwrap();
        assert!(seen.len() >= 700);
        drop(held);
        while writer.refresh().await.unwrap().leases.values().any(|lease| lease.since.is_some()) {
            tokio::task::yield_now().await;
        }
        advance(time + 3..time + 6).await;
        let gone = rest(&mut lost, &mut part).await.unwrap_err();
        assert_eq!(gone.kind(), ErrorKind::Invalid, "{gone}");
        // It does not look complete when it is asked again.
        assert!(lost.next().await.is_err());
    });
}

/// A commit of many parts comes part by part, and none of its times is complete before the last.
#[test]
fn changes_come_in_pieces() {
    runtime().block_on(async {
        let root = Root::open("mem:", Access::Write).unwrap();
        let keep = HandleConfig { history: Some(History::Keep), ..bounded() };
        let shard = Typed::open_with(root.clone(), io(1), keep.clone()).await.unwrap();
        let rows = |time| {
            let row = |key: u64| {
                let mut value = Vec::new();
                encode_stored::<u64, Postcard>(&Ok(time), &mut value).unwrap();
                let key: Encoded = Packed::pack(&key).unwrap().cast();
                ((key, Encoded::from_bytes(value)), time, 1)
            };
            (time * 1_000..time * 1_000 + 500).map(row).collect()
        };
        let _ = append(shard.handle(), 0, 1, rows(0)).await.unwrap();
        let _ = append(shard.handle(), 1, 3, rows(1)).await.unwrap();
        let parts: Vec<usize> = shard.state().batches.iter().map(|b| b.parts.len()).collect();
        assert!(parts.iter().all(|parts| *parts > 5), "{parts:?}");
        let reader = Typed::read_with(root, io(1 << 40), bounded()).await.unwrap();
        let (mut held, mut free) =
            (shard.listen(0).await.unwrap(), reader.listen(0).await.unwrap());
        for (parts, upper) in parts.into_iter().zip([1, 3]) {
            let (lower, mut keys) = (held.upper(), 0);
            for part in 1..=parts {
                let piece = held.next_piece().await.unwrap().unwrap();
                let upper = if part == parts { upper } else { lower };
                assert_eq!((piece.lower, piece.upper, held.upper()), (lower, upper, upper));
                assert!((1..=PART).contains(&piece.updates.len()));
                keys += piece.updates.len();
            }
            assert_eq!(keys, 500);
        }
        drop(held);
        // The rest of a batch can be had as one.
        let piece = free.next_piece().await.unwrap().unwrap();
        let rest = free.next().await.unwrap().unwrap();
        assert_eq!((piece.updates.len() + rest.updates.len(), rest.upper), (500, 1));
        // One that is merged while nothing holds it has no such place.
        let _ = free.next_piece().await.unwrap().unwrap();
        let leases = async || shard.handle().refresh().await.unwrap().leases.clone();
        while leases().await.values().any(|lease| lease.since.is_some()) {
            tokio::task::yield_now().await;
        }
        assert_eq!(shard.handle().compact().await.unwrap().compactions, 1);
        let _ = shard.handle().collect().await.unwrap();
        reader.handle().refresh().await.unwrap();
        assert_eq!(free.next_piece().await.unwrap_err().kind(), ErrorKind::LeaseLost);
    });
}

/// A row that a merge has to move, and that no snapshot at 1 has.
fn rows_of_nobody(time: u64) -> Vec<Update> {
    vec![row(&format!("late{time}"), &"y".repeat(300), time, 1)]
}
