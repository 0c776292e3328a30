//! Owns the check of a change: a small run, and ratios of CPU between contestants in it, each of which must not
//! fall below 0.8 of what is recorded. It does not own the contestants.
//!
//! A ratio is the CPU that a peer takes for a row, over the CPU that ours takes for the same row in the
//! same round: 2 means that ours takes half. The peers do the same work on every machine, so a ratio moves
//! with our code, and little with the machine or what else runs there. The median over the rounds counts.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use serde::{Deserialize, Serialize};

use crate::contestant::Contestant;
use crate::report::{Case, median};
use crate::suite;

/// A ratio below this part of its record fails.
const LEAST: f64 = 0.8;

/// A change that is no slower may be unlucky; one that is slower is so every time.
const TRIES: usize = 3;

#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// The file of records.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/ratios.json"))]
    ratios: PathBuf,
    /// Writes down what this machine has now, and compares nothing.
    #[arg(long)]
    record: bool,
}

/// What is recorded.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Records {
    meaning: String,
    ratios: Vec<Ratio>,
}

/// One ratio.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Ratio {
    /// Rows per time.
    rows_per_time: u64,
    peer: Contestant,
    ours: Contestant,
    recorded: f64,
}

/// Runs the check, and says whether it holds.
pub fn run(args: &Args) -> ExitCode {
    let text = fs::read_to_string(&args.ratios).expect("the file of records");
    let mut records: Records = serde_json::from_str(&text).expect("records as they were written");
    for _ in 0..TRIES {
        let cases = suite::small();
        let mut holds = true;
        for ratio in &mut records.ratios {
            let now = ratio.of(&cases);
            let (ours, peer) = (ratio.ours.name(), ratio.peer.name());
            let part = now / ratio.recorded;
            println!(
                "CPU of {peer} over that of {ours}, {} rows per time: {now:.2}, {part:.2} of the record {:.2}",
                ratio.rows_per_time, ratio.recorded
            );
            holds &= part >= LEAST;
            if args.record {
                ratio.recorded = (now * 100.0).round() / 100.0;
            }
        }
        if args.record {
            let json = serde_json::to_string_pretty(&records).expect("records are JSON");
            fs::write(&args.ratios, json + "\n").expect("the file of records");
            return ExitCode::SUCCESS;
        }
        if holds {
            return ExitCode::SUCCESS;
        }
    }
    println!("slower than recorded, {TRIES} times; `peers check --record` if that is meant");
    ExitCode::FAILURE
}

impl Ratio {
    fn of(&self, cases: &[Case]) -> f64 {
        let case = cases.iter().find(|case| case.rows_per_time == self.rows_per_time);
        let case = case.expect("a case with so many rows per time");
        let rounds = |contestant| &case.of(contestant).expect("it takes part").rounds;
        let pairs = rounds(self.peer).iter().zip(rounds(self.ours));
        let cpu = |f: &crate::clock::Figures| f.cpu_seconds / f.rows as f64;
        median(pairs.map(|(peer, ours)| cpu(peer) / cpu(ours)).collect())
    }
}
