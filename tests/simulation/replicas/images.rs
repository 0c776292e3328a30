//! Goal: starts on an image of the state are like any other, whatever goes on meanwhile: races, fencing, promotions,
//! compaction, crashes; and a stop leaves an image of all that was committed. Method: the random runs of [`world`](super::world) with
//! states in a directory, two chunks of them in memory, and scripts that are broken off after each small step.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use differential_upsert::PipelineConfig;
use differential_upsert::health::HealthState;
use differential_upsert::store::{Fault, Faults, Operation, Root};

use crate::feed::Feed;
use crate::random::for_seeds;
use crate::replicas::observer::Rival;
use crate::replicas::replica::WARM;
use crate::replicas::stage::{Stage, delete, memory, no_faults, put};
use crate::replicas::world::World;

const KEYS: u64 = 60;
const END: u64 = 9;

#[test]
fn every_run_on_images_is_safe_and_gets_there() {
    let (mut seeds, mut warm_starts) = (0, 0);
    for_seeds("SIM", 120, |seed| {
        warm_starts += World::on_images(seed).run().warm_starts;
        seeds += 1;
    });
    assert!(warm_starts >= seeds / 2 || seeds < 50, "{warm_starts} warm starts in {seeds} runs");
}

#[test]
fn the_same_seed_on_images_leaves_the_same_bytes() {
    for_seeds("SIM", 15, |seed| {
        let (one, two) = (World::on_images(seed).run(), World::on_images(seed).run());
        assert!(one == two, "seed {seed} left other bytes the second time");
    });
}

/// Every key at each time, with another value or gone.
fn feed() -> Arc<Feed> {
    let row = |time: u64, key: u64| match (time + key) % 5 {
        0 => delete(key, 0, time),
        _ => put(key, (3 * key + 7 * time) % 100, 0, time),
    };
    let rows = (0..END).flat_map(|time| (0..KEYS).map(move |key| row(time, key)));
    Arc::new(Feed::new(rows.collect()))
}

fn open(root: &Root, feed: &Arc<Feed>, peers: usize, state: &Path, faults: Arc<Faults>) -> Stage {
    let patience = Duration::from_millis(200);
    Stage::open_as(root, feed, peers, false, (faults, patience), |_, shard, config| {
        let state_dir = Some(state.to_path_buf());
        let small = PipelineConfig { state_bytes_max: Some(0), collection: false, ..config };
        (shard, PipelineConfig { state_dir, ..small })
    })
}

/// Gives all of the feed from a time on, and closes it up to another.
fn give(stage: &mut Stage, feed: &Feed, from: u64, closed: u64) {
    let rows: Vec<_> = feed.rows.iter().filter(|row| row.1 >= from).cloned().collect();
    stage.give(0, &rows);
    (0..stage.peers).for_each(|worker| stage.close(worker, closed));
}

/// Stops it, with the I/O behind the workers, and returns where the images are.
fn stop(stage: &mut Stage) -> Vec<Option<u64>> {
    stage.crew().drop_token(0);
    (0..stage.peers).for_each(|worker| stage.end(worker));
    for _ in 0..200 {
        for worker in 0..stage.peers {
            (0..8).for_each(|_| stage.crew().step(worker));
        }
        stage.tick(stage.peers);
    }
    stage.run();
    stage.reports().iter().for_each(|report| assert!(report.done && report.error.is_none()));
    stage.reports().iter().map(|report| report.image).collect()
}

fn is_warm(stage: &mut Stage) -> bool {
    let begins = |report: crate::replicas::seat::Report| report.state_start.unwrap_or_default();
    stage.reports().into_iter().map(begins).all(|start| start.starts_with(WARM))
}

/// A shard with all below 3, and images of that.
fn at_three(root: &Root, feed: &Arc<Feed>, peers: usize, state: &Path) {
    Rival::new(root, Arc::clone(feed)).append_to(1);
    let mut stage = open(root, feed, peers, state, no_faults());
    give(&mut stage, feed, 0, 3);
    stage.run();
    assert_eq!(stop(&mut stage), vec![Some(3); peers]);
}

fn finish(mut stage: Stage, feed: &Arc<Feed>) {
    give(&mut stage, feed, 0, END);
    (0..stage.peers).for_each(|worker| stage.end(worker));
    stage.run();
    stage.assert_ended(feed);
}

/// However far what was committed had been read back as the stop came.
#[test]
fn a_stop_leaves_an_image_of_all_that_was_committed() {
    let (feed, mut early) = (feed(), 0);
    for ticks in (0..400).step_by(8) {
        for peers in [1, 2] {
            let (root, dir) = (memory(), tempfile::tempdir().unwrap());
            at_three(&root, &feed, peers, dir.path());
            let mut stage = open(&root, &feed, peers, dir.path(), no_faults());
            stage.run();
            give(&mut stage, &feed, 3, 8);
            (0..ticks).for_each(|n| stage.tick(n));
            let images = stop(&mut stage);
            let upper = stage.upper();
            assert_eq!(images, vec![Some(upper); peers], "{ticks} ticks, {peers} workers");
            early += u32::from(upper < 8);
        }
    }
    assert!(early > 5, "{early} stops came before all was committed");
}

/// Another writer goes on from 3, in a part for each time.
fn others_go_on(root: &Root, feed: &Arc<Feed>, upper: u64) {
    let mut other = Stage::open(root, feed, 1, false, no_faults());
    give(&mut other, feed, 3, 3);
    for time in 4..=upper {
        other.close(0, time);
        other.run();
    }
    assert_eq!(other.upper(), upper);
}

/// Has the parts that are read after so many hang.
fn hang_after(reads_max: &Arc<AtomicU64>) -> Arc<Faults> {
    let (reads_max, reads) = (Arc::clone(reads_max), AtomicU64::new(0));
    Faults::new(move |action| {
        let is_read = action.operation == Operation::Get && action.key.contains("/part/");
        match is_read && reads.fetch_add(1, Ordering::Relaxed) >= reads_max.load(Ordering::Relaxed)
        {
            true => Fault::Hang,
            false => Fault::None,
        }
    })
}

fn hydrates(stage: &mut Stage) -> bool {
    stage.reports().iter().any(|report| report.health.state == HealthState::Hydrating)
}

/// Another writer has gone on since the image. A start that catches up is killed after each part, and after some small steps, its
/// rows half in the file: the next one is on the same image.
#[test]
fn a_start_that_is_killed_as_it_catches_up_leaves_its_image() {
    let (feed, mut cut_off) = (feed(), 0);
    for peers in [1, 2] {
        let parts = (0..4).map(|reads_max| (reads_max, None));
        let steps = (0..240).step_by(16).map(|ticks| (u64::MAX, Some(ticks)));
        for (reads_max, ticks) in parts.chain(steps) {
            let scene = format!("{peers} workers, {reads_max} reads, {ticks:?} ticks");
            let (root, dir) = (memory(), tempfile::tempdir().unwrap());
            at_three(&root, &feed, peers, dir.path());
            others_go_on(&root, &feed, 6);
            let faults = hang_after(&Arc::new(AtomicU64::new(reads_max)));
            let mut stage = open(&root, &feed, peers, dir.path(), faults);
            give(&mut stage, &feed, 0, 6);
            match ticks {
                Some(ticks) => (0..ticks).for_each(|n| stage.tick(n)),
                None => stage.run_blind(&[0, 1][..peers]),
            }
            cut_off += u32::from(is_warm(&mut stage) && hydrates(&mut stage));
            drop(stage);
            let mut next = open(&root, &feed, peers, dir.path(), no_faults());
            next.run();
            assert!(is_warm(&mut next), "{scene}: {:?}", next.reports());
            finish(next, &feed);
        }
    }
    assert!(cut_off >= 6, "{cut_off} were killed as they caught up");
}

/// With an image it has the state of then; it is hydrated once it has read what came since, and not before.
#[test]
fn a_start_on_an_image_hydrates_until_it_has_read_what_came_since() {
    let (root, feed, dir) = (memory(), feed(), tempfile::tempdir().unwrap());
    at_three(&root, &feed, 1, dir.path());
    others_go_on(&root, &feed, 6);
    let reads_max = Arc::new(AtomicU64::new(0));
    let faults = hang_after(&reads_max);
    let mut stage = open(&root, &feed, 1, dir.path(), Arc::clone(&faults));
    stage.run_blind(&[0]);
    assert!(is_warm(&mut stage) && hydrates(&mut stage), "{:?}", stage.reports());
    reads_max.store(u64::MAX, Ordering::Relaxed);
    faults.let_go();
    stage.run_blind(&[0]);
    assert!(!hydrates(&mut stage), "{:?}", stage.reports());
    finish(stage, &feed);
}
