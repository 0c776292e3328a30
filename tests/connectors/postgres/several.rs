//! Goal: several tables over one slot are named collections of one shard: a transaction over them is one time, what is done
//! to one leaves the others, and which tables they are is part of which feed it is.

use differential_upsert::source::OnPositionLost;

use crate::postgres::client::{Client, Contents, Place};
use crate::postgres::server::Server;
use crate::postgres::workload::{MAKE, TABLES, contents};

const BOTH: &str = "u,public.t";

fn start() -> (Server, Place) {
    let server = Server::start();
    server.ask(MAKE);
    server.ask(
        "INSERT INTO t SELECT g, 'a', 100, md5(g::text), NULL FROM generate_series(1, 300) g; \
         INSERT INTO u SELECT g, 'b', 100, md5(g::text), NULL FROM generate_series(1, 250) g",
    );
    (server, Place::new())
}

fn follow(server: &Server, place: &Place, lost: OnPositionLost) -> Client {
    Client::start(place, server, BOTH, lost)
}

/// The sum of a column of all rows.
fn total(contents: &Contents) -> i64 {
    let number = |value: &String| {
        let rest = value.split_once("\"n\":").expect("its column").1;
        rest.split_once(',').expect("another").0.parse::<i64>().expect("a number")
    };
    contents.values().map(number).sum()
}

#[test]
fn a_transaction_over_tables_is_one_time() {
    let (server, place) = start();
    let mut client = follow(&server, &place, OnPositionLost::Fail);
    let copied = contents(&server, &TABLES);
    client.until(&place, "the copy", |contents| *contents == copied);
    let all = total(&copied);
    for n in 1..60 {
        server.ask(&format!(
            "BEGIN; UPDATE t SET n = n - {n} WHERE a = {n}; UPDATE u SET n = n + {n} WHERE a = {n}; COMMIT"
        ));
        (0..5).for_each(|_| client.step());
        assert_eq!(total(&place.contents()), all, "after {n}");
    }
    let moved = contents(&server, &TABLES);
    client.until(&place, "the stream", |contents| *contents == moved);
    client.stop();
}

#[test]
fn truncate_of_one_leaves_the_others() {
    let (server, place) = start();
    let mut client = follow(&server, &place, OnPositionLost::Fail);
    let copied = contents(&server, &TABLES);
    client.until(&place, "the copy", |contents| *contents == copied);
    for sql in [
        "BEGIN; INSERT INTO u VALUES (999, 'x', 1, 'y', NULL); TRUNCATE t; INSERT INTO t VALUES (7, 'b', 1, 'y', NULL); \
         DELETE FROM u WHERE a < 5; COMMIT",
        "TRUNCATE u",
        "INSERT INTO u VALUES (1, 'x', 1, 'y', NULL)",
        "TRUNCATE t, u",
    ] {
        server.ask(sql);
        let expected = contents(&server, &TABLES);
        client.until(&place, sql, |contents| *contents == expected);
    }
    client.stop();
}

/// A name that keys write otherwise than it is.
#[test]
fn a_table_of_any_name_is_emptied_alone() {
    let server = Server::start();
    server.ask(
        "CREATE TABLE \"we\"\"ird\" (a int PRIMARY KEY); CREATE TABLE plain (a int PRIMARY KEY); \
         INSERT INTO plain VALUES (1), (2); INSERT INTO \"we\"\"ird\" VALUES (1), (2), (3); \
         CREATE PUBLICATION p FOR TABLE plain, \"we\"\"ird\"",
    );
    let place = Place::new();
    let mut client = Client::start(&place, &server, "we%22ird,plain", OnPositionLost::Fail);
    client.until(&place, "the copy", |contents| contents.len() == 5);
    server.ask("TRUNCATE \"we\"\"ird\"; INSERT INTO \"we\"\"ird\" VALUES (9)");
    let key = r#"["public.we\"ird",{"a":9}]"#;
    client.until(&place, "its rows are gone", |contents| {
        contents.len() == 3 && contents.contains_key(key)
    });
    server.ask("TRUNCATE plain");
    client.until(&place, "the others are gone", |contents| contents.len() == 1);
    client.stop();
}

/// Rows of a table that has another's name now are never taken for that one's.
#[test]
fn tables_that_change_names_are_lost() {
    let (server, place) = start();
    let mut client = follow(&server, &place, OnPositionLost::Fail);
    let copied = contents(&server, &TABLES);
    client.until(&place, "the copy", |contents| *contents == copied);
    server.ask(
        "BEGIN; ALTER TABLE t RENAME TO x; ALTER TABLE u RENAME TO t; ALTER TABLE x RENAME TO u; \
         INSERT INTO t VALUES (999, 'x', 1, 'y', NULL); COMMIT",
    );
    let error = client.fails();
    assert!(error.contains("; public.t was the table of oid"), "{error}");
    let mut client = follow(&server, &place, OnPositionLost::Copy);
    let expected = contents(&server, &TABLES);
    client.until(&place, "copied anew", |contents| *contents == expected);
    client.stop();
}

/// The log calls a table as it was called then.
#[test]
fn a_name_of_before_is_the_same_table() {
    let server = Server::start();
    server.ask("CREATE TABLE old (a int PRIMARY KEY); CREATE PUBLICATION p FOR TABLE old");
    server.ask("SELECT pg_create_logical_replication_slot('s', 'pgoutput')");
    server.ask("INSERT INTO old VALUES (1)");
    server.ask("ALTER TABLE old RENAME TO t");
    server.ask("INSERT INTO t VALUES (2)");
    let place = Place::new();
    let mut client = Client::start(&place, &server, "t", OnPositionLost::Fail);
    client.until(&place, "both rows", |contents| contents.len() == 2);
    server.ask("DELETE FROM t WHERE a = 1");
    client.until(&place, "one row", |contents| contents.len() == 1);
    client.stop();
}

#[test]
fn one_that_is_made_again_is_named_and_all_are_copied_anew() {
    let (server, place) = start();
    let mut client = follow(&server, &place, OnPositionLost::Fail);
    let copied = contents(&server, &TABLES);
    client.until(&place, "the copy", |contents| *contents == copied);
    client.stop();
    server.ask(
        "DROP TABLE u; CREATE TABLE u (LIKE t INCLUDING ALL); ALTER PUBLICATION p ADD TABLE u; \
         INSERT INTO u VALUES (1, 'x', 1, 'y', NULL); DELETE FROM t WHERE a = 1",
    );
    let error = follow(&server, &place, OnPositionLost::Fail).fails();
    assert!(error.contains("; public.u was the table of oid"), "{error}");
    assert!(!error.contains("public.t was"), "{error}");
    let mut client = follow(&server, &place, OnPositionLost::Copy);
    let expected = contents(&server, &TABLES);
    client.until(&place, "copied anew", |contents| *contents == expected);
    client.stop();
}

#[test]
fn other_tables_are_another_feed() {
    let (server, place) = start();
    let mut client = follow(&server, &place, OnPositionLost::Fail);
    client.until(&place, "the copy", |contents| contents.len() == 550);
    client.stop();
    for tables in ["t", "u", "t,u,other"] {
        let error = Client::start(&place, &server, tables, OnPositionLost::Fail).fails();
        assert!(error.contains("public.t,public.u"), "{tables}: {error}");
    }
    // Their order says nothing.
    let mut client = Client::start(&place, &server, "t,u", OnPositionLost::Fail);
    server.ask("DELETE FROM t WHERE a > 1");
    client.until(&place, "the stream", |contents| contents.len() == 251);
    client.stop();
}
