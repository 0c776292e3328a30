//! Micro-benches of the operator's parts, through the public operator: what a time costs to stash,
//! to drain against a state of many keys, and to take back as feedback.
//!
//! `cargo bench --bench operator -- --quick` for a glance. Compare runs on one machine only; the
//! comparison with what one would use instead is in `peers/`.

use std::cell::RefCell;
use std::hint::black_box;
use std::rc::Rc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use differential_dataflow::input::InputSession;
use differential_upsert::{Command, Encoded, Packer, Upsert, UpsertConfig};
use timely::communication::Allocator;
use timely::communication::allocator::Thread;
use timely::dataflow::operators::{Input, Inspect, Probe};
use timely::dataflow::{InputHandleVec, ProbeHandle};
use timely::worker::Worker;

type Row = (Encoded, Encoded);
type Update = (Row, u64, isize);

const KEYS: u64 = 100_000;
const PER_TIME: u64 = 10_000;

fn rows(numbers: impl Iterator<Item = u64>, salt: u64) -> Vec<Row> {
    let mut packer = Packer::default();
    for number in numbers {
        packer.push_with(|buffer| buffer.extend_from_slice(&number.to_le_bytes())).unwrap();
        packer
            .push_with(|buffer| {
                let value = (number ^ salt).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes();
                (0..8).for_each(|_| buffer.extend_from_slice(&value));
            })
            .unwrap();
    }
    let all: Vec<Encoded> = packer.finish().collect();
    all.chunks_exact(2).map(|row| (row[0].clone(), row[1].clone())).collect()
}

/// An operator, what goes in and what came out.
struct Loop {
    worker: Worker,
    commands: InputHandleVec<u64, (Command<Encoded, Encoded, u64>, u64)>,
    feedback: InputSession<u64, Row, isize>,
    emitted: Rc<RefCell<Vec<Update>>>,
    probe: ProbeHandle<u64>,
    time: u64,
}

impl Loop {
    /// Starts with this many keys live.
    fn new(keys: u64) -> Self {
        let allocator = Allocator::Thread(Thread::default());
        let mut worker = Worker::new(timely::WorkerConfig::default(), allocator, None);
        let mut feedback = InputSession::new();
        let emitted = Rc::new(RefCell::new(Vec::new()));
        let (commands, probe) = worker.dataflow(|scope| {
            let (input, commands) = scope.new_input();
            let upserted = commands.upsert(feedback.to_collection(scope), UpsertConfig::default());
            let into = Rc::clone(&emitted);
            let take = move |row: &Update| into.borrow_mut().push(row.clone());
            let (probe, _) = upserted.updates.inner.inspect(take).probe();
            (input, probe)
        });
        let mut all = Loop { worker, commands, feedback, emitted, probe, time: 0 };
        for row in rows(0..keys, 0) {
            all.feedback.update(row, 1);
        }
        all.fed();
        all
    }

    /// The keys of the next time, spread over all.
    fn next(&self) -> Vec<Row> {
        let first = self.time * 7_919;
        rows((0..PER_TIME).map(|i| (first + i * 31) % KEYS), self.time)
    }

    fn send(&mut self, rows: Vec<Row>) {
        let time = self.time;
        let put = |(key, value)| (Command::put(key, value, 0), time);
        self.commands.send_batch(&mut rows.into_iter().map(put).collect());
    }

    fn drain(&mut self) {
        self.commands.advance_to(self.time + 1);
        while self.probe.less_than(&(self.time + 1)) {
            self.worker.step();
        }
    }

    fn fed(&mut self) {
        self.time += 1;
        self.commands.advance_to(self.time);
        self.feedback.advance_to(self.time);
        self.feedback.flush();
        while self.worker.step() && self.probe.less_than(&self.time) {}
        self.worker.step();
    }

    fn feed(&mut self) {
        for (row, time, diff) in self.emitted.take() {
            self.feedback.update_at(row, time, diff);
        }
        self.fed();
    }
}

fn operator(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("10k upserts of 100k keys");
    group.throughput(Throughput::Elements(PER_TIME));

    // Stash: commands pile up at an open time; the stash is thrown away every few rounds.
    group.bench_function("stash", |bencher| {
        let all = RefCell::new(Loop::new(0));
        let setup = || {
            let mut all = all.borrow_mut();
            all.drain();
            all.feed();
            all.next()
        };
        let run = |rows| {
            let mut all = all.borrow_mut();
            all.send(rows);
            black_box(all.worker.step());
        };
        bencher.iter_batched(setup, run, BatchSize::PerIteration);
    });

    // Drain: the time closes, and every row finds its prior value.
    group.bench_function("drain", |bencher| {
        let all = RefCell::new(Loop::new(KEYS));
        let setup = || {
            let mut all = all.borrow_mut();
            all.feed();
            let rows = all.next();
            all.send(rows);
            all.worker.step();
        };
        let run = |()| all.borrow_mut().drain();
        bencher.iter_batched(setup, run, BatchSize::PerIteration);
    });

    // State: the updates come back and replace values in place.
    group.bench_function("feedback", |bencher| {
        let all = RefCell::new(Loop::new(KEYS));
        let setup = || {
            let mut all = all.borrow_mut();
            let rows = all.next();
            all.send(rows);
            all.drain();
        };
        let run = |()| all.borrow_mut().feed();
        bencher.iter_batched(setup, run, BatchSize::PerIteration);
    });
    group.finish();
}

/// Filling an empty state from a snapshot.
fn hydration(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("hydration");
    group.throughput(Throughput::Elements(KEYS)).sample_size(10);
    group.bench_function("100k keys", |bencher| bencher.iter(|| black_box(Loop::new(KEYS).time)));
    group.finish();
}

criterion_group!(benches, operator, hydration);
criterion_main!(benches);
