//! Goal: whatever the order in which replicas run, crash, stop, race and lose their store's replies,
//! the shard is the feed's collection at every time, and everything closed gets there.
//! Method: whole pipelines over one store in memory, moved step by step from one seed, against an
//! oracle that folds the feed from scratch. One seed is one run: `SIM_SEED=n` runs it alone,
//! `SIM_SEEDS=n` runs so many, `SIM_SECONDS=n` as many as fit, from `SIM_SEED` on.

mod ahead;
mod cutover;
mod determinism;
mod end;
mod hydration;
mod images;
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

use world::World;

use crate::random::for_seeds;

#[test]
fn every_run_is_safe_and_gets_there() {
    for_seeds("SIM", 200, |seed| drop(World::new(seed).run()));
}
