//! Owns what the operator writes to timely's own logger. It does not own what the events say to a reader;
//! that is [`logging`](crate::logging).

use timely::dataflow::Scope;
use timely::order::TotalOrder;
use timely::progress::Timestamp;

use super::classify::{Frontiers, Placement};
use super::piece::Drained;
use crate::logging::{DrainEvent, PlacedEvent, UpsertLogger, logger};

/// A logger, and the operator that its events are of.
pub(super) struct Events {
    logger: UpsertLogger,
    operator: usize,
}

impl Events {
    /// Returns `None` where the worker has no logger for them.
    pub(super) fn of<T: Timestamp>(scope: Scope<'_, T>, operator: usize) -> Option<Events> {
        logger(scope.worker()).map(|logger| Events { logger, operator })
    }

    /// Counts the commands of a message by where their times stand.
    pub(super) fn placed<'a, T: Timestamp + TotalOrder>(
        &self,
        times: impl Iterator<Item = &'a T>,
        at: &Frontiers<'_, T>,
    ) {
        let mut placed = PlacedEvent { operator: self.operator, ..PlacedEvent::default() };
        for time in times {
            match at.place(time, false) {
                Placement::Below => placed.below += 1,
                Placement::Equal => placed.equal += 1,
                Placement::Above => placed.above += 1,
            }
        }
        self.logger.log(placed);
    }

    /// Says what a piece of a drain has done.
    pub(super) fn drained(&self, drained: &Drained) {
        let Drained { emitted, superseded, unchanged, done, .. } = *drained;
        let operator = self.operator;
        self.logger.log(DrainEvent { operator, emitted, superseded, unchanged, done });
    }
}
