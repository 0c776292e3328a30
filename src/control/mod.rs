//! Owns how a running pipeline is told what to do: to stop ([`lifecycle`]), to begin writing
//! ([`promotion`]), and under which epoch ([`epoch`]). It does not own what that means to a part; each
//! operator asks.

pub(crate) mod epoch;
pub(crate) mod lifecycle;
pub(crate) mod promotion;
