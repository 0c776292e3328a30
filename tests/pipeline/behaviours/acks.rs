//! Owns B31 and B34: what a source is told, and when nothing can be made durable.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use differential_upsert::reclock::Times;
use differential_upsert::store::{Fault, Faults, Operation, Report, Root};

use crate::behaviours::feed::Server;
use crate::behaviours::oracle::Covered;
use crate::behaviours::place::Place;
use crate::behaviours::script::{At, Scripted, at};
use crate::behaviours::world::{Observer, Replica, Start, memory};

/// Starts a writer for which no commit of rows comes through.
fn blocked<P: Place>(root: &Root, server: &Server) -> Replica {
    let blocked = Arc::new(AtomicBool::new(false));
    let blocks = Arc::clone(&blocked);
    let faults = Faults::new(move |action| match action.operation {
        Operation::CreateEntry if blocks.load(Ordering::Relaxed) => {
            Fault::Fail { applied: false, report: Report::Timeout }
        }
        _ => Fault::None,
    });
    let start = Start { faults, stop_at_current: false, ..Start::calm(1) };
    let mut replica = Replica::start::<P>(root, server, start).unwrap();
    (0..3).for_each(|_| replica.turn());
    blocked.store(true, Ordering::Relaxed);
    replica
}

/// Nothing is acked before it is durable; and what is durable is acked, by the next run if not by this one.
fn acks<P: Place>() {
    let (root, server) = (memory(), Server::grown(5, P::SETS));
    (server.state().fails, server.state().left) = (0, 0);
    let mut observer = Observer::<P>::new(&root, &server);
    let mut replica = blocked::<P>(&root, &server);
    for _ in 0..300 {
        replica.turn();
        observer.check();
    }
    assert_eq!(server.state().acks.len() + observer.acks(), 0, "{:?}", observer.covered);
    drop(replica);
    server.state().ends = false;
    let start = Start { stop_at_current: false, ..Start::calm(2) };
    let mut replica = Replica::start::<P>(&root, &server, start).unwrap();
    for _ in 0..300 {
        replica.turn();
        observer.check();
    }
    observer.check_whole();
    assert!(observer.acks() > 0);
}

#[test]
fn b31_acks_come_from_the_shard_alone() {
    acks::<At>();
    acks::<u64>();
}

/// A store that takes nothing: an error, and neither the cursor nor an ack.
fn refused<P: Place>() {
    let (root, server) = (memory(), Server::grown(7, P::SETS));
    (server.state().fails, server.state().left) = (0, 0);
    let mut observer = Observer::<P>::new(&root, &server);
    let mut replica = blocked::<P>(&root, &server);
    for _ in 0..20_000 {
        if replica.error().is_some() {
            break;
        }
        replica.turn();
        observer.check();
    }
    assert!(replica.error().is_some(), "an output that fails in silence");
    assert_eq!(observer.covered, Covered::nothing());
    replica.stop();
    replica.finish();
    observer.check();
    drop(replica);
    let mut replica = Replica::start::<P>(&root, &server, Start::calm(2)).unwrap();
    replica.finish();
    observer.check_whole();
}

#[test]
fn b34_an_output_that_fails_is_an_error_and_moves_nothing() {
    refused::<At>();
    refused::<u64>();
}

/// Starts a writer that follows a script.
fn scripted(root: &Root, source: Scripted, number: u64) -> Replica {
    let start = Start { stop_at_current: false, ..Start::calm(number) };
    Replica::read(root, source, Times::CoCommitted, start).unwrap()
}

#[test]
fn b31_a_copy_is_not_acked_before_its_end() {
    let copy = "B F | V(5) | R1 V(5,1) C | w(5000) R2 V(5,2) C | w(5000) B V(5) C | CC | w(5000) R3 V(6) OTHER | hang";
    let source = Scripted::new(&[copy]).copied();
    let asked = source.asked();
    let mut replica = scripted(&memory(), source, 1);
    (0..400).for_each(|_| replica.turn());
    assert_eq!(asked.acks().len(), 0, "in the copy");
    (0..1000).for_each(|_| replica.turn());
    assert!(replica.error().is_none(), "{:?}", replica.error());
    let acks: Vec<_> = asked.acks().iter().map(|ack| ack.get("").cloned()).collect();
    assert_eq!(acks, [Some(at(5)), Some(at(6))]);
}

#[test]
fn b31_acks_are_frozen_while_a_copy_is_made_anew() {
    let root = memory();
    let mut first = scripted(&root, Scripted::new(&["R1 R2 V(3) OTHER | hang"]), 1);
    (0..100).for_each(|_| first.turn());
    drop(first);
    // What is durable is known here from the start, and the feed may need what lies behind it.
    let anew = "R1 V(9,1) OTHER | w(5000) R2 V(9,2) OTHER | w(5000) V(9) OTHER | hang";
    let source = Scripted::new(&["^!lost", anew]);
    let asked = source.asked();
    let mut second = scripted(&root, source, 2);
    (0..300).for_each(|_| second.turn());
    assert_eq!((asked.connects().len(), asked.acks().len()), (2, 0));
    (0..1000).for_each(|_| second.turn());
    assert!(second.error().is_none(), "{:?}", second.error());
    let acks = asked.acks();
    let acks: Vec<_> = acks.iter().map(|ack| (ack.generation(), ack.get("").cloned())).collect();
    assert_eq!(acks, [(1, Some(at(9)))]);
}

#[test]
fn b31_acks_go_on_after_partitions_were_replaced() {
    let reshard =
        "-80:R1 80-:R2 ALL(-80=3,80-=4) | w(3000) ALL(-=1) | w(3000) -:R3 -:V(2) -:OTHER | hang";
    let source = Scripted::new(&[reshard]).partitions(&["-80", "80-"]);
    let asked = source.asked();
    let mut replica = scripted(&memory(), source, 1);
    (0..1000).for_each(|_| replica.turn());
    assert!(replica.error().is_none(), "{:?}", replica.error());
    let acks: Vec<_> = asked.acks().iter().map(|ack| ack.get("-").cloned()).collect();
    assert_eq!(acks, [None, Some(at(1)), Some(at(2))]);
}
