//! Owns which command is run, and those that look at a root as a whole. The others are files of their own; how what is
//! printed looks is `text`'s, `status`'s and `people`'s.

use std::io::Write;

use differential_upsert::io::Io;
use differential_upsert::shard::{Access, MaintenanceStats, verify};
use differential_upsert::store::{Root, probe};
use differential_upsert::{Error, ErrorKind};

use crate::args::Command;
use crate::clear::clear_error;
use crate::diff::diff;
use crate::export::export;
use crate::log::log;
use crate::open::{DATA, Look, REMAP, nothing_here, open, print, unwritable, writable};
use crate::people;
use crate::snapshot::snapshot;
use crate::status::{Seen, Status};
use crate::tail::{Span, tail};
use crate::text::is_error;

/// Runs a command and writes its output.
pub(crate) async fn run(
    command: &Command,
    io: &Io,
    out: &mut (impl Write + Send),
) -> Result<(), Error> {
    match command {
        Command::Status { url, text } => {
            let seen = seen(url, io, *text).await?;
            let text = if *text { people::text(&seen) } else { Status::of(&seen).json() };
            print(out, &text)?;
        }
        Command::Snapshot { url, as_of, collection } => {
            let look = Look::new(url, io, collection.as_deref());
            snapshot(&look, *as_of, out, |_| true).await?;
        }
        Command::Tail { url, from, until, follow, collection } => {
            let span = Span { from: *from, until: *until, follow: *follow };
            tail(&Look::new(url, io, collection.as_deref()), span, out).await?;
        }
        Command::Diff { url, before, after, collection } => {
            let look = Look::new(url, io, collection.as_deref());
            diff(&look, (*before, *after), out).await?;
        }
        Command::Log { url, from, text } => {
            log(&Look::new(url, io, None), *from, *text, out).await?;
        }
        Command::Export { url, format, as_of, changes, collection, out: file } => {
            let look = Look::new(url, io, collection.as_deref());
            export(&look, (*format, *as_of, *changes), file.as_deref(), out).await?;
        }
        Command::Errors { url } => {
            snapshot(&Look::new(url, io, None), None, out, is_error).await?;
        }
        Command::ClearError { url, key } => {
            clear_error(&Look::new(url, io, None), key, out).await?;
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
            for lease in Status::of(&seen(url, io, false).await?).leases() {
                eprintln!(
                    "note: {lease}; if its holder is gone, `shard gc {url} --end-lease ID` ends it"
                );
            }
        }
        Command::Probe { url } => race(url, io, out).await?,
    }
    out.flush().map_err(unwritable)
}

/// Reads what a status says; the last entry, if that is wanted.
async fn seen(url: &str, io: &Io, wants_last: bool) -> Result<Seen, Error> {
    let shard = open(url, DATA, io).await?;
    let (data, schema) = (shard.state(), shard.schema());
    let last = match wants_last {
        true => shard.entries(data.seqno.max(1)).await?.next().await?,
        false => None,
    };
    let remap = open(url, REMAP, io).await?.state();
    let files = Root::open(url, Access::Read)?.blob().list("", usize::MAX).await?;
    let schema = (!schema.codec.is_empty()).then_some(schema);
    Ok(Seen { data, schema, last, remap: (remap.seqno > 0).then_some(remap), files })
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

/// Compacts or collects the shards of a root, and returns what was done as one JSON object.
async fn mend(url: &str, gc: bool, io: &Io) -> Result<String, Error> {
    let mut done = MaintenanceStats::default();
    for name in [DATA, REMAP] {
        // Opened for reading first, so that nothing is created.
        if open(url, name, io).await?.state().seqno > 0 {
            done += mend_one(url, name, gc, io).await?;
        } else if name == DATA {
            return Err(nothing_here(url));
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
