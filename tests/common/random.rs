//! Owns the one source of chance of a run, and which seeds are run. The same seed gives the same
//! numbers, everywhere. It does not own what is random.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A generator; clones share it, so that the order of asking is one, whatever part of a run asks.
#[derive(Clone, Debug)]
pub struct Random(Arc<Mutex<fastrand::Rng>>);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(Arc::new(Mutex::new(fastrand::Rng::with_seed(seed))))
    }

    /// A number below `bound`, which is more than 0.
    pub fn below(&self, bound: u64) -> u64 {
        self.0.lock().unwrap().u64(..bound)
    }

    pub fn index(&self, length: usize) -> usize {
        self.below(length as u64) as usize
    }

    /// True once in `n`.
    pub fn one_in(&self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub fn pick<T: Clone>(&self, choices: &[T]) -> T {
        choices[self.index(choices.len())].clone()
    }
}

/// Runs a test from seed 0 on, `default` times, and says which seed failed. The environment may ask for
/// others: `NAME_SEED=n` for one alone, `NAME_SEEDS=n` for so many, `NAME_SECONDS=n` for as many as fit,
/// both from `NAME_SEED` on.
pub fn for_seeds(name: &str, default: u64, mut run: impl FnMut(u64)) {
    let number = |what| {
        let text = std::env::var(format!("{name}_{what}")).ok()?;
        Some(text.parse().unwrap_or_else(|_| panic!("{name}_{what}={text} is not a number")))
    };
    let seconds = number("SECONDS").map(Duration::from_secs);
    let (from, count) = (number("SEED"), number("SEEDS"));
    let count = count.unwrap_or(if from.is_some() { 1 } else { default });
    let begun = Instant::now();
    let mut ran = 0;
    while seconds.map_or(ran < count, |seconds| begun.elapsed() < seconds) {
        let seed = from.unwrap_or(0) + ran;
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(seed))) {
            eprintln!("seed {seed} failed; {name}_SEED={seed} runs it alone");
            resume_unwind(panic);
        }
        ran += 1;
    }
    println!("{ran} seeds, {:.0} per second", ran as f64 / begun.elapsed().as_secs_f64());
}
