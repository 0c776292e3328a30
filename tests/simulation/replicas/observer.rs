//! Owns the safety of a run: after every step the shard, read from its log through a store without
//! faults, is the oracle's collection at every time below its upper, and its upper has no gap.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use differential_upsert::io::{Clock, Io, Tokens};
use differential_upsert::shard::{
    Append, Appended, Handle, HandleConfig, HandleOptions, History, Schema, Sum, Update,
};
use differential_upsert::store::Root;
use differential_upsert::unstable::Digest;
use differential_upsert::{Command, Encoded};
use tokio::runtime::Runtime;

use crate::feed::{COLLECTIONS, Contents, FOLD, Feed, NO_VALUE, NO_VALUE_STORED, stored};

/// Where the rival's tokens begin.
const FAST: u64 = 2 << 60;

/// Tokens counted up from a base.
pub struct Counted(AtomicU64);

impl Counted {
    pub fn from(base: u64) -> Arc<Counted> {
        Arc::new(Counted(AtomicU64::new(base)))
    }
}

impl Tokens for Counted {
    fn token(&self) -> u128 {
        u128::from(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

/// Stands still: what a lease says of time reaches stored bytes. Whoever has the high tokens is a
/// day ahead of the others.
impl Clock for Counted {
    fn now_ms(&self) -> u64 {
        if self.0.load(Ordering::Relaxed) >= FAST { 86_400_000 } else { 0 }
    }
}

/// A runtime that does nothing on its own: it runs only while it is polled, one task at a time, and
/// its clock stands still until it is moved.
pub fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true).event_interval(1).build().unwrap()
}

pub fn schema() -> Schema {
    Schema { codec: "postcard-1".into(), key: "u64".into(), value: "u64".into() }
}

fn config(history: History) -> HandleConfig {
    let history = Some(history);
    HandleConfig { history, entries_kept: 2, compact_bytes_max: 1, ..HandleConfig::default() }
}

/// Reads the shard's log and checks it.
pub struct Observer {
    runtime: Runtime,
    handle: Handle,
    feed: Arc<Feed>,
    /// The shard's upper.
    pub upper: u64,
    /// Its contents just below the upper.
    pub contents: Contents,
}

impl Observer {
    pub fn new(root: &Root, feed: Arc<Feed>) -> Observer {
        let runtime = runtime();
        let io = Io::new(runtime.handle().clone(), Counted::from(1 << 60));
        let opened = Handle::open(
            root.clone(),
            io,
            HandleOptions::read("data").with_config(config(History::Keep)),
        );
        let handle = runtime.block_on(opened).unwrap();
        Observer { runtime, handle, feed, upper: 0, contents: Contents::new() }
    }

    /// Reads what is new.
    pub fn check(&mut self) {
        let state = self.runtime.block_on(self.handle.refresh()).unwrap();
        let new = state.batches.iter().filter(|batch| batch.upper > self.upper);
        if new.filter_map(|batch| batch.forwarded).any(|to| to > 0 && to >= self.upper) {
            // Merged before we saw it: only the last time is still apart from those before it.
            let last = state.upper - 1;
            let rows = self.runtime.block_on(self.handle.snapshot(last)).unwrap();
            let rows = rows.iter().map(|((key, value), _, _)| (number(key), stored(value)));
            self.contents = rows.collect();
            assert_eq!(&self.contents, self.feed.at(last), "the shard's contents at time {last}");
            self.upper = state.upper;
        }
        for batch in &state.batches {
            if batch.upper <= self.upper {
                continue;
            }
            // A commit without rows leaves no batch; a merged one may begin with what we have seen.
            let lower = batch.lower.max(self.upper);
            self.pass(lower, &mut BTreeMap::new());
            let mut rows: BTreeMap<u64, Vec<(u64, u64, isize)>> = BTreeMap::new();
            for part in &batch.parts {
                let fetched = self.handle.fetch(part, lower, batch.upper);
                for ((key, value), time, diff) in self.runtime.block_on(fetched).unwrap() {
                    rows.entry(time).or_default().push((number(&key), stored(&value), diff));
                }
            }
            self.pass(batch.upper, &mut rows);
            assert!(rows.is_empty(), "rows outside [{}, {})", batch.lower, batch.upper);
        }
        self.pass(state.upper, &mut BTreeMap::new());
    }

    /// Moves on to `upper`, with these rows.
    fn pass(&mut self, upper: u64, rows: &mut BTreeMap<u64, Vec<(u64, u64, isize)>>) {
        let (lower, end) = (self.upper, self.feed.end);
        assert!(upper >= lower, "the upper went back from {lower} to {upper}");
        assert!(upper <= end, "[{lower}, {upper}) is there, but {end} was never closed");
        for time in lower..upper {
            self.apply(time, rows.remove(&time).unwrap_or_default());
        }
        self.upper = upper;
    }

    /// Applies the updates of one time, which must be minimal, and compares with the oracle.
    fn apply(&mut self, time: u64, mut rows: Vec<(u64, u64, isize)>) {
        rows.sort_by_key(|(key, _, diff)| (*key, *diff));
        let mut retracted = None;
        for (key, value, diff) in rows {
            match diff {
                -1 => {
                    let held = self.contents.remove(&key);
                    assert_eq!(held, Some(value), "retraction of key {key} at time {time}");
                    retracted = Some((key, value));
                }
                1 => {
                    assert_ne!(retracted, Some((key, value)), "an update to itself at time {time}");
                    let held = self.contents.insert(key, value);
                    assert_eq!(held, None, "key {key} has two values at time {time}");
                }
                _ => panic!("key {key} changes by {diff} at time {time}"),
            }
        }
        assert_eq!(&self.contents, self.feed.at(time), "the shard's contents at time {time}");
    }

    /// Every object of the store, to compare runs.
    pub fn objects(&self, root: &Root) -> Vec<(String, Vec<u8>)> {
        let blob = root.blob();
        let all = async {
            let mut objects = Vec::new();
            for listed in blob.list("", usize::MAX).await.unwrap() {
                let bytes = blob.get(&listed.key).await.unwrap().unwrap();
                objects.push((listed.key, bytes.to_vec()));
            }
            objects
        };
        self.runtime.block_on(all)
    }
}

/// Another writer of the same feed, out of the oracle and not out of the pipeline.
pub struct Rival {
    runtime: Runtime,
    handle: Handle,
    feed: Arc<Feed>,
}

impl Rival {
    pub fn new(root: &Root, feed: Arc<Feed>) -> Rival {
        Rival::in_a_shard_of(root, feed, History::Keep, false)
    }

    /// With `fast`, its clock is a day ahead of all others.
    pub fn in_a_shard_of(root: &Root, feed: Arc<Feed>, history: History, fast: bool) -> Rival {
        let runtime = runtime();
        let tokens = Counted::from(if fast { FAST } else { FAST - (1 << 59) });
        let io = Io::new(runtime.handle().clone(), tokens.clone()).with_clock(tokens);
        let opened = Handle::open(
            root.clone(),
            io,
            HandleOptions::write("data", schema()).with_config(config(history)),
        );
        let handle = runtime.block_on(opened).unwrap();
        Rival { runtime, handle, feed }
    }

    /// Deletes what nobody holds, having ended the leases that are over by its clock, and merges
    /// everything.
    pub fn maintain(&self) {
        self.runtime.block_on(async {
            for _ in 0..2 {
                let _ = self.handle.collect().await.unwrap();
                let _ = self.handle.compact().await.unwrap();
            }
        });
    }

    /// Appends from the shard's upper to `upper`, or to the feed's end if that is less. Returns the
    /// shard's upper.
    pub fn append_to(&self, upper: u64) -> u64 {
        self.runtime.block_on(async {
            let lower = self.handle.refresh().await.unwrap().upper;
            let upper = upper.min(self.feed.end);
            if lower >= upper {
                return lower;
            }
            let rows = (lower..upper).flat_map(|time| changes(&self.feed, time)).collect();
            let parts = self.handle.prepare(rows).await.unwrap();
            let sum = Some(sum_below(&self.feed, upper));
            let append = Append { lower, upper, parts, sum, ..Append::default() };
            let appended = self.handle.compare_and_append(append).await.unwrap();
            assert!(matches!(appended, Appended::Won { .. }), "{appended:?}");
            upper
        })
    }

    /// Returns the shard's upper, whatever is in it.
    pub fn upper(&self) -> u64 {
        self.runtime.block_on(self.handle.refresh()).unwrap().upper
    }

    /// Appends rows of the test's own making.
    pub fn append(&self, lower: u64, upper: u64, rows: &[(u64, u64, u64, isize)]) {
        let rows = rows.iter().map(|(key, value, time, diff)| row(*key, *value, *time, *diff));
        let rows = rows.collect();
        self.runtime.block_on(async {
            self.handle.refresh().await.unwrap();
            let parts = self.handle.prepare(rows).await.unwrap();
            let sum = Some(sum_below(&self.feed, upper));
            let append = Append { lower, upper, parts, sum, ..Append::default() };
            let appended = self.handle.compare_and_append(append).await.unwrap();
            assert!(matches!(appended, Appended::Won { .. }), "{appended:?}");
        });
    }
}

/// What the feed has below a time. A rival does not check hashes: it uses the library's.
pub fn sum_below(feed: &Feed, upper: u64) -> Sum {
    let mut digest = Digest::default().with_fold(FOLD).with_collections(COLLECTIONS);
    let below = feed.rows.iter().filter(|(_, time)| *time < upper);
    below.fold(Sum::default(), |sum, (command, time)| {
        let command: Command<Vec<u8>, Vec<u8>, u64> = match command {
            Command::Put { key, value, order } => {
                Command::put(vec![*key as u8], vec![0, *value as u8], *order)
            }
            Command::Patch { key, patch, order } => {
                Command::patch(vec![*key as u8], vec![0, *patch as u8], *order)
            }
            Command::Delete { key, order } => Command::delete(vec![*key as u8], *order),
            Command::Reset { order } => Command::reset(*order),
            Command::ResetOf { collection, order } => Command::reset_of(collection.clone(), *order),
        };
        sum + digest.command(&command, *time).unwrap()
    })
}

/// The updates of one time, by the oracle.
pub fn changes(feed: &Feed, time: u64) -> Vec<Update> {
    let (before, after) = (feed.before(time), feed.at(time));
    let gone = before.iter().filter(|(key, value)| after.get(key) != Some(value));
    let come = after.iter().filter(|(key, value)| before.get(key) != Some(value));
    (gone.map(|(key, value)| row(*key, *value, time, -1)))
        .chain(come.map(|(key, value)| row(*key, *value, time, 1)))
        .collect()
}

/// An update as the shard stores it: numbers below 128 are one byte, 0 tags a value and 1 an error.
fn row(key: u64, value: u64, time: u64, diff: isize) -> Update {
    let key = Encoded::from_bytes(vec![key as u8]);
    let value = match value {
        NO_VALUE => NO_VALUE_STORED.to_vec(),
        value => vec![0, value as u8],
    };
    ((key, Encoded::from_bytes(value)), time, diff)
}

fn number(bytes: &Encoded) -> u64 {
    let [number] = bytes.as_bytes() else { panic!("not one byte: {:?}", bytes.as_bytes()) };
    u64::from(*number)
}
