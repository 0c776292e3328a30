//! Goal: a drain turns the commands of a time and the prior values into the least updates, in bounded pieces.

use std::cell::RefCell;
use std::rc::Rc;

use differential_dataflow::Hashable;

use super::cold::{ColdSpace, Job, Readers};
use super::drain::*;
use super::merge::Merge;
use super::overlay::Overlay;
use super::pending::{Action, Pending};
use super::piece::{Drained, Piece};
use super::pins::Pins;
use super::resets::{self, Resets};
use super::rows::KeyHash;
use super::rules::Rules;
use super::stash::Sealed;
use super::state::State;
use crate::codec::packed::Encoded;

type Row = ((u64, String), u64, isize);

fn state(rows: &[(u64, &str)]) -> State<u64, String> {
    let mut state = State::default();
    for (key, value) in rows {
        state.apply(key.hashed(), key, &value.to_string(), 1).unwrap();
    }
    state
}

fn drain(reset: Option<u8>, commands: &[(u64, Option<&str>, u8)]) -> Drain<u64, String, u8, u64> {
    let pending = |(key, value, order): &(u64, Option<&str>, u8)| Pending {
        hash: key.hashed(),
        key: *key,
        action: value.map_or(Action::Delete, |value| Action::Put(value.to_string())),
        order: *order,
    };
    let commands = commands.iter().map(pending).collect();
    let resets = reset.and_then(|order| resets(&[(None, order)]));
    Drain::new(Sealed { merge: Merge::new(5, commands, Vec::new()), resets })
}

/// Resets of all keys, or of those of a collection.
fn resets(all: &[(Option<&str>, u8)]) -> Option<Box<Resets<u8>>> {
    let mut resets = None;
    all.iter().for_each(|(name, order)| {
        resets::add(&mut resets, name.map(str::to_string), *order);
    });
    resets
}

/// Patches append; keys are of the collection of their parity.
fn rules() -> Rules<u64, String> {
    let fold = |prior: Option<&String>, patch: &String| {
        Ok(format!("{}{patch}", prior.map_or("none", |prior| prior)))
    };
    let rules = Rules::new().with_fold(Rc::new(fold));
    rules.with_collections(|key| if key % 2 == 0 { "even" } else { "odd" })
}

fn piece(rows: usize) -> Piece {
    Piece { rows, bytes: usize::MAX, work: usize::MAX }
}

/// Steps to the end, a piece at a time. Returns also how many pieces it took.
fn run(
    mut drain: Drain<u64, String, u8, u64>,
    state: &mut State<u64, String>,
    piece: Piece,
) -> (Vec<Row>, Drained, usize) {
    let (mut all, mut sum, mut pieces, mut pins) =
        (Vec::new(), Drained::default(), 0, Pins::default());
    let mut overlay = Overlay::new(0);
    loop {
        let (mut piece, work) = (piece, piece.work);
        let step =
            drain.step(state, &rules(), &mut overlay, &mut pins, &mut piece, &mut all).unwrap();
        sum.emitted += step.emitted;
        sum.superseded += step.superseded;
        sum.unchanged += step.unchanged;
        sum.work += step.work;
        pieces += 1;
        assert!(step.work <= work as u64, "{step:?} in one piece");
        if step.done {
            return (all, sum, pieces);
        }
    }
}

#[test]
fn emits_the_least() {
    let mut state = state(&[(1, "a"), (2, "b"), (3, "c")]);
    let commands = [
        (1, Some("x"), 0), // update
        (2, Some("b"), 0), // rewrite
        (3, None, 0),      // delete
        (4, None, 0),      // delete of an absent key
        (5, Some("y"), 0), // insertion
    ];
    let (rows, drained, _) = run(drain(None, &commands), &mut state, piece(100));
    let row = |key, value: &str, diff| ((key, value.to_string()), 5, diff);
    assert_eq!(rows, [row(1, "a", -1), row(1, "x", 1), row(3, "c", -1), row(5, "y", 1)]);
    let expected = Drained { emitted: 3, unchanged: 2, work: 5, ..Drained::default() };
    assert_eq!(drained, expected);
}

#[test]
fn a_reset_sweeps_what_no_surviving_command_has_touched() {
    let mut state = state(&[(1, "a"), (2, "b"), (3, "c"), (4, "d")]);
    // Later, equal and earlier orders; the last also for a delete.
    let commands = [(1, Some("a"), 9), (2, Some("z"), 5), (3, Some("c"), 4), (4, None, 5)];
    for rows_max in [1, 100] {
        let (mut rows, drained, _) = run(drain(Some(5), &commands), &mut state, piece(rows_max));
        rows.sort();
        let row = |key, value: &str, diff| ((key, value.to_string()), 5, diff);
        assert_eq!(rows, [row(2, "b", -1), row(2, "z", 1), row(3, "c", -1), row(4, "d", -1)]);
        assert_eq!((drained.superseded, drained.unchanged), (2, 1));
    }
}

/// Rewrites, superseded commands and swept rows count against a piece as well as what is emitted, and large rows
/// count by their bytes.
#[test]
fn a_piece_is_bounded_by_work_rows_and_bytes() {
    let all: Vec<_> = (0..2000).map(|key| (key, "v")).collect();
    let mut state = state(&all);
    let rewrites: Vec<_> = (0..2000).map(|key| (key, Some("v"), 9)).collect();
    let earlier: Vec<_> = (0..2000).map(|key| (key, Some("w"), 1)).collect();
    let work = Piece { work: 100, ..piece(usize::MAX) };
    for (drain, emitted, pieces) in [
        (drain(None, &rewrites), 0, 20),
        (drain(Some(5), &rewrites), 0, 40),
        (drain(Some(5), &earlier), 2000, 40),
    ] {
        let (rows, _, took) = run(drain, &mut state, work);
        assert_eq!(rows.len(), emitted);
        assert!((pieces..=pieces + 1).contains(&took), "{took} pieces");
    }
    let bytes = Piece { bytes: 1, ..piece(usize::MAX) };
    let (rows, _, took) = run(drain(Some(5), &earlier), &mut state, bytes);
    assert!(rows.len() == 2000 && took >= 2000, "{took} pieces");
}

/// What was emitted and has not come back goes before the state, a deletion too.
#[test]
fn the_overlay_goes_before_the_state() {
    let mut state = state(&[(1, "a"), (2, "b"), (3, "c"), (4, "d")]);
    let mut overlay = Overlay::new(1 << 20);
    let emitted = [(1, Some("x")), (2, None), (4, Some("y"))];
    for (key, value) in emitted {
        overlay.record(key.hashed(), &key, value.map(str::to_string).as_ref(), &4);
    }
    let commands = [(1, Some("z"), 0), (2, Some("b"), 0), (3, None, 0), (4, Some("y"), 0)];
    let (mut out, mut pins) = (Vec::new(), Pins::default());
    let mut drain = drain(None, &commands);
    let step = drain
        .step(&mut state, &rules(), &mut overlay, &mut pins, &mut piece(100), &mut out)
        .unwrap();
    let row = |key, value: &str, diff| ((key, value.to_string()), 5, diff);
    out.sort();
    assert_eq!(out, [row(1, "x", -1), row(1, "z", 1), row(2, "b", 1), row(3, "c", -1)]);
    assert_eq!((step.emitted, step.unchanged, step.done), (3, 1, true));
    overlay.index();
    let get = |key: u64| overlay.get(key.hashed(), &key).map(|value| value.cloned());
    assert_eq!((get(1), get(3)), (Some(Some("z".to_string())), Some(None)));
}

#[test]
fn what_is_not_drained_is_counted() {
    let commands: Vec<_> = (0..2 * 256).map(|key| (key, Some("v"), 0)).collect();
    let mut drain = drain(None, &commands);
    let mut out = Vec::new();
    let (mut state, mut overlay) = (state(&[]), Overlay::new(0));
    let mut piece = Piece { rows: 256, bytes: 1, work: usize::MAX };
    let step = drain
        .step(&mut state, &rules(), &mut overlay, &mut Pins::default(), &mut piece, &mut out)
        .unwrap();
    assert!(!step.done);
    let (taken, rest) = drain.give_up();
    assert_eq!(out.len() + taken as usize + rest.memory.count(), commands.len());
}

/// Patches fold in order, over what the time has put, deleted or reset, else over what was emitted, else over the state.
#[test]
fn patches_fold_over_what_they_stand_on() {
    let all: Vec<_> = (0..7).map(|key| (key, "s")).collect();
    let mut state = state(&all);
    let mut overlay = Overlay::new(1 << 20);
    for (key, value) in [(1, Some("e")), (2, None)] {
        overlay.record(key.hashed(), &key, value.map(str::to_string).as_ref(), &4);
    }
    let patch = |key: u64, patch: &str, order| Pending {
        hash: key.hashed(),
        key,
        action: Action::Patch(patch.to_string()),
        order,
    };
    let other = |key: u64, action, order| Pending { hash: key.hashed(), key, action, order };
    let mut commands = vec![
        patch(0, "1", 1), // over the state
        patch(0, "2", 2),
        patch(0, "2", 2), // another one
        patch(0, "3", 2), // at equal orders the lesser first
        patch(1, "1", 1), // over what was emitted
        patch(2, "1", 1), // over what was emitted as gone
        other(3, Action::Put("p".to_string()), 5),
        patch(3, "1", 4), // before the put
        patch(3, "2", 5), // at its order
        other(4, Action::Delete, 5),
        patch(4, "1", 6),
        patch(5, "", 1),  // changes nothing
        patch(7, "1", 1), // over nothing
    ];
    commands.sort_by(Pending::compare);
    commands.dedup_by(|next, kept| kept.supersedes(next));
    for (reset, expected) in [
        (vec![], "0-s 0+s1223 1-e 1+e1 2+none1 3-s 3+p2 4-s 4+none1 7+none1"),
        (vec![(None, 2)], "0-s 0+none223 1-s 2-s 3-s 3+p2 4-s 4+none1 5-s 6-s"),
        (vec![(Some("odd"), 2)], "0-s 0+s1223 1-s 2-s 2+s1 3-s 3+p2 4-s 4+none1 5-s"),
        (
            vec![(None, 1), (Some("even"), 2), (Some("odd"), 1), (Some("neither"), 9)],
            "0-s 0+none223 1-s 1+none1 2-s 3-s 3+p2 4-s 4+none1 5-s 5+none 6-s 7+none1",
        ),
    ] {
        let merge = Merge::new(5, commands.clone(), Vec::new());
        let mut drain = Drain::new(Sealed { merge, resets: resets(&reset) });
        let (mut out, mut sum, mut pins) = (Vec::new(), Drained::default(), Pins::default());
        let mut before = Overlay::new(1 << 20);
        // Ahead of a reset nothing is emitted and not read back.
        let overlay = if reset.is_empty() { &mut overlay } else { &mut before };
        let mut done = false;
        while !done {
            let mut piece = Piece { rows: 1, bytes: 1, work: 1 };
            let step = drain.step(&mut state, &rules(), overlay, &mut pins, &mut piece, &mut out);
            let step = step.unwrap();
            // However many patches a key has.
            assert!(step.work <= 1, "{step:?} in one piece");
            (sum.emitted, sum.unchanged) =
                (sum.emitted + step.emitted, sum.unchanged + step.unchanged);
            (sum.superseded, done) = (sum.superseded + step.superseded, step.done);
        }
        out.sort_by_key(|((key, _), _, diff)| (*key, *diff));
        let row = |((key, value), _, diff): &Row| {
            format!("{key}{}{value}", if *diff > 0 { '+' } else { '-' })
        };
        assert_eq!(out.iter().map(row).collect::<Vec<_>>().join(" "), expected, "{reset:?}");
        let counted = sum.emitted + sum.unchanged + sum.superseded;
        assert_eq!(counted, commands.len() as u64, "{sum:?}");
    }
}

/// Rows smaller than what is kept beside each of them, in as little memory as there may be: a drain goes on with what has
/// come, and does not drive it out.
#[test]
fn small_rows_are_read_in_little_memory() {
    let bytes = |text: String| Encoded::from_bytes(text.into_bytes());
    let key = |number: u32| bytes(format!("{number}"));
    let jobs = Rc::new(RefCell::new(Vec::<Job>::new()));
    let waiting = Rc::clone(&jobs);
    let readers: Readers = Box::new(move |job| waiting.borrow_mut().push(job));
    let space = ColdSpace { readers: Some(readers), ..ColdSpace::default() };
    let mut state = State::<Encoded, Encoded>::new(Some(0), space);
    for number in 0..3000 {
        let key = key(number);
        state.apply(key.key_hash(), &key, &bytes("a".into()), 1).unwrap();
    }
    state.keep_bound().unwrap();
    let command = |number| {
        let key = key(number);
        Pending { hash: key.key_hash(), key, action: Action::Put(bytes("b".into())), order: 0u8 }
    };
    let mut commands: Vec<_> = (0..3000).map(command).collect();
    commands.sort_by(Pending::compare);
    let merge = Merge::new(5u64, commands, Vec::new());
    let mut drain = Drain::new(Sealed { merge, resets: None });
    let (mut out, mut pins, mut overlay) = (Vec::new(), Pins::default(), Overlay::new(0));
    let mut missed = 0;
    for _ in 0..3000 {
        let mut piece = Piece { rows: 300, bytes: usize::MAX, work: usize::MAX };
        let (rules, overlay) = (Rules::new(), &mut overlay);
        let step = drain.step(&mut state, &rules, overlay, &mut pins, &mut piece, &mut out);
        let step = step.unwrap();
        missed += step.missed;
        let jobs = jobs.take();
        assert_eq!(step.waits, !jobs.is_empty(), "it waits for what it has asked for");
        jobs.into_iter().for_each(|job| job());
        if step.done {
            break;
        }
    }
    assert!(
        out.len() == 6000 && missed < 4000,
        "{} updates, {missed} reads for 3,000 rows",
        out.len()
    );
}
