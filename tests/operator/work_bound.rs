//! Goal: a wake-up costs what is eligible and new, never what waits: with K pending times the work
//! per drained time does not grow with K. And the gauges say what is held.
//!
//! Method: K times of a few commands wait; the shard then passes them one by one. What is counted
//! is the operator's own steps and, so as not to rely on them alone, every comparison of two keys.

use std::cell::Cell;
use std::cmp::Ordering;
use std::hash::{Hash, Hasher};

use crate::rig::{Bytes, Layout, Rig};
use columnation::{Columnation, CopyRegion};
use differential_upsert::UpsertConfig;
use serde::{Deserialize, Serialize};

thread_local! {
    static COMPARED: Cell<u64> = const { Cell::new(0) };
}

/// A key that counts its comparisons.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Counted(u8);

fn count() {
    COMPARED.with(|compared| compared.set(compared.get() + 1));
}

impl PartialEq for Counted {
    fn eq(&self, other: &Self) -> bool {
        count();
        self.0 == other.0
    }
}

impl Eq for Counted {}

impl Ord for Counted {
    fn cmp(&self, other: &Self) -> Ordering {
        count();
        self.0.cmp(&other.0)
    }
}

impl PartialOrd for Counted {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// All the same, or hashes would decide and nothing be compared.
impl Hash for Counted {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl Columnation for Counted {
    type InnerRegion = CopyRegion<Counted>;
}

struct Counting;

impl Layout for Counting {
    type K = Counted;
    type V = u64;
    fn key(number: u8) -> Counted {
        Counted(number)
    }
    fn number(key: &Counted) -> u8 {
        key.0
    }
    fn value(number: u8) -> u64 {
        number.into()
    }
    fn fold(prior: Option<&u64>, patch: &u64) -> u64 {
        prior.map_or(*patch, |prior| prior + patch)
    }
}

const PER_TIME: u64 = 5;

/// Lets `times` wait, then passes them one by one. Returns, per time, the operator's steps and the
/// comparisons, times 100.
fn cost_per_time(times: u64, stash_bytes_max: usize) -> (u64, u64) {
    let config = UpsertConfig { stash_bytes_max, ..UpsertConfig::default() };
    let mut rig = Rig::<Counting>::alone(config);
    COMPARED.with(|compared| compared.set(0));
    for time in 0..times {
        for key in 0..PER_TIME {
            rig.put(time, key as u8, (time % 251) as u8, 0);
        }
    }
    rig.close_below(times);
    rig.flush();
    for time in 0..times {
        let wanted = (time + 1 < times).then_some(time + 1).or(Some(times));
        let mut steps = 0;
        while rig.frontier() != wanted {
            rig.step();
            steps += 1;
            assert!(steps < 10, "stuck at {:?}, waiting for {wanted:?}", rig.frontier());
        }
        for (data, at, diff) in rig.take() {
            assert_eq!(at, time);
            rig.feedback.as_mut().unwrap().update_at(data, at, diff);
        }
        rig.fed_below(time + 1);
        rig.flush();
    }
    let compared = COMPARED.with(Cell::get);
    (rig.stats.work() * 100 / times, compared * 100 / times)
}

#[test]
fn work_per_time_does_not_grow_with_the_pending_times() {
    let few = cost_per_time(100, usize::MAX);
    for times in [1_000, 10_000] {
        let many = cost_per_time(times, usize::MAX);
        assert!(
            many.0 <= few.0 + few.0 / 10,
            "steps per time: {few:?} for 100, {many:?} for {times}"
        );
        assert!(many.1 <= few.1 + few.1 / 10, "comparisons: {few:?} for 100, {many:?} for {times}");
    }
}

/// The same where only a tenth of the commands fits in memory.
#[test]
fn spilling_does_not_change_that() {
    let bound = |times: u64| (times * PER_TIME * 40 / 10) as usize;
    let few = cost_per_time(100, bound(100));
    let many = cost_per_time(10_000, bound(10_000));
    assert!(many.0 <= 2 * few.0, "steps per time: {few:?} for 100, {many:?} for 10,000");
    assert!(many.1 <= 2 * few.1, "comparisons per time: {few:?} for 100, {many:?} for 10,000");
}

#[test]
fn gauges_follow_what_is_held() {
    let mut rig = Rig::<Bytes>::alone(UpsertConfig::default());
    assert_eq!((rig.stats.stash_bytes(), rig.stats.state_keys()), (0, 0));
    let mut before = 0;
    for time in 0..10 {
        for key in 0..100 {
            rig.put(time, key, key, 0);
        }
        rig.settle();
        let now = rig.stats.stash_bytes();
        assert!(now > before + 100 * size_of::<u64>(), "{now} bytes after {before}");
        before = now;
    }
    let per_time = before / 10;
    rig.close_below(10);
    for time in 0..10 {
        rig.settle();
        assert_eq!(rig.stats.stash_bytes(), (9 - time) as usize * per_time, "after time {time}");
        rig.commit(time + 1);
        assert_eq!(rig.stats.state_keys(), 100);
    }
    let full = rig.stats.state_bytes();
    assert!(full > 100 * 16, "{full} bytes for 100 rows");
    rig.reset(10, 0);
    rig.close_below(11);
    rig.settle();
    assert_eq!(rig.emitted.borrow().len(), 100);
    rig.commit(11);
    assert_eq!(rig.stats.state_keys(), 0);
}

/// Many keys come and go: the memory follows those that are left, not those that were.
#[test]
fn the_state_gives_back_what_is_dead() {
    let mut rig = Rig::<Bytes>::alone(UpsertConfig::default());
    let data = |number: u64| {
        let bytes = differential_upsert::Packed::<()>::from_bytes;
        (bytes(number.to_le_bytes().to_vec()).cast(), bytes(vec![7; 500]).cast())
    };
    let mut most = 0;
    for round in 0..30u64 {
        for number in 0..10_000 {
            let feedback = rig.feedback.as_mut().unwrap();
            feedback.update_at(data(round * 10_000 + number), round, 1);
            if round > 0 {
                feedback.update_at(data((round - 1) * 10_000 + number), round, -1);
            }
        }
        rig.fed_below(round + 1);
        rig.settle();
        assert_eq!(rig.stats.state_keys(), 10_000);
        most = most.max(rig.stats.state_bytes());
    }
    // Half of a chunk may be dead, and one round is in the middle of being replaced.
    assert!(most < 4 * 10_000 * 520 + (2 << 20), "{most} bytes for 5 MB of rows");
}

/// Rows that die while their chunk still takes rows: a history of 30,000 keys that come and go one after another.
#[test]
fn the_state_gives_back_what_dies_young() {
    let mut rig = Rig::<Bytes>::alone(UpsertConfig::default());
    for number in 0..30_000u64 {
        let bytes = differential_upsert::Packed::<()>::from_bytes;
        let data: (_, differential_upsert::Packed<Vec<u8>>) =
            (bytes(number.to_le_bytes().to_vec()).cast(), bytes(vec![7; 1000]).cast());
        let feedback = rig.feedback.as_mut().unwrap();
        feedback.update_at(data.clone(), 0, 1);
        feedback.update_at(data, 0, -1);
        if number % 1000 == 999 {
            rig.settle();
        }
    }
    rig.fed_below(1);
    rig.settle();
    assert_eq!(rig.stats.state_keys(), 0);
    let bytes = rig.stats.state_bytes();
    assert!(bytes < 3 << 20, "the state leaks: {bytes} bytes for 0 keys");
}

/// What is due at once: far more than a wake-up may do.
const DUE: u64 = 50_000;

fn many(
    numbers: std::ops::Range<u64>,
) -> impl Iterator<Item = (u64, differential_upsert::Packed<u8>)> {
    let key = |n: u64| differential_upsert::Packed::<u8>::from_bytes(n.to_le_bytes().to_vec());
    numbers.map(move |n| (n, key(n)))
}

/// Steps until the frontier is at `time`, and returns the most work of one wake-up and how many there were.
fn most_work_until<L: Layout>(rig: &mut Rig<L>, time: u64) -> (u64, u64) {
    let (mut most, mut wakes, mut before) = (0, 0, rig.stats.work());
    rig.flush();
    while rig.frontier() != Some(time) {
        rig.wake();
        let now = rig.stats.work();
        (most, before, wakes) = (most.max(now - before), now, wakes + 1);
        assert!(wakes < 10_000, "stuck at {:?}", rig.frontier());
    }
    (most, wakes)
}

/// A reset's sweep, rewrites that emit nothing, what others persisted and feedback that waited: each is done in pieces, and
/// the operator wakes itself for the next.
#[test]
fn a_wake_up_does_a_piece_of_what_is_due() {
    let config = UpsertConfig { drain_rows_max: 500, ..UpsertConfig::default() };
    let mut rig = Rig::<Bytes>::alone(config);
    let value = Bytes::value(3);
    // A piece of 500 updates looks at 2,000 commands or rows; a container of the feed comes on top.
    let most_allowed = 2_000 + 1_024;
    let check = |rig: &mut Rig<Bytes>, what: &str, time| {
        let (most, wakes) = most_work_until(rig, time);
        assert!(most <= most_allowed, "{what}: {most} steps in one wake-up");
        assert!(wakes >= DUE / most_allowed, "{what}: {wakes} wake-ups");
    };
    let put = |rig: &mut Rig<Bytes>, time, order| {
        for (number, key) in many(0..DUE) {
            rig.send(differential_upsert::Command::put(key, value.clone(), order), time);
            if number % 1000 == 999 {
                rig.flush();
                rig.wake();
            }
        }
    };
    put(&mut rig, 0, 0);
    rig.close_below(1);
    check(&mut rig, "insertions", 1);
    let emitted = rig.take();
    for (at, (data, time, diff)) in emitted.into_iter().enumerate() {
        rig.feedback.as_mut().unwrap().update_at(data, time, diff);
        if at % 1000 == 999 {
            rig.flush();
            rig.wake();
        }
    }
    rig.fed_below(1);
    put(&mut rig, 1, 0);
    rig.close_below(2);
    check(&mut rig, "rewrites", 2);
    rig.commit(2);
    // Superseded by a later reset, which sweeps as many rows.
    put(&mut rig, 2, 1);
    rig.reset(2, 9);
    rig.close_below(3);
    check(&mut rig, "a reset", 3);
    assert_eq!(rig.take().len(), DUE as usize);
    // A rival has done the same, and two times more.
    for time in [3, 4] {
        put(&mut rig, time, 1);
    }
    rig.close_below(5);
    rig.fed_below(5);
    check(&mut rig, "what is below", 5);
    assert_eq!(rig.stats.below(), 2 * DUE);
}

/// A reset of one collection of three goes through all that its time has and all of the state, in pieces, and keeps what it
/// has to delete over them; also where most of the time is on disk.
#[test]
fn a_reset_of_a_collection_is_done_in_pieces() {
    for stash_bytes_max in [1 << 16, 1 << 30] {
        let config =
            UpsertConfig { drain_rows_max: 500, stash_bytes_max, ..UpsertConfig::default() };
        let mut rig = Rig::<Bytes>::alone(config);
        for time in 0..2 {
            if time == 1 {
                rig.reset_of(1, 0, 9);
            }
            for (number, key) in many(0..DUE) {
                let put = differential_upsert::Command::put(key, Bytes::value(time), time);
                rig.send(put, time.into());
                if number % 1000 == 999 {
                    rig.flush();
                    rig.wake();
                }
            }
            assert_eq!(rig.stats.spill_bytes() > 0, stash_bytes_max < 1 << 20);
            rig.close_below(u64::from(time) + 1);
            let (most, _) = most_work_until(&mut rig, u64::from(time) + 1);
            assert!(most <= 2_000 + 1_024, "{most} steps in one wake-up");
            if time == 0 {
                rig.commit(1);
            }
        }
        let (gone, mut come): (Vec<_>, Vec<_>) =
            rig.take().into_iter().map(|((key, _), _, diff)| (key, diff)).partition(|r| r.1 < 0);
        assert_eq!(gone.len(), DUE as usize);
        come.sort();
        let stay = many(0..DUE).filter(|(number, _)| number % 256 % 3 != 0);
        let mut stay: Vec<_> = stay.map(|(_, key)| (key, 1)).collect();
        stay.sort();
        assert_eq!(come.len(), stay.len());
        assert!(come == stay);
    }
}

/// As many patches of one key as of many: they are taken and applied in pieces.
#[test]
fn many_patches_of_one_key_are_many_pieces() {
    let config = UpsertConfig { drain_rows_max: 500, ..UpsertConfig::default() };
    let mut rig = Rig::<Counting>::alone(config);
    for number in 0..DUE {
        rig.send(differential_upsert::Command::patch(Counted(1), 1, 0), 0);
        if number % 1000 == 999 {
            rig.flush();
            rig.wake();
        }
    }
    rig.close_below(1);
    let (most, _) = most_work_until(&mut rig, 1);
    assert!(most <= 2_000 + 1_024, "{most} steps in one wake-up");
    assert_eq!(rig.take(), [((Counted(1), DUE), 0, 1)]);
}

/// Rows of 64 KiB: a wake-up emits by their bytes, not by their number.
#[test]
fn a_piece_of_large_rows_is_small() {
    let config = UpsertConfig { drain_bytes_max: 1 << 20, ..UpsertConfig::default() };
    let mut rig = Rig::<Bytes>::alone(config);
    let large =
        |byte: u8| differential_upsert::Packed::<()>::from_bytes(vec![byte; 1 << 16]).cast();
    for time in 0..2 {
        for key in 0..100 {
            let put = differential_upsert::Command::put(Bytes::key(key), large(time as u8), 0);
            rig.send(put, time);
        }
        rig.close_below(time + 1);
        rig.flush();
        let (mut most, mut before) = (0, 0);
        while rig.frontier() != Some(time + 1) {
            rig.wake();
            let now = rig.emitted.borrow().len();
            (most, before) = (most.max(now - before), now);
        }
        // 16 rows fill a piece; the last may come with its prior value.
        assert!(most <= 18, "{most} rows of 64 KiB in one piece");
        assert_eq!(before, 100 * (1 + time as usize));
        rig.commit(time + 1);
    }
}
