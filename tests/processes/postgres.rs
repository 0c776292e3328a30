//! Goal: programs that follow a table of PostgreSQL may be killed at any moment, and another takes over: a standby, or the same
//! again. Method: `ingest` with `kill -9`, on a server that the test starts; the oracle is the table.

use std::path::Path;
use std::time::Instant;

use crate::client::Server as Face;
use crate::process::{PATIENCE, snapshot, verified};
use crate::server::Server;

const DOCS: &str = "repeat(md5(g::text), 100)";

fn server() -> Server {
    let server = Server::start();
    server.ask(
        "CREATE TABLE t (id int PRIMARY KEY, n int, doc text); CREATE PUBLICATION p FOR TABLE t",
    );
    server.ask(&format!("INSERT INTO t SELECT g, g, {DOCS} FROM generate_series(1, 3000) g"));
    server
}

fn ingest(dir: &Path, server: &Server, more: &[&str]) -> Face {
    let url = server.url("t") + "&idle_commit=0";
    Face::start(dir, &[&[url.as_str(), "--shard", "s"], more].concat())
}

/// The table, as a snapshot of the shard has it.
fn table(server: &Server) -> Vec<String> {
    let rows = server.ask(
        "SELECT '{\"key\":{\"id\":' || id || '},\"value\":{\"doc\":' || to_json(doc) || ',\"id\":' || id || ',\"n\":' || n || \
         '}}' FROM t",
    );
    let mut rows: Vec<String> = rows;
    rows.sort();
    rows
}

fn change(server: &Server, round: u32) {
    server.ask(&format!(
        "DELETE FROM t WHERE id % 97 = {round}; UPDATE t SET n = -n WHERE id % 89 = {round}; \
         UPDATE t SET id = id + 5000 WHERE id % 83 = {round} AND id <= 3000; \
         INSERT INTO t SELECT {round} + 20000, 1, {DOCS} FROM generate_series(1, 1) g"
    ));
}

/// Whether the shard has the table.
fn until_same(face: &mut Face, dir: &Path, server: &Server) {
    let (expected, begun) = (table(server), Instant::now());
    loop {
        let mut rows = snapshot(dir, "s");
        rows.sort();
        if rows == expected {
            return;
        }
        assert!(face.running.runs(), "it has ended");
        assert!(
            begun.elapsed() < PATIENCE,
            "{:?}: {} of {} rows",
            face.health(),
            rows.len(),
            expected.len()
        );
    }
}

#[test]
fn a_standby_takes_over_from_a_writer_that_is_killed() {
    let (server, dir) = (server(), tempfile::tempdir().expect("a directory"));
    let dir = dir.path();
    let mut active = ingest(dir, &server, &[]);
    active.until("its first rows", |health| health["upper"].as_u64() > Some(0));
    for round in 0..4 {
        let mut standby = ingest(dir, &server, &["--standby"]);
        standby.until("it has read the shard", |health| {
            health["role"] == "standby" && health["state"] != "hydrating"
        });
        // The first is killed in the copy, which has some thousand rows to go.
        change(&server, 10 * round + 1);
        active.running.child.kill().expect("it can be killed");
        active.running.child.wait().expect("an end");
        change(&server, 10 * round + 2);
        let answer = standby.ask("POST", "/promote", "Content-Type: application/json\r\n");
        assert_eq!(answer.status, 200, "{}", answer.body);
        if round % 2 == 1 {
            until_same(&mut standby, dir, &server);
            let behind = |health: &serde_json::Value| health["lag"]["bytes"] == 0;
            standby.until("nothing is behind", behind);
        }
        active = standby;
    }
    active.stop();
    verified(dir, "s");
}
