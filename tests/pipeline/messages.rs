//! Goal: a command counts at its own time, in whatever messages and order commands come. Method: one worker on a shard in
//! memory, and an input whose messages go back in time; rounds of one millisecond bound the wait and are never the
//! assertion.

use std::time::Duration;

use differential_upsert::shard::History;
use differential_upsert::{Command, Encoded, PipelineConfig, Shard, UpsertInto};
use serde::{Deserialize, Serialize, Serializer};
use timely::dataflow::operators::vec::UnorderedInput;

const ROUNDS_MAX: usize = 3_000;

#[test]
fn messages_may_go_back_in_time() {
    let shard = Shard::<u64, u64>::open("mem:").unwrap();
    let times = [5, 6, 3, 4, 4, 0, 1, 2];
    let end = 7;
    let feed = shard.clone();
    let error = timely::execute_directly(move |worker| {
        let config = PipelineConfig { history: Some(History::Keep), ..PipelineConfig::default() };
        let ((mut input, capability), health, token) = worker.dataflow(|scope| {
            let (input, commands) = scope.new_unordered_input::<(Command<u64, u64, u64>, u64)>();
            let pipeline = commands.upsert_into(&feed, config);
            (input, pipeline.health, pipeline.token)
        });
        for time in times {
            let capability = capability.delayed(&time);
            input.activate().session(&capability).give((Command::put(7, time, 0), time));
        }
        drop((input, capability));
        for _ in 0..ROUNDS_MAX {
            if feed.state().upper == end || health.error().is_some() {
                break;
            }
            worker.step_or_park(Some(Duration::from_millis(1)));
        }
        drop(token);
        health.error()
    });
    assert!(error.is_none(), "{}", error.unwrap());
    let handle = shard.handle();
    for time in 0..end {
        let rows = shard.io().block_on(handle.snapshot(time)).unwrap();
        let values: Vec<&Encoded> = rows.iter().map(|((_, value), ..)| value).collect();
        // The tag of a value, and the value.
        let expected = Encoded::from_bytes(vec![0, time as u8]);
        assert_eq!(values, [&expected], "as of {time}");
    }
}

/// A key that a codec may refuse.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
struct Key(u64);

const REFUSED: Key = Key(13);

impl Serialize for Key {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match *self == REFUSED {
            true => Err(serde::ser::Error::custom("an unlucky key")),
            false => serializer.serialize_u64(self.0),
        }
    }
}

/// A time is not taken for done because its rows came after those of a later time that could not be encoded.
#[test]
fn a_failure_holds_earlier_times_that_come_after_it() {
    let shard = Shard::<Key, u64>::open("mem:").unwrap();
    let feed = shard.clone();
    let error = timely::execute_directly(move |worker| {
        let ((mut input, capability), health, token) = worker.dataflow(|scope| {
            let (input, commands) = scope.new_unordered_input::<(Command<Key, u64, u64>, u64)>();
            let pipeline = commands.upsert_into(&feed, PipelineConfig::default());
            (input, pipeline.health, pipeline.token)
        });
        for (time, key) in [(7, REFUSED), (5, Key(1))] {
            let capability = capability.delayed(&time);
            input.activate().session(&capability).give((Command::put(key, 1, 0), time));
        }
        drop((input, capability));
        for _ in 0..ROUNDS_MAX {
            if feed.state().upper >= 5 {
                break;
            }
            worker.step_or_park(Some(Duration::from_millis(1)));
        }
        drop(token);
        health.error()
    });
    assert!(error.is_some(), "a refused key");
    assert_eq!(shard.state().upper, 5, "the row at 5 was dropped, and its time is not done");
}
