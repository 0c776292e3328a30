//! Owns one run: replicas, the feed and the store, and the order in which they move, all from one seed.
//! After every step it checks Safety and Ack; when all is calm, Liveness.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use differential_upsert::health::{HealthState, Role};
use differential_upsert::reclock::Times;
use differential_upsert::shard::{Access, History};
use differential_upsert::store::{Faults, Root};

use crate::random::Random;
use crate::sources::clockwork::{Time, runtime};
use crate::sources::observer::Observer;
use crate::sources::place::Kind;
use crate::sources::replica::{Alive, Replica, Weather};
use crate::sources::upstream::{Contents, Shared, Upstream};

/// Rounds in which all that the feed has must be durable, once nothing goes wrong.
const ROUNDS_MAX: usize = 400;

/// What a run leaves behind, to compare runs.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    pub objects: Vec<(String, Vec<u8>)>,
    pub next: u64,
}

pub struct World {
    random: Random,
    time: Time,
    upstream: Shared,
    /// Whether the feed ends.
    ends: bool,
    replicas: Vec<Replica>,
    observer: Observer,
    weather: Weather,
    /// Where writes of the dead may still be on their way.
    faults: Vec<Arc<Faults>>,
    traces: bool,
}

impl World {
    pub fn new(seed: u64) -> World {
        let random = Random::new(seed);
        let root = Root::open("mem:", Access::Write).unwrap();
        let calm = Arc::new(AtomicBool::new(false));
        let times = random.pick(&[Times::WriteAhead, Times::CoCommitted]);
        let exclusive = times == Times::CoCommitted;
        let kinds = [Kind::Number, Kind::Spelled, Kind::Set];
        let kind = random.pick(&kinds[..if exclusive { 3 } else { 2 }]);
        // What is copied depends on when: only one writer may.
        let copies = exclusive && random.one_in(2);
        let feed = Upstream::random(&random, !exclusive, kind, copies, Arc::clone(&calm));
        let upstream = Arc::new(std::sync::Mutex::new(feed));
        let weather = Weather {
            times,
            fault_one_in: random.pick(&[0, 60, 20, 10, 4]),
            slow_one_in: random.pick(&[0, 0, 20, 3]),
            standby_one_in: random.pick(&[0, 0, 2, 3]),
            goal_one_in: random.pick(&[0, 0, 2]),
            history: random.pick(&[History::Keep, History::Last(1), History::Last(4)]),
            attempts: None,
            leases_end: random.one_in(4),
            calm,
        };
        let (count, time) = (random.pick(&[1, 2, 2, 3]), Time::default());
        let replica = |name| Replica::new(name, &root, &time, &upstream, &random, &weather);
        World {
            replicas: (0..count).map(replica).collect(),
            ends: random.one_in(2),
            observer: Observer::new(&root, times, &upstream),
            faults: Vec::new(),
            traces: std::env::var_os("SIM_TRACE").is_some(),
            random,
            time,
            upstream,
            weather,
        }
    }

    /// Runs from the start to the end of the feed.
    pub fn run(mut self) -> Outcome {
        for _ in 0..1 + self.random.below(3) {
            for _ in 0..50 + self.random.below(250) {
                self.step();
                self.observer.check();
                self.check_staged();
            }
            self.settle(false);
            let as_told = self.upstream.lock().unwrap().copies_as_told;
            if self.random.one_in(if as_told { 2 } else { 4 }) {
                self.upstream.lock().unwrap().replace(&self.random);
            }
            if self.upstream.lock().unwrap().is_refused() {
                self.refuse();
                return self.outcome();
            }
        }
        self.settle(true);
        self.outcome()
    }

    fn outcome(&self) -> Outcome {
        Outcome { objects: self.observer.objects(), next: self.random.below(u64::MAX) }
    }

    /// Checks that all refuse to go on, and change nothing.
    fn refuse(&mut self) {
        self.weather.calm.store(true, Ordering::Relaxed);
        self.upstream.lock().unwrap().grow(&self.random);
        let (upper, reached) = (self.observer.upper(), self.observer.reached().clone());
        for _ in 0..ROUNDS_MAX {
            let mut all = true;
            for at in 0..self.replicas.len() {
                self.time.pass(25);
                let replica = &mut self.replicas[at];
                match &mut replica.alive {
                    Some(alive) => alive.round(),
                    None => replica.start(),
                }
                let done = |alive: &mut Alive| alive.crew.reports().iter().all(|r| r.done);
                all &= replica.has_failed() || replica.alive.as_mut().is_some_and(done);
            }
            self.observer.check();
            assert_eq!((self.observer.upper(), self.observer.reached()), (upper, &reached));
            if all {
                return;
            }
        }
        panic!("not refused: {}", self.describe());
    }

    /// Prints where a run is, if `SIM_TRACE` is set: two runs of a seed differ from there.
    fn trace(&mut self, what: &str) {
        if !self.traces {
            return;
        }
        let reached = self.observer.reached();
        let mut text = format!("{what} {:?} {} {reached:?}", self.random, self.observer.upper());
        for replica in &mut self.replicas {
            let Some(alive) = &mut replica.alive else {
                text += " | down";
                continue;
            };
            for report in alive.crew.reports() {
                let (health, error) = (&report.health, report.error.map(|e| e.to_string()));
                let (input, output, upper) = (health.input, health.output, health.upper);
                text += &format!(" | {input} {output} {upper} {:?} {error:?}", health.state);
            }
        }
        eprintln!("{text}");
    }

    fn step(&mut self) {
        self.trace("step");
        let random = self.random.clone();
        self.time.pass(random.below(3));
        match random.below(20) {
            0 => return self.upstream.lock().unwrap().grow(&random),
            1 if random.one_in(6) => return self.upstream.lock().unwrap().purge(&random),
            _ => {}
        }
        let at = random.index(self.replicas.len());
        let replica = &mut self.replicas[at];
        let Some(alive) = &mut replica.alive else {
            return if random.one_in(4) {
                replica.start()
            };
        };
        match random.below(200) {
            0..80 => {
                let worker = random.index(alive.crew.peers());
                alive.crew.step(worker);
            }
            80..145 => {
                if random.one_in(3) {
                    alive.faults.let_go();
                }
                alive.poll(1 + random.below(8));
            }
            145..170 => alive.wait(random.below(30)),
            170..176 => alive.maintain(random.one_in(3)),
            176..179 => self.faults.extend(replica.crash()),
            179 => replica.stop(),
            180..183 => self.land(),
            183..186 => replica.promote(),
            186..188 => replica.step_clock(),
            _ => self.mend(at),
        }
    }

    /// Restarts a replica that has failed, stopped or ended.
    fn mend(&mut self, at: usize) {
        let replica = &mut self.replicas[at];
        let failed = replica.has_failed();
        let Some(alive) = &mut replica.alive else { return };
        let reports = alive.crew.reports();
        if reports.iter().any(|report| report.ended) {
            self.check_end(at);
            let alive = self.replicas[at].alive.as_mut().unwrap();
            // One that fails after the end, at reading the rest, holds until it is let go.
            let over = alive.has_goal && alive.crew.reports().iter().all(|report| report.done);
            if over || failed {
                self.faults.extend(self.replicas[at].crash());
            }
        } else if alive.stopping && reports.iter().all(|report| report.done) {
            self.faults.extend(replica.crash());
        } else if alive.stopping {
            replica.drop_failed();
        } else if failed {
            match self.random.one_in(2) {
                true => replica.stop(),
                false => self.faults.extend(replica.crash()),
            }
        }
    }

    /// What was received and is not durable shows: a reader that has rows of a unit without an end is not idle.
    fn check_staged(&mut self) {
        let upstream = self.upstream.lock().unwrap();
        for replica in &mut self.replicas {
            let Some(alive) = &mut replica.alive else { continue };
            let reports = alive.crew.reports();
            if alive.stopping || reports.iter().any(|report| report.error.is_some()) {
                continue;
            }
            let said = upstream.lives[alive.life].open.values().sum::<u64>();
            for report in reports.iter().filter(|report| !report.done) {
                let (staged, health) = (report.staged, &report.health);
                assert!(alive.cuts || staged >= said, "{staged} rows are staged, said were {said}");
                let hidden = staged > 0 && health.state == HealthState::Idle;
                assert!(!hidden, "{staged} rows are staged: {health:?}");
            }
        }
    }

    /// Whoever says that it has ended has all that there was to read.
    fn check_end(&mut self, at: usize) {
        let alive = self.replicas[at].alive.as_ref().unwrap();
        let (upstream, reached) = (self.upstream.lock().unwrap(), self.observer.reached());
        let life = &upstream.lives[alive.life];
        let goal = life.goal.as_ref().filter(|_| alive.has_goal);
        let there = goal
            .is_some_and(|(edition, goal)| upstream.covers_units(reached, *edition, goal))
            || (life.ended && upstream.is_all(reached));
        assert!(there, "replica {at} has ended, {life:?}, and durable is {reached:?}");
    }

    /// Lets writes land that were reported as timed out.
    fn land(&mut self) {
        let living = self.replicas.iter().filter_map(|replica| replica.alive.as_ref());
        let all: Vec<Arc<Faults>> =
            living.map(|alive| Arc::clone(&alive.faults)).chain(self.faults.drain(..)).collect();
        let runtime = runtime();
        all.iter().for_each(|faults| runtime.block_on(faults.land()));
    }

    /// Lets everything calm down, and checks that all that the feed has gets there: at the end the
    /// whole log, before that what there is by now.
    fn settle(&mut self, whole: bool) {
        self.weather.calm.store(true, Ordering::Relaxed);
        {
            let mut upstream = self.upstream.lock().unwrap();
            if whole {
                upstream.end(self.ends);
            }
            // Whoever was told nothing must see that all is calm.
            upstream.grown.notify_waiters();
        }
        let writes = |replica: &Replica| replica.alive.as_ref().is_none_or(|alive| alive.writes());
        for at in 0..self.replicas.len() {
            // Some stay standbys to the end, if there is a writer.
            let needed = !self.replicas.iter().any(writes);
            if needed || (self.random.one_in(2) && !self.is_exclusive()) {
                self.replicas[at].promote();
            }
        }
        for round in 0..ROUNDS_MAX {
            if round == ROUNDS_MAX / 2 {
                // Whoever wrote may have been shut out.
                self.replicas.iter_mut().for_each(Replica::promote);
            }
            let mut calm = true;
            for at in 0..self.replicas.len() {
                calm &= self.round(at, whole && self.ends);
            }
            self.land();
            self.observer.check();
            if calm && self.upstream.lock().unwrap().is_all(self.observer.reached()) {
                self.weather.calm.store(false, Ordering::Relaxed);
                return;
            }
        }
        panic!("stuck: {}", self.describe());
    }

    fn is_exclusive(&self) -> bool {
        self.weather.times == Times::CoCommitted
    }

    /// Moves a replica on. Returns whether it is where it should be.
    fn round(&mut self, at: usize, ends: bool) -> bool {
        self.trace("round");
        self.mend(at);
        self.time.pass(25);
        let exclusive = self.is_exclusive();
        let others = self.replicas.iter().filter(|replica| replica.alive.is_some()).count();
        let replica = &mut self.replicas[at];
        let failed = replica.has_failed();
        let Some(alive) = &mut replica.alive else {
            if exclusive && others > 0 {
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
        alive.round();
        if failed || alive.stopping {
            return false;
        }
        let reports = alive.crew.reports();
        let standby = reports[0].health.role == Role::Standby;
        // A standby whose times are the writer's own has none to end with.
        let follows = exclusive && standby;
        let rests = |state| match state {
            HealthState::Idle => true,
            HealthState::Lagging => follows,
            HealthState::Finished => true,
            _ => false,
        };
        let mut sums = BTreeMap::new();
        for (row, count) in reports.iter().flat_map(|report| &report.collection) {
            *sums.entry(*row).or_insert(0) += count;
        }
        sums.retain(|_, count| *count != 0);
        let contents: Contents = sums.keys().copied().collect();
        let read_back =
            sums.values().all(|count| *count == 1) && contents == *self.observer.contents();
        let ended = reports.iter().all(|report| report.done && report.ended);
        reports.iter().all(|report| rests(report.health.state))
            && read_back
            && (ended || follows || !(ends || alive.has_goal))
    }

    /// Says where every worker is.
    fn describe(&mut self) -> String {
        let upstream = self.upstream.lock().unwrap();
        let mut text = format!(
            "the shard's upper is {}, its cursor {:?}; the feed has {:?}, ended {}; {:?}",
            self.observer.upper(),
            self.observer.reached(),
            upstream.visible,
            upstream.ended,
            self.weather,
        );
        for replica in &mut self.replicas {
            let name = replica.name;
            let Some(alive) = &mut replica.alive else {
                text += &format!("\n  replica {name}: down");
                continue;
            };
            let (life, stopping) = (&upstream.lives[alive.life], alive.stopping);
            text += &format!("\n  replica {name}: stopping {stopping}, {life:?}");
            for report in alive.crew.reports() {
                let error = report.error.map(|e| e.to_string());
                text += &format!("\n    {:?} done {} error {error:?}", report.health, report.done);
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
