//! Owns what a pipeline is configured with: bounds and choices, plain values. It does not own what they
//! do.

use std::time::Duration;

use crate::reclock::SourceConfig;
use crate::role::Promotion;
use crate::shard::{Feed, History};

/// Bounds of a pipeline, plain values.
#[derive(Clone, Debug)]
pub struct PipelineConfig {
    /// How long another process's commit may go unseen; commits of this process are seen at once.
    /// Default: 20 ms.
    pub poll: Duration,
    /// Changes how far the shard's since lags its upper. Default: leave it as the shard has it,
    /// which is 1 for a new shard.
    pub history: Option<History>,
    /// Makes it a standby, which writes nothing until promoted. Default: a writer.
    pub standby: Option<Promotion>,
    /// What feeds the shard: kept by its first commit. A feed whose times are made in another way
    /// is refused. Default: given times, from nowhere in particular.
    pub feed: Feed,
    /// Whether to check that the commands are those that the shard was made from: see
    /// [`definite`](crate::definite). Once a writer has gone without, no writer of this shard can
    /// be checked any more. Default: true.
    pub checked: bool,
    /// How a source with cursors is run: see [`Pipeline::from_source`](crate::Pipeline::from_source).
    pub source: SourceConfig,
    /// Bytes of stashed commands in memory, per worker; past it the stash spills to an unnamed
    /// temporary file. Default: 256 MiB.
    pub stash_bytes_max: usize,
    /// Bytes of commands read from a source ahead of the time that waits for its commit; past it
    /// the source is held back. Default: 8 MiB.
    pub ahead_bytes_max: usize,
    /// Bytes emitted and not yet durable, per worker; past it the operator waits. Default: 64 MiB.
    pub inflight_bytes_max: usize,
    /// Bytes of updates of one time that are written early, as a part. Default: 8 MiB.
    pub part_bytes_max: usize,
    /// How long the pipeline may not move while it ought to, before its health is `stalled`.
    /// Default: 60 s.
    pub stall_after: Duration,
}

impl Default for PipelineConfig {
    fn default() -> Self {
        PipelineConfig {
            poll: Duration::from_millis(20),
            history: None,
            standby: None,
            feed: Feed { mode: "given".into(), identity: "a dataflow".into() },
            checked: true,
            source: SourceConfig::default(),
            stash_bytes_max: 256 << 20,
            ahead_bytes_max: 8 << 20,
            inflight_bytes_max: 64 << 20,
            part_bytes_max: 8 << 20,
            stall_after: Duration::from_secs(60),
        }
    }
}
