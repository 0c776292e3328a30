//! Owns whose turn it is on worker 0: one interval at a time is named, or in flight. It does not own what is
//! done with a turn.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use tokio_util::sync::CancellationToken;

/// Whose turn it is on worker 0: mint's, or an append's in flight.
#[derive(Clone, Default)]
pub(super) struct Turn(pub(super) Rc<TurnCells>);

#[derive(Default)]
pub(super) struct TurnCells {
    pub(super) in_flight: Cell<bool>,
    pub(super) failed: Cell<bool>,
    /// Cancelled when a worker is stopping.
    pub(super) stopping: CancellationToken,
    pub(super) mint: RefCell<Option<timely::scheduling::Activator>>,
}

impl Turn {
    /// Starts an append.
    pub(super) fn take(&self) {
        self.0.in_flight.set(true);
    }

    /// Says that the append is settled, and wakes mint.
    pub(super) fn give_back(&self) {
        self.0.in_flight.set(false);
        self.wake_mint();
    }

    /// Says that the interval is given up, and that there is to be no other: a worker's rows are
    /// missing. Mint holds, until it is told to stop.
    pub(super) fn fail(&self) {
        self.0.failed.set(true);
        self.give_back();
    }

    /// Says that a worker is stopping, and wakes mint.
    pub(super) fn stop(&self) {
        self.0.stopping.cancel();
        self.wake_mint();
    }

    pub(super) fn is_in_flight(&self) -> bool {
        self.0.in_flight.get()
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.0.stopping.is_cancelled()
    }

    pub(super) fn wake_mint(&self) {
        if let Some(mint) = &*self.0.mint.borrow() {
            mint.activate();
        }
    }
}
