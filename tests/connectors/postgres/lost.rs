//! Goal: what was lost is said, and never skipped. Method: each loss that other programs had, by name; each has a fault of its
//! own in `tests/mutants.txt`.
//!
//! | what others lost | the test here | the fault |
//! | --- | --- | --- |
//! | changes buffered between flushes of a copy, when it crashes | [`changes_during_a_copy_that_crashes_are_there`] | `window_drops_later` |
//! | changes to rows already copied, while a resumed copy starts up | [`a_copy_that_is_cut_off_goes_on`] | `resume_drops_copied` |
//! | a delete during a re-scan, which no snapshot can show | [`rows_deleted_while_a_table_is_copied_anew_are_gone`] | `anew_without_reset` |
//! | deleted rows resurrected by a resumed copy: its cursor was not the full key | [`rows_deleted_while_a_copy_is_off_stay_deleted`] | `cursor_short_of_key` |
//! | a table dropped and made again under its name | [`a_table_made_again_under_its_name_is_another`] | `any_history` |
//! | changes made while off, before the first event ever | [`changes_before_the_first_event_come`] | `stream_from_now` |
//! | a cursor that never moves because the table has no traffic | [`a_quiet_table_keeps_no_log`] | `quiet_table_stays` |

use differential_upsert::connect::postgres::PgPosition;
use differential_upsert::source::OnPositionLost;

use crate::postgres::client::{Client, Place};
use crate::postgres::server::Server;
use crate::postgres::workload::{MAKE, table};

/// A server whose table is in a shard, and is not followed.
fn followed() -> (Server, Place) {
    let server = Server::start();
    server.ask(MAKE);
    server.ask("INSERT INTO t SELECT g, 'a', g, md5(g::text), NULL FROM generate_series(1, 50) g");
    let place = Place::new();
    let mut client = Client::start(&place, &server, "public.t", OnPositionLost::Fail);
    client.until(&place, "the copy", |contents| contents.len() == 50);
    client.stop();
    (server, place)
}

fn is_lost(server: &Server, place: &Place, words: &[&str]) {
    let error = Client::start(place, server, "public.t", OnPositionLost::Fail).fails();
    assert!(words.iter().all(|word| error.contains(word)), "{words:?}: {error}");
    // And copied anew, where that is wanted: one step, and the table is there.
    let mut client = Client::start(place, server, "public.t", OnPositionLost::Copy);
    let expected = table(server);
    client.until(place, "copied anew", |contents| *contents == expected);
    client.stop();
}

#[test]
fn a_table_made_again_under_its_name_is_another() {
    let (server, place) = followed();
    server.ask("DROP TABLE t, u, other; DROP PUBLICATION p");
    server.ask(MAKE);
    server.ask("INSERT INTO t VALUES (1, 'a', 7, 'new', NULL)");
    is_lost(&server, &place, &["oid"]);
}

#[test]
fn a_slot_that_is_gone_has_lost_what_came_since() {
    let (server, place) = followed();
    server.drop_slots();
    server.ask("DELETE FROM t WHERE a < 10");
    is_lost(&server, &place, &["slot", "gone"]);
}

#[test]
fn a_slot_ahead_of_us_has_lost_what_lies_between() {
    let (server, place) = followed();
    server.ask("DELETE FROM t WHERE a < 10");
    server.free_slots();
    server.ask("SELECT pg_replication_slot_advance('s', pg_current_wal_lsn())");
    is_lost(&server, &place, &["slot", "past our place"]);
}

/// What is done while it is not followed, before the first row was ever read, comes.
#[test]
fn changes_before_the_first_event_come() {
    let server = Server::start();
    server.ask(MAKE);
    let place = Place::new();
    let mut client = Client::start(&place, &server, "public.t", OnPositionLost::Fail);
    client.gets(&place, |at| at.is_copied());
    client.crash();
    server.ask("INSERT INTO t VALUES (1, 'a', 1, 'x', NULL); DELETE FROM t; INSERT INTO t VALUES (2, 'b', 2, 'y', NULL)");
    let mut client = Client::start(&place, &server, "public.t", OnPositionLost::Fail);
    let expected = table(&server);
    client.until(&place, "the rows", |contents| *contents == expected);
    client.stop();
}

/// A table without traffic: the slot moves with what others do, so that the server need not keep it.
#[test]
fn a_quiet_table_keeps_no_log() {
    let (server, place) = followed();
    let mut client = Client::start(&place, &server, "public.t", OnPositionLost::Fail);
    let place_of_slot =
        "SELECT pg_current_wal_lsn() - confirmed_flush_lsn FROM pg_replication_slots";
    let begun = std::time::Instant::now();
    server.ask("INSERT INTO other SELECT g FROM generate_series(1, 20000) g");
    let written: u64 = server.ask(place_of_slot)[0].parse().expect("a number");
    assert!(written > 500_000, "{written} bytes");
    loop {
        (0..50).for_each(|_| client.step());
        let kept: u64 = server.ask(place_of_slot)[0].parse().expect("a number");
        if kept < 100_000 {
            break;
        }
        assert!(begun.elapsed().as_secs() < 60, "{kept} bytes are kept");
    }
    client.stop();
}

/// How far the copy is.
fn piece(at: &Option<PgPosition>) -> String {
    format!("{at:?}").split_once("copy:").map_or(String::new(), |(_, copy)| copy.to_string())
}

/// A copy that is cut off after each piece goes on, with what has changed meanwhile in rows that were copied and in those
/// that were not.
#[test]
fn a_copy_that_is_cut_off_goes_on() {
    let server = Server::start();
    server.ask(MAKE);
    server.ask("INSERT INTO t SELECT g, 'a', g, repeat(md5(g::text), 100), NULL FROM generate_series(1, 4500) g");
    let place = Place::new();
    let mut round = 0;
    let mut pieces = std::collections::BTreeSet::new();
    loop {
        let mut client = Client::start(&place, &server, "public.t", OnPositionLost::Fail);
        let before = place.at();
        let begun = std::time::Instant::now();
        while piece(&place.at()) == piece(&before) {
            client.step();
            assert!(client.error().is_none(), "{:?}", client.error());
            assert!(begun.elapsed().as_secs() < 60, "{:?}", client.health.report());
        }
        client.crash();
        let at = place.at().expect("a place");
        pieces.insert(format!("{at:?}"));
        if at.is_copied() {
            break;
        }
        round += 1;
        server.ask(&format!(
            "DELETE FROM t WHERE a % 97 = {round}; UPDATE t SET n = -n WHERE a % 89 = {round}; \
             UPDATE t SET a = a + 20000 WHERE a % 83 = {round} AND a <= 4500; \
             INSERT INTO t VALUES ({round}, 'new', 1, 'x', NULL)"
        ));
    }
    // The copy goes on by itself while this thread does not run: it may be cut off in few places, but in some.
    assert!(round > 1, "{round} cuts: {pieces:#?}");
    let expected = table(&server);
    let mut client = Client::start(&place, &server, "public.t", OnPositionLost::Fail);
    client.until(&place, "the rest", |contents| *contents == expected);
    client.stop();
}

/// Rows that compare by the last column of their key alone, of which a copy that was cut off has some: those that are
/// deleted before it goes on are in no later piece, and none may stay.
#[test]
fn rows_deleted_while_a_copy_is_off_stay_deleted() {
    let server = Server::start();
    server.ask(MAKE);
    server.ask("INSERT INTO t SELECT 1, to_char(g, '00000'), g, repeat(md5(g::text), 100), NULL FROM generate_series(1, 5000) g");
    let place = Place::new();
    let mut deleted = 0;
    loop {
        let mut client = Client::start(&place, &server, "public.t", OnPositionLost::Fail);
        let before = piece(&place.at());
        client.gets(&place, |at| piece(&Some(at.clone())) != before);
        client.crash();
        let copied = place.contents().len();
        assert!(copied > 0 || deleted == 0, "the copy shows no row");
        if place.at().expect("a place").is_copied() {
            break;
        }
        // Of the rows that are copied, the last and some before it.
        let last = "SELECT b FROM t ORDER BY b LIMIT 1 OFFSET";
        server.ask(&format!(
            "DELETE FROM t WHERE b IN (({last} {}), ({last} {}))",
            copied.max(1) - 1,
            copied * 3 / 4
        ));
        deleted += u32::from(copied > 0);
    }
    assert!(deleted > 0, "too few rows to test");
    let expected = table(&server);
    let mut client = Client::start(&place, &server, "public.t", OnPositionLost::Fail);
    client.until(&place, "the rest", |contents| *contents == expected);
    client.stop();
}

/// A copy anew sees no row that was deleted before it, nor one that is deleted behind it: what it replaces goes as a whole,
/// and the log brings the rest.
#[test]
fn rows_deleted_while_a_table_is_copied_anew_are_gone() {
    let server = Server::start();
    server.ask(MAKE);
    server.ask("INSERT INTO t SELECT g, 'a', g, repeat(md5(g::text), 100), NULL FROM generate_series(1, 1500) g");
    let place = Place::new();
    let mut client = Client::start(&place, &server, "public.t", OnPositionLost::Fail);
    client.gets(&place, |at| at.is_copied());
    client.stop();
    let all = place.contents();
    assert_eq!(all.len(), 1_500);
    // What comes now is lost with the slot, and the copy anew has to do without it.
    server.drop_slots();
    server.ask("DELETE FROM t WHERE a % 10 = 0");
    let mut client = Client::start(&place, &server, "public.t", OnPositionLost::Copy);
    let begun = std::time::Instant::now();
    let mut deletes = 0;
    // It shows nothing until it is whole.
    while place.contents() == all {
        assert!(client.error().is_none(), "{:?}", client.error());
        assert!(begun.elapsed().as_secs() < 60, "{:?}", client.health.report());
        (0..3).for_each(|_| client.step());
        // Behind the copy, and before it.
        deletes += 1;
        server.ask(&format!("DELETE FROM t WHERE a IN ({deletes}, {})", 1_500 - deletes));
    }
    let expected = table(&server);
    client.until(&place, "copied anew", |contents| *contents == expected);
    client.stop();
    assert!(place.contents().len() < 1_350);
}

/// While pieces are read, and wait for their mark, the log goes on: what it says of their rows comes after them, also where
/// the client dies in between.
#[test]
fn changes_during_a_copy_that_crashes_are_there() {
    let server = Server::start();
    server.ask(MAKE);
    server.ask("INSERT INTO t SELECT g, 'a', g, repeat(md5(g::text), 100), NULL FROM generate_series(1, 1500) g");
    let mut writer = server.session();
    let place = Place::new();
    let mut client = Client::start(&place, &server, "public.t", OnPositionLost::Fail);
    let (mut round, mut copied) = (0, String::new());
    let begun = std::time::Instant::now();
    while !place.at().is_some_and(|at| at.is_copied()) {
        round += 1;
        assert!(begun.elapsed().as_secs() < 60, "{:?}", client.health.report());
        writer.tell(&format!(
            "UPDATE t SET n = -n WHERE a % 50 = {0}; DELETE FROM t WHERE a = {0} * 7; INSERT INTO t VALUES ({0}, 'new', 1, 'x', NULL);",
            round % 50
        ));
        (0..4).for_each(|_| client.step());
        assert!(client.error().is_none(), "{:?}", client.error());
        if copied != piece(&place.at()) {
            copied = piece(&place.at());
            client.crash();
            client = Client::start(&place, &server, "public.t", OnPositionLost::Fail);
        }
    }
    let expected = table(&server);
    client.until(&place, "the rest", |contents| *contents == expected);
    client.stop();
}
