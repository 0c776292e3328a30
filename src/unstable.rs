//! Owns a door for this crate's own tests and benches: pieces that no program needs, so that each can be
//! looked at by itself. **Nothing in here is stable**: it may change or go in any version, without a word.

pub use crate::definite::digest::Digest;
pub use crate::source::staged::{Order, Reading, Staged};
pub use crate::upsert::rows::Rows;
pub use crate::upsert::rows::bytes::ByteRows;
pub use crate::upsert::rows::stack::StackRows;

/// The loop that drives a source: it connects, tries again and stops.
pub mod attempt {
    pub use crate::source::attempt::{Attempts, Ended, Reason};
}

/// What keeps the changes of a unit back until it is complete.
pub mod stage {
    pub use crate::source::stage::Unit;
}

/// What a shard is, as values and bytes.
pub mod engine {
    /// The entries of its log.
    pub mod entry {
        pub use crate::shard::engine::entry::*;
    }

    /// What entries add up to.
    pub mod state {
        pub use crate::shard::engine::state::*;
    }

    /// The rows of a part.
    pub mod part {
        pub use crate::shard::engine::part::*;
    }

    /// What a root is, once and for all.
    pub mod incarnation {
        pub use crate::shard::engine::incarnation::*;
    }

    /// The state after an entry, as bytes.
    pub mod rollup {
        pub use crate::shard::engine::rollup::*;
    }
}
