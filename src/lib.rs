//! Upsert for timely and differential dataflow (under construction).
pub mod command;
pub mod error;
pub mod io;
pub mod packed;
pub mod source;

/// The shard: a durable, definite, time-varying collection with many writers.
pub mod shard;

/// What a shard stands on: blobs and create-if-absent entries in a directory, memory or a cloud.
pub mod store;

pub use command::Command;
pub use error::{Error, ErrorKind};
pub use packed::{Encoded, Packed, Packer};
