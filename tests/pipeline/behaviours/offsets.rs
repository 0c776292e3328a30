//! Owns B38 for feeds of offsets: a file or a topic that was replaced by another of the same name.

use differential_upsert::reclock::Times;
use differential_upsert::source::{
    Boundary, Change, Event, Events, Failure, Partition, Received, Source,
};

use crate::behaviours::script::failure;
use crate::behaviours::world::{Replica, Start, contents, memory};

/// A feed of offsets that was replaced: its rows, and whether it has lost the place.
struct Replaced(Vec<u64>, bool);

/// A feed of offsets that is replaced while it is read.
struct Replacing(u64);

impl Source for Replacing {
    type Key = u64;
    type Value = u64;
    type Position = u64;

    fn identity(&self) -> String {
        "offsets".to_string()
    }

    async fn connect(&mut self, _: &Boundary<u64>) -> Result<(), Failure> {
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<Events<Self>>, Failure> {
        self.0 += 1;
        let (put, bound) = match self.0 {
            1 => (1..9, 8),
            2 => (9..12, 11),
            3 => return Err(failure("lost")),
            4 => (7..9, 2),
            5 => (30..33, 5),
            _ => return Ok(Some(vec![Event::End])),
        };
        let name = Partition::from("");
        let put = put.map(|key| Event::Change(name.clone(), Change::Put(key, Ok(key))));
        let mut events: Vec<Event<u64, u64, u64>> = put.collect();
        events.push(Event::Boundary(Received::at(name, bound)));
        Ok(Some(events))
    }
}

/// What replaces everything comes after what it replaces, also while all of that still waits for a time.
#[test]
fn b38_a_feed_of_offsets_that_is_replaced_while_it_is_read() {
    for times in [Times::WriteAhead, Times::CoCommitted] {
        for steps in [0, 5, 10, 20, 50] {
            let root = memory();
            let start = Start { stop_at_current: false, ..Start::calm(1) };
            let mut replica = Replica::read(&root, Replacing(0), times, start).unwrap();
            // All of it waits together, or it comes apart.
            for _ in 0..steps {
                replica.poll(20);
                replica.wait(50);
            }
            replica.finish();
            assert!(replica.error().is_none(), "{times:?}: {:?}", replica.error());
            let found: Vec<u64> = contents(&root).into_keys().collect();
            assert_eq!(found, [7, 8, 30, 31, 32], "{times:?}, {steps}");
        }
    }
}

impl Source for Replaced {
    type Key = u64;
    type Value = u64;
    type Position = u64;

    fn identity(&self) -> String {
        "offsets".to_string()
    }

    async fn connect(&mut self, from: &Boundary<u64>) -> Result<(), Failure> {
        match self.1 && !from.is_start() {
            true => Err(failure("lost")),
            false => Ok(()),
        }
    }

    async fn next(&mut self) -> Result<Option<Events<Self>>, Failure> {
        let name = Partition::from("");
        let mut events: Vec<Event<u64, u64, u64>> = Vec::new();
        for key in &self.0 {
            events.push(Event::Change(name.clone(), Change::Put(*key, Ok(*key))));
        }
        let end = self.0.len() as u64;
        events.extend([Event::Boundary(Received::at(name, end)), Event::End]);
        Ok(Some(events))
    }
}

#[test]
fn b38_a_feed_of_offsets_that_was_replaced() {
    for times in [Times::WriteAhead, Times::CoCommitted] {
        for new in [vec![7, 8], (20..40).collect()] {
            let root = memory();
            let start = |number| Start { stop_at_current: false, ..Start::calm(number) };
            let first = Replaced((1..9).collect(), false);
            let mut replica = Replica::read(&root, first, times, start(1)).unwrap();
            replica.finish();
            let second = Replaced(new.clone(), true);
            let mut replica = Replica::read(&root, second, times, start(2)).unwrap();
            for _ in 0..2000 {
                replica.turn();
            }
            assert!(replica.error().is_none(), "{times:?} {}: {:?}", new.len(), replica.error());
            let found: Vec<u64> = contents(&root).into_keys().collect();
            assert_eq!(found, new, "{times:?}");
        }
    }
}
