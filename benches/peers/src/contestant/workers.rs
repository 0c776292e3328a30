//! Owns running a dataflow on one or several workers of this process, and adding up what they did. It does
//! not own the dataflow.

use timely::worker::Worker;

use crate::clock::{Figures, Pace, Share};

/// Runs `each` on as many workers as the pace says. Times are those of the first worker.
pub fn on_workers(
    pace: Pace,
    each: impl Fn(&mut Worker, Pace) -> Figures + Send + Sync + 'static,
) -> Figures {
    let workers = pace.share.workers;
    let config = match workers {
        1 => timely::Config::thread(),
        several => timely::Config::process(several),
    };
    let guards = timely::execute(config, move |worker| {
        let share = Share { worker: worker.index(), workers };
        each(worker, Pace { share, ..pace })
    });
    let all: Vec<Figures> = guards
        .expect("workers that start")
        .join()
        .into_iter()
        .map(|figures| figures.expect("a worker that does not panic"))
        .collect();
    let mut sum = all[0].clone();
    for other in &all[1..] {
        sum.sums.merge(other.sums);
        sum.made_cpu_seconds += other.made_cpu_seconds;
    }
    sum
}
