//! Goal: how far the shard is behind the server shows: bytes of its log, rows of a copy, and nothing once all is durable.

use std::time::{Duration, Instant};

use differential_upsert::connect::postgres::PgPosition;
use differential_upsert::health::SourceLag;
use differential_upsert::source::OnPositionLost;

use crate::postgres::client::{Client, Place};
use crate::postgres::runs::number;
use crate::postgres::server::Server;
use crate::postgres::workload::MAKE;

/// Goes on until the lag is as wanted.
fn until(client: &mut Client, what: &str, wanted: impl Fn(SourceLag) -> bool) -> SourceLag {
    let begun = Instant::now();
    loop {
        (0..20).for_each(|_| client.step());
        assert!(client.error().is_none(), "{what}: {:?}", client.error());
        let lag = client.health.report().lag;
        if wanted(lag) {
            return lag;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}: {lag:?}");
    }
}

#[test]
fn the_lag_shows_in_the_copy_and_in_the_stream() {
    let server = Server::start();
    server.ask(MAKE);
    let fill = "INSERT INTO t SELECT g, 'a', g, repeat(md5(g::text), 100), NULL FROM generate_series(1, 3000) g";
    server.ask(fill);
    server.ask("ANALYZE t");
    let place = Place::new();
    let mut client = Client::start(&place, &server, "public.t", OnPositionLost::Fail);
    let copying = until(&mut client, "the copy", |lag| lag.rows.is_some_and(|rows| rows < 3_000));
    assert_eq!(copying.age, None, "not all rows are there: {copying:?}");
    assert!(copying.bytes.is_some(), "{copying:?}");
    let is_current = |lag: SourceLag| lag.age == Some(Duration::ZERO) && lag.bytes == Some(0);
    let copied = until(&mut client, "all of it", is_current);
    assert_eq!(copied.rows, None, "of the log nobody knows how many rows it has");
    client.stop();

    // What is done meanwhile is behind from the connect on, until it is durable.
    server.ask("UPDATE t SET n = n + 1; UPDATE t SET doc = doc || 'x'");
    let mut client = Client::start(&place, &server, "public.t", OnPositionLost::Fail);
    until(&mut client, "the log", |lag| lag.bytes.is_some_and(|bytes| bytes > 1_000_000));
    until(&mut client, "the end of it", is_current);

    // Others' log changes this table in nothing.
    server.ask("INSERT INTO other SELECT g FROM generate_series(1, 20000) g");
    let end = server.ask("SELECT pg_current_wal_flush_lsn()")[0].clone();
    let is_past = |at: &PgPosition| number(&at.lsn()) >= number(&end);
    client.gets(&place, is_past);
    until(&mut client, "what others do", is_current);
    client.stop();
}
