//! Owns reading a shard for each command, in bounded steps, and writing what was read. It does not
//! own how rows look; that is `text` and `status`.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use differential_upsert::io::Io;
use differential_upsert::shard::{
    Access, Handle, HandleConfig, HandleOptions, MaintenanceStats, SnapshotStream, State, Update,
    verify,
};
use differential_upsert::store::{Root, probe};
use differential_upsert::{Error, ErrorKind};

use crate::args::Command;
use crate::sorted::{Bounds, Sorter};
use crate::status::{Seen, Status};
use crate::text::Form;

/// How long `tail` leaves a shard alone that has nothing new.
const POLL: Duration = Duration::from_millis(50);

/// How often `tail` reads a batch again because a collector took it.
const ATTEMPTS_MAX: u32 = 3;

/// The shard of a root that holds the collection.
const DATA: &str = "data";

/// The one that holds the bindings of times, where times are minted.
const REMAP: &str = "remap";

/// Runs a command and writes its output.
pub(crate) async fn run(command: &Command, io: &Io, out: &mut impl Write) -> Result<(), Error> {
    match command {
        Command::Status { url, text } => {
            let status = Status::of(&seen(url, io).await?);
            print(out, &if *text { status.text() } else { status.json() })?;
        }
        Command::Snapshot { url, as_of, collection } => {
            snapshot(url, *as_of, collection.as_deref(), io, out).await?;
        }
        Command::Tail { url, from, until, collection } => {
            tail(url, (*from, *until), collection.as_deref(), io, out).await?;
        }
        Command::Verify { url } => {
            let verified = verify(Root::open(url, Access::Read)?, io.clone()).await?;
            let line = serde_json::json!({
                "entries": verified.entries,
                "rollups": verified.rollups,
                "parts": verified.parts,
                "updates": verified.updates,
                "bytes": verified.bytes,
                "orphans": verified.orphans,
                "unknown": verified.unknown,
            });
            print(out, &line.to_string())?;
        }
        Command::Compact { url } => print(out, &mend(url, false, io).await?)?,
        Command::Gc { url, end_lease } => {
            if let Some(id) = end_lease {
                end(url, id, io).await?;
            }
            print(out, &mend(url, true, io).await?)?;
            for lease in Status::of(&seen(url, io).await?).leases() {
                eprintln!(
                    "note: {lease}; if its holder is gone, `shard gc {url} --end-lease ID` ends it"
                );
            }
        }
        Command::Probe { url } => race(url, io, out).await?,
    }
    out.flush().map_err(unwritable)
}

/// Somebody waits for the answer: what the store does not say soon is an error.
fn limits() -> HandleConfig {
    HandleConfig { outage_max: Duration::from_secs(10), ..HandleConfig::default() }
}

async fn open(url: &str, name: &str, io: &Io) -> Result<Handle, Error> {
    let root = Root::open(url, Access::Read)?;
    Handle::open(root, io.clone(), HandleOptions::read(name).with_config(limits())).await
}

async fn seen(url: &str, io: &Io) -> Result<Seen, Error> {
    let data = open(url, DATA, io).await?.state();
    let remap = open(url, REMAP, io).await?.state();
    let files = Root::open(url, Access::Read)?.blob().list("", usize::MAX).await?;
    Ok(Seen { data, remap: (remap.seqno > 0).then_some(remap), files })
}

/// Ends a lease by its id, in whichever shard of the root it is.
async fn end(url: &str, id: &str, io: &Io) -> Result<(), Error> {
    let mut known = Vec::new();
    for name in [DATA, REMAP] {
        let state = open(url, name, io).await?.state();
        known.extend(state.leases.keys().map(ToString::to_string));
        let Some(token) = state.leases.keys().find(|token| token.to_string() == id) else {
            continue;
        };
        // It may have ended in between: then there is nothing left to do.
        writable(url, name, io).await?.end_lease(*token).await?;
        return Ok(());
    }
    let hint = match known.is_empty() {
        true => "no lease is held".to_string(),
        false => format!("the leases are {}", known.join(", ")),
    };
    Err(Error::new(ErrorKind::Invalid, format!("no lease {id}")).at(url).hint(hint))
}

async fn writable(url: &str, name: &str, io: &Io) -> Result<Handle, Error> {
    // Opened for reading first, so that nothing is created.
    Root::open(url, Access::Read)?;
    let root = Root::open(url, Access::Write)?;
    Handle::open(root, io.clone(), HandleOptions::write(name, None).with_config(limits())).await
}

/// Compacts or collects the shards of a root, and returns what was done as one JSON object.
async fn mend(url: &str, gc: bool, io: &Io) -> Result<String, Error> {
    let mut done = MaintenanceStats::default();
    for name in [DATA, REMAP] {
        // Opened for reading first, so that nothing is created.
        if open(url, name, io).await?.state().seqno > 0 {
            done += mend_one(url, name, gc, io).await?;
        } else if name == DATA {
            return Err(Error::new(ErrorKind::Missing, "no shard here")
                .at(url)
                .hint("check the address; only a writer creates a shard"));
        }
    }
    Ok(serde_json::json!({
        "compactions": done.compactions,
        "compactions_lost": done.compactions_lost,
        "bytes_read": done.bytes_read,
        "bytes_written": done.bytes_written,
        "entries_deleted": done.entries_deleted,
        "parts_deleted": done.parts_deleted,
        "orphans_deleted": done.orphans_deleted,
        "rollups_deleted": done.rollups_deleted,
        "leases_expired": done.leases_expired,
    })
    .to_string())
}

async fn mend_one(url: &str, name: &str, gc: bool, io: &Io) -> Result<MaintenanceStats, Error> {
    let shard = writable(url, name, io).await?;
    let done = if gc { shard.collect().await } else { shard.compact().await };
    // Its parts are in the log, or orphans: either way there is nothing to keep.
    let closed = shard.close().await;
    let done = done?;
    closed?;
    Ok(done)
}

async fn snapshot(
    url: &str,
    as_of: Option<u64>,
    collection: Option<&str>,
    io: &Io,
    out: &mut impl Write,
) -> Result<(), Error> {
    let shard = open(url, DATA, io).await?;
    let upper = shard.state().upper;
    let as_of = match as_of {
        Some(as_of) => as_of,
        // Nothing is final, so nothing is what there is.
        None if upper == 0 => return Ok(()),
        None => upper - 1,
    };
    let rows = shard.stream(as_of).await?;
    let form = form(url, &shard, collection)?;
    let (rows, is_empty) = sorted(rows, &form).await?;
    if let (Some(name), true, false) = (collection, rows.is_empty(), is_empty) {
        eprintln!("note: no key is of the collection {name}; one of PostgreSQL is SCHEMA.TABLE");
    }
    for line in form.snapshot(rows.finish()?) {
        print(out, &line.map_err(|e| e.at(url))?)?;
    }
    Ok(())
}

/// Reads all rows of a snapshot that are shown, and says whether there are none at all.
async fn sorted<'a>(mut rows: SnapshotStream, form: &'a Form) -> Result<(Sorter<'a>, bool), Error> {
    let (mut sorter, mut is_empty) = (Sorter::new(form, Bounds::default()), true);
    while let Some(piece) = rows.next().await? {
        is_empty = false;
        sorter.add(piece)?;
    }
    Ok((sorter, is_empty))
}

async fn tail(
    url: &str,
    (from, until): (Option<u64>, Option<u64>),
    collection: Option<&str>,
    io: &Io,
    out: &mut impl Write,
) -> Result<(), Error> {
    let shard = open(url, DATA, io).await?;
    // What is final now, or with `--until` what will be: then it waits for it.
    let (since, upper) = (shard.state().since, shard.state().upper);
    let end = until.map_or(upper, |until| until.saturating_add(1));
    let from = from.unwrap_or(since);
    if end == 0 || until.is_some() && reach(&shard, from).await?.is_none() {
        return Ok(());
    }
    let (since, upper) = (shard.state().since, shard.state().upper);
    if from < since || from >= upper {
        let what = format!("cannot begin at time {from}: since is {since}, upper is {upper}");
        let hint = match upper > since {
            true => format!("use --from with a time from {since} to {}", upper - 1),
            false => "wait for the first commit with --until".to_string(),
        };
        return Err(Error::new(ErrorKind::Invalid, what).at(url).hint(hint));
    }
    let rows = shard.stream(from).await?;
    // The first commit says what keys are.
    let form = form(url, &shard, collection)?;
    for row in sorted(rows, &form).await?.0.finish()? {
        print(out, &form.update(&row?).map_err(|e| e.at(url))?)?;
    }
    let mut next = from.saturating_add(1);
    while next < end {
        out.flush().map_err(unwritable)?;
        let Some(state) = reach(&shard, next).await? else { return Ok(()) };
        let upper = state.upper.min(end);
        later(&shard, &state, (next, upper), &form, |update| {
            print(out, &form.update(update).map_err(|e| e.at(url))?)
        })
        .await?;
        next = upper;
    }
    Ok(())
}

/// Returns how the rows of a shard are shown, of one collection if that is named.
fn form(url: &str, shard: &Handle, collection: Option<&str>) -> Result<Form, Error> {
    let form = Form::of_codec(&shard.schema().codec);
    match collection {
        None => Ok(form),
        Some(name) => form.of_collection(name).ok_or_else(|| {
            Error::new(ErrorKind::Invalid, "the keys are not JSON: they are of no collection")
                .at(url)
                .hint("leave --collection out")
        }),
    }
}

/// Waits until a time is final, and returns the state then; `None` if it never will be.
async fn reach(shard: &Handle, time: u64) -> Result<Option<Arc<State>>, Error> {
    loop {
        let state = shard.refresh().await?;
        if time < state.upper {
            return Ok(Some(state));
        }
        if state.sealed_at.is_some() {
            return Ok(None);
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Hands over the updates of an interval, in the order they are printed in, one batch sorted at a time, and one part in
/// memory: batches lie behind each other in time. Takes no lease: if a part is gone it goes on from
/// the newest state, which must still tell the rest apart.
async fn later(
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
                    rows => sorter.add(rows?)?,
                }
            }
            sorter.finish()?.try_for_each(|row| each(&row?))?;
            lower = batch.upper;
        }
        return Ok(());
    }
}

async fn race(url: &str, io: &Io, out: &mut impl Write) -> Result<(), Error> {
    // Opened for reading first, so that a mistyped path is not created.
    Root::open(url, Access::Read)?;
    let probed = probe(&Root::open(url, Access::Write)?, io).await?;
    let line = serde_json::json!({
        "sound": probed.is_sound(),
        "rounds": probed.rounds,
        "racers": probed.racers,
        "several_won": probed.several_won,
        "winner_lost": probed.winner_lost,
    });
    print(out, &line.to_string())?;
    if probed.is_sound() {
        return Ok(());
    }
    out.flush().map_err(unwritable)?;
    let what = "the store does not do create-if-absent: two writers could win the same commit";
    Err(Error::new(ErrorKind::Unsupported, what)
        .at(url)
        .hint("use a store with conditional writes"))
}

fn print(out: &mut impl Write, line: &str) -> Result<(), Error> {
    writeln!(out, "{line}").map_err(unwritable)
}

fn unwritable(e: std::io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, format!("cannot write the output: {e}"))
        .at("stdout")
        .hint("send it to where there is room")
        .because(e)
}
