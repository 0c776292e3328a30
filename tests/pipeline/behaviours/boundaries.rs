//! Owns B1 to B14 and B40: what is a unit, and when a cursor moves.

use differential_upsert::source::AttemptConfig;
use differential_upsert::source::StageLimits;
use differential_upsert::source::{
    Boundary, Change, Event, Events, Failure, Partition, Position, Received, Source,
};
use differential_upsert::unstable::attempt::Reason;
use differential_upsert::{DataError, ErrorKind};

use crate::behaviours::rig::{Setup, boundary, run, run_as, run_with};
use crate::behaviours::script::{At, Scripted, Step, at, copied, failure, parse};

#[tokio::test(start_paused = true)]
async fn b01_one_transaction_in_one_response() {
    let run = run(&["B R1 R2 V(2) C | !unavailable"]).await;
    assert_eq!((run.keys(), run.places()), (vec![vec![1, 2]], vec![at(2)]));
    assert_eq!(run.safe(), Some(at(2)));
    assert_eq!(run.connects(), [None, Some(at(2))]);
}

#[tokio::test(start_paused = true)]
async fn b02_a_transaction_in_many_responses_is_one_unit_or_none() {
    let first = "B R9 V(1) C";
    let whole = "B R1 | R2 | R3 V(2) C";
    for cut in ["", "| B R1", "| B R1 | R2", "| B R1 | R2 | R3"] {
        for end in ["!unavailable", "$"] {
            let cut = format!("{first} {cut} | {end}");
            let alone = run(&[&cut]).await;
            assert_eq!((alone.safe(), alone.keys()), (Some(at(1)), vec![vec![9]]), "{cut}");
            let again = run(&[&cut, whole]).await;
            assert_eq!(again.keys(), [vec![9], vec![1, 2, 3]], "{cut}");
            assert_eq!((again.safe(), again.connects()[1].clone()), (Some(at(2)), Some(at(1))));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn b03_transactions_without_rows_move_the_cursor() {
    let run = run(&["B V(2) C | !unavailable"]).await;
    assert_eq!((run.safe(), run.keys()), (Some(at(2)), vec![vec![]]));
}

#[tokio::test(start_paused = true)]
async fn b03_a_million_transactions_without_rows() {
    // An idle table of a busy database: the cursor keeps up, or its log is purged under it.
    let setup = Setup { room: 16, ..Setup::default() };
    let (kept, ended) = setup.run(Idle { next: 0, last: 1_000_000, failed: 0 }).await;
    assert_eq!(ended.boundary.get(""), Some(&1_000_000));
    assert!(kept.iter().all(|kept| kept.changes.is_empty()));
    assert!(matches!(ended.reason, Reason::Complete));
}

/// A feed that has nothing to say but where it is.
struct Idle {
    next: u64,
    last: u64,
    /// Up to where it has failed.
    failed: u64,
}

impl Source for Idle {
    type Key = u64;
    type Value = u64;
    type Position = u64;

    fn identity(&self) -> String {
        "idle".to_string()
    }

    async fn connect(&mut self, from: &Boundary<u64>) -> Result<(), Failure> {
        self.next = from.get("").map_or(1, |at| at + 1);
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<Events<Self>>, Failure> {
        if self.next > self.last {
            return Ok(Some(vec![Event::End]));
        }
        let to = (self.next + 999).min(self.last);
        let boundary = |n| Event::Boundary(Received::at(Partition::from(""), n));
        let events = (self.next..=to).map(boundary).collect();
        self.next = to + 1;
        // A connection that is lost in between changes nothing.
        let fails = to.is_multiple_of(100_000) && self.failed < to;
        self.failed = self.failed.max(to);
        if fails { Err(failure("unavailable")) } else { Ok(Some(events)) }
    }
}

#[tokio::test(start_paused = true)]
async fn b04_the_position_at_the_start_of_a_copy_is_no_cursor() {
    let all = "B R1 R2 V(5,2) C | B R3 V(5,3) C | B V(5) C | CC";
    for end in ["!cancelled", "!deadline", "!unavailable", "$"] {
        let cut = format!("B F | V(5) | {end}");
        let run = run_as(&[&cut, all], Scripted::copied).await;
        assert_eq!(run.connects()[1], None, "{end}: it begins at the start");
        assert_eq!(run.keys(), [vec![1, 2], vec![3], vec![]], "{end}");
        let cut = format!("B F | V(5) | R1 R2 V(5,2) C | {end}");
        let run = run_as(&[&cut], Scripted::copied).await;
        assert_eq!(run.safe(), Some(copied(5, 2)), "{end}");
    }
}

#[tokio::test(start_paused = true)]
async fn b05_the_end_of_a_copy_counts_when_it_is_said() {
    let before = "B F | V(5) | R1 V(5,1) C | B V(5) C";
    let run = run_as(&[before], Scripted::copied).await;
    assert_eq!(run.safe(), Some(copied(5, 1)));
    let run = run_as(&[&format!("{before} | CC")], Scripted::copied).await;
    assert_eq!(run.safe(), Some(at(5)));
    // An empty table: only at the end.
    let run = run_as(&["B F | V(5) | B V(5) C"], Scripted::copied).await;
    assert_eq!(run.safe(), None);
    let run = run_as(&["B F | V(5) | B V(5) C | CC"], Scripted::copied).await;
    assert_eq!(run.safe(), Some(at(5)));
}

#[tokio::test(start_paused = true)]
async fn b06_a_position_inside_a_transaction_is_no_cursor() {
    for script in
        ["B R9 V(1) C | B V(2) R1 | !unavailable", "B R9 V(1) C | B V(2) | HB | R1 | !unavailable"]
    {
        let run = run(&[script, "B R1 V(2) C"]).await;
        assert_eq!(run.connects()[1], Some(at(1)), "{script}");
        assert_eq!(run.keys(), [[9], [1]], "{script}");
    }
    let run = run(&["HB | HB | HB | !unavailable"]).await;
    assert_eq!((run.safe(), run.kept.len()), (None, 0));
}

#[tokio::test(start_paused = true)]
async fn b07_a_commit_without_a_position_and_a_begin_without_a_commit() {
    let run1 = run(&["B R1 C | B R2 V(2) C"]).await;
    assert_eq!((run1.keys(), run1.safe()), (vec![vec![1, 2]], Some(at(2))));
    // The server began it again: what it had sent of it is void, also what is different now.
    let run2 = run(&["B R1 R7 | B R1 | R2 V(2) C"]).await;
    assert_eq!((run2.keys(), run2.safe()), (vec![vec![1, 2]], Some(at(2))));
}

#[tokio::test(start_paused = true)]
async fn b08_groups_that_are_split_count_once() {
    for script in ["B VERSION | V(2) C", "V(2) OTHER", "V(2) DDL", "V(2) | OTHER"] {
        let run = run(&[script]).await;
        assert_eq!((run.places(), run.safe()), (vec![at(2)], Some(at(2))), "{script}");
    }
}

/// Every way to fail comes with a boundary; that there is always one, the type says.
#[tokio::test(start_paused = true)]
async fn b09_every_failure_leaves_the_last_boundary() {
    let kinds = ["unavailable", "cancelled", "deadline", "definite"];
    for kind in kinds {
        let scripts = [
            (format!("^!{kind}"), None),
            (format!("!{kind}"), None),
            (format!("R1 | !{kind}"), None),
            (format!("B R1 V(1) C | !{kind}"), Some(at(1))),
            (format!("B R1 V(1) C | R2 | D3 | !{kind}"), Some(at(1))),
            (format!("B R1 V(1) C | B R2 V(2) C | ^!{kind}"), Some(at(2))),
        ];
        for (script, safe) in scripts {
            let run = run(&[&script]).await;
            assert_eq!(run.safe(), safe, "{script}");
            assert!(matches!(run.ended.reason, Reason::Failed(_)), "{script}");
        }
    }
    // What the stager refuses, it refuses with the boundary as it was.
    let limits = StageLimits { memory_bytes_max: 10, unit_bytes_max: 100 };
    let script = Scripted::new(&["B R1 V(1) C | B R1 R2 R3 R4 R5 R6 R7 R8 R9 R10 R11 V(2) C"]);
    let run = run_with(Setup { limits, ..Setup::default() }, script).await;
    assert_eq!((run.safe(), run.keys()), (Some(at(1)), vec![vec![1]]));
    assert!(run.error().contains("unit_bytes_max"), "{}", run.error());
}

#[tokio::test(start_paused = true)]
async fn b09_the_bound_of_a_unit_holds_below_that_of_memory() {
    let limits = StageLimits { memory_bytes_max: 1 << 20, unit_bytes_max: 100 };
    let script = Scripted::new(&["B R1 V(1) C | B R1 R2 R3 R4 R5 R6 R7 R8 R9 R10 R11 V(2) C"]);
    let run = run_with(Setup { limits, ..Setup::default() }, script).await;
    assert_eq!((run.safe(), run.keys()), (Some(at(1)), vec![vec![1]]));
}

#[tokio::test(start_paused = true)]
async fn b10_an_error_inside_a_response_keeps_its_cursor_out() {
    let run = run(&["B R1 V(1) C | B R2 !definite V(2) C"]).await;
    assert_eq!((run.safe(), run.keys()), (Some(at(1)), vec![vec![1]]));
    // What is wrong with one row only, is that key's error, and goes on with its unit.
    let run = crate::behaviours::rig::run(&["B R1 V(1) C | B X1 R2 V(2) C"]).await;
    let bad = Change::Put(1, Err(DataError("unreadable".into())));
    assert_eq!(run.kept[1].changes, [bad, Change::Put(2, Ok(2))]);
    assert_eq!(run.safe(), Some(at(2)));
}

/// A cursor cannot be changed; that those handed out stay what they were, can be seen.
#[tokio::test(start_paused = true)]
async fn b11_a_cursor_that_was_handed_out_does_not_change() {
    let run = run(&["B R1 V(1) C | !unavailable", "B R2 V(2) C | B V(3) C | !unavailable"]).await;
    assert_eq!(run.places(), [at(1), at(2), at(3)]);
    assert_eq!(run.connects(), [None, Some(at(1)), Some(at(3))]);
    let clone = run.kept[0].boundary.clone();
    assert_eq!(run.kept[0].boundary, clone);
}

#[tokio::test(start_paused = true)]
async fn b12_a_cursor_never_goes_back() {
    for (script, why) in [
        ("B R1 V(3) C | B R2 V(2) C", "an earlier place"),
        ("B R1 V{1,2} C | B R2 V{1,3} C", "another way"),
        ("B R1 V(3) C | V(4,2) | B C | V(4,2) OTHER", "back into a copy"),
        ("a:R1 ALL(a=3) | ALL(a=2)", "an earlier place of all"),
    ] {
        let run = run(&[script, "B R5 V(9) C"]).await;
        assert_eq!(run.kept.len(), 1, "{why}: {:?}", run.kept);
        assert_eq!(run.asked.connects().len(), 1, "{why}: it does not help to try again");
        let Reason::Failed(error) = &run.ended.reason else { panic!("{why}") };
        assert_eq!(error.kind(), ErrorKind::FeedDiffers, "{why}");
    }
}

#[tokio::test(start_paused = true)]
async fn b12_a_feed_that_has_no_partitions_any_more_went_back() {
    let steps = parse("a:R1 ALL(a=3) |");
    let none = [steps, vec![Step::All(Vec::new())]].concat();
    let run = run_with(Setup::default(), Scripted::of(vec![none])).await;
    assert!(!run.ended.boundary.is_start(), "it would be copied from its start again");
    let Reason::Failed(error) = &run.ended.reason else { panic!("{:?}", run.ended) };
    assert_eq!(error.kind(), ErrorKind::FeedDiffers);
}

#[tokio::test(start_paused = true)]
async fn b12_a_place_of_another_history_is_no_place() {
    let from = boundary(at(3)).await;
    let mut other = at(4);
    other.history = 1;
    let steps = [Step::Position(Partition::from(""), other), Step::Flush(Partition::from(""))];
    let setup = Setup { from: from.clone(), ..Setup::default() };
    let run = run_with(setup, Scripted::of(vec![steps.to_vec()])).await;
    assert_eq!((run.kept.len(), run.ended.boundary == from), (0, true));
    assert!(run.error().contains("went back"), "{}", run.error());
}

/// A source that finds an error beside rows says so before it says the rows.
#[tokio::test(start_paused = true)]
async fn b13_an_error_beside_rows_comes_first() {
    let run = run(&["B R1 V(1) C | !definite B R2 V(2) C"]).await;
    assert_eq!((run.safe(), run.keys()), (Some(at(1)), vec![vec![1]]));
    assert_eq!(run.asked.connects().len(), 1);
}

/// Rows that a source cannot make out are definite: no cursor passes them, and no retry helps.
#[tokio::test(start_paused = true)]
async fn b14_rows_that_cannot_be_made_out_stop_it() {
    let run = run(&["B R1 V(1) C | B R2 | !definite", "B R2 V(2) C"]).await;
    assert_eq!((run.safe(), run.keys()), (Some(at(1)), vec![vec![1]]));
    assert_eq!(run.asked.connects().len(), 1);
    // Nor is a place that cannot be read ever the start.
    for bytes in [&b""[..], b"\x02\x00", b"\x01\xff"] {
        assert!(At::decode(bytes).is_err());
        assert!(u64::decode(bytes).is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn b40_delete_and_put_in_one_transaction() {
    // Another key: the old one goes and the new one comes, in one unit, wherever it is cut.
    let run1 = run(&["B R1=7 V(1) C | B D1 | R2=7 V(2) C"]).await;
    assert_eq!(run1.kept[1].changes, [Change::Delete(1), Change::Put(2, Ok(7))]);
    // One key: the last counts.
    let run2 = run(&["B R1=7 V(1) C | B D1 | R1=8 V(2) C | B R1=9 | D1 V(3) C"]).await;
    assert_eq!(run2.kept[1].changes, [Change::Delete(1), Change::Put(1, Ok(8))]);
    assert_eq!(run2.kept[2].changes, [Change::Put(1, Ok(9)), Change::Delete(1)]);
    assert!(run2.contents().is_empty());
}

/// Units of partitions come apart, whatever order their responses came in.
#[tokio::test(start_paused = true)]
async fn b02_units_of_partitions_are_apart() {
    let two = |source: Scripted| source.partitions(&["a", "b"]);
    let script = "a:B a:R1 | b:B b:R11 | b:V(2) b:C | a:R2 | a:V(3) a:C | b:B b:R12 | !unavailable";
    let run = run_as(&[script, "b:B b:R12 b:V(3) b:C"], two).await;
    assert_eq!(run.keys(), [vec![11], vec![1, 2], vec![12]]);
    let second = &run.asked.connects()[1];
    assert_eq!((second.get("a"), second.get("b")), (Some(&at(3)), Some(&at(2))));
}

/// A large unit goes through a file, and is the same.
#[tokio::test(start_paused = true)]
async fn b02_a_unit_larger_than_memory_is_the_same() {
    let rows: Vec<String> = (0..500).map(|n| format!("R{n} |")).collect();
    let script = format!("B {} V(1) C | B R1 {} !unavailable", rows.join(" "), rows.join(" "));
    let limits = StageLimits { memory_bytes_max: 100, ..StageLimits::default() };
    let config = AttemptConfig { attempts_max: 1, ..AttemptConfig::default() };
    let setup = Setup { limits, config, ..Setup::default() };
    let run = run_with(setup, Scripted::new(&[&script])).await;
    assert_eq!(run.keys(), [(0..500).collect::<Vec<u64>>()]);
    assert_eq!(run.safe(), Some(at(1)));
}
