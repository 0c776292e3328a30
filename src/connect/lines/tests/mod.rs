//! Goal: lines are read exactly as the module says, one by one and together. Method: the parts, driven
//! without a pipeline into what records.

mod recorder;

mod one_line;

mod bad_feeds;

mod closing;

mod following;

mod formats;

mod in_parts;

mod packing;

mod quarantining;

mod last_lines;
mod looking;

mod minting;

mod envelopes;

mod rewriting;

mod rotations;

mod whole;
