//! Owns time and names in a run: counted tokens, a runtime that moves only when polled, and clocks that
//! may jump. It does not own when they do.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use differential_upsert::io::{Clock, Io, Tokens};
use tokio::runtime::Runtime;

/// When a run begins.
const DAWN: u64 = 1_000_000;

/// The time of the world, in milliseconds.
#[derive(Clone, Debug, Default)]
pub struct Time(Arc<AtomicU64>);

impl Time {
    pub fn pass(&self, millis: u64) {
        self.0.fetch_add(millis, Ordering::Relaxed);
    }
}

/// The clock and the tokens of one start of a replica.
#[derive(Debug)]
pub struct Own {
    time: Time,
    /// How far the clock is off.
    pub off: AtomicI64,
    tokens: AtomicU64,
}

impl Own {
    pub fn new(time: &Time, off: i64, tokens: u64) -> Arc<Own> {
        let (off, tokens) = (AtomicI64::new(off), AtomicU64::new(tokens));
        Arc::new(Own { time: time.clone(), off, tokens })
    }

    pub fn io(self: &Arc<Self>, runtime: &Runtime) -> Io {
        Io::new(runtime.handle().clone(), self.clone()).with_clock(self.clone())
    }
}

impl Tokens for Own {
    fn token(&self) -> u128 {
        u128::from(self.tokens.fetch_add(1, Ordering::Relaxed))
    }
}

impl Clock for Own {
    fn now_ms(&self) -> u64 {
        let now = DAWN + self.time.0.load(Ordering::Relaxed);
        now.saturating_add_signed(self.off.load(Ordering::Relaxed))
    }
}

/// A runtime that does nothing on its own: it runs only while it is polled, one task at a time, and
/// its clock stands still until it is moved.
pub fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true).event_interval(1).build().unwrap()
}
