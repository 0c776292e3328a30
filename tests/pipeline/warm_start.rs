//! Goal: a start on a directory for state reads only what the shard has gained since its image, and comes to the same
//! collection; whatever is wrong with the image is said in one line, and never trusted. Method: runs of a pipeline one after
//! another on a shard in a directory, against a map; what a run reads is counted by the shard's handle.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use differential_upsert::shard::{Append, Appended, Handle, Sum};
use differential_upsert::{Command, Error, ErrorKind, PipelineConfig, Shard, UpsertInto};
use timely::dataflow::operators::Input;

const ROUNDS_MAX: usize = 20_000;
const KEYS: u64 = 5_000;

/// Keys whose value grows by a letter at each time.
const PATCHED: u64 = 3;

/// What is commanded at a time: all keys at first, then a few of them, of other lengths or gone, and some that are patched.
fn commands(time: u64) -> Vec<Command<u64, String, u64>> {
    let mut random = fastrand::Rng::with_seed(time);
    let count = if time == 0 { KEYS } else { 50 };
    let commands = (0..count).map(|order| {
        let key = if time == 0 { order } else { random.u64(..KEYS) };
        match random.u32(..5) {
            0 => Command::delete(key, order),
            _ => Command::put(key, "value".repeat(random.usize(..40)), order),
        }
    });
    let patched = (KEYS..KEYS + PATCHED).map(|key| match time {
        0 => Command::put(key, String::new(), key),
        _ => Command::patch(key, "x".to_string(), key),
    });
    commands.chain(patched).collect()
}

/// The shard in a directory, as each run opens it.
fn opened(shard: &Path) -> Shard<u64, String> {
    let shard = Shard::open(shard.to_str().unwrap()).unwrap();
    shard.with_fold("append", |value, more| Ok(value + &more))
}

fn expected(times: u64) -> BTreeMap<u64, String> {
    let mut map = BTreeMap::new();
    for command in (0..times).flat_map(commands) {
        match command {
            Command::Put { key, value, .. } => drop(map.insert(key, value)),
            Command::Patch { key, patch, .. } => map.entry(key).or_default().push_str(&patch),
            Command::Delete { key, .. } => drop(map.remove(&key)),
            other => panic!("{other:?}"),
        }
    }
    map
}

/// How a run ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    /// Its input ends.
    Done,
    /// Its token is dropped once all is committed, and more could come.
    Stop,
}

/// What a run did.
#[derive(Debug)]
struct Ran {
    starts: Vec<String>,
    bytes_read: u64,
    /// The uppers of the images at the end.
    images: Vec<Option<u64>>,
}

/// Runs a pipeline from what the shard has on to an upper, which it comes to.
fn run(
    shard: &Path,
    state: impl Into<Option<PathBuf>>,
    workers: usize,
    upper: u64,
    end: End,
) -> Ran {
    let (ran, error) = run_or_fail(opened(shard), state.into(), workers, upper, end);
    assert!(error.is_none(), "{error:?}");
    check(shard, upper);
    ran
}

/// Checks what a shard has in the end.
fn check(shard: &Path, upper: u64) {
    let shard = opened(shard);
    assert_eq!(shard.upper(), upper);
    let rows = shard.io().block_on(shard.snapshot(upper - 1)).unwrap();
    let contents: BTreeMap<_, _> =
        rows.into_iter().map(|(key, value)| (key, value.unwrap())).collect();
    assert_eq!(contents, expected(upper), "the contents are those of the commands");
}

/// Runs a pipeline from what a handle of the shard has on to an upper, or until it fails.
fn run_or_fail(
    shard: Shard<u64, String>,
    state: Option<PathBuf>,
    workers: usize,
    upper: u64,
    end: End,
) -> (Ran, Option<Error>) {
    let from = shard.upper();
    let config = PipelineConfig {
        state_dir: state,
        collection: false,
        state_bytes_max: Some(200_000),
        ..PipelineConfig::default()
    };
    let handle = shard.clone();
    let run = timely::execute(timely::Config::process(workers), move |worker| {
        let (index, shard) = (worker.index(), shard.clone());
        let (mut input, stats, token, health) = worker.dataflow(|scope| {
            let (input, commands) = scope.new_input();
            let pipeline = commands.upsert_into(&shard, config.clone());
            (input, pipeline.stats, pipeline.token, pipeline.health)
        });
        input.advance_to(from);
        for time in from..upper {
            if index == 0 {
                commands(time).into_iter().for_each(|command| input.send((command, time)));
            }
            input.advance_to(time + 1);
        }
        let mut input = Some(input);
        if end == End::Done {
            drop(input.take());
        }
        let mut token = Some(token);
        let mut rounds = 0;
        while worker.has_dataflows() && rounds < ROUNDS_MAX {
            worker.step_or_park(Some(Duration::from_millis(1)));
            rounds += 1;
            // Whether or not it has read all of that back.
            let is_committed = shard.state().upper >= upper;
            if end == End::Stop && is_committed && input.take().is_some() {
                drop(token.take());
            }
            if health.error().is_some() {
                drop((input.take(), token.take()));
            }
        }
        let start = stats.state_start().unwrap_or_default().to_string();
        (start, stats.image().map(|image| image.upper), rounds, health.error())
    });
    let mut ran = Ran { starts: Vec::new(), bytes_read: 0, images: Vec::new() };
    let mut failed = None;
    for outcome in run.unwrap().join() {
        let (start, image, rounds, error) = outcome.unwrap();
        assert!(rounds < ROUNDS_MAX, "it ends: {start}");
        ran.starts.push(start);
        ran.images.push(image);
        failed = failed.or(error);
    }
    ran.bytes_read = handle.handle().counters().bytes_read;
    (ran, failed)
}

#[test]
fn a_start_reads_what_the_shard_has_gained() {
    for (workers, end) in [(1, End::Done), (2, End::Done), (1, End::Stop), (2, End::Stop)] {
        let dir = tempfile::tempdir().unwrap();
        let (shard, state) = (dir.path().join("shard"), dir.path().join("state"));
        let first = run(&shard, state.clone(), workers, 10, end);
        for start in &first.starts {
            assert_eq!(start, "state: reads the shard; it has no image");
        }
        assert_eq!(first.images, vec![Some(10); workers], "{end:?}");
        for upper in [11, 20, 21] {
            let next = run(&shard, state.clone(), workers, upper, end);
            for start in &next.starts {
                assert!(start.starts_with("state: begins with its image"), "{end:?} {start}");
            }
            assert!(next.bytes_read * 5 < first.bytes_read.max(500_000), "{next:?}, {first:?}");
            assert_eq!(next.images, vec![Some(upper); workers]);
        }
    }
}

/// A handle that was opened long before the image was made: the contents are those of the commands, patches too.
///
/// What it leaves open is whether a start drains times that the shard has by then. What is worked out at one of them loses
/// its race, and what follows is right all the same where the state is of one upper, as the image that a run ends with is.
/// Only the segments of a round have several, and that takes commits between its wake-ups, so more than the four segments
/// of one: 28,672 keys, and an end without a last image. What keeps such a start right is that its message and the upper's
/// are one.
#[test]
fn an_image_newer_than_the_handle_is_begun_with() {
    for workers in [1, 2] {
        let dir = tempfile::tempdir().unwrap();
        let (shard, state) = (dir.path().join("shard"), dir.path().join("state"));
        run(&shard, state.clone(), workers, 10, End::Done);
        let early = opened(&shard);
        run(&shard, state.clone(), workers, 12, End::Done);
        // Its state has no image of this.
        run(&shard, None, workers, 20, End::Done);
        let (ran, error) = run_or_fail(early, Some(state), workers, 26, End::Done);
        assert!(error.is_none(), "{error:?}");
        check(&shard, 26);
        for start in ran.starts {
            assert!(start.starts_with("state: begins with its image"), "{start}");
        }
    }
}

/// What the shard has gained since the image comes into the state of an operator that has nothing else to do: its wake-ups bring
/// themselves about, for far more segments than one of them reads.
#[test]
fn what_came_since_the_image_comes_in_without_commands() {
    const KEYS: u64 = 80_000;
    const SINCE: u64 = 2_000;
    let dir = tempfile::tempdir().unwrap();
    let (shard, state) = (dir.path().join("shard"), dir.path().join("state"));
    // Puts keys at a time, or waits until so many are in the state.
    let run = |state: Option<PathBuf>, (from, upper): (u64, u64), keys: std::ops::Range<u64>| {
        let shard = opened(&shard);
        let config =
            PipelineConfig { state_dir: state, collection: false, ..PipelineConfig::default() };
        timely::execute_directly(move |worker| {
            let (mut input, stats, token) = worker.dataflow(|scope| {
                let (input, commands) = scope.new_input();
                let pipeline = commands.upsert_into(&shard, config);
                (input, pipeline.stats, pipeline.token)
            });
            input.advance_to(from);
            for key in keys.clone() {
                input.send((Command::put(key, "value".to_string(), key), from));
            }
            input.advance_to(upper);
            let mut rounds = 0;
            while stats.state_keys() < keys.end as usize || shard.state().upper < upper {
                worker.step_or_park(Some(Duration::from_millis(1)));
                rounds += 1;
                assert!(rounds < ROUNDS_MAX, "{} of {} keys", stats.state_keys(), keys.end);
            }
            let start = stats.state_start().unwrap_or_default().to_string();
            drop((input, token));
            start
        })
    };
    run(Some(state.clone()), (0, 1), 0..KEYS);
    // Its state has no image of these.
    run(None, (1, 2), KEYS..KEYS + SINCE);
    let start = run(Some(state), (2, 2), KEYS + SINCE..KEYS + SINCE);
    assert!(start.starts_with("state: begins with its image"), "{start}");
}

/// What is not to be believed is told in one line, and the contents are those of the shard.
#[test]
fn an_image_that_does_not_fit_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let [shard, other, state] = ["shard", "other", "state"].map(|name| dir.path().join(name));
    let start = |shard: &Path, workers, upper, is: &str| {
        let ran = run(shard, state.clone(), workers, upper, End::Done);
        // The first worker removes the folders of another number of them: others may come too late to see those.
        assert!(ran.starts[0].contains(is), "{is}: {:?}", ran.starts);
    };
    start(&shard, 1, 10, "it has no image");
    start(&shard, 1, 11, "begins with its image");
    // Another writer goes on, and the shard forgets what was between.
    run(&shard, None, 1, 20, End::Done);
    let other_handle = opened(&shard);
    other_handle.io().block_on(other_handle.tidy(Duration::from_secs(60)));
    drop(other_handle);
    start(&shard, 1, 21, "its image is stale: the shard's history from 11 on is merged away");
    start(&shard, 1, 22, "begins with its image");
    start(&other, 1, 10, "its image is foreign: of another shard");
    start(&other, 2, 11, "its image is foreign: of another number of workers");
    start(&other, 2, 12, "begins with its image");
    let manifest = state.join("worker-0-of-2").join("image");
    let whole = std::fs::read(&manifest).unwrap();
    std::fs::write(&manifest, &whole[..whole.len() / 2]).unwrap();
    run(&other, state.clone(), 2, 13, End::Done);
    std::fs::remove_dir_all(&state).unwrap();
    start(&other, 2, 14, "it has no image");
}

/// Rows of the shard that are not a collection are found by the piece of the image that a drain reads: nothing of the drain is
/// committed. The image may be to blame, so the next start is on the shard.
///
/// Several times: the piece may also be read beside the work, before the drain begins.
#[test]
fn nothing_is_written_over_a_damaged_shard() {
    (0..8).for_each(|_| nothing_is_written_over_damage());
}

fn nothing_is_written_over_damage() {
    let dir = tempfile::tempdir().unwrap();
    let (shard, state) = (dir.path().join("shard"), dir.path().join("state"));
    run(&shard, state.clone(), 1, 10, End::Done);
    let damaged = opened(&shard);
    let append = async |handle: &Handle| {
        let rows = handle.snapshot(9).await?;
        let ((key, value), ..) = &rows[0];
        let other = rows.iter().map(|((_, other), ..)| other).find(|other| *other != value);
        // A retraction of what the key never had.
        let row = ((key.clone(), other.unwrap().clone()), 10, -1);
        let parts = handle.prepare(vec![row]).await?;
        // An append with rows has the sum of a command at least.
        let base = handle.state().sum();
        let sum = base.map(|sum| Sum { rows: sum.rows + 1, ..sum });
        let at = Append { lower: 10, upper: 11, base, sum, ..Append::default() };
        handle.compare_and_append(Append { parts, ..at }).await
    };
    let appended = damaged.io().block_on(append(damaged.handle())).unwrap();
    assert!(matches!(appended, Appended::Won { .. }), "{appended:?}");
    drop(damaged);
    for (start, kind) in [
        ("begins with its image", ErrorKind::StateLost),
        ("reads the shard; it has no image", ErrorKind::Corrupt),
    ] {
        let (ran, error) = run_or_fail(opened(&shard), Some(state.clone()), 1, 12, End::Done);
        assert!(ran.starts[0].contains(start), "{start}: {:?}", ran.starts);
        let error = error.expect("it is found");
        assert_eq!(error.kind(), kind, "{start}: {error}");
        assert_eq!(opened(&shard).upper(), 11, "{start}");
    }
}

/// Bytes of an image are flipped, one at a run. Whether that is found as it begins or as they are read, a start that goes on from
/// there has no image, and comes to the contents; the next one is on an image again.
#[test]
fn a_flipped_byte_costs_one_start() {
    const RUNS: usize = 80;
    let dir = tempfile::tempdir().unwrap();
    let (shard, state) = (dir.path().join("shard"), dir.path().join("state"));
    let folder = state.join("worker-0-of-1");
    let mut upper = 3;
    run(&shard, state.clone(), 1, upper, End::Done);
    let mut found_late = 0;
    for kind in ["image", "pieces-", "rows"] {
        for part in 0..RUNS {
            let names = folder.read_dir().unwrap().map(|entry| entry.unwrap().file_name());
            let mut names = names.map(|name| name.into_string().unwrap());
            let path = folder.join(names.find(|name| name.starts_with(kind)).unwrap());
            let mut bytes = std::fs::read(&path).unwrap();
            let at = bytes.len() * part / RUNS + part % 5;
            let Some(byte) = bytes.get_mut(at) else { continue };
            *byte ^= 1 << (part % 8);
            std::fs::write(&path, bytes).unwrap();
            upper += 1;
            let what = format!("byte {at} of {kind}");
            let (ran, error) =
                run_or_fail(opened(&shard), Some(state.clone()), 1, upper, End::Done);
            let was_refused = !ran.starts[0].starts_with("state: begins with its image");
            assert_eq!(was_refused, kind == "image", "{what}: {}", ran.starts[0]);
            if let Some(error) = error {
                assert_eq!(error.kind(), ErrorKind::StateLost, "{what}: {error}");
                let ran = run(&shard, state.clone(), 1, upper, End::Done);
                assert_eq!(ran.starts, ["state: reads the shard; it has no image"], "{what}");
                found_late += 1;
            }
            check(&shard, upper);
        }
    }
    assert!(found_late > RUNS / 2, "{found_late} were found as they were read");
}
