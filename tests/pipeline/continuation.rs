//! Goal: a feed that continues where its program was told to is taken, however often the program looks at
//! the shard before its first row, and however far another writer has gone on meanwhile. Method: two
//! openings of one shard in memory, through the public interface; one worker, stepped by hand.

use std::time::Duration;

use differential_upsert::io::Io;
use differential_upsert::shard::Access;
use differential_upsert::store::Root;
use differential_upsert::{Command, Error, PipelineConfig, Shard, UpsertInto};
use timely::dataflow::operators::Input;

/// When the program looks at the shard, again and again.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Looks {
    BeforeBuilding,
    AfterBuilding,
}

/// How often: more than the table holds.
const LOOKS: u64 = 1_100;

fn open(root: &Root) -> Shard<u64, u64> {
    let io = Io::process().unwrap();
    io.block_on(Shard::open_with(root.clone(), io.clone(), crate::short_waits())).unwrap()
}

/// Feeds one row per time; with `each`, waits for it and calls that. Returns how it went.
fn feed(
    shard: Shard<u64, u64>,
    times: std::ops::Range<u64>,
    built: impl Fn() + Send + Sync + 'static,
    each: impl Fn() + Send + Sync + 'static,
) -> Option<Error> {
    timely::execute_directly(move |worker| {
        let (mut input, token, health) = worker.dataflow(|scope| {
            let (input, commands) = scope.new_input();
            let pipeline = commands.upsert_into(&shard, PipelineConfig::default());
            (input, pipeline.token, pipeline.health)
        });
        built();
        for time in times {
            input.send((Command::put(time, time, 0), time));
            input.advance_to(time + 1);
            while shard.state().upper <= time && health.error().is_none() {
                worker.step_or_park(Some(Duration::from_millis(1)));
            }
            each();
        }
        input.close();
        while worker.has_dataflows() && health.error().is_none() {
            worker.step_or_park(Some(Duration::from_millis(1)));
        }
        drop(token);
        health.error()
    })
}

fn continued(looks: Looks) -> Option<Error> {
    let root = Root::open("mem:", Access::Write).unwrap();
    assert!(feed(open(&root), 0..5, || (), || ()).is_none());
    let ours = open(&root);
    let start = ours.upper();
    assert_eq!(start, 5);
    // Another replica of the same feed, one that has it all, goes on; our program watches.
    let watched = ours.clone();
    let watch = move || {
        let replica = root.clone();
        let ours = watched.clone();
        let look = move || {
            ours.io().block_on(ours.handle().refresh()).unwrap();
            let _ = ours.upper();
        };
        assert!(feed(open(&replica), 0..5 + LOOKS, || (), look).is_none());
    };
    let end = 5 + LOOKS;
    match looks {
        Looks::BeforeBuilding => {
            watch();
            feed(ours, start..end, || (), || ())
        }
        Looks::AfterBuilding => feed(ours, start..end, watch, || ()),
    }
}

#[test]
fn looking_at_the_shard_does_not_forget_where_to_continue() {
    for looks in [Looks::BeforeBuilding, Looks::AfterBuilding] {
        let error = continued(looks);
        assert!(error.is_none(), "{looks:?}: {}", error.unwrap());
    }
}
