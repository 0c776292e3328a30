//! Goal: whatever brokers do (go away, come back, lead other partitions, refuse, answer with damaged bytes), and
//! however often clients are killed, the shard is the fold of the log at the end. Method: random messages, faults
//! and kills, one or two clients at once; each seed alone.

use std::collections::BTreeMap;

use differential_upsert::ErrorKind;
use differential_upsert::store::{Access, Root};
use krafka::error::ErrorCode;
use krafka::testing::{ApiKey, Control};

use crate::kafka::client::{Client, Setting, Table, contents};
use crate::kafka::cluster::{Cluster, TOPIC};
use crate::random::{Random, for_seeds};

const BROKERS: usize = 3;

struct World {
    cluster: Cluster,
    random: Random,
    root: Root,
    model: BTreeMap<String, String>,
    clients: Vec<Client>,
    written: u64,
    away: Option<i32>,
    partitions: i32,
}

impl World {
    fn write(&mut self) {
        let rows: Vec<(i32, String, Option<String>)> = (0..1 + self.random.below(20))
            .map(|_| {
                let key = self.random.below(12);
                self.written += 1;
                let gone = self.random.one_in(4);
                // One partition a key, for good.
                (key as i32 % 2, format!("k{key}"), (!gone).then(|| self.written.to_string()))
            })
            .collect();
        let texts: Vec<_> =
            rows.iter().map(|(at, key, value)| (*at, key.as_str(), value.as_deref())).collect();
        self.cluster.write(&texts);
        for (_, key, value) in rows {
            match value {
                Some(value) => drop(self.model.insert(key, value)),
                None => drop(self.model.remove(&key)),
            }
        }
    }

    fn fault(&mut self) {
        let broker = &self.cluster.broker;
        match self.random.below(6) {
            0 => {
                let partition = self.random.below(2) as i32;
                let alive = (0..BROKERS as i32).filter(|node| Some(*node) != self.away);
                let leader = self.random.pick(&alive.collect::<Vec<_>>());
                broker.set_leader(TOPIC, partition, leader);
            }
            1 if self.away.is_none() => {
                // One that leads goes away, and another leads from there on.
                let node = self.random.below(BROKERS as u64) as i32;
                let other = (node + 1) % BROKERS as i32;
                broker.crash(node);
                self.away = Some(node);
                for partition in 0..self.partitions {
                    broker.set_leader(TOPIC, partition, other);
                }
            }
            2 => {
                if let Some(node) = self.away.take() {
                    broker.restart(node);
                }
            }
            3 => {
                self.partitions += 1;
                broker.add_partitions(TOPIC, self.partitions);
            }
            _ => {
                let api = self.random.pick(&[ApiKey::Fetch, ApiKey::ListOffsets, ApiKey::Metadata]);
                let mut controls = vec![
                    Control::Disconnect,
                    Control::Error(ErrorCode::LeaderNotAvailable),
                    Control::Error(ErrorCode::RequestTimedOut),
                ];
                if api == ApiKey::Fetch {
                    controls.push(Control::Error(ErrorCode::NotLeaderForPartition));
                    controls.push(Control::CorruptRecords);
                }
                let control = self.random.pick(&controls);
                broker.on_times(api, 1 + self.random.below(3) as u32, move |_| control.clone());
            }
        }
    }

    fn start(&mut self) {
        let setting = Setting::new(self.cluster.url(""));
        self.clients.push(Client::start(&self.root, &setting));
    }

    fn kill(&mut self) {
        let client = self.clients.swap_remove(self.random.index(self.clients.len()));
        match self.random.one_in(2) {
            true => client.crash(),
            false => client.stop(),
        }
    }
}

#[test]
fn brokers_fail_and_clients_are_killed_and_the_shard_is_the_fold_of_the_log() {
    for_seeds("KAFKA", 4, |seed| {
        let random = Random::new(seed);
        let mut world = World {
            cluster: Cluster::start(BROKERS, 2),
            random: random.clone(),
            root: Root::open("mem:", Access::Write).expect("memory"),
            model: BTreeMap::new(),
            clients: Vec::new(),
            written: 0,
            away: None,
            partitions: 2,
        };
        world.start();
        for _ in 0..30 {
            match random.below(8) {
                0..3 if world.away.is_none() => world.write(),
                0..5 => world.fault(),
                5 if world.clients.len() < 2 => world.start(),
                6 if !world.clients.is_empty() => world.kill(),
                _ => {}
            }
            for _ in 0..random.below(120) {
                world.clients.iter_mut().for_each(Client::step);
            }
            for client in &world.clients {
                assert_eq!(client.error().map(|error| error.to_string()), None);
            }
        }
        world.cluster.broker.clear_hooks();
        if let Some(node) = world.away.take() {
            world.cluster.broker.restart(node);
        }
        world.write();
        while !world.clients.is_empty() {
            world.kill();
        }
        Client::start(&world.root, &Setting::up_to_now(world.cluster.url(""))).end();
        let expected: Table =
            world.model.iter().map(|(k, v)| (format!("\"{k}\""), format!("\"{v}\""))).collect();
        assert_eq!(contents(&world.root), expected);
    });
}

#[test]
fn a_topic_that_is_gone_is_waited_for_and_then_an_error_and_changes_nothing() {
    let cluster = Cluster::start(1, 1);
    cluster.write(&[(0, "a", Some("1"))]);
    let root = Root::open("mem:", Access::Write).expect("memory");
    Client::start(&root, &Setting::up_to_now(cluster.url(""))).end();
    let had = contents(&root);
    cluster.broker.delete_topic(TOPIC);
    let outage_max = std::time::Duration::from_millis(200);
    let setting = Setting { outage_max, ..Setting::new(cluster.url("")) };
    let error = Client::start(&root, &setting).failure();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert_eq!(contents(&root), had);
}
