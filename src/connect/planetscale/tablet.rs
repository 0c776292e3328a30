//! Owns the tablets that a table can be read from, and their numbers in each protocol. It does not own the
//! choice.

/// The tablets that a table is read from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Tablet {
    /// Always there, and never behind.
    #[default]
    Primary,
    /// Spares the primary. While all of them are behind the position, it counts as lost.
    Replica,
    /// For work that takes long; not every cluster has them.
    Batch,
}

impl Tablet {
    /// Its number in `topodata.TabletType`.
    pub(super) fn topodata(self) -> i32 {
        match self {
            Tablet::Primary => 1,
            Tablet::Replica => 2,
            Tablet::Batch => 3,
        }
    }

    /// Its number in `psdbconnect.v1alpha1.TabletType`.
    pub(super) fn psdbconnect(self) -> i32 {
        match self {
            Tablet::Primary => 1,
            Tablet::Replica => 0,
            Tablet::Batch => 2,
        }
    }
}
