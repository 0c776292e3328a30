//! Goal: a source with cursors, through the whole loop: what is in the shard is the fold of the feed up
//! to the cursor beside it, a run that was dropped goes on from there, and only what is durable is
//! acked. Method: a log in memory as the feed, read in chunks of any size; runs that end, that are
//! dropped in the middle, that shut each other out; the oracle is a fold of the log.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use differential_upsert::reclock::{SourceConfig, Times};
use differential_upsert::shard::HandleConfig;
use differential_upsert::source::{
    Ack, Boundary, Change, Durable, Event, Events, Failure, Partition, Received, Source,
};
use differential_upsert::store::{Access, Fault, Faults, Operation, Root};
use differential_upsert::{ErrorKind, Pipeline, PipelineConfig, Shard};

/// A change of a key: its new value, or none.
type Row = (u64, Option<u64>);

/// A feed of one partition: units of rows; the position is the number of units.
#[derive(Clone, Default)]
struct Log {
    units: Arc<Vec<Vec<Row>>>,
    ends: bool,
    acked: Arc<Mutex<Vec<u64>>>,
    at: u64,
    chunk: usize,
}

impl Log {
    fn of(units: u64) -> Log {
        let row = |n: u64| (n * 7 % 11, (!n.is_multiple_of(5)).then_some(n));
        let unit = |n: u64| (0..n % 4).map(|m| row(n * 3 + m)).collect();
        Log {
            units: Arc::new((0..units).map(unit).collect()),
            ends: true,
            chunk: 3,
            ..Log::default()
        }
    }

    fn fold(&self, units: u64) -> BTreeMap<u64, u64> {
        let mut contents = BTreeMap::new();
        for (key, value) in self.units[..units as usize].iter().flatten() {
            match value {
                Some(value) => contents.insert(*key, *value),
                None => contents.remove(key),
            };
        }
        contents
    }
}

impl Source for Log {
    type Key = u64;
    type Value = u64;
    type Position = u64;

    fn identity(&self) -> String {
        "log".into()
    }

    async fn connect(&mut self, from: &Boundary<u64>) -> Result<(), Failure> {
        self.at = from.get("").copied().unwrap_or(0);
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<Events<Self>>, Failure> {
        let mut events = Vec::new();
        for _ in 0..self.chunk {
            let Some(unit) = self.units.get(self.at as usize) else {
                if self.ends {
                    events.push(Event::End);
                } else if events.is_empty() {
                    std::future::pending::<()>().await;
                }
                break;
            };
            let name = Partition::from("");
            for (key, value) in unit {
                let change = value.map_or(Change::Delete(*key), |v| Change::Put(*key, Ok(v)));
                events.push(Event::Change(name.clone(), change));
            }
            self.at += 1;
            events.push(Event::Boundary(Received::at(name, self.at)));
        }
        Ok(Some(events))
    }

    fn ack(&mut self, durable: &Durable<u64>) -> Ack {
        self.acked.lock().unwrap().push(*durable.get("").unwrap());
        Box::pin(std::future::ready(Ok(())))
    }
}

fn open(root: &Root) -> Shard<u64, u64> {
    let io = differential_upsert::io::Io::process().unwrap();
    let opened = Shard::open_with(root.clone(), io.clone(), HandleConfig::default());
    io.block_on(opened).unwrap()
}

fn contents(shard: &Shard<u64, u64>) -> BTreeMap<u64, u64> {
    let io = shard.io();
    io.block_on(async {
        let state = shard.handle().refresh().await.unwrap();
        if state.upper == 0 {
            return BTreeMap::new();
        }
        let rows = shard.handle().snapshot(state.upper - 1).await.unwrap();
        let number = |bytes: &[u8]| postcard::from_bytes::<u64>(bytes).unwrap();
        let row = |((k, v), _, n): (
            (differential_upsert::Encoded, differential_upsert::Encoded),
            u64,
            isize,
        )| {
            assert_eq!(n, 1);
            (number(k.as_bytes()), number(&v.as_bytes()[1..]))
        };
        rows.into_iter().map(row).collect()
    })
}

/// Runs a source until its end, or until `enough` says so. Returns the error it ended with.
fn run(
    root: &Root,
    log: &Log,
    times: Times,
    mut enough: impl FnMut(&Shard<u64, u64>) -> bool + Send + Sync + 'static,
) -> Option<differential_upsert::Error> {
    let (shard, log) = (open(root), log.clone());
    timely::execute_directly(move |worker| {
        let source = SourceConfig { times, ..SourceConfig::default() };
        let config = PipelineConfig { source, ..PipelineConfig::default() };
        let (token, health) = worker.dataflow(|scope| {
            let pipeline = Pipeline::from_source(scope, || Some(log), &shard, config);
            (pipeline.token, pipeline.health)
        });
        let mut token = Some(token);
        while worker.has_dataflows() {
            worker.step_or_park(Some(std::time::Duration::from_millis(1)));
            if health.error().is_some() || enough(&shard) {
                token = None;
            }
        }
        drop(token);
        health.error()
    })
}

#[test]
fn a_feed_that_ends_is_in_the_shard_and_run_again_adds_nothing() {
    for times in [Times::WriteAhead, Times::CoCommitted] {
        let (root, log) = (Root::open("mem:", Access::Write).unwrap(), Log::of(50));
        assert_eq!(run(&root, &log, times, |_| false).map(|e| e.to_string()), None);
        let shard = open(&root);
        assert_eq!(contents(&shard), log.fold(50), "{times:?}");
        let upper = shard.state().upper;
        assert_eq!(run(&root, &log, times, |_| false).map(|e| e.to_string()), None);
        assert_eq!(contents(&shard), log.fold(50), "{times:?}");
        assert_eq!(shard.state().upper, upper, "{times:?}: nothing new, nothing appended");
        let longer = Log::of(80);
        assert_eq!(run(&root, &longer, times, |_| false).map(|e| e.to_string()), None);
        assert_eq!(contents(&shard), longer.fold(80), "{times:?}");
        let acked = longer.acked.lock().unwrap().clone();
        assert_eq!(acked.first(), Some(&50), "{times:?}: what was durable before is acked first");
        assert!(acked.is_sorted(), "{times:?}: {acked:?}");
    }
}

#[test]
fn a_run_that_is_stopped_goes_on_where_the_shard_is() {
    for times in [Times::WriteAhead, Times::CoCommitted] {
        let (root, log) = (Root::open("mem:", Access::Write).unwrap(), Log::of(400));
        for stop_after in [1, 3, 7, 2] {
            let first = open(&root).state().upper;
            let mut seen = (first, 0);
            let error = run(&root, &log, times, move |shard| {
                let upper = shard.state().upper;
                if upper > seen.0 {
                    seen = (upper, seen.1 + 1);
                }
                seen.1 >= stop_after
            });
            assert_eq!(error.map(|e| e.to_string()), None, "{times:?}");
        }
        assert_eq!(run(&root, &log, times, |_| false).map(|e| e.to_string()), None);
        assert_eq!(contents(&open(&root)), log.fold(400), "{times:?}");
    }
}

#[test]
fn a_feed_without_rows_still_moves_its_cursor() {
    let units = Arc::new(vec![vec![]; 1000]);
    for times in [Times::WriteAhead, Times::CoCommitted] {
        let root = Root::open("mem:", Access::Write).unwrap();
        let log = Log { units: Arc::clone(&units), ends: true, chunk: 10, ..Log::default() };
        assert_eq!(run(&root, &log, times, |_| false).map(|e| e.to_string()), None);
        let shard = open(&root);
        assert!(shard.state().upper > 0, "{times:?}");
        let again = Log { acked: Arc::default(), ..log.clone() };
        assert_eq!(run(&root, &again, times, |_| false).map(|e| e.to_string()), None);
        assert_eq!(*again.acked.lock().unwrap(), [1000], "{times:?}");
    }
}

#[test]
fn another_way_to_times_and_another_feed_are_refused() {
    let (root, log) = (Root::open("mem:", Access::Write).unwrap(), Log::of(20));
    assert!(run(&root, &log, Times::WriteAhead, |_| false).is_none());
    let error = run(&root, &log, Times::CoCommitted, |_| false).unwrap();
    assert_eq!(error.kind(), ErrorKind::FeedDiffers, "{error}");
    assert_eq!(open(&root).state().epoch, 0, "nobody was shut out");
}

/// Runs a pipeline on some workers until `enough`, and returns the errors of all workers.
fn run_on(
    config: timely::Config,
    shard: Shard<u64, u64>,
    log: Log,
    pipeline: PipelineConfig,
    enough: impl Fn(&Shard<u64, u64>) -> bool + Send + Sync + 'static,
) -> Vec<String> {
    let guards = timely::execute(config, move |worker| {
        let (shard, log, config) = (shard.clone(), log.clone(), pipeline.clone());
        let (token, health) = worker.dataflow(|scope| {
            let pipeline = Pipeline::from_source(scope, || Some(log), &shard, config);
            (pipeline.token, pipeline.health)
        });
        let mut token = Some(token);
        while worker.has_dataflows() {
            worker.step_or_park(Some(std::time::Duration::from_millis(1)));
            if health.error().is_some() || enough(&shard) {
                token = None;
            }
        }
        drop(token);
        health.error().map(|e| e.to_string())
    });
    let ended = guards.unwrap().join();
    ended.into_iter().filter_map(|outcome| outcome.unwrap()).collect()
}

fn config(times: Times) -> PipelineConfig {
    let source = SourceConfig { times, ..SourceConfig::default() };
    PipelineConfig { source, ..PipelineConfig::default() }
}

#[test]
fn many_workers_and_processes_are_one_writer() {
    for times in [Times::WriteAhead, Times::CoCommitted] {
        let (root, log) = (Root::open("mem:", Access::Write).unwrap(), Log::of(300));
        let errors =
            run_on(timely::Config::process(3), open(&root), log.clone(), config(times), |_| false);
        assert_eq!(errors, [""; 0], "{times:?}");
        assert_eq!(contents(&open(&root)), log.fold(300), "{times:?}");

        let log = Log::of(600);
        let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let ports = [free(), free()];
        let addresses: Vec<String> =
            ports.iter().map(|port| port.local_addr().unwrap().to_string()).collect();
        drop(ports);
        let processes: Vec<_> = (0..2)
            .map(|process| {
                let communication = timely::CommunicationConfig::Cluster {
                    threads: 2,
                    process,
                    addresses: addresses.clone(),
                    report: false,
                    zerocopy: false,
                };
                let worker = timely::WorkerConfig::default();
                let timely = timely::Config { communication, worker };
                // Each process has a handle of its own.
                let (shard, log) = (open(&root), log.clone());
                std::thread::spawn(move || run_on(timely, shard, log, config(times), |_| false))
            })
            .collect();
        for process in processes {
            assert_eq!(process.join().unwrap(), [""; 0], "{times:?}");
        }
        assert_eq!(contents(&open(&root)), log.fold(600), "{times:?}");
    }
}

#[test]
fn a_process_that_reads_old_contents_is_not_shut_out_by_its_own_cluster() {
    let (root, log) = (Root::open("mem:", Access::Write).unwrap(), Log::of(40));
    let io = differential_upsert::io::Io::process().unwrap();
    // Contents that must be fetched, and a second process that is at it when the first takes over.
    let stored = HandleConfig { inline_bytes_max: 0, ..HandleConfig::default() };
    let shard = io.block_on(Shard::open_with(root.clone(), io.clone(), stored)).unwrap();
    let first = run_on(timely::Config::thread(), shard, log, config(Times::CoCommitted), |_| false);
    assert_eq!(first, [""; 0]);
    let reads = Arc::new(AtomicBool::new(false));
    let faults = Faults::new({
        let reads = Arc::clone(&reads);
        move |action| {
            let part = action.operation == Operation::Get && action.key.contains("/part/");
            if part && !reads.swap(true, Ordering::SeqCst) { Fault::Hang } else { Fault::None }
        }
    });

    let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let ports = [free(), free()];
    let addresses: Vec<String> =
        ports.iter().map(|port| port.local_addr().unwrap().to_string()).collect();
    drop(ports);
    let log = Log::of(90);
    let processes: Vec<_> = (0..2)
        .map(|process| {
            let communication = timely::CommunicationConfig::Cluster {
                threads: 1,
                process,
                addresses: addresses.clone(),
                report: false,
                zerocopy: false,
            };
            let timely = timely::Config { communication, worker: timely::WorkerConfig::default() };
            let root =
                if process == 1 { root.clone().with_faults(faults.clone()) } else { root.clone() };
            let (shard, log, watch) = (open(&root), log.clone(), open(&root));
            let (faults, reads, io) = (faults.clone(), Arc::clone(&reads), io.clone());
            std::thread::spawn(move || {
                let steps = AtomicU64::new(0);
                let guards = timely::execute(timely, move |worker| {
                    while process == 0 && !reads.load(Ordering::SeqCst) {
                        std::thread::yield_now();
                    }
                    let (shard, log) = (shard.clone(), log.clone());
                    let (token, health) = worker.dataflow(|scope| {
                        let config = config(Times::CoCommitted);
                        let pipeline = Pipeline::from_source(scope, || Some(log), &shard, config);
                        (pipeline.token, pipeline.health)
                    });
                    let mut token = Some(token);
                    while worker.has_dataflows() {
                        worker.step_or_park(Some(std::time::Duration::from_millis(1)));
                        if health.error().is_some() {
                            token = None;
                        }
                        // Some steps after the claim, so that this process has heard of it.
                        if io.block_on(watch.handle().refresh()).unwrap().epoch == 2
                            && steps.fetch_add(1, Ordering::SeqCst) >= 200
                        {
                            faults.let_go();
                        }
                    }
                    drop(token);
                    health.error().map(|e| e.to_string())
                });
                guards.unwrap().join().into_iter().filter_map(Result::unwrap).collect::<Vec<_>>()
            })
        })
        .collect();
    for process in processes {
        assert_eq!(process.join().unwrap(), [""; 0]);
    }
    assert_eq!(contents(&open(&root)), log.fold(90));
}

#[test]
fn an_exclusive_standby_connects_when_it_is_promoted_and_shuts_the_writer_out() {
    let (root, log) = (Root::open("mem:", Access::Write).unwrap(), Log::of(40));
    let first = Log { ends: false, ..log.clone() };
    let (shard, writes) = (open(&root), first.clone());
    let writer = std::thread::spawn(move || {
        run_on(timely::Config::thread(), shard, writes, config(Times::CoCommitted), |_| false)
    });
    let io = differential_upsert::io::Io::process().unwrap();
    let watch = open(&root);
    let until = |done: &dyn Fn(&differential_upsert::shard::State) -> bool| {
        while !done(&io.block_on(watch.handle().refresh()).unwrap()) {
            std::thread::yield_now();
        }
    };
    until(&|state| state.cursor.is_some());

    let promotion = differential_upsert::Promotion::default();
    let standby = PipelineConfig { standby: Some(promotion.clone()), ..config(Times::CoCommitted) };
    let longer = Log { ends: true, acked: Arc::default(), ..Log::of(90) };
    let (shard, reads) = (open(&root), longer.clone());
    let second = std::thread::spawn(move || {
        run_on(timely::Config::process(2), shard, reads, standby, |_| false)
    });
    until(&|state| state.upper > 0);
    assert_eq!(watch.state().epoch, 1);
    assert!(longer.acked.lock().unwrap().is_empty(), "it is not connected");
    promotion.promote();
    assert_eq!(second.join().unwrap(), [""; 0]);
    assert_eq!(watch.handle().state().epoch.max(2), 2);
    let errors = writer.join().unwrap();
    assert!(errors.iter().all(|e| e.contains("Fenced")) && !errors.is_empty(), "{errors:?}");
    assert_eq!(contents(&open(&root)), longer.fold(90));
}

/// Its poll is as good as never: what is bound is bound because of the promotion.
#[test]
fn a_standby_binds_what_waits_as_soon_as_it_is_promoted() {
    let (root, log) = (Root::open("mem:", Access::Write).unwrap(), Log::of(9));
    let promotion = differential_upsert::Promotion::default();
    let config = PipelineConfig {
        standby: Some(promotion.clone()),
        poll: std::time::Duration::from_secs(86_400),
        ..config(Times::WriteAhead)
    };
    let (shard, reads) = (open(&root), log.clone());
    timely::execute_directly(move |worker| {
        let (token, health) = worker.dataflow(|scope| {
            let pipeline = Pipeline::from_source(scope, || Some(reads), &shard, config);
            (pipeline.token, pipeline.health)
        });
        for _ in 0..60_000 {
            if !worker.has_dataflows() {
                break;
            }
            worker.step_or_park(Some(std::time::Duration::from_millis(1)));
            let why = health.report().why.unwrap_or_default();
            if why.contains("wait for their time to be bound") {
                promotion.promote();
            }
        }
        assert!(!worker.has_dataflows(), "the promotion is not heard: {:?}", health.report());
        drop(token);
    });
    assert_eq!(contents(&open(&root)), log.fold(9));
}
