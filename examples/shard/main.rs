//! `shard`: looks inside a shard. This file owns the exit code; it does not own any command.
//!
//! ```text
//! cargo run --release --example shard -- snapshot file:/tmp/history
//! ```

mod args;
mod changes;
mod clear;
mod diff;
mod export;
mod log;
mod look;
mod open;
#[path = "../ingest/pace.rs"]
mod pace;
mod people;
mod progress;
mod snapshot;
mod sorted;
mod status;
#[path = "../ingest/stop.rs"]
mod stop;
mod tail;
mod text;

use std::error::Error as _;
use std::io::{BufWriter, ErrorKind};
use std::process::ExitCode;

use differential_upsert::Error;
use differential_upsert::io::Io;

use crate::args::Args;

fn main() -> ExitCode {
    let args = Args::of(std::env::args_os()).unwrap_or_else(|e| e.exit());
    let mut out = BufWriter::new(std::io::stdout());
    let result = Io::process().and_then(|io| io.block_on(look::run(&args.command, &io, &mut out)));
    // What is still in the buffer belongs to a command that failed: its output does not count.
    let (_, _) = out.into_parts();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // The reader of our output has seen enough.
        Err(e) if is_broken_pipe(&e) => ExitCode::SUCCESS,
        Err(e) => {
            // Every error says where and what to do, if only roughly.
            let e = e.at(args.command.url()).hint("check the shard with `shard verify`");
            let spaced = |char: char| if char.is_control() { ' ' } else { char };
            eprintln!("error: {}", e.to_string().chars().map(spaced).collect::<String>());
            ExitCode::from(1)
        }
    }
}

fn is_broken_pipe(error: &Error) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<std::io::Error>());
    error.what().starts_with("cannot write the output")
        && cause.is_some_and(|cause| cause.kind() == ErrorKind::BrokenPipe)
}
