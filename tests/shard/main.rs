//! Goal: a shard and its store keep their contracts, whatever is torn, raced, damaged or collected. Method:
//! handles, states and stores driven by hand, with no dataflow; time stands still. One behaviour a file.

mod append_outcomes;
mod clock_skew;
mod common;
mod contract_shard;
mod contract_store;
mod crash_points;
mod flip;
mod format;
mod formats;
mod larger_than_memory;
mod lease_races;
mod maintenance;
#[path = "../common/network.rs"]
mod network;
mod overtaken_reader;
mod own_rows;
#[path = "../common/random.rs"]
mod random;
mod reader_by_the_book;
mod repair;
mod state;
mod writers;
