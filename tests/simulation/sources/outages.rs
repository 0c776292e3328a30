//! Owns runs in which one thing goes wrong for long: a partition fails alone while the other commits, or
//! nobody answers for a while. Time is virtual, the configuration the default. The first must end, and
//! must not be asked without end meanwhile; the second must be survived.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use differential_upsert::health::{HealthReport, HealthState};
use differential_upsert::reclock::Times;
use differential_upsert::shard::{Access, History};
use differential_upsert::source::AttemptConfig;
use differential_upsert::store::Root;

use crate::random::{Random, for_seeds};
use crate::sources::clockwork::Time;
use crate::sources::observer::Observer;
use crate::sources::place::Kind;
use crate::sources::replica::{Replica, Weather};
use crate::sources::upstream::{Shared, Upstream};

/// A replica that nothing else befalls.
struct Run {
    random: Random,
    time: Time,
    upstream: Shared,
    replica: Replica,
    observer: Observer,
}

impl Run {
    /// Begins one, unless the seed's feed has but one partition.
    fn new(seed: u64) -> Option<Run> {
        let random = Random::new(seed);
        let root = Root::open("mem:", Access::Write).unwrap();
        let calm = Arc::new(AtomicBool::new(true));
        let times = random.pick(&[Times::WriteAhead, Times::CoCommitted]);
        let several = times == Times::WriteAhead;
        let mut upstream =
            Upstream::random(&random, several, Kind::Number, false, Arc::clone(&calm));
        if upstream.names.len() < 2 {
            return None;
        }
        // It has something to say from the start on.
        upstream.visible = vec![1, 3];
        let (upstream, time) = (Arc::new(Mutex::new(upstream)), Time::default());
        let weather = Weather {
            times,
            fault_one_in: 0,
            slow_one_in: 0,
            standby_one_in: 0,
            goal_one_in: 0,
            history: History::Last(1),
            attempts: Some(AttemptConfig::default()),
            leases_end: false,
            calm,
        };
        let mut observer = Observer::new(&root, times, &upstream);
        let mut replica = Replica::new(0, &root, &time, &upstream, &random, &weather);
        replica.start();
        // Its life begins here.
        observer.check();
        Some(Run { random, time, upstream, replica, observer })
    }

    /// Lets so much time pass, with everything running; the partitions before `grow` have more now and
    /// then. Returns what is said at the end.
    fn live(&mut self, millis: u64, grow: usize) -> HealthReport {
        for _ in 0..millis.div_ceil(100) {
            self.time.pass(100);
            {
                let mut upstream = self.upstream.lock().unwrap();
                for at in (0..grow).filter(|_| self.random.one_in(10)) {
                    let most = upstream.units(at).len() as u64;
                    upstream.visible[at] = most.min(upstream.visible[at] + 1);
                }
                upstream.grown.notify_waiters();
            }
            let alive = self.replica.alive.as_mut().unwrap();
            alive.round();
            alive.wait(75);
            self.observer.check();
        }
        self.report()
    }

    fn report(&mut self) -> HealthReport {
        self.replica.alive.as_mut().unwrap().crew.reports()[0].health.clone()
    }

    fn has_all(&self) -> bool {
        self.upstream.lock().unwrap().is_all(self.observer.reached())
    }

    fn describe(&mut self) -> String {
        let report = self.report();
        let (upstream, reached) = (self.upstream.lock().unwrap(), self.observer.reached());
        format!("{report:?}; {reached:?} of {:?}; {:?}", upstream.visible, upstream.lives)
    }

    fn connects(&self) -> u64 {
        self.upstream.lock().unwrap().lives.iter().map(|life| life.connects).sum()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.replica.crash();
    }
}

#[test]
fn a_partition_that_fails_alone_ends_the_run_and_is_not_asked_without_end() {
    for_seeds("SIM", 12, |seed| {
        let Some(mut run) = Run::new(seed) else { return };
        run.upstream.lock().unwrap().sick = Some(1);
        let (mut report, mut seconds, mut stalled) = (run.live(100, 1), 0, 0);
        while report.state != HealthState::Failed {
            assert!(seconds < 700, "it goes on for ever: {report:?}, {} connects", run.connects());
            report = run.live(1000, 1);
            seconds += 1;
            stalled += u64::from(report.state == HealthState::Stalled);
        }
        let why = report.why.unwrap();
        assert!(why.contains("gave up after") && why.contains("(partition b)"), "{why}");
        let connects = run.connects();
        assert!(connects < 100, "{connects} connects in {seconds} s");
        assert!(stalled + 3 >= seconds * 3 / 4, "stalled in {stalled} of {seconds} s");
        let a = run.observer.reached().places.get("a").expect("it is fine");
        assert!(a.units > 0, "what the other has is committed: {a:?}");
    });
}

#[test]
fn an_outage_longer_than_the_greatest_delay_is_survived() {
    for_seeds("SIM", 12, |seed| {
        let Some(mut run) = Run::new(seed) else { return };
        run.live(2000, 2);
        assert_eq!(run.live(6000, 0).state, HealthState::Idle);
        let away = Duration::from_secs(40 + run.random.below(180));
        assert!(away > AttemptConfig::default().delay_max);
        {
            let mut upstream = run.upstream.lock().unwrap();
            upstream.away = true;
            upstream.end(false);
        }
        let millis = away.as_millis() as u64;
        let report = run.live(millis, 0);
        assert_eq!(report.state, HealthState::Stalled, "{report:?}");
        assert!(report.why.unwrap().contains("nobody answers"));
        run.upstream.lock().unwrap().away = false;
        let mut seconds = 0;
        // Connected again it may be idle before anything has come.
        while run.report().state != HealthState::Idle || !run.has_all() {
            assert!(seconds < 60, "it does not come back: {}", run.describe());
            run.live(1000, 0);
            seconds += 1;
        }
        assert_eq!(run.report().why, None);
    });
}
