//! Owns how many bytes of parts are on their way at a time: from the moment they are asked for to the
//! moment their rows are taken. It does not read them.
//!
//! A reader that reads ahead enters with the size of each part, one after the other in the order in which it
//! takes them, and leaves when the rows are gone. No part counts for more than half, so that one which
//! waits always finds room once what lies before it has been taken; a part larger than that is in there
//! with one other at the most.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::memory::{Counted, Gauge};

/// A bound in bytes; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    room: Arc<Semaphore>,
    half: u32,
    gauge: Gauge,
}

/// The place of a part in a window, until it is dropped.
#[derive(Debug)]
pub(crate) struct Room {
    _permit: Option<OwnedSemaphorePermit>,
    _counted: Counted,
    bytes: u64,
}

impl Window {
    /// Makes a window of so many bytes; of two, if that is less. The gauge counts the parts in it.
    pub(super) fn new(bytes_max: usize, gauge: Gauge) -> Window {
        let half = u32::try_from(bytes_max / 2).unwrap_or(u32::MAX / 2).max(1);
        Window { room: Arc::new(Semaphore::new(half as usize * 2)), half, gauge }
    }

    /// Returns the half of it: what may be gathered before it is handed on.
    pub(crate) fn half(&self) -> u64 {
        u64::from(self.half)
    }

    /// Waits until there is room for a part of so many bytes. First come, first served.
    pub(crate) fn enter(&self, bytes: u64) -> impl Future<Output = Room> + Send + use<> {
        let (room, half, gauge) = (Arc::clone(&self.room), self.half, self.gauge.clone());
        async move {
            let wanted = u32::try_from(bytes).unwrap_or(u32::MAX).min(half);
            // Nobody closes it.
            let permit = room.acquire_many_owned(wanted).await.ok();
            Room { _permit: permit, _counted: gauge.count(bytes), bytes }
        }
    }
}

impl Room {
    /// Returns the size of the part.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}
