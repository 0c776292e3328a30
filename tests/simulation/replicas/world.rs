//! Owns one run: replicas, a rival and the store, and the order in which they move, all from one
//! seed. After every step it checks safety; when all is calm, liveness.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use differential_upsert::shard::{Access, History};
use differential_upsert::store::{Faults, Root};
use tempfile::TempDir;

use crate::feed::Feed;
use crate::random::Random;
use crate::replicas::observer::{Observer, Rival, runtime};
use crate::replicas::replica::{Replica, Weather};

/// Rounds in which all that is closed must have reached the shard, once nothing goes wrong.
const ROUNDS_MAX: usize = 600;

/// What a run leaves behind, to compare runs.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    pub objects: Vec<(String, Vec<u8>)>,
    /// Starts of replicas that began with an image.
    pub warm_starts: u64,
    pub next: u64,
}

pub struct World {
    random: Random,
    root: Root,
    feed: Arc<Feed>,
    replicas: Vec<Replica>,
    rival: Option<Rival>,
    observer: Observer,
    weather: Weather,
    /// Where writes of the living and the dead may still be on their way.
    faults: Vec<Arc<Faults>>,
    /// Where the replicas keep their states.
    _state: Option<TempDir>,
}

impl World {
    pub fn new(seed: u64) -> World {
        World::with_state(seed, None)
    }

    /// A run whose replicas keep their states, and begin with images of them.
    pub fn on_images(seed: u64) -> World {
        World::with_state(seed, Some(tempfile::tempdir().unwrap()))
    }

    fn with_state(seed: u64, state: Option<TempDir>) -> World {
        let random = Random::new(seed);
        let root = Root::open("mem:", Access::Write).unwrap();
        let feed = Arc::new(Feed::random(&random));
        let fault_one_in = random.pick(&[0, 60, 20, 10, 4]);
        let history = random.pick(&[History::Keep, History::Last(1), History::Last(4)]);
        let (leases_end, calm) = (random.one_in(4), Arc::new(AtomicBool::new(false)));
        let exclusive = random.one_in(8);
        let standby_one_in = random.pick(&[0, 0, 2, 3]);
        let weather =
            Weather { fault_one_in, history, leases_end, exclusive, standby_one_in, calm };
        let count = random.pick(&[1, 2, 2, 3]);
        let replica = |name: usize| {
            let state_dir = state.as_ref().map(|dir| dir.path().join(name.to_string()));
            Replica::new(name, &root, &feed, &random, &weather, state_dir)
        };
        World {
            replicas: (0..count).map(replica).collect(),
            _state: state,
            rival: (!exclusive && random.one_in(2))
                .then(|| Rival::in_a_shard_of(&root, Arc::clone(&feed), history, leases_end)),
            observer: Observer::new(&root, Arc::clone(&feed)),
            faults: Vec::new(),
            random,
            root,
            feed,
            weather,
        }
    }

    /// Runs from the start to the end of the feed.
    pub fn run(mut self) -> Outcome {
        for _ in 0..1 + self.random.below(3) {
            for _ in 0..50 + self.random.below(200) {
                self.step();
                self.observer.check();
            }
            self.settle(false);
        }
        self.settle(true);
        Outcome {
            objects: self.observer.objects(&self.root),
            warm_starts: self.replicas.iter().map(|replica| replica.warm_starts).sum(),
            next: self.random.below(u64::MAX),
        }
    }

    /// Prints where a run is, if `SIM_TRACE` is set: two runs of a seed differ from there.
    fn trace(&mut self, what: &str) {
        if std::env::var_os("SIM_TRACE").is_none() {
            return;
        }
        let mut text = format!("{what} {:?}", self.random);
        for replica in &mut self.replicas {
            let Some(alive) = &mut replica.alive else {
                text += " | down";
                continue;
            };
            for report in alive.crew.reports() {
                let (health, error) = (&report.health, report.error.is_some());
                let (input, output, upper) = (health.input, health.output, health.upper);
                text += &format!(" | {input} {output} {upper} {} {error}", report.stash_bytes);
            }
            text += &format!(" {}", alive.faults.operations());
        }
        eprintln!("{text}");
    }

    fn step(&mut self) {
        self.trace("step");
        let random = self.random.clone();
        let at = random.index(self.replicas.len());
        let replica = &mut self.replicas[at];
        let Some(alive) = &mut replica.alive else {
            return if random.one_in(4) {
                replica.start()
            };
        };
        match random.below(202) {
            0..85 => {
                let worker = random.index(alive.crew.peers());
                alive.crew.step(worker);
            }
            85..140 => alive.poll(1 + random.below(8)),
            140..150 => alive.wait(random.below(30)),
            150..182 => replica.feed_some(),
            182..188 => alive.maintain(random.one_in(3)),
            188..190 => {
                if let Some(rival) = &self.rival {
                    rival.maintain();
                }
            }
            190..192 => self.faults.extend(replica.crash()),
            192 => replica.stop(),
            193 => replica.fail_source(),
            194..196 => self.land(),
            196..198 => {
                if let Some(rival) = &self.rival {
                    rival.append_to(self.observer.upper + 1 + random.below(3));
                }
            }
            198..200 => replica.promote(),
            _ => self.mend(at),
        }
    }

    /// Restarts a replica that has failed or stopped.
    fn mend(&mut self, at: usize) {
        let replica = &mut self.replicas[at];
        let failed = replica.has_failed();
        let Some(alive) = &mut replica.alive else { return };
        if alive.stopping && alive.is_done() {
            if !alive.has_ended() {
                let reports = alive.crew.reports();
                assert!(reports.iter().all(|r| !r.ended), "a stop is not an end: {reports:?}");
            }
            self.faults.extend(replica.crash());
        } else if alive.stopping {
            replica.drop_inputs();
            replica.drop_failed();
        } else if failed {
            match self.random.one_in(2) {
                true => replica.stop(),
                false => self.faults.extend(replica.crash()),
            }
        }
    }

    /// Lets writes land that were reported as timed out.
    fn land(&mut self) {
        let living = self.replicas.iter().filter_map(|replica| replica.alive.as_ref());
        let all: Vec<Arc<Faults>> =
            living.map(|alive| Arc::clone(&alive.faults)).chain(self.faults.drain(..)).collect();
        let runtime = runtime();
        all.iter().for_each(|faults| runtime.block_on(faults.land()));
    }

    /// Lets everything calm down, and checks that all that is closed gets there: at the end the
    /// whole feed, before that whatever each replica has closed.
    fn settle(&mut self, whole: bool) {
        self.weather.calm.store(true, Ordering::Relaxed);
        let writer = |replica: &Replica| replica.alive.as_ref().is_none_or(|alive| alive.writes());
        for at in 0..self.replicas.len() {
            // Some stay standbys to the end, if there is a writer.
            let needed = !self.replicas.iter().any(writer);
            if needed || self.random.one_in(2) {
                self.replicas[at].promote();
            }
        }
        for round in 0..ROUNDS_MAX {
            if round == ROUNDS_MAX / 2 {
                // Whoever wrote may have been shut out.
                self.replicas.iter_mut().for_each(Replica::promote);
            }
            if whole {
                self.replicas.iter_mut().for_each(Replica::feed_all);
            }
            let mut calm = true;
            for at in 0..self.replicas.len() {
                calm &= self.round(at, whole);
            }
            if calm {
                if whole {
                    self.finish();
                }
                self.weather.calm.store(false, Ordering::Relaxed);
                return;
            }
            self.land();
            self.observer.check();
        }
        panic!("stuck: {}", self.describe());
    }

    /// Moves a replica on. Returns whether it is where it should be.
    fn round(&mut self, at: usize, whole: bool) -> bool {
        self.trace("round");
        self.mend(at);
        let (end, upper) = (self.feed.end, self.observer.upper);
        let others = self.replicas.iter().filter(|replica| replica.alive.is_some()).count();
        let replica = &mut self.replicas[at];
        let failed = replica.has_failed();
        let Some(alive) = &mut replica.alive else {
            if self.weather.exclusive && others > 0 {
                // It would shut out the one that is there, which would come back, and so on.
                return true;
            }
            replica.start();
            return false;
        };
        if others > 1 && alive.is_fenced() {
            self.faults.extend(replica.crash());
            return false;
        }
        for _ in 0..2 {
            (0..alive.crew.peers()).for_each(|worker| alive.crew.step(worker));
            alive.poll(20);
        }
        alive.wait(25);
        if failed || alive.failing || alive.stopping {
            return false;
        }
        let (closed, reports) = (alive.closed(end), alive.crew.reports());
        let passed = reports.iter().all(|r| r.done || r.health.output >= closed);
        let done = !whole || reports.iter().all(|r| r.done);
        done && passed && upper >= closed
    }

    /// Checks what must hold once every pipeline has ended.
    fn finish(&mut self) {
        self.observer.check();
        assert_eq!(self.observer.upper, self.feed.end, "the last time is not in the shard");
        // Once more from nothing: what was there must still be there.
        Observer::new(&self.root, Arc::clone(&self.feed)).check();
        for replica in &mut self.replicas {
            let name = replica.name;
            let Some(alive) = &mut replica.alive else { continue };
            let reports = alive.crew.reports();
            let mut collection = std::collections::BTreeMap::new();
            for report in &reports {
                assert!(report.ended, "replica {name} is done but has not ended");
                assert_eq!(report.inflight_bytes, 0, "replica {name}: bytes in flight at the end");
                for (row, count) in &report.collection {
                    *collection.entry(*row).or_insert(0) += count;
                }
            }
            collection.retain(|_, count| *count != 0);
            let expected = self.feed.values_before(self.feed.end).into_iter().map(|row| (row, 1));
            let collects = reports.iter().all(|report| report.collects);
            assert!(
                !collects || collection.iter().map(|(row, n)| (*row, *n)).eq(expected),
                "replica {name} read back {collection:?}",
            );
            // A reset deletes keys without a command, so the sum says nothing about it.
            if self.feed.rows.iter().all(|(command, _)| command.key().is_some()) {
                let t = &reports[0].totals;
                let sum = t.below + t.superseded + t.unchanged + t.lost;
                let sum = sum + t.inserted + t.updated + t.deleted + t.errors;
                assert_eq!(sum, alive.given, "replica {name} does not add up: {t:?}");
            }
        }
    }

    /// Says where every worker is, and which frontier is pinned.
    fn describe(&mut self) -> String {
        let (upper, end) = (self.observer.upper, self.feed.end);
        let mut text = format!("the shard's upper is {upper}, the feed ends at {end}");
        for replica in &mut self.replicas {
            let name = replica.name;
            let Some(alive) = &mut replica.alive else {
                text += &format!("\n  replica {name}: down");
                continue;
            };
            let closed = alive.closed(end);
            for (worker, report) in alive.crew.reports().into_iter().enumerate() {
                let health = &report.health;
                let pinned = if report.done {
                    "done".to_string()
                } else if upper < closed.min(health.output) {
                    // It has been emitted, and nobody appends it.
                    format!("PINNED: shard upper {upper}")
                } else if health.output < closed.min(health.input) {
                    format!("PINNED: output frontier {}", health.output)
                } else if health.input < closed {
                    format!("PINNED: input frontier {}", health.input)
                } else {
                    "not pinned".to_string()
                };
                let (stopping, failing) = (alive.stopping, alive.failing);
                text += &format!(
                    "\n  replica {name}, worker {worker}: {pinned}; closed {closed}, input {}, \
                     output {}, upper {}, {:?}, {} bytes stashed, stopping {stopping}, source \
                     told to fail {failing}, error {:?}",
                    health.input,
                    health.output,
                    health.upper,
                    health.state,
                    report.stash_bytes,
                    report.error.map(|e| e.to_string()),
                );
            }
        }
        text
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for replica in &mut self.replicas {
            replica.crash();
        }
    }
}
