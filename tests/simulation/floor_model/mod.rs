//! Goal: no order of events makes two actors believe in different entries of one number, makes an
//! append be reported wrongly, or leaves anybody stuck; and each rule of the log is needed for that.
//! Method: an exhaustive breadth-first search of the protocol of the log and its floor: two writers, a
//! reader, a collector, four entries; each rule left out on purpose gives a trace of what goes wrong.
//!
//! # What is modelled, and where it stands in the code
//!
//! Every step is one operation on the store; between any two steps of an actor all others may make
//! any number of theirs, so every actor is stalled everywhere. Nothing is ordered by time.
//!
//! | step | code |
//! |---|---|
//! | a writer creates entry n, cleanly or not | `append::settle`: `log.create(seqno, ..)`; the token is new for each append and the same for each try of it, `prev_token` is that of the writer's state n-1. An error, a timeout and `Exists` are one answer, since `look` treats them alike |
//! | it looks at entry n | `append::look`: `log.get(seqno)`, only after an answer that was not clean |
//! | it reads the floor, having seen its own or another's | `look`: `log.floor()` at its end: under the floor `Settled::Collected`, else `Ours` or `Theirs` |
//! | it reads the floor, having seen nothing | `look`: the `None` arm: `Collected`, or the next try |
//! | its next try, at any point | `settle`'s loop after `Ok(None)` or an error of `get` or `floor` |
//! | it gives up, at any point | `settle`: `Indeterminate` after the last delay; a caller that is gone; a crash. What it sent may land for ever, and its next append may take the same number again |
//! | it refreshes at rest | `append` before and after a lost race, `refresh` of a follower on the same handle |
//! | it refreshes and asks the table | `was_collected`: `refresh`, then `State::holds`: whether the last entry of this writer in that state is this one |
//! | a create lands, again or late | the network: any request that was ever sent, any number of times |
//! | the reader reads entry n | `handle::read_entries`: `log.get`, `Entry::decode`, `State::apply`: the entry must name the token of the one before. What follows an entry that is not the first of its number names another, so that `apply` fails; whether that is damage the floor says, as it does for the entry before. The model's reader may stop anywhere, the code's only where there is none or one that does not fit |
//! | the reader reads the floor | `handle::catch_up`: `log.floor()` after the last entry; above `start` what was read counts for nothing and the newest rollup is read, else it is believed |
//! | the reader lists, then gets a rollup, which may be gone | `handle::newest_rollup`, which then lists again; then the loop of `catch_up` |
//! | the collector writes a rollup, raises the floor, deletes | the invariants of the module `shard`: a state that it believes, as a rollup, is there before the floor rises to it or below; an entry is deleted under a floor that surely is there, in any order, at any time later; a rollup once there is a newer one. Any height up to the rollup is tried, so also the head, with no entry left at all: `entries_kept` and `space::floor` choose among them, and are not rules |
//!
//! # What is left out, and why it may be
//!
//! * Uppers and rows: they are functions of the entries. A race for a number stands for one for an
//!   interval; a writer that has lost a number for good judges again by the state.
//! * The steps inside a writer's refresh: `catch_up` is the reader's, which is taken apart here. A
//!   refresh ends with a state up to some entry; any entry up to the head is tried.
//! * The collector's own reading, for the same reason: it may know the head at any time. Its crash:
//!   each of its steps relies only on earlier ones that the store shows.
//! * More readers: a reader changes nothing, so one that may be anywhere stands for all. More
//!   writers: those that have given up, in any number, with creates that still land.
//! * A bound on the table of writers: `holds` says `None` when it has forgotten, and then the append
//!   is indeterminate.
//! * `sync_head`: a crash of the disk is `crash_points`' and `kill`'s.
//!
//! States that no actor can tell apart are merged ([`search::code`]): the writers' names, entries that
//! everybody has passed, what a reader has read below the floor. A smaller log is searched without any
//! merging to check that this hides nothing.

mod protocol;
mod search;
mod step;

use std::time::Instant;

use protocol::{ENTRIES, Flaw, Model};
use search::search;

/// Searches all states, which must be safe and lead to rest.
fn holds(entries: u8, merged: bool) {
    let model = Model { flaw: Flaw::None, entries, merged };
    let start = Instant::now();
    let found = search(model).unwrap_or_else(|trace| panic!("{model:?}\n{trace}"));
    let longest = found.settles(model).unwrap_or_else(|trace| panic!("{model:?}\n{trace}"));
    println!(
        "{entries} entries, merged: {merged}: {} states, each at rest after at most {longest} calm \
         steps; {:.1} s",
        found.codes.len(),
        start.elapsed().as_secs_f64()
    );
}

#[test]
fn the_protocol_is_safe_and_never_stuck() {
    holds(ENTRIES, true);
}

#[test]
fn the_protocol_is_safe_without_merging_states() {
    holds(2, false);
}

#[test]
#[ignore = "72 million states: minutes, and 1.5 GB"]
fn the_protocol_is_safe_without_merging_states_of_a_longer_log() {
    holds(3, false);
}

#[test]
fn every_rule_is_needed() {
    let table = [
        (
            "a create is believed without reading the floor",
            Flaw::CreateIsBelieved,
            "an append is reported won, and another entry has its number",
        ),
        (
            "an entry that is read back is believed without reading the floor",
            Flaw::LookIsBelieved,
            "an append is reported won, and another entry has its number",
        ),
        (
            "a reader does not read the floor",
            Flaw::ReaderIgnoresFloor,
            "the reader believes an entry that was created again",
        ),
        (
            "a collector deletes before it raises the floor",
            Flaw::DeletesFirst,
            "an append is reported won, and another entry has its number",
        ),
        (
            "a collector raises the floor before it has written a rollup",
            Flaw::RaisesFirst,
            "the reader finds no rollup at or above the floor",
        ),
        (
            "an entry that is not there yet is taken for lost",
            Flaw::AbsentIsLost,
            "an append is reported lost, and may still land",
        ),
        (
            "an entry that is not there any more is taken for lost",
            Flaw::CollectedIsLost,
            "an append is reported lost, and is in the log",
        ),
        (
            "a reader below the floor takes no rollup",
            Flaw::ReaderWaits,
            "from here nothing settles any more",
        ),
    ];
    for (words, flaw, expected) in table {
        for (entries, merged) in [(2, false), (3, true)] {
            let model = Model { flaw, entries, merged };
            let found = search(model).and_then(|found| found.settles(model));
            let trace = found.expect_err(words);
            assert!(trace.ends_with(&format!("=> {expected}\n")), "{words}:\n{trace}");
            if !merged {
                println!("if {words}:\n{trace}");
            }
        }
    }
}
