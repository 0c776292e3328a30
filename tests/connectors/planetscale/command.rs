//! Goal: `ingest` reads a table from a server as a user would have it do: by its address alone, with
//! user and password from the environment, to the end that `--stop-at-current` gives it.
//! Method: the example binaries as processes, against the server of the random runs; what `shard
//! snapshot` prints is the table.

use crate::planetscale::client::Protocol;
use crate::planetscale::model::Row;
use crate::planetscale::world::{KEYSPACE, TABLE, Weather, World};
use crate::random::Random;
use crate::running::{PATIENCE, command, start};

/// Runs `ingest` to its end against a server on another thread.
fn ingest(world: &std::sync::Arc<World>, dir: &std::path::Path, protocol: Protocol, shards: &str) {
    let protocol = match protocol {
        Protocol::VStream => "vstream",
        Protocol::Sync => "sync",
    };
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(1).enable_all().build().expect("a runtime");
    let server = runtime.block_on(world.serve());
    let place = format!("{}/{KEYSPACE}/{TABLE}", server.address);
    let feed = format!("planetscale://{place}?shard={shards}&protocol={protocol}&tls=off");
    let args = [&feed, "--shard", "accounts", "--stop-at-current"];
    let mut command = command("ingest", dir, &args);
    command.env("PLANETSCALE_USER", "user").env("PLANETSCALE_PASSWORD", "secret");
    start(command).end(PATIENCE).good();
}

fn lines(world: &World) -> Vec<String> {
    // The members of an object stand in the order of their names here too.
    let line = |(key, row): (_, Row)| {
        format!("{{\"key\":{},\"value\":{}}}", Row::key_json(key), row.json())
    };
    let mut lines: Vec<String> =
        world.look(|state| state.model.table()).into_iter().map(line).collect();
    lines.sort();
    lines
}

#[test]
fn ingest_reads_a_table_and_goes_on_with_it() {
    for (protocol, shards) in
        [(Protocol::VStream, 1), (Protocol::VStream, 2), (Protocol::Sync, 1), (Protocol::Sync, 2)]
    {
        let weather = Weather {
            calm: true,
            responses_max: 0,
            authorization: Some("Basic dXNlcjpzZWNyZXQ=".into()),
        };
        let world = World::new(&Random::new(shards), shards as usize, weather);
        let dir = tempfile::tempdir().expect("a directory");
        let names = world.look(|state| state.model.serving()).join(",");
        for _ in 0..3 {
            world.with(|state| (0..20).for_each(|_| state.model.write_anywhere()));
            ingest(&world, dir.path(), protocol, &names);
            let snapshot = start(command("shard", dir.path(), &["snapshot", "accounts"]));
            let snapshot = snapshot.end(PATIENCE).good().lines();
            assert_eq!(snapshot, lines(&world), "{protocol:?}, {shards}");
        }
        world.look(|state| {
            assert_eq!(state.ledger.faults, [""; 0]);
            assert_eq!(state.ledger.seen.get("copy begins"), Some(&shards), "the rest is streamed");
        });
    }
}
