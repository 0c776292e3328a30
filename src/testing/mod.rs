//! Owns what a store of your own must pass: the contract of [`Blob`](crate::store::Blob) and
//! [`Consensus`](crate::store::Consensus) ([`store`]), and that of a shard upon them ([`shard`]). It brings no
//! store, runs nothing by itself, and is part of the crate with the feature `testing` alone.
//!
//! Call `all` of both from a test of yours; each panics at the first thing that is not as it must be. Then run
//! them again on the root seen through [`Root::with_faults`](crate::store::Root::with_faults).
//!
//! ```
//! use differential_upsert::io::Io;
//! use differential_upsert::store::{Access, Root};
//! use differential_upsert::testing;
//!
//! let io = Io::process()?;
//! // A new, empty root at each call; yours by `Root::from_parts`.
//! let make = || Root::open("mem:", Access::Write).unwrap();
//! io.block_on(async {
//!     testing::store::all(make, &io).await;
//!     testing::shard::all(make, &io).await;
//! });
//! # Ok::<(), differential_upsert::Error>(())
//! ```
#![allow(clippy::unwrap_used, reason = "a suite panics where a test would")]

pub mod store;

pub mod shard;
