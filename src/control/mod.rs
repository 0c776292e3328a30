//! Owns how a running pipeline is told what to do: to stop ([`lifecycle`]), to begin writing
//! ([`promotion`]), and under which epoch ([`epoch`]); and how a task reaches an operator ([`waking`]). It does not own what that means to a part; each
//! operator asks.

pub(crate) mod epoch;
pub(crate) mod lifecycle;
pub(crate) mod promotion;
pub(crate) mod waking;
