//! Goal: each of the behaviours B1 to B41.
mod acks;
mod boundaries;
mod cancel;
mod durability;
mod ends;
mod feed;
mod oracle;
mod place;
mod random;
mod retries;
mod rig;
mod runs;
mod script;
mod snapshots;
mod world;
