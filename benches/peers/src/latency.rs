//! Owns the open loop: times are due at a fixed rate, whatever became of those before, and each one's
//! latency counts from when it was due, so that a stall is seen by all that it held up. It does not own
//! which rates are run.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use timely::dataflow::InputHandleVec;
use timely::dataflow::operators::{Input, Probe};

use crate::contestant::durable::{self, Mode};
use crate::contestant::rows::{Rows, Stored};
use crate::contestant::{Contestant, log::Log, map};
use crate::load::{self, Shape};
use differential_upsert::Command;

#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// `hashmap-log` is the bare append.
    #[arg(long, value_enum)]
    pub contestant: Contestant,
    #[command(flatten)]
    pub shape: Shape,
    /// Rows a second that are due.
    #[arg(long)]
    pub rate: f64,
    #[arg(long)]
    pub directory: PathBuf,
}

/// Latencies in microseconds, of all times but the first tenth.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Latency {
    pub times: u64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p999: u64,
    pub max: u64,
}

/// Runs the loop, and prints its latencies.
pub fn run(args: &Args) {
    let records = load::records(&args.shape);
    let times = records.chunks(args.shape.rows_per_time as usize);
    let schedule = Schedule {
        start: Instant::now() + Duration::from_millis(200),
        interval: Duration::from_secs_f64(args.shape.rows_per_time as f64 / args.rate),
        warm: times.len() as u64 / 10,
    };
    let mut histogram = Histogram::new(3).expect("three digits are allowed");
    match args.contestant {
        Contestant::HashmapLog => {
            let mut log = Log::create(&args.directory);
            for (time, rows) in (0..).zip(times) {
                let rows = map::made(time, rows);
                thread::sleep(schedule.due(time).saturating_duration_since(Instant::now()));
                log.append(&rows);
                schedule.done(time, &mut histogram);
            }
        }
        Contestant::Strict => ours(args, &records, schedule, Mode::Strict, &mut histogram),
        Contestant::Ahead => ours(args, &records, schedule, Mode::Ahead, &mut histogram),
        other => panic!("{} has no open loop", other.name()),
    }
    let at = |quantile| histogram.value_at_quantile(quantile);
    let latency = Latency {
        times: histogram.len(),
        p50: at(0.5),
        p90: at(0.9),
        p99: at(0.99),
        p999: at(0.999),
        max: histogram.max(),
    };
    println!("{}", serde_json::to_string(&latency).expect("numbers are JSON"));
}

/// When times are due.
#[derive(Clone, Copy)]
struct Schedule {
    start: Instant,
    interval: Duration,
    warm: u64,
}

impl Schedule {
    fn due(self, time: u64) -> Instant {
        self.start + self.interval.mul_f64(time as f64)
    }

    fn done(self, time: u64, histogram: &mut Histogram<u64>) {
        if time >= self.warm {
            let late = Instant::now().saturating_duration_since(self.due(time));
            histogram.record(late.as_micros() as u64).expect("it resizes itself");
        }
    }
}

/// Runs our loop: a time is done when the collection, read back, is complete up to it.
fn ours(
    args: &Args,
    records: &[load::Record],
    schedule: Schedule,
    mode: Mode,
    histogram: &mut Histogram<u64>,
) {
    let shard = durable::open(&args.directory);
    let batches: Vec<Vec<_>> = records
        .chunks(args.shape.rows_per_time as usize)
        .zip(0u64..)
        .map(|(rows, time)| {
            let command = |(key, value, order)| (Command::Put { key, value, order }, time);
            Stored::rows(rows).into_iter().map(command).collect()
        })
        .collect();
    let end = batches.len() as u64;
    let recorded = histogram.clone();
    *histogram = timely::execute_directly(move |worker| {
        let mut histogram = recorded;
        let mut batches = batches.into_iter();
        let (mut input, probe, token) = worker.dataflow(|scope| {
            let mut input = InputHandleVec::new();
            let commands = scope.input_from(&mut input);
            let pipeline = durable::pipeline(commands, &shard, mode, None);
            let (probe, _) = pipeline.collection().inner.probe();
            (input, probe, pipeline.token)
        });
        let (mut given, mut done) = (0, 0);
        while done < end {
            while given < end && schedule.due(given) <= Instant::now() {
                input.send_batch(&mut batches.next().expect("one for each time"));
                given += 1;
                input.advance_to(given);
            }
            let wait = schedule.due(given).saturating_duration_since(Instant::now());
            worker.step_or_park(Some(wait).filter(|_| given < end));
            while done < given && !probe.less_than(&(done + 1)) {
                schedule.done(done, &mut histogram);
                done += 1;
            }
        }
        drop(input);
        while worker.has_dataflows() {
            worker.step_or_park(None);
        }
        drop(token);
        histogram
    });
}
