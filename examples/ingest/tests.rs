//! Goal: what `ingest` reads is exactly what DESIGN's outside face says, line by line and commit by
//! commit. Method: the example's own modules, driven without a pipeline into a sink that records.
#![allow(dead_code)]

#[path = "../../examples/ingest/args.rs"]
mod args;
#[path = "../../src/connect/canonical.rs"]
mod canonical;
#[path = "../../examples/ingest/change.rs"]
mod change;
#[path = "../../examples/ingest/cluster.rs"]
mod cluster;
#[path = "../../examples/ingest/debezium.rs"]
mod debezium;
#[path = "../../examples/ingest/emit.rs"]
mod emit;
#[path = "../../examples/ingest/follow.rs"]
mod follow;
#[path = "../../examples/ingest/git.rs"]
mod git;
#[path = "../../examples/ingest/git_command.rs"]
mod git_command;
#[path = "../../examples/ingest/input.rs"]
mod input;
#[path = "../../examples/ingest/json.rs"]
mod json;
#[path = "../../examples/ingest/jsonl.rs"]
mod jsonl;
#[path = "../../examples/ingest/lines.rs"]
mod lines;
#[path = "../../examples/ingest/live.rs"]
mod live;
#[path = "../../src/login.rs"]
mod login;
#[path = "../../examples/ingest/look.rs"]
mod look;
#[path = "../../examples/ingest/minted.rs"]
mod minted;
#[path = "../../examples/ingest/object.rs"]
mod object;
#[cfg(feature = "planetscale")]
#[path = "../../examples/ingest/planetscale.rs"]
mod planetscale;
#[path = "../../examples/ingest/position.rs"]
mod position;
#[path = "../../examples/ingest/reader.rs"]
mod reader;
#[path = "../../examples/ingest/resnapshot.rs"]
mod resnapshot;
#[path = "../../examples/ingest/salvage.rs"]
mod salvage;
#[path = "../../examples/ingest/stop.rs"]
mod stop;
#[path = "../../examples/ingest/strange.rs"]
mod strange;
#[path = "../../examples/ingest/summary.rs"]
mod summary;
#[path = "../../examples/ingest/throttle.rs"]
mod throttle;
#[path = "../../examples/ingest/times.rs"]
mod times;
#[path = "../../examples/ingest/unavailable.rs"]
mod unavailable;
#[path = "../../examples/ingest/unions.rs"]
mod unions;

mod recorder;

mod canonical_text;

mod one_line;

mod bad_feeds;

mod closing;

mod following;

mod git_history;

mod command_line;

mod looking;

mod minting;

mod envelopes;

mod rewriting;
