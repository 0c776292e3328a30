//! Goal: whatever a race and the store do to an append, the contents are the feed's and every row read
//! is counted once. Method: a table; in each line the pipeline appends `[2, 5)`, its create of the
//! entry fares as the column says, and a rival comes before it or in between.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use differential_upsert::io::Io;
use differential_upsert::shard::{Append, Appended, Handle, HandleConfig, HandleOptions};
use differential_upsert::store::{Fault, Faults, Operation, Report as Reply, Root};
use differential_upsert::{ErrorKind, Totals};
use object_store::memory::InMemory;

use crate::feed::Feed;
use crate::network::{Fate, Network};
use crate::replicas::observer::{Counted, Rival, changes, schema, sum_below};
use crate::replicas::stage::{Stage, delete, memory, no_faults, put};

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
    // Times 5 and 6 share one.
    wins: 3,
    losses: 0,
};

/// The pipeline has given all rows, committed `[0, 2)` and knows that.
fn scene(faults: Arc<Faults>) -> (Stage, Rival, Arc<Feed>) {
    scene_over(&memory(), faults)
}

fn scene_over(root: &Root, faults: Arc<Faults>) -> (Stage, Rival, Arc<Feed>) {
    let feed = feed();
    let mut stage = Stage::open(root, &feed, 1, false, faults);
    let rival = Rival::new(root, Arc::clone(&feed));
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

/// The totals of ours when the rival has all times below this.
fn taken_up_to(rivals_upper: u64) -> Totals {
    // The three rows of time 2 that changed something are lost, as is the race.
    let lost = Totals { lost: 3, inserted: 4, updated: 1, deleted: 0, losses: 1, ..ALONE };
    match rivals_upper {
        2 => ALONE,
        // What is left of ours has no rows, and is won.
        3 | 4 => lost,
        // Nothing is left. Exactly at our upper, and by more: those times are below for us.
        5 => Totals { wins: 2, ..lost },
        6 => Totals { wins: 2, below: 1, inserted: 3, ..lost },
        7 => Totals { wins: 1, below: 2, inserted: 3, updated: 0, ..lost },
        other => panic!("no row for {other}"),
    }
}

/// When the rival appends `[2, ..)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    /// Before ours is sent, and unknown to us.
    Ahead,
    /// After ours is on its way, before anything is heard of it.
    Between,
}

/// How ours ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// As if there were no rival.
    Whole,
    /// Without the times below the rival's upper.
    Rest,
    /// The case cannot be, because of this.
    Never(&'static str),
}

use End::{Never, Rest, Whole};

const ALONE_HERE: &str = "the rival appends nothing: there is nobody to lose against";
const TAKEN: &str = "the rival has the number of our entry, so no create of ours is applied";
const FIRST: &str = "our create was answered before the rival moved: it is there";
const BACK: &str = "an upper never goes back; where it does, the shard was replaced: see below";

const WON_WHATEVER_IS_HEARD: [End; 6] = [Whole, Never(ALONE_HERE), Whole, Whole, Whole, Whole];
const SENT_IN_VAIN: [End; 6] = [Never(TAKEN), Rest, Never(TAKEN), Rest, Rest, Rest];
const WHO_IS_FIRST_WINS: [End; 6] = [Whole, Never(FIRST), Whole, Rest, Rest, Whole];

/// What becomes of the create of our entry, column by column.
const FATES: [(&str, Fate); 6] = [
    ("won", Fate::Answered),
    ("lost", Fate::Answered),
    ("unknown but applied", Fate::ReplyLost),
    ("unknown and not applied", Fate::RequestLost),
    ("late", Fate::Late),
    ("duplicated", Fate::Doubled),
];

/// Where our `[2, 5)` lies seen from the upper that the rival makes.
#[rustfmt::skip]
const TABLE: [(&str, u64, When, [End; 6]); 14] = [
    // ours                       rival's   rival          won, lost, applied, not applied, late, duplicated
    ("past",                      1,        When::Ahead,   [Never(BACK); 6]),
    ("equal",                     2,        When::Ahead,   WON_WHATEVER_IS_HEARD),
    ("overlapping, by the rows",  3,        When::Ahead,   SENT_IN_VAIN),
    ("overlapping, by no rows",   4,        When::Ahead,   SENT_IN_VAIN),
    ("below, exactly",            5,        When::Ahead,   SENT_IN_VAIN),
    ("below, by a row",           6,        When::Ahead,   SENT_IN_VAIN),
    ("below, by all rows",        7,        When::Ahead,   SENT_IN_VAIN),
    ("past",                      1,        When::Between, [Never(BACK); 6]),
    ("equal",                     2,        When::Between, WON_WHATEVER_IS_HEARD),
    ("overlapping, by the rows",  3,        When::Between, WHO_IS_FIRST_WINS),
    ("overlapping, by no rows",   4,        When::Between, WHO_IS_FIRST_WINS),
    ("below, exactly",            5,        When::Between, WHO_IS_FIRST_WINS),
    ("below, by a row",           6,        When::Between, WHO_IS_FIRST_WINS),
    ("below, by all rows",        7,        When::Between, WHO_IS_FIRST_WINS),
];

#[test]
fn the_table_of_races() {
    let (mut ran, mut never) = (0, 0);
    for (place, rivals_upper, when, ends) in TABLE {
        for ((fate_is, fate), end) in FATES.into_iter().zip(ends) {
            let case = format!("ours {place} ({rivals_upper}), {fate_is}, rival {when:?}");
            let expected = match end {
                Whole => ALONE,
                Rest => taken_up_to(rivals_upper),
                Never(_) => {
                    never += 1;
                    continue;
                }
            };
            ran += 1;
            one_race(&case, rivals_upper, when, fate, end, expected);
        }
    }
    println!("{ran} cases, {never} that cannot be");
}

fn one_race(case: &str, rivals: u64, when: When, fate: Fate, end: End, expected: Totals) {
    let store = Arc::new(InMemory::new());
    let root = Root::from_object_store(Arc::clone(&store) as _, "mem:");
    let network = Network::over(&store);
    let (stage, rival, feed) = scene_over(&network.root(), no_faults());
    let heard = Arc::new(Mutex::new(None));
    if when == When::Ahead {
        rival.append_to(rivals);
        network.next(fate, Box::pin(async {}));
    } else {
        let (feed, heard) = (Arc::clone(&feed), Arc::clone(&heard));
        network.next(
            fate,
            Box::pin(async move {
                if rivals > 2 {
                    let appended = append_from_2(&root, &feed, rivals).await;
                    *heard.lock().unwrap() = Some(appended);
                }
            }),
        );
    }
    assert_eq!(finish(stage, &feed), expected, "{case}");
    let rival_heard =
        heard.lock().unwrap().take().map(|heard| matches!(heard, Appended::Won { .. }));
    // Whoever of the two was first has won, and the other knows that it has not.
    let expected = (when == When::Between && rivals > 2).then_some(end == Rest);
    assert_eq!(rival_heard, expected, "{case}: whether the rival has won");
}

/// A rival's append of `[2, upper)`, inside the network of ours.
async fn append_from_2(root: &Root, feed: &Feed, upper: u64) -> Appended {
    let io = Io::new(tokio::runtime::Handle::current(), Counted::from(3 << 60));
    let config = HandleConfig::default();
    let handle =
        Handle::open(root.clone(), io, HandleOptions::write("data", schema()).with_config(config))
            .await;
    let handle = handle.unwrap();
    let rows = (2..upper).flat_map(|time| changes(feed, time)).collect();
    let parts = handle.prepare(rows).await.unwrap();
    let sum = Some(sum_below(feed, upper));
    let append = Append { lower: 2, upper, parts, sum, ..Append::default() };
    handle.compare_and_append(append).await.unwrap()
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

/// More than one create goes wrong, or in a way that a network has not.
#[test]
fn an_unknown_outcome_is_settled_and_counted_once() {
    let outcomes: [(&str, fn(u64) -> Fault); 3] = [
        ("applied, and said to be surely not", |n| match n {
            0 => fail(true, Reply::Error),
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
        assert_eq!(finish(stage, &feed), taken_up_to(3), "{name}, after a rival");
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
        assert_eq!(report.totals.wins, 1, "an unknown outcome is not a win");
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
    let root = stage.root.with_faults(no_faults());
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
    assert_eq!(error.kind(), ErrorKind::Replaced, "{error}");
    assert_eq!(rival.upper(), 3, "nothing was appended to a shard that is not ours");
}
