//! Goal: a state takes exactly the entries that follow it, and judges appends without I/O. Method:
//! entries made by hand, each wrong in one way.

use differential_upsert::ErrorKind;
use differential_upsert::shard::{Append, Appended, History, Id, State};
use differential_upsert::unstable::engine::entry::{Change, Commit, Entry};
use differential_upsert::unstable::engine::state::WRITERS_MAX;

fn entry(seqno: u64, commit: Commit) -> Entry {
    let (token, prev_token) = (Id(seqno.into()), Id((seqno - 1).into()));
    Entry {
        seqno,
        token,
        prev_token,
        writer: Id(9),
        at_ms: None,
        lost: vec![],
        change: Change::Append(commit),
    }
}

fn upto(lower: u64, upper: u64, since: u64) -> Commit {
    Commit { lower, upper, since, ..Commit::default() }
}

#[test]
fn entries_that_do_not_follow_are_refused_and_change_nothing() {
    let mut state = State::default();
    state.apply(&entry(1, Commit { epoch: Some(3), ..upto(0, 5, 4) })).unwrap();
    let before = state.clone();
    let good = entry(2, upto(5, 6, 5));
    let wrong = [
        ("number", Entry { seqno: 3, ..good.clone() }),
        ("number again", Entry { seqno: 1, ..good.clone() }),
        ("token before", Entry { prev_token: Id(77), ..good.clone() }),
        ("lower", entry(2, upto(4, 6, 5))),
        ("gap", entry(2, upto(6, 7, 5))),
        ("backwards", entry(2, upto(5, 4, 4))),
        ("since back", entry(2, upto(5, 6, 3))),
        ("since beyond upper", entry(2, upto(5, 6, 7))),
        ("epoch", entry(2, Commit { epoch: Some(3), ..upto(5, 6, 5) })),
        ("history", entry(2, Commit { history: Some(History::Last(0)), ..upto(5, 6, 5) })),
        ("seal", entry(2, Commit { sealed_at: Some(5), ..upto(5, 6, 5) })),
    ];
    for (what, entry) in wrong {
        assert_eq!(state.apply(&entry).unwrap_err().kind(), ErrorKind::Corrupt, "{what}");
        assert_eq!(state, before, "{what}");
    }
    state.apply(&good).unwrap();
    state.apply(&entry(3, Commit { sealed_at: Some(6), ..upto(6, 6, 5) })).unwrap();
    assert_eq!(state.apply(&entry(4, upto(6, 7, 5))).unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn appends_are_judged_in_order_of_what_matters() {
    let mut state = State::default();
    state.apply(&entry(1, Commit { epoch: Some(3), ..upto(0, 5, 4) })).unwrap();
    let ok = Append { lower: 5, upper: 6, fence: Some(3), ..Append::default() };
    assert_eq!(state.judge(&ok).unwrap(), None);
    let stale = Append { lower: 4, fence: Some(2), ..ok.clone() };
    assert_eq!(state.judge(&stale).unwrap(), Some(Appended::Fenced(3)), "before the upper");
    let without = Append { lower: 4, fence: None, ..ok.clone() };
    assert_eq!(state.judge(&without).unwrap(), Some(Appended::Fenced(3)), "it knows no epoch");
    let behind = Append { lower: 4, ..ok.clone() };
    assert_eq!(state.judge(&behind).unwrap(), Some(Appended::UpperMismatch(5)));
    for wrong in [Append { upper: 4, ..ok.clone() }, Append { upper: 5, ..ok }] {
        assert_eq!(state.judge(&wrong).unwrap_err().kind(), ErrorKind::Invalid);
    }
}

#[test]
fn the_table_of_writers_forgets_the_oldest() {
    let mut state = State::default();
    let writers = WRITERS_MAX as u64 + 5;
    for seqno in 1..=writers {
        let writer = Id(1_000_000 - u128::from(seqno));
        let commit = upto(seqno - 1, seqno, seqno - 1);
        state.apply(&Entry { writer, ..entry(seqno, commit) }).unwrap();
    }
    assert_eq!(state.writers.len(), WRITERS_MAX);
    let oldest = state.writers.values().map(|writer| writer.seqno).min();
    assert_eq!(oldest, Some(writers - WRITERS_MAX as u64 + 1));
}
