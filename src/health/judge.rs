//! Owns what the signs of a pipeline add up to: its state, why, and which place of the loop holds it. It is pure: a
//! function of what was collected; it reads neither cells nor a clock.

use std::time::Duration;

use super::report::{HealthReport, HealthState, Role, counted, seconds};
use super::seen::{Holder, Place, Stuck};
use super::signs::{Interval, Signs, WorkerSigns, ought_to_move};
use crate::error::ErrorKind;
use crate::source::Trouble;
use crate::store;

/// Says what a pipeline is doing, and why.
pub(super) fn judge(signs: &Signs) -> HealthReport {
    judged(signs).0
}

/// Says so, and which frontier stands and what holds it, where that is why it is `stalled`.
pub(super) fn judged(signs: &Signs) -> (HealthReport, Option<Stuck>) {
    let (state, why, stuck) = if let Some((state, why)) = over(signs) {
        (state, why, None)
    } else if let Some((stuck, why)) = stalled(signs) {
        (HealthState::Stalled, Some(why), Some(stuck))
    } else {
        let (state, why) = at_work(signs);
        (state, waiting(signs, why), None)
    };
    let (input, upper) = (signs.input(), signs.upper);
    let report = HealthReport {
        role: signs.role,
        state,
        input,
        upper,
        output: signs.output(),
        behind: input.saturating_sub(upper),
        since: signs.since,
        why,
        lag: signs.lag,
        errors: None,
    };
    (report, stuck)
}

/// Whether it is at work and waits for its store, for so long that it is to be seen.
#[cfg(any(test, feature = "http"))]
pub(super) fn waits(signs: &Signs, report: &HealthReport) -> bool {
    let at_work = !report.state.is_trouble() && report.state != HealthState::Finished;
    at_work && signs.waits_for_store().is_some()
}

/// Says what it waits for that keeps it from going faster: the store before all else, where that has not answered for long.
fn waiting(signs: &Signs, why: Option<String>) -> Option<String> {
    if let Some(store) = signs.waits_for_store() {
        return Some(why.map_or_else(|| store.to_string(), |why| format!("{store}; {why}")));
    }
    let failing = signs.store.as_ref().filter(|trouble| trouble.failures > 0);
    let trouble = || signs.trouble.as_ref().map(|trouble| trouble.what.clone());
    let why = why.or_else(|| failing.map(store::Trouble::to_string));
    why.or_else(trouble).or_else(|| signs.staged.why())
}

/// Says how it ended, or why it holds still, if it does.
fn over(signs: &Signs) -> Option<(HealthState, Option<String>)> {
    // The reporting worker stands first, so its own error goes before another's.
    if let Some((worker, error)) =
        signs.workers.iter().find_map(|worker| Some((worker, worker.error.as_ref()?)))
    {
        let state = match error.kind() {
            ErrorKind::Fenced => HealthState::Fenced,
            _ => HealthState::Failed,
        };
        return Some((state, Some(format!("worker {}: {error}", worker.worker))));
    }
    let Some(worker) = signs.workers.first() else { return Some((HealthState::Finished, None)) };
    if worker.released {
        let stopped = "it was told to stop before the end of its input";
        return Some((HealthState::Finished, (!worker.ended).then(|| stopped.into())));
    }
    let gone = signs.workers.iter().any(|worker| worker.gone && !worker.released);
    let dropped = "the dataflow was dropped before its end";
    gone.then(|| (HealthState::Finished, Some(dropped.into())))
}

/// Says what it does, where nothing stands for too long.
fn at_work(signs: &Signs) -> (HealthState, Option<String>) {
    let (input, upper) = (signs.input(), signs.upper);
    if !signs.is_hydrated() {
        return (HealthState::Hydrating, Some(parts(signs.workers.iter())));
    }
    // What lies below the upper is dropped at the next wake-up, and waits for nothing.
    let open = signs.workers.iter().filter_map(|worker| worker.least.filter(|t| *t >= upper)).min();
    match (input.cmp(&upper), open) {
        (std::cmp::Ordering::Less, _) => (HealthState::Lagging, None),
        (std::cmp::Ordering::Equal, None) if signs.unbound > 0 => {
            (HealthState::Running, Some("rows wait for their time to be bound".into()))
        }
        (std::cmp::Ordering::Equal, None)
            if !signs.staged.is_empty() && !crate::mutant::on("staged_unseen") =>
        {
            (HealthState::Running, None)
        }
        // No commit waits for it, and it is part of the loop.
        (std::cmp::Ordering::Equal, None) if signs.reading().is_some() => {
            (HealthState::Running, None)
        }
        (std::cmp::Ordering::Equal, None) => (HealthState::Idle, None),
        (std::cmp::Ordering::Equal, Some(time)) => {
            let why = format!("rows of time {time} wait for the source to close it");
            (HealthState::Running, Some(why))
        }
        (std::cmp::Ordering::Greater, _) => (HealthState::Running, cold(signs)),
    }
}

/// Says why it has not moved for too long, if it has not.
fn stalled(signs: &Signs) -> Option<(Stuck, String)> {
    // Also where nothing is known to wait for it: a look that has no answer would tell.
    let store = signs.store.as_ref().filter(|trouble| trouble.lasts >= signs.stall_after);
    match store {
        Some(store) if ought_to_move(signs) || signs.reading().is_some() => {
            let (stuck, why) = stuck(signs);
            let stuck = Stuck { holder: Place::Shard.into(), ..stuck };
            return Some((stuck, format!("{why}; {store}")));
        }
        Some(store) => {
            let stuck = Stuck::new(Place::Shard, Place::Shard, Some(store.lasts));
            return Some((stuck, store.to_string()));
        }
        None if signs.is_stalled() || signs.is_reading_stalled() => return Some(stuck(signs)),
        None if !signs.is_hydrated() => return None,
        None => {}
    }
    // Whatever else moves: another partition may.
    if let Some(Trouble { what, away: true }) = &signs.trouble {
        return Some((Stuck::new(Place::Input, Place::Source, None), what.clone()));
    }
    let (silent, why) = signs.staged.stuck(signs.stall_after)?;
    Some((Stuck::new(Place::Input, Place::Source, Some(silent)), why))
}

/// Says which frontier stands, and what holds it.
fn stuck(signs: &Signs) -> (Stuck, String) {
    let (upper, waited) = (signs.upper, signs.measured.waits);
    let waits = seconds(waited);
    let (frontier, waited, what) = if signs.reading().is_some() && only_reads(signs) {
        let waited = signs.measured.reading_waits;
        let waits = seconds(waited);
        let what = format!(
            "what is committed below the shard's upper {upper} is not read back for {waits}; "
        );
        (Place::Feedback, waited, what)
    } else if signs.input() > upper {
        let what =
            format!("the shard's upper stands at {upper} for {waits}: closed time {upper} waits; ");
        (Place::Shard, waited, what)
    } else if !signs.is_hydrated() {
        let what =
            format!("the contents below the shard's upper {upper} do not come in for {waits}; ");
        (Place::Feedback, waited, what)
    } else if signs.unbound > 0 {
        let what = format!(
            "{} of the source wait for a time for {waits}; ",
            counted(signs.unbound, "unit")
        );
        (Place::Input, waited, what)
    } else {
        let silent = signs.silent().map_or(waited, |worker| worker.silent);
        (Place::Shard, silent, String::new())
    };
    let stopping = match signs.workers.iter().any(|worker| worker.stopping) {
        true => "; it was told to stop",
        false => "",
    };
    let (holder, who) = holder(signs);
    let who = if crate::mutant::on("stall_names_nobody") { String::new() } else { who };
    (Stuck::new(frontier, holder, Some(waited)), what + &who + stopping)
}

/// Whether it is the reading back that stands, if anything does: no commit waits for it.
fn only_reads(signs: &Signs) -> bool {
    !ought_to_move(signs) || (signs.is_reading_stalled() && !signs.is_stalled())
}

/// Returns what holds the frontier, and what it is in words.
fn holder(signs: &Signs) -> (Holder, String) {
    let (upper, output) = (signs.upper, signs.output());
    if let Some(silent) = signs.silent() {
        let (worker, time) = (silent.worker, seconds(silent.silent));
        return (Place::Stash.into(), format!("worker {worker} has not run for {time}"));
    }
    // Where the operator has run ahead of the reader, it is not the reader that the upper waits for.
    let reader_holds = output <= upper || only_reads(signs);
    let behind =
        |worker: &&WorkerSigns| !worker.hydrated || (reader_holds && worker.read_to < upper);
    let reader = signs.workers.iter().filter(behind).min_by_key(|worker| worker.read_to);
    if let Some(WorkerSigns { worker, read_to, .. }) = reader {
        let parts = parts(signs.workers.iter().filter(behind));
        let who = format!(
            "the feedback frontier is {read_to}, behind the shard's upper {upper}: held by the \
             reader of worker {worker} ({parts})"
        );
        return (Place::Feedback.into(), who);
    }
    if signs.role == Role::Standby {
        let who = "no writer: this is a standby, and nobody else appends";
        return (Holder::of(Place::Output, "a writer"), who.into());
    }
    if signs.unbound > 0 && signs.input() <= upper {
        return (Place::Input.into(), "nobody binds the next time".into());
    }
    if output <= upper {
        let holds = |worker: &&WorkerSigns| worker.least.is_some_and(|least| least <= upper);
        let held = signs.workers.iter().filter(holds).min_by_key(|worker| worker.least);
        return match (held, signs.others()) {
            // Every reader of this process has read it.
            (Some(WorkerSigns { complete, .. }), Some(others)) if *complete < upper => {
                let who = format!(
                    "the feedback frontier is {complete}, behind the shard's upper {upper}: held by \
                     the reader of {others}"
                );
                (Holder::of(Place::Feedback, others), who)
            }
            // Every worker of this process runs, so it is another's that does not take its rows.
            (Some(WorkerSigns { worker, arrived, .. }), Some(others)) if *arrived <= upper => {
                let who = format!(
                    "the output frontier is {output}: the input of the upsert operator of worker \
                     {worker} has come to {arrived}, held by the rows on their way to {others}"
                );
                (Holder::of(Place::Stash, others), who)
            }
            (Some(worker), _) => (Place::Stash.into(), operator(worker, output, upper)),
            (None, Some(others)) => {
                let who = format!("the output frontier is {output}, held by {others}");
                (Holder::of(Place::Stash, others), who)
            }
            (None, None) => {
                let who = format!("the output frontier is {output}, which no operator here holds");
                (Place::Stash.into(), who)
            }
        };
    }
    sink(signs, output)
}

/// Says what the operator of a worker holds the output with.
fn operator(signs: &WorkerSigns, output: u64, upper: u64) -> String {
    let WorkerSigns { worker, stash_rows, complete, parts_writing, least, .. } = signs;
    let WorkerSigns { ahead, ahead_max, cold_waiting, cold_waits, .. } = signs;
    let ahead = match ahead {
        0 => String::new(),
        bytes => format!("; {bytes} of {ahead_max} bytes emitted ahead of that"),
    };
    let cold = match cold_waiting {
        0 => String::new(),
        reads => {
            let (rows, waits) = (counted(*reads, "row"), seconds(*cold_waits));
            format!("; {rows} of its state's file do not come in for {waits}")
        }
    };
    format!(
        "the output frontier is {output}, held by the upsert operator of worker {worker} (stash: \
         {}, least time {}; feedback complete to {complete}{ahead}{cold}; {} being written)",
        counted(*stash_rows, "command"),
        least.unwrap_or(upper),
        counted(*parts_writing, "part"),
    )
}

/// Says what the sink holds the shard's upper with.
fn sink(signs: &Signs, output: u64) -> (Holder, String) {
    let time = seconds(signs.measured.in_flight);
    let writes = signs.workers.iter().find(|worker| worker.parts_writing > 0);
    let here = || Holder::from(Place::Output);
    let (holder, what) = match (signs.interval(), writes) {
        (Some(Interval { lower, upper, appending: true }), _) => {
            (here(), format!(" (append of [{lower}, {upper}) in flight for {time})"))
        }
        (Some(Interval { lower, upper, .. }), Some(WorkerSigns { worker, parts_writing, .. })) => {
            let parts = counted(*parts_writing, "part");
            let what = format!(
                " ([{lower}, {upper}) named {time} ago; worker {worker} still writes {parts})"
            );
            (here(), what)
        }
        (Some(Interval { lower, upper, .. }), None) => {
            let others = signs.others();
            let answers = match &others {
                Some(others) => format!("{others} has not answered"),
                None => "not every worker has answered".to_string(),
            };
            let what = format!(" ([{lower}, {upper}) named {time} ago; {answers})");
            (others.map_or_else(here, |others| Holder::of(Place::Output, others)), what)
        }
        (None, _) if signs.workers.iter().any(|worker| worker.worker == 0) => {
            (here(), ", which names no interval".into())
        }
        (None, _) => (Holder::of(Place::Output, "process 0"), " of process 0".into()),
    };
    (holder, format!("the output frontier is {output}: held by the sink{what}"))
}

/// Says which operator waits for rows that are not in memory, if one does.
fn cold(signs: &Signs) -> Option<String> {
    let WorkerSigns { worker, cold_waiting, cold_waits, .. } = signs.waits_for_rows()?;
    let none = match *cold_waits {
        Duration::ZERO => String::new(),
        waits => format!(", of which none has come for {}", seconds(waits)),
    };
    Some(format!(
        "the upsert operator of worker {worker} waits for {} of its state's file{none}",
        counted(*cold_waiting, "row"),
    ))
}

fn parts<'a>(workers: impl Iterator<Item = &'a WorkerSigns>) -> String {
    let (read, found) = workers.fold((0, 0), |(read, found), worker| {
        (read + worker.parts_read, found + worker.parts_found)
    });
    format!("{read} of {found} parts read")
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
