//! Goal: bindings of a feed to times are never closed without their rows, and a feed that cannot be bound
//! says so instead of waiting. Method: sources that play a script, one part per connection; runs whose
//! workers stand still, so that a binding is durable and its rows are not; the oracle is what a map of
//! the last values has.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use differential_upsert::reclock::{SourceConfig, Times};
use differential_upsert::shard::{Handle, HandleConfig, HandleOptions, Verified, verify};
use differential_upsert::source::AttemptConfig;
use differential_upsert::source::{
    Boundary, Change, Event, Events, Failure, Partition, Received, Source,
};
use differential_upsert::store::{Access, Root};
use differential_upsert::{Error, ErrorKind, Pipeline, PipelineConfig, Promotion, Shard};

type Step = Result<Vec<Event<u64, u64, u64>>, Failure>;

/// A feed that says what a script says: the next part of it at every connect, and then nothing more.
#[derive(Clone)]
struct Script {
    identity: &'static str,
    partitions: Vec<Partition>,
    parts: Arc<Mutex<VecDeque<Vec<Step>>>>,
    now: VecDeque<Step>,
    /// Is told of every connect; and nothing of the second one's part comes before it opens.
    gate: Option<(std::sync::mpsc::Sender<()>, tokio::sync::watch::Receiver<bool>)>,
    /// Of a feed that can end a copy where it is told: where that is.
    told: Option<Arc<Mutex<Vec<(Partition, u64)>>>>,
}

impl Script {
    fn new(identity: &'static str, partitions: &[&str], parts: Vec<Vec<Step>>) -> Script {
        let partitions = partitions.iter().map(|name| Partition::from(*name)).collect();
        let parts = Arc::new(Mutex::new(parts.into()));
        Script { identity, partitions, parts, now: VecDeque::new(), gate: None, told: None }
    }
}

impl Source for Script {
    type Key = u64;
    type Value = u64;
    type Position = u64;

    fn identity(&self) -> String {
        self.identity.into()
    }

    fn partitions(&self) -> Vec<Partition> {
        self.partitions.clone()
    }

    async fn connect(&mut self, _: &Boundary<u64>) -> Result<(), Failure> {
        self.now = self.parts.lock().unwrap().pop_front().unwrap_or_default().into();
        if let Some((connected, _)) = &self.gate {
            connected.send(()).unwrap();
        }
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<Events<Self>>, Failure> {
        if let Some((_, open)) = &mut self.gate
            && self.parts.lock().unwrap().is_empty()
        {
            open.wait_for(|open| *open).await.unwrap();
        }
        match self.now.pop_front() {
            Some(step) => step.map(Some),
            None => std::future::pending().await,
        }
    }

    fn copy_until(&mut self, bound: Option<&Boundary<u64>>) -> bool {
        let Some(told) = &self.told else { return false };
        let places = bound.into_iter().flat_map(Boundary::partitions);
        *told.lock().unwrap() = places.map(|(name, at)| (name.clone(), *at)).collect();
        true
    }
}

fn put(partition: &str, key: u64, value: u64) -> Event<u64, u64, u64> {
    Event::Change(partition.into(), Change::Put(key, Ok(value)))
}

fn at(partition: &str, place: u64) -> Event<u64, u64, u64> {
    Event::Boundary(Received::at(partition.into(), place))
}

fn lost() -> Step {
    Err(Failure::PositionLost(Error::new(ErrorKind::Missing, "it was deleted")))
}

fn open(root: &Root) -> Shard<u64, u64> {
    let io = differential_upsert::io::Io::process().unwrap();
    let opened = Shard::open_with(root.clone(), io.clone(), HandleConfig::default());
    io.block_on(opened).unwrap()
}

fn contents(root: &Root) -> BTreeMap<u64, u64> {
    let shard = open(root);
    let upper = shard.state().upper;
    let rows = shard.io().block_on(shard.handle().snapshot(upper - 1)).unwrap();
    let number = |bytes: &[u8]| postcard::from_bytes::<u64>(bytes).unwrap();
    rows.into_iter()
        .map(|((k, v), ..)| (number(k.as_bytes()), number(&v.as_bytes()[1..])))
        .collect()
}

/// Steps that a run may take before it is given up: each is a millisecond at most, or some work.
const STEPS_MAX: u32 = 20_000;

/// Runs a source to its end. Returns the error it ended with; panics if it never ends.
fn run(root: &Root, script: Script, standby: Option<Promotion>) -> Option<Error> {
    run_as(root, script, PipelineConfig { standby, ..PipelineConfig::default() })
}

fn run_as(root: &Root, script: Script, config: PipelineConfig) -> Option<Error> {
    run_on(open(root), script, config)
}

fn run_on(shard: Shard<u64, u64>, script: Script, config: PipelineConfig) -> Option<Error> {
    timely::execute_directly(move |worker| {
        let (token, health) = worker.dataflow(|scope| {
            let pipeline = Pipeline::from_source(scope, || Some(script), &shard, config);
            (pipeline.token, pipeline.health)
        });
        let (mut token, mut steps) = (Some(token), 0);
        while worker.has_dataflows() {
            worker.step_or_park(Some(std::time::Duration::from_millis(1)));
            steps += 1;
            if health.error().is_some() || steps > STEPS_MAX {
                token = None;
            }
        }
        drop(token);
        assert!(steps <= STEPS_MAX, "it waits for ever: {:?}", health.report());
        health.error()
    })
}

/// Runs a source until its next binding is durable, with a worker that never runs: no row is.
fn bind_only(root: &Root, script: Script) {
    let shard = open(root);
    let upper = shard.state().upper;
    let watched = root.clone();
    timely::execute_directly(move |worker| {
        let index = worker.next_dataflow_index();
        let token = worker.dataflow(|scope| {
            Pipeline::from_source(scope, || Some(script), &shard, PipelineConfig::default()).token
        });
        let io = shard.io().clone();
        let config = HandleConfig::default();
        let opened =
            Handle::open(watched, io.clone(), HandleOptions::read("remap").with_config(config));
        let remap = io.block_on(opened).unwrap();
        while io.block_on(remap.refresh()).unwrap().upper <= upper {
            std::thread::yield_now();
        }
        worker.drop_dataflow(index);
        drop(token);
    });
    assert_eq!(open(root).state().upper, upper, "bound, and not yet there");
}

fn root() -> Root {
    Root::open("mem:", Access::Write).unwrap()
}

#[test]
fn a_binding_of_another_feed_is_refused() {
    let root = root();
    bind_only(&root, Script::new("one", &[""], vec![vec![Ok(vec![put("", 1, 1), at("", 3)])]]));
    let rows = vec![put("", 1, 1), at("", 3), put("", 2, 2), at("", 4), Event::End];
    let error = run(&root, Script::new("two", &[""], vec![vec![Ok(rows.clone())]]), None);
    let error = error.expect("it is another feed");
    assert_eq!(error.kind(), ErrorKind::FeedDiffers, "{error}");
    assert!(run(&root, Script::new("one", &[""], vec![vec![Ok(rows)]]), None).is_none());
    assert_eq!(contents(&root), BTreeMap::from([(1, 1), (2, 2)]));
}

#[test]
fn what_comes_after_a_copy_made_anew_counts_whatever_its_place() {
    let root = root();
    let first = vec![put("a", 1, 1), at("a", 200), put("b", 2, 1), at("b", 9)];
    // In one go, so that all of it gets one time: the copy ends at 100 in one partition and at 5 in the
    // other, which then goes on to 6.
    let anew = vec![put("a", 1, 2), at("a", 100), put("b", 2, 2), put("b", 3, 2), at("b", 5)];
    let later = vec![put("b", 2, 3), at("b", 6), put("b", 4, 3), at("b", 7), Event::End];
    let anew = anew.into_iter().chain(later).collect();
    let parts = vec![vec![Ok(first), lost()], vec![Ok(anew)]];
    let script = Script::new("feed", &["a", "b"], parts.clone());
    let error = run(&root, script, None).expect("several partitions are not bound anew");
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    let source = SourceConfig { times: Times::CoCommitted, ..SourceConfig::default() };
    let config = PipelineConfig { source, ..PipelineConfig::default() };
    let root = self::root();
    assert!(run_as(&root, Script::new("feed", &["a", "b"], parts), config).is_none());
    assert_eq!(contents(&root), BTreeMap::from([(1, 2), (2, 3), (3, 2), (4, 3)]));
}

/// A copy of two partitions that another writer has bound and not written is made again, to the same places.
#[test]
fn a_copy_of_several_ends_where_another_writer_has_bound_it() {
    let script = |root: &Root, parts: Vec<Vec<Step>>| {
        let mut script = Script::new("feed", &["a", "b"], parts);
        script.told = Some(Arc::default());
        (script.clone(), run(root, script, None))
    };
    let copy = |rest: Vec<Event<u64, u64, u64>>| {
        let copy = vec![put("a", 1, 2), at("a", 7), put("b", 2, 2), put("b", 3, 2), at("b", 5)];
        vec![vec![lost()], vec![Ok(copy.into_iter().chain(rest).collect())]]
    };
    let root = root();
    let first = vec![put("a", 1, 1), at("a", 200), put("b", 9, 1), at("b", 9), Event::End];
    assert!(script(&root, vec![vec![Ok(first)]]).1.is_none());
    let mut bound = Script::new("feed", &["a", "b"], copy(vec![]));
    bound.told = Some(Arc::default());
    bind_only(&root, bound);
    // One that ends elsewhere is another copy, further on or not so far.
    let before = contents(&root);
    for (a, b) in [(8, 5), (7, 4), (8, 4), (6, 6)] {
        let other = vec![put("a", 1, 2), at("a", a), put("b", 2, 2), at("b", b), Event::End];
        let error = script(&root, vec![vec![lost()], vec![Ok(other)]]).1;
        assert_eq!(error.map(|e| e.kind()), Some(ErrorKind::LeaseLost), "{a} {b}");
        assert_eq!(contents(&root), before, "{a} {b}");
    }
    let (again, error) = script(&root, copy(vec![put("b", 2, 3), at("b", 6), Event::End]));
    assert!(error.is_none(), "{error:?}");
    let told = again.told.unwrap().lock().unwrap().clone();
    assert_eq!(told, [(Partition::from("a"), 7), (Partition::from("b"), 5)]);
    assert_eq!(contents(&root), BTreeMap::from([(1, 2), (2, 3), (3, 2)]));
}

#[test]
fn partitions_that_are_replaced_are_refused_where_places_are_bound() {
    let replaced = Event::Boundary(Received::all([("b".into(), 1), ("c".into(), 1)]));
    for first in [vec![], vec![Ok(vec![put("a", 1, 1), at("a", 3)])]] {
        let rows = vec![put("a", 1, 2), at("a", 4), replaced.clone(), Event::End];
        let part = first.into_iter().chain([Ok(rows)]).collect();
        let error = run(&root(), Script::new("feed", &["a"], vec![part]), None);
        let error = error.expect("it cannot say that in a binding");
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    }
}

#[test]
fn a_standby_tells_why_its_source_has_failed() {
    let failure = || Err(Failure::Definite(Error::new(ErrorKind::Unsupported, "what is that?")));
    let part = vec![Ok(vec![put("", 1, 1), at("", 3)]), failure()];
    let script = Script::new("feed", &[""], vec![part]);
    let error = run(&root(), script, Some(Promotion::default()));
    assert_eq!(error.map(|e| e.kind()), Some(ErrorKind::Unsupported));
}

#[test]
fn a_feed_that_fails_short_of_what_another_has_bound_says_so() {
    let root = root();
    let more = vec![put("a", 1, 1), at("a", 3), put("b", 2, 1), at("b", 5)];
    bind_only(&root, Script::new("feed", &["a", "b"], vec![vec![Ok(more)]]));
    // It has more of one partition, which waits, and nothing of the other.
    let failure = Err(Failure::Definite(Error::new(ErrorKind::Unsupported, "what is that?")));
    let less = vec![put("a", 1, 1), at("a", 3), put("a", 1, 2), at("a", 4)];
    let script = Script::new("feed", &["a", "b"], vec![vec![Ok(less), failure]]);
    assert_eq!(run(&root, script, None).map(|e| e.kind()), Some(ErrorKind::Unsupported));
}

#[test]
fn a_copy_that_ends_elsewhere_than_the_bound_one_closes_nothing() {
    let root = root();
    let copy =
        |place| vec![Ok(vec![put("", place, 1), at("", place), put("", 1, 1), at("", place + 1)])];
    let (gate, gated) = tokio::sync::watch::channel(false);
    let (connected, connects) = std::sync::mpsc::channel();
    let parts = vec![vec![lost()], copy(103)];
    let late = Script { gate: Some((connected, gated)), ..Script::new("feed", &[""], parts) };
    let second = std::thread::spawn({
        let root = root.clone();
        move || run(&root, late, None)
    });
    // It has lost its position, and is about to copy the feed when another has bound its own copy.
    (0..2).for_each(|_| connects.recv().unwrap());
    bind_only(&root, Script::new("feed", &[""], vec![vec![lost()], copy(100)]));
    gate.send(true).unwrap();
    let error = second.join().unwrap().expect("the bound copy is another");
    assert_eq!(error.kind(), ErrorKind::LeaseLost, "{error}");
    assert_eq!(open(&root).state().upper, 0, "nobody has handed over what is bound");
}

#[test]
fn a_feed_that_went_back_is_refused_also_when_its_time_is_over() {
    for times in [Times::WriteAhead, Times::CoCommitted] {
        let back = vec![put("", 1, 1), at("", 3), at("", 2)];
        let script = Script::new("feed", &[""], vec![vec![Ok(back)], vec![Ok(vec![Event::End])]]);
        let attempts =
            AttemptConfig { session_max: Some(Duration::from_nanos(1)), ..Default::default() };
        // For ever is a time, too.
        let idle_commit = Duration::MAX;
        let source = SourceConfig { times, attempts, idle_commit, ..SourceConfig::default() };
        let config = PipelineConfig { source, ..PipelineConfig::default() };
        let error = run_as(&root(), script, config).expect("it went back");
        assert_eq!(error.kind(), ErrorKind::FeedDiffers, "{times:?}: {error}");
    }
}

#[test]
fn a_copy_that_was_bound_and_lost_goes_on_if_it_ends_where_it_did() {
    let root = root();
    let rows = vec![put("", 7, 1), at("", 100), put("", 1, 1), at("", 101)];
    let first = vec![vec![lost()], vec![Ok(rows.clone())]];
    bind_only(&root, Script::new("feed", &[""], first));
    for (place, kind) in [(103, Some(ErrorKind::LeaseLost)), (100, None)] {
        let mut rows = rows.clone();
        (rows[1], rows[3]) = (at("", place), at("", place + 1));
        rows.push(Event::End);
        let parts = vec![vec![lost()], vec![Ok(rows)]];
        let error = run(&root, Script::new("feed", &[""], parts), None);
        assert_eq!(error.map(|e| e.kind()), kind, "{place}");
    }
    assert_eq!(contents(&root), BTreeMap::from([(1, 1), (7, 1)]));
}

/// A unit a millisecond at least, so that each gets a time of its own.
fn units(range: std::ops::Range<u64>) -> Vec<Step> {
    range.map(|n| Ok(vec![put("", n % 7, n), at("", n + 1)])).collect()
}

fn ended(range: std::ops::Range<u64>) -> Script {
    let end = Ok(vec![Event::End]);
    Script::new("feed", &[""], vec![units(range).into_iter().chain([end]).collect()])
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (from, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            std::fs::copy(from, to).unwrap();
        }
    }
}

fn at_path(path: &Path) -> Root {
    Root::open(path.to_str().unwrap(), Access::Write).unwrap()
}

fn verified(root: &Root) -> Result<Verified, Error> {
    let io = differential_upsert::io::Io::process().unwrap();
    io.clone().block_on(verify(root.clone(), io))
}

fn uppers(root: &Root) -> (u64, u64) {
    let io = differential_upsert::io::Io::process().unwrap();
    let upper = |name| {
        let (root, config) = (root.clone(), HandleConfig::default());
        let opened = Handle::open(root, io.clone(), HandleOptions::read(name).with_config(config));
        io.block_on(opened).unwrap().state().upper
    };
    (upper("data"), upper("remap"))
}

/// A backup of two moments. The other way about, what is bound and not there is read again.
#[test]
fn bindings_that_are_behind_the_rows_are_refused_by_all() {
    let dir = tempfile::tempdir().unwrap();
    let (earlier, later) = (dir.path().join("earlier"), dir.path().join("later"));
    assert!(run(&at_path(&later), ended(0..3), None).is_none());
    copy(&later, &earlier);
    assert!(run(&at_path(&later), ended(3..6), None).is_none());
    for (data, remap, sound) in
        [(&earlier, &later, true), (&later, &earlier, false), (&later, &later, true)]
    {
        let mixed = tempfile::tempdir().unwrap();
        for name in ["FORMAT", "INCARNATION"] {
            std::fs::copy(later.join(name), mixed.path().join(name)).unwrap();
        }
        copy(&data.join("data"), &mixed.path().join("data"));
        copy(&remap.join("remap"), &mixed.path().join("remap"));
        let root = at_path(mixed.path());
        let (data, remap) = uppers(&root);
        assert_eq!(data <= remap, sound);
        if sound {
            verified(&root).unwrap();
            let more = if data < remap { 3..9 } else { 6..9 };
            assert!(run(&root, ended(more), None).is_none());
            let expected = (2..9).map(|n| (n % 7, n)).collect();
            assert_eq!(contents(&root), expected);
            continue;
        }
        let standby = || Some(Promotion::default());
        let errors = [
            verified(&root).unwrap_err(),
            run(&root, ended(6..9), None).expect("nobody knows what it has"),
            run(&root, ended(6..9), standby()).expect("nobody knows what it has"),
        ];
        for error in errors {
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
            let said = format!("the upper of data/ is {data}, that of remap/ is {remap}");
            assert!(error.to_string().contains(&said), "{error}");
            assert!(error.to_string().contains("restore both from one copy"), "{error}");
        }
        assert_eq!(uppers(&root).0, data, "nothing is written");
        // All of it gone is the same.
        std::fs::remove_dir_all(mixed.path().join("remap")).unwrap();
        let root = at_path(mixed.path());
        assert_eq!(verified(&root).unwrap_err().kind(), ErrorKind::Corrupt);
        assert_eq!(run(&root, ended(6..9), None).map(|e| e.kind()), Some(ErrorKind::Corrupt));
    }
}

/// A writer at work, which moves both, does not make them look behind.
#[test]
fn verify_takes_no_writer_at_work_for_damage() {
    let root = root();
    let writer = std::thread::spawn({
        let root = root.clone();
        move || run(&root, ended(0..300), None)
    });
    let mut looks = 0;
    while !writer.is_finished() || looks == 0 {
        match verified(&root) {
            Ok(_) => looks += 1,
            // It is not there yet.
            Err(e) => assert_eq!(e.kind(), ErrorKind::Missing, "{e}"),
        }
    }
    assert!(writer.join().unwrap().is_none());
    let (data, remap) = uppers(&root);
    assert!(data > 0 && data == remap);
}

#[test]
fn a_part_of_the_bindings_that_is_lost_is_damage_and_no_lost_lease() {
    let dir = tempfile::tempdir().unwrap();
    let root = at_path(dir.path());
    let io = differential_upsert::io::Io::process().unwrap();
    let opened = || {
        // Every row is a part of its own.
        let config = HandleConfig { inline_bytes_max: 0, ..HandleConfig::default() };
        io.block_on(Shard::open_with(root.clone(), io.clone(), config)).unwrap()
    };
    assert!(run_on(opened(), ended(0..3), PipelineConfig::default()).is_none());
    let parts = dir.path().join("remap/part");
    std::fs::remove_dir_all(&parts).unwrap();
    for standby in [None, Some(Promotion::default())] {
        let config = PipelineConfig { standby, ..PipelineConfig::default() };
        let error = run_on(opened(), ended(3..6), config).expect("a part is lost");
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        let said = error.to_string();
        assert!(said.contains("a part is lost") && said.contains("remap/part/"), "{said}");
    }
}
