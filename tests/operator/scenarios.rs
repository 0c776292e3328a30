//! Goal: the situations that once froze such an operator, or could make it wrong, each by name.
//!
//! Method: one operator on one worker; the test plays the shard, step by step, and looks at what is
//! emitted, counted and held after each.

use crate::rig::{Bytes, Layout, Rig};
use differential_upsert::upsert::Rules;
use differential_upsert::{Command, Packed, UpsertConfig};

fn rig() -> Rig<Bytes> {
    Rig::alone(UpsertConfig::default())
}

/// Brings the shard to `upper` with these keys live.
fn with_live(rig: &mut Rig<Bytes>, live: &[(u8, u8)], upper: u64) {
    for (key, value) in live {
        rig.feed(*key, *value, 0, 1);
    }
    rig.fed_below(upper);
    rig.close_below(upper);
    rig.settle();
    assert_eq!(rig.frontier(), Some(upper));
}

/// Another writer has persisted all that this one still has: it must let go, and count.
#[test]
fn a_silent_operator_sheds_what_others_persisted() {
    let mut rig = rig();
    rig.put(5, 1, 1, 0);
    rig.put(7, 2, 2, 0);
    rig.close_below(11);
    rig.settle();
    // Nothing is eligible: the shard stands at 0.
    assert_eq!((rig.frontier(), rig.taken()), (Some(5), vec![]));
    rig.feed(1, 1, 5, 1);
    rig.feed(2, 2, 7, 1);
    rig.fed_below(10);
    rig.settle();
    assert_eq!(rig.taken(), vec![]);
    assert_eq!(rig.stats.below(), 2);
    assert_eq!(rig.frontier(), Some(11));
    assert_eq!(rig.stats.stash_bytes(), 0);
}

/// The same, but the commands arrive after the shard has moved on.
#[test]
fn commands_that_arrive_below_the_shard_are_dropped() {
    let mut rig = rig();
    rig.fed_below(10);
    rig.settle();
    rig.put(5, 1, 1, 0);
    rig.put(7, 2, 2, 0);
    rig.close_below(11);
    rig.settle();
    assert_eq!((rig.taken(), rig.stats.below(), rig.frontier()), (vec![], 2, Some(11)));
}

/// Two times wait for one key; the shard advances over empty times, written by someone else. Only
/// the one time that the shard stands at may be drained, and its value retracted once.
#[test]
fn two_waiting_times_retract_once() {
    let mut rig = rig();
    with_live(&mut rig, &[(1, 0)], 1);
    rig.put(5, 1, 1, 0);
    rig.put(7, 1, 2, 0);
    rig.close_below(11);
    rig.settle();
    assert_eq!((rig.frontier(), rig.taken()), (Some(5), vec![]));
    // Another writer advances the shard with no data, up to the first waiting time.
    rig.fed_below(5);
    rig.settle();
    assert_eq!(rig.taken(), vec![(1, 0, 5, -1), (1, 1, 5, 1)]);
    assert_eq!(rig.frontier(), Some(7), "time 7 waits for the outcome of time 5");
    // Waking up again does not emit again.
    rig.put(11, 9, 9, 0);
    rig.settle();
    assert_eq!(rig.taken(), vec![]);
}

/// The other writer advances past the first waiting time, with no data: the first is dropped.
#[test]
fn an_empty_commit_over_a_waiting_time_drops_it() {
    let mut rig = rig();
    with_live(&mut rig, &[(1, 0)], 1);
    rig.put(5, 1, 1, 0);
    rig.put(7, 1, 2, 0);
    rig.close_below(11);
    rig.fed_below(7);
    rig.settle();
    assert_eq!(rig.taken(), vec![(1, 0, 7, -1), (1, 2, 7, 1)]);
    assert_eq!((rig.stats.below(), rig.frontier()), (1, Some(11)));
}

/// Before the feedback has reached the resume upper, the state is not whole: commands at the least
/// time are dropped as persisted, those at the resume upper wait.
#[test]
fn nothing_is_drained_before_the_resume_upper() {
    let mut rig = Rig::<Bytes>::alone(UpsertConfig { resume_upper: 3, ..UpsertConfig::default() });
    rig.put(0, 1, 5, 0);
    rig.put(3, 1, 6, 0);
    rig.close_below(4);
    rig.settle();
    assert_eq!((rig.taken(), rig.stats.below()), (vec![], 1));
    // A part of the snapshot is here, and says so.
    rig.feed(1, 5, 0, 1);
    rig.fed_below(2);
    rig.settle();
    assert_eq!((rig.taken(), rig.frontier()), (vec![], Some(3)));
    rig.fed_below(3);
    rig.settle();
    assert_eq!(rig.taken(), vec![(1, 5, 3, -1), (1, 6, 3, 1)]);
    assert_eq!(rig.frontier(), Some(4));
}

/// Rows of a rival's commit may be here before the frontier that makes them whole.
#[test]
fn early_rows_of_a_rival_are_not_prior_values() {
    let mut rig = rig();
    with_live(&mut rig, &[(1, 0)], 5);
    rig.feed(1, 0, 5, -1);
    rig.feed(1, 9, 5, 1);
    rig.settle();
    rig.put(5, 1, 9, 0);
    rig.put(5, 2, 9, 0);
    rig.close_below(6);
    rig.settle();
    assert_eq!((rig.taken(), rig.frontier()), (vec![], Some(5)));
    rig.fed_below(6);
    rig.settle();
    assert_eq!((rig.taken(), rig.stats.below(), rig.frontier()), (vec![], 2, Some(6)));
}

/// The same, of an operator that runs ahead: a row of a later time is the prior value of no time up to that.
#[test]
fn early_rows_of_a_rival_hold_a_run_up() {
    let ahead = UpsertConfig { overlay_bytes_max: 1 << 20, ..UpsertConfig::default() };
    let mut rig = Rig::<Bytes>::alone(ahead);
    with_live(&mut rig, &[(1, 0), (2, 0)], 4);
    rig.put(4, 3, 1, 0);
    rig.put(5, 3, 2, 0);
    rig.close_below(6);
    rig.settle();
    // It has had its turn, and runs ahead from there on.
    assert_eq!(rig.taken(), vec![(3, 1, 4, 1), (3, 1, 5, -1), (3, 2, 5, 1)]);
    assert_eq!(rig.frontier(), Some(6));
    // A rival has committed [4, 8). The rows of key 1 are here, and nothing says yet that all are.
    for (value, time, diff) in [(0, 6, -1), (8, 6, 1), (8, 7, -1), (9, 7, 1)] {
        rig.feed(1, value, time, diff);
    }
    rig.settle();
    rig.put(6, 1, 8, 0);
    rig.put(7, 1, 9, 0);
    rig.put(8, 1, 5, 0);
    rig.put(8, 3, 3, 0);
    rig.close_below(9);
    rig.settle();
    assert_eq!((rig.taken(), rig.frontier()), (vec![], Some(6)), "drained on rows of a later time");
    rig.feed(3, 1, 4, 1);
    rig.feed(3, 1, 5, -1);
    rig.feed(3, 2, 5, 1);
    rig.fed_below(8);
    rig.settle();
    let expected = vec![(1, 5, 8, 1), (1, 9, 8, -1), (3, 2, 8, -1), (3, 3, 8, 1)];
    assert_eq!((rig.taken(), rig.stats.below(), rig.frontier()), (expected, 2, Some(9)));
}

#[test]
fn a_late_command_of_lower_order_loses() {
    let mut rig = rig();
    rig.put(0, 1, 7, 9);
    rig.settle();
    rig.put(0, 1, 8, 3);
    rig.delete(0, 1, 4);
    rig.close_below(1);
    rig.settle();
    assert_eq!(rig.taken(), vec![(1, 7, 0, 1)]);
    assert_eq!(rig.stats.superseded(), 2);
}

/// Equal orders: a put beats a delete, and the greater value the lesser, whatever comes first.
#[test]
fn equal_orders_are_decided_by_content() {
    for swapped in [false, true] {
        let mut rig = rig();
        let mut sends: Vec<fn(&mut Rig<Bytes>)> = vec![
            |rig| rig.put(0, 1, 1, 5),
            |rig| rig.delete(0, 1, 5),
            |rig| rig.put(0, 1, 4, 5),
            |rig| rig.put(0, 1, 2, 5),
        ];
        if swapped {
            sends.reverse();
        }
        for send in sends {
            send(&mut rig);
            rig.settle();
        }
        rig.close_below(1);
        rig.settle();
        // Values 1, 2 and 4 are byte strings of length 2, 3 and 2: the longer has the greater bytes.
        assert_eq!(rig.taken(), vec![(1, 2, 0, 1)]);
    }
}

#[test]
fn delete_and_reinsertion_of_the_same_value_is_nothing() {
    let mut rig = rig();
    with_live(&mut rig, &[(1, 7)], 1);
    rig.delete(1, 1, 0);
    rig.put(1, 1, 7, 1);
    rig.delete(1, 2, 0);
    rig.close_below(2);
    rig.settle();
    assert_eq!((rig.taken(), rig.frontier()), (vec![], Some(2)));
    assert_eq!((rig.stats.superseded(), rig.stats.unchanged()), (1, 2));
}

/// A reset deletes every key but those with a later command, or with a put of the same order.
#[test]
fn a_reset_spares_later_commands() {
    let mut rig = rig();
    with_live(&mut rig, &[(1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (6, 6)], 1);
    rig.put(1, 1, 11, 6); // later: updates
    rig.put(1, 2, 12, 5); // equal order: updates
    rig.delete(1, 3, 7); // later delete: goes, once
    rig.put(1, 4, 14, 4); // earlier: goes
    rig.put(1, 5, 5, 6); // later rewrite: stays, unchanged
    rig.put(1, 7, 17, 6); // new
    rig.reset(1, 5);
    rig.reset(1, 2);
    rig.close_below(2);
    rig.settle();
    let expected = vec![
        (1, 1, 1, -1),
        (1, 11, 1, 1),
        (2, 2, 1, -1),
        (2, 12, 1, 1),
        (3, 3, 1, -1),
        (4, 4, 1, -1),
        (6, 6, 1, -1),
        (7, 17, 1, 1),
    ];
    assert_eq!(rig.taken(), expected);
    assert_eq!((rig.stats.superseded(), rig.stats.unchanged()), (1, 1));
}

/// Resets of a collection delete its keys and no others, each by the greatest order that speaks of it. Keys 0, 3, 6 and 9
/// are of one collection, 1, 4, 7 and 10 of another.
#[test]
fn a_reset_of_a_collection_spares_the_others() {
    for drain_rows_max in [1, 1 << 14] {
        let mut rig = Rig::<Bytes>::alone(UpsertConfig { drain_rows_max, ..Default::default() });
        let live: Vec<_> = (0..11).map(|key| (key, key)).collect();
        with_live(&mut rig, &live, 1);
        rig.reset_of(1, 0, 5);
        rig.reset_of(1, 0, 3);
        rig.reset_of(1, 1, 2);
        rig.reset(1, 1);
        rig.put(1, 0, 50, 6); // later: updates
        rig.put(1, 3, 53, 5); // equal order: updates
        rig.put(1, 6, 56, 4); // earlier, but later than the others: goes
        rig.patch(1, 9, 59, 6); // later: of nothing
        rig.put(1, 1, 51, 1); // earlier: goes
        rig.put(1, 4, 54, 4); // later than its own, earlier than the other's: updates
        rig.delete(1, 7, 5); // later delete: goes, once
        rig.put(1, 2, 52, 1); // of neither, at the order of all
        rig.delete(1, 5, 0); // goes with all
        rig.put(1, 12, 62, 4); // new, and earlier: never was
        rig.put(1, 13, 63, 4); // new, and later
        rig.close_below(2);
        rig.settle();
        let mut expected: Vec<_> = (0..11).map(|key| (key, key, 1, -1)).collect();
        // 99 is where a patch of nothing begins.
        let new = [(0, 50), (2, 52), (3, 53), (4, 54), (9, 99), (13, 63)];
        expected.extend(new.map(|(key, value)| (key, value, 1, 1)));
        expected.sort();
        assert_eq!(rig.taken(), expected);
        assert_eq!(rig.errors.lock().unwrap().len(), 0);
    }
}

/// An operator that does not know which keys a collection has says so, writes nothing of that time and holds it; also where
/// there is no key.
#[test]
fn a_reset_of_a_collection_that_nothing_tells_is_an_error() {
    for is_fed in [false, true] {
        let mut rig = Rig::<Bytes>::told(UpsertConfig::default(), Rules::new());
        with_live(&mut rig, if is_fed { &[(1, 1)] } else { &[] }, 1);
        if is_fed {
            rig.put(1, 0, 2, 6);
        }
        rig.put(2, 0, 3, 0);
        rig.reset_of(1, 0, 5);
        rig.close_below(3);
        rig.settle();
        assert_eq!((rig.taken(), rig.frontier()), (vec![], Some(1)), "it holds the time");
        let errors = rig.errors.lock().unwrap();
        let [error] = &errors[..] else { panic!("{errors:?}") };
        let text = error.to_string();
        for part in ["a collection is reset", "\"none\"", "`Shard::with_collections`"] {
            assert!(text.contains(part), "{text}");
        }
    }
}

/// A drain that yields after every row, and is overtaken in between, emits a part of the truth and
/// nothing else, and lets go.
#[test]
fn a_drain_that_a_rival_overtakes_is_given_up() {
    let config = UpsertConfig { drain_rows_max: 1, ..UpsertConfig::default() };
    let mut rig = Rig::<Bytes>::alone(config);
    let data =
        |key: u16, value| (Packed::from_bytes(key.to_le_bytes().to_vec()), Bytes::value(value));
    for key in 0..2000 {
        for time in 0..2 {
            let (key, value) = data(key, time);
            rig.send(Command::put(key, value, 0), time.into());
        }
    }
    rig.close_below(2);
    rig.flush();
    rig.step();
    let part = rig.take().len();
    assert!(0 < part && part < 2000, "{part} rows: the rival should come in the middle");
    for key in 0..2000 {
        rig.feedback.as_mut().unwrap().update_at(data(key, 0), 0, 1);
    }
    rig.fed_below(1);
    // A row a wake-up, and 4,000 of the next time.
    (0..60).for_each(|_| rig.settle());
    let rows = rig.take();
    let late = rows.iter().filter(|row| row.1 == 0).count();
    assert_eq!((part + late + rig.stats.below() as usize, rows.len() - late), (2000, 4000));
    assert!(rig.stats.below() > 0);
    assert_eq!(rig.frontier(), Some(2));
}
