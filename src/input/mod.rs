//! Owns the way into the dataflow: what reads a feed hands over rows with times, and commands come out as
//! bytes. It does not own sources, nor the making of times.
//!
//! ```text
//!   a TimedSource --rows@t, closed times--> UpsertSource ----------.
//!   a stream of your own --> UpsertValues --> UpsertHold ----------+--> UpsertEncode --> definite
//! ```

pub mod blocking;
pub(crate) mod encode;
pub(crate) mod end;
pub(crate) mod operator;
mod throttle;
mod timed;
pub(crate) mod values;

pub(crate) use timed::stopped;
pub use timed::{Outlet, TimedSource};
