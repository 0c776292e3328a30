//! Owns `tail`: a collection as of one time, and the updates after it as they become final, up to where it is to end. It
//! does not own how rows look.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use differential_upsert::io::Io;
use differential_upsert::shard::{Handle, State, Update};
use differential_upsert::{Error, ErrorKind};
use tokio_util::sync::CancellationToken;

use crate::open::{Look, print, unwritable};
use crate::snapshot::sorted;
use crate::sorted::{Bounds, Sorter};
use crate::stop;
use crate::text::Form;

/// How long a shard is left alone that had something new just now.
const POLL_MIN: Duration = Duration::from_millis(50);

/// How long one is left alone that has nothing new for long: a look is a list on an object store.
const POLL_MAX: Duration = Duration::from_secs(1);

/// How often a batch is read again because a collector took it.
const ATTEMPTS_MAX: u32 = 3;

/// What of a shard is printed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    /// The time to begin with; none is the first that can be read.
    pub(crate) from: Option<u64>,
    /// The last time.
    pub(crate) until: Option<u64>,
    /// Whether it goes on as the shard does.
    pub(crate) follow: bool,
}

/// Prints updates until it is to end. One that follows ends well at a signal, with whole times alone.
pub(crate) async fn tail(look: &Look<'_>, span: Span, out: &mut impl Write) -> Result<(), Error> {
    let stop = CancellationToken::new();
    if span.follow {
        stopped_by_signals(look.io, &stop);
    }
    match until_told(look, span, &stop, out).await {
        Err(e) if e.kind() == ErrorKind::Stopped => Ok(()),
        done => done,
    }
}

fn stopped_by_signals(io: &Io, stop: &CancellationToken) {
    match stop::on_signals(stop.clone()) {
        Ok(signals) => drop(io.spawn(signals)),
        Err(e) => eprintln!("warning: signals end the process at once: {e}"),
    }
}

async fn until_told(
    look: &Look<'_>,
    Span { from, until, follow }: Span,
    stop: &CancellationToken,
    out: &mut impl Write,
) -> Result<(), Error> {
    let (url, shard) = (look.url, stop::or(stop, look.open()).await?);
    let end = match until {
        // What is final now, or what will be: then it waits for it.
        None if !follow => shard.state().upper,
        until => until.map_or(u64::MAX, |until| until.saturating_add(1)),
    };
    let waits = follow || until.is_some();
    let first = from.unwrap_or(shard.state().since);
    if end == 0 || waits && stop::or(stop, reach(&shard, first)).await?.is_none() {
        return Ok(());
    }
    let (since, upper) = (shard.state().since, shard.state().upper);
    // The first commit may have left only its last times to be read.
    let from = from.unwrap_or_else(|| until.map_or(since, |until| until.min(since)));
    if from < since || from >= upper {
        let what = format!("cannot begin at time {from}: since is {since}, upper is {upper}");
        let hint = match upper > since {
            true => format!("use --from with a time from {since} to {}", upper - 1),
            false => "wait for the first commit with --until".to_string(),
        };
        return Err(Error::new(ErrorKind::Invalid, what).at(url).hint(hint));
    }
    let form = look.form(&shard)?;
    let collection = async {
        let rows = shard.stream(from).await?;
        sorted(look, rows, &form, |_| true).await?.0.finish()
    };
    for row in stop::or(stop, collection).await? {
        print(out, &form.update(&row?).map_err(|e| e.at(url))?)?;
    }
    let (mut next, mut last) = (from.saturating_add(1), from);
    while next < end {
        out.flush().map_err(unwritable)?;
        let Some(state) = stop::or(stop, reach(&shard, next)).await? else { return Ok(()) };
        let upper = state.upper.min(end);
        let later = later(look, &shard, &state, (next, upper), &form, |update| {
            if stop.is_cancelled() && update.1 > last {
                return Err(stop::stopped());
            }
            last = update.1;
            print(out, &form.update(update).map_err(|e| e.at(url))?)
        });
        stop::or(stop, later).await?;
        next = upper;
    }
    Ok(())
}

/// Waits until a time is final, and returns the state then; `None` if it never will be.
async fn reach(shard: &Handle, time: u64) -> Result<Option<Arc<State>>, Error> {
    let (mut pause, mut seen) = (POLL_MIN, shard.state().seqno);
    loop {
        let state = shard.refresh().await?;
        if time < state.upper {
            return Ok(Some(state));
        }
        if state.sealed_at.is_some() {
            return Ok(None);
        }
        if state.seqno > seen {
            (pause, seen) = (POLL_MIN, state.seqno);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(POLL_MAX);
    }
}

/// Hands over the updates of an interval, in the order they are printed in, one batch sorted at a time, and one part in
/// memory: batches lie behind each other in time. Takes no lease: if a part is gone it goes on from
/// the newest state, which must still tell the rest apart.
pub(crate) async fn later(
    look: &Look<'_>,
    shard: &Handle,
    state: &Arc<State>,
    (mut lower, upper): (u64, u64),
    form: &Form,
    mut each: impl FnMut(&Update) -> Result<(), Error>,
) -> Result<(), Error> {
    let (mut state, mut attempts) = (Arc::clone(state), 1);
    'from_here: loop {
        if !state.tells_apart(lower) {
            let what = format!("time {lower} has been merged with those before it meanwhile");
            return Err(Error::new(ErrorKind::LeaseLost, what)
                .hint("begin again, or have the shard keep more history"));
        }
        let batches = state.batches.iter().filter(|b| b.lower < upper && lower < b.upper);
        for batch in batches.cloned().collect::<Vec<_>>() {
            let mut sorter = Sorter::new(form, Bounds::default());
            for part in &batch.parts {
                let (from, until) = (batch.lower.max(lower), batch.upper.min(upper));
                match shard.fetch(part, from, until).await {
                    Err(e) if e.kind() == ErrorKind::Missing && attempts < ATTEMPTS_MAX => {
                        attempts += 1;
                        state = shard.refresh().await?;
                        continue 'from_here;
                    }
                    rows => {
                        let rows = rows?;
                        look.progress.add(rows.len());
                        sorter.add(rows)?;
                    }
                }
            }
            sorter.finish()?.try_for_each(|row| each(&row?))?;
            lower = batch.upper;
        }
        return Ok(());
    }
}
