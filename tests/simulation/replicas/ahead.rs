//! Goal: what is worked out ahead of its commit is what would have been worked out in its turn, whoever
//! commits in between. Method: scripts of the interleavings that simpler rules got wrong, and that a random
//! run seldom meets.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use differential_upsert::store::{Fault, Faults, Operation, Root};
use differential_upsert::{Command, ErrorKind, PipelineConfig, Promotion};

use crate::feed::{Feed, Row, collection};
use crate::replicas::observer::Rival;
use crate::replicas::seat::Report;
use crate::replicas::stage::{Stage, delete, memory, no_faults, patch, put};

/// One key, another value at each time; so a prior value of the wrong time shows at once.
fn rows() -> Vec<Row> {
    (0..8).map(|time| put(1, time, 0, time)).collect()
}

fn feed() -> Arc<Feed> {
    Arc::new(Feed::new(rows()))
}

/// Opens a writer with room for all that is given here.
fn open(root: &Root, feed: &Arc<Feed>) -> Stage {
    Stage::open_changed(root, feed, 1, |shard, config| (shard, roomy(config)))
}

fn roomy(config: PipelineConfig) -> PipelineConfig {
    PipelineConfig { inflight_bytes_max: 1 << 20, ..config }
}

/// Returns the least output frontier.
fn output(stage: &mut Stage) -> u64 {
    stage.reports().iter().map(|report| report.health.output).min().unwrap()
}

/// Has all of the feed from a time on given, and closed below `closed`.
fn give_from(stage: &mut Stage, feed: &Feed, from: u64, closed: u64) {
    let rows: Vec<Row> = feed.rows.iter().filter(|(_, time)| *time >= from).cloned().collect();
    stage.give(0, &rows);
    stage.close(0, closed);
}

fn finish(stage: Stage, feed: &Arc<Feed>) {
    finish_with(stage, feed, |_| {});
}

/// Runs to the end, and checks what workers say there.
fn finish_with(mut stage: Stage, feed: &Arc<Feed>, check: impl Fn(&[Report])) {
    stage.end(0);
    stage.run();
    stage.assert_ended(feed);
    check(&stage.reports());
}

/// Every time but the first is emitted before any commit.
#[test]
fn it_runs_ahead_of_its_commits() {
    let feed = feed();
    let mut stage = open(&memory(), &feed);
    stage.run();
    give_from(&mut stage, &feed, 0, 6);
    stage.step_deaf(0);
    assert_eq!((output(&mut stage), stage.upper()), (6, 0));
    finish(stage, &feed);
}

/// Each patch folds over one that is emitted and not committed, or that a rival has committed.
#[test]
fn patches_fold_over_what_is_not_committed() {
    let first = [put(1, 1, 0, 0), patch(2, 3, 0, 0)];
    let rest = (1..8).flat_map(|time| [patch(1, time, 0, time), patch(2, time, 1, time)]);
    let feed = Arc::new(Feed::new(first.into_iter().chain(rest).collect()));
    for rivals in [0, 3] {
        let root = memory();
        let mut stage = open(&root, &feed);
        stage.run();
        give_from(&mut stage, &feed, 0, 6);
        stage.step_deaf(0);
        assert_eq!((output(&mut stage), stage.upper()), (6, 0));
        Rival::new(&root, Arc::clone(&feed)).append_to(rivals);
        finish(stage, &feed);
    }
}

/// The pipeline is at 1; a rival commits [1, 3), the program reads upper 3 and goes on from there, and the
/// operator has not heard of 3. What it has of key 1 is the value as of 1.
#[test]
fn a_late_resume_waits_for_its_turn() {
    let (root, feed) = (memory(), feed());
    let rival = Rival::new(&root, Arc::clone(&feed));
    rival.append_to(1);
    let kept = Mutex::new(None);
    let mut stage = Stage::open_changed(&root, &feed, 1, |shard, config| {
        *kept.lock().unwrap() = Some(shard.clone());
        (shard, roomy(config))
    });
    let shard = kept.into_inner().unwrap().unwrap();
    stage.run_blind(&[0]);
    rival.append_to(3);
    stage.runtime.as_ref().unwrap().block_on(shard.handle().refresh()).unwrap();
    assert_eq!(shard.upper(), 3);
    give_from(&mut stage, &feed, 3, 6);
    stage.step_deaf(0);
    stage.run();
    assert_eq!(stage.upper(), 6);
    finish(stage, &feed);
}

/// A rival has committed the next time, and this process knows it before its operator does. The operator still
/// gets the commands of that time, or it would go on from the state before them.
#[test]
fn commands_of_what_only_the_process_knows_of_reach_the_operator() {
    let (root, feed) = (memory(), feed());
    let rival = Rival::new(&root, Arc::clone(&feed));
    let kept = Mutex::new(None);
    let mut stage = Stage::open_changed(&root, &feed, 1, |shard, config| {
        *kept.lock().unwrap() = Some(shard.clone());
        (shard, roomy(config))
    });
    let shard = kept.into_inner().unwrap().unwrap();
    stage.run();
    stage.give(0, &feed.rows[..5]);
    stage.close(0, 5);
    stage.run();
    assert_eq!(stage.upper(), 5);
    stage.run_blind(&[0]);
    rival.append_to(6);
    stage.runtime.as_ref().unwrap().block_on(shard.handle().refresh()).unwrap();
    assert_eq!(shard.state().upper, 6);
    give_from(&mut stage, &feed, 5, 7);
    stage.step_deaf(0);
    stage.run();
    assert_eq!(stage.upper(), 7);
    finish(stage, &feed);
}

/// A rival is faster by some of what was emitted ahead: the rest is kept, for the feed is the same.
#[test]
fn what_a_rival_has_not_taken_of_a_run_is_kept() {
    let (root, feed) = (memory(), feed());
    let rival = Rival::new(&root, Arc::clone(&feed));
    let mut stage = open(&root, &feed);
    stage.run();
    give_from(&mut stage, &feed, 0, 6);
    stage.step_deaf(0);
    rival.append_to(3);
    stage.run();
    assert_eq!(stage.upper(), 6);
    let totals = stage.reports()[0].totals;
    assert_eq!((totals.lost, totals.losses > 0), (3, true), "{totals:?}");
    finish(stage, &feed);
}

/// A rival goes past all that was emitted ahead. What it did there is read before anything more is emitted.
#[test]
fn a_rival_that_goes_past_what_was_emitted_is_read_first() {
    let (root, feed) = (memory(), feed());
    let rival = Rival::new(&root, Arc::clone(&feed));
    let mut stage = open(&root, &feed);
    stage.run();
    give_from(&mut stage, &feed, 0, 3);
    stage.step_deaf(0);
    assert_eq!(output(&mut stage), 3);
    rival.append_to(5);
    stage.close(0, 7);
    stage.run();
    assert_eq!(stage.upper(), 7);
    finish(stage, &feed);
}

/// A rival with another feed is faster by some of it: nothing of the rest is appended.
#[test]
fn the_rest_of_a_run_does_not_follow_on_another_feed() {
    let (root, feed) = (memory(), feed());
    let mut others = rows();
    others[2].0 = Command::put(2, 9, 0);
    let other = Arc::new(Feed::new(others));
    let mut stage = open(&root, &other);
    stage.run();
    give_from(&mut stage, &feed, 0, 6);
    stage.step_deaf(0);
    Rival::new(&root, Arc::clone(&other)).append_to(4);
    stage.run();
    assert_eq!(stage.upper(), 4, "the rest was worked out from another feed");
    let error = stage.reports()[0].error.clone().expect("another feed");
    assert_eq!(error.kind(), ErrorKind::FeedDiffers, "{error}");
}

/// Nothing proves of an unchecked feed that others emit the same.
#[test]
fn an_unchecked_feed_takes_its_turn() {
    let feed = feed();
    for (checked, ahead) in [(false, true), (true, false)] {
        let mut stage = Stage::open_changed(&memory(), &feed, 1, |shard, config| {
            (shard, PipelineConfig { checked, ahead, ..roomy(config) })
        });
        stage.run();
        give_from(&mut stage, &feed, 0, 6);
        stage.step_deaf(0);
        assert_eq!(output(&mut stage), 1, "checked {checked}, ahead {ahead}");
    }
}

/// A reset deletes what the state has, so it waits for its turn, and what follows waits for it.
#[test]
fn a_reset_holds_a_run_up() {
    for reset in [Command::reset(5), Command::reset_of(collection(&1).to_string(), 5)] {
        let mut rows = rows();
        rows.push(put(2, 1, 0, 1));
        rows.push((reset, 3));
        rows.push(delete(1, 0, 4));
        rows.push(put(2, 2, 0, 5));
        let feed = Arc::new(Feed::new(rows));
        let mut stage = open(&memory(), &feed);
        stage.run();
        give_from(&mut stage, &feed, 0, 7);
        stage.step_deaf(0);
        assert_eq!(output(&mut stage), 3);
        stage.run();
        assert_eq!(stage.upper(), 7);
        finish(stage, &feed);
    }
}

/// Worker 0's process learns from its lost append of a rival's commit that the process of worker 1 has not read, and names an interval
/// above it. What worker 1 has emitted below that has lost, whenever it hears of it.
#[test]
fn what_lies_below_an_interval_of_another_process_has_lost() {
    let rows = (0..4).flat_map(|time| (0..16).map(move |key| put(key, time, 0, time)));
    let (root, feed) = (memory(), Arc::new(Feed::new(rows.collect())));
    let rival = Rival::new(&root, Arc::clone(&feed));
    let deaf = Arc::new(AtomicBool::new(false));
    let hangs = Arc::clone(&deaf);
    let faults = Faults::new(move |action| match action.operation {
        Operation::GetEntry if hangs.load(Ordering::Relaxed) => Fault::Hang,
        _ => Fault::None,
    });
    let config = roomy(PipelineConfig::default());
    let mut stage = Stage::cluster(&root, &feed, &[no_faults(), Arc::clone(&faults)], &config);
    stage.give(0, &feed.rows);
    (0..2).for_each(|worker| stage.close(worker, 1));
    stage.run();
    deaf.store(true, Ordering::Relaxed);
    // Time 1 is on its way into the log, and the others are emitted ahead of it.
    for closed in [2, 4] {
        (0..2).for_each(|worker| stage.close(worker, closed));
        (0..4).for_each(|round| stage.step_deaf(round % 2));
    }
    rival.append_to(3);
    stage.run_blind(&[0, 1]);
    assert_eq!(stage.upper(), 4);
    deaf.store(false, Ordering::Relaxed);
    faults.let_go();
    stage.end(1);
    finish_with(stage, &feed, |reports| {
        let flight: Vec<usize> = reports.iter().map(|report| report.inflight_bytes).collect();
        assert_eq!(flight, [0, 0], "bytes in flight of what has lost");
        let t = reports[0].totals;
        assert_eq!((t.lost, t.inserted, t.updated), (32, 16, 16), "{t:?}");
    });
}

/// A standby's operator has begun a large time ahead of its turn and waits for room; meanwhile what came before is
/// read back, and waits for the drain. It does not go round and round until there is room.
#[test]
fn a_drain_that_waits_for_room_rests() {
    let keys = |time| if time == 0 { 0..8 } else { 0..64 };
    let rows = (0..2).flat_map(|time| keys(time).map(move |key| put(key, time, 0, time)));
    let (root, feed) = (memory(), Arc::new(Feed::new(rows.collect())));
    let rival = Rival::new(&root, Arc::clone(&feed));
    let promotion = Promotion::default();
    let standby = Some(promotion.clone());
    let mut stage = Stage::open_changed(&root, &feed, 2, |shard, config| {
        let (inflight_bytes_max, drain_rows_max) = (4 << 10, 2);
        (shard, PipelineConfig { standby, inflight_bytes_max, drain_rows_max, ..config })
    });
    stage.run();
    give_from(&mut stage, &feed, 0, 2);
    stage.close(1, 2);
    stage.run();
    rival.append_to(1);
    stage.run();
    for worker in [0, 1] {
        stage.step_deaf(worker);
        let report = stage.crew().report(worker);
        assert!(report.inflight_bytes >= 4 << 10 && report.health.output == 1, "{report:?}");
        assert!(stage.crew().rests(worker), "worker {worker} wakes itself while it waits for room");
    }
    promotion.promote();
    stage.end(1);
    finish(stage, &feed);
}
