//! The decision after every attempt, case by case.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn transient() -> Outcome {
    Outcome::Failed(Failure::Transient(Error::new(ErrorKind::Unavailable, "cancelled")))
}

fn definite() -> Outcome {
    Outcome::Failed(Failure::Definite(Error::new(ErrorKind::Invalid, "no such table")))
}

fn lost() -> Outcome {
    Outcome::Failed(Failure::PositionLost(Error::new(ErrorKind::Missing, "it is purged")))
}

fn progressed(name: &str) -> Part {
    Part { name: name.into(), progressed: true, staged: None }
}

fn silent(name: &str) -> Part {
    Part { name: name.into(), progressed: false, staged: None }
}

fn cut(name: &str, changes: u64) -> Part {
    Part { name: name.into(), progressed: false, staged: Some(changes) }
}

fn own(parts: Vec<Part>) -> Own {
    Own { parts, waited: SECOND, ..Own::default() }
}

fn lived(parts: Vec<Part>, lived: Duration) -> Own {
    Own { lived, ..own(parts) }
}

fn budget() -> Budget {
    Budget::new(AttemptConfig::default(), 0)
}

/// Decides until it gives up; returns after how many attempts, and the error.
fn until_it_fails(
    budget: &mut Budget,
    own: impl Fn(u64) -> Own,
    outcome: Outcome,
) -> (u64, String) {
    for attempt in 1..10_000 {
        if let Step::Fail(error) = budget.decide(&own(attempt), outcome.clone()) {
            return (attempt, error.to_string());
        }
    }
    panic!("it is tried for ever");
}

/// Checks that it never gives up.
fn for_ever(budget: &mut Budget, own: impl Fn(u64) -> Own, outcome: Outcome) {
    for attempt in 1..10_000 {
        let step = budget.decide(&own(attempt), outcome.clone());
        assert!(matches!(step, Step::Again(_)), "{attempt}: {step:?}");
    }
}

#[test]
fn our_own_stop_comes_before_everything() {
    for outcome in [transient(), definite(), Outcome::Closed, Outcome::End] {
        let own = Own { cancelled: true, late: true, ..own(vec![progressed("")]) };
        let step = budget().decide(&own, outcome);
        assert!(matches!(step, Step::Stop), "{step:?}");
    }
    let step = budget().decide(&own(vec![progressed("")]), definite());
    assert!(matches!(step, Step::Fail(_)), "{step:?}");
}

#[test]
fn our_own_deadline_is_no_failure_if_there_was_progress() {
    let mut budget = budget();
    let late = |part| Own { late: true, ..own(vec![part]) };
    for _ in 0..1000 {
        let step = budget.decide(&late(progressed("")), transient());
        assert!(matches!(step, Step::Again(Duration::ZERO)), "{step:?}");
    }
    let step = budget.decide(&late(silent("")), transient());
    assert!(matches!(step, Step::Again(delay) if delay > Duration::ZERO), "{step:?}");
    assert_eq!(budget.spent(), 1);
}

#[test]
fn a_clean_end_is_never_completion() {
    let mut budget = budget();
    let step = budget.decide(&own(vec![progressed("")]), Outcome::Closed);
    assert!(matches!(step, Step::Again(delay) if delay > Duration::ZERO), "{step:?}");
    let (_, error) = until_it_fails(&mut budget, |_| own(vec![silent("")]), Outcome::Closed);
    assert!(error.contains("closed the connection before the feed's end"), "{error}");
}

/// Minutes and not attempts: however fast it is asked, and however slowly.
#[test]
fn an_outage_has_a_time() {
    for (waited, attempts) in [(1, 301), (10, 31), (30, 11), (100, 4), (300, 2)] {
        let own = |_| Own { waited: waited * SECOND, ..own(vec![silent("")]) };
        let (took, error) = until_it_fails(&mut budget(), own, transient());
        assert_eq!(took, attempts, "{waited} s each: {error}");
        let said =
            format!("gave up after 300 s and {attempts} attempts without progress: cancelled");
        assert!(error.starts_with(&said), "{error}");
    }
    // A peer that says nothing until it hangs up is as bad as none.
    let hangs = |_| lived(vec![silent("")], 19 * SECOND);
    assert_eq!(until_it_fails(&mut budget(), hangs, transient()).0, 16);
    let config = AttemptConfig { outage_max: Duration::ZERO, ..AttemptConfig::default() };
    let mut none = Budget::new(config, 0);
    assert_eq!(until_it_fails(&mut none, |_| own(vec![silent("")]), transient()).0, 1);
}

#[test]
fn an_outage_is_over_with_a_boundary_or_a_long_session() {
    let long = AttemptConfig::default().delay_max + SECOND;
    for good in [own(vec![progressed("")]), lived(vec![silent("")], long)] {
        let mut budget = budget();
        for _ in 0..20 {
            for _ in 0..299 {
                let step = budget.decide(&own(vec![silent("")]), transient());
                assert!(matches!(step, Step::Again(_)), "{step:?}");
            }
            budget.decide(&good, transient());
            assert_eq!(budget.spent(), 0);
        }
    }
}

/// Behind a proxy that closes politely, or not so politely.
#[test]
fn a_table_that_is_idle_is_no_failure() {
    let long = AttemptConfig::default().delay_max + SECOND;
    for outcome in [Outcome::Closed, transient()] {
        for_ever(&mut budget(), |_| lived(vec![silent("")], long), outcome);
    }
    // One of two partitions is idle, and connections are short.
    let short = |_| lived(vec![progressed("a"), silent("b")], SECOND);
    for_ever(&mut budget(), short, Outcome::Closed);
    for_ever(&mut budget(), |n| Own { late: true, ..short(n) }, transient());
}

#[test]
fn a_unit_that_fails_at_the_same_place_is_counted() {
    let mut budget = budget();
    let (attempts, error) = until_it_fails(&mut budget, |_| own(vec![cut("", 3)]), transient());
    assert_eq!(attempts, 10);
    assert!(error.starts_with("gave up after 10 attempts without progress: cancelled"), "{error}");
    // However long each takes; and what was no try of it neither counts nor makes it begin anew.
    let slow = |_| lived(vec![cut("", 3)], 3600 * SECOND);
    assert_eq!(until_it_fails(&mut self::budget(), slow, transient()).0, 10);
    let between = |n| own(vec![if n % 2 == 0 { cut("", 3) } else { silent("") }]);
    assert_eq!(until_it_fails(&mut self::budget(), between, transient()).0, 20);
    // Cut elsewhere each time it is the transport's matter, and the time in which rows come in is none
    // of an outage.
    let elsewhere = |n| lived(vec![cut("", n)], 3600 * SECOND);
    assert_eq!(until_it_fails(&mut self::budget(), elsewhere, transient()).0, 301);
}

#[test]
fn one_partition_does_not_pay_for_another() {
    for (bad, attempts, said) in
        [(cut("b", 3), 10, "10 attempts"), (silent("b"), 301, "300 s and 301 attempts")]
    {
        let mut budget = budget();
        let own = |_| own(vec![progressed("a"), bad.clone()]);
        let (took, error) = until_it_fails(&mut budget, own, transient());
        assert_eq!(took, attempts, "{error}");
        let said = format!("gave up after {said} without progress (partition b): cancelled");
        assert!(error.starts_with(&said), "{error}");
    }
    // A polite end in the middle of a unit is one too.
    let own = |_| own(vec![progressed("a"), cut("b", 3)]);
    assert_eq!(until_it_fails(&mut budget(), own, Outcome::Closed).0, 10);
    let late = |n| Own { late: true, ..own(n) };
    assert_eq!(until_it_fails(&mut budget(), late, Outcome::Closed).0, 10);
}

#[test]
fn whom_the_source_blames_pays_alone() {
    let blames = |name: &str, parts| Own { blamed: Some(name.into()), ..own(parts) };
    let (_, error) = until_it_fails(
        &mut budget(),
        |_| blames("b", vec![silent("a"), silent("b"), cut("c", 1)]),
        transient(),
    );
    assert!(error.contains("(partition b)"), "{error}");
    for_ever(&mut budget(), |_| blames("b", vec![silent("a"), progressed("b")]), transient());
}

#[test]
fn what_was_replaced_owes_nothing() {
    let mut budget = budget();
    for _ in 0..9 {
        budget.decide(&own(vec![cut("a", 1)]), transient());
    }
    budget.decide(&own(vec![progressed("b"), progressed("c")]), transient());
    assert_eq!(budget.spent(), 0);
}

#[test]
fn a_position_that_is_lost_each_time_is_counted() {
    let (attempts, error) = until_it_fails(&mut budget(), |_| own(vec![progressed("")]), lost());
    assert_eq!(attempts, 11);
    assert!(error.contains("it is purged"), "{error}");
    // Until a unit was complete.
    let mut budget = budget();
    for _ in 0..100 {
        let released = Own { released: true, ..own(vec![progressed("")]) };
        let step = budget.decide(&released, lost());
        assert!(matches!(step, Step::Anew(_)), "{step:?}");
    }
}

/// A source that fails sooner than it is waited for is not asked any faster, whatever it brings.
#[test]
fn only_what_outlives_its_delay_is_tried_faster() {
    let all = |own: Own| {
        let mut budget = budget();
        let mut all = Vec::new();
        for _ in 0..60 {
            let Step::Again(delay) = budget.decide(&own, transient()) else { panic!("it ends") };
            all.push(delay);
        }
        all
    };
    let brief = all(lived(vec![progressed("a"), silent("b")], Duration::from_millis(1)));
    assert!(brief.iter().sum::<Duration>() > 300 * SECOND, "{brief:?}");
    let worthy = all(lived(vec![progressed("a")], 40 * SECOND));
    assert!(worthy.iter().all(|delay| *delay <= Duration::from_millis(100)), "{worthy:?}");
}

#[test]
fn delays_are_the_same_for_a_seed_and_stay_within_bounds() {
    let delays = |seed| {
        let mut budget = Budget::new(AttemptConfig::default(), seed);
        let mut delays = Vec::new();
        for attempt in 0..39 {
            let Step::Again(delay) = budget.decide(&own(vec![silent("")]), transient()) else {
                panic!("gave up early");
            };
            let most = Duration::from_millis(100).saturating_mul(1 << attempt.min(20));
            assert!(delay <= most.min(30 * SECOND), "{attempt}: {delay:?}");
            delays.push(delay);
        }
        delays
    };
    assert_eq!(delays(1), delays(1));
    assert_ne!(delays(1), delays(2));
}
