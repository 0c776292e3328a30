//! Goal: no order of events breaks a promise. Method: whole pipelines whose every step, fault and crash
//! comes from a seed, a model of whole pipelines on real threads, and an exhaustive search of the log's
//! protocol; each against an oracle that shares no code with the crate.

mod crew;
mod feed;
mod floor_model;
#[path = "../common/network.rs"]
mod network;
mod pipeline_model;
#[path = "../common/random.rs"]
mod random;
mod replicas;
mod sources;
