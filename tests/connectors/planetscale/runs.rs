//! Goal: at the end of any run the shard has the server's table, and in every run each cursor that
//! the server is given is one that it sent as a boundary; the first of a life is the durable one, and
//! what is durable then is the table up to it, neither more nor less.
//! Method: random transactions, purges, failovers, resharding; random endings of the streams; random
//! ends of the client's process. Each seed is run by both protocols, with one shard and with two.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use differential_upsert::store::{Access, Root};

use crate::planetscale::client::{
    Client, Protocol, SILENCE, Setting, Table, contents, contents_in_copy, runtime,
};
use crate::planetscale::ledger::Place;
use crate::planetscale::model::{Key, Row, regions_of};
use crate::planetscale::world::{Weather, World};
use crate::random::{Random, for_seeds};

/// A guard against hanging, not a measurement.
const PATIENCE: Duration = Duration::from_secs(60);

fn table<'a>(rows: impl IntoIterator<Item = (&'a Key, &'a Row)>) -> Table {
    let text = |(key, row): (&Key, &Row)| (Row::key_json(*key).to_string(), row.json());
    rows.into_iter().map(text).collect()
}

/// What is not the same in two tables, as lines.
fn difference(found: &Table, expected: &Table) -> Vec<String> {
    let keys: BTreeSet<&String> = found.keys().chain(expected.keys()).collect();
    let differs = keys.into_iter().filter(|key| found.get(*key) != expected.get(*key));
    differs.map(|key| format!("{:?} is not {:?}", found.get(key), expected.get(key))).collect()
}

/// The part of a table that a place in a shard is about.
fn part(durable: &Table, place: &Place) -> Table {
    let regions = regions_of(&place.shard);
    let ours = |value: &serde_json::Value| {
        let region = value["region"].as_str().and_then(|text| text.chars().next());
        let key = (value["id"].as_i64().expect("a number"), region.expect("a region"));
        // Rows past the last key of a copy may be there before their time.
        regions.contains(&key.1) && place.pk.is_none_or(|pk| key <= pk)
    };
    durable.iter().filter(|(_, v)| ours(v)).map(|(k, v)| (k.clone(), v.clone())).collect()
}

/// Checks the first cursors of a life against what was durable when it began.
fn check_resume(world: &World, life: u64, at_once: bool, durable: &Table) {
    world.look(|state| {
        for (shard, place) in state.ledger.firsts(life, at_once) {
            let start = Place { shard: shard.into(), set: BTreeMap::new(), pk: None };
            let (expected, place) = match place {
                Some(place) => match state.ledger.rows(place) {
                    Some(rows) => (table(rows.iter()), place),
                    // A fault, and reported as one.
                    None => continue,
                },
                None => (Table::new(), &start),
            };
            let durable = part(durable, place);
            let differs = difference(&durable, &expected);
            assert_eq!(differs, [""; 0], "life {life}: what is durable is not as of {place:?}");
        }
    });
}

fn run(seed: u64, protocol: Protocol, shards: usize) -> BTreeMap<String, u64> {
    let random = Random::new(seed);
    let weather = Weather {
        calm: false,
        responses_max: random.pick(&[3, 8, 20, 60]),
        authorization: Some("Basic dXNlcjpzZWNyZXQ=".into()),
    };
    let world = World::new(&random, shards, weather);
    (0..random.below(30)).for_each(|_| world.with(|state| state.model.transact()));
    let root = Root::open("mem:", Access::Write).expect("memory");
    let names = world.look(|state| state.model.serving());
    let mut setting = Setting { shards: names, ..Setting::new(protocol, &[]) };
    setting.silence_max = SILENCE;
    setting.password = Some(("user".into(), "secret".into()));
    if random.one_in(2) {
        setting.key = vec!["id".into(), "region".into()];
    }
    for _ in 0..1 + random.below(4) {
        live(&world, &root, &setting, &random).unwrap_or_else(|error| panic!("{error}"));
    }
    world.with(|state| state.weather.calm = true);
    setting.stop_at_current = true;
    // Nothing is silent any more; one that is only slow, on a loaded machine, gets the time.
    setting.silence_max = PATIENCE;
    // Perhaps somebody has heard of the reshard.
    let serving = world.look(|state| state.model.serving());
    if random.one_in(3) && serving != setting.shards {
        let renamed = Setting { shards: serving, ..setting.clone() };
        match live(&world, &root, &renamed, &random) {
            // In a first copy the cursor has not all shards yet.
            Err(error) => assert!(error.contains("name the shards as before"), "{error}"),
            Ok(()) => setting = renamed,
        }
    }
    live(&world, &root, &setting, &random).unwrap_or_else(|error| panic!("{error}"));
    let durable = contents(&runtime(), &root);
    world.look(|state| {
        assert_eq!(state.ledger.faults, [""; 0]);
        let expected = state.model.table();
        assert_eq!(
            difference(&durable, &table(expected.iter())),
            [""; 0],
            "the shard is the table"
        );
        state.ledger.seen.clone()
    })
}

/// One life of a client, from its start to its end: by crash, by stop, or because all is done.
fn live(world: &Arc<World>, root: &Root, setting: &Setting, random: &Random) -> Result<(), String> {
    let begun = Instant::now();
    let runtime = runtime();
    let durable = contents_in_copy(&runtime, root);
    let life = world.with(|state| state.ledger.begin_life());
    let calm = world.look(|state| state.weather.calm);
    let server = runtime.block_on(world.serve());
    if !calm && random.one_in(4) {
        server.refuse(1 + random.below(3));
    }
    let mut client = Client::start(&runtime, root, setting, server.address);
    let steps = if calm { u64::MAX } else { 50 + random.below(500) };
    for step in 0..steps {
        client.step(&runtime);
        if let Some(error) = client.error() {
            client.stop(&runtime);
            return Err(format!("life {life}: {error}"));
        }
        if calm && client.is_done() {
            break;
        }
        if calm && step % 100 == 99 && step < 10_000 {
            // A database is never quite still.
            world.with(|state| state.model.tick());
        } else if !calm && random.one_in(8) {
            disturb(world, setting, random);
        }
        if begun.elapsed() > PATIENCE {
            let given = world.look(|state| state.ledger.given.last().cloned());
            panic!("life {life} hangs at {given:?}: {:?}", client.health.report());
        }
    }
    check_resume(world, life, setting.protocol == Protocol::VStream, &durable);
    match calm || random.one_in(3) {
        true => client.stop(&runtime),
        false => client.crash(),
    }
    runtime.shutdown_background();
    Ok(())
}

/// Makes something happen to the database.
fn disturb(world: &World, setting: &Setting, random: &Random) {
    world.with(|state| match random.below(60) {
        0 => state.model.purge(),
        1 if random.one_in(2) => state.model.purge_all(),
        2 => state.model.fail_over(),
        3 if setting.protocol == Protocol::VStream && random.one_in(2) => {
            state.model.reshard(random.pick(&[1, 2, 4]));
        }
        4 => state.model.term += 1,
        _ => state.model.transact(),
    });
}

fn all(protocol: Protocol, shards: usize) {
    let mut seen = BTreeMap::<String, u64>::new();
    for_seeds("PLANETSCALE", 200, |seed| {
        let some = run(seed, protocol, shards);
        some.into_iter().for_each(|(what, n)| *seen.entry(what).or_default() += n);
    });
    println!("{protocol:?}, {shards} shards: {seen:?}");
}

#[test]
fn vstream_of_one_shard() {
    all(Protocol::VStream, 1);
}

#[test]
fn vstream_of_two_shards() {
    all(Protocol::VStream, 2);
}

#[test]
fn sync_of_one_shard() {
    all(Protocol::Sync, 1);
}

#[test]
fn sync_of_two_shards() {
    all(Protocol::Sync, 2);
}
