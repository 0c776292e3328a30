//! Goal: whole pipelines do what they promise their program and their source. Method: pipelines on the
//! threads of a test, on a shard in memory, fed by hand or by scripted sources. One behaviour a file.

mod behaviours;
mod collections;
mod continuation;
mod dealing;
mod evolving;
mod health;
mod larger_than_memory;
mod messages;
mod patches;
#[path = "../common/random.rs"]
mod random;
mod source_bindings;
mod source_pipeline;
mod tight_bounds;
mod warm_start;

use std::time::Duration;

use differential_upsert::shard::HandleConfig;

/// A config of a shard whose waits are too short to notice.
fn short_waits() -> HandleConfig {
    HandleConfig {
        outage_max: Duration::from_secs(5),
        retry_delay_min: Duration::from_micros(1),
        retry_delay_max: Duration::from_micros(1),
        ..HandleConfig::default()
    }
}
