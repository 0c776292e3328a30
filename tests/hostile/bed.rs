//! Owns one operator between a feed and a shard that is a file: what is emitted goes to disk and comes back in
//! pieces, so that the test itself holds next to nothing. It judges nothing.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::rc::Rc;
use std::sync::Arc;

use differential_dataflow::input::InputSession;
use differential_upsert::upsert::{Rules, UpsertStats};
use differential_upsert::{Command, Encoded, Error, Packed, Upsert, UpsertConfig};
use timely::dataflow::operators::{Input, Inspect, Probe};
use timely::dataflow::{InputHandleVec, ProbeHandle};
use timely::worker::Worker;

use crate::{Allowed, MIB};

pub type Row = (Encoded, Encoded);
pub type Timed = (Command<Encoded, Encoded, u64>, u64);

/// The bound of the stash in every workload.
pub const STASH: usize = 8 * MIB;
/// What the operator may hold besides its stash and its state, by its own account: a piece emitted, one page of each
/// run being merged, and the like.
pub const BESIDE: usize = 8 * MIB;

/// Rows of a feed that share one buffer, as those of a container do.
#[derive(Default)]
pub struct Packing {
    buffer: Vec<u8>,
    ends: Vec<usize>,
}

impl Packing {
    pub fn add(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
        self.ends.push(self.buffer.len());
    }

    pub fn rows(self) -> Vec<Encoded> {
        let Packing { mut buffer, ends } = self;
        buffer.shrink_to_fit();
        let (buffer, mut start) = (Arc::new(buffer), 0);
        let row = |end| {
            let row = Packed::within(&buffer, start, end - start);
            start = end;
            row
        };
        ends.into_iter().map(row).collect()
    }
}

pub fn key(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

/// A value of so many bytes that says what it is.
pub fn value(number: u64, bytes: usize) -> Vec<u8> {
    let mut value = vec![number as u8; bytes.max(8)];
    value[..8].copy_from_slice(&number.to_be_bytes());
    value
}

/// Puts of `(key, value number)` with values of so many bytes, in one buffer.
pub fn puts(
    rows: impl Iterator<Item = (u64, u64)>,
    bytes: usize,
    time: u64,
    order: u64,
) -> Vec<Timed> {
    let mut packing = Packing::default();
    for (k, v) in rows {
        packing.add(&key(k));
        packing.add(&value(v, bytes));
    }
    let mut rows = packing.rows().into_iter();
    let mut all = Vec::new();
    while let (Some(key), Some(value)) = (rows.next(), rows.next()) {
        all.push((Command::put(key, value, order), time));
    }
    all
}

#[derive(Default)]
struct Shard {
    /// Rows emitted and not yet committed, and how many there are: `time, diff, key, value`.
    file: Option<BufWriter<File>>,
    rows: u64,
}

pub struct Bed {
    worker: Worker,
    pub commands: Option<InputHandleVec<u64, Timed>>,
    feedback: InputSession<u64, Row, isize>,
    shard: Rc<RefCell<Shard>>,
    probe: ProbeHandle<u64>,
    errors: Rc<RefCell<Vec<Error>>>,
    pub stats: UpsertStats,
    /// Key and value number, by what was committed.
    pub contents: BTreeMap<u64, u64>,
    pub spilled: u64,
}

/// The collection of a key: those of one are every second number.
fn collection(key: &Encoded) -> &'static str {
    if key.as_bytes()[7].is_multiple_of(2) { "even" } else { "odd" }
}

impl Bed {
    pub fn new() -> Self {
        Bed::with_state(None)
    }

    /// One whose state has so many bytes in memory.
    pub fn with_state(state_bytes_max: Option<usize>) -> Self {
        let allocator = timely::communication::allocator::Thread::default();
        let allocator = timely::communication::Allocator::Thread(allocator);
        let mut worker = Worker::new(timely::WorkerConfig::default(), allocator, None);
        let mut feedback = InputSession::new();
        let (shard, errors) = (Rc::<RefCell<Shard>>::default(), Rc::default());
        let config = UpsertConfig {
            stash_bytes_max: STASH,
            state_bytes_max,
            reads_on_worker: true,
            ..UpsertConfig::default()
        };
        let rules = Rules::new().with_collections(|key| collection(key));
        let (commands, probe, stats) = worker.dataflow(|scope| {
            let (input, commands) = scope.new_input();
            let upserted = commands.upsert_with(feedback.to_collection(scope), config, rules);
            let into = Rc::clone(&shard);
            let write = move |row: &(Row, u64, isize)| into.borrow_mut().write(row);
            let (probe, _) = upserted.updates.inner.inspect(write).probe();
            let failures: Rc<RefCell<Vec<Error>>> = Rc::clone(&errors);
            upserted.errors.inspect(move |error| failures.borrow_mut().push(error.clone()));
            (input, probe, upserted.stats)
        });
        let commands = Some(commands);
        let contents = BTreeMap::new();
        Bed { worker, commands, feedback, shard, probe, errors, stats, contents, spilled: 0 }
    }

    pub fn step(&mut self) {
        self.worker.step();
        self.spilled = self.spilled.max(self.stats.spill_bytes());
        assert!(self.errors.borrow().is_empty(), "{:?}", self.errors.borrow());
    }

    /// Sends one container of rows and lets the operator take it.
    pub fn send(&mut self, mut rows: Vec<Timed>) {
        let commands = self.commands.as_mut().expect("an open feed");
        commands.send_batch(&mut rows);
        commands.flush();
        drop(rows);
        self.step();
        self.step();
    }

    pub fn close_below(&mut self, time: u64) {
        self.commands.as_mut().expect("an open feed").advance_to(time);
    }

    /// Steps until the output frontier is at or past a time, `None` for the end.
    pub fn until(&mut self, time: Option<u64>) {
        for _ in 0..1_000_000 {
            self.step();
            let reached = self.probe.with_frontier(|f| match time {
                Some(time) => !f.less_than(&time),
                None => f.is_empty(),
            });
            if reached {
                return;
            }
        }
        panic!("the frontier stays before {time:?}");
    }

    /// Commits what was emitted and feeds it back, all of it below `upper`.
    pub fn commit(&mut self, upper: u64) {
        let Shard { file, rows } = std::mem::take(&mut *self.shard.borrow_mut());
        if let Some(file) = file {
            let mut file = file.into_inner().expect("room for what was emitted");
            file.seek(SeekFrom::Start(0)).expect("a file");
            let mut file = BufReader::new(file);
            for row in 0..rows {
                let (data, time, diff) = read(&mut file);
                assert!(time < upper, "an update at {time} is not to be committed below {upper}");
                self.fold(&data, diff);
                let large = data.1.as_bytes().len() > 1 << 16;
                self.feed(data, time, diff);
                if large || row % 1000 == 999 {
                    self.feedback.flush();
                    self.step();
                }
            }
        }
        self.fed_below(upper);
    }

    fn fold(&mut self, (key, value): &Row, diff: isize) {
        let number = |bytes: &Encoded| {
            u64::from_be_bytes(bytes.as_bytes()[..8].try_into().expect("8 bytes"))
        };
        let (key, value) = (number(key), number(value));
        if diff > 0 {
            assert_eq!(self.contents.insert(key, value), None, "key {key} has two values");
        } else {
            assert_eq!(self.contents.remove(&key), Some(value), "key {key} had another value");
        }
    }

    pub fn feed(&mut self, data: Row, time: u64, diff: isize) {
        self.feedback.update_at(data, time, diff);
    }

    pub fn fed_below(&mut self, upper: u64) {
        self.feedback.advance_to(upper);
        self.feedback.flush();
        self.step();
        self.step();
    }

    /// The sum of the bounds, and the live state.
    pub fn allowed(&self, live: usize, spilled_max: usize) -> Allowed {
        Allowed { bounds: STASH + BESIDE, live, spilled: (self.spilled, spilled_max as u64) }
    }
}

impl Shard {
    fn write(&mut self, ((key, value), time, diff): &(Row, u64, isize)) {
        let file =
            self.file.get_or_insert_with(|| BufWriter::new(tempfile::tempfile().expect("a file")));
        let (key, value) = (key.as_bytes(), value.as_bytes());
        let words = [*time, *diff as u64, key.len() as u64, value.len() as u64];
        words.iter().for_each(|word| file.write_all(&word.to_le_bytes()).expect("room"));
        file.write_all(key).and_then(|()| file.write_all(value)).expect("room");
        self.rows += 1;
    }
}

fn read(file: &mut BufReader<File>) -> (Row, u64, isize) {
    let mut words = [[0; 8]; 4];
    words.iter_mut().for_each(|word| file.read_exact(word).expect("what was written"));
    let [time, diff, key, value] = words.map(u64::from_le_bytes);
    let mut bytes = |length| {
        let mut bytes = vec![0; length as usize];
        file.read_exact(&mut bytes).expect("what was written");
        Encoded::from_bytes(bytes)
    };
    ((bytes(key), bytes(value)), time, diff as isize)
}
