//! Owns B18 to B20 and B22: told to stop, it stops. The clock is paused, so that a timer which was
//! waited for would show.

use std::time::Duration;

use differential_upsert::source::AttemptConfig;
use differential_upsert::unstable::attempt::{Ended, Reason};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::behaviours::rig::{Setup, run_with};
use crate::behaviours::script::{Asked, At, Scripted, at};

/// Delays long enough that none passes unseen.
fn config() -> AttemptConfig {
    let hour = Duration::from_secs(3600);
    AttemptConfig {
        delay_min: hour,
        delay_max: hour,
        attempts_max: 100,
        ..AttemptConfig::default()
    }
}

/// Runs a source whose units nobody takes but for the first `taken`, cancels it after `after`, and
/// checks that it returned at once and asked the source nothing more.
async fn cancelled(
    source: Scripted,
    stops: bool,
    taken: usize,
    after: Duration,
) -> (Ended<At>, Asked) {
    let (asked, cancel) = (source.asked(), CancellationToken::new());
    let setup = Setup {
        config: config(),
        cancel: cancel.clone(),
        stop_at_current: stops,
        ..Setup::default()
    };
    let (attempts, mut units) = setup.attempts();
    let running = tokio::spawn(attempts.run_postcard(source));
    for _ in 0..taken {
        units.recv().await.unwrap();
    }
    tokio::time::sleep(after).await;
    let (calls, begun) = (asked.calls(), Instant::now());
    assert!(!running.is_finished(), "nothing to cancel");
    cancel.cancel();
    let ended = running.await.unwrap();
    assert_eq!(begun.elapsed(), Duration::ZERO, "it waited");
    assert_eq!(asked.calls(), calls, "it asked the source again");
    assert!(matches!(ended.reason, Reason::Cancelled), "{ended:?}");
    (ended, asked)
}

const SOON: Duration = Duration::from_millis(50);

#[tokio::test(start_paused = true)]
async fn b18_cancel_while_receiving() {
    for silence in ["hang", "w(9999999)"] {
        let script = format!("B R1 V(1) C | B R2 | {silence}");
        let (ended, asked) = cancelled(Scripted::new(&[&script, "E"]), false, 1, SOON).await;
        assert_eq!(ended.boundary.get(""), Some(&at(1)));
        assert_eq!(asked.connects().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn b19_cancel_during_a_delay() {
    for failure in ["!unavailable", "$", "^!unavailable", "!cancelled"] {
        let (_, asked) = cancelled(Scripted::new(&[failure, "E"]), false, 0, SOON).await;
        assert_eq!(asked.connects().len(), 1, "{failure}");
    }
    // Also before everything is copied anew.
    let (_, asked) = cancelled(Scripted::new(&["!lost", "E"]), false, 0, SOON).await;
    assert_eq!(asked.connects().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn b19_cancel_during_connect() {
    let (ended, asked) = cancelled(Scripted::new(&["^hang", "E"]), false, 0, SOON).await;
    assert_eq!((asked.connects().len(), ended.boundary.is_start()), (1, true));
    let script = "B R1 V(1) C | !unavailable";
    let later = Duration::from_secs(2 * 3600);
    let (ended, asked) = cancelled(Scripted::new(&[script, "^hang"]), false, 1, later).await;
    assert_eq!(asked.connects().len(), 2);
    assert_eq!(ended.boundary.get(""), Some(&at(1)));
}

#[tokio::test(start_paused = true)]
async fn b19_cancel_while_nobody_makes_room() {
    // There is room for one: the second waits, and the third has not been asked for.
    let script = "B R1 V(1) C | B R2 V(2) C | B R3 V(3) C | E";
    let (ended, asked) = cancelled(Scripted::new(&[script]), false, 0, SOON).await;
    assert_eq!(ended.boundary.get(""), Some(&at(1)), "what is not on its way does not count");
    assert_eq!(asked.connects().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn b19_cancel_while_it_asks_where_the_feed_is() {
    let source = Scripted::new(&["E"]).current(Err("hang"));
    let (_, asked) = cancelled(source, true, 0, SOON).await;
    assert_eq!(asked.connects().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn b20_cancelled_before_it_begins() {
    for stop_at_current in [false, true] {
        let source = Scripted::new(&["B R1 V(1) C | E"]).current(Ok(at(1)));
        let (asked, begun) = (source.asked(), Instant::now());
        let setup = Setup { config: config(), stop_at_current, ..Setup::default() };
        setup.cancel.cancel();
        let run = run_with(setup, source).await;
        assert!(matches!(run.ended.reason, Reason::Cancelled), "{:?}", run.ended);
        assert_eq!((asked.calls(), begun.elapsed(), run.kept.len()), (0, Duration::ZERO, 0));
    }
}

/// Both at once: our own word counts, whatever the other side says it was.
#[tokio::test(start_paused = true)]
async fn b22_cancelled_by_both() {
    for said in ["!cancelled", "!unavailable", "!definite", "!lost", "$", "E", "B R2 V(2) C"] {
        for own_first in [true, false] {
            let script = format!("B R1 V(1) C | w(50) {said}");
            let (source, cancel) = (Scripted::new(&[&script, "E"]), CancellationToken::new());
            let setup = Setup { config: config(), cancel: cancel.clone(), ..Setup::default() };
            let begun = Instant::now();
            let own = async {
                tokio::time::sleep(SOON).await;
                cancel.cancel();
            };
            let run = match own_first {
                true => tokio::join!(biased; own, run_with(setup, source)).1,
                false => tokio::join!(biased; run_with(setup, source), own).0,
            };
            assert_eq!((run.asked.connects().len(), begun.elapsed()), (1, SOON), "{said}");
            let stopped = matches!(run.ended.reason, Reason::Cancelled);
            // Else it had ended before it was told.
            let over = !own_first && ["!definite", "E"].contains(&said);
            assert!(stopped || over, "{said}, own first {own_first}: {:?}", run.ended);
        }
    }
}

/// Nobody takes units any more: that is a stop too, wherever it is noticed.
#[tokio::test(start_paused = true)]
async fn b19_nobody_takes_units_any_more() {
    let cases =
        ["B R1 V(1) C | hang", "B R1 V(1) C | B R2 V(2) C", "^hang", "!unavailable", "hang"];
    for script in cases {
        let source = Scripted::new(&[script, "E"]);
        let asked = source.asked();
        let (attempts, units) = Setup { config: config(), ..Setup::default() }.attempts();
        let running = tokio::spawn(attempts.run_postcard(source));
        tokio::time::sleep(SOON).await;
        let begun = Instant::now();
        drop(units);
        let ended = tokio::time::timeout(Duration::from_secs(10), running).await;
        let ended = ended.unwrap_or_else(|_| panic!("{script}: it goes on")).unwrap();
        assert!(matches!(ended.reason, Reason::Cancelled), "{script}: {ended:?}");
        assert_eq!((begun.elapsed(), asked.connects().len()), (Duration::ZERO, 1), "{script}");
    }
}
