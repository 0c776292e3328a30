//! Owns where a run is to stop that ends where the feed is at its start: a place of each partition that has
//! anything to come. Pure; it does not own the asking.

use super::by_partition::Partition;
use super::cursor::{Boundary, Position};

/// Where a run is to stop.
pub(super) enum Targets<P> {
    /// The source is yet to be asked.
    Unknown,
    /// These must be contained.
    Known(Vec<(Partition, P)>),
}

impl<P: Position> Targets<P> {
    /// Whether everything up to the targets is below a boundary. Of those that are not, one stands first from then on: it is
    /// asked after each unit, and most often that one says no.
    pub(super) fn are_within(&mut self, boundary: &Boundary<P>) -> bool {
        let Targets::Known(targets) = self else { return false };
        // Contained, not equal: another replica may never show the very same position.
        let is_equal = |at: &P, target: &P| format!("{at:?}") == format!("{target:?}");
        let missing = targets.iter().position(|(partition, target)| {
            !boundary.get(partition).is_some_and(|at| {
                let is_there = match crate::mutant::on("stop_at_equal_text") {
                    true => is_equal(at, target),
                    false => at.contains(target) == Some(true),
                };
                !at.is_snapshot() && is_there
            })
        });
        missing.inspect(|missing| targets.swap(0, *missing)).is_none()
    }

    /// Forgets the targets in partitions that others have taken the place of: they are complete.
    pub(super) fn drop_replaced(&mut self, before: &Boundary<P>, now: &Boundary<P>) {
        if let Targets::Known(targets) = self {
            targets.retain(|(name, _)| before.get(name).is_none() || now.get(name).is_some());
        }
    }
}
