//! Owns the rig that the operator's tests share: a dataflow around one operator, on one worker or
//! on several that take turns, so that a seed replays a run to the step. It holds no oracle and
//! asserts nothing about contents.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use differential_dataflow::input::InputSession;
use differential_dataflow::{ExchangeData, Hashable};
use differential_upsert::upsert::{Kept, Rules, UpsertStats};
use differential_upsert::{Command, Error, Packed, Upsert, UpsertConfig};
use fastrand::Rng;
use timely::dataflow::InputHandleVec;
use timely::dataflow::operators::{Exchange, Inspect, Probe};
use timely::dataflow::{ProbeHandle, operators::Input};
use timely::worker::Worker;

pub type Update<D> = (D, u64, isize);
pub type Timed<K, V> = (Command<K, V, u8>, u64);

type Commands<L> = InputHandleVec<u64, Timed<<L as Layout>::K, <L as Layout>::V>>;
type Feedback<L> = InputSession<u64, (<L as Layout>::K, <L as Layout>::V), isize>;
pub type Updates<L> = Vec<Update<(<L as Layout>::K, <L as Layout>::V)>>;

/// Types that the tests run on.
pub trait Layout: 'static {
    type K: ExchangeData + Hashable + Kept<Self::V>;
    type V: ExchangeData;
    /// Whether the state can be bounded.
    const PACKED: bool = false;
    fn key(number: u8) -> Self::K;
    fn value(number: u8) -> Self::V;
    fn number(key: &Self::K) -> u8;
    /// What a patch makes of a value: another one for each order of patches.
    fn fold(prior: Option<&Self::V>, patch: &Self::V) -> Self::V;
}

/// Which collection a key is of.
pub fn collection(number: u8) -> &'static str {
    ["none", "one", "two"][usize::from(number) % 3]
}

/// Both as bytes. Values differ in length, so that not all of them fit in place.
#[derive(Debug)]
pub struct Bytes;

impl Layout for Bytes {
    type K = Packed<u8>;
    type V = Packed<Vec<u8>>;
    const PACKED: bool = true;
    fn key(number: u8) -> Self::K {
        Packed::pack(&number).unwrap()
    }
    fn number(key: &Self::K) -> u8 {
        key.as_bytes()[0]
    }
    fn value(number: u8) -> Self::V {
        Packed::pack(&vec![number; 1 + usize::from(number) % 3]).unwrap()
    }
    fn fold(prior: Option<&Self::V>, patch: &Self::V) -> Self::V {
        let mut bytes = prior.map_or(vec![99], |prior| prior.unpack().unwrap());
        bytes.extend(patch.unpack().unwrap());
        Packed::pack(&bytes).unwrap()
    }
}

/// Both in columnation regions.
#[derive(Debug)]
pub struct Columns;

impl Layout for Columns {
    type K = String;
    type V = (u64, Vec<u8>);
    fn key(number: u8) -> String {
        format!("key {number}")
    }
    fn number(key: &String) -> u8 {
        key["key ".len()..].parse().unwrap()
    }
    fn value(number: u8) -> Self::V {
        (u64::from(number / 2), vec![number; usize::from(number) % 3])
    }
    fn fold(prior: Option<&Self::V>, (number, bytes): &Self::V) -> Self::V {
        let (prior, mut all) = prior.cloned().unwrap_or((99, Vec::new()));
        all.extend(bytes);
        (prior.wrapping_mul(31) + number, all)
    }
}

/// What the operators of the tests are told.
fn rules<L: Layout>() -> Rules<L::K, L::V> {
    let fold = |prior: Option<&L::V>, patch: &L::V| Ok(L::fold(prior, patch));
    Rules::new().with_fold(Rc::new(fold)).with_collections(|key| collection(L::number(key)))
}

/// What an operator has counted, summed over workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub below: u64,
    pub superseded: u64,
    pub unchanged: u64,
}

impl Counts {
    fn add(&mut self, stats: &UpsertStats) {
        self.below += stats.below();
        self.superseded += stats.superseded();
        self.unchanged += stats.unchanged();
    }
}

/// One operator with its inputs and outputs in the test's hands. Everything enters and leaves at
/// worker 0; commands are spread over the workers on the way.
pub struct Rig<L: Layout> {
    worker: Worker,
    others: Vec<(Sender<()>, Receiver<()>)>,
    random: Rng,
    pub commands: Option<Commands<L>>,
    pub feedback: Option<Feedback<L>>,
    pub probe: ProbeHandle<u64>,
    pub emitted: Rc<RefCell<Updates<L>>>,
    /// Of all workers.
    pub errors: Arc<Mutex<Vec<Error>>>,
    pub stats: UpsertStats,
}

impl<L: Layout> Rig<L> {
    fn new(
        worker: &mut Worker,
        config: UpsertConfig<u64>,
        rules: Rules<L::K, L::V>,
        errors: Arc<Mutex<Vec<Error>>>,
    ) -> Self {
        let emitted = Rc::default();
        let mut feedback = InputSession::new();
        let (commands, probe, stats) = worker.dataflow(|scope| {
            let (input, commands) = scope.new_input();
            // An input directly before an exchange loses sight of what was flushed and stepped over
            // (timely 0.31 and 0.32, `Counter::push`): a stage between them pushes it on.
            let commands = commands.inspect(|_| ());
            let fed_back = feedback.to_collection(scope).inspect(|_| ());
            let spread = commands.exchange(|(command, time): &Timed<L::K, L::V>| {
                Rng::with_seed(time * 256 + u64::from(*command.order())).u64(..)
            });
            let upserted = spread.upsert_with(fed_back, config, rules);
            let into: Rc<RefCell<Updates<L>>> = Rc::clone(&emitted);
            let failures = Arc::clone(&errors);
            let updates = upserted.updates.inner.exchange(|_| 0);
            let updates = updates.inspect(move |update: &Update<(L::K, L::V)>| {
                into.borrow_mut().push(update.clone())
            });
            let (probe, _) = updates.probe();
            upserted.errors.inspect(move |error| failures.lock().unwrap().push(error.clone()));
            (input, probe, upserted.stats)
        });
        Rig {
            worker: worker.clone(),
            others: Vec::new(),
            random: Rng::with_seed(0),
            commands: Some(commands),
            feedback: Some(feedback),
            probe,
            emitted,
            errors,
            stats,
        }
    }

    /// A rig of one worker on this thread.
    pub fn alone(config: UpsertConfig<u64>) -> Self {
        Self::told(config, rules::<L>())
    }

    /// The same, told what it is to know of keys and values.
    pub fn told(config: UpsertConfig<u64>, rules: Rules<L::K, L::V>) -> Self {
        let allocator = timely::communication::allocator::Thread::default();
        let allocator = timely::communication::Allocator::Thread(allocator);
        let mut worker = Worker::new(timely::WorkerConfig::default(), allocator, None);
        Self::new(&mut worker, config, rules, Arc::default())
    }

    /// Runs `drive` on a rig of `workers`, which step one at a time, in an order by `seed`.
    pub fn cluster<R: Send + 'static>(
        workers: usize,
        seed: u64,
        config: UpsertConfig<u64>,
        drive: impl Fn(&mut Self) -> R + Send + Sync + 'static,
    ) -> (R, Counts) {
        let (mut drivers, mut driven) = (Vec::new(), Vec::new());
        for _ in 1..workers {
            let (step, steps) = channel::<()>();
            let (done, dones) = channel::<()>();
            drivers.push((step, dones));
            driven.push((steps, done));
        }
        let (drivers, driven) = (Mutex::new(Some(drivers)), Mutex::new(driven));
        let counts = Arc::new(Mutex::new(Counts::default()));
        let total = Arc::clone(&counts);
        let errors = Arc::default();
        let guards = timely::execute(timely::Config::process(workers), move |worker| {
            let mut rig = Self::new(worker, config.clone(), rules::<L>(), Arc::clone(&errors));
            if worker.index() == 0 {
                rig.others = drivers.lock().unwrap().take().unwrap();
                rig.random = Rng::with_seed(seed);
                let result = drive(&mut rig);
                counts.lock().unwrap().add(&rig.stats);
                drop((rig.commands.take(), rig.feedback.take(), std::mem::take(&mut rig.others)));
                drop_dataflows(worker);
                return Some(result);
            }
            let (steps, done) = driven.lock().unwrap().pop().unwrap();
            (rig.commands, rig.feedback) = (None, None);
            while let Ok(()) = steps.recv() {
                few_steps(worker);
                let _ = done.send(());
            }
            counts.lock().unwrap().add(&rig.stats);
            drop_dataflows(worker);
            None
        });
        let results: Vec<_> = guards.unwrap().join().into_iter().collect();
        let mut results = results.into_iter().map(|result| match result {
            Ok(result) => result,
            Err(panic) => panic!("a worker panicked: {panic}"),
        });
        let result = results.find_map(|result| result).unwrap();
        let total = *total.lock().unwrap();
        (result, total)
    }

    /// Lets one worker take a few steps.
    pub fn step(&mut self) {
        match self.random.usize(..1 + self.others.len()) {
            0 => few_steps(&mut self.worker),
            other => {
                let (step, done) = &self.others[other - 1];
                step.send(()).unwrap();
                done.recv().unwrap();
            }
        }
    }

    /// Schedules each operator once at the most; on a rig of one worker.
    pub fn wake(&mut self) {
        self.worker.step();
    }

    /// Steps until nothing can move any more.
    pub fn settle(&mut self) {
        self.flush();
        for _ in 0..20 * (1 + self.others.len()) {
            self.step();
        }
    }

    /// Hands over what was sent and fed so far.
    pub fn flush(&mut self) {
        if let Some(commands) = &mut self.commands {
            commands.flush();
        }
        if let Some(feedback) = &mut self.feedback {
            feedback.flush();
        }
    }

    pub fn put(&mut self, time: u64, key: u8, value: u8, order: u8) {
        self.send(Command::put(L::key(key), L::value(value), order), time);
    }

    pub fn delete(&mut self, time: u64, key: u8, order: u8) {
        self.send(Command::delete(L::key(key), order), time);
    }

    pub fn patch(&mut self, time: u64, key: u8, patch: u8, order: u8) {
        self.send(Command::patch(L::key(key), L::value(patch), order), time);
    }

    pub fn reset(&mut self, time: u64, order: u8) {
        self.send(Command::reset(order), time);
    }

    /// Resets the collection of a key.
    pub fn reset_of(&mut self, time: u64, key: u8, order: u8) {
        self.send(Command::reset_of(collection(key).to_string(), order), time);
    }

    pub fn send(&mut self, command: Command<L::K, L::V, u8>, time: u64) {
        self.commands.as_mut().unwrap().send((command, time));
    }

    /// Closes every time below this one on the source.
    pub fn close_below(&mut self, time: u64) {
        self.commands.as_mut().unwrap().advance_to(time);
    }

    /// Feeds back one update, whatever became of it.
    pub fn feed(&mut self, key: u8, value: u8, time: u64, diff: isize) {
        self.feedback.as_mut().unwrap().update_at((L::key(key), L::value(value)), time, diff);
    }

    /// Says that the feedback is complete below this time.
    pub fn fed_below(&mut self, time: u64) {
        self.feedback.as_mut().unwrap().advance_to(time);
    }

    /// The output frontier, `None` when empty.
    pub fn frontier(&self) -> Option<u64> {
        self.probe.with_frontier(|frontier| frontier.first().copied())
    }

    /// Commits all that was emitted below `upper`, and feeds it back.
    pub fn commit(&mut self, upper: u64) {
        let emitted = std::mem::take(&mut *self.emitted.borrow_mut());
        for (data, time, diff) in emitted {
            assert!(time < upper, "an update at {time} is not to be committed below {upper}");
            self.feedback.as_mut().unwrap().update_at(data, time, diff);
        }
        self.fed_below(upper);
        self.settle();
    }

    /// Takes what was emitted, in order.
    pub fn take(&self) -> Vec<Update<(L::K, L::V)>> {
        std::mem::take(&mut *self.emitted.borrow_mut())
    }
}

impl Rig<Bytes> {
    /// Takes what was emitted as `(key, value, time, diff)`, sorted.
    pub fn taken(&self) -> Vec<(u8, u8, u64, isize)> {
        let plain = |((key, value), time, diff): Update<(Packed<u8>, Packed<Vec<u8>>)>| {
            (key.unpack().unwrap(), value.unpack().unwrap()[0], time, diff)
        };
        let mut taken: Vec<_> = self.take().into_iter().map(plain).collect();
        taken.sort_unstable();
        taken
    }
}

/// As many as a message needs through the dataflow.
fn few_steps(worker: &mut Worker) {
    for _ in 0..4 {
        worker.step();
    }
}

fn drop_dataflows(worker: &mut Worker) {
    for dataflow in worker.installed_dataflows() {
        worker.drop_dataflow(dataflow);
    }
}

/// Sums updates and drops those that cancel.
pub fn consolidated<D: Ord>(updates: Vec<Update<D>>) -> BTreeMap<(u64, D), isize> {
    let mut sums = BTreeMap::new();
    for (data, time, diff) in updates {
        *sums.entry((time, data)).or_insert(0) += diff;
    }
    sums.retain(|_, diff| *diff != 0);
    sums
}
