//! Owns the shard: a durable, definite, time-varying collection of `(key, value)` bytes with one
//! `since` and one `upper`. It does not know types, dataflows or sources.
//!
//! # Loop
//!
//! ```text
//!   prepare(updates) --> parts (uploaded, or inline)          in nobody's sight yet
//!        |
//!   compare_and_append(lower, upper, parts)
//!        |   1. judge against the last settled state          Fenced / UpperMismatch: a value
//!        |   2. create log entry n+1 if absent                THE commit point
//!        |   3. read the floor; it must lie below n+1
//!        |   4. anything but a clean yes: read n+1 back, compare tokens
//!        v
//!   Won -> state n+1 -> changed() -> fetch(parts)             feedback
//! ```
//!
//! # Invariants
//!
//! 1. The state after entry n is a function of entries 1..=n alone ([`State::apply`]), so every
//!    reader has the same state: nobody compares notes.
//! 2. Each entry names the token of the one before it. An entry created a second time under the
//!    same number, after a collector took the first, therefore fits no chain.
//! 3. An entry counts once it was seen *and* a floor read later lies below it.
//! 4. Nothing is deleted on an unknown outcome: it may be referenced by the time we look again.
//!
//! # Limits
//!
//! Times are `u64`, diffs `i64`. The state names every batch since the beginning, in memory and in
//! each rollup, until batches are merged. The table of writers keeps the last
//! [`WRITERS_MAX`](state::WRITERS_MAX).

pub mod state;

pub mod entry;

pub mod part;

pub mod format;

pub mod rollup;

mod frame;

mod token;

mod config;

mod cache;

mod handle;

mod append;

mod rows;

mod verify;

mod typed;

pub use crate::store::Access;
pub use append::{Append, Appended};
pub use config::HandleConfig;
pub use format::Schema;
pub use handle::Handle;
pub use part::{PartRef, Update};
pub use rows::Prepared;
pub use state::{Batch, Feed, History, Part, State, Writer};
pub use token::Token;
pub use typed::Shard;
pub use verify::{Verified, verify};
