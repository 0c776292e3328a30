//! Owns the connectors: one folder per kind of feed, each an implementation of
//! [`Source`](crate::source::Source). It does not own retries, units or cursors' way into a shard; those are
//! every source's.

#[cfg(any(feature = "kafka", feature = "planetscale", feature = "postgres-source"))]
mod address;
#[cfg(feature = "json")]
mod debezium;
#[cfg(feature = "kafka")]
pub mod kafka;
#[cfg(feature = "json")]
pub mod lines;
#[cfg(feature = "json")]
mod on_error;
#[cfg(feature = "planetscale")]
pub mod planetscale;
#[cfg(feature = "postgres-source")]
pub mod postgres;

#[cfg(feature = "json")]
pub use on_error::OnError;
