//! Owns B15 to B17: what an end of a stream is, and what it is not.

use differential_upsert::unstable::attempt::Reason;

use crate::behaviours::rig::{Setup, run, run_as, run_with};
use crate::behaviours::script::{Scripted, at, copied};

#[tokio::test(start_paused = true)]
async fn b15_the_cursor_at_the_end_of_a_stream() {
    let run1 = run(&["B R1 V(1) C | $"]).await;
    assert_eq!((run1.safe(), run1.keys()), (Some(at(1)), vec![vec![1]]));
    let run2 = run(&["B R1 V(1) C | B R2 | $"]).await;
    assert_eq!((run2.safe(), run2.keys()), (Some(at(1)), vec![vec![1]]));
    // What was discarded is not there beside what comes again.
    let run3 = run(&["B R1 V(1) C | B R2 R7 | $", "B R2 V(2) C | $"]).await;
    assert_eq!(run3.keys(), [[1], [2]]);
}

#[tokio::test(start_paused = true)]
async fn b16_the_end_of_a_stream_is_not_the_end_of_the_feed() {
    let nothing = vec!["$"; 100];
    let some = vec!["B R1 V(1) C | $", "B R2 V(2) C | $"];
    let run1 = run(&[some, nothing.clone()].concat()).await;
    assert!(run1.asked.connects().len() > 4, "two with progress, and some without");
    assert_eq!((run1.safe(), run1.keys()), (Some(at(2)), vec![vec![1], vec![2]]));
    assert!(run1.error().contains("closed the connection before the feed's end"));
    // Only if the feed says so, and at the end of a unit.
    let run2 = run(&["B R1 V(1) C | $", "E"]).await;
    assert!(matches!(run2.ended.reason, Reason::Complete), "{:?}", run2.ended);
    let run3 = run(&["B R1 V(1) C | B R2 | E", "B R2 V(2) C"]).await;
    assert!(run3.error().contains("inside a unit"), "{:?}", run3.ended);
    assert_eq!(run3.safe(), Some(at(1)));
    // Nor is where the run is to stop ever reached by the end of a stream.
    let setup = Setup { stop_at_current: true, ..Setup::default() };
    let scripts = [vec!["B R1 V(1) C | $"], nothing].concat();
    let source = Scripted::new(&scripts).current(Ok(at(2)));
    let run4 = run_with(setup, source).await;
    assert!(matches!(run4.ended.reason, Reason::Failed(_)), "{:?}", run4.ended);
}

#[tokio::test(start_paused = true)]
async fn b16_no_end_inside_a_copy() {
    let cut = "B F | V(5) | R1 V(5,1) C | $";
    let run1 = run_as(&[vec![cut], vec!["$"; 100]].concat(), Scripted::copied).await;
    assert!(run1.error().contains("gave up after"), "{:?}", run1.ended);
    assert_eq!(run1.safe(), Some(copied(5, 1)));
    // Also not if the feed says that it has ended: half of a table must not pass for one.
    let run2 = run_as(&["B F | V(5) | R1 V(5,1) C | E"], Scripted::copied).await;
    assert!(matches!(run2.ended.reason, Reason::Failed(_)), "{:?}", run2.ended);
    assert_eq!(run2.safe(), Some(copied(5, 1)));
}

/// What a transport makes of a body without trailers is its own matter; what it says is an error
/// comes again, and ends nothing.
#[tokio::test(start_paused = true)]
async fn b17_a_truncated_stream_is_a_transient_error() {
    let run = run(&["B R1 V(1) C | B R2 | !unavailable", "B R2 V(2) C | E"]).await;
    assert_eq!((run.keys(), run.safe()), (vec![vec![1], vec![2]], Some(at(2))));
    assert!(matches!(run.ended.reason, Reason::Complete), "{:?}", run.ended);
}
