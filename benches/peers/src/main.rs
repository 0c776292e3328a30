//! Compares differential-upsert with what one would use instead, on one input, in one run: a `HashMap`, the
//! same with a log, differential's `arrange_from_upsert`, RocksDB and fjall.
//!
//! ```text
//! cargo run --release -- run                         every table, into ../RESULTS.md and ../results.json
//! cargo run --release --features rocksdb -- run      RocksDB too; ROCKSDB_LIB_DIR names one that is built
//! cargo run --release -- check                       CPU ratios against those in ratios.json
//! cargo run --release -- larger                      state larger than its memory
//! cargo run --release -- takeover                    a promoted standby, and a writer that is started
//! cargo run --release -- warm                        a start on an image of the state
//! cargo run --release -- run --only w1,curve --rounds 1 --upserts 200000
//! ```
//!
//! A contestant is a process of its own, so that its peak memory and its CPU are its own; rounds are
//! interleaved. What each one computed is compared with a loop over a map, by a hash that depends neither on
//! order nor on consolidation. Compare the ratios, not the absolute figures.

mod check;

mod child;

mod clock;

mod contestant;

mod grown;

mod idle;

mod ingest;

mod larger;

mod latency;

mod limit;

mod load;

mod measure;

mod race;

mod reads;

mod reload;

mod report;

mod running;

mod suite;

mod single;

mod sums;

mod tables;

mod takeover;

mod warm;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the comparison, prints its tables, and writes them down.
    Run(suite::Args),
    /// Runs a small comparison, and fails if ours takes more CPU against its peers than is recorded.
    Check(check::Args),
    /// Compares what is done with state that is larger than its memory; with RocksDB, where it is built with it.
    Larger(larger::Args),
    /// Measures how long a promoted standby and a writer that is started take until their first append.
    Takeover(takeover::Args),
    /// Measures a start on an image of the state, after a clean stop and after a kill, beside one on the shard alone.
    Warm(warm::Args),
    /// Runs one contestant once, and prints its figures: what `run` starts.
    #[command(hide = true)]
    Child(child::Args),
    #[command(hide = true)]
    Party(takeover::PartyArgs),
    #[command(hide = true)]
    Kept(warm::KeptArgs),
    #[command(hide = true)]
    Rest(idle::RestArgs),
    #[command(hide = true)]
    Grown(grown::Args),
    #[command(hide = true)]
    Reads(reads::Args),
    #[command(hide = true)]
    Reload(reload::Args),
    #[command(hide = true)]
    Latency(latency::Args),
    #[command(hide = true)]
    Ingest(ingest::Args),
}

fn main() -> ExitCode {
    match Args::parse().command {
        Command::Run(args) => suite::run(&args),
        Command::Check(args) => return check::run(&args),
        Command::Larger(args) => larger::run(&args),
        Command::Rest(args) => idle::run(&args),
        Command::Grown(args) => grown::run(&args),
        Command::Reads(args) => reads::run(&args),
        Command::Takeover(args) => takeover::run(&args),
        Command::Party(args) => takeover::party(&args),
        Command::Warm(args) => warm::run(&args),
        Command::Kept(args) => warm::kept(&args),
        Command::Child(args) => child::run(&args),
        Command::Reload(args) => reload::run(&args),
        Command::Latency(args) => latency::run(&args),
        Command::Ingest(args) => ingest::run(&args),
    }
    ExitCode::SUCCESS
}
