//! Goal: whatever the order in which replicas run, crash, stop, race and lose their store's replies,
//! the shard is the feed's collection at every time, and everything closed gets there.
//! Method: whole pipelines over one store in memory, moved step by step from one seed, against an
//! oracle that folds the feed from scratch. One seed is one run: `SIM_SEED=n` runs it alone,
//! `SIM_SEEDS=n` runs so many, `SIM_SECONDS=n` as many as fit, from `SIM_SEED` on.

mod cutover;
mod determinism;
mod end;
mod hydration;
mod observer;
mod other_feed;
mod outage;
mod race_table;
mod replaced;
mod replica;
mod seat;
mod stage;
mod stop;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use world::World;

/// Runs as many seeds as the environment asks for.
fn seeds(default: u64) -> impl Iterator<Item = u64> {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let begun = Instant::now();
    let seconds = number("SIM_SECONDS").map(Duration::from_secs);
    let seeds = match (number("SIM_SEED"), number("SIM_SEEDS")) {
        (from, _) if seconds.is_some() => from.unwrap_or(0)..u64::MAX,
        (Some(seed), None) => seed..seed + 1,
        (from, count) => {
            let from = from.unwrap_or(0);
            from..from + count.unwrap_or(default)
        }
    };
    seeds.take_while(move |_| seconds.is_none_or(|seconds| begun.elapsed() < seconds))
}

#[test]
fn every_run_is_safe_and_gets_there() {
    let (begun, mut ran) = (Instant::now(), 0);
    for seed in seeds(200) {
        ran += 1;
        let run = catch_unwind(AssertUnwindSafe(|| World::new(seed).run()));
        if let Err(panic) = run {
            eprintln!("seed {seed} failed; SIM_SEED={seed} runs it alone");
            std::panic::resume_unwind(panic);
        }
    }
    println!("{ran} seeds, {:.0} per second", ran as f64 / begun.elapsed().as_secs_f64());
}
