//! Owns what a reading of a topic is told: which topic, and what happens at a bad message. It does not own
//! reading.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::address::Address;
use super::position::KafkaPosition;
use crate::connect::debezium::OnUnavailable;
use crate::connect::on_error::OnError;
use crate::source::{Cursor, SourceStats};

/// How often a topic is looked at while it is read: for partitions that were added, and for how far its
/// logs go.
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// What to read, and how.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) address: Address,
    pub(super) on_error: OnError,
    pub(super) on_unavailable: OnUnavailable,
    pub(super) stats: SourceStats,
    pub(super) look_every: Duration,
    /// Where another writer has ended the copy that is made anew.
    pub(super) bound: Option<Cursor<KafkaPosition>>,
    /// A broker has answered, in this process.
    reached: Arc<AtomicBool>,
}

impl Asked {
    pub(super) fn new(address: Address) -> Asked {
        Asked {
            address,
            on_error: OnError::default(),
            on_unavailable: OnUnavailable::default(),
            stats: SourceStats::default(),
            look_every: LOOK_EVERY,
            bound: None,
            reached: Arc::default(),
        }
    }

    /// Returns the group that places are committed to, if the address names one.
    pub(super) fn group(&self) -> Option<&str> {
        self.address.setting("group.id")
    }

    pub(super) fn is_reached(&self) -> bool {
        self.reached.load(Ordering::Relaxed)
    }

    pub(super) fn reached(&self) {
        self.reached.store(true, Ordering::Relaxed);
    }
}
