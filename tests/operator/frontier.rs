//! Goal: the output frontier is `min(i, least stashed time)`: nothing else holds it, nothing ends
//! early, and a failure holds it where it is.
//!
//! Method: one operator; the test moves each input by hand and looks at the frontier after each.

use crate::rig::{Bytes, Rig};
use differential_upsert::{ErrorKind, UpsertConfig};

fn rig() -> Rig<Bytes> {
    Rig::alone(UpsertConfig::default())
}

#[test]
fn an_empty_stash_lets_the_output_follow_the_input() {
    let mut rig = rig();
    assert_eq!(rig.frontier(), Some(0));
    for time in [1, 2, 100] {
        rig.close_below(time);
        rig.settle();
        // The feedback stands at 0 all along.
        assert_eq!(rig.frontier(), Some(time));
    }
    rig.commands = None;
    rig.settle();
    assert_eq!(rig.frontier(), None, "the end of the input ends the output, feedback or not");
}

#[test]
fn the_least_stashed_time_holds_the_output_and_no_other() {
    let mut rig = rig();
    for time in [9, 3, 6] {
        rig.put(time, 1, time as u8, 0);
    }
    rig.close_below(20);
    rig.settle();
    assert_eq!(rig.frontier(), Some(3));
    for (upper, next) in [(3, 6), (6, 9), (9, 20)] {
        rig.fed_below(upper);
        rig.settle();
        assert_eq!(rig.frontier(), Some(next), "time {upper} is drained, time {next} is not");
        assert!(rig.emitted.borrow().iter().all(|update| update.1 == upper));
        rig.commit(next.min(upper + 1));
    }
    assert_eq!(rig.frontier(), Some(20));
}

/// A time that is open on the source is not drained, however far the shard.
#[test]
fn an_open_time_is_not_drained() {
    let mut rig = rig();
    rig.fed_below(4);
    rig.close_below(4);
    rig.put(4, 1, 1, 0);
    rig.settle();
    assert_eq!((rig.frontier(), rig.taken()), (Some(4), vec![]));
    rig.close_below(5);
    rig.settle();
    assert_eq!((rig.frontier(), rig.taken()), (Some(5), vec![(1, 1, 4, 1)]));
}

/// The input ends first; its tail is committed one time after another, each after its feedback.
#[test]
fn a_bounded_input_never_loses_its_tail() {
    for workers in 1..=3 {
        Rig::<Bytes>::cluster(workers, 5, UpsertConfig::default(), move |rig| {
            for time in 0..5 {
                rig.put(2 * time, 1, time as u8, 0);
                rig.put(2 * time, time as u8 + 2, 0, 0);
            }
            rig.commands = None;
            for time in 0..5 {
                rig.fed_below(2 * time);
                rig.settle();
                let next = (time < 4).then_some(2 * time + 2);
                assert_eq!(rig.frontier(), next, "{workers} workers, at {}", 2 * time);
                let emitted = rig.emitted.borrow().len();
                assert_eq!(emitted, if time == 0 { 2 } else { 3 });
                rig.commit(2 * time + 1);
            }
        });
    }
}

/// An end of the feedback does not pass all times: what waits for it cannot go on, and says so.
#[test]
fn feedback_that_ends_early_is_an_error() {
    let mut rig = rig();
    rig.put(3, 1, 1, 0);
    rig.close_below(7);
    rig.settle();
    rig.feedback = None;
    rig.settle();
    assert_eq!((rig.frontier(), rig.taken()), (Some(3), vec![]));
    let errors = rig.errors.lock().unwrap();
    assert_eq!(errors.iter().map(|error| error.kind()).collect::<Vec<_>>(), [ErrorKind::Invalid]);
}

/// With nothing left to wait for, the end of the feedback is fine.
#[test]
fn feedback_that_ends_last_is_none() {
    let mut rig = rig();
    rig.put(0, 1, 1, 0);
    rig.commands = None;
    rig.settle();
    rig.commit(1);
    rig.feedback = None;
    rig.settle();
    assert_eq!((rig.frontier(), rig.errors.lock().unwrap().len()), (None, 0));
}

/// Feeds back what can be no collection, and expects a failure that holds.
fn fails_on(feed: impl Fn(&mut Rig<Bytes>), commands_wait: bool) {
    let mut rig = rig();
    if commands_wait {
        rig.put(4, 9, 1, 0);
    }
    rig.close_below(4);
    feed(&mut rig);
    // Not yet complete: the rest that makes it right may still come.
    rig.settle();
    assert!(rig.errors.lock().unwrap().is_empty());
    rig.fed_below(4);
    rig.settle();
    rig.close_below(8);
    rig.settle();
    {
        let errors = rig.errors.lock().unwrap();
        let kinds: Vec<_> = errors.iter().map(|error| error.kind()).collect();
        assert_eq!(kinds, [ErrorKind::Corrupt], "{errors:?}");
    }
    // It holds still: whatever comes, nothing is written and the frontier stays.
    let held = rig.frontier();
    assert_eq!(held, Some(4));
    rig.put(8, 1, 1, 0);
    rig.commands = None;
    rig.fed_below(9);
    rig.settle();
    rig.feedback = None;
    rig.settle();
    assert_eq!((rig.frontier(), rig.taken(), rig.errors.lock().unwrap().len()), (held, vec![], 1));
    assert_eq!(rig.stats.stash_bytes(), 0, "a failed operator keeps no commands");
}

#[test]
fn two_live_values_of_a_key_fail() {
    for waits in [true, false] {
        fails_on(
            |rig| {
                rig.feed(1, 1, 2, 1);
                rig.feed(1, 2, 3, 1);
            },
            waits,
        );
    }
}

#[test]
fn the_same_value_twice_fails() {
    fails_on(|rig| (2..4).for_each(|time| rig.feed(1, 1, time, 1)), true);
}

#[test]
fn a_negative_count_fails() {
    for waits in [true, false] {
        fails_on(|rig| rig.feed(1, 1, 2, -1), waits);
    }
}

#[test]
fn a_retraction_of_a_value_not_held_fails() {
    fails_on(
        |rig| {
            rig.feed(1, 1, 1, 1);
            rig.feed(1, 2, 2, -1);
        },
        true,
    );
}

/// A command before the time of the message that carries it cannot be placed: its time may have
/// been passed on as closed.
#[test]
fn a_command_before_its_message_fails() {
    let mut rig = rig();
    rig.close_below(5);
    rig.settle();
    rig.put(3, 1, 1, 0);
    rig.close_below(6);
    rig.settle();
    let kinds: Vec<_> = rig.errors.lock().unwrap().iter().map(|error| error.kind()).collect();
    assert_eq!((kinds, rig.frontier()), (vec![ErrorKind::Invalid], Some(5)));
}

/// The last time has no end, so that a command there could never be told from one that is open.
#[test]
fn a_command_at_the_last_time_fails() {
    let mut rig = rig();
    rig.close_below(5);
    rig.settle();
    rig.put(u64::MAX, 1, 1, 0);
    rig.settle();
    let kinds: Vec<_> = rig.errors.lock().unwrap().iter().map(|error| error.kind()).collect();
    assert_eq!((kinds, rig.frontier()), (vec![ErrorKind::Invalid], Some(5)));
    rig.commands = None;
    rig.settle();
    assert_eq!((rig.frontier(), rig.taken()), (Some(5), vec![]), "the failure holds");
}

/// A drain of nothing at a time would never be done.
#[test]
fn a_drain_of_no_rows_is_refused() {
    let mut rig =
        Rig::<Bytes>::alone(UpsertConfig { drain_rows_max: 0, ..UpsertConfig::default() });
    rig.put(0, 1, 1, 0);
    rig.close_below(3);
    rig.settle();
    let errors = rig.errors.lock().unwrap();
    let said: Vec<_> = errors.iter().map(|error| (error.kind(), error.what())).collect();
    let expected = "drain_rows_max must be at least 1, and is 0";
    assert_eq!((said, rig.frontier()), (vec![(ErrorKind::Invalid, expected)], Some(0)));
}
