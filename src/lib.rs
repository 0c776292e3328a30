//! Upsert for timely and differential dataflow (under construction).

#![forbid(unsafe_code)]
#![forbid(missing_docs)]
#![cfg_attr(
    not(test),
    warn(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_types)
)]

/// One instruction of a keyed change feed.
pub mod command;

/// Feeds: what hands over rows, closed times and an end.
pub mod source;

/// The end of a bounded input waits for its commit.
mod hold;

/// THE operator: commands and feedback in, a collection out.
pub mod upsert;

/// From a collection to commits.
mod sink;

/// The shard: a durable, definite, time-varying collection with many writers.
pub mod shard;

/// What a shard stands on: blobs and create-if-absent entries in a directory, memory or a cloud.
pub mod store;

/// From commits back to a collection.
mod feedback;

/// The loop, wired.
pub mod pipeline;

/// What a pipeline says of itself.
pub mod health;

/// Typed keys and values, and their bytes.
pub mod codec;

/// Rows as bytes that share buffers.
pub mod packed;

/// Where I/O runs.
pub mod io;

/// How a pipeline is told to stop.
mod token;

/// What went wrong.
pub mod error;

pub use codec::DataError;
pub use command::Command;
pub use error::{Error, ErrorKind};
pub use packed::{Encoded, Packed, Packer};
pub use pipeline::{Pipeline, PipelineConfig, UpsertInto};
pub use shard::Shard;
pub use sink::Totals;
pub use token::Token;
pub use upsert::{Upsert, UpsertConfig, Upserted};

pub use differential_dataflow;
pub use timely;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeDoctests;
