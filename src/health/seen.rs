//! Owns what is seen of the loop at one moment: the frontiers along it, and which of them stands, held by what. Plain
//! values; what holds it is [`judge`](super::judge)'s to say, and how it is drawn the face's.

use std::time::Duration;

use serde::Serialize;

#[cfg(feature = "http")]
use super::report::HealthReport;

/// A place of the loop, in the order in which rows go round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Place {
    Source,
    Input,
    /// The operator, where rows wait for their time.
    Stash,
    /// The sink, which appends what was emitted.
    Output,
    Shard,
    Feedback,
}

/// A frontier that ought to move, and what holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "http"), allow(dead_code, reason = "only a face shows it"))]
pub(crate) struct Stuck {
    /// Whose frontier stands.
    pub(crate) frontier: Place,
    /// Where what holds it is.
    pub(crate) holder: Place,
    /// Since when, where that is measured.
    pub(crate) lasts: Option<Duration>,
}

impl Stuck {
    pub(super) fn new(frontier: Place, holder: Place, lasts: Option<Duration>) -> Stuck {
        Stuck { frontier, holder, lasts }
    }
}

/// The loop at one moment.
#[cfg(feature = "http")]
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) report: HealthReport,
    pub(crate) stuck: Option<Stuck>,
    /// Times below it have been read back, by every reader of this process.
    pub(crate) feedback: u64,
    /// The least time that waits in the stash.
    pub(crate) least: Option<u64>,
    /// The times that an append under way has, and for how long it has been.
    pub(crate) append: Option<(u64, u64, Duration)>,
}
