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
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "http"), allow(dead_code, reason = "only a face shows it"))]
pub(crate) struct Stuck {
    /// Whose frontier stands.
    pub(crate) frontier: Place,
    pub(crate) holder: Holder,
    /// Since when, where that is measured.
    pub(crate) lasts: Option<Duration>,
}

/// What holds a frontier.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "http"), allow(dead_code, reason = "only a face shows it"))]
pub(crate) struct Holder {
    /// Where in the loop it is.
    pub(crate) place: Place,
    /// Whose loop that is, where it is not this process's: `process 1`, `a writer`.
    pub(crate) of: Option<String>,
}

impl Holder {
    pub(super) fn of(place: Place, of: impl Into<String>) -> Holder {
        match crate::mutant::on("elsewhere_is_here") {
            true => place.into(),
            false => Holder { place, of: Some(of.into()) },
        }
    }
}

impl From<Place> for Holder {
    fn from(place: Place) -> Holder {
        Holder { place, of: None }
    }
}

impl Stuck {
    pub(super) fn new(
        frontier: Place,
        holder: impl Into<Holder>,
        lasts: Option<Duration>,
    ) -> Stuck {
        Stuck { frontier, holder: holder.into(), lasts }
    }
}

/// The loop at one moment.
#[cfg(feature = "http")]
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) report: HealthReport,
    /// It waits for its store, for less time than makes a stall.
    pub(crate) waits: bool,
    /// Which process of its cluster it is, and of how many.
    pub(crate) process: Option<(usize, usize)>,
    pub(crate) stuck: Option<Stuck>,
    /// Times below it have been read back, by every reader of this process.
    pub(crate) feedback: u64,
    /// The least time that waits in the stash.
    pub(crate) least: Option<u64>,
    /// The times that an append under way has, and for how long it has been.
    pub(crate) append: Option<(u64, u64, Duration)>,
}
