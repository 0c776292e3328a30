//! Owns what the signs of a pipeline add up to: its state, why, and which place of the loop holds it. It is pure: a
//! function of what was collected; it reads neither cells nor a clock.

use std::time::Duration;

use super::report::{HealthReport, HealthState, Role, seconds};
use super::seen::{Place, Stuck};
use super::signs::{Interval, Signs, WorkerSigns, ought_to_move};
use crate::error::ErrorKind;
use crate::source::Trouble;
use crate::store;

/// Says what a pipeline is doing, and why.
pub(super) fn judge(signs: &Signs) -> HealthReport {
    let (state, why) = state(signs);
    // It goes on, and what keeps it from going faster is to be seen all the same.
    let works = state != HealthState::Finished;
    let failing = signs.store.as_ref().filter(|trouble| trouble.failures > 0);
    let why = why.or_else(|| failing.filter(|_| works).map(store::Trouble::to_string));
    let trouble = || signs.trouble.as_ref().map(|trouble| trouble.what.clone());
    let why = why.or_else(|| trouble().or_else(|| signs.staged.why()).filter(|_| works));
    let (input, upper) = (signs.input(), signs.upper);
    HealthReport {
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
    }
}

/// Says which frontier stands and what holds it, where that is why a report says `stalled`.
#[cfg(any(test, feature = "http"))]
pub(super) fn pinned(signs: &Signs) -> Option<Stuck> {
    (state(signs).0 == HealthState::Stalled).then(|| stalled(signs)).flatten().map(|stuck| stuck.0)
}

fn state(signs: &Signs) -> (HealthState, Option<String>) {
    let (input, upper) = (signs.input(), signs.upper);
    // The reporting worker stands first, so its own error goes before another's.
    if let Some((worker, error)) =
        signs.workers.iter().find_map(|worker| Some((worker, worker.error.as_ref()?)))
    {
        let state = match error.kind() {
            ErrorKind::Fenced => HealthState::Fenced,
            _ => HealthState::Failed,
        };
        return (state, Some(format!("worker {}: {error}", worker.worker)));
    }
    let Some(worker) = signs.workers.first() else { return (HealthState::Finished, None) };
    if worker.released {
        let stopped = "it was told to stop before the end of its input";
        return (HealthState::Finished, (!worker.ended).then(|| stopped.into()));
    }
    if signs.workers.iter().any(|worker| worker.gone && !worker.released) {
        return (HealthState::Finished, Some("the dataflow was dropped before its end".into()));
    }
    if let Some((_, why)) = stalled(signs) {
        return (HealthState::Stalled, Some(why));
    }
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
            return Some((Stuck { holder: Place::Shard, ..stuck }, format!("{why}; {store}")));
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
        let what = format!("{} units of the source wait for a time for {waits}; ", signs.unbound);
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
    (Stuck::new(frontier, holder, Some(waited)), what + &who + stopping)
}

/// Whether it is the reading back that stands, if anything does: no commit waits for it.
fn only_reads(signs: &Signs) -> bool {
    !ought_to_move(signs) || (signs.is_reading_stalled() && !signs.is_stalled())
}

/// Returns the place of the loop that holds the frontier, and what it is.
fn holder(signs: &Signs) -> (Place, String) {
    let (upper, output) = (signs.upper, signs.output());
    if let Some(silent) = signs.silent() {
        let (worker, time) = (silent.worker, seconds(silent.silent));
        return (Place::Stash, format!("worker {worker} has not run for {time}"));
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
        return (Place::Feedback, who);
    }
    if signs.role == Role::Standby {
        return (Place::Shard, "no writer: this is a standby, and nobody else appends".into());
    }
    if signs.unbound > 0 && signs.input() <= upper {
        return (Place::Input, "nobody binds the next time".into());
    }
    if output <= upper {
        let holds = |worker: &&WorkerSigns| worker.least.is_some_and(|least| least <= upper);
        let who = match signs.workers.iter().filter(holds).min_by_key(|worker| worker.least) {
            Some(WorkerSigns {
                worker,
                stash_rows,
                complete,
                parts_writing,
                least,
                ahead,
                ahead_max,
                cold_waiting,
                cold_waits,
                ..
            }) => {
                let ahead = match ahead {
                    0 => String::new(),
                    bytes => format!("; {bytes} of {ahead_max} bytes emitted ahead of that"),
                };
                let cold = match cold_waiting {
                    0 => String::new(),
                    reads => {
                        let waits = seconds(*cold_waits);
                        format!("; {reads} rows of its state's file do not come in for {waits}")
                    }
                };
                format!(
                    "the output frontier is {output}, held by the upsert operator of worker \
                     {worker} (stash: {stash_rows} commands, least time {}; feedback complete to \
                     {complete}{ahead}{cold}; {parts_writing} parts being written)",
                    least.unwrap_or(upper),
                )
            }
            None => format!("the output frontier is {output}, held by another process"),
        };
        return (Place::Stash, who);
    }
    let time = seconds(signs.measured.in_flight);
    let writes = signs.workers.iter().find(|worker| worker.parts_writing > 0);
    let sink = match (signs.interval(), writes) {
        (Some(Interval { lower, upper, appending: true }), _) => {
            format!(" (append of [{lower}, {upper}) in flight for {time})")
        }
        (Some(Interval { lower, upper, .. }), Some(WorkerSigns { worker, parts_writing, .. })) => {
            format!(
                " ([{lower}, {upper}) named {time} ago; worker {worker} still writes \
                 {parts_writing} parts)"
            )
        }
        (Some(Interval { lower, upper, .. }), None) => {
            format!(" ([{lower}, {upper}) named {time} ago; not every worker has answered)")
        }
        (None, _) if signs.workers.iter().any(|worker| worker.worker == 0) => {
            ", which names no interval".into()
        }
        (None, _) => ", on the process of worker 0".into(),
    };
    (Place::Output, format!("the output frontier is {output}: held by the sink{sink}"))
}

/// Says which operator waits for rows that are not in memory, if one does.
fn cold(signs: &Signs) -> Option<String> {
    let WorkerSigns { worker, cold_waiting, cold_waits, .. } = signs.waits_for_rows()?;
    let none = match *cold_waits {
        Duration::ZERO => String::new(),
        waits => format!(", of which none has come for {}", seconds(waits)),
    };
    Some(format!(
        "the upsert operator of worker {worker} waits for {cold_waiting} rows of its state's file{none}"
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
