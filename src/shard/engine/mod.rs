//! Owns what a shard is, as values and pure functions: its state, the entries that change it, the bytes
//! of both, and what may be merged, freed and ended. No I/O, no clock, no task; nothing of
//! [`shard`](super) outside this room.

pub mod id;

pub mod sum;

pub(crate) mod frame;

pub mod format;

pub mod incarnation;

pub mod part;

pub mod lease;

pub mod entry;

pub mod state;

mod bounds;

pub(crate) mod arrange;

pub(crate) mod stored;

pub mod append;

mod transition;

pub mod rollup;

pub(crate) mod expiry;

pub(crate) mod space;
