//! Owns B21 and B23 to B28: which failures are tried again, how often, how fast, and where a run
//! stops.

use std::collections::BTreeSet;
use std::time::Duration;

use differential_upsert::source::{AttemptConfig, OnPositionLost};
use differential_upsert::unstable::attempt::Reason;
use tokio::time::Instant;

use crate::behaviours::rig::{Run, Setup, boundary, run, run_with};
use crate::behaviours::script::{At, Scripted, Step, at, parse};

fn config(attempts_max: u32) -> AttemptConfig {
    AttemptConfig { attempts_max, ..AttemptConfig::default() }
}

fn outage(outage_max: Duration) -> AttemptConfig {
    AttemptConfig { outage_max, ..AttemptConfig::default() }
}

#[tokio::test(start_paused = true)]
async fn b21_cancelled_by_somebody_else_is_tried_again() {
    let begun = Instant::now();
    let source = Scripted::new(&["B R1 V(1) C | !cancelled", "B R2 V(2) C | E"]);
    let run = run_with(Setup::default(), source).await;
    assert!(matches!(run.ended.reason, Reason::Complete), "{:?}", run.ended);
    assert_eq!(run.connects(), [None, Some(at(1))]);
    let slept = begun.elapsed();
    assert!(slept > Duration::ZERO && slept <= Duration::from_millis(100), "{slept:?}");
    // It costs something of what may be spent without progress, if there was none.
    let run = run_with(
        Setup { config: outage(Duration::from_nanos(1)), ..Setup::default() },
        Scripted::new(&["!cancelled", "B V(1) C | !cancelled", "!cancelled", "B V(2) C | E"]),
    );
    assert!(matches!(run.await.ended.reason, Reason::Complete));
}

#[tokio::test(start_paused = true)]
async fn b23_our_own_deadline_makes_another_connection_at_once() {
    let config = AttemptConfig {
        session_max: Some(Duration::from_secs(10)),
        attempts_max: 2,
        outage_max: Duration::from_secs(9),
        ..AttemptConfig::default()
    };
    let script = |n: u32| format!("B R{n} V({n}) C | B R99 | w(60000) V(99) C");
    let scripts: Vec<String> = (1..=50).map(script).collect();
    let mut scripts: Vec<&str> = scripts.iter().map(String::as_str).collect();
    scripts.push("B V(51) C | E");
    let begun = Instant::now();
    let setup = Setup { config: config.clone(), ..Setup::default() };
    let run = run_with(setup, Scripted::new(&scripts)).await;
    assert!(matches!(run.ended.reason, Reason::Complete), "{:?}", run.ended);
    assert_eq!(run.places().last(), Some(&at(51)));
    assert_eq!(begun.elapsed(), Duration::from_secs(500), "no delay between them");
    // A connection that is made too slowly, or brings nothing, is counted.
    for nothing in ["^hang", "hang", "B R1 | hang", "w(9999) !cancelled"] {
        let setup = Setup { config: config.clone(), ..Setup::default() };
        let run = run_with(setup, Scripted::new(&[nothing, nothing, "E"])).await;
        assert_eq!(run.asked.connects().len(), 2, "{nothing}");
        assert!(run.error().contains("2 attempts without"), "{nothing}: {}", run.error());
    }
    // The transport may notice our deadline first, and call it cancelled.
    let late = |n: u32| format!("B R{n} V({n}) C | w(10000) !cancelled");
    let scripts: Vec<String> = (1..=9).map(late).chain(["E".to_string()]).collect();
    let scripts: Vec<&str> = scripts.iter().map(String::as_str).collect();
    let begun = Instant::now();
    let run = run_with(Setup { config, ..Setup::default() }, Scripted::new(&scripts)).await;
    assert!(matches!(run.ended.reason, Reason::Complete), "{:?}", run.ended);
    assert_eq!(begun.elapsed(), Duration::from_secs(90));
}

/// Also a source that always has something to say gets another connection.
#[tokio::test(start_paused = true)]
async fn b23_the_deadline_of_a_source_that_never_waits() {
    let config =
        AttemptConfig { session_max: Some(Duration::from_millis(100)), ..AttemptConfig::default() };
    let script = |from: u32| {
        let units: Vec<String> = (from..40).map(|n| format!("B R{n} V({}) C", n + 1)).collect();
        parse(&format!("{} | E", units.join(" | ")))
    };
    let source = Scripted::of(vec![script(0), script(0), script(0), script(0)]);
    let asked = source.asked();
    let (attempts, mut units) = Setup { config, ..Setup::default() }.attempts();
    let take = async {
        while units.recv().await.is_some() {
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
    };
    let run = async { tokio::join!(take, attempts.run_postcard(source)) };
    drop(tokio::time::timeout(Duration::from_secs(3600), run).await.unwrap());
    assert!(asked.connects().len() > 1, "one connection lives for as long as it is busy");
}

/// Our deadline cuts a connection, and never units that are on their way.
#[tokio::test(start_paused = true)]
async fn b23_the_deadline_does_not_cut_units_on_their_way() {
    let config = AttemptConfig {
        session_max: Some(Duration::from_millis(10)),
        attempts_max: 3,
        ..AttemptConfig::default()
    };
    let script = |n: u32| format!("B R{n} V({n}) C | hang");
    let scripts: Vec<String> = (1..=30).map(script).chain(["E".to_string()]).collect();
    let scripts: Vec<&str> = scripts.iter().map(String::as_str).collect();
    let source = Scripted::new(&scripts);
    let (attempts, mut units) = Setup { config, ..Setup::default() }.attempts();
    let take = async {
        let mut taken = 0;
        // Slower than a connection lives.
        while let Some(some) = units.recv().await {
            taken += some.len();
            tokio::time::sleep(Duration::from_millis(35)).await;
        }
        taken
    };
    let run = async { tokio::join!(take, attempts.run_postcard(source)) };
    let (taken, ended) = tokio::time::timeout(Duration::from_secs(3600), run).await.unwrap();
    assert!(matches!(ended.reason, Reason::Complete), "{ended:?}");
    assert_eq!((taken, ended.boundary.get("").cloned()), (30, Some(at(30))));
}

/// What fails each time at the same place is poison: trying again does not help, however long.
#[tokio::test(start_paused = true)]
async fn b24_attempts_without_progress_are_counted_and_messages_are_none() {
    for nothing in ["B R1 R2 | R3 | !unavailable", "B R1 | $", "B R1 | w(60000) !cancelled"] {
        let scripts = vec![nothing; 20];
        let setup = Setup { config: config(7), ..Setup::default() };
        let run = run_with(setup, Scripted::new(&scripts)).await;
        assert_eq!(run.asked.connects().len(), 7, "{nothing}");
        assert!(run.error().contains("after 7 attempts without progress"), "{}", run.error());
        assert_eq!((run.safe(), run.kept.len()), (None, 0), "{nothing}");
    }
    // A boundary makes it begin anew.
    let (bad, good) = ("B R1 !unavailable", "B V(1) C | B R1 !unavailable");
    let run = run_with(
        Setup { config: config(3), ..Setup::default() },
        Scripted::new(&[bad, bad, good, bad, bad, bad, "E"]),
    );
    let run = run.await;
    assert_eq!(run.asked.connects().len(), 6, "{:?}", run.ended);
    assert_eq!(run.safe(), Some(at(1)));
}

/// What may work again has a time: not to be outlived by an outage of seconds, nor to go on for ever.
#[tokio::test(start_paused = true)]
async fn b24_an_outage_has_a_time() {
    let same = "B R1 V(1) C | !unavailable";
    for nothing in ["!unavailable", "^!unavailable", "$", "HB | $", "B | !unavailable", same] {
        let (begun, scripts) = (Instant::now(), vec![nothing; 1000]);
        let run =
            run_with(Setup { config: config(2), ..Setup::default() }, Scripted::new(&scripts));
        let run = run.await;
        let (took, connects) = (begun.elapsed(), run.asked.connects().len());
        assert!(run.error().contains("gave up after 3"), "{nothing}: {}", run.error());
        assert!(took >= Duration::from_secs(300), "{nothing}: {took:?}");
        assert!(took < Duration::from_secs(331), "{nothing}: {took:?}");
        assert!((12..60).contains(&connects), "{nothing}: {connects} connects");
        let safe = (nothing == same).then(|| at(1));
        assert_eq!((run.safe(), !run.kept.is_empty()), (safe, nothing == same), "{nothing}");
    }
    // One that is over before, is over. It is longer than the greatest delay.
    let begun = Instant::now();
    let scripts = [vec!["^!unavailable"; 16], vec!["B R1 V(1) C | E"]].concat();
    let run = run_with(Setup { config: config(2), ..Setup::default() }, Scripted::new(&scripts));
    assert!(matches!(run.await.ended.reason, Reason::Complete));
    assert!(begun.elapsed() > Duration::from_secs(60), "{:?}", begun.elapsed());
}

/// A partition that makes boundaries does not pay for one that fails: in the middle of a unit, or
/// before anything of it has come.
#[tokio::test(start_paused = true)]
async fn b24_one_partition_does_not_pay_for_another() {
    for (bad, at_most) in [("b:B b:R12 | !unavailable", 10), ("!unavailable", 1000)] {
        let script = |n| format!("a:B a:R{n} a:V({n}) a:C | {bad}");
        let scripts: Vec<String> = (1..2000).map(script).collect();
        let scripts: Vec<&str> = scripts.iter().map(String::as_str).collect();
        let source = Scripted::new(&scripts).partitions(&["a", "b"]);
        let (begun, setup) = (Instant::now(), Setup { config: config(10), ..Setup::default() });
        let stats = setup.stats.clone();
        let run = run_with(setup, source).await;
        assert!(run.error().contains("(partition b)"), "{bad}: {}", run.error());
        let connects = run.asked.connects().len();
        assert!(connects <= at_most, "{bad}: {connects} connects in {:?}", begun.elapsed());
        assert!(stats.trouble().unwrap().contains("(partition b)"), "{:?}", stats.trouble());
        let rate = connects as f64 / begun.elapsed().as_secs_f64();
        assert!(rate < 1.0, "{bad}: {rate} connects per second");
        // All that is complete went on.
        assert_eq!(run.kept.len(), connects, "{bad}");
    }
}

/// Behind a proxy that closes what is idle, politely or not.
#[tokio::test(start_paused = true)]
async fn b24_an_idle_feed_is_no_failure() {
    for end in ["$", "!unavailable"] {
        let idle = format!("w(60000) {end}");
        let scripts = [vec![&*idle; 500], vec!["B R1 V(1) C | E"]].concat();
        let run =
            run_with(Setup { config: config(2), ..Setup::default() }, Scripted::new(&scripts));
        let run = run.await;
        assert!(matches!(run.ended.reason, Reason::Complete), "{end}: {:?}", run.ended);
        assert_eq!(run.asked.connects().len(), 501);
    }
}

#[tokio::test(start_paused = true)]
async fn b24_a_position_that_is_lost_again_and_again_is_given_up() {
    let copy = "B F | V(5) | R1 V(5,1) C | R2 V(5,2) C | !lost";
    let source = Scripted::new(&[copy; 50]).copied();
    let run = run_with(Setup { config: config(5), ..Setup::default() }, source).await;
    assert!(run.asked.connects().len() < 10, "a copy that never ends does not count as progress");
    assert!(run.error().contains("the log is purged"), "{}", run.error());
}

#[tokio::test(start_paused = true)]
async fn b25_progress_in_every_window_never_exhausts() {
    let session_max = Some(Duration::from_millis(50));
    let config = AttemptConfig { session_max, attempts_max: 1, ..AttemptConfig::default() };
    let script = |n: u32| format!("B R{n} V({n}) C | w(40) B R0 | w(40) V({}) C", n + 1);
    let scripts: Vec<String> = (1..500).map(script).chain(["B V(900) C | E".into()]).collect();
    let scripts: Vec<&str> = scripts.iter().map(String::as_str).collect();
    let run = run_with(Setup { config, ..Setup::default() }, Scripted::new(&scripts)).await;
    assert!(matches!(run.ended.reason, Reason::Complete), "{:?}", run.ended);
    assert_eq!((run.asked.connects().len(), run.safe()), (500, Some(at(900))));
}

/// Times between connects.
fn delays(run: &Run) -> Vec<Duration> {
    let times = run.asked.times();
    times.windows(2).map(|pair| pair[1].0 - pair[0].0).collect()
}

#[tokio::test(start_paused = true)]
async fn b26_delays_follow_from_the_seed_and_are_bounded() {
    let delays_of = async |seed| {
        let (delay_min, delay_max) = (Duration::from_millis(50), Duration::from_secs(2));
        let config =
            AttemptConfig { attempts_max: 30, delay_min, delay_max, ..AttemptConfig::default() };
        let source = Scripted::new(&["!unavailable"; 40]);
        let run = run_with(Setup { config, seed, ..Setup::default() }, source).await;
        delays(&run)
    };
    let mut all = BTreeSet::new();
    for seed in 0..10 {
        let first = delays_of(seed).await;
        assert_eq!(first, delays_of(seed).await, "seed {seed}");
        for (attempt, delay) in first.iter().enumerate() {
            let most = Duration::from_millis(50 << attempt.min(20)).min(Duration::from_secs(2));
            // Timers count whole milliseconds.
            assert!(*delay <= most + Duration::from_millis(1), "{attempt}: {delay:?}");
        }
        assert!(first.iter().any(|delay| *delay > Duration::from_secs(1)), "{first:?}");
        all.insert(first);
    }
    assert_eq!(all.len(), 10, "each its own");
}

#[tokio::test(start_paused = true)]
async fn b27_what_is_definite_is_not_tried_again() {
    for script in ["!definite", "^!definite", "B R1 | !definite"] {
        let begun = Instant::now();
        let run = run(&[script, "E"]).await;
        assert_eq!((run.asked.connects().len(), begun.elapsed()), (1, Duration::ZERO), "{script}");
        assert!(run.error().contains("no such table"), "{}", run.error());
    }
}

#[tokio::test(start_paused = true)]
async fn b27_a_lost_position_is_neither_transient_nor_silent() {
    for lost in ["^!lost", "!lost"] {
        let script = format!("{lost} |");
        let from = boundary(at(7)).await;
        let config =
            AttemptConfig { on_position_lost: OnPositionLost::Fail, ..AttemptConfig::default() };
        let setup = Setup { config, from: from.clone(), ..Setup::default() };
        let run = run_with(setup, Scripted::new(&[&script, "E"])).await;
        assert_eq!((run.asked.connects().len(), run.ended.boundary.clone()), (1, from.clone()));
        assert!(run.error().contains("purged"), "{}", run.error());
        // By default everything is copied anew, from the start, in a generation of its own.
        let setup = Setup { from, ..Setup::default() };
        let source = Scripted::new(&[&script, "R1 V(9,1) OTHER | V(9) OTHER | E"]);
        let stats = setup.stats.clone();
        let run = run_with(setup, source).await;
        let second = &run.asked.connects()[1];
        assert_eq!((second.is_start(), second.generation()), (true, 1));
        assert_eq!(stats.copies_anew(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn b28_not_to_know_where_the_feed_is_is_an_error() {
    let setup = || Setup { stop_at_current: true, ..Setup::default() };
    let source = Scripted::new(&["B R1 V(1) C | E"]).current(Err("definite"));
    let run = run_with(setup(), source).await;
    assert!(run.error().contains("no such table"), "{}", run.error());
    let asks = |source: Scripted, _| source.current(Err("unavailable"));
    let source = (0..100).fold(Scripted::new(&["B R1 V(1) C | E"]), asks);
    let run = run_with(setup(), source).await;
    assert!(run.error().contains("gave up after 1 s"), "{}", run.error());
    assert_eq!(run.asked.connects().len(), 0);
    let source = Scripted::new(&["B R1 V(1) C | hang"]);
    let run = run_with(setup(), source.current(Err("cancelled")).current(Ok(at(1)))).await;
    assert!(matches!(run.ended.reason, Reason::Complete), "{:?}", run.ended);
    assert_eq!(run.keys(), [[1]]);
}

#[tokio::test(start_paused = true)]
async fn b28_it_stops_at_what_contains_the_target_equal_or_not() {
    let set = |seen: &[u32]| At { seen: seen.iter().copied().collect(), ..at(0) };
    let setup = || Setup { stop_at_current: true, ..Setup::default() };
    // Another replica took another way, and went past the target without ever being there.
    let source = Scripted::new(&[
        "R1 V{1} OTHER R3 V{1,3} OTHER R4 V{1,3,4} OTHER R2 V{1,2,3,4} OTHER | hang",
    ]);
    let run = run_with(setup(), source.current(Ok(set(&[1, 2])))).await;
    assert!(matches!(run.ended.reason, Reason::Complete), "{:?}", run.ended);
    assert_eq!(run.safe(), Some(set(&[1, 2, 3, 4])));
    // Nothing beyond is handed on, even if it has been received.
    let source = Scripted::new(&["R1 V(1) OTHER R2 V(2) OTHER R3 V(3) OTHER | hang"]);
    let run = run_with(setup(), source.current(Ok(at(2)))).await;
    assert_eq!((run.safe(), run.keys()), (Some(at(2)), vec![vec![1], vec![2]]));
    // What is there already is connected to, which finds out whether it still is, and is not read.
    let setup = Setup { stop_at_current: true, from: boundary(at(5)).await, ..Setup::default() };
    let run = run_with(setup, Scripted::new(&["R1 V(6) OTHER | hang"]).current(Ok(at(4)))).await;
    assert!(matches!(run.ended.reason, Reason::Complete), "{:?}", run.ended);
    assert_eq!((run.asked.connects().len(), run.keys().len()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn b28_a_copy_is_not_where_it_stops() {
    let setup = Setup { stop_at_current: true, ..Setup::default() };
    let copy = "B F | V(5) | R1 V(5,1) C | R2 V(5,2) C | B V(5) C | CC | hang";
    let source = Scripted::new(&[copy]).copied().current(Ok(at(3)));
    let run = run_with(setup, source).await;
    assert!(matches!(run.ended.reason, Reason::Complete), "{:?}", run.ended);
    assert_eq!((run.safe(), run.keys()), (Some(at(5)), vec![vec![1], vec![2], vec![]]));
}

/// A place of a history that is gone is never reached: after it was lost, the feed is asked again.
#[tokio::test(start_paused = true)]
async fn b28_a_target_of_a_lost_history_is_asked_for_again() {
    let other = |count| At { history: 1, ..at(count) };
    let place = |at| vec![Step::Position("".into(), at), Step::Flush("".into()), Step::Border];
    let mut copy = place(other(4));
    copy.push(Step::Hang);
    let source = Scripted::of(vec![parse("!lost"), copy]);
    let setup = Setup { stop_at_current: true, from: boundary(at(2)).await, ..Setup::default() };
    let source = source.current(Ok(at(5))).current(Ok(other(4)));
    let run = run_with(setup, source);
    let run = tokio::time::timeout(Duration::from_secs(3600), run).await.expect("it never stops");
    assert!(matches!(run.ended.reason, Reason::Complete), "{:?}", run.ended);
    assert_eq!(run.safe(), Some(other(4)));
}
