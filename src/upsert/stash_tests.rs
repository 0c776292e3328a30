//! Goal: the stash against a fold: what is latest per key and time, within its bound.

use std::cell::RefCell;
use std::rc::Rc;

use super::*;
use crate::codec::packed::{Encoded, Packer};
use crate::upsert::drain::Drain;
use crate::upsert::overlay::Overlay;
use crate::upsert::pending::Action;
use crate::upsert::piece::{Drained, Piece};
use crate::upsert::pile::PRUNE_MIN;
use crate::upsert::rules::Rules;
use crate::upsert::state::State;

type Small = Stash<u32, u32, u8, u64>;

fn stash(bytes_max: usize) -> Small {
    Stash::new(bytes_max, SharedSpill::default())
}

/// Values from here on are patches.
const PATCH: u32 = 1 << 30;

fn pending(key: u32, value: Option<u32>, order: u8) -> Pending<u32, u32, u8> {
    let action = match value {
        None => Action::Delete,
        Some(value @ ..PATCH) => Action::Put(value),
        Some(patch) => Action::Patch(patch),
    };
    // Keys 1 and 11 have the same hash.
    Pending { hash: u64::from(key % 10), key, action, order }
}

/// A time, its resets by collection, and its commands.
type Taken = (u64, Vec<(Option<String>, u8)>, Vec<(u32, Option<u32>)>);

/// Takes everything out, time by time: the least time, its resets, and the commands that take effect.
fn drain(stash: &mut Small) -> Vec<Taken> {
    let mut all = Vec::new();
    while let Some(Sealed { mut merge, resets }) = stash.seal().unwrap() {
        let mut commands = Vec::new();
        while let Some((command, superseded)) = merge.next(stash.pins()).unwrap() {
            stash.done.superseded += superseded;
            commands.push((command.key, command.action.into_value()));
        }
        let resets = resets.into_iter().flat_map(|resets| resets.into_orders()).collect();
        all.push((merge.time, resets, commands));
        stash.unseal(merge);
    }
    assert_eq!((stash.rows(), stash.bytes(), stash.spill_bytes()), (0, 0, 0));
    assert_eq!(stash.first_time(), None);
    all
}

#[test]
fn seals_the_least_time_with_the_latest_per_key() {
    let mut stash = stash(usize::MAX);
    stash.push(7, pending(1, Some(1), 0));
    for (key, value, order) in [(1, Some(5), 1), (11, Some(6), 0), (1, None, 2), (2, None, 0)] {
        stash.push(3, pending(key, value, order));
    }
    stash.reset(3, None, 4);
    stash.reset(3, None, 2);
    for (order, name) in [(1, "b"), (5, "a"), (7, "b"), (6, "b")] {
        stash.reset(3, Some(name.to_string()), order);
    }
    let named = |name: &str, order| (Some(name.to_string()), order);
    let resets = vec![(None, 4), named("a", 5), named("b", 7)];
    let expected = vec![
        (3, resets, vec![(1, None), (11, Some(6)), (2, None)]),
        (7, vec![], vec![(1, Some(1))]),
    ];
    assert_eq!(drain(&mut stash), expected);
    assert_eq!(stash.take_done().superseded, 1);
}

#[test]
fn equal_orders_go_to_the_greater_value() {
    for bytes_max in [usize::MAX, 0] {
        let mut stash = stash(bytes_max);
        for value in [None, Some(2), Some(9), Some(3), None] {
            stash.push(0, pending(1, value, 1));
            stash.keep_bound().unwrap();
        }
        assert_eq!(drain(&mut stash), [(0, vec![], vec![(1, Some(9))])]);
    }
}

/// Patches of the same or a greater order than what they change, and no other.
#[test]
fn patches_stay_with_what_they_change() {
    for bytes_max in [usize::MAX, 0] {
        let mut stash = stash(bytes_max);
        let commands = [(PATCH + 1, 1), (5, 2), (PATCH + 2, 2), (4, 2), (PATCH + 1, 3)];
        for (value, order) in commands.into_iter().chain([(PATCH + 1, 3), (PATCH + 3, 3)]) {
            stash.push(0, pending(1, Some(value), order));
            stash.keep_bound().unwrap();
        }
        let taken = [PATCH + 3, PATCH + 1, PATCH + 1, PATCH + 2, 5].map(|value| (1, Some(value)));
        assert_eq!(drain(&mut stash), [(0, vec![], taken.to_vec())]);
        assert_eq!(stash.take_done().superseded, 2);
    }
}

/// What a reset's collection is called counts, in memory, while it is drained and until it is taken back; on disk it does
/// not, and comes back from there.
#[test]
fn the_names_of_resets_count() {
    let mut stash = stash(usize::MAX);
    let name = |number: u64| format!("{number:01000}");
    for number in 0..100 {
        stash.reset(number % 2, Some(name(number)), 1);
        stash.reset(number % 2, Some(name(number)), 0);
    }
    let all = 100_000..120_000;
    assert!(all.contains(&stash.bytes()), "{} bytes", stash.bytes());
    stash.bytes_max = 0;
    while stash.keep_bound().unwrap() {}
    assert!(stash.spill_bytes() >= 100_000 && stash.heap == 0, "{} bytes", stash.heap);
    stash.bytes_max = usize::MAX;
    let sealed = stash.seal().unwrap().unwrap();
    assert!(stash.bytes() >= 50_000, "{} bytes of what is drained", stash.bytes());
    stash.unseal_whole(sealed);
    assert!(stash.heap >= 50_000, "{} bytes", stash.heap);
    let names = |from| (from..100).step_by(2).map(|number| (Some(name(number)), 1)).collect();
    assert_eq!(drain(&mut stash), [(0, names(0), vec![]), (1, names(1), vec![])]);
}

/// A stash that has written out patches of two keys of one hash, each in runs of its own.
fn written() -> Small {
    let mut stash = stash(0);
    for order in 0..4 {
        for key in [1, 11, 2] {
            stash.push(0, pending(key, Some(PATCH + key), order));
        }
        stash.keep_bound().unwrap();
    }
    stash
}

#[test]
fn the_commands_of_a_key_come_one_after_the_other_out_of_runs() {
    let mut stash = written();
    let Sealed { mut merge, .. } = stash.seal().unwrap().unwrap();
    assert!(!merge.runs.is_empty());
    let mut all = Vec::new();
    while let Some((first, superseded)) = merge.next(stash.pins()).unwrap() {
        let mut orders = vec![first.order];
        while let Some(next) = merge.next_of(&first, stash.pins()) {
            assert!(next.same_key(&first));
            orders.push(next.order);
        }
        all.push((first.key, orders, superseded));
    }
    let orders = || vec![3, 2, 1, 0];
    assert_eq!(all, [(1, orders(), 0), (11, orders(), 0), (2, orders(), 0)]);
    assert_eq!(merge.held_bytes(), merge.runs.iter().map(Run::heap_bytes).sum::<usize>());
}

/// Wherever a drain is given up, each command is emitted, superseded, taken, or left where it was.
#[test]
fn a_drain_of_patches_that_is_given_up_counts_them_all() {
    let fold = |prior: Option<&u32>, patch: &u32| Ok(prior.unwrap_or(&0) ^ patch);
    let rules = Rules::new().with_fold(Rc::new(fold));
    let mut pieces = 0;
    loop {
        let mut stash = written();
        let mut drain = Drain::new(stash.seal().unwrap().unwrap());
        let (mut state, mut overlay) = (State::default(), Overlay::new(0));
        let (mut out, mut counted, mut last) = (Vec::new(), 0, Drained::default());
        for _ in 0..pieces {
            let mut piece = Piece { rows: 1, bytes: 1, work: 1 };
            let pins = stash.pins();
            last =
                drain.step(&mut state, &rules, &mut overlay, pins, &mut piece, &mut out).unwrap();
            counted += last.emitted + last.superseded + last.unchanged;
        }
        let (taken, rest) = drain.give_up();
        let left: u64 = rest.runs.iter().map(Run::commands).sum();
        let left = left + rest.memory.len() as u64;
        assert_eq!(counted + taken + left, 12, "after {pieces} pieces: {last:?}");
        if last.done {
            return assert_eq!((taken, left), (0, 0));
        }
        pieces += 1;
        assert!(pieces < 100, "{last:?}");
    }
}

/// A key that is written for ever takes no more room than once.
#[test]
fn memory_follows_distinct_keys() {
    let mut stash = stash(usize::MAX);
    for i in 0..PRUNE_MIN as u32 * 20 {
        stash.push(0, pending(i % 10, Some(i), 0));
        assert!(stash.bytes() <= PRUNE_MIN * size_of::<Pending<u32, u32, u8>>() + 500);
    }
    assert_eq!(drain(&mut stash)[0].2.len(), 10);
    assert_eq!(stash.take_done().superseded, PRUNE_MIN as u64 * 20 - 10);
}

#[test]
fn sheds_below_a_bound_and_nothing_else() {
    let mut stash = stash(0);
    for time in 0..5 {
        stash.push(time, pending(1, Some(1), 0));
        stash.push(time, pending(2, Some(1), 0));
        if time == 1 {
            // These are on disk, the later ones in memory.
            stash.keep_bound().unwrap();
        }
    }
    stash.reset(0, None, 1);
    stash.reset(1, Some("a".to_string()), 1);
    assert_eq!(stash.shed(&3, 100), Ok(6));
    assert_eq!(stash.shed(&3, 100), Ok(0));
    assert_eq!((stash.first_time(), stash.rows()), (Some(&3), 4));
    stash.clear();
    assert_eq!((stash.bytes(), stash.spill_bytes()), (0, 0));
    assert_eq!(stash.first_time(), None);
}

/// A piece at a time, from memory and from runs, and no command is counted twice or not at all.
#[test]
fn sheds_a_piece_at_a_time() {
    let mut stash = stash(usize::MAX);
    for time in 0..20 {
        (0..50).for_each(|key| stash.push(time, pending(key, Some(1), 0)));
        stash.bytes_max = if time % 3 == 0 { 0 } else { usize::MAX };
        stash.keep_bound().unwrap();
    }
    let (mut shed, mut pieces) = (0, 0);
    while stash.first_time() < Some(&15) {
        // A run that lies below as a whole goes at once.
        let now = stash.shed(&15, 10).unwrap();
        (shed, pieces) = (shed + now, pieces + 1);
    }
    assert!(shed == 15 * 50 && pieces > 10, "{shed} in {pieces} pieces");
    let rest: Vec<_> = drain(&mut stash).into_iter().map(|(time, _, c)| (time, c.len())).collect();
    assert_eq!(rest, (15..20).map(|time| (time, 50)).collect::<Vec<_>>());
}

#[test]
fn spills_the_greatest_times_down_to_half_of_the_bound() {
    let mut stash = stash(usize::MAX);
    stash.push(0, pending(1, Some(1), 0));
    let one = stash.bytes();
    stash.bytes_max = 10 * one;
    for time in 1..10 {
        stash.push(time, pending(1, Some(1), 0));
    }
    assert_eq!(stash.keep_bound(), Ok(false));
    assert_eq!((stash.spill_bytes(), stash.take_done().looked_at), (0, 0), "the bound holds");
    stash.push(10, pending(1, Some(1), 0));
    stash.keep_bound().unwrap();
    assert!(stash.heap <= 5 * one, "{} bytes", stash.heap);
    assert_eq!(stash.spilled.len(), 1, "many times, one run");
    let times: Vec<_> = drain(&mut stash).into_iter().map(|(time, ..)| time).collect();
    assert_eq!(times, (0..11).collect::<Vec<_>>());
}

/// Whatever is spilled, merged, interrupted and given back, what comes out is the same. `STASH_SEED=n`
/// runs one seed.
#[test]
fn spilling_changes_nothing() {
    let given = std::env::var("STASH_SEED").ok().and_then(|seed| seed.parse().ok());
    for seed in given.map_or(0..20, |seed: u64| seed..seed + 1) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut next = |below: u64| random.u64(..below);
        let (mut roomy, mut tight) = (stash(usize::MAX), stash(0));
        for _ in 0..3000 {
            let time = next(6);
            if next(100) == 0 {
                let order = next(9) as u8;
                let name = [None, Some("a"), Some("b")][next(3) as usize].map(str::to_string);
                roomy.reset(time, name.clone(), order);
                tight.reset(time, name, order);
            } else {
                let (key, value) = (next(30) as u32, (next(4) > 0).then_some(next(9) as u32));
                let value = value.map(|value| if next(5) == 0 { PATCH + value } else { value });
                let command = pending(key, value, next(5) as u8);
                roomy.push(time, command.clone());
                tight.push(time, command);
            }
            match next(30) {
                0 => drop(tight.keep_bound().unwrap()),
                // A drain that is given up at once.
                1 => {
                    if let Some(Sealed { mut merge, resets }) = tight.seal().unwrap() {
                        for (name, order) in resets.into_iter().flat_map(|all| all.into_orders()) {
                            tight.reset(merge.time, name, order);
                        }
                        let (time, mut taken) = (merge.time, Vec::new());
                        taken.extend(merge.next(tight.pins()).unwrap().map(|(command, _)| command));
                        taken.extend(std::mem::take(&mut merge.group));
                        tight.unseal(merge);
                        taken.into_iter().for_each(|command| tight.push(time, command));
                    }
                }
                _ => {}
            }
        }
        assert_eq!(drain(&mut tight), drain(&mut roomy), "seed {seed}");
    }
}

/// One open time that is written for ever: runs stay few, and the file follows distinct keys.
#[test]
fn runs_of_one_time_are_merged() {
    let mut stash = stash(0);
    let (keys, rounds) = (20_000, 100);
    let mut most = 0;
    for round in 0..rounds {
        (0..keys).for_each(|key| stash.push(7, pending(key, Some(round), round as u8)));
        while stash.keep_bound().unwrap() {}
        assert!(stash.spilled.len() < 32, "{} runs", stash.spilled.len());
        most = most.max(stash.spill_bytes());
    }
    // A run of each key takes 30 bytes a key, about.
    assert!(most < 35 * 40 * u64::from(keys), "{most} bytes for {keys} keys");
    let all = drain(&mut stash);
    assert_eq!(all[0].2.len(), keys as usize);
    assert!(all[0].2.iter().all(|(_, value)| *value == Some(rounds - 1)));
    assert_eq!(stash.take_done().superseded, u64::from(keys * (rounds - 1)));
}

fn packed(rows: &[(u64, usize)]) -> Vec<Pending<Encoded, Encoded, u8>> {
    let mut packer = Packer::default();
    for (key, length) in rows {
        packer.push_with(|buffer| buffer.extend_from_slice(&key.to_le_bytes())).unwrap();
        packer.push_with(|buffer| buffer.resize(buffer.len() + length, 7)).unwrap();
    }
    let all: Vec<Encoded> = packer.finish().collect();
    let command = |(row, (hash, _)): (&[Encoded], &(u64, usize))| Pending {
        hash: *hash,
        key: row[0].clone(),
        action: Action::Put(row[1].clone()),
        order: 0,
    };
    all.chunks(2).zip(rows).map(command).collect()
}

/// What a row keeps is counted once, however many share it, and at the bound the few that are left of large buffers are copied
/// out of them: nothing is spilled for them.
#[test]
fn survivors_are_copied_out_of_their_buffers() {
    let spill: SharedSpill = Rc::new(RefCell::default());
    let mut stash = Stash::new(1 << 20, Rc::clone(&spill));
    for batch in 0..100u64 {
        // 64 KiB of which 100 bytes stay.
        let rows = packed(&[(batch, 100), (1_000, 60_000)]);
        for command in rows.into_iter().take(1) {
            stash.push(batch, command);
        }
        stash.keep_bound().unwrap();
        let bytes = stash.bytes();
        assert!(bytes <= 1 << 20, "{bytes} bytes");
    }
    assert!(stash.bytes() > 100 * 100 && stash.spill_bytes() == 0);
    let whole = packed(&[(1, 30_000), (2, 30_000)]);
    let (before, mut piles) = (stash.bytes(), Vec::new());
    for command in whole {
        stash.push(500, command);
        piles.push(stash.bytes() - before);
    }
    assert!(piles[0] > 60_000 && piles[1] < piles[0] + 1000, "one buffer, counted once: {piles:?}");
    // What leaves keeps nothing but itself.
    let Some(Sealed { mut merge, .. }) = stash.seal().unwrap() else { panic!("a time") };
    let (command, _) = merge.next(stash.pins()).unwrap().unwrap();
    assert!(command.key.place().buffer_bytes < 500);
    stash.unseal(merge);
    let mut left = 0;
    while let Some(Sealed { mut merge, .. }) = stash.seal().unwrap() {
        while merge.next(stash.pins()).unwrap().is_some() {
            left += 1;
        }
        stash.unseal(merge);
    }
    assert_eq!((left, stash.bytes(), stash.rows()), (101, 0, 0));
}

/// Rows of one buffer that leave in one wake-up are not copied one by one; the last of a buffer whose others have left
/// before is.
#[test]
fn what_leaves_together_shares_its_buffer() {
    let mut stash = Stash::new(usize::MAX, SharedSpill::default());
    let rows = packed(&(0..10).map(|key| (key, 1000)).collect::<Vec<_>>());
    (0u64..).zip(rows).for_each(|(time, command)| stash.push(time, command));
    let mut buffers = Vec::new();
    for time in 0..10 {
        if time == 0 || time == 9 {
            stash.wake();
        }
        let Some(Sealed { mut merge, .. }) = stash.seal().unwrap() else { panic!("a time") };
        let (command, _) = merge.next(stash.pins()).unwrap().unwrap();
        buffers.push(command.key.place().buffer);
        stash.unseal(merge);
    }
    let last = buffers.pop().unwrap();
    assert!(buffers.iter().all(|buffer| *buffer == buffers[0]), "copied, and left together");
    assert_ne!(last, buffers[0], "the last one keeps nothing but itself");
}

/// An unreadable run is an error before anything past it is taken.
#[test]
fn an_unreadable_run_is_reported() {
    let mut stash = stash(0);
    (0..5000).for_each(|key| stash.push(3, pending(key, Some(1), 0)));
    stash.keep_bound().unwrap();
    let Some(Sealed { mut merge, .. }) = stash.seal().unwrap() else { panic!("a time") };
    // The page that it reads next is another run's by now.
    stash.spill.borrow_mut().truncate();
    let mut taken = 0;
    let error = loop {
        match merge.next(stash.pins()) {
            Ok(Some(_)) => taken += 1,
            Ok(None) => panic!("{taken} commands and no error"),
            Err(error) => break error,
        }
    };
    assert!(taken < 5000 && error.0.contains("scratch file"), "{error:?}");
}
