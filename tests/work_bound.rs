//! Goal: a wake-up costs what is eligible and new, never what waits: with K pending times the work
//! per drained time does not grow with K. And the gauges say what is held.
//!
//! Method: K times of a few commands wait; the shard then passes them one by one. What is counted
//! is the operator's own steps and, so as not to rely on them alone, every comparison of two keys.

mod rig;

use std::cell::Cell;
use std::cmp::Ordering;
use std::hash::{Hash, Hasher};

use columnation::{Columnation, CopyRegion};
use differential_upsert::UpsertConfig;
use rig::{Bytes, Layout, Rig};
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
    fn value(number: u8) -> u64 {
        number.into()
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
