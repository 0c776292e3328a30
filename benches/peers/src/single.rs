//! Owns the parts of the comparison beside the closed loop over records: restarts, latencies, files of
//! lines. It does not own what one process does in them.

use std::fs;

use clap::ValueEnum;

use crate::child;
use crate::contestant::Contestant;
use crate::ingest::{self, How};
use crate::latency::Latency;
use crate::load::{self, Draw, Shape};
use crate::reload::{Reload, Reloaded, write_snapshot};
use crate::report::{Feed, Load, Restart};
use crate::suite::Args;
use crate::sums::expected;

/// Parts of the most that a contestant can do at which its latency is measured.
const PARTS: [f64; 5] = [0.1, 0.25, 0.5, 0.75, 0.9];

/// What would take longer than this with a longer file is left out.
const SECONDS_MAX: f64 = 60.0;

/// How long the open loop runs at one rate.
const OPEN_SECONDS: f64 = 3.0;

impl Args {
    /// Returns for how many keys restarts are measured.
    pub fn restart_keys(&self) -> Vec<u64> {
        let more = self.restart_large.then_some(self.keys * 10);
        [self.keys].into_iter().chain(more).collect()
    }

    /// Makes a log, a file of live rows and a shard of `keys` keys, and restarts from each.
    pub fn restart(&self, keys: u64) -> Restart {
        let shape = Shape { keys, upserts: keys * 2, rows_per_time: 10_000, draw: Draw::Uniform };
        let directory = tempfile::tempdir_in(self.scratch()).expect("a scratch directory");
        let directory = directory.path();
        for contestant in [Contestant::HashmapLog, Contestant::Strict] {
            let kept = directory.join(contestant.name());
            fs::create_dir(&kept).expect("a directory to write to");
            let args = self.child(contestant, shape.clone(), 600.0, 1);
            child::spawn_in(&args, &kept);
        }
        let records = load::records(&shape);
        write_snapshot(directory, load::latest(&records).into_values());
        let times = shape.upserts.div_ceil(shape.rows_per_time);
        let contents = expected(&records, shape.rows_per_time, &[times])[0].contents;
        drop(records);
        let mut results: Vec<(Reload, Vec<Reloaded>)> =
            Reload::value_variants().iter().map(|reload| (*reload, Vec::new())).collect();
        for round in 0..self.rounds {
            for (reload, reloads) in &mut results {
                let kept = match reload {
                    Reload::HashmapLog => directory.join(Contestant::HashmapLog.name()),
                    Reload::Shard => directory.join(Contestant::Strict.name()),
                    Reload::HashmapSnapshot | Reload::Arrange => directory.to_path_buf(),
                };
                let arguments = ["reload".into(), format!("--reload={}", name(reload))];
                let (reloaded, _): (Reloaded, u64) = child::start(&arguments, &kept);
                let name = name(reload);
                eprintln!("restart {keys} round {round} {name}: {:.3} s", reloaded.seconds);
                assert_eq!(reloaded.contents, contents, "{name} has other contents");
                reloads.push(reloaded);
            }
        }
        Restart { keys, results }
    }

    /// Measures what each can do at most, and then its latencies at parts of that, each beside a bare
    /// append at the same rate.
    pub fn latencies(&self) -> Vec<Load> {
        let mut loads = Vec::new();
        for contestant in [Contestant::Strict, Contestant::Ahead] {
            let shape = Shape {
                keys: self.keys,
                upserts: self.upserts,
                rows_per_time: self.latency_rows,
                draw: Draw::Uniform,
            };
            let most = child::spawn(
                &self.child(contestant, shape.clone(), self.seconds, 1),
                &self.scratch(),
            );
            let most = most.rows as f64 / most.seconds;
            for part in PARTS {
                let rate = most * part;
                let upserts = (rate * OPEN_SECONDS) as u64 / self.latency_rows * self.latency_rows;
                let shape = Shape { upserts: upserts.max(self.latency_rows), ..shape.clone() };
                let append = self.open(Contestant::HashmapLog, &shape, rate);
                let latency = self.open(contestant, &shape, rate);
                eprintln!(
                    "latency {} at {rate:.0} rows/s: p50 {} us, p99 {} us; append {} us, {} us",
                    contestant.name(),
                    latency.p50,
                    latency.p99,
                    append.p50,
                    append.p99
                );
                loads.push(Load { contestant, rate, part, latency, append });
            }
        }
        loads
    }

    fn open(&self, contestant: Contestant, shape: &Shape, rate: f64) -> Latency {
        let directory = tempfile::tempdir_in(self.scratch()).expect("a scratch directory");
        let mut arguments = vec!["latency".to_string(), format!("--rate={rate}")];
        arguments.push(format!("--contestant={}", contestant.name()));
        arguments.extend(shape.arguments());
        child::start(&arguments, directory.path()).0
    }

    /// Writes a file of so many lines, and runs it through everything.
    pub fn feed(&self, lines: u64, before: Option<&Feed>) -> Feed {
        let file = tempfile::NamedTempFile::new_in(self.scratch()).expect("a scratch file");
        ingest::write_lines(file.path(), lines);
        let hows = How::value_variants().iter();
        let mut results: Vec<_> = hows.map(|how| (*how, Vec::new())).collect();
        for round in 0..self.rounds {
            for (how, figures) in &mut results {
                // Where each line waits for its commit, a million of them would take hours.
                let rate =
                    before.and_then(|feed| feed.seconds(*how).map(|s| feed.lines as f64 / s));
                if rate.is_some_and(|rate| lines as f64 / rate > SECONDS_MAX) {
                    continue;
                }
                let directory = tempfile::tempdir_in(self.scratch()).expect("a scratch directory");
                let mut arguments = vec!["ingest".into(), format!("--how={}", name(how))];
                arguments.push(format!("--file={}", file.path().display()));
                let (took, _): (crate::clock::Figures, u64) =
                    child::start(&arguments, directory.path());
                eprintln!("ingest {lines} round {round} {}: {:.3} s", name(how), took.seconds);
                figures.push(took);
            }
        }
        let all = results.iter().flat_map(|(_, figures)| figures);
        let sums: Vec<_> = all.map(|figures| figures.sums.contents).collect();
        assert!(sums.windows(2).all(|pair| pair[0] == pair[1]), "one has other contents");
        Feed { lines, results }
    }
}

fn name<T: ValueEnum>(value: &T) -> String {
    value.to_possible_value().expect("none is skipped").get_name().to_string()
}
