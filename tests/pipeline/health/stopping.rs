//! Owns stops over a store that hangs: whatever it does not answer, and whatever the pipeline is
//! doing, a stop takes a second at most and leaves a shard that is whole.

use std::collections::BTreeMap;
use std::time::Duration;

use differential_upsert::health::HealthState;
use differential_upsert::reclock::Times;
use differential_upsert::shard::verify;
use differential_upsert::source::{
    Boundary, Change, Event, Events, Failure, Partition, Received, Source,
};
use differential_upsert::store::{Operation, Root};
use differential_upsert::{Pipeline, PipelineConfig, Promotion};

use crate::health::rig::{Rig, Valve, config, memory, runtime, shard};

/// Every operation of a store; `None` is all of them at once.
const OPERATIONS: [Option<Operation>; 14] = {
    use Operation::*;
    [
        None,
        Some(Put),
        Some(Create),
        Some(Get),
        Some(List),
        Some(Delete),
        Some(Sweep),
        Some(CreateEntry),
        Some(GetEntry),
        Some(ListEntries),
        Some(Floor),
        Some(RaiseFloor),
        Some(DeleteEntry),
        Some(Sync),
    ]
};

/// What the pipeline is doing when the store stops answering.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Doing {
    Hydrating,
    Idling,
    Appending,
    StandingBy,
    BindingAhead,
    Committing,
}

const ALL: [Doing; 6] = [
    Doing::Hydrating,
    Doing::Idling,
    Doing::Appending,
    Doing::StandingBy,
    Doing::BindingAhead,
    Doing::Committing,
];

/// A feed without end: one row a second.
struct Seconds(u64);

impl Source for Seconds {
    type Key = u64;
    type Value = u64;
    type Position = u64;

    fn identity(&self) -> String {
        "seconds".into()
    }

    async fn connect(&mut self, from: &Boundary<u64>) -> Result<(), Failure> {
        self.0 = from.get("").copied().unwrap_or(0);
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<Events<Self>>, Failure> {
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.0 += 1;
        let name = Partition::from("");
        let change = Event::Change(name.clone(), Change::Put(self.0 % 5, Ok(self.0)));
        Ok(Some(vec![change, Event::Boundary(Received::at(name, self.0))]))
    }
}

/// A pipeline on a shard with some contents, about to be stopped.
fn scene(root: &Root, valve: Valve, doing: Doing) -> Rig {
    if matches!(doing, Doing::BindingAhead | Doing::Committing) {
        let mut config = config();
        config.source.times = match doing {
            Doing::BindingAhead => Times::WriteAhead,
            _ => Times::CoCommitted,
        };
        return Rig::build(root, valve, |scope, shard| {
            let pipeline = Pipeline::from_source(scope, || Some(Seconds(0)), shard, config);
            (None, pipeline)
        });
    }
    let mut first = Rig::on(root, Valve::none(), config());
    (0..3).for_each(|time| first.give(time, 4));
    first.end();
    let standby = (doing == Doing::StandingBy).then(Promotion::default);
    let mut rig = Rig::on(root, valve, PipelineConfig { standby, ..config() });
    rig.input.as_mut().unwrap().advance_to(3);
    rig
}

/// Stops it, and returns after how many milliseconds it was gone.
fn stop(rig: &mut Rig) -> u64 {
    (rig.token, rig.input) = (None, None);
    for passed in (0..=5_000).step_by(50) {
        rig.settle();
        if !rig.worker.has_dataflows() {
            return passed;
        }
        rig.runtime.block_on(tokio::time::advance(Duration::from_millis(50)));
    }
    panic!("a stop never ends: {:?}", rig.report());
}

#[test]
fn a_stop_takes_a_second_at_most_whatever_the_store_does_not_answer() {
    for doing in ALL {
        for operation in OPERATIONS {
            let root = memory();
            let hangs = operation;
            let valve = Valve::hanging(move |a| hangs.is_none_or(|which| a.operation == which));
            let mut rig = scene(&root, valve, doing);
            if doing != Doing::Hydrating {
                (0..3).for_each(|_| rig.live());
            }
            rig.valve.set(true);
            if matches!(doing, Doing::Appending | Doing::StandingBy) {
                rig.give(3, 4);
            }
            (0..3).for_each(|_| rig.live());
            let passed = stop(&mut rig);
            assert!(passed <= 1_000, "{doing:?}, {operation:?} hangs: {passed} ms");
            assert_ne!(
                rig.state(),
                HealthState::Failed,
                "{doing:?}, {operation:?}: a stop is none"
            );
            // What hung may land now: it is whole, or it is not there.
            rig.valve.set(false);
            (0..5).for_each(|_| rig.second());
            sound(&root, doing, operation);
        }
    }
}

/// Checks that the shard holds the fold of what was given below its upper.
fn sound(root: &Root, doing: Doing, operation: Option<Operation>) {
    let runtime = runtime();
    let shard = shard(root, &runtime, &Valve::none());
    let scene = format!("{doing:?}, {operation:?}");
    let verified = runtime.block_on(verify(root.clone(), shard.io().clone()));
    verified.unwrap_or_else(|e| panic!("{scene}: {e}"));
    let upper = shard.upper();
    if matches!(doing, Doing::BindingAhead | Doing::Committing) {
        return;
    }
    assert!(upper == 3 || (upper == 4 && doing == Doing::Appending), "{scene}: upper {upper}");
    let rows = runtime.block_on(shard.handle().snapshot(upper - 1)).unwrap();
    let number = |bytes: &[u8]| postcard::from_bytes::<u64>(bytes).unwrap();
    let rows: BTreeMap<u64, u64> = rows
        .iter()
        .map(|((key, value), ..)| (number(key.as_bytes()), number(&value.as_bytes()[1..])))
        .collect();
    assert_eq!(rows, (0..4).map(|key| (key, 10 + upper - 1)).collect(), "{scene}");
}
