//! Goal: no choice of the bounds freezes a pipeline: a time that is larger than all of them is committed, by
//! a writer and by a standby that was promoted in the middle of it. Method: one worker on a shard in memory;
//! rounds of one millisecond bound the wait and are never the assertion.

use std::time::Duration;

use differential_upsert::{Command, PipelineConfig, Promotion, Shard, UpsertInto};
use timely::dataflow::operators::Input;

const ROUNDS_MAX: usize = 3_000;
/// Many more than the operator drains in one piece.
const ROWS: u64 = 60_000;

/// The upper that is reached with these bounds.
fn upper(inflight: usize, part: usize, promoted: Option<Promotion>) -> u64 {
    let shard = Shard::<u64, u64>::open("mem:").unwrap();
    timely::execute_directly(move |worker| {
        let config = PipelineConfig {
            inflight_bytes_max: inflight,
            part_bytes_max: part,
            standby: promoted.clone(),
            ..PipelineConfig::default()
        };
        let (mut input, token) = worker.dataflow(|scope| {
            let (input, commands) = scope.new_input();
            (input, commands.upsert_into(&shard, config).token)
        });
        (0..ROWS).for_each(|key| input.send((Command::put(key, key, 0), 0)));
        input.close();
        for round in 0..ROUNDS_MAX {
            worker.step_or_park(Some(Duration::from_millis(1)));
            if let Some(promotion) = promoted.as_ref().filter(|_| round == 100) {
                promotion.promote();
            }
            if shard.state().upper > 0 {
                break;
            }
        }
        drop(token);
        shard.state().upper
    })
}

#[test]
fn a_time_larger_than_every_bound_is_committed() {
    let large = 8 << 20;
    for (inflight, part) in [(1, large), (1 << 10, large), (1, 1), (large, 1)] {
        for promoted in [None, Some(Promotion::default())] {
            let standby = promoted.is_some();
            let reached = upper(inflight, part, promoted);
            assert_eq!(reached, 1, "inflight {inflight}, part {part}, standby {standby}");
        }
    }
}
