//! Goal: a place that the server does not have any more costs a new copy and nothing else: what has
//! gone meanwhile goes in one step, with all that has come, and a crash before it changes nothing. A
//! reshard replaces the shards in one step, and a later run resumes in the new ones.
//! Method: a server without weather; every durable state of the shard is looked at.

use std::sync::Arc;
use std::time::{Duration, Instant};

use differential_upsert::store::{Access, Root};

use crate::planetscale::client::{
    Client, Protocol, Setting, Table, contents, contents_in_copy, runtime,
};
use crate::planetscale::model::Row;
use crate::planetscale::proto::{Event, ShardGtid, VStreamRequest};
use crate::planetscale::script::{Scene, begin, commit, events, field, insert, play, row, vgtid};
use crate::planetscale::world::{KEYSPACE, Weather, World};
use crate::random::Random;

fn quiet(seed: u64, shards: usize) -> Arc<World> {
    let weather = Weather { calm: true, responses_max: 0, authorization: None };
    let world = World::new(&Random::new(seed), shards, weather);
    (0..20).for_each(|_| world.with(|state| state.model.transact()));
    world
}

fn table(world: &World) -> Table {
    let text = |(key, row): (_, Row)| (Row::key_json(key).to_string(), row.json());
    world.look(|state| state.model.table().into_iter().map(text).collect())
}

/// Runs a client until the shard has the table, and returns all that it ever had.
fn run(
    world: &Arc<World>,
    root: &Root,
    setting: &Setting,
    crash_after: Option<usize>,
) -> Vec<Table> {
    let runtime = runtime();
    world.with(|state| state.ledger.begin_life());
    let server = runtime.block_on(world.serve());
    let mut client = Client::start(&runtime, root, setting, server.address);
    let (begun, expected) = (Instant::now(), table(world));
    let mut seen = vec![contents_in_copy(&runtime, root)];
    for step in 0.. {
        if crash_after == Some(step) {
            client.crash();
            runtime.shutdown_background();
            return seen;
        }
        client.step(&runtime);
        assert_eq!(client.error().map(|error| error.to_string()), None);
        let now = contents_in_copy(&runtime, root);
        if seen.last() != Some(&now) {
            seen.push(now);
        }
        if step > 200 && seen.last() == Some(&expected) {
            break;
        }
        if step % 50 == 49 {
            // Where nothing happens, an empty table's copy has no end.
            world.with(|state| state.model.tick());
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{seen:#?}\nnever {expected:#?}");
    }
    client.stop(&runtime);
    seen
}

#[test]
fn a_lost_place_is_copied_anew_in_one_step() {
    for protocol in [Protocol::VStream, Protocol::Sync] {
        for seed in 0..24 {
            let shards = 1 + seed as usize % 2;
            let (world, root) = (quiet(seed, shards), Root::open("mem:", Access::Write).unwrap());
            let names = world.look(|state| state.model.serving());
            let setting = Setting { shards: names, ..Setting::new(protocol, &[]) };
            run(&world, &root, &setting, None);
            let old = table(&world);
            world.with(|state| {
                for _ in 0..15 {
                    state.model.transact();
                }
                match seed % 3 {
                    0 => state.model.fail_over(),
                    _ => state.model.purge_all(),
                }
                state.model.tick();
            });
            let new = table(&world);
            // Some crashes on the way.
            for crash_after in [5, 15, 30] {
                let seen = run(&world, &root, &setting, Some(crash_after));
                let lost = seed % 3 != 0;
                let between = seen.iter().find(|table| lost && **table != old && **table != new);
                assert_eq!(
                    between, None,
                    "{protocol:?}, seed {seed}: neither {old:#?} nor {new:#?}"
                );
            }
            let seen = run(&world, &root, &setting, None);
            let lost = world.look(|state| {
                assert_eq!(state.ledger.faults, [""; 0], "{protocol:?}, seed {seed}");
                state.ledger.seen.contains_key("position lost")
            });
            if seed % 3 != 0 {
                assert!(lost);
                let states: Vec<&Table> = seen.iter().filter(|table| **table != old).collect();
                assert_eq!(states, [&new], "{protocol:?}, seed {seed}: in one step");
            }
        }
    }
}

#[test]
fn a_reshard_replaces_the_shards_and_the_next_run_asks_for_the_new_ones() {
    for seed in 0..24 {
        let (from, to) = [(1, 2), (2, 1), (2, 4)][seed as usize % 3];
        let (world, root) = (quiet(seed, from), Root::open("mem:", Access::Write).unwrap());
        let names = world.look(|state| state.model.serving());
        let setting = Setting { shards: names.clone(), ..Setting::new(Protocol::VStream, &[]) };
        run(&world, &root, &setting, None);
        world.with(|state| {
            (0..5).for_each(|_| state.model.transact());
            state.model.reshard(to);
            (0..5).for_each(|_| state.model.transact());
            state.model.tick();
        });
        run(&world, &root, &setting, None);
        world.with(|state| (0..5).for_each(|_| state.model.transact()));
        run(&world, &root, &setting, None);
        world.look(|state| {
            assert_eq!(state.ledger.faults, [""; 0], "seed {seed}");
            let life = state.ledger.given.last().unwrap().life;
            let asked: Vec<String> =
                state.ledger.firsts(life, true).into_keys().map(str::to_string).collect();
            assert_eq!(asked, state.model.serving(), "seed {seed}: not {names:?}");
            assert!(state.ledger.firsts(life, true).values().all(Option::is_some));
        });
    }
}

/// A gateway's Sync is of one shard and does not follow: that is said, and nothing stands still.
#[test]
fn a_sync_whose_shard_is_gone_fails_and_says_what_would_follow() {
    let (world, root) = (quiet(3, 1), Root::open("mem:", Access::Write).unwrap());
    let setting = Setting::new(Protocol::Sync, &["-"]);
    run(&world, &root, &setting, None);
    world.with(|state| state.model.reshard(2));
    let runtime = runtime();
    let server = runtime.block_on(world.serve());
    let mut client = Client::start(&runtime, &root, &setting, server.address);
    let begun = Instant::now();
    let error = loop {
        client.step(&runtime);
        if let Some(error) = client.error() {
            break error.to_string();
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "no error");
    };
    assert!(error.contains("shard"), "{error}");
    client.stop(&runtime);
}

/// Runs a client that stops by itself.
fn run_to_current(world: &Arc<World>, root: &Root, setting: &Setting) {
    let runtime = runtime();
    world.with(|state| state.ledger.begin_life());
    let server = runtime.block_on(world.serve());
    let setting = Setting { stop_at_current: true, ..setting.clone() };
    let mut client = Client::start(&runtime, root, &setting, server.address);
    let begun = Instant::now();
    while !client.is_done() {
        client.step(&runtime);
        assert_eq!(client.error().map(|error| error.to_string()), None);
        let late = begun.elapsed() > Duration::from_secs(20);
        assert!(!late, "{:?}", world.look(|state| state.ledger.given.last().cloned()));
    }
}

#[test]
fn where_a_table_is_now_is_where_the_shards_are_that_serve_it() {
    for seed in 0..24 {
        let (from, to) = [(1, 2), (2, 1), (2, 4)][seed as usize % 3];
        let (world, root) = (quiet(seed, from), Root::open("mem:", Access::Write).unwrap());
        // All the time by the address as it was at first.
        let names = world.look(|state| state.model.serving());
        let setting = Setting { shards: names, ..Setting::new(Protocol::VStream, &[]) };
        for resharded in [false, true, false, false] {
            if resharded {
                world.with(|state| state.model.reshard(to));
            }
            world.with(|state| (0..5).for_each(|_| state.model.transact()));
            run_to_current(&world, &root, &setting);
            assert_eq!(contents(&runtime(), &root), table(&world), "seed {seed}, {from} to {to}");
        }
        // And with nothing to do.
        run_to_current(&world, &root, &setting);
        world.look(|state| assert_eq!(state.ledger.faults, [""; 0], "seed {seed}"));
    }
}

/// The cursor of a first copy names the shards that have begun. To take these for all there are would
/// lose the rest.
#[test]
fn a_first_copy_of_some_shards_does_not_go_on_under_other_names() {
    let (runtime, root) = (runtime(), Root::open("mem:", Access::Write).unwrap());
    let of_one = |mut event: Event| {
        event.shard = "-80".into();
        if let Some(fields) = &mut event.field_event {
            fields.shard = "-80".into();
        }
        if let Some(rows) = &mut event.row_event {
            rows.shard = "-80".into();
        }
        if let Some(vgtid) = &mut event.vgtid {
            vgtid.shard_gtids[0].shard = "-80".into();
            let other = ShardGtid {
                shard: "80-".into(),
                keyspace: KEYSPACE.into(),
                ..ShardGtid::default()
            };
            vgtid.shard_gtids.push(other);
        }
        event
    };
    let copy = vec![begin(), field(), insert(&row(1, 0)), vgtid(5, Some((1, 'a'))), commit()];
    let copy = events(copy.into_iter().map(of_one).collect());
    let scenes = vec![Scene::last(vec![copy])];
    let (server, requests) = runtime.block_on(play::<VStreamRequest, _>(scenes));
    let setting = Setting {
        silence_max: Duration::from_secs(600),
        ..Setting::new(Protocol::VStream, &["-80", "80-"])
    };
    let mut client = Client::start(&runtime, &root, &setting, server.address);
    let begun = Instant::now();
    while contents(&runtime, &root).is_empty() {
        client.step(&runtime);
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", client.error());
    }
    client.crash();
    for names in [&["-"][..], &["80-"], &["-80"], &["-80", "80-c0", "c0-"], &["0"]] {
        let setting = Setting::new(Protocol::VStream, names);
        let mut client = Client::start(&runtime, &root, &setting, server.address);
        let mut error = client.error();
        while error.is_none() && requests.lock().unwrap().len() == 1 {
            client.step(&runtime);
            error = client.error();
            assert!(begun.elapsed() < Duration::from_secs(60), "{names:?}");
        }
        // Its own name, or some of those there are, names the same database.
        if let Some(error) = error {
            assert!(error.to_string().contains("name the shards as before"), "{names:?}: {error}");
        } else {
            assert!(names.contains(&"-80"), "{names:?}");
            requests.lock().unwrap().truncate(1);
        }
        client.stop(&runtime);
    }
}
