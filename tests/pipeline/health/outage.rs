//! Owns outages of the store: it goes on trying for as long as it may, says what does not answer, and
//! is well again by itself; what is refused for good ends at once. Nothing is lost by any of it.

use differential_upsert::ErrorKind;
use differential_upsert::health::HealthState;
use differential_upsert::store::{Action, Fault, Operation, Report};

use crate::health::rig::{Rig, STALL, Valve};

/// The default budget, in seconds.
const BUDGET: u64 = 5 * 60;

/// What fails, and whether only the sink needs it.
fn kinds() -> [(&'static str, fn(&Action) -> bool, bool); 4] {
    [
        ("all", |_| true, false),
        ("the commit", |a| a.operation == Operation::CreateEntry, true),
        ("uploads", |a| a.operation == Operation::Put, true),
        ("the log's reading", |a| a.operation == Operation::GetEntry, false),
    ]
}

fn failing(report: Report, which: fn(&Action) -> bool) -> Valve {
    Valve::new(Fault::Fail { applied: false, report }, which)
}

#[test]
fn an_outage_is_stalled_in_its_own_name_and_is_over_by_itself() {
    for (name, which, writes) in kinds() {
        for (report, waits) in
            [(Report::Error, true), (Report::Timeout, true), (Report::Timeout, false)]
        {
            if writes && !waits {
                continue;
            }
            let mut rig = Rig::begun(failing(report, which));
            rig.valve.set(true);
            if waits {
                rig.give(1, 1);
            }
            let mut stalled = None;
            for passed in 1..BUDGET - 5 {
                rig.live();
                let health = rig.report();
                match health.state {
                    HealthState::Stalled => stalled = stalled.or(Some(passed)),
                    HealthState::Running | HealthState::Idle => assert!(passed < STALL + 5),
                    state => panic!("{name}, {passed} s: {state:?}, {:?}", health.why),
                }
                if passed > 3 {
                    let why = health.why.unwrap_or_default();
                    assert!(why.contains("the store does not answer"), "{name}, {passed} s: {why}");
                    assert!(why.contains("injected"), "{name}: the last error is said: {why}");
                    assert!(why.contains("times tried"), "{name}: {why}");
                }
            }
            let stalled = stalled.unwrap_or_else(|| panic!("{name}: never stalled"));
            assert!(stalled >= STALL, "{name}: stalled after {stalled} s");
            rig.valve.set(false);
            for _ in 0..4 {
                rig.live();
            }
            let health = rig.report();
            assert_eq!((health.state, health.why), (HealthState::Idle, None), "{name}");
            assert_eq!(health.upper, if waits { 2 } else { 1 }, "{name}: nothing is lost");
            rig.end();
        }
    }
}

#[test]
fn an_outage_that_outlasts_the_budget_fails_with_the_last_error() {
    for (name, which, _) in kinds() {
        let mut rig = Rig::begun(failing(Report::Error, which));
        rig.valve.set(true);
        rig.give(1, 1);
        for passed in 1..=BUDGET + 20 {
            rig.live();
            let failed = rig.state() == HealthState::Failed;
            assert!(!failed || passed >= BUDGET, "{name}: gave up after {passed} s");
        }
        assert_eq!(rig.state(), HealthState::Failed, "{name}: {:?}", rig.report());
        let error = rig.health.error().unwrap();
        assert!(error.to_string().contains("did not answer for 300 s"), "{name}: {error}");
        assert!(error.to_string().contains("injected"), "{name}: {error}");
        // What may be created is, and only then not read back.
        let upper = if name == "the log's reading" { 2 } else { 1 };
        assert_eq!(rig.report().upper, upper, "{name}");
    }
}

#[test]
fn what_is_refused_for_good_ends_at_once_and_says_what_to_do() {
    for (name, which, _) in kinds() {
        let mut rig = Rig::begun(failing(Report::Refused, which));
        rig.valve.set(true);
        rig.give(1, 1);
        rig.live();
        rig.live();
        assert_eq!(rig.state(), HealthState::Failed, "{name}: {:?}", rig.report());
        let error = rig.health.error().unwrap();
        assert_eq!(error.kind(), ErrorKind::Refused, "{name}: {error}");
        assert!(error.to_string().ends_with("; let it in"), "{name}: {error}");
        assert!(!error.to_string().contains("may have happened"), "{name}: {error}");
    }
}
