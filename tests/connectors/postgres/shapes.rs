//! Goal: tables of every shape come out as they are: partitioned, with names that need quotes, filtered, with the whole
//! row before each change, keyed by an index, and with columns that change while they are copied.

use differential_upsert::source::OnPositionLost;

use crate::postgres::client::{Client, Contents, Place};
use crate::postgres::server::Server;

/// Rows of three columns, as the shard has them.
fn rows(server: &Server, table: &str, filter: &str) -> Contents {
    let sql = format!("SELECT id || '|' || doc || '|' || n FROM {table} WHERE {filter}");
    let row = |row: String| {
        let cells: Vec<&str> = row.split('|').collect();
        let [id, doc, n] = cells[..] else { panic!("three columns: {row}") };
        (format!("{{\"id\":{id}}}"), format!("{{\"doc\":\"{doc}\",\"id\":{id},\"n\":{n}}}"))
    };
    server.ask(&sql).into_iter().map(row).collect()
}

/// Copies a table of five rows, changes all kinds of rows, and compares.
fn follow(server: &Server, url: &str, table: &str, filter: &str) {
    let fill = "SELECT g, repeat(md5(g::text), 100), g FROM generate_series(1, 5) g";
    server.ask(&format!("INSERT INTO {table} {fill}"));
    let place = Place::new();
    let mut client = Client::of(&place, url, OnPositionLost::Fail);
    let copied = rows(server, table, filter);
    client.until(&place, "the copy", |contents| *contents == copied);
    for sql in [
        format!("UPDATE {table} SET n = n + 10 WHERE id > 3"),
        format!("UPDATE {table} SET id = id + 100 WHERE id < 3"),
        format!("DELETE FROM {table} WHERE id = 3"),
        format!("INSERT INTO {table} VALUES (7, 'x', 7), (107, 'y', 8)"),
        format!("UPDATE {table} SET n = 0 - n"),
        format!("UPDATE {table} SET n = 0 - n, doc = doc || '!' WHERE id > 100"),
    ] {
        server.ask(&sql);
        let expected = rows(server, table, filter);
        client.until(&place, &sql, |contents| *contents == expected);
    }
    client.stop();
}

#[test]
fn a_partitioned_table_is_one() {
    let server = Server::start();
    server.ask(
        "CREATE TABLE t (id int PRIMARY KEY, doc text, n int) PARTITION BY RANGE (id); \
         CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (50); \
         CREATE TABLE t2 PARTITION OF t FOR VALUES FROM (50) TO (1000); \
         CREATE PUBLICATION p FOR TABLE t WITH (publish_via_partition_root = true)",
    );
    follow(&server, &server.url("public.t"), "t", "true");
}

#[test]
fn names_may_need_quotes() {
    let server = Server::start();
    server.ask(
        "CREATE SCHEMA \"S x\"; CREATE TABLE \"S x\".\"T'\"\"y\" (id int PRIMARY KEY, doc text, n int); \
         CREATE PUBLICATION \"P, q\" FOR TABLE \"S x\".\"T'\"\"y\"",
    );
    let port = server.port;
    let url = format!(
        "postgres://me@127.0.0.1:{port}/postgres?table=S%20x.T'%22y&slot=s&publication=P,%20q&tls=off"
    );
    follow(&server, &url, "\"S x\".\"T'\"\"y\"", "true");
}

#[test]
fn a_filter_and_the_whole_row_before() {
    let server = Server::start();
    server.ask(
        "CREATE TABLE t (id int PRIMARY KEY, doc text, n int, more int DEFAULT 7); \
         ALTER TABLE t REPLICA IDENTITY FULL; \
         CREATE PUBLICATION p FOR TABLE t (id, doc, n) WHERE (n > 0)",
    );
    // With the whole row before as its identity, a list of columns is refused for updates.
    server.ask("DROP PUBLICATION p; CREATE PUBLICATION p FOR TABLE t WHERE (n > 0); ALTER TABLE t DROP more");
    follow(&server, &server.url("public.t"), "t", "n > 0");
}

#[test]
fn a_key_by_an_index() {
    let server = Server::start();
    server.ask(
        "CREATE TABLE t (id int NOT NULL, doc text, n int); CREATE UNIQUE INDEX i ON t (id); \
         ALTER TABLE t REPLICA IDENTITY USING INDEX i; CREATE PUBLICATION p FOR TABLE t",
    );
    follow(&server, &server.url("public.t"), "t", "true");
}

/// The table is made anew by a statement, and gets a column, while it is copied.
#[test]
fn columns_change_while_a_table_is_copied() {
    let server = Server::start();
    server.ask(
        "CREATE TABLE t (id int PRIMARY KEY, doc text, n int); CREATE PUBLICATION p FOR TABLE t; \
         INSERT INTO t SELECT g, repeat(md5(g::text), 50), g FROM generate_series(1, 30000) g",
    );
    let place = Place::new();
    let mut client = Client::start(&place, &server, "public.t", OnPositionLost::Fail);
    client.gets(&place, |at| format!("{at:?}").contains("last: Some"));
    assert!(!place.at().expect("a place").is_copied(), "too few rows to test");
    server.ask("ALTER TABLE t ADD added int DEFAULT 5");
    server.ask("INSERT INTO t VALUES (40000, 'x', 1, 9)");
    server.ask("ALTER TABLE t ALTER n TYPE bigint");
    client.gets(&place, |at| at.is_copied());
    client.until(&place, "the last row", |contents| contents.contains_key("{\"id\":40000}"));
    client.stop();
    let contents = place.contents();
    assert_eq!(contents.len(), 30_001);
    let last = r#"{"added":9,"doc":"x","id":40000,"n":1}"#;
    assert_eq!(contents["{\"id\":40000}"], last);
    assert!(
        contents["{\"id\":30000}"].contains("\"added\":5"),
        "{}",
        contents["{\"id\":30000}"].len()
    );
}

#[test]
fn what_cannot_be_followed_says_so() {
    let server = Server::start();
    server.ask("CREATE TABLE keyless (a int); CREATE TABLE t (id int PRIMARY KEY); CREATE PUBLICATION p FOR TABLE keyless");
    let fails = |table: &str| {
        let place = Place::new();
        Client::start(&place, &server, table, OnPositionLost::Fail).fails()
    };
    assert!(fails("public.none").contains("no such table"));
    assert!(fails("public.keyless").contains("primary key"));
    assert!(fails("public.t").contains("ADD TABLE"));
    server.ask("DROP PUBLICATION p");
    assert!(fails("public.t").contains("CREATE PUBLICATION \"p\" FOR TABLE \"public\".\"t\""));
}
