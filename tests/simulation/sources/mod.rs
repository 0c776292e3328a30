//! Goal: whatever a feed with cursors does, and whatever becomes of its readers and their store, in
//! every durable state the shard is the fold of the feed up to the cursor beside it (Safety); nothing
//! beyond that is ever acked (Ack); and once nothing goes wrong any more, the cursor covers all (Liveness).
//! What was received and is not durable shows in health. A partition that fails alone ends its run and is not
//! asked without end; an outage is survived.
//! Method: whole pipelines over one store in memory, each with a connection of its own to a scripted
//! feed, moved step by step from one seed; after every step an observer reads the log, with its own
//! reader of cursors. One seed is one run: `SIM_SEED=n` runs it alone, `SIM_SEEDS=n` runs so many,
//! `SIM_SECONDS=n` as many as fit, from `SIM_SEED` on; `SIM_TRACE=1` says what is done.

mod clockwork;
mod observer;
mod outages;
mod place;
mod replica;
mod scripted;
mod seat;
mod upstream;
mod world;

use world::World;

use crate::random::for_seeds;

#[test]
fn every_run_is_safe_and_gets_there() {
    for_seeds("SIM", 300, |seed| drop(World::new(seed).run()));
}

#[test]
fn the_same_seed_leaves_the_same_bytes() {
    for_seeds("SIM", 20, |seed| {
        let (one, two) = (World::new(seed).run(), World::new(seed).run());
        assert_eq!(one.next, two.next, "seed {seed} asked for more chance the second time");
        assert!(one == two, "seed {seed} left other bytes the second time");
    });
}
