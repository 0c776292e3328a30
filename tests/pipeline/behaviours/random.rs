//! Owns the one source of chance of a run, and which seeds are run. It does not own what is random.

use std::sync::atomic::{AtomicU64, Ordering};

/// A splitmix generator.
#[derive(Debug)]
pub struct Random(AtomicU64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(AtomicU64::new(seed.wrapping_mul(0x2545_f491_4f6c_dd1d)))
    }

    pub fn next(&self) -> u64 {
        let state = self.0.load(Ordering::Relaxed).wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.store(state, Ordering::Relaxed);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    pub fn index(&self, length: usize) -> usize {
        self.below(length as u64) as usize
    }

    pub fn one_in(&self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// Runs what fails by a seed for as many seeds as the environment asks for, and says which failed.
pub fn for_seeds(default: u64, run: impl Fn(u64)) {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seeds = match (number("BEHAVIOUR_SEED"), number("BEHAVIOUR_SEEDS")) {
        (Some(seed), None) => seed..seed + 1,
        (from, count) => {
            let from = from.unwrap_or(0);
            from..from + count.unwrap_or(default)
        }
    };
    for seed in seeds {
        let run = std::panic::AssertUnwindSafe(|| run(seed));
        if let Err(panic) = std::panic::catch_unwind(run) {
            eprintln!("seed {seed} failed; BEHAVIOUR_SEED={seed} runs it alone");
            std::panic::resume_unwind(panic);
        }
    }
}
