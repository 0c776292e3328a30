//! Owns our whole loop through a shard in a local directory: a time has come to its end when it is
//! committed and read back.

use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use differential_upsert::io::Io;
use differential_upsert::shard::{Access, HandleConfig};
use differential_upsert::store::Root;
use differential_upsert::{Command, Encoded, Pipeline, PipelineConfig, Shard, UpsertInto};
use timely::dataflow::operators::{Input, Inspect, Probe};
use timely::dataflow::{InputHandleVec, StreamVec};
use timely::worker::Worker;

use super::rows::{Rows, Stored};
use super::workers::on_workers;
use crate::clock::{Figures, Pace, drive};
use crate::load::Record;
use crate::sums::Sums;

/// Whether a time waits for the commit of the one before.
#[derive(Clone, Copy, Debug)]
pub enum Mode {
    Strict,
    Ahead,
}

/// Times that are there for a strict pipeline to go on with. More would not make it faster.
const STRICT_TIMES: u64 = 8;

/// Builds the pipeline, as it comes but for the mode.
pub fn pipeline<'scope>(
    commands: StreamVec<'scope, u64, (Command<u64, Encoded, u64>, u64)>,
    shard: &Shard<u64, Encoded>,
    mode: Mode,
    state_bytes_max: Option<usize>,
) -> Pipeline<'scope, u64, Encoded> {
    let ahead = matches!(mode, Mode::Ahead);
    let config = PipelineConfig { ahead, state_bytes_max, ..PipelineConfig::default() };
    commands.upsert_into(shard, config)
}

/// Runs it over `records`, into a shard in `directory`.
pub fn run(
    records: Arc<Vec<Record>>,
    pace: Pace,
    directory: &Path,
    mode: Mode,
    state_bytes: Option<usize>,
) -> Figures {
    let shard = open(directory);
    let window_times = match mode {
        Mode::Strict => STRICT_TIMES,
        Mode::Ahead => pace.window_times,
    };
    let pace = Pace { window_times, ..pace };
    on_workers(pace, move |worker, pace| {
        one_worker(worker, &shard, &records, pace, (mode, state_bytes))
    })
}

/// Opens the shard in `directory`.
pub fn open(directory: &Path) -> Shard<u64, Encoded> {
    Shard::open(&directory.to_string_lossy()).expect("a directory to write to")
}

/// Opens the shard in `directory` with little memory for what is on its way: an eighth of what it comes with.
pub fn open_narrow(directory: &Path) -> Shard<u64, Encoded> {
    let io = Io::process().expect("threads");
    let root = Root::open(&directory.to_string_lossy(), Access::Write).expect("a local address");
    let config = HandleConfig {
        part_bytes_max: 1 << 20,
        cache_bytes_max: 8 << 20,
        read_bytes_max: 8 << 20,
        compact_bytes_max: 8 << 20,
        ..HandleConfig::default()
    };
    let opened = io.block_on(Shard::open_with(root, io.clone(), config));
    opened.expect("a directory to write to")
}

/// Returns bounds of a pipeline that go with it.
pub fn narrow() -> PipelineConfig {
    PipelineConfig {
        stash_bytes_max: 32 << 20,
        overlay_bytes_max: 2 << 20,
        inflight_bytes_max: 8 << 20,
        part_bytes_max: 1 << 20,
        ..PipelineConfig::default()
    }
}

fn one_worker(
    worker: &mut Worker,
    shard: &Shard<u64, Encoded>,
    records: &[Record],
    pace: Pace,
    (mode, state_bytes): (Mode, Option<usize>),
) -> Figures {
    let sums = Rc::new(Cell::new(Sums::default()));
    let (mut input, probe, token, stats) = worker.dataflow(|scope| {
        let mut input = InputHandleVec::<u64, (Command<u64, Encoded, u64>, u64)>::new();
        let commands = scope.input_from(&mut input);
        let pipeline = pipeline(commands, shard, mode, state_bytes);
        let into = Rc::clone(&sums);
        let (probe, _) = pipeline
            .collection()
            .inner
            .inspect(move |((key, value), time, diff)| {
                let mut now = into.get();
                Stored::add(&mut now, key, value, *time, *diff);
                into.set(now);
            })
            .probe();
        (input, probe, pipeline.token, pipeline.stats)
    });
    let made = |time, records: &[Record]| {
        let command = |(key, value, order)| (Command::Put { key, value, order }, time);
        Stored::rows(records).into_iter().map(command).collect::<Vec<_>>()
    };
    let figures = drive(records, pace, made, |time, until, mut rows| {
        input.send_batch(&mut rows);
        input.advance_to(time + 1);
        while probe.less_than(&until) {
            worker.step_or_park(None);
        }
    });
    let (missed, state_bytes) = (stats.cold_missed(), stats.state_bytes() as u64);
    drop(input);
    while worker.has_dataflows() {
        worker.step_or_park(None);
    }
    drop(token);
    Figures { sums: sums.get(), missed, state_bytes, ..figures }
}
