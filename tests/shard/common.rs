//! Goal: what the tests of the durable half share. Method: plain helpers; no oracle lives here.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use differential_upsert::io::{Clock, Io, Tokens};
use differential_upsert::shard::{
    Append, Appended, Handle, HandleConfig, HandleOptions, Prepared, Schema, Update,
};
use differential_upsert::store::Root;
use differential_upsert::{Encoded, Error};

/// Tokens 1, 2, 3 ... above a base: a run replays to the byte.
pub struct Counting(AtomicU64);

impl Tokens for Counting {
    fn token(&self) -> u128 {
        u128::from(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

/// A runtime on this thread, with paused time: waiting costs nothing, and happens only when nothing
/// else can run.
pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
}

/// A clock that stands still until it is set.
#[derive(Debug, Default)]
pub struct Stopped(AtomicU64);

impl Stopped {
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(by.as_millis() as u64, Ordering::Relaxed);
    }
}

impl Clock for Stopped {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// I/O on the runtime this is called in, at the beginning of time.
pub fn io(base: u64) -> Io {
    io_at(base, Arc::new(Stopped::default()))
}

/// I/O with a clock.
pub fn io_at(base: u64, clock: Arc<dyn Clock>) -> Io {
    let tokens = Arc::new(Counting(AtomicU64::new(base)));
    Io::new(tokio::runtime::Handle::current(), tokens).with_clock(clock)
}

pub fn schema() -> Schema {
    Schema { codec: "text".into(), key: "Key".into(), value: "Value".into() }
}

/// A config whose waits are too short to notice.
pub fn config() -> HandleConfig {
    HandleConfig {
        outage_max: Duration::from_secs(5),
        retry_delay_min: Duration::from_micros(1),
        retry_delay_max: Duration::from_micros(1),
        ..HandleConfig::default()
    }
}

pub async fn open(root: &Root, base: u64) -> Result<Handle, Error> {
    Handle::open(
        root.clone(),
        io(base),
        HandleOptions::write("data", schema()).with_config(config()),
    )
    .await
}

pub fn row(key: &str, value: &str, time: u64, diff: isize) -> Update {
    let bytes = |text: &str| Encoded::from_bytes(text.as_bytes().to_vec());
    ((bytes(key), bytes(value)), time, diff)
}

pub async fn append(
    handle: &Handle,
    lower: u64,
    upper: u64,
    rows: Vec<Update>,
) -> Result<Appended, Error> {
    let parts: Vec<Prepared> = handle.prepare(rows).await?;
    handle.compare_and_append(Append { lower, upper, parts, ..Append::default() }).await
}

/// The rows of a snapshot as text.
pub async fn contents(handle: &Handle, as_of: u64) -> Result<Vec<(String, String, isize)>, Error> {
    let text = |row: &Encoded| String::from_utf8(row.as_bytes().to_vec()).unwrap();
    let rows = handle.snapshot(as_of).await?;
    Ok(rows.iter().map(|((k, v), _, diff)| (text(k), text(v), *diff)).collect())
}

pub fn strings(rows: &[(&str, &str)]) -> Vec<(String, String, isize)> {
    rows.iter().map(|(k, v)| (k.to_string(), v.to_string(), 1)).collect()
}
