//! Goal: whatever the order in which replicas run, crash, stop, race and lose their store's replies,
//! the shard is the feed's collection at every time, and everything closed gets there.
//! Method: whole pipelines over one store in memory, moved step by step from one seed, against an
//! oracle that folds the feed from scratch. One seed is one run: `SIM_SEED=n` runs it alone,
//! `SIM_SEEDS=n` runs so many.

mod cutover;
mod determinism;
mod end;
mod feed;
#[path = "../common/network.rs"]
mod network;
mod observer;
mod race_table;
mod random;
mod replica;
mod seat;
mod stage;
mod stop;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use world::World;

/// Runs as many seeds as the environment asks for.
fn seeds(default: u64) -> impl Iterator<Item = u64> {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    match number("SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SIM_SEEDS").unwrap_or(default),
    }
}

#[test]
fn every_run_is_safe_and_gets_there() {
    for seed in seeds(200) {
        let run = catch_unwind(AssertUnwindSafe(|| World::new(seed).run()));
        if let Err(panic) = run {
            eprintln!("seed {seed} failed; SIM_SEED={seed} runs it alone");
            std::panic::resume_unwind(panic);
        }
    }
}
