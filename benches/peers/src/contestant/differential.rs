//! Owns the peer in the same dataflow: differential's `arrange_from_upsert`, in memory. It knows no order,
//! so commands are folded to the latest per key and time before it gets them, inside the clock.

use std::cell::Cell;
use std::collections::HashMap;
use std::hash::Hash;
use std::rc::Rc;
use std::sync::Arc;

use differential_dataflow::operators::arrange::TraceAgent;
use differential_dataflow::operators::arrange::upsert::arrange_from_upsert;
use differential_dataflow::trace::TraceReader;
use differential_dataflow::trace::implementations::{ValBuilder, ValSpine};
use timely::dataflow::operators::{Input, Inspect, Probe};
use timely::dataflow::{InputHandleVec, ProbeHandle};
use timely::progress::Antichain;
use timely::worker::Worker;

use super::rows::{Arrays, Rows};
use super::workers::on_workers;
use crate::clock::{Figures, Pace, drive};
use crate::load::{Record, Words};
use crate::sums::Sums;

/// Runs it over `records`.
pub fn run<R: Rows>(records: Arc<Vec<Record>>, pace: Pace) -> Figures
where
    R::Key: Hash,
{
    on_workers(pace, move |worker, pace| one_worker::<R>(worker, &records, pace))
}

/// Loads `live` rows, as at a restart, and returns what `took` makes of the sums over them when all are in.
pub fn load<T: Send + 'static>(
    live: impl Iterator<Item = (u64, Words)> + Send + Sync + 'static,
    took: impl FnOnce(Sums) -> T + Send + Sync + 'static,
) -> T {
    timely::execute_directly(move |worker| {
        let Dataflow { mut input, probe, trace, sums } = dataflow::<Arrays>(worker);
        live.for_each(|(key, value)| input.send((key, Some(value), 0)));
        input.advance_to(1);
        worker.step_while(|| probe.less_than(&1));
        let taken = took(sums.get());
        drop((input, trace));
        taken
    })
}

fn one_worker<R: Rows>(worker: &mut Worker, records: &[Record], pace: Pace) -> Figures
where
    R::Key: Hash,
{
    let Dataflow { mut input, probe, mut trace, sums } = dataflow::<R>(worker);
    let made = |_, records: &[Record]| R::rows(records);
    let figures = drive(records, pace, made, |time, until, rows| {
        let mut latest = HashMap::with_capacity(rows.len());
        // In order: the last one has the greatest.
        for (key, value, _) in rows {
            latest.insert(key, value);
        }
        input.send_batch(&mut latest.into_iter().map(|(k, v)| (k, Some(v), time)).collect());
        input.advance_to(time + 1);
        // Both, or batches never merge.
        let frontier = Antichain::from_elem(until);
        trace.set_logical_compaction(frontier.borrow());
        trace.set_physical_compaction(frontier.borrow());
        worker.step_while(|| probe.less_than(&until));
    });
    drop((input, trace));
    while worker.step() {}
    Figures { sums: sums.get(), ..figures }
}

struct Dataflow<R: Rows> {
    input: InputHandleVec<u64, (R::Key, Option<R::Value>, u64)>,
    probe: ProbeHandle<u64>,
    trace: TraceAgent<ValSpine<R::Key, R::Value, u64, isize>>,
    sums: Rc<Cell<Sums>>,
}

fn dataflow<R: Rows>(worker: &mut Worker) -> Dataflow<R>
where
    R::Key: Hash,
{
    let sums = Rc::new(Cell::new(Sums::default()));
    let (input, probe, trace) = worker.dataflow(|scope| {
        let mut input = InputHandleVec::<u64, (R::Key, Option<R::Value>, u64)>::new();
        let commands = scope.input_from(&mut input);
        let arranged = arrange_from_upsert::<
            ValBuilder<R::Key, R::Value, u64, isize>,
            ValSpine<_, _, _, _>,
            _,
            _,
        >(commands, "peer");
        let into = Rc::clone(&sums);
        let (probe, _) = arranged
            .clone()
            .as_collection(|key, value| (key.clone(), value.clone()))
            .inner
            .inspect(move |((key, value), time, diff)| {
                let mut now = into.get();
                R::add(&mut now, key, value, *time, *diff);
                into.set(now);
            })
            .probe();
        (input, probe, arranged.trace)
    });
    Dataflow { input, probe, trace, sums }
}
