//! Goal: any number of replicas of one topic write one shard: whichever wins a race, is killed or takes over, each
//! durable state is a beginning of every partition's log, none goes back, the last is the whole, and every writer gets
//! on. Method: random messages, steps and ends, each seed alone, at any brokers; the log is the test's own.

use differential_upsert::Promotion;
use differential_upsert::health::Role;
use differential_upsert::store::{Access, Root};

use crate::kafka::client::{Client, Setting, Table, contents};
use crate::kafka::topic::Topic;
use crate::random::{Random, for_seeds};

const PARTITIONS: usize = 3;

/// A topic and what was written to it.
struct Log {
    topic: Topic,
    random: Random,
    parts: [Vec<(String, Option<String>)>; PARTITIONS],
    written: u64,
    /// How much of each partition was durable at least.
    seen: [usize; PARTITIONS],
}

fn fold(part: &[(String, Option<String>)]) -> Table {
    let mut table = Table::new();
    for (key, value) in part {
        match value {
            Some(value) => drop(table.insert(format!("\"{key}\""), format!("\"{value}\""))),
            None => drop(table.remove(&format!("\"{key}\""))),
        }
    }
    table
}

impl Log {
    fn new(random: &Random) -> Log {
        let topic = Topic::anywhere(PARTITIONS as i32);
        Log {
            topic,
            random: random.clone(),
            parts: Default::default(),
            written: 0,
            seen: [0; PARTITIONS],
        }
    }

    fn write(&mut self) {
        let mut rows = Vec::new();
        for _ in 0..1 + self.random.below(12) {
            // A key is in one partition, which its name says.
            let (part, key) = (self.random.index(PARTITIONS), self.random.below(5));
            self.written += 1;
            let value = (!self.random.one_in(4)).then(|| self.written.to_string());
            rows.push((part, format!("{part}-{key}"), value));
        }
        let texts: Vec<_> = rows
            .iter()
            .map(|(part, key, value)| (*part as i32, &**key, value.as_deref()))
            .collect();
        self.topic.write(&texts);
        rows.into_iter().for_each(|(part, key, value)| self.parts[part].push((key, value)));
    }

    /// Checks that what is durable is a beginning of each partition's log, no shorter than before.
    fn check(&mut self, root: &Root) -> Table {
        let now = contents(root);
        for part in 0..PARTITIONS {
            let ours = |(key, _): &(&String, &String)| key.starts_with(&format!("\"{part}-"));
            let found: Table =
                now.iter().filter(ours).map(|(key, value)| (key.clone(), value.clone())).collect();
            let log = &self.parts[part];
            let is = (self.seen[part]..=log.len()).find(|upto| fold(&log[..*upto]) == found);
            let Some(is) = is else {
                panic!("partition {part}: {found:?} is nowhere from {} on", self.seen[part]);
            };
            self.seen[part] = is;
        }
        now
    }

    fn all(&self) -> Table {
        self.parts.iter().flat_map(|part| fold(part)).collect()
    }

    /// Moves clients on until all that was written is durable.
    fn settle(&mut self, root: &Root, clients: &mut [&mut Client]) {
        let all = self.all();
        for step in 0.. {
            clients.iter_mut().for_each(|client| client.step());
            for client in clients.iter() {
                assert_eq!(client.error().map(|error| error.to_string()), None);
            }
            if self.check(root) == all {
                return;
            }
            assert!(step < 20_000, "never {all:?}: {:?}", clients[0].health.report());
        }
    }
}

#[test]
fn two_writers_race_and_both_get_on() {
    for_seeds("KAFKA", 3, |seed| {
        let random = Random::new(seed);
        let (mut log, root) =
            (Log::new(&random), Root::open("mem:", Access::Write).expect("memory"));
        let setting = Setting::new(log.topic.url(""));
        let [mut one, mut other] = [Client::start(&root, &setting), Client::start(&root, &setting)];
        let gets_on = |client: &Client| client.totals().wins >= 3 && client.totals().losses >= 1;
        for round in 0.. {
            log.write();
            for _ in 0..random.below(20) {
                match random.one_in(2) {
                    true => one.step(),
                    false => other.step(),
                }
            }
            log.settle(&root, &mut [&mut one, &mut other]);
            if round >= 10 && gets_on(&one) && gets_on(&other) {
                break;
            }
            assert!(round < 500, "{:?} and {:?}", one.totals(), other.totals());
        }
        one.stop();
        other.stop();
        // Nothing is left to read.
        let stats = Client::start(&root, &Setting::up_to_now(log.topic.url(""))).end();
        assert_eq!((stats.rows_read(), contents(&root)), (0, log.all()));
    });
}

#[test]
fn a_standby_takes_over_from_one_that_is_killed_stopped_or_goes_on() {
    for_seeds("KAFKA", 3, |seed| {
        let random = Random::new(seed);
        let (mut log, root) =
            (Log::new(&random), Root::open("mem:", Access::Write).expect("memory"));
        let writes = Setting::new(log.topic.url(""));
        let standby = |promotion: &Promotion| {
            let standby = Some(promotion.clone());
            Client::start(&root, &Setting { standby, ..writes.clone() })
        };
        let mut active = vec![Client::start(&root, &writes)];
        for _ in 0..3 {
            let promotion = Promotion::default();
            let mut next = standby(&promotion);
            for _ in 0..1 + random.below(4) {
                log.write();
                for _ in 0..random.below(60) {
                    active.iter_mut().for_each(Client::step);
                    next.step();
                    log.check(&root);
                }
                if random.one_in(2) {
                    let mut all: Vec<_> = active.iter_mut().chain([&mut next]).collect();
                    log.settle(&root, &mut all);
                }
            }
            let (totals, role) = (next.totals(), next.health.report().role);
            assert_eq!((totals.wins, totals.inserted, role), (0, 0, Role::Standby));
            match random.below(3) {
                0 => active.drain(..).for_each(Client::crash),
                1 => active.drain(..).for_each(Client::stop),
                _ => {}
            }
            log.write();
            (0..random.below(60)).for_each(|_| next.step());
            promotion.promote();
            let mut all: Vec<_> = active.iter_mut().chain([&mut next]).collect();
            log.settle(&root, &mut all);
            assert_eq!(next.health.report().role, Role::Writer);
            assert!(!active.is_empty() || next.totals().wins > 0);
            active.push(next);
        }
        active.into_iter().for_each(Client::stop);
        let stats = Client::start(&root, &Setting::up_to_now(log.topic.url(""))).end();
        assert_eq!((stats.rows_read(), contents(&root)), (0, log.all()));
    });
}
