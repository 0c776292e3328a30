//! Compares the bare operator, and the whole durable loop on a local directory, with differential's
//! in-memory `arrange_from_upsert`, side by side in one run.
//!
//! Workloads, as one closed loop: a time is handed over, its updates are drained, then the next
//! (`--ahead N` lets N times be under way).
//!
//! * `w1`: uniform upserts over all keys; the first touch of a key inserts it.
//! * `w2`: zipf(0.99), a tenth of the rows per time, after `w1` in the same process.
//! * `w4`: `w2` with 10% deletes and 5% rewrites of the live value.
//!
//! Our operator gets its updates back as feedback, in memory. The peer knows no order key, so its
//! commands are folded to the latest per key and time before it gets them, inside the clock. Both
//! outputs are hashed in a way that depends neither on their order nor on consolidation, and have to
//! agree. Rounds are interleaved; compare the ratios, not the absolute figures.
//!
//! ```text
//! cargo bench --bench w1 -- --keys 1000000 --upserts 5000000 --per-time 10000 --rounds 3
//! ```

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use clap::Parser;
use differential_dataflow::operators::arrange::upsert::arrange_from_upsert;
use differential_dataflow::trace::implementations::{ValBuilder, ValSpine};
use differential_dataflow::{AsCollection, ExchangeData, Hashable};
use differential_upsert::upsert::{Kept, UpsertStats};
use differential_upsert::{
    Command, Encoded, Packer, PipelineConfig, Shard, Upsert, UpsertConfig, UpsertInto,
};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::InputHandleVec;
use timely::dataflow::channels::pact;
use timely::dataflow::operators::generic::Operator;
use timely::dataflow::operators::{Input, Inspect, Probe};
use timely::worker::Worker;

#[derive(Parser, Clone, Debug)]
struct Args {
    /// Distinct keys.
    #[arg(long, default_value_t = 50_000)]
    keys: u64,
    /// Upserts of `w1`; the other workloads have two fifths of it.
    #[arg(long, default_value_t = 250_000)]
    upserts: u64,
    /// Upserts per time; the other workloads have a tenth of it.
    #[arg(long, default_value_t = 10_000)]
    per_time: u64,
    /// Times that every peer runs.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Which workloads run, one after another: w1, w2, w4.
    #[arg(long, value_delimiter = ',', default_value = "w1")]
    workloads: Vec<String>,
    /// Which peers run: packed, columns, durable, durable-mem, differential (values in `Vec`s),
    /// diff-arrays.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "packed,columns,durable,differential,diff-arrays"
    )]
    peers: Vec<String>,
    /// Times handed over and not yet waited for, to `durable` and `differential`.
    #[arg(long, default_value_t = 0)]
    ahead: u64,
    /// Where `durable` makes its shard, removed at the end [default: the system's].
    #[arg(long)]
    scratch: Option<std::path::PathBuf>,
    /// What `cargo bench` passes.
    #[arg(long, hide = true)]
    bench: bool,
}

fn mix(z: u64) -> u64 {
    let z = z.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A record as a feed would carry it: a key, and the seed of 64 random bytes.
#[derive(Clone, Copy, Debug)]
struct Record {
    key: u64,
    /// `None` deletes.
    value: Option<u64>,
    order: u64,
}

fn value_bytes(seed: u64) -> [u8; 64] {
    let mut bytes = [0; 64];
    for (i, word) in bytes.chunks_exact_mut(8).enumerate() {
        word.copy_from_slice(&mix(seed.wrapping_add(i as u64)).to_le_bytes());
    }
    bytes
}

/// Draws ranks with zipf's weights (Hormann and Derflinger, rejection-inversion).
struct Zipf {
    n: f64,
    exponent: f64,
    h_first: f64,
    h_last: f64,
    cut: f64,
}

impl Zipf {
    fn new(n: u64, exponent: f64) -> Self {
        let mut zipf = Zipf { n: n as f64, exponent, h_first: 0.0, h_last: 0.0, cut: 0.0 };
        zipf.h_first = zipf.h(1.5) - 1.0;
        zipf.h_last = zipf.h(zipf.n + 0.5);
        zipf.cut = 2.0 - zipf.h_inverse(zipf.h(2.5) - 2f64.powf(-exponent));
        zipf
    }

    fn h(&self, x: f64) -> f64 {
        let one = 1.0 - self.exponent;
        (x.powf(one) - 1.0) / one
    }

    fn h_inverse(&self, x: f64) -> f64 {
        let one = 1.0 - self.exponent;
        (1.0 + x * one).powf(1.0 / one)
    }

    fn rank(&self, random: &mut u64) -> u64 {
        loop {
            *random = random.wrapping_add(1);
            let unit = (mix(*random) >> 11) as f64 / (1u64 << 53) as f64;
            let u = self.h_last + unit * (self.h_first - self.h_last);
            let x = self.h_inverse(u);
            let k = x.round().clamp(1.0, self.n);
            if k - x <= self.cut || u >= self.h(k + 0.5) - k.powf(-self.exponent) {
                return k as u64 - 1;
            }
        }
    }
}

/// One workload: its name, and its records by time.
type Phase = (String, Vec<Vec<Record>>);

fn phases(args: &Args) -> Vec<Phase> {
    let (mut random, mut order) = (42u64 << 32, 0);
    let mut live = HashMap::<u64, u64>::new();
    let mut phases = Vec::new();
    for name in &args.workloads {
        let (upserts, per_time) = match name.as_str() {
            "w1" => (args.upserts, args.per_time),
            _ => (args.upserts * 2 / 5, (args.per_time / 10).max(1)),
        };
        let zipf = Zipf::new(args.keys, 0.99);
        let mut next = || {
            random += 1;
            let draw = mix(random);
            let key = match name.as_str() {
                "w1" => draw % args.keys,
                _ => mix(zipf.rank(&mut random)) % args.keys,
            };
            random += 1;
            let dice = mix(random) % 100;
            let value = match (name.as_str(), dice) {
                ("w4", 0..10) => None,
                ("w4", 10..15) => Some(live.get(&key).copied().unwrap_or(draw)),
                _ => Some(draw),
            };
            match value {
                Some(value) => live.insert(key, value),
                None => live.remove(&key),
            };
            order += 1;
            Record { key, value, order }
        };
        let times = (0..upserts.div_ceil(per_time))
            .map(|time| (0..per_time.min(upserts - time * per_time)).map(|_| next()).collect())
            .collect();
        phases.push((name.clone(), times));
    }
    phases
}

/// Room for a key and value that do not lie in memory as bytes.
type Scratch = [u8; 72];

/// How a peer wants its rows.
trait Rows: 'static {
    type K: ExchangeData + Hashable + std::hash::Hash;
    type V: ExchangeData;
    fn rows(records: &[Record]) -> Vec<(Self::K, Option<Self::V>, u64)>;
    fn bytes<'a>(key: &'a Self::K, value: &'a Self::V, scratch: &'a mut Scratch) -> [&'a [u8]; 2];
}

struct Packs;

impl Rows for Packs {
    type K = Encoded;
    type V = Encoded;

    fn rows(records: &[Record]) -> Vec<(Encoded, Option<Encoded>, u64)> {
        let mut packer = Packer::default();
        for record in records {
            packer.push_with(|buffer| buffer.extend_from_slice(&record.key.to_le_bytes())).unwrap();
            if let Some(seed) = record.value {
                packer.push_with(|buffer| buffer.extend_from_slice(&value_bytes(seed))).unwrap();
            }
        }
        let mut packed = packer.finish::<()>();
        let row = |record: &Record| {
            let key = packed.next().expect("one per key");
            (key, record.value.and_then(|_| packed.next()), record.order)
        };
        records.iter().map(row).collect()
    }

    fn bytes<'a>(key: &'a Encoded, value: &'a Encoded, _: &'a mut Scratch) -> [&'a [u8]; 2] {
        [key.as_bytes(), value.as_bytes()]
    }
}

struct Plain;

impl Rows for Plain {
    type K = u64;
    type V = Vec<u8>;

    fn rows(records: &[Record]) -> Vec<(u64, Option<Vec<u8>>, u64)> {
        let value = |seed| value_bytes(seed).to_vec();
        records.iter().map(|r| (r.key, r.value.map(value), r.order)).collect()
    }

    fn bytes<'a>(key: &'a u64, value: &'a Vec<u8>, scratch: &'a mut Scratch) -> [&'a [u8]; 2] {
        scratch[..8].copy_from_slice(&key.to_le_bytes());
        [&scratch[..8], value]
    }
}

/// What a program at level 2 would have: the shard's codec makes the bytes.
struct Stored;

impl Rows for Stored {
    type K = u64;
    type V = Encoded;

    fn rows(records: &[Record]) -> Vec<(u64, Option<Encoded>, u64)> {
        let packed = Packs::rows(records).into_iter();
        packed.zip(records).map(|((_, value, order), r)| (r.key, value, order)).collect()
    }

    fn bytes<'a>(key: &'a u64, value: &'a Encoded, scratch: &'a mut Scratch) -> [&'a [u8]; 2] {
        scratch[..8].copy_from_slice(&key.to_le_bytes());
        [&scratch[..8], value.as_bytes()]
    }
}

/// Without any heap: what suits the peer best, and our state does not offer.
struct Arrays;

impl Rows for Arrays {
    type K = u64;
    type V = [u64; 8];

    fn rows(records: &[Record]) -> Vec<(u64, Option<[u64; 8]>, u64)> {
        let value = |seed: u64| std::array::from_fn(|i| mix(seed.wrapping_add(i as u64)));
        records.iter().map(|r| (r.key, r.value.map(value), r.order)).collect()
    }

    fn bytes<'a>(key: &'a u64, value: &'a [u64; 8], scratch: &'a mut Scratch) -> [&'a [u8]; 2] {
        for (bytes, word) in scratch.chunks_exact_mut(8).zip([key].into_iter().chain(value)) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        let (key, value) = scratch.split_at(8);
        [key, value]
    }
}

/// Sums over a peer's output: `contents` is that of the final collection, `history` also has times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sums {
    contents: u64,
    history: u64,
}

impl Sums {
    fn add<R: Rows>(&mut self, key: &R::K, value: &R::V, time: u64, diff: isize) {
        let mut scratch = [0; 72];
        let mut hash = 0xcbf2_9ce4_8422_2325u64;
        for bytes in R::bytes(key, value, &mut scratch) {
            for word in bytes.chunks(8) {
                let mut padded = [0; 8];
                padded[..word.len()].copy_from_slice(word);
                hash = (hash.rotate_left(5) ^ u64::from_le_bytes(padded))
                    .wrapping_mul(0x9E37_79B9_7F4A_7C15);
            }
        }
        let diff = diff as u64;
        self.contents = self.contents.wrapping_add(diff.wrapping_mul(mix(hash)));
        let timed = mix(mix(hash) ^ mix(time));
        self.history = self.history.wrapping_add(diff.wrapping_mul(timed));
    }
}

/// Nanoseconds that this thread has been running, where the system tells: on a machine that others
/// use as well this moves less than the wall clock.
fn running() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    stat.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(0)
}

/// What one peer did with one workload.
#[derive(Clone, Debug)]
struct Figure {
    seconds: f64,
    /// Time on a processor; the wall time where the system does not tell.
    cpu_seconds: f64,
    p50: Duration,
    p99: Duration,
    sums: Sums,
    /// Bytes of our state, and the keys in it.
    state: Option<(usize, usize)>,
}

/// Runs every phase through `round`, which hands over one time's rows and waits until the times
/// below its second argument have come to their end.
fn clock<R: Rows>(
    phases: &[Phase],
    ahead: u64,
    sums: &Cell<Sums>,
    stats: Option<&UpsertStats>,
    mut round: impl FnMut(u64, u64, Vec<(R::K, Option<R::V>, u64)>),
) -> Vec<Figure> {
    let mut time = 0;
    let mut figures = Vec::new();
    for (_, times) in phases {
        sums.set(Sums::default());
        let mut laps = Vec::with_capacity(times.len());
        let mut ran = 0;
        let end = time + times.len() as u64;
        for records in times {
            let rows = R::rows(records);
            let until = if time + 1 == end { end } else { (time + 1).saturating_sub(ahead) };
            let (start, from) = (Instant::now(), running());
            round(time, until, rows);
            laps.push(start.elapsed());
            ran += running() - from;
            time += 1;
        }
        let seconds = laps.iter().map(Duration::as_secs_f64).sum();
        let cpu_seconds = if ran == 0 { seconds } else { ran as f64 / 1e9 };
        laps.sort_unstable();
        let at = |percent: usize| laps[(laps.len() - 1) * percent / 100];
        let state = stats.map(|stats| (stats.state_bytes(), stats.state_keys()));
        figures.push(Figure {
            seconds,
            cpu_seconds,
            p50: at(50),
            p99: at(99),
            sums: sums.get(),
            state,
        });
    }
    figures
}

fn ours<R: Rows>(worker: &mut Worker, phases: &[Phase]) -> Vec<Figure>
where
    R::K: Kept<R::V>,
{
    let mut feedback = InputHandleVec::<u64, ((R::K, R::V), u64, isize)>::new();
    let back = Rc::new(RefCell::new(Vec::<Vec<((R::K, R::V), u64, isize)>>::new()));
    let sums = Rc::new(Cell::new(Sums::default()));
    let (mut input, probe, stats) = worker.dataflow(|scope| {
        let mut input = InputHandleVec::<u64, (Command<R::K, R::V, u64>, u64)>::new();
        let commands = scope.input_from(&mut input);
        let fed_back = scope.input_from(&mut feedback).as_collection();
        let upserted = commands.upsert(fed_back, UpsertConfig::default());
        let (sums, back) = (Rc::clone(&sums), Rc::clone(&back));
        let (probe, _) = upserted
            .updates
            .inner
            .unary::<CapacityContainerBuilder<Vec<()>>, _, _, _>(
                pact::Pipeline,
                "Commit",
                |_, _| {
                    move |input, _| {
                        input.for_each(|_, rows| {
                            let mut now = sums.get();
                            for ((key, value), time, diff) in rows.iter() {
                                now.add::<R>(key, value, *time, *diff);
                            }
                            sums.set(now);
                            back.borrow_mut().push(std::mem::take(rows));
                        });
                    }
                },
            )
            .probe();
        (input, probe, upserted.stats)
    });
    let figures = clock::<R>(phases, 0, &sums, Some(&stats), |time, _, rows| {
        let command = |(key, value, order)| match value {
            Some(value) => (Command::Put { key, value, order }, time),
            None => (Command::Delete { key, order }, time),
        };
        input.send_batch(&mut rows.into_iter().map(command).collect());
        input.advance_to(time + 1);
        worker.step_while(|| probe.less_than(&(time + 1)));
        back.take().iter_mut().for_each(|rows| feedback.send_batch(rows));
        feedback.advance_to(time + 1);
        feedback.flush();
        worker.step();
    });
    drop((input, feedback));
    while worker.step() {}
    figures
}

/// The loop through a shard: a time has come to its end when it is committed and read back.
fn durable(worker: &mut Worker, phases: &[Phase], ahead: u64, url: &str) -> Vec<Figure> {
    let shard = Shard::<u64, Encoded>::open(url).expect("an empty shard");
    let sums = Rc::new(Cell::new(Sums::default()));
    let (mut input, probe, stats, token) = worker.dataflow(|scope| {
        let mut input = InputHandleVec::<u64, (Command<u64, Encoded, u64>, u64)>::new();
        let commands = scope.input_from(&mut input);
        let pipeline = commands.upsert_into(&shard, PipelineConfig::default());
        let into = Rc::clone(&sums);
        let (probe, _) = pipeline
            .collection()
            .inner
            .inspect(move |((key, value), time, diff)| {
                let mut now = into.get();
                now.add::<Stored>(key, value, *time, *diff);
                into.set(now);
            })
            .probe();
        (input, probe, pipeline.stats, pipeline.token)
    });
    let figures = clock::<Stored>(phases, ahead, &sums, Some(&stats), |time, until, rows| {
        let command = |(key, value, order)| match value {
            Some(value) => (Command::Put { key, value, order }, time),
            None => (Command::Delete { key, order }, time),
        };
        input.send_batch(&mut rows.into_iter().map(command).collect());
        input.advance_to(time + 1);
        while probe.less_than(&until) {
            worker.step_or_park(None);
        }
    });
    drop(input);
    while worker.has_dataflows() {
        worker.step_or_park(None);
    }
    drop(token);
    figures
}

fn differential<R: Rows>(worker: &mut Worker, phases: &[Phase], ahead: u64) -> Vec<Figure> {
    let sums = Rc::new(Cell::new(Sums::default()));
    let (mut input, probe, mut trace) = worker.dataflow(|scope| {
        let mut input = InputHandleVec::<u64, (R::K, Option<R::V>, u64)>::new();
        let commands = scope.input_from(&mut input);
        let arranged =
            arrange_from_upsert::<ValBuilder<R::K, R::V, u64, isize>, ValSpine<_, _, _, _>, _, _>(
                commands, "peer",
            );
        let into = Rc::clone(&sums);
        let (probe, _) = arranged
            .clone()
            .as_collection(|key, value| (key.clone(), value.clone()))
            .inner
            .inspect(move |((key, value), time, diff)| {
                let mut now = into.get();
                now.add::<R>(key, value, *time, *diff);
                into.set(now);
            })
            .probe();
        (input, probe, arranged.trace)
    });
    let figures = clock::<R>(phases, ahead, &sums, None, |time, until, rows| {
        let mut latest = HashMap::with_capacity(rows.len());
        for (key, value, order) in rows {
            match latest.entry(key) {
                std::collections::hash_map::Entry::Vacant(free) => {
                    free.insert((order, value));
                }
                std::collections::hash_map::Entry::Occupied(mut taken) => {
                    if taken.get().0 < order {
                        taken.insert((order, value));
                    }
                }
            }
        }
        input.send_batch(&mut latest.into_iter().map(|(k, (_, v))| (k, v, time)).collect());
        input.advance_to(time + 1);
        // Both, or batches never merge.
        use differential_dataflow::trace::TraceReader;
        let frontier = timely::progress::Antichain::from_elem(time + 1);
        trace.set_logical_compaction(frontier.borrow());
        trace.set_physical_compaction(frontier.borrow());
        worker.step_while(|| probe.less_than(&until));
    });
    drop((input, trace));
    while worker.step() {}
    figures
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_unstable_by(f64::total_cmp);
    all[all.len() / 2]
}

fn main() {
    let args = Args::parse();
    let phases = phases(&args);
    let mut all: Vec<(&str, Vec<Vec<Figure>>)> =
        args.peers.iter().map(|peer| (peer.as_str(), Vec::new())).collect();
    for _ in 0..args.rounds {
        for (peer, rounds) in &mut all {
            let (peer, phases, ahead) = (peer.to_string(), phases.clone(), args.ahead);
            let scratch = args.scratch.clone().unwrap_or_else(std::env::temp_dir);
            rounds.push(timely::execute_directly(move |worker| match peer.as_str() {
                "packed" => ours::<Packs>(worker, &phases),
                "columns" => ours::<Plain>(worker, &phases),
                "durable" => {
                    let directory = tempfile::tempdir_in(scratch).expect("a scratch directory");
                    durable(worker, &phases, ahead, &directory.path().to_string_lossy())
                }
                "durable-mem" => durable(worker, &phases, ahead, "mem:"),
                "differential" => differential::<Plain>(worker, &phases, ahead),
                "diff-arrays" => differential::<Arrays>(worker, &phases, ahead),
                other => panic!("no peer {other}"),
            }));
        }
    }
    for (phase, (name, times)) in phases.iter().enumerate() {
        let upserts: usize = times.iter().map(Vec::len).sum();
        let of = |rounds: &[Vec<Figure>], get: fn(&Figure) -> f64| {
            median(rounds.iter().map(|round| get(&round[phase])).collect())
        };
        let cpu: fn(&Figure) -> f64 = |figure| figure.cpu_seconds;
        let sums = all[0].1[0][phase].sums;
        println!(
            "{name}: {upserts} upserts, {} times, {} keys, s0 {:016x} s1 {:016x}",
            times.len(),
            args.keys,
            sums.contents,
            sums.history
        );
        println!("  peer         per wall s   per cpu s  ratios of cpu s to each peer, p50, p99");
        for (peer, rounds) in &all {
            let same = rounds.iter().all(|round| round[phase].sums == sums);
            assert!(same, "{peer} computed something else");
            let rate = upserts as f64 / of(rounds, |figure| figure.seconds);
            let cpu_rate = upserts as f64 / of(rounds, cpu);
            print!("  {peer:<12} {rate:>10.0}  {cpu_rate:>10.0} ");
            for (_, others) in &all {
                print!(" {:5.2}x", of(others, cpu) / of(rounds, cpu));
            }
            let figure = &rounds[rounds.len() / 2][phase];
            print!("  {:.1?} {:.1?}", figure.p50, figure.p99);
            if let Some((bytes, keys)) = figure.state {
                print!("  state {:.1} bytes per key of {keys}", bytes as f64 / keys.max(1) as f64);
            }
            println!();
        }
    }
}
