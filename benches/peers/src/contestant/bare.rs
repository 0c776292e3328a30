//! Owns our operator alone: what it emits is handed back to it in memory, as if it had been committed.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use differential_dataflow::AsCollection;
use differential_upsert::upsert::Kept;
use differential_upsert::{Command, Upsert, UpsertConfig};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::InputHandleVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;
use timely::dataflow::operators::{Input, Probe};
use timely::worker::Worker;

use super::rows::Rows;
use super::workers::on_workers;
use crate::clock::{Figures, Pace, drive};
use crate::load::Record;
use crate::sums::Sums;

type Update<R> = ((<R as Rows>::Key, <R as Rows>::Value), u64, isize);

/// Runs it over `records`. It works out one time after the other, for only the durable loop can run ahead; the commands of
/// later ones wait in it meanwhile.
pub fn run<R: Rows>(records: Arc<Vec<Record>>, pace: Pace, state_bytes: Option<usize>) -> Figures
where
    R::Key: Kept<R::Value>,
{
    on_workers(pace, move |worker, pace| one_worker::<R>(worker, &records, pace, state_bytes))
}

fn one_worker<R: Rows>(
    worker: &mut Worker,
    records: &[Record],
    pace: Pace,
    state_bytes_max: Option<usize>,
) -> Figures
where
    R::Key: Kept<R::Value>,
{
    let mut feedback = InputHandleVec::<u64, Update<R>>::new();
    let back = Rc::new(RefCell::new(Vec::<Vec<Update<R>>>::new()));
    let sums = Rc::new(Cell::new(Sums::default()));
    let (mut input, probe, stats) = worker.dataflow(|scope| {
        let mut input = InputHandleVec::<u64, (Command<R::Key, R::Value, u64>, u64)>::new();
        let commands = scope.input_from(&mut input);
        let fed_back = scope.input_from(&mut feedback).as_collection();
        let config = UpsertConfig { state_bytes_max, ..UpsertConfig::default() };
        let upserted = commands.upsert(fed_back, config);
        let (sums, back) = (Rc::clone(&sums), Rc::clone(&back));
        let (probe, _) = upserted
            .updates
            .inner
            .unary::<CapacityContainerBuilder<Vec<()>>, _, _, _>(Pipeline, "Commit", |_, _| {
                move |input, _| {
                    input.for_each(|_, rows| {
                        let mut now = sums.get();
                        for ((key, value), time, diff) in rows.iter() {
                            R::add(&mut now, key, value, *time, *diff);
                        }
                        sums.set(now);
                        back.borrow_mut().push(std::mem::take(rows));
                    });
                }
            })
            .probe();
        (input, probe, upserted.stats)
    });
    let made = |time, records: &[Record]| {
        let command = |(key, value, order)| (Command::Put { key, value, order }, time);
        R::rows(records).into_iter().map(command).collect::<Vec<_>>()
    };
    let figures = drive(records, pace, made, |time, until, mut rows| {
        input.send_batch(&mut rows);
        input.advance_to(time + 1);
        loop {
            worker.step();
            // What all workers have emitted, as if it had been committed at once.
            let done = probe.with_frontier(|frontier| frontier.first().copied());
            let done = done.expect("its input is open");
            if done > *feedback.time() {
                back.take().iter_mut().for_each(|rows| feedback.send_batch(rows));
                feedback.advance_to(done);
                feedback.flush();
            }
            if done >= until {
                break;
            }
        }
    });
    let (missed, state_bytes) = (stats.cold_missed(), stats.state_bytes() as u64);
    drop((input, feedback));
    while worker.step() {}
    Figures { sums: sums.get(), missed, state_bytes, ..figures }
}
