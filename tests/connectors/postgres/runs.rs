//! Goal: in the end the shard has the tables, whatever happened: to the client, to the server, to the connection, in the
//! copy and in the stream; each closed time is what the tables were after some commit; and the slot is never told of a
//! place that is not durable.

use std::collections::BTreeSet;

use differential_upsert::source::OnPositionLost;

use crate::postgres::client::{Client, Contents, Place};
use crate::postgres::server::{Server, Session};
use crate::postgres::workload::{MAKE, TABLES, contents, statements};
use crate::random::{Random, for_seeds};

/// Sessions, each of which may be inside a transaction.
struct Clients<'a> {
    server: &'a Server,
    sessions: Vec<(Session, bool)>,
}

impl Clients<'_> {
    fn new(server: &Server) -> Clients<'_> {
        let mut clients = Clients { server, sessions: Vec::new() };
        (0..3).for_each(|_| clients.sessions.push((clients.session(), false)));
        clients
    }

    /// One that gives up what another holds.
    fn session(&self) -> Session {
        let mut session = self.server.session();
        session.tell("SET lock_timeout = '30ms';");
        session
    }

    /// Has one of them begin a transaction, or end it, or both.
    fn act(&mut self, random: &Random, keys: u64) {
        let at = random.index(self.sessions.len());
        let (session, inside) = &mut self.sessions[at];
        let mut sql = Vec::new();
        if !std::mem::take(inside) {
            let statements = statements(random, keys);
            // Nobody could look at the table meanwhile.
            *inside = !statements.contains("TRUNCATE") && random.one_in(3);
            sql.extend(["BEGIN;".to_string(), statements]);
        }
        if !*inside {
            sql.push(if random.one_in(10) { "ROLLBACK;" } else { "COMMIT;" }.to_string());
        }
        if session.tell(&sql.join("\n")).is_none() {
            self.sessions[at] = (self.session(), false);
        }
    }

    fn end(&mut self) {
        for (session, _) in &mut self.sessions {
            session.tell("COMMIT;");
        }
    }
}

/// The place that the slot has been told of, as a number.
pub fn confirmed(server: &Server) -> Option<u64> {
    let told = "SELECT confirmed_flush_lsn - '0/0'::pg_lsn FROM pg_replication_slots WHERE slot_name = 's'";
    let rows = server.ask(told);
    rows.first().filter(|text| !text.is_empty()).map(|text| text.parse().expect("a number"))
}

pub fn number(lsn: &str) -> u64 {
    let (high, low) = lsn.split_once('/').expect("a place");
    let part = |text| u64::from_str_radix(text, 16).expect("a place");
    part(high) << 32 | part(low)
}

/// Leaves nothing of the run before.
fn clean(server: &Server) {
    server.ask("DROP PUBLICATION IF EXISTS p; DROP TABLE IF EXISTS t, u, other");
    server.drop_slots();
    server.ask(MAKE);
}

fn assert_same(contents: &Contents, table: &Contents) {
    let keys: BTreeSet<_> = contents.keys().chain(table.keys()).collect();
    let differs = |key: &&String| contents.get(*key) != table.get(*key);
    let of = |key: &String| (key.clone(), contents.get(key).cloned(), table.get(key).cloned());
    let wrong: Vec<_> = keys.into_iter().filter(differs).map(of).take(3).collect();
    assert!(wrong.is_empty(), "key, in the shard, in the table: {wrong:#?}");
}

#[test]
fn the_shard_ends_with_the_tables() {
    let mut server = Server::start();
    for_seeds("POSTGRES", 20, |seed| {
        let random = Random::new(seed);
        clean(&server);
        let (keys, rows) = (random.pick(&[3, 40, 2_000]), random.pick(&[0, 5, 3_000]));
        let tables = &TABLES[..random.pick(&[1, 2])];
        let named = tables.join(",");
        server.ask(&format!(
            "INSERT INTO t SELECT g, 'a', g, repeat(md5(g::text), CASE WHEN g % 9 = 0 THEN 100 ELSE 1 END), NULL \
             FROM generate_series(1, {rows}) g"
        ));
        server.ask("INSERT INTO u SELECT * FROM t WHERE a % 2 = 0");
        // What the tables were after each commit; large ones are looked at in the end.
        let follows = keys <= 40 && rows <= 5;
        let mut seen = vec![contents(&server, tables)];
        let place = Place::new();
        let start = || Client::start(&place, &server, &named, OnPositionLost::Fail);
        let (mut clients, mut client) = (Clients::new(&server), start());
        let mut crashes = false;
        for _ in 0..30 {
            for _ in 0..1 + random.below(4) {
                clients.act(&random, keys);
                if follows {
                    seen.push(contents(&server, tables));
                }
            }
            (0..random.below(60)).for_each(|_| client.step());
            assert!(client.error().is_none(), "{:?}", client.error());
            if let (Some(told), Some(at)) = (confirmed(&server), place.at()) {
                assert!(told <= number(&at.lsn()), "the slot is told {told:X}, past {}", at.lsn());
            }
            if follows && place.at().is_some_and(|at| at.is_copied()) {
                let now = place.contents();
                assert!(seen.contains(&now), "never were the tables this: {now:#?}");
            }
            match random.below(20) {
                0 | 1 => {
                    client.crash();
                    client = start();
                }
                2 => {
                    client.stop();
                    client = start();
                }
                3 => drop(server.ask(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                     WHERE application_name = 'differential-upsert'",
                )),
                4 if random.one_in(3) => crashes = true,
                _ => {}
            }
            if crashes {
                break;
            }
        }
        clients.end();
        drop(clients);
        if crashes {
            client.crash();
            server.crash();
            client = Client::start(&place, &server, &named, OnPositionLost::Fail);
        }
        let expected = contents(&server, tables);
        let end = number(&server.ask("SELECT pg_logical_emit_message(true, 'test', '')")[0]);
        client.gets(&place, |at| at.is_copied() && number(&at.lsn()) > end);
        client.stop();
        assert_same(&place.contents(), &expected);
    });
}
