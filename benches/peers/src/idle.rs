//! Owns what a pipeline takes that has nothing to do: CPU and context switches of its process. It does not own the
//! pipeline.
//!
//! The shard is a local directory with some keys, and its feed is open and silent. A standby and a follower have a writer
//! beside them, in a process of its own, that has nothing to do either.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use differential_upsert::health::{Health, HealthState};
use differential_upsert::{Command, Encoded, Pipeline, PipelineConfig, Promotion, UpsertInto};
use serde::{Deserialize, Serialize};
use timely::dataflow::InputHandleVec;
use timely::dataflow::operators::Input;

use crate::contestant::durable;
use crate::contestant::rows::{Rows, Stored};
use crate::load::Record;
use crate::measure;
use crate::running::{Running, say};

/// How long a process is left alone before it is measured: what it has to tidy up is done by then.
const SETTLE: Duration = Duration::from_secs(5);

/// How often it is asked whether it has read the shard.
const LOOK: Duration = Duration::from_millis(10);

/// What is idle.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    Writer,
    Standby,
    Follower,
}

#[derive(clap::Args, Clone, Debug)]
pub struct RestArgs {
    #[arg(long, value_enum)]
    role: Role,
    #[arg(long)]
    keys: u64,
    /// For how long it is measured.
    #[arg(long)]
    seconds: u64,
    #[arg(long)]
    directory: PathBuf,
}

/// What it takes.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Idle {
    pub role: Role,
    /// Hundredths of one core.
    pub percent: f64,
    /// Of all threads, a second.
    pub switches: f64,
}

/// Measures each role with so many keys, for so long.
pub fn measured(keys: u64, seconds: u64, scratch: &Path) -> Vec<Idle> {
    let directory = tempfile::tempdir_in(scratch).expect("a scratch directory");
    let start = |role| rest(role, keys, seconds, directory.path());
    let mut writer = start(Role::Writer);
    let mut all = vec![heard(Role::Writer, &mut writer)];
    for role in [Role::Standby, Role::Follower] {
        let mut beside = start(role);
        all.push(heard(role, &mut beside));
        beside.kill();
    }
    writer.kill();
    all
}

fn rest(role: Role, keys: u64, seconds: u64, directory: &Path) -> Running {
    let value = clap::ValueEnum::to_possible_value(&role).expect("none is skipped");
    let arguments = [
        "rest".to_string(),
        format!("--role={}", value.get_name()),
        format!("--keys={keys}"),
        format!("--seconds={seconds}"),
    ];
    Running::start(&arguments, directory)
}

fn heard(role: Role, running: &mut Running) -> Idle {
    let idle =
        Idle { role, percent: running.until("percent"), switches: running.until("switches") };
    eprintln!("{idle:?}");
    idle
}

/// Runs a pipeline that has nothing to do, until it is killed.
pub fn run(args: &RestArgs) {
    let args = args.clone();
    timely::execute_directly(move |worker| {
        let shard = durable::open(&args.directory);
        if args.role == Role::Follower {
            let (_token, health) = worker.dataflow(|scope| {
                let follow = Pipeline::follow(scope, &shard);
                (follow.token, follow.health)
            });
            watch(health, args.seconds);
            while worker.has_dataflows() {
                worker.step_or_park(None);
            }
            return;
        }
        let standby = (args.role == Role::Standby).then(Promotion::default);
        let (mut input, _token, health) = worker.dataflow(|scope| {
            let mut input = InputHandleVec::<u64, (Command<u64, Encoded, u64>, u64)>::new();
            let commands = scope.input_from(&mut input);
            let config = PipelineConfig { standby, ..PipelineConfig::default() };
            let pipeline = commands.upsert_into(&shard, config);
            (input, pipeline.token, pipeline.health)
        });
        // The first that comes fills the shard; the others hand over the same feed.
        let records: Vec<Record> =
            (0..args.keys).map(|key| Record { key, seed: key, order: 0 }).collect();
        let put = |(key, value, order)| (Command::Put { key, value, order }, 0);
        input.send_batch(&mut Stored::rows(&records).into_iter().map(put).collect());
        input.advance_to(1);
        watch(health, args.seconds);
        while worker.has_dataflows() {
            worker.step_or_park(None);
        }
    });
}

/// Says what this process takes, once it has come to rest.
fn watch(health: Health, seconds: u64) {
    thread::spawn(move || {
        // A worker that parks is not asked to look: the health is read from here.
        while health.report().state == HealthState::Hydrating || health.report().upper == 0 {
            thread::sleep(LOOK);
        }
        thread::sleep(SETTLE);
        let (start, cpu, switches) = (Instant::now(), measure::process_cpu(), switches());
        thread::sleep(Duration::from_secs(seconds));
        let took = start.elapsed();
        let cpu = (measure::process_cpu() - cpu) as f64 / took.as_nanos() as f64;
        println!("percent {}", cpu * 100.0);
        let since = |(thread, count): (&u64, &u64)| count - switches.get(thread).unwrap_or(&0);
        let since: u64 = self::switches().iter().map(since).sum();
        println!("switches {}", since as f64 / took.as_secs_f64());
        say("measured", start);
    });
}

/// Returns the context switches of each thread that there is. One that ends while it is measured does not count.
fn switches() -> BTreeMap<u64, u64> {
    let threads = fs::read_dir("/proc/self/task").expect("threads of this process");
    let of = |status: String| -> u64 {
        let lines = status.lines().filter(|line| line.contains("ctxt_switches:"));
        lines.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).sum()
    };
    let thread = |thread: fs::DirEntry| {
        let number = thread.file_name().to_string_lossy().parse().ok()?;
        Some((number, of(fs::read_to_string(thread.path().join("status")).ok()?)))
    };
    threads.flatten().filter_map(thread).collect()
}
