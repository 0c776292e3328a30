//! Owns B29, B30, B33, B35 and B36: what is durable, and with which cursor. Whole pipelines over a store
//! in memory; after every step the contents are the fold of what the cursor beside them covers.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use differential_upsert::store::{Fault, Faults, Operation, Report, Root};
use differential_upsert::{ErrorKind, Promotion};

use crate::behaviours::feed::Server;
use crate::behaviours::place::Place;
use crate::behaviours::script::At;
use crate::behaviours::world::{Observer, Replica, Start, memory, no_faults};
use crate::random::{Random, for_seeds};

/// Faults of one writer, until it is calm.
fn faults(random: &Random, one_in: u64, calm: &Arc<AtomicBool>) -> Arc<Faults> {
    let (random, calm) = (Random::new(random.below(u64::MAX)), Arc::clone(calm));
    Faults::new(move |action| {
        let commits = action.operation == Operation::CreateEntry;
        let one_in = one_in / if commits { 4 } else { 1 };
        if one_in == 0 || calm.load(Ordering::Relaxed) || !random.one_in(one_in.max(2)) {
            return Fault::None;
        }
        match random.below(4) {
            0 if action.operation.writes() => Fault::Late,
            1 => Fault::Fail { applied: true, report: Report::Timeout },
            2 => Fault::Fail { applied: false, report: Report::Timeout },
            _ => Fault::Fail { applied: false, report: Report::Error },
        }
    })
}

/// What runs have come to.
#[derive(Debug, Default)]
struct Seen {
    crashes: Cell<u64>,
    stops: Cell<u64>,
    errors: Cell<u64>,
    acks: Cell<u64>,
    states: Cell<u64>,
}

fn add(cell: &Cell<u64>, count: usize) {
    cell.set(cell.get() + count as u64);
}

/// Runs writers over one store in a random order, crashes, stops and fences them, and at last lets one
/// of them come to the end.
fn run<P: Place>(seed: u64, copies: bool, seen: &Seen) {
    let (random, root) = (Random::new(seed), memory());
    let server = Server::new(seed, copies);
    let mut observer = Observer::<P>::new(&root, &server);
    let calm = Arc::new(AtomicBool::new(false));
    let one_in = random.pick(&[0, 60, 20]);
    let mut replicas: Vec<Replica> = Vec::new();
    for number in 0..100 + random.below(1500) {
        let upper = observer.upper;
        step::<P>(number, &random, &root, &server, &mut replicas, seen, || {
            faults(&random, one_in, &calm)
        });
        observer.check();
        add(&seen.states, usize::from(observer.upper > upper));
    }
    calm.store(true, Ordering::Relaxed);
    drop(replicas);
    server.calm();
    let mut last = Replica::start::<P>(&root, &server, Start::calm(1 << 20)).unwrap();
    last.finish();
    assert!(last.error().is_none(), "{:?}", last.error());
    observer.check_whole();
    add(&seen.acks, observer.acks());
}

/// Moves something.
fn step<P: Place>(
    number: u64,
    random: &Random,
    root: &Root,
    server: &Server,
    replicas: &mut Vec<Replica>,
    seen: &Seen,
    faults: impl Fn() -> Arc<Faults>,
) {
    let most = if random.one_in(3) { 2 } else { 1 };
    if replicas.len() < most && random.one_in(4) {
        let start =
            Start { faults: faults(), stop_at_current: random.one_in(3), ..Start::calm(number) };
        match Replica::start::<P>(root, server, start) {
            Ok(replica) => replicas.push(replica),
            Err(e) => assert_eq!(e.kind(), ErrorKind::Unavailable, "{e}"),
        }
    }
    if replicas.is_empty() {
        return;
    }
    let at = random.index(replicas.len());
    let replica = &mut replicas[at];
    match random.below(200) {
        0..80 => replica.step(),
        80..150 => replica.poll(1 + random.below(8)),
        150..196 => replica.wait(random.below(60)),
        196 => {
            add(&seen.stops, 1);
            replica.stop();
        }
        _ if random.one_in(3) => {
            add(&seen.crashes, 1);
            drop(replicas.swap_remove(at));
            return;
        }
        _ => {}
    }
    if let Some(error) = replica.error() {
        let fenced = P::SETS && error.kind() == ErrorKind::Fenced;
        let may = matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Indeterminate);
        assert!(fenced || may, "{error}");
        if random.one_in(4) {
            add(&seen.errors, 1);
            drop(replicas.swap_remove(at));
        }
    } else if replica.is_done() {
        drop(replicas.swap_remove(at));
    }
}

#[test]
fn b29_b31_random_runs_with_the_cursor_in_the_same_commit() {
    let seen = Seen::default();
    for_seeds("BEHAVIOUR", 60, |seed| run::<At>(seed, seed % 2 == 0, &seen));
    println!("{seen:?}");
}

#[test]
fn b29_b31_b33_random_runs_with_the_cursor_bound_before() {
    let seen = Seen::default();
    for_seeds("BEHAVIOUR", 60, |seed| run::<u64>(seed, false, &seen));
    println!("{seen:?}");
}

/// Kills a writer instead of its `n`th operation on the store, for every `n`, and runs another after it.
fn crash_everywhere<P: Place>() {
    for seed in 0..2 {
        for number in 1.. {
            let (root, server) = (memory(), Server::new(seed, P::SETS));
            server.state().fails = 0;
            server.state().left = 4;
            let mut observer = Observer::<P>::new(&root, &server);
            let start = Start { faults: Faults::crash_at(number), ..Start::calm(1) };
            let mut over = false;
            if let Ok(mut replica) = Replica::start::<P>(&root, &server, start) {
                for _ in 0..400 {
                    replica.turn();
                    observer.check();
                    over = replica.is_done();
                    if over || replica.error().is_some() {
                        break;
                    }
                }
            }
            server.state().left = 0;
            let mut replica = Replica::start::<P>(&root, &server, Start::calm(2)).unwrap();
            replica.finish();
            assert!(replica.error().is_none(), "{number}: {:?}", replica.error());
            observer.check_whole();
            if over {
                assert!(number > 10, "too few operations to be of use: {number}");
                break;
            }
        }
    }
}

#[test]
fn b29_a_crash_at_every_operation_of_the_store() {
    crash_everywhere::<At>();
    crash_everywhere::<u64>();
}

/// Loses the answer to the `n`th commit, applied or not, for every `n`.
fn lose_answers<P: Place>() {
    for (applied, late) in [(true, false), (false, false), (true, true)] {
        for number in 1..12 {
            let (root, server) = (memory(), Server::grown(3, P::SETS));
            (server.state().fails, server.state().left) = (0, 4);
            let mut observer = Observer::<P>::new(&root, &server);
            let commits = std::sync::atomic::AtomicU64::new(0);
            let faults = Faults::new(move |action| {
                let commits_so_far = match action.operation {
                    Operation::CreateEntry => commits.fetch_add(1, Ordering::Relaxed) + 1,
                    _ => return Fault::None,
                };
                match commits_so_far == number {
                    true if late => Fault::Late,
                    true => Fault::Fail { applied, report: Report::Timeout },
                    false => Fault::None,
                }
            });
            let start = Start { faults, ..Start::calm(1) };
            let Ok(mut replica) = Replica::start::<P>(&root, &server, start) else { continue };
            for _ in 0..20_000 {
                replica.turn();
                observer.check();
                if replica.is_done() {
                    break;
                }
            }
            assert!(replica.error().is_none(), "{number}: {:?}", replica.error());
            assert!(replica.is_done(), "{number} {applied} {late}: stuck");
            drop(replica);
            // Whatever came after its target was read.
            server.state().left = 0;
            let mut replica = Replica::start::<P>(&root, &server, Start::calm(2)).unwrap();
            replica.finish();
            observer.check_whole();
        }
    }
}

#[test]
fn b30_a_commit_whose_answer_is_lost() {
    lose_answers::<At>();
    lose_answers::<u64>();
}

/// Two writers of one feed, in turns: one of them loses each race, and both come to the end.
#[test]
fn b33_two_writers_of_one_feed() {
    for_seeds("BEHAVIOUR", 20, |seed| {
        let (random, root) = (Random::new(seed), memory());
        let server = Server::new(seed, false);
        (server.state().fails, server.state().left) = (0, 30);
        let mut observer = Observer::<u64>::new(&root, &server);
        let start = |number| Start { stop_at_current: false, ..Start::calm(number) };
        server.state().ends = true;
        let mut both = [1, 2].map(|n| Replica::start::<u64>(&root, &server, start(n)).unwrap());
        for _ in 0..40_000 {
            let at = random.index(2);
            match random.below(3) {
                0 => both[at].step(),
                1 => both[at].poll(1 + random.below(6)),
                _ => both[at].wait(random.below(40)),
            }
            observer.check();
            if both.iter_mut().all(Replica::is_done) {
                break;
            }
        }
        for replica in &mut both {
            assert!(replica.error().is_none(), "{:?}", replica.error());
            assert!(replica.is_done(), "stuck");
        }
        observer.check_whole();
    });
}

/// Stopped cleanly, wherever it is, and started again.
fn stops<P: Place>() {
    for_seeds("BEHAVIOUR", 30, |seed| {
        let (random, root) = (Random::new(seed), memory());
        let server = Server::new(seed, P::SETS);
        server.state().fails = 0;
        let mut observer = Observer::<P>::new(&root, &server);
        for number in 0..4 {
            let start = Start { stop_at_current: false, ..Start::calm(number) };
            let mut replica = Replica::start::<P>(&root, &server, start).unwrap();
            for _ in 0..random.below(60) {
                replica.step();
                replica.poll(1 + random.below(8));
                replica.wait(random.below(30));
                observer.check();
            }
            replica.stop();
            replica.finish();
            // Not even its own time is closed by a stop, and nothing is sealed: the check says so.
            observer.check();
        }
        server.state().left = 0;
        let mut replica = Replica::start::<P>(&root, &server, Start::calm(9)).unwrap();
        replica.finish();
        assert!(replica.error().is_none(), "{:?}", replica.error());
        observer.check_whole();
    });
}

#[test]
fn b35_a_clean_stop_loses_nothing_and_seals_nothing() {
    stops::<At>();
    stops::<u64>();
}

/// A writer that was shut out while it slept moves nothing when it wakes, nor acks anything.
#[test]
fn b36_a_zombie_moves_neither_rows_nor_cursor() {
    for_seeds("BEHAVIOUR", 60, |seed| {
        let (random, root) = (Random::new(seed), memory());
        let server = Server::new(seed, seed % 2 == 0);
        (server.state().fails, server.state().ends) = (0, false);
        let mut observer = Observer::<At>::new(&root, &server);
        let start = |number| Start { stop_at_current: false, ..Start::calm(number) };
        let mut old = Replica::start::<At>(&root, &server, start(1)).unwrap();
        for _ in 0..5 + random.below(40) {
            old.step();
            old.poll(1 + random.below(8));
            old.wait(random.below(30));
        }
        observer.check();
        let epoch = observer.epoch();
        let mut new = Replica::start::<At>(&root, &server, start(2)).unwrap();
        for _ in 0..200 {
            new.turn();
            observer.check();
            if observer.epoch() > epoch && random.one_in(20) {
                break;
            }
        }
        assert!(observer.epoch() > epoch, "nobody took it over");
        // From here on only the old one moves.
        let (upper, covered) = (observer.upper, observer.covered.clone());
        server.state().acks.clear();
        for _ in 0..300 {
            old.turn();
            observer.check();
        }
        assert_eq!((observer.upper, &observer.covered), (upper, &covered));
        let error = old.error().expect("it goes on as if nothing had been");
        assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
        server.state().left = 0;
        for _ in 0..300 {
            new.turn();
            observer.check();
        }
        assert!(new.error().is_none(), "{:?}", new.error());
        observer.check_whole();
    });
}

/// A standby does not connect before it is promoted, and goes on where the shard is then.
#[test]
fn b36_a_standby_connects_only_when_it_is_promoted() {
    let (root, server) = (memory(), Server::grown(11, true));
    (server.state().fails, server.state().ends, server.state().left) = (0, false, 0);
    let mut observer = Observer::<At>::new(&root, &server);
    let promotion = Promotion::default();
    let start =
        |number, standby| Start { faults: no_faults(), stop_at_current: false, standby, number };
    let mut standby =
        Replica::start::<At>(&root, &server, start(1, Some(promotion.clone()))).unwrap();
    (0..100).for_each(|_| standby.turn());
    assert_eq!((server.state().connects, observer.epoch()), (0, 0), "it has connected");
    let mut writer = Replica::start::<At>(&root, &server, start(2, None)).unwrap();
    for _ in 0..100 {
        writer.turn();
        standby.turn();
        observer.check();
    }
    observer.check_whole();
    server.state().left = 10;
    let connects = server.state().connects;
    promotion.promote();
    for _ in 0..300 {
        writer.turn();
        standby.turn();
        observer.check();
    }
    assert!(server.state().connects > connects, "it has not connected");
    assert_eq!(writer.error().map(|e| e.kind()), Some(ErrorKind::Fenced));
    assert!(standby.error().is_none(), "{:?}", standby.error());
    server.state().left = 0;
    (0..100).for_each(|_| standby.turn());
    observer.check_whole();
}
