//! Goal: the operator alone does what `upsert` promises. Method: one operator whose inputs, feedback and
//! steps a test holds in its hands; no shard, no store. One behaviour a file.

mod frontier;
mod model;
mod rig;
mod scenarios;
mod spill;
mod work_bound;
