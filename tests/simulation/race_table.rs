//! Goal: whatever a race and the store do to an append, the contents are the feed's and every row read
//! is counted once. Method: a table; in each line the pipeline appends `[2, 5)` while a rival has
//! done something first, or the store does something to the reply.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use differential_upsert::store::{Fault, Faults, Operation, Report as Reply};
use differential_upsert::{ErrorKind, Totals};

use crate::feed::Feed;
use crate::observer::Rival;
use crate::stage::{Stage, delete, memory, no_faults, put};

fn feed() -> Arc<Feed> {
    Arc::new(Feed::new(vec![
        put(1, 1, 0, 0),
        put(2, 2, 0, 0),
        put(3, 3, 0, 0),
        put(1, 5, 2, 2), // updated
        put(1, 6, 1, 2), // superseded
        put(2, 2, 0, 2), // unchanged
        delete(3, 0, 2), // deleted
        put(4, 1, 0, 2), // inserted
        delete(9, 0, 2), // unchanged
        put(5, 1, 0, 5), // inserted
        put(5, 2, 0, 6), // updated
    ]))
}

/// What the totals are when nobody races.
const ALONE: Totals = Totals {
    below: 0,
    superseded: 1,
    unchanged: 2,
    lost: 0,
    inserted: 5,
    updated: 2,
    deleted: 1,
    errors: 0,
    wins: 4,
    losses: 0,
};

/// The pipeline has given all rows, committed `[0, 2)` and knows that.
fn scene(faults: Arc<Faults>) -> (Stage, Rival, Arc<Feed>) {
    let (root, feed) = (memory(), feed());
    let mut stage = Stage::open(&root, &feed, 1, false, faults);
    let rival = Rival::new(&root, Arc::clone(&feed));
    stage.give(0, &feed.rows);
    stage.close(0, 2);
    stage.run();
    assert_eq!(stage.upper(), 2);
    // Whoever was due to look for news has looked.
    stage.run_blind(&[0]);
    (stage, rival, feed)
}

/// Appends `[2, 5)`, then the rest, and returns the totals.
fn finish(mut stage: Stage, feed: &Arc<Feed>) -> Totals {
    stage.close(0, 5);
    stage.run_blind(&[0]);
    stage.run();
    stage.end(0);
    stage.run();
    stage.assert_ended(feed);
    let t = stage.reports()[0].totals;
    let sum = t.below + t.superseded + t.unchanged + t.lost;
    assert_eq!(sum + t.inserted + t.updated + t.deleted + t.errors, feed.rows.len() as u64);
    t
}

#[test]
fn a_rival_takes_none_part_or_all_of_ours() {
    // What the rival has appended up to, before ours; and the totals of ours.
    let table = [
        (2, ALONE),
        // Times 2 of ours lost; [3, 5), which is empty, won.
        (3, Totals { lost: 3, inserted: 4, updated: 1, deleted: 0, losses: 1, ..ALONE }),
        (4, Totals { lost: 3, inserted: 4, updated: 1, deleted: 0, losses: 1, ..ALONE }),
        // All of ours lost, exactly and by more.
        (5, Totals { lost: 3, inserted: 4, updated: 1, deleted: 0, losses: 1, wins: 3, ..ALONE }),
        (
            6,
            Totals {
                below: 1,
                lost: 3,
                inserted: 3,
                updated: 1,
                deleted: 0,
                losses: 1,
                wins: 2,
                ..ALONE
            },
        ),
        (
            7,
            Totals {
                below: 2,
                lost: 3,
                inserted: 3,
                updated: 0,
                deleted: 0,
                losses: 1,
                wins: 1,
                ..ALONE
            },
        ),
    ];
    for (rivals_upper, expected) in table {
        let (stage, rival, feed) = scene(no_faults());
        rival.append_to(rivals_upper);
        assert_eq!(finish(stage, &feed), expected, "rival at {rivals_upper}");
    }
}

/// What becomes of the creates of log entries, by their number since it was switched on.
fn creates(outcome: fn(u64) -> Fault) -> (Arc<Faults>, Arc<AtomicBool>) {
    let (on, count) = (Arc::new(AtomicBool::new(false)), AtomicU64::new(0));
    let switch = Arc::clone(&on);
    let faults = Faults::new(move |action| {
        if action.operation != Operation::CreateEntry || !switch.load(Ordering::Relaxed) {
            return Fault::None;
        }
        outcome(count.fetch_add(1, Ordering::Relaxed))
    });
    (faults, on)
}

fn fail(applied: bool, report: Reply) -> Fault {
    Fault::Fail { applied, report }
}

#[test]
fn an_unknown_outcome_is_settled_and_counted_once() {
    let outcomes: [(&str, fn(u64) -> Fault); 5] = [
        ("unknown, applied", |n| match n {
            0 => fail(true, Reply::Timeout),
            _ => Fault::None,
        }),
        ("unknown, not applied", |n| match n {
            0 => fail(false, Reply::Timeout),
            _ => Fault::None,
        }),
        ("unknown, applied late", |n| match n {
            0 => Fault::Late,
            _ => Fault::None,
        }),
        ("surely not applied", |n| match n {
            0 => fail(false, Reply::Error),
            _ => Fault::None,
        }),
        ("every other one unknown", |n| fail(n % 2 == 1, Reply::Timeout)),
    ];
    for (name, outcome) in outcomes {
        let (faults, on) = creates(outcome);
        let (stage, _, feed) = scene(faults);
        on.store(true, Ordering::Relaxed);
        assert_eq!(finish(stage, &feed), ALONE, "{name}");

        // The same after a rival has taken a part.
        let (faults, on) = creates(outcome);
        let (stage, rival, feed) = scene(faults);
        rival.append_to(3);
        on.store(true, Ordering::Relaxed);
        let expected = Totals { lost: 3, inserted: 4, updated: 1, deleted: 0, losses: 1, ..ALONE };
        assert_eq!(finish(stage, &feed), expected, "{name}, after a rival");
    }
}

#[test]
fn an_outcome_that_stays_unknown_stops_and_deletes_nothing() {
    for applied in [false, true] {
        let (faults, on) = match applied {
            false => creates(|_| fail(false, Reply::Timeout)),
            // Applied, and nobody can read it back: the writer never learns.
            true => {
                let on = Arc::new(AtomicBool::new(false));
                let switch = Arc::clone(&on);
                let faults = Faults::new(move |action| match action.operation {
                    _ if !switch.load(Ordering::Relaxed) => Fault::None,
                    Operation::CreateEntry => fail(true, Reply::Timeout),
                    Operation::GetEntry => fail(false, Reply::Error),
                    _ => Fault::None,
                });
                (faults, on)
            }
        };
        let (mut stage, _, feed) = scene(faults);
        on.store(true, Ordering::Relaxed);
        stage.close(0, 5);
        stage.run_blind(&[0]);
        stage.run();
        let report = stage.reports().remove(0);
        let kind = report.error.map(|e| e.kind());
        match applied {
            false => assert_eq!(kind, Some(ErrorKind::Indeterminate)),
            // Whoever reads the log may be first to say that it cannot.
            true => assert!(kind.is_some()),
        }
        assert!(!report.done && !report.ended);
        assert_eq!(report.totals.wins, 1, "an unknown outcome is no win");
        assert_eq!(report.totals.losses, 0, "nor a loss");
        // The observer reads every part: if it was applied, they are all there.
        assert_eq!(stage.upper(), if applied { 5 } else { 2 });
        on.store(false, Ordering::Relaxed);
        stage.rerun(&feed);
    }
}

#[test]
fn a_shard_that_was_replaced_is_a_clear_error() {
    let (mut stage, rival, feed) = scene(no_faults());
    drop(rival);
    let root = stage.root.clone();
    stage.wipe();
    // Another shard in the same place, whose log is longer than the one we know.
    let rival = Rival::new(&root, Arc::clone(&feed));
    for upper in 1..4 {
        rival.append(upper - 1, upper, &[]);
    }
    stage.close(0, 5);
    stage.run_blind(&[0]);
    stage.run_only(&[0]);
    let report = stage.reports().remove(0);
    let error = report.error.expect("an error");
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert_eq!(rival.upper(), 3, "nothing was appended to a shard that is not ours");
}
