//! Goal: every way an append can end is told rightly. Method: the table of where our interval lies,
//! what becomes of our create on its way, and what a rival does before or meanwhile; then the cases in
//! which the number of our entry is collected before we learn its outcome.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::common::{append, config, contents, io, open, row, runtime, schema, strings};
use crate::network::{Fate, Network};
use differential_upsert::ErrorKind;
use differential_upsert::shard::{
    Access, Append, Appended, Handle, HandleConfig, HandleOptions, History, verify,
};
use differential_upsert::store::{Fault, Faults, Operation, Report, Root};
use object_store::memory::InMemory;

/// How many creates of entries were sent.
fn sent(network: &Network) -> usize {
    network.sent.lock().unwrap().len()
}

/// Everything that was ever sent arrives once more.
async fn replay(network: &Network) {
    let sent = network.sent.lock().unwrap().clone();
    for (path, payload) in sent {
        let _ = network.create(&path, payload).await;
    }
}

fn memory() -> Root {
    Root::open("mem:", Access::Write).unwrap()
}

/// What somebody else does to the shard, which is at 5 after entry 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rival {
    /// Nothing.
    Absent,
    /// Before we ask, and unknown to us, it appends `[5, 8)`.
    Ahead,
    /// Before we ask, and unknown to us, it commits what takes a number and no time.
    AheadInNumber,
    /// After our first create is on its way it tries to append `[5, 8)`.
    Between,
    /// After our first create is on its way it commits what takes a number and no time.
    BetweenInNumber,
}

/// How an append ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Ours is this entry, once.
    Won(u64),
    /// Ours is nowhere, and we are told this upper.
    Lost(u64),
    /// The case cannot be, because of this.
    Never(&'static str),
}

use End::{Lost, Never, Won};

const JUDGED: &str =
    "our interval is not at the shard's upper: it is refused before anything is sent";
const UNSENT: &str = "nothing was sent that could be lost, late or doubled";
const ALONE: &str = "nobody else is there to lose against";
const TAKEN: &str = "the rival has the number of our entry, so no create of ours is applied";
const FIRST: &str = "our create was answered before the rival moved: it is there";
const AGAIN: &str = "only a number is taken: we take the next one";
const TOO_EARLY: &str =
    "we are refused before the rival moves: there is nothing for it to be between";

const SENT_IN_VAIN: [End; 6] = [Never(TAKEN), Lost(8), Never(TAKEN), Lost(8), Lost(8), Lost(8)];
const REFUSED_AT_5: [End; 6] =
    [Never(JUDGED), Lost(5), Never(UNSENT), Never(UNSENT), Never(UNSENT), Never(UNSENT)];
const REFUSED_AT_8: [End; 6] =
    [Never(JUDGED), Lost(8), Never(UNSENT), Never(UNSENT), Never(UNSENT), Never(UNSENT)];
const NOBODY_BETWEEN: [End; 6] = [Never(TOO_EARLY); 6];

/// What becomes of our first create, column by column.
const FATES: [(&str, Fate); 6] = [
    ("won", Fate::Answered),
    ("lost", Fate::Answered),
    ("unknown but applied", Fate::ReplyLost),
    ("unknown and not applied", Fate::RequestLost),
    ("late", Fate::Late),
    ("duplicated", Fate::Doubled),
];

/// Where our interval lies seen from the upper at which it is decided: 5, or the rival's 8.
#[rustfmt::skip]
const TABLE: [(&str, (u64, u64), Rival, [End; 6]); 20] = [
    // ours         interval  rival                   won            lost           applied        not applied    late      duplicated
    ("below",       (2, 4),   Rival::Absent,          REFUSED_AT_5),
    ("overlapping", (3, 7),   Rival::Absent,          REFUSED_AT_5),
    ("equal",       (5, 6),   Rival::Absent,          [Won(2),       Never(ALONE),  Won(2),        Won(2),        Won(2),   Won(2)]),
    ("past",        (9, 10),  Rival::Absent,          REFUSED_AT_5),

    // Where we know of 5, our create goes out and finds its number taken.
    ("below",       (5, 7),   Rival::Ahead,           SENT_IN_VAIN),
    ("overlapping", (5, 9),   Rival::Ahead,           SENT_IN_VAIN),
    ("equal",       (8, 9),   Rival::Ahead,           [Won(3),       Never(ALONE),  Won(3),        Won(3),        Won(3),   Won(3)]),
    ("past",        (9, 10),  Rival::Ahead,           REFUSED_AT_8),

    // Whoever's create is there first has won, whatever is heard of it.
    ("below",       (5, 7),   Rival::Between,         [Won(2),       Never(FIRST),  Won(2),        Lost(8),       Lost(8),  Won(2)]),
    ("overlapping", (5, 9),   Rival::Between,         [Won(2),       Never(FIRST),  Won(2),        Lost(8),       Lost(8),  Won(2)]),
    ("equal",       (8, 9),   Rival::Between,         NOBODY_BETWEEN),
    ("past",        (9, 10),  Rival::Between,         NOBODY_BETWEEN),

    // The rival's upper is still 5.
    ("below",       (2, 4),   Rival::AheadInNumber,   REFUSED_AT_5),
    ("overlapping", (3, 7),   Rival::AheadInNumber,   REFUSED_AT_5),
    ("equal",       (5, 6),   Rival::AheadInNumber,   [Won(3),       Never(AGAIN),  Never(TAKEN),  Won(3),        Won(3),   Won(3)]),
    ("past",        (9, 10),  Rival::AheadInNumber,   REFUSED_AT_5),
    ("below",       (2, 4),   Rival::BetweenInNumber, NOBODY_BETWEEN),
    ("overlapping", (3, 7),   Rival::BetweenInNumber, NOBODY_BETWEEN),
    ("equal",       (5, 6),   Rival::BetweenInNumber, [Won(2),       Never(FIRST),  Won(2),        Won(3),        Won(3),   Won(2)]),
    ("past",        (9, 10),  Rival::BetweenInNumber, NOBODY_BETWEEN),
];

#[test]
fn the_table_of_append_outcomes() {
    let (mut ran, mut never) = (0, 0);
    for (place, interval, rival, ends) in TABLE {
        for ((fate_is, fate), end) in FATES.into_iter().zip(ends) {
            let case = format!("ours {place} {interval:?}, {fate_is}, rival {rival:?}");
            match end {
                Never(_) => never += 1,
                end => {
                    ran += 1;
                    runtime().block_on(one_append(&case, interval, rival, fate, end));
                }
            }
        }
        // A create that is answered is won or lost, and the table says which.
        let answered = ends[..2].iter().filter(|end| !matches!(end, Never(_))).count();
        assert_eq!(answered, usize::from(ends != NOBODY_BETWEEN), "{place}, {rival:?}");
    }
    println!("{ran} cases, {never} that cannot be");
}

/// What a rival commits that takes a number and no time.
async fn mark(rival: &Handle) -> Appended {
    let upper = rival.state().upper;
    let history = Some(History::Keep);
    let append = Append { lower: upper, upper, history, ..Append::default() };
    rival.compare_and_append(append).await.unwrap()
}

async fn take(rival: &Handle) -> Appended {
    append(rival, 5, 8, vec![row("r", "1", 6, 1), row("r", "0", 6, -1)]).await.unwrap()
}

async fn one_append(
    case: &str,
    (lower, upper): (u64, u64),
    rival_does: Rival,
    fate: Fate,
    end: End,
) {
    let store = Arc::new(InMemory::new());
    let root = Root::from_object_store(Arc::clone(&store) as _, "mem:");
    let rival = open(&root, 1_000).await.unwrap();
    let first = append(&rival, 0, 5, vec![row("r", "0", 0, 1)]).await.unwrap();
    assert_eq!(first, Appended::Won { seqno: 1 });
    let network = Network::over(&store);
    let ours = open(&network.root(), 1).await.unwrap();

    let heard = Arc::new(std::sync::Mutex::new(None));
    let tell = Arc::clone(&heard);
    network.next(
        fate,
        match rival_does {
            Rival::Absent => Box::pin(async {}),
            Rival::Ahead => {
                assert_eq!(take(&rival).await, Appended::Won { seqno: 2 });
                Box::pin(async {})
            }
            Rival::AheadInNumber => {
                assert_eq!(mark(&rival).await, Appended::Won { seqno: 2 });
                Box::pin(async {})
            }
            Rival::Between => Box::pin(async move {
                *tell.lock().unwrap() = Some(take(&rival).await);
            }),
            Rival::BetweenInNumber => Box::pin(async move {
                *tell.lock().unwrap() = Some(mark(&rival).await);
            }),
        },
    );
    let rows = vec![row("mine", "1", upper - 1, 1)];
    let appended = append(&ours, lower, upper, rows).await.unwrap();

    let (expected, upper_now) = match end {
        Won(seqno) => (Appended::Won { seqno }, upper),
        Lost(upper) => (Appended::UpperMismatch(upper), upper),
        Never(why) => panic!("{case}: {why}"),
    };
    assert_eq!(appended, expected, "{case}");
    // What a rival hears that came between.
    let rival_heard = heard.lock().unwrap().take();
    let rival_expected = match (rival_does, end) {
        (Rival::Between, Won(_)) => Some(Appended::UpperMismatch(upper)),
        (Rival::Between, _) => Some(Appended::Won { seqno: 2 }),
        // Its interval of no times is not at the upper any more.
        (Rival::BetweenInNumber, Won(2)) => Some(Appended::UpperMismatch(upper)),
        (Rival::BetweenInNumber, _) => Some(Appended::Won { seqno: 2 }),
        _ => None,
    };
    assert_eq!(rival_heard, rival_expected, "{case}: the rival");
    // A refusal costs no request.
    let stale = rival_does == Rival::Ahead && lower == 5;
    let sends = matches!(end, Won(_)) || stale || rival_does == Rival::Between;
    assert_eq!(sent(&network) > 0, sends, "{case}: {} creates", sent(&network));
    // What the shard itself says, through a handle that knows nothing; and again when everything
    // that was ever sent has arrived once more.
    for _ in 0..2 {
        let fresh = open(&root, 2_000).await.unwrap();
        let state = fresh.state();
        assert_eq!(state.upper, upper_now, "{case}");
        assert_eq!(*ours.refresh().await.unwrap(), *state, "{case}");
        let rows = contents(&fresh, state.upper - 1).await.unwrap();
        let mine = rows.iter().filter(|row| row.0 == "mine").count();
        assert_eq!(mine, usize::from(matches!(end, Won(_))), "{case}: once, or not at all");
        replay(&network).await;
    }
    verify(root, io(1)).await.unwrap();
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
            io(1_000),
            HandleOptions::write("data", schema())
                .with_config(HandleConfig { rollup_every: 1, ..config() }),
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
                Handle::open(
                    root,
                    io(base),
                    HandleOptions::write("data", schema()).with_config(config.clone()),
                )
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
