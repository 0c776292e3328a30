//! Goal: when one worker of two fails or is stopped in the middle of a time, nothing at or above that
//! time is ever appended; and a stop on one worker stops all, whole. Method: the same scene, broken
//! off after every small step.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use differential_upsert::store::{Fault, Faults, Operation, Report as Reply};
use differential_upsert::{ErrorKind, PipelineConfig};

use tokio::runtime::Runtime;

use crate::feed::{Feed, Row};
use crate::replicas::observer::Rival;
use crate::replicas::seat::Told;
use crate::replicas::stage::{Stage, memory, no_faults, put};

const KEYS: u64 = 12;

/// Every key at each of the times 0 to 4, so that each worker has rows of every time.
fn feed() -> Arc<Feed> {
    let row = |time: u64| (0..KEYS).map(move |key| put(key, 1 + (key + time) % 7, 0, time));
    Arc::new(Feed::new((0..5).flat_map(row).collect()))
}

fn at(feed: &Feed, time: u64) -> Vec<Row> {
    feed.rows.iter().filter(|row| row.1 == time).cloned().collect()
}

/// Worker 0 has given and closed everything, worker 1 has given half of time 2 and closes it never.
fn half_way(feed: &Arc<Feed>) -> Stage {
    let mut stage = Stage::open(&memory(), feed, 2, false, no_faults());
    for time in 0..5 {
        let rows = at(feed, time);
        let (one, two) = rows.split_at(rows.len() / 2);
        stage.give(0, one);
        if time < 2 {
            stage.give(1, two);
        } else if time == 2 {
            stage.give(1, &two[..two.len() / 2]);
        }
    }
    stage.close(1, 2);
    stage.close(0, 5);
    stage
}

#[test]
fn a_worker_that_is_gone_in_the_middle_of_a_time_lets_nothing_pass() {
    let feed = feed();
    for ticks in 0..60 {
        // Stopped, and its input dropped or not; unwound; or never heard of again.
        for how in 0..4 {
            let mut stage = half_way(&feed);
            (0..ticks).for_each(|n| stage.tick(n));
            match how {
                0 => stage.crew().drop_token(1),
                1 => {
                    stage.crew().drop_token(1);
                    stage.end(1);
                }
                2 => stage.crew().panic(1),
                _ => {}
            }
            stage.end(0);
            stage.run_only(if how < 2 { &[0, 1] } else { &[0] });
            let upper = stage.upper();
            assert!(upper <= 2, "{ticks} ticks, way {how}: time 2 was open, upper {upper}");
            if how < 2 {
                stage.end(1);
                stage.run();
                assert!(stage.reports().iter().all(|r| r.done && !r.ended), "{ticks}, {how}");
            }
            stage.rerun(&feed);
        }
    }
}

#[test]
fn a_stop_on_one_worker_stops_all_and_tears_nothing() {
    let feed = feed();
    let mut stopped_early = 0;
    for ticks in 0..80 {
        for (stopper, from_source) in [(0, false), (1, false), (0, true), (1, true)] {
            let mut stage = Stage::open(&memory(), &feed, 2, from_source, no_faults());
            for time in 0..5 {
                stage.give(0, &at(&feed, time));
            }
            let inputs = if from_source { 1 } else { 2 };
            // The last time stays open.
            (0..inputs).for_each(|worker| stage.close(worker, 4));
            (0..ticks).for_each(|n| stage.tick(n));
            stage.crew().drop_token(stopper);
            // The other one may hear of it all at once.
            if ticks % 2 == 0 {
                stage.tick(0);
                stage.tick(1);
                stage.run_only(&[0]);
            }
            stage.run();
            (0..2).for_each(|worker| stage.end(worker));
            stage.run();
            let upper = stage.upper();
            assert!(upper <= 4, "the last time was open");
            stopped_early += u64::from(upper < 4);
            for (worker, report) in stage.reports().iter().enumerate() {
                let scene = format!("{ticks} ticks, {stopper} stops, worker {worker}: {report:?}");
                assert!(report.done, "not released: {scene}");
                assert!(!report.ended, "a stop is not an end: {scene}");
                assert!(report.error.is_none(), "a stop is not an error: {scene}");
            }
            stage.rerun(&feed);
        }
    }
    assert!(stopped_early > 100, "too few stops came before the end: {stopped_early}");
}

#[test]
fn a_worker_that_cannot_write_its_rows_lets_nothing_pass() {
    let feed = feed();
    for (from_source, ahead) in [(false, false), (true, false), (false, true), (true, true)] {
        for first in 1..12 {
            // From some upload on, this one part never gets there; others do.
            let puts = Arc::new(AtomicU64::new(0));
            let seen = Arc::clone(&puts);
            let bad = Arc::new(std::sync::Mutex::new(None::<String>));
            let faults = Faults::new(move |action| {
                if action.operation != Operation::Put || !action.key.contains("/part/") {
                    return Fault::None;
                }
                let mut bad = bad.lock().unwrap();
                if bad.is_none() && seen.fetch_add(1, Ordering::Relaxed) + 1 == first {
                    *bad = Some(action.key.clone());
                }
                match *bad == Some(action.key.clone()) {
                    true => Fault::Fail { applied: false, report: Reply::Timeout },
                    false => Fault::None,
                }
            });
            let patience = Duration::from_millis(200);
            let ahead_or_not =
                |_: &Runtime, shard, config| (shard, PipelineConfig { ahead, ..config });
            let mut stage =
                Stage::open_as(&memory(), &feed, 2, from_source, (faults, patience), ahead_or_not);
            stage.give(0, &feed.rows);
            match from_source {
                true => stage.tell(Told::End(feed.end)),
                false => (0..2).for_each(|worker| stage.end(worker)),
            }
            stage.run();
            let (upper, reports) = (stage.upper(), stage.reports());
            if puts.load(Ordering::Relaxed) < first {
                stage.assert_ended(&feed);
                continue;
            }
            // Two workers write each time: the parts numbered 1 and 2 are time 0's. Ahead, several times share an
            // append, and wait together with the one that cannot be written.
            let written = (first - 1) / 2;
            assert!(
                if ahead { upper <= written } else { upper == written },
                "{upper}, upload {first}"
            );
            let errors: Vec<_> = reports.iter().filter_map(|r| r.error.as_ref()).collect();
            assert_eq!(errors.len(), 1, "one worker failed: {reports:?}");
            assert_eq!(errors[0].kind(), ErrorKind::Unavailable);
            let says = format!("nothing of times [{upper}, ");
            let error = errors[0].to_string();
            assert!(upper == written || error.contains(&says), "it says which wait: {error}");
            assert!(reports.iter().all(|report| !report.done && !report.ended));
            stage.crew().drop_token(1);
            stage.run();
            assert!(stage.reports().iter().all(|report| report.done && !report.ended));
            stage.rerun(&feed);
        }
    }
}

#[test]
fn a_worker_whose_feedback_is_damaged_lets_nothing_pass() {
    let feed = feed();
    for (key, ticks) in (0..KEYS).flat_map(|key| [0, 5, 11, 30].map(|ticks| (key, ticks))) {
        let root = memory();
        let mut stage = Stage::open(&root, &feed, 2, false, no_faults());
        let rival = Rival::new(&root, Arc::clone(&feed));
        for worker in 0..2 {
            let half = |time| at(&feed, time).into_iter().skip(worker).step_by(2);
            let rows: Vec<Row> = (0..5).flat_map(half).collect();
            stage.give(worker, &rows);
            stage.close(worker, 2);
        }
        stage.run();
        assert_eq!(stage.upper(), 2);
        // Time 2 of another writer gives a key a second value.
        rival.append(2, 3, &[(key, 100, 2, 1)]);
        (0..ticks).for_each(|n| stage.tick(n));
        (0..2).for_each(|worker| stage.end(worker));
        stage.run_only(&[0, 1]);
        assert_eq!(rival.upper(), 3, "nothing may follow a damaged time, key {key}, {ticks}");
        let reports = stage.reports();
        let errors: Vec<_> = reports.iter().filter_map(|r| r.error.as_ref()).collect();
        assert_eq!(errors.len(), 1, "the worker that has the key fails: {reports:?}");
        assert_eq!(errors[0].kind(), ErrorKind::Corrupt);
        stage.crew().drop_token(0);
        stage.run_only(&[0, 1]);
        assert!(stage.reports().iter().all(|report| report.done && !report.ended));
    }
}
