//! Owns how many bytes of parts are in memory, and for what: gauges that any thread reads. It bounds nothing; each
//! bound is where the bytes are.

use std::sync::Arc;

use crate::counter::Counter;

/// Bytes of parts that a handle has in memory; clones share it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryStats {
    /// At hand for its followers, at most [`cache_bytes_max`](super::HandleConfig::cache_bytes_max), and at most as many
    /// again of the rows of parts that it has written, with these parts.
    pub cache_bytes: u64,
    /// Asked for by its readers and not yet handed on, or held by a snapshot that is read as a stream: for each at most
    /// [`read_bytes_max`](super::HandleConfig::read_bytes_max), or two parts.
    pub read_bytes: u64,
    /// Of a merge: what it reads, at most [`compact_bytes_max`](super::HandleConfig::compact_bytes_max) or two parts,
    /// and two parts that it writes.
    pub merge_bytes: u64,
}

/// Bytes that are in memory for one purpose; clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Gauge(Arc<Counter>);

impl Gauge {
    /// Returns how many bytes there are.
    pub(super) fn get(&self) -> u64 {
        self.0.get()
    }

    /// Counts bytes until what is returned is dropped.
    pub(super) fn count(&self, bytes: u64) -> Counted {
        self.0.add(bytes);
        Counted { gauge: self.clone(), bytes }
    }
}

/// Bytes that a gauge counts.
#[derive(Debug)]
pub(super) struct Counted {
    gauge: Gauge,
    bytes: u64,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.gauge.0.take(self.bytes);
    }
}
