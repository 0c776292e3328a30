//! Goal: each of the behaviours B1 to B41.
mod boundaries;
mod cancel;
mod ends;
mod random;
mod retries;
mod rig;
mod script;
