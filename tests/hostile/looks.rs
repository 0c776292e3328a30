//! What only looks at a shard, and merges: shards of many times what each may have in memory, made through a handle.

use differential_upsert::Encoded;
use differential_upsert::io::Io;
use differential_upsert::shard::{
    Append, Appended, Handle, HandleConfig, HandleOptions, History, Schema, Update, verify,
};
use differential_upsert::store::{Access, Root};

use crate::{Allowed, MIB};

/// Of one call of `prepare`, and of a part.
const PART: usize = 2 * MIB;
const READ: usize = 8 * MIB;
const COMPACT: usize = 8 * MIB;
/// What `verify` says that it has.
const VERIFY: usize = 32 * MIB;
/// The runtime, a piece that is sent and one that is written, and what the store has of one part.
const BESIDE: usize = 8 * MIB;

fn options(write: bool) -> HandleOptions {
    let config = HandleConfig {
        cache_bytes_max: 0,
        part_bytes_max: PART,
        read_bytes_max: READ,
        compact_bytes_max: COMPACT,
        maintain_every: u64::MAX,
        history: Some(History::Keep),
        ..HandleConfig::default()
    };
    let schema = Schema { codec: "text".into(), key: "k".into(), value: "v".into() };
    let options =
        if write { HandleOptions::write("data", schema) } else { HandleOptions::read("data") };
    options.with_config(config)
}

fn row(key: u64, value: u64, bytes: usize, time: u64, diff: isize) -> Update {
    let text = |text: String| Encoded::from_bytes(text.into_bytes());
    let value = format!("{value:08}{}", "x".repeat(bytes));
    ((text(format!("key{key:010}")), text(value)), time, diff)
}

/// Commits one part after another, each of which reaches over all hashes.
fn commit(shard: &Handle, io: &Io, parts: u64, rows: impl Fn(u64) -> Vec<Update>) {
    for time in 0..parts {
        let won = io.block_on(async {
            let parts = shard.prepare(rows(time)).await?;
            let (lower, upper) = (time, time + 1);
            let append = Append { lower, upper, parts, ..Append::default() };
            shard.compare_and_append(append).await
        });
        assert!(matches!(won, Ok(Appended::Won { .. })), "{won:?}");
    }
}

/// Counts the rows of a snapshot.
fn streamed(shard: &Handle, io: &Io, as_of: u64) -> u64 {
    io.block_on(async {
        let (mut stream, mut rows) = (shard.stream(as_of).await?, 0);
        while let Some(piece) = stream.next().await? {
            rows += piece.len() as u64;
        }
        Ok::<_, differential_upsert::Error>(rows)
    })
    .expect("a snapshot")
}

fn looked_at(parts: u64, rows: impl Fn(u64) -> Vec<Update>, live: u64) {
    let directory = tempfile::tempdir().expect("a directory");
    let url = format!("file:{}", directory.path().join("shard").display());
    let io = Io::process().expect("a runtime");
    let open = |write: bool| {
        let access = if write { Access::Write } else { Access::Read };
        let root = Root::open(&url, access).expect("a directory");
        (
            root.clone(),
            io.block_on(Handle::open(root, io.clone(), options(write))).expect("a shard"),
        )
    };
    let (_, writer) = open(true);
    commit(&writer, &io, parts, rows);
    for compacted in [false, true] {
        let (root, reader) = open(false);
        assert_eq!(streamed(&reader, &io, parts - 1), live);
        let verified = io.block_on(verify(root, io.clone())).expect("a sound shard");
        assert!(verified.bytes > 96 * MIB as u64, "{verified:?}");
        if !compacted {
            let done = io.block_on(writer.compact()).expect("a merge");
            assert_eq!(done.compactions, 1);
            let _ = io.block_on(writer.collect()).expect("a collection");
        }
    }
}

fn allowed() -> Allowed {
    let bounds = READ.max(COMPACT).max(VERIFY) + 2 * PART + BESIDE;
    Allowed { bounds, live: 0, spilled: (0, 0) }
}

/// A snapshot, `verify` and a merge of three times the bounds, first in parts that all overlap, then in one run.
pub fn larger_than_memory() -> Allowed {
    const KEYS: u64 = 1_800;
    let rows = |time| (0..KEYS).map(|n| row(time * KEYS + n, n, 1_000, time, 1)).collect();
    looked_at(70, rows, 70 * KEYS);
    allowed()
}

/// One key whose versions are kept, and are more than the bounds.
pub fn long_history() -> Allowed {
    let rows = |time: u64| {
        let old = time.checked_sub(1).map(|old| row(7, old, 900_000, time, -1));
        old.into_iter().chain([row(7, time, 900_000, time, 1)]).collect()
    };
    looked_at(80, rows, 1);
    allowed()
}
