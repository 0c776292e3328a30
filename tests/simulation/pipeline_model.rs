//! Goal: whatever the commands, workers, store and restarts, the shard is the fold of the feed at every
//! time, and the collection is the shard.
//! Method: proptest over whole pipelines on real threads, with a from-scratch fold as the model. The
//! feed is cut at random times into runs; each run starts a new process's pipeline on the same store
//! and either ends, is stopped, or unwinds.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::feed::{COLLECTIONS, Contents, FOLD, Feed, Row, collection, fold, stored};
use differential_upsert::health::{Health, HealthState};
use differential_upsert::io::Io;
use differential_upsert::shard::{Access, HandleConfig, History, verify};
use differential_upsert::store::Root;
use differential_upsert::timely;
use differential_upsert::{Command, PipelineConfig, Shard, UpsertInto};
use proptest::prelude::*;
use timely::dataflow::channels::pact;
use timely::dataflow::operators::Input;
use timely::dataflow::operators::generic::Operator;

/// How a run is over.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Over {
    /// Its input is closed, and it goes on until all is committed.
    Ended,
    /// Its token is dropped on one worker, after so many steps.
    Stopped(usize),
}

#[derive(Clone, Debug)]
struct Run {
    workers: usize,
    /// How much of the feed, in rows, if it is not the last.
    rows: usize,
    over: Over,
    skips: bool,
}

fn row() -> impl Strategy<Value = Row> {
    let command = prop_oneof![
        6 => (0..6u64, 0..4u64, 0..3u64).prop_map(|(k, v, o)| Command::put(k, v, o)),
        2 => (0..6u64, 0..4u64, 0..3u64).prop_map(|(k, p, o)| Command::patch(k, p, o)),
        2 => (0..6u64, 0..3u64).prop_map(|(k, o)| Command::delete(k, o)),
        1 => (0..3u64).prop_map(Command::reset),
        1 => (0..6u64, 0..3u64).prop_map(|(k, o)| Command::reset_of(collection(&k).to_string(), o)),
    ];
    (command, 0..12u64)
}

fn run() -> impl Strategy<Value = Run> {
    let over = prop_oneof![Just(Over::Ended), (0..60usize).prop_map(Over::Stopped)];
    (1..5usize, 0..60usize, over, any::<bool>()).prop_map(|(workers, rows, over, skips)| Run {
        workers,
        rows,
        over,
        skips,
    })
}

type Sums = Arc<Mutex<BTreeMap<(u64, u64), isize>>>;

/// Runs a pipeline over the first rows of a feed, which ends whole times. Returns what its
/// collection has sent.
fn pipeline(root: &Root, rows: Vec<Row>, run: &Run, io: &Io) -> BTreeMap<(u64, u64), isize> {
    let config = HandleConfig {
        inline_bytes_max: if run.skips { 0 } else { 64 },
        history: Some(History::Keep),
        ..HandleConfig::default()
    };
    let opened = Shard::<u64, u64>::open_with(root.clone(), io.clone(), config);
    let shard = io
        .block_on(opened)
        .unwrap()
        .with_fold(FOLD, fold)
        .with_collections(COLLECTIONS, collection);
    let (sums, over, skips) = (Sums::default(), run.over, run.skips);
    let all = Arc::clone(&sums);
    let lost = Arc::new(AtomicBool::new(false));
    timely::execute(timely::Config::process(run.workers), move |worker| {
        let (index, peers) = (worker.index(), worker.peers());
        let sums = Arc::clone(&all);
        let (mut input, token, health) = worker.dataflow::<u64, _, _>(|scope| {
            let (input, commands) = scope.new_input::<Vec<Row>>();
            let pipeline = commands.upsert_into(&shard, PipelineConfig::default());
            pipeline.collection().inner.sink(pact::Pipeline, "Sum", move |(input, _)| {
                input.for_each(|_, rows| {
                    for (row, _, diff) in rows.drain(..) {
                        *sums.lock().unwrap().entry(row).or_insert(0) += diff;
                    }
                });
            });
            (input, pipeline.token, pipeline.health)
        });
        let mut token = Some(token);
        let peer = Peer(Arc::clone(&lost));
        let check = |health: &Health| {
            assert!(health.error().is_none(), "{:?}", health.error());
            assert!(!peer.0.load(Ordering::Relaxed), "another worker has panicked");
        };
        let from = if skips { shard.upper() } else { 0 };
        let mine = rows.iter().enumerate().filter(|(n, row)| n % peers == index && row.1 >= from);
        for (step, (_, row)) in mine.enumerate() {
            if over == Over::Stopped(step) && index == peers - 1 {
                token = None;
                break;
            }
            if row.1 > *input.time() {
                input.advance_to(row.1);
            }
            input.send(row.clone());
            worker.step();
        }
        if over != Over::Ended && index == peers - 1 {
            // It would otherwise end at its greatest row, which is not the end of its feed.
            token = None;
        }
        input.flush();
        while over != Over::Ended && index != peers - 1 && !has_stopped(&health) {
            worker.step();
            check(&health);
            std::thread::yield_now();
        }
        drop(input);
        while worker.has_dataflows() {
            worker.step_or_park(PEER_CHECK);
            check(&health);
        }
        drop(token);
    })
    .unwrap()
    .join()
    .into_iter()
    .for_each(|outcome| outcome.unwrap());
    let mut sums = sums.lock().unwrap().clone();
    sums.retain(|_, count| *count != 0);
    sums
}

/// How often a parked worker looks whether another has panicked: timely would wait for ever.
const PEER_CHECK: Option<Duration> = Some(Duration::from_secs(1));

/// Tells the other workers when its own panics.
struct Peer(Arc<AtomicBool>);

impl Drop for Peer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

fn has_stopped(health: &Health) -> bool {
    health.report().state == HealthState::Finished
}

fn check(root: &Root, feed: &Feed, io: &Io) -> u64 {
    let config = HandleConfig { history: Some(History::Keep), ..HandleConfig::default() };
    let shard = io.block_on(Shard::<u64, u64>::open_with(root.clone(), io.clone(), config));
    let shard = shard.unwrap();
    let upper = shard.upper();
    assert!(upper <= feed.end);
    for time in 0..upper {
        let rows = io.block_on(shard.handle().snapshot(time)).unwrap();
        let mut contents = Contents::new();
        for ((key, value), _, count) in rows {
            assert_eq!(count, 1);
            assert_eq!(contents.insert(key.as_bytes()[0].into(), stored(&value)), None);
        }
        assert_eq!(&contents, feed.at(time), "contents at time {time}");
    }
    upper
}

fn whole_life(root: &Root, rows: Vec<Row>, runs: &[Run], last: &Run) {
    let (feed, io) = (Feed::new(rows), Io::process().unwrap());
    let mut cut = 0;
    for run in runs {
        // A run that ends does so after whole times, and none before where another has ended, or
        // its end would be another feed's.
        cut = feed.rows.get(run.rows).map_or(feed.end, |row| row.1).max(cut);
        let rows = feed.rows.iter().filter(|row| row.1 < cut).cloned().collect();
        pipeline(root, rows, run, &io);
        check(root, &feed, &io);
    }
    let last = Run { over: Over::Ended, ..last.clone() };
    let collection = pipeline(root, feed.rows.clone(), &last, &io);
    assert_eq!(check(root, &feed, &io), feed.end);
    let expected = feed.values_before(feed.end).into_iter().map(|row| (row, 1));
    assert_eq!(collection, expected.collect());
    io.block_on(verify(root.clone(), io.clone())).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn in_memory_the_shard_is_the_fold(
        rows in proptest::collection::vec(row(), 0..60),
        runs in proptest::collection::vec(run(), 0..3),
        last in run(),
    ) {
        let root = Root::open("mem:", Access::Write).unwrap();
        whole_life(&root, rows, &runs, &last);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn on_disk_the_shard_is_the_fold(
        rows in proptest::collection::vec(row(), 0..40),
        runs in proptest::collection::vec(run(), 0..3),
        last in run(),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::open(directory.path().to_str().unwrap(), Access::Write).unwrap();
        whole_life(&root, rows, &runs, &last);
    }
}
