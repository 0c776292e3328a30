//! What a report says, sign by sign.

use std::time::Duration;

use super::super::report::SourceLag;
use super::super::signs::Measured;
use super::super::staged::StagedSigns;
use super::*;
use crate::error::Error;

const STALL: Duration = Duration::from_secs(60);

/// A worker at rest, with all below 7 done.
fn worker(worker: usize) -> WorkerSigns {
    let at = 7;
    WorkerSigns {
        worker,
        input: at,
        arrived: at,
        output: at,
        read_to: at,
        complete: at,
        hydrated: true,
        answered: true,
        ..WorkerSigns::default()
    }
}

fn signs(workers: Vec<WorkerSigns>) -> Signs {
    let mut signs = Signs {
        role: Role::Writer,
        upper: 7,
        since: 6,
        stall_after: STALL,
        measured: Measured::default(),
        peers: workers.len(),
        workers,
        unbound: 0,
        staged: StagedSigns::default(),
        trouble: None,
        store: None,
        lag: SourceLag::default(),
    };
    signs.measured.progress = signs.progress();
    signs
}

fn stalled(mut signs: Signs) -> String {
    signs.measured.waits = Duration::from_secs(61);
    signs.measured.in_flight = Duration::from_secs(61);
    let report = judge(&signs);
    assert_eq!(report.state, HealthState::Stalled, "{report:?}");
    report.why.unwrap()
}

fn closed(input: u64) -> WorkerSigns {
    WorkerSigns { input, output: input, ..worker(0) }
}

#[test]
fn the_states_follow_the_frontiers() {
    use HealthState::*;
    let state = |worker: WorkerSigns| judge(&signs(vec![worker])).state;
    assert_eq!(state(worker(0)), Idle);
    assert_eq!(state(WorkerSigns { input: 6, ..worker(0) }), Lagging);
    assert_eq!(state(closed(9)), Running);
    assert_eq!(state(WorkerSigns { least: Some(7), ..worker(0) }), Running, "rows wait");
    assert_eq!(state(WorkerSigns { least: Some(6), ..worker(0) }), Idle, "shed soon");
    assert_eq!(state(WorkerSigns { hydrated: false, ..worker(0) }), Hydrating);
    assert_eq!(state(WorkerSigns { released: true, ..worker(0) }), Finished);
    assert_eq!(state(WorkerSigns { gone: true, ..worker(0) }), Finished);
    let ended = |ended| WorkerSigns { released: true, ended, ..worker(0) };
    assert_eq!(judge(&signs(vec![ended(true)])).why, None);
    let why = judge(&signs(vec![ended(false)])).why;
    assert_eq!(why.as_deref(), Some("it was told to stop before the end of its input"));
    let failed = |kind| Some(Error::new(kind, "it broke"));
    let broken = |kind| WorkerSigns { error: failed(kind), released: true, ..worker(0) };
    assert_eq!(state(broken(ErrorKind::Corrupt)), Failed, "an end is no excuse");
    assert_eq!(state(broken(ErrorKind::Fenced)), Fenced);
    let sibling = WorkerSigns { error: failed(ErrorKind::Corrupt), ..worker(1) };
    let report = judge(&signs(vec![worker(0), sibling]));
    assert_eq!((report.state, report.why.as_deref()), (Failed, Some("worker 1: it broke")));
}

#[test]
fn nothing_is_stalled_that_waits_for_others() {
    for worker in [
        worker(0),
        WorkerSigns { input: 6, ..worker(0) },
        WorkerSigns { least: Some(7), ..worker(0) },
        WorkerSigns { released: true, ..closed(9) },
    ] {
        let mut signs = signs(vec![worker]);
        signs.measured.waits = STALL * 10;
        assert_ne!(judge(&signs).state, HealthState::Stalled, "{signs:?}");
    }
}

#[test]
fn what_has_moved_since_the_last_look_is_not_stalled() {
    let mut moved = signs(vec![closed(9)]);
    moved.measured.waits = STALL;
    assert_eq!(judge(&moved).state, HealthState::Stalled);
    moved.upper = 8;
    assert_eq!(judge(&moved).state, HealthState::Running);
}

#[test]
fn why_names_the_frontier_and_its_holder() {
    let upper = "the shard's upper stands at 7 for 61 s: closed time 7 waits; ";
    let held = WorkerSigns { input: 9, least: Some(7), stash_rows: 12, complete: 6, ..worker(0) };
    assert_eq!(
        stalled(signs(vec![held.clone()])),
        format!(
            "{upper}the output frontier is 7, held by the upsert operator of worker 0 (stash: \
             12 commands, least time 7; feedback complete to 6; 0 parts being written)"
        )
    );
    let one = WorkerSigns { stash_rows: 5, ..held.clone() };
    let one = WorkerSigns { worker: 1, ..one };
    let none = WorkerSigns { least: None, ..held.clone() };
    assert!(stalled(signs(vec![none.clone(), one])).contains("operator of worker 1 (stash: 5"));
    assert!(stalled(signs(vec![none])).ends_with("is 7, which no operator here holds"));

    let reader = WorkerSigns { read_to: 5, parts_found: 3, parts_read: 1, ..held.clone() };
    assert_eq!(
        stalled(signs(vec![reader])),
        format!(
            "{upper}the feedback frontier is 5, behind the shard's upper 7: held by the reader \
             of worker 0 (1 of 3 parts read)"
        )
    );

    let interval = Interval { lower: 7, upper: 9, appending: true };
    let append = WorkerSigns { interval: Some(interval), ..closed(9) };
    assert_eq!(
        stalled(signs(vec![append])),
        format!(
            "{upper}the output frontier is 9: held by the sink (append of [7, 9) in flight for \
             61 s)"
        )
    );
    let interval = Some(Interval { appending: false, ..interval });
    let named = WorkerSigns { interval, ..closed(9) };
    let writes = WorkerSigns { parts_writing: 2, ..WorkerSigns { worker: 1, ..closed(9) } };
    assert!(
        stalled(signs(vec![named.clone(), writes]))
            .ends_with("([7, 9) named 61 s ago; worker 1 still writes 2 parts)")
    );
    assert!(stalled(signs(vec![named])).ends_with("not every worker has answered)"));
    assert!(stalled(signs(vec![closed(9)])).ends_with("which names no interval"));

    let mut standby = signs(vec![closed(9)]);
    standby.role = Role::Standby;
    assert!(stalled(standby).contains("no writer"));

    let silent = WorkerSigns { worker: 1, silent: STALL, ..held.clone() };
    assert!(stalled(signs(vec![held, silent])).ends_with("; worker 1 has not run for 60 s"));
    // Also where nothing is known to wait: it is the one who would know.
    let silent = WorkerSigns { silent: STALL, ..worker(0) };
    assert_eq!(stalled(signs(vec![silent])), "worker 0 has not run for 60 s");
}

/// The picture marks what the words name.
#[test]
fn the_place_that_holds_is_that_which_why_names() {
    let place = |mut signs: Signs| {
        signs.measured.waits = Duration::from_secs(61);
        let stuck = judged(&signs).1?;
        Some((stuck.frontier, stuck.holder.place, stuck.lasts.map(|lasts| lasts.as_secs())))
    };
    let held = WorkerSigns { input: 9, least: Some(7), ..worker(0) };
    let minute = Some(61);
    assert_eq!(place(signs(vec![worker(0)])), None);
    let seen = place(signs(vec![held.clone()]));
    assert_eq!(seen, Some((Place::Shard, Place::Stash, minute)));
    let reader = WorkerSigns { read_to: 5, ..held.clone() };
    assert_eq!(place(signs(vec![reader])), Some((Place::Shard, Place::Feedback, minute)));
    assert_eq!(place(signs(vec![closed(9)])), Some((Place::Shard, Place::Output, minute)));
    let mut standby = signs(vec![closed(9)]);
    standby.role = Role::Standby;
    assert_eq!(place(standby), Some((Place::Shard, Place::Output, minute)));
    let silent = WorkerSigns { silent: STALL, ..worker(0) };
    assert_eq!(place(signs(vec![silent])), Some((Place::Shard, Place::Stash, Some(60))));
    let mut unbound = signs(vec![worker(0)]);
    unbound.unbound = 3;
    assert_eq!(place(unbound), Some((Place::Input, Place::Input, minute)));
    let hydrates = WorkerSigns { hydrated: false, input: 0, read_to: 0, ..worker(0) };
    let seen = place(signs(vec![hydrates]));
    assert_eq!(seen, Some((Place::Feedback, Place::Feedback, minute)));
    let mut away = signs(vec![worker(0)]);
    away.trouble = Some(Trouble { what: "no answer".into(), away: true });
    assert_eq!(place(away.clone()), Some((Place::Input, Place::Source, None)));
    // An error goes before a stall.
    away.workers[0].error = Some(Error::new(ErrorKind::Corrupt, "it broke"));
    assert_eq!(place(away), None);
}

/// What another process holds is marked nowhere in this one's picture, and has that one's name.
#[test]
fn what_another_process_holds_has_its_name() {
    let holder = |worker: WorkerSigns, peers| {
        let mut signs = signs(vec![worker]);
        (signs.measured.waits, signs.peers) = (Duration::from_secs(61), peers);
        let (report, stuck) = judged(&signs);
        let Holder { place, of } = stuck.unwrap().holder;
        (place, of.unwrap_or_default(), report.why.unwrap())
    };
    let named = |worker, place, says: &str| {
        let (at, of, why) = holder(worker, 2);
        assert_eq!((at, &*of), (place, "process 1"), "{why}");
        assert!(why.ends_with(says), "{why}");
    };
    let waits = WorkerSigns { input: 9, ..worker(0) };
    named(waits.clone(), Place::Stash, "the output frontier is 7, held by process 1");
    let behind = WorkerSigns { least: Some(7), complete: 6, ..waits.clone() };
    named(
        behind.clone(),
        Place::Feedback,
        "frontier is 6, behind the shard's upper 7: held by the reader of process 1",
    );
    // One that hangs takes no rows: until it does, their time is open in all of the cluster.
    let open = WorkerSigns { complete: 7, ..behind.clone() };
    named(
        open,
        Place::Stash,
        "operator of worker 0 has come to 7, held by the rows on their way to process 1",
    );
    let interval = Interval { lower: 7, upper: 9, appending: false };
    let names = WorkerSigns { interval: Some(interval), ..closed(9) };
    named(names, Place::Output, "([7, 9) named 0.0 s ago; process 1 has not answered)");
    // The sink is where worker 0 is, and one of several others is not known by name.
    let second = |worker| WorkerSigns { worker: 1, ..worker };
    assert_eq!(holder(second(closed(9)), 4).1, "process 0");
    assert_eq!(holder(second(waits), 4).1, "another process than 1, of 4");
    // What is held here is this process's, however many there are.
    let held = WorkerSigns { complete: 7, arrived: 9, ..behind };
    assert_eq!(holder(held, 4).1, "");
    let mut standby = signs(vec![closed(9)]);
    (standby.role, standby.measured.waits) = (Role::Standby, STALL);
    let of = judged(&standby).1.unwrap().holder.of;
    assert_eq!(of.as_deref(), Some("a writer"), "which this one is not");
}

#[test]
fn a_process_is_known_by_its_workers() {
    let process = |workers: &[usize], peers| {
        let mut signs = signs(workers.iter().map(|at| worker(*at)).collect());
        signs.peers = peers;
        signs.process()
    };
    assert_eq!(process(&[0], 1), Some((0, 1)));
    assert_eq!(process(&[3, 2], 6), Some((1, 3)), "the one that reports stands first");
    // One of its workers is not here yet.
    assert_eq!(process(&[1, 2], 6), None);
    assert_eq!(process(&[0, 1], 5), None);
}

/// It goes on trying, and trouble begins later; that it waits is to be seen long before.
#[test]
fn a_store_that_does_not_answer_is_said_before_it_is_a_stall() {
    let at = |seconds, failures, state: HealthState| {
        let mut signs = signs(vec![WorkerSigns { least: Some(7), ..worker(0) }]);
        let lasts = Duration::from_secs(seconds);
        signs.store = Some(store::Trouble::seen(lasts, failures, "an append hangs"));
        let (report, _) = judged(&signs);
        assert_eq!(report.state, state, "{seconds} s");
        (waits(&signs, &report), report.why.unwrap())
    };
    let open = "rows of time 7 wait for the source to close it";
    assert_eq!(at(9, 0, HealthState::Running), (false, open.to_string()));
    assert_eq!(at(9, 3, HealthState::Running), (false, open.to_string()));
    let store = "the store does not answer for 10 s: an append hangs";
    assert_eq!(at(10, 0, HealthState::Running), (true, format!("{store}; {open}")));
    let (waits, why) = at(60, 3, HealthState::Stalled);
    assert!(!waits && why.starts_with("the store does not answer for 60 s"), "{why}");
}

#[test]
fn an_operator_that_waits_for_cold_rows_is_named() {
    let waits = |worker, cold_waiting, seconds| WorkerSigns {
        worker,
        input: 9,
        least: Some(7),
        cold_waiting,
        cold_waits: Duration::from_secs(seconds),
        ..self::worker(worker)
    };
    let why = |workers: &[WorkerSigns]| {
        let report = judge(&signs(workers.to_vec()));
        assert_eq!(report.state, HealthState::Running);
        report.why
    };
    assert_eq!(why(&[waits(0, 0, 0)]), None);
    let says = |text: &str| Some(format!("the upsert operator of worker {text}"));
    let one = waits(0, 32, 0);
    assert_eq!(why(std::slice::from_ref(&one)), says("0 waits for 32 rows of its state's file"));
    let two = waits(1, 1, 4);
    let none = "1 waits for 1 row of its state's file, of which none has come for 4.0 s";
    assert_eq!(why(&[one.clone(), two]), says(none));
    // What is read ahead of times that are not closed holds nothing.
    let ahead = WorkerSigns { input: 7, ..one.clone() };
    let open = "rows of time 7 wait for the source to close it";
    assert_eq!(why(&[ahead]).as_deref(), Some(open));
    let stalls = stalled(signs(vec![waits(0, 32, 61)]));
    let cold =
        "feedback complete to 7; 32 rows of its state's file do not come in for 61 s; 0 parts";
    assert!(stalls.contains(cold), "{stalls}");
}

#[test]
fn rows_without_a_time_are_not_at_rest() {
    let mut waits = signs(vec![worker(0)]);
    waits.unbound = 3;
    assert_eq!(judge(&waits).state, HealthState::Running);
    assert_eq!(
        stalled(waits.clone()),
        "3 units of the source wait for a time for 61 s; nobody binds the next time"
    );
    waits.role = Role::Standby;
    assert!(stalled(waits).ends_with("; no writer: this is a standby, and nobody else appends"));
}

#[test]
fn trouble_with_the_source_shows_while_it_goes_on() {
    let mut tries = signs(vec![worker(0)]);
    for (away, state) in [(false, HealthState::Idle), (true, HealthState::Stalled)] {
        tries.trouble = Some(Trouble { what: "no answer".into(), away });
        let report = judge(&tries);
        assert_eq!((report.state, report.why.as_deref()), (state, Some("no answer")));
    }
    // Whatever comes of another partition.
    tries.workers[0] = closed(9);
    assert_eq!(judge(&tries).state, HealthState::Stalled);
    tries.workers[0].hydrated = false;
    assert_eq!(judge(&tries).state, HealthState::Hydrating);
    tries.workers[0] = WorkerSigns { released: true, ended: true, ..worker(0) };
    assert_eq!((judge(&tries).state, judge(&tries).why), (HealthState::Finished, None));
}

#[test]
fn what_is_staged_is_seen_and_is_not_at_rest() {
    let second = Duration::from_secs(1);
    let mut staged = signs(vec![worker(0)]);
    staged.staged = StagedSigns::unit("p", 3, 210, 41 * second, 5 * second);
    let why = "3 rows, 210 bytes received 41 s ago wait for the end of their unit (partition p)";
    let report = judge(&staged);
    assert_eq!((report.state, report.why.as_deref()), (HealthState::Running, Some(why)));
    // The shard may be ahead, or behind: it shows.
    for input in [6, 9] {
        staged.workers[0] = closed(input);
        assert_eq!(judge(&staged).why.as_deref(), Some(why));
    }
    staged.staged = StagedSigns::unit("p", 3, 210, 99 * second, STALL);
    assert_eq!(judge(&staged).state, HealthState::Stalled);
    assert!(judge(&staged).why.unwrap().contains("nothing more of it has come for 60 s"));
}

#[test]
fn a_hydration_that_stands_is_stalled() {
    let hydrating =
        WorkerSigns { hydrated: false, input: 0, parts_found: 4, parts_read: 2, ..worker(0) };
    let mut reads = signs(vec![WorkerSigns { read_to: 0, ..hydrating }]);
    assert!(stalled(reads.clone()).contains("reader of worker 0 (2 of 4 parts read)"));
    reads.measured.waits = STALL;
    reads.workers[0].parts_read = 3;
    assert_eq!(judge(&reads).state, HealthState::Hydrating, "a part has come in");
}

/// Where the operator runs ahead no commit waits for the reader: it stalls although the upper moves.
#[test]
fn a_reader_that_stands_still_is_named_while_commits_go_on() {
    let behind = |read_to, parts_read| {
        let upper = 9;
        let mut signs = signs(vec![WorkerSigns { read_to, parts_read, ..closed(upper) }]);
        signs.upper = upper;
        signs
    };
    let mut signs = behind(7, 3);
    (signs.measured.reading, signs.measured.reading_waits) = (signs.reading(), STALL);
    let report = judge(&signs);
    assert_eq!(report.state, HealthState::Stalled);
    let why = report.why.unwrap();
    let says = "what is committed below the shard's upper 9 is not read back for 60 s; the feedback frontier is 7, \
                behind the shard's upper 9: held by the reader of worker 0";
    assert!(why.starts_with(says), "{why}");
    // One more part, or a frontier, and it moves.
    for moved in [behind(7, 4), behind(8, 3), behind(9, 3)] {
        let mut moved = moved;
        (moved.measured.reading, moved.measured.reading_waits) = (signs.reading(), STALL);
        assert_ne!(judge(&moved).state, HealthState::Stalled);
    }
}
