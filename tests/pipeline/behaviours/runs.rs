//! Owns the random runs: feeds with random logs, responses, failures, crashes and cancels, where after
//! every unit that was kept the contents are the fold of what its cursor covers. It is most of the
//! behaviours at once; B32, B37 and B38 above all.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::task::Poll;
use std::time::Duration;

use differential_upsert::source::AttemptConfig;
use differential_upsert::source::Boundary;
use differential_upsert::source::StageLimits;
use differential_upsert::unstable::attempt::Reason;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::behaviours::feed::Server;
use crate::behaviours::oracle::Covered;
use crate::behaviours::place::Place;
use crate::behaviours::rig::{Contents, Kept, Setup, apply};
use crate::behaviours::script::At;
use crate::random::{Random, for_seeds};

/// What runs have come to, to see that they are of use.
#[derive(Debug, Default)]
struct Seen {
    units: Cell<u64>,
    crashes: Cell<u64>,
    cancels: Cell<u64>,
    anew: Cell<u64>,
    failures: Cell<u64>,
}

fn add(cell: &Cell<u64>, count: u64) {
    cell.set(cell.get() + count);
}

/// Polls a future so often, and drops it if it is not done by then.
async fn cut<F: Future>(future: F, mut polls: u64) -> Option<F::Output> {
    let mut future = Box::pin(future);
    poll_fn(move |context| {
        if polls == 0 {
            return Poll::Ready(None);
        }
        polls -= 1;
        future.as_mut().poll(context).map(Some)
    })
    .await
}

/// What is kept, over crashes.
struct Held<P> {
    boundary: Boundary<P>,
    contents: Contents,
}

impl<P: Place> Held<P> {
    fn keep(&mut self, server: &Server, unit: Kept<P>) {
        let covered = Covered::by(unit.boundary.cursor());
        covered.check_after(&Covered::by(self.boundary.cursor()));
        apply(&mut self.contents, &unit.changes);
        covered.check(&server.state().logs, &self.contents);
        self.boundary = unit.boundary;
    }
}

/// Runs a feed once, to where it is cut, cancelled or done. Returns whether it was done.
async fn once<P: Place>(server: &Server, random: &Random, held: &mut Held<P>, seen: &Seen) -> bool {
    let calm = server.state().fails == 0 && server.state().left == 0;
    let limits = StageLimits {
        memory_bytes_max: random.pick(&[64, 1000, 1 << 20]),
        ..StageLimits::default()
    };
    let config = AttemptConfig {
        attempts_max: 30,
        session_max: random.one_in(3).then(|| Duration::from_millis(10 + random.below(90))),
        ..AttemptConfig::default()
    };
    let ends = server.state().ends && server.state().left == 0;
    let setup = Setup {
        from: held.boundary.clone(),
        config,
        limits,
        stop_at_current: (calm && !ends) || random.one_in(4),
        seed: random.below(u64::MAX),
        room: 1 + random.index(3),
        ..Setup::default()
    };
    let (cancel, stats) = (setup.cancel.clone(), setup.stats.clone());
    let (attempts, mut units) = setup.attempts();
    let source = server.source::<P>(random.below(u64::MAX));
    let running = attempts.run_postcard(source);
    let polls = if calm { u64::MAX } else { 1 + random.below(random.pick(&[8, 40, 200])) };
    let by_cancel = random.one_in(2);
    let taking = async {
        while let Some(some) = units.recv().await {
            for unit in some {
                held.keep(server, Kept::read(unit));
                add(&seen.units, 1);
            }
            if random.one_in(8) {
                tokio::time::sleep(Duration::from_millis(random.below(50))).await;
            }
        }
    };
    let told = by_cancel.then_some(&cancel);
    let run = async { tokio::join!(run_or_cancel(running, server, told, polls), taking).0 };
    let ended = match by_cancel {
        true => run.await,
        false => cut(run, polls).await.flatten(),
    };
    add(&seen.anew, stats.copies_anew());
    let Some(ended) = ended else {
        add(&seen.crashes, 1);
        return false;
    };
    assert_eq!(ended.boundary, held.boundary, "what it says and what was handed on");
    match ended.reason {
        Reason::Complete => true,
        Reason::Cancelled => {
            add(&seen.cancels, 1);
            false
        }
        Reason::Failed(error) => {
            assert!(!calm, "{error}");
            add(&seen.failures, 1);
            false
        }
    }
}

/// Runs, and cancels after so many polls if that is asked for: then it must return at once, and not
/// connect again.
async fn run_or_cancel<F: Future>(
    run: F,
    server: &Server,
    cancel: Option<&CancellationToken>,
    mut polls: u64,
) -> Option<F::Output> {
    let mut run = Box::pin(run);
    let mut told = None;
    let run = poll_fn(|context| {
        if let Some(cancel) = cancel.filter(|_| polls == 0 && told.is_none()) {
            told = Some((Instant::now(), server.state().connects));
            cancel.cancel();
        }
        polls = polls.saturating_sub(1);
        run.as_mut().poll(context)
    });
    let ended = run.await;
    if let Some((when, connects)) = told {
        assert!(when.elapsed() < Duration::from_millis(100), "it took {:?}", when.elapsed());
        assert_eq!(server.state().connects, connects, "it was connected after it was cancelled");
    }
    Some(ended)
}

fn run<P: Place>(seed: u64, copies: bool, seen: &Seen) {
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let random = Random::new(seed);
        let server = Server::new(seed, copies);
        let mut held = Held::<P> { boundary: Boundary::start("feed"), contents: Contents::new() };
        for _ in 0..1 + random.below(12) {
            once(&server, &random, &mut held, seen).await;
        }
        // Calm: nothing more comes, and nothing goes wrong.
        server.calm();
        let done = once(&server, &random, &mut held, seen);
        let done = tokio::time::timeout(Duration::from_secs(1 << 20), done).await;
        assert_eq!(done, Ok(true), "it does not get there: {:?}", held.boundary);
        Covered::by(held.boundary.cursor()).check_whole(&server.state().logs);
    });
}

#[test]
fn b32_random_feeds_of_offsets() {
    let seen = Seen::default();
    for_seeds("BEHAVIOUR", 300, |seed| run::<u64>(seed, false, &seen));
    println!("{seen:?}");
}

#[test]
fn b32_random_feeds_of_sets() {
    let seen = Seen::default();
    for_seeds("BEHAVIOUR", 300, |seed| run::<At>(seed, false, &seen));
    println!("{seen:?}");
}

#[test]
fn b37_b38_random_feeds_with_copies() {
    let seen = Seen::default();
    for_seeds("BEHAVIOUR", 600, |seed| run::<At>(seed, true, &seen));
    println!("{seen:?}");
}
