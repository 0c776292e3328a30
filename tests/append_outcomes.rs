//! Goal: every way an append can end is told rightly. Method: the table of where our interval lies,
//! what the store does to our create, and whether a rival commits before it or between two tries of
//! it; then the cases in which the number of our entry is collected before we learn its outcome.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use common::{append, config, contents, io, open, row, runtime, schema, strings};
use differential_upsert::ErrorKind;
use differential_upsert::shard::{Access, Append, Appended, Handle, HandleConfig, verify};
use differential_upsert::store::{Fault, Faults, Operation, Report, Root};

fn memory() -> Root {
    Root::open("mem:", Access::Write).unwrap()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// The create works.
    Clean,
    /// It works, the reply is lost.
    UnknownApplied,
    /// It does not work, the reply is lost.
    UnknownNotApplied,
    /// The reply is lost, and it lands after the next operation.
    Late,
    /// It works, and says that it did not.
    Lie,
}

/// Where our interval lies, seen from a shard at 5 that a rival may move to 8.
const OURS: [(&str, u64, u64); 4] =
    [("below", 2, 4), ("overlapping", 3, 7), ("equal", 5, 6), ("past", 9, 10)];

#[test]
fn the_table_of_append_outcomes() {
    use Outcome::*;
    for (place, lower, upper) in OURS {
        for outcome in [Clean, UnknownApplied, UnknownNotApplied, Late, Lie] {
            for rival_between in [false, true] {
                let case = format!("{place}, {outcome:?}, rival {rival_between}");
                runtime().block_on(one_outcome(&case, lower, upper, outcome, rival_between));
            }
        }
    }
}

fn fault_of(outcome: Outcome) -> Fault {
    match outcome {
        Outcome::Clean => Fault::None,
        Outcome::UnknownApplied => Fault::Fail { applied: true, report: Report::Timeout },
        Outcome::UnknownNotApplied => Fault::Fail { applied: false, report: Report::Timeout },
        Outcome::Late => Fault::Late,
        Outcome::Lie => Fault::Fail { applied: true, report: Report::Error },
    }
}

async fn one_outcome(case: &str, lower: u64, upper: u64, outcome: Outcome, rival_between: bool) {
    let root = memory();
    let rival = open(&root, 1_000).await.unwrap();
    assert_eq!(
        append(&rival, 0, 5, vec![row("r", "0", 0, 1)]).await.unwrap(),
        Appended::Won { seqno: 1 }
    );

    let first = AtomicBool::new(true);
    let faults = Faults::new(move |action| {
        if action.operation != Operation::CreateEntry || !first.swap(false, Ordering::Relaxed) {
            return Fault::None;
        }
        fault_of(outcome)
    });
    let ours = open(&root.with_faults(faults), 1).await.unwrap();
    if rival_between {
        assert_eq!(
            append(&rival, 5, 8, vec![row("r", "1", 6, 1), row("r", "0", 6, -1)]).await.unwrap(),
            Appended::Won { seqno: 2 }
        );
    }
    let rows = vec![row("mine", "1", upper - 1, 1)];
    let appended = append(&ours, lower, upper, rows).await.unwrap();

    let now = if rival_between { 8 } else { 5 };
    let wins = lower == now;
    let expected = match wins {
        true => Appended::Won { seqno: 2 },
        false => Appended::UpperMismatch(now),
    };
    assert_eq!(appended, expected, "{case}");
    // What the shard itself says, through a handle that knows nothing.
    let fresh = open(&root, 2_000).await.unwrap();
    let state = fresh.state();
    assert_eq!(state.upper, if wins { upper } else { now }, "{case}");
    assert_eq!(*ours.refresh().await.unwrap(), *state, "{case}");
    let mine =
        contents(&fresh, state.upper - 1).await.unwrap().iter().filter(|r| r.0 == "mine").count();
    assert_eq!(mine, usize::from(wins), "{case}: exactly once, or not at all");
    verify(root, io(1)).await.unwrap();
}

/// The rival moves after our first try and before our second.
#[test]
fn the_table_of_append_outcomes_with_a_rival_between_two_tries() {
    use Outcome::*;
    for outcome in [UnknownApplied, UnknownNotApplied, Late, Lie] {
        runtime().block_on(async {
            let root = memory();
            let rival = open(&root, 1_000).await.unwrap();
            let tried = Arc::new(tokio::sync::Notify::new());
            let first = AtomicBool::new(true);
            let faults = Faults::new({
                let tried = Arc::clone(&tried);
                move |action| {
                    let create = action.operation == Operation::CreateEntry;
                    if !create || !first.swap(false, Ordering::Relaxed) {
                        return Fault::None;
                    }
                    tried.notify_one();
                    fault_of(outcome)
                }
            });
            let ours = open(&root.with_faults(faults), 1).await.unwrap();
            let theirs = tokio::spawn(async move {
                tried.notified().await;
                append(&rival, 0, 8, vec![row("r", "1", 6, 1)]).await.unwrap()
            });
            let ours = append(&ours, 0, 6, vec![row("mine", "1", 5, 1)]).await.unwrap();
            let theirs = theirs.await.unwrap();
            // A late write lands after our own look back, which is before the rival's turn.
            let expected = match outcome {
                UnknownNotApplied => (Appended::UpperMismatch(8), Appended::Won { seqno: 1 }),
                _ => (Appended::Won { seqno: 1 }, Appended::UpperMismatch(6)),
            };
            assert_eq!((ours, theirs), expected, "{outcome:?}");
            let upper = open(&root, 2_000).await.unwrap().state().upper;
            assert_eq!(upper, if outcome == UnknownNotApplied { 8 } else { 6 });
        });
    }
}

#[test]
fn a_late_create_that_lands_after_we_gave_up_is_never_doubled() {
    runtime().block_on(async {
        let root = memory();
        open(&root, 1).await.unwrap();
        let faults = Faults::new(|action| match action.operation {
            Operation::CreateEntry => Fault::Late,
            // So that it cannot see what has landed in the meantime.
            Operation::GetEntry if action.number > 6 => {
                Fault::Fail { applied: false, report: Report::Error }
            }
            _ => Fault::None,
        });
        let ours = open(&root.with_faults(Arc::clone(&faults)), 1_000).await.unwrap();
        let error = append(&ours, 0, 3, vec![row("a", "1", 1, 1)]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Indeterminate, "{error}");
        faults.land().await;
        let fresh = open(&root, 2_000).await.unwrap();
        assert_eq!(fresh.state().upper, 3);
        assert_eq!(append(&fresh, 0, 3, vec![]).await.unwrap(), Appended::UpperMismatch(3));
        assert_eq!(contents(&fresh, 2).await.unwrap(), strings(&[("a", "1")]));
    });
}

#[test]
fn an_unknown_outcome_before_a_rival_takes_the_number() {
    runtime().block_on(async {
        let root = memory();
        let rival = open(&root, 1_000).await.unwrap();
        let first = AtomicBool::new(true);
        let faults = Faults::new(move |action| match action.operation {
            Operation::CreateEntry if first.swap(false, Ordering::Relaxed) => {
                Fault::Fail { applied: false, report: Report::Timeout }
            }
            _ => Fault::None,
        });
        let ours = open(&root.with_faults(faults), 1).await.unwrap();
        // Known here at 0, while the rival has made entry 1 already.
        assert_eq!(append(&rival, 0, 2, vec![]).await.unwrap(), Appended::Won { seqno: 1 });
        let parts = ours.prepare(vec![row("a", "1", 0, 1)]).await.unwrap();
        let append = Append { lower: 0, upper: 2, parts, ..Append::default() };
        let lost = ours.compare_and_append(append).await.unwrap();
        assert_eq!(lost, Appended::UpperMismatch(2));
    });
}

#[test]
fn a_create_under_the_floor_is_not_believed() {
    runtime().block_on(async {
        let root = memory();
        let stale = open(&root, 1).await.unwrap();
        let other = Handle::open(
            root.clone(),
            "data",
            Some(schema()),
            Access::Write,
            io(1_000),
            HandleConfig { rollup_every: 1, ..config() },
        )
        .await
        .unwrap();
        assert_eq!(append(&other, 0, 0, vec![]).await.unwrap_err().kind(), ErrorKind::Invalid);
        for time in 0..4 {
            let rows = vec![row(&format!("k{time}"), "v", time, 1)];
            assert_eq!(
                append(&other, time, time + 1, rows).await.unwrap(),
                Appended::Won { seqno: time + 1 }
            );
        }
        // What a collector will do, once the inline rows are elsewhere: floor first, then entries.
        let log = root.log("data");
        log.raise_floor(2).await.unwrap();
        log.delete(1).await.unwrap();
        // The stale writer still knows an empty shard, and its create of entry 1 succeeds.
        let parts = stale.prepare(vec![row("ghost", "v", 0, 1)]).await.unwrap();
        let append = Append { lower: 0, upper: 1, parts, ..Append::default() };
        assert_eq!(stale.compare_and_append(append).await.unwrap(), Appended::UpperMismatch(4));
        assert!(
            log.get(1).await.unwrap().is_some(),
            "the re-creation is there, and does not count"
        );
        let reader = open(&root, 3_000).await.unwrap();
        assert_eq!(reader.state(), other.state());
    });
}

/// Our entry is committed, or not; before we learn it, its number is collected. What is left to tell
/// us is the state's table of writers.
#[test]
fn an_append_whose_entry_was_collected_is_told_rightly() {
    let lost_reply = Fault::Fail { applied: true, report: Report::Timeout };
    let lost_request = Fault::Fail { applied: false, report: Report::Timeout };
    for (first, second) in [
        (lost_reply, Fault::None),
        (lost_reply, lost_request),
        (lost_request, Fault::None),
        (lost_request, lost_request),
    ] {
        runtime().block_on(async {
            let root = memory();
            let config = HandleConfig { rollup_every: 1, inline_bytes_max: 0, ..config() };
            let open = |root: Root, base| {
                Handle::open(root, "data", Some(schema()), Access::Write, io(base), config.clone())
            };
            let rival = open(root.clone(), 1_000).await.unwrap();
            let tried = Arc::new(tokio::sync::Notify::new());
            let (creates, looks) = (AtomicU64::new(0), AtomicBool::new(true));
            let armed = Arc::new(AtomicBool::new(false));
            let faults = Faults::new({
                let (tried, armed) = (Arc::clone(&tried), Arc::clone(&armed));
                move |action| match action.operation {
                    _ if !armed.load(Ordering::Relaxed) => Fault::None,
                    Operation::CreateEntry => match creates.fetch_add(1, Ordering::Relaxed) {
                        0 => first,
                        _ => second,
                    },
                    // It cannot look back before the others have moved on.
                    Operation::GetEntry
                        if creates.load(Ordering::Relaxed) == 1
                            && looks.swap(false, Ordering::Relaxed) =>
                    {
                        tried.notify_one();
                        Fault::Fail { applied: false, report: Report::Error }
                    }
                    _ => Fault::None,
                }
            });
            let ours = open(root.with_faults(faults), 1).await.unwrap();
            let elsewhere = root.clone();
            let others = tokio::spawn(async move {
                tried.notified().await;
                let upper = rival.refresh().await.unwrap().upper;
                for time in upper..upper + 3 {
                    let rows = vec![row(&format!("r{time}"), "v", time, 1)];
                    let _ = append(&rival, time, time + 1, rows).await.unwrap();
                }
                let (log, head) = (elsewhere.log("data"), rival.state().seqno);
                log.raise_floor(head).await.unwrap();
                for seqno in 1..=head {
                    log.delete(seqno).await.unwrap();
                }
            });
            // The lease for parts is entry 1.
            let parts = ours.prepare(vec![row("mine", "1", 0, 1)]).await.unwrap();
            armed.store(true, Ordering::Relaxed);
            let append = Append { lower: 0, upper: 1, parts, ..Append::default() };
            let appended = ours.compare_and_append(append).await.unwrap();
            others.await.unwrap();
            let expected = match first == lost_reply {
                true => Appended::Won { seqno: 2 },
                false => Appended::UpperMismatch(3),
            };
            assert_eq!(appended, expected, "{first:?}, {second:?}");
            let upper = ours.state().upper;
            let found = contents(&ours, upper - 1).await.unwrap();
            let mine = found.iter().filter(|row| row.0 == "mine").count();
            assert_eq!(mine, usize::from(first == lost_reply), "{first:?}, {second:?}");
        });
    }
}
