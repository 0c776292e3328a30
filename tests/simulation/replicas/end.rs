//! Goal: a bounded input's last time is committed; that of one that was dropped, failed or unwound is
//! not. Method: one pipeline each, driven to its end in every way there is.

use std::sync::Arc;

use differential_upsert::ErrorKind;

use crate::feed::{Feed, Row};
use crate::replicas::observer::Rival;
use crate::replicas::seat::Told;
use crate::replicas::stage::{Stage, delete, memory, no_faults, put};

/// Rows at times 0, 1, 4 and 6, for several workers each.
fn feed() -> Arc<Feed> {
    let mut rows: Vec<Row> = (0..8).map(|key| put(key, 1, 0, 0)).collect();
    rows.extend((0..8).map(|key| put(key, 2 + key % 2, 0, 1)));
    rows.extend((2..8).map(|key| put(key, 5, 0, 4)));
    rows.extend((0..2).map(|key| delete(key, 0, 4)));
    rows.extend((0..8).map(|key| put(key, 6, 0, 6)));
    Arc::new(Feed::new(rows))
}

fn below(feed: &Feed, time: u64) -> Vec<Row> {
    feed.rows.iter().filter(|row| row.1 < time).cloned().collect()
}

fn from(feed: &Feed, time: u64) -> Vec<Row> {
    feed.rows.iter().filter(|row| row.1 >= time).cloned().collect()
}

#[test]
fn a_closed_input_commits_its_last_time() {
    let feed = feed();
    for peers in [1, 2] {
        for steps_before in [0, 1, 7, 100] {
            let mut stage = Stage::open(&memory(), &feed, peers, false, no_faults());
            for (n, row) in feed.rows.iter().enumerate() {
                stage.give(n % peers, std::slice::from_ref(row));
            }
            (0..steps_before).for_each(|n| stage.tick(n));
            (0..peers).for_each(|worker| stage.end(worker));
            stage.run();
            stage.assert_ended(&feed);
        }
    }
}

#[test]
fn inputs_that_end_at_different_times_all_commit_theirs() {
    let feed = feed();
    let mut stage = Stage::open(&memory(), &feed, 2, false, no_faults());
    stage.give(1, &below(&feed, 4));
    stage.end(1);
    stage.run();
    assert_eq!(stage.upper(), 0, "worker 0 has closed nothing");
    stage.give(0, &from(&feed, 4));
    stage.end(0);
    stage.run();
    stage.assert_ended(&feed);
}

#[test]
fn an_input_advanced_past_its_rows_commits_up_to_there() {
    let mut feed = Feed::new(vec![put(1, 1, 0, 0)]);
    feed.extend_to(9);
    let feed = Arc::new(feed);
    let mut stage = Stage::open(&memory(), &feed, 1, false, no_faults());
    stage.give(0, &feed.rows);
    stage.close(0, 9);
    stage.run();
    stage.end(0);
    stage.run();
    stage.assert_ended(&feed);
}

#[test]
fn an_input_without_rows_ends_and_commits_nothing() {
    let feed = Arc::new(Feed::new(Vec::new()));
    for peers in [1, 2] {
        let mut stage = Stage::open(&memory(), &feed, peers, false, no_faults());
        (0..peers).for_each(|worker| stage.end(worker));
        stage.run();
        stage.assert_ended(&feed);
    }
}

#[test]
fn a_source_that_ends_commits_its_last_time() {
    let feed = feed();
    for peers in [1, 2] {
        let mut stage = Stage::open(&memory(), &feed, peers, true, no_faults());
        stage.give(0, &feed.rows);
        stage.tell(Told::End(feed.end));
        stage.run();
        stage.assert_ended(&feed);
    }
}

#[test]
fn a_collection_is_whole_even_if_all_was_there_before_the_start() {
    let feed = feed();
    for peers in [1, 2] {
        for ticks in 0..10 {
            let root = memory();
            Rival::new(&root, Arc::clone(&feed)).append_to(feed.end);
            let mut stage = Stage::open(&root, &feed, peers, false, no_faults());
            (0..ticks).for_each(|n| stage.tick(n));
            (0..peers).for_each(|worker| stage.end(worker));
            // The workers are quick, and the store is slow.
            (0..20 * peers).for_each(|n| stage.crew().step(n % peers));
            stage.run();
            stage.assert_ended(&feed);
        }
    }
}

#[test]
fn a_source_that_fails_commits_what_it_has_closed_and_no_more() {
    let feed = feed();
    for peers in [1, 2] {
        for panics in [false, true] {
            let root = memory();
            let mut stage = Stage::open(&root, &feed, peers, true, no_faults());
            // Half of time 4 and all of time 6: both are open.
            stage.give(0, &below(&feed, 4));
            stage.give(0, &from(&feed, 4)[..4]);
            stage.give(0, &from(&feed, 6));
            stage.close(0, 4);
            stage.tell(if panics { Told::Panic } else { Told::Fail });
            stage.run();
            assert_eq!(stage.upper(), 4, "time 4 was never closed");
            let reports = stage.reports();
            let kind = if panics { ErrorKind::Unavailable } else { ErrorKind::Invalid };
            assert_eq!(reports[0].error.as_ref().map(|e| e.kind()), Some(kind));
            assert!(reports.iter().all(|report| !report.done && !report.ended));
            stage.crew().drop_token(0);
            stage.run();
            assert!(stage.reports().iter().all(|report| report.done && !report.ended));
            assert_eq!(stage.upper(), 4);
            stage.rerun(&feed);
        }
    }
}

#[test]
fn a_source_whose_runtime_is_gone_commits_no_more() {
    let feed = feed();
    let mut stage = Stage::open(&memory(), &feed, 1, true, no_faults());
    stage.give(0, &feed.rows);
    stage.close(0, 4);
    stage.run();
    stage.runtime.take().unwrap().shutdown_background();
    stage.run();
    assert_eq!(stage.upper(), 4);
    let report = &stage.reports()[0];
    assert!(report.error.is_some() && !report.ended && !report.done, "{report:?}");
}

#[test]
fn a_token_dropped_before_the_end_commits_no_more() {
    let feed = feed();
    for peers in [1, 2] {
        for from_source in [false, true] {
            for end_too in [false, true] {
                let mut stage = Stage::open(&memory(), &feed, peers, from_source, no_faults());
                stage.give(0, &feed.rows);
                (0..peers).take(if from_source { 1 } else { peers }).for_each(|worker| {
                    stage.close(worker, 4);
                });
                stage.run();
                assert_eq!(stage.upper(), 4);
                stage.crew().drop_token(0);
                if end_too {
                    // As a program that leaves: everything of a worker goes at once.
                    (0..peers).for_each(|worker| stage.end(worker));
                }
                stage.run();
                assert_eq!(stage.upper(), 4, "time 4 was never closed");
                (0..peers).for_each(|worker| stage.end(worker));
                stage.run();
                assert!(stage.reports().iter().all(|r| r.done && !r.ended && r.error.is_none()));
                assert_eq!(stage.upper(), 4);
                stage.rerun(&feed);
            }
        }
    }
}

#[test]
fn a_worker_that_panics_commits_no_more() {
    let feed = feed();
    for ticks in 0..30 {
        let mut stage = Stage::open(&memory(), &feed, 2, false, no_faults());
        stage.give(0, &below(&feed, 4));
        (0..2).for_each(|worker| stage.close(worker, 4));
        stage.run();
        stage.give(1, &from(&feed, 4));
        stage.close(0, 9);
        (0..ticks).for_each(|n| stage.tick(n));
        // Its input is dropped on the way out, which must not pass for a clean end.
        stage.crew().panic(1);
        stage.end(0);
        stage.run_only(&[0]);
        assert_eq!(stage.upper(), 4, "worker 1 had not closed time 4");
        stage.rerun(&feed);
    }
}
