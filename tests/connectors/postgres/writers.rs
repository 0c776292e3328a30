//! Goal: one writer at a time, whatever else is there: a standby takes over when the active dies, in the copy and in the
//! stream, and of two writers on one shard and one slot the older is fenced. Nothing is lost, and the slot is never told past a
//! durable place.

use std::time::{Duration, Instant};

use differential_upsert::source::OnPositionLost;
use differential_upsert::{ErrorKind, Promotion};

use crate::postgres::client::{Client, How, Place};
use crate::postgres::runs::{confirmed, number};
use crate::postgres::server::Server;
use crate::postgres::workload::{MAKE, table};

fn start() -> (Server, Place) {
    let server = Server::start();
    server.ask(MAKE);
    server.ask("INSERT INTO t SELECT g, 'a', g, repeat(md5(g::text), 100), NULL FROM generate_series(1, 10000) g");
    (server, Place::new())
}

fn writer(server: &Server, place: &Place) -> Client {
    Client::start(place, server, "public.t", OnPositionLost::Fail)
}

fn standby(server: &Server, place: &Place) -> (Client, Promotion) {
    let promotion = Promotion::default();
    let how = How { standby: Some(promotion.clone()), ..How::default() };
    let url = server.url("public.t");
    (Client::with(place, &url, OnPositionLost::Fail, how), promotion)
}

/// Goes on until some of the table is copied, and not all of it.
fn copies(client: &mut Client, place: &Place) {
    let begun = Instant::now();
    while !place.at().is_some_and(|at| format!("{at:?}").contains("last: Some")) {
        client.step();
        assert!(client.error().is_none(), "{:?}", client.error());
        assert!(!place.at().is_some_and(|at| at.is_copied()), "too few rows to test");
        assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", client.health.report());
    }
}

fn change(server: &Server, round: u32) {
    server.ask(&format!(
        "DELETE FROM t WHERE a % 97 = {round}; UPDATE t SET n = -n WHERE a % 89 = {round}; \
         UPDATE t SET a = a + 20000 WHERE a % 83 = {round} AND a <= 10000; \
         INSERT INTO t VALUES ({round}, 'new', 1, 'x', NULL)"
    ));
}

fn assert_slot_is_behind(server: &Server, place: &Place) {
    if let (Some(told), Some(at)) = (confirmed(server), place.at()) {
        assert!(told <= number(&at.lsn()), "the slot is told {told:X}, past {}", at.lsn());
    }
}

#[test]
fn a_standby_takes_over_in_the_copy_and_in_the_stream() {
    let (server, place) = start();
    let mut active = writer(&server, &place);
    for round in 1..5 {
        let (mut next, promotion) = standby(&server, &place);
        // The first dies in the copy, others in the stream.
        if round == 1 {
            copies(&mut active, &place);
        }
        for step in 0..6 {
            change(&server, round * 10 + step);
            (0..10).for_each(|_| active.step());
            (0..10).for_each(|_| next.step());
            assert_slot_is_behind(&server, &place);
        }
        let before = next.health.report();
        assert_eq!(before.role.name(), "standby", "{before:?}");
        active.crash();
        change(&server, round * 10 + 6);
        promotion.promote();
        let expected = table(&server);
        next.until(&place, "taken over", |contents| *contents == expected);
        assert_slot_is_behind(&server, &place);
        active = next;
    }
    active.stop();
}

/// A second one raises the epoch and waits for the slot; the first has nothing more to say.
#[test]
fn of_two_writers_on_one_slot_the_older_is_fenced() {
    for in_copy in [true, false] {
        let (server, place) = start();
        let mut older = writer(&server, &place);
        match in_copy {
            true => copies(&mut older, &place),
            false => older.gets(&place, |at| at.is_copied()),
        }
        let mut newer = writer(&server, &place);
        let begun = Instant::now();
        let mut round = 0;
        while older.error().is_none() {
            round += 1;
            if round % 20 == 0 {
                change(&server, round / 20);
            }
            older.step();
            newer.step();
            assert!(newer.error().is_none(), "{:?}", newer.error());
            assert_slot_is_behind(&server, &place);
            assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", older.health.report());
        }
        assert_eq!(older.error().expect("an error").kind(), ErrorKind::Fenced);
        // It holds still, and its connection is gone: the slot is free.
        older.stop();
        change(&server, 77);
        let expected = table(&server);
        newer.until(&place, "all of it", |contents| *contents == expected);
        assert_slot_is_behind(&server, &place);
        newer.stop();
    }
}
