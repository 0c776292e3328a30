//! Owns the counters and gauges of a pipeline as Prometheus text. It does not own the counting, nor
//! who asks.

use crate::health::Health;
use crate::pipeline::Watch;

/// A pipeline's counters and gauges, from any thread; cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics {
    health: Health,
    watch: Watch,
}

impl Metrics {
    pub(crate) fn new(health: Health, watch: Watch) -> Metrics {
        Metrics { health, watch }
    }
}
