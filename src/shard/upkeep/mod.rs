//! Owns what keeps a shard small and sound: compaction, collection, when a writer does both by itself,
//! and the check of a whole root. It appends no rows and holds nothing for anybody.

mod merge;

mod compact;

mod collect;

mod maintain;

mod verify;

pub(crate) use maintain::Upkeep;
pub(crate) use verify::remap_behind;
pub use verify::{Verified, verify};
