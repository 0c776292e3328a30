//! Owns `export`: the rows of a collection, or its changes, as a table of keys and values in JSON text. It does not own the
//! bytes of a format: JSON lines are `text`'s, the others `csv`'s and `parquet`'s.

#[cfg(feature = "export")]
mod csv;
#[cfg(feature = "export")]
mod parquet;
mod table;

use std::io::{BufWriter, Write};
use std::path::Path;

use differential_upsert::shard::Handle;
use differential_upsert::{Error, ErrorKind};

use crate::args::{Between, Format};
use crate::changes::{Changed, Pairing};
use crate::open::{Look, unwritable};
use crate::snapshot::{last_final, sorted};
use crate::tail::later;
use crate::text::{Form, one_each};
use table::{Kind, opened};

/// Writes what was asked for, to standard output or to a file that appears when it is whole, in place of one of its name. That
/// it replaces something is said on stderr.
pub(crate) async fn export(
    look: &Look<'_>,
    what: (Format, Option<u64>, Option<Between>),
    file: Option<&Path>,
    out: &mut (impl Write + Send),
) -> Result<(), Error> {
    let Some(path) = file else { return table(look, what, out).await };
    let failed = |e: std::io::Error| {
        Error::new(ErrorKind::Unavailable, format!("cannot write the file: {e}"))
            .at(path.display().to_string())
            .hint("choose another, or make room")
            .because(e)
    };
    let replaces = replaces(path)?;
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    let mut builder = tempfile::Builder::new();
    builder.prefix(".export-");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let whole = builder.tempfile_in(folder.unwrap_or(Path::new("."))).map_err(failed)?;
    let mut out = BufWriter::new(whole);
    table(look, what, &mut out).await?;
    let whole = out.into_inner().map_err(|e| failed(e.into_error()))?;
    whole.as_file().sync_all().map_err(failed)?;
    whole.persist(path).map_err(|e| failed(e.error))?;
    if replaces {
        eprintln!("note: {} was there already, and is replaced", path.display());
    }
    Ok(())
}

/// Whether there is a file with something in it. A directory or a device is not replaced.
fn replaces(path: &Path) -> Result<bool, Error> {
    let Ok(there) = path.metadata() else { return Ok(false) };
    if there.is_file() {
        return Ok(there.len() > 0);
    }
    Err(Error::new(ErrorKind::Invalid, "--out names no file")
        .at(path.display().to_string())
        .hint("name one, or leave it out for standard output"))
}

async fn table(
    look: &Look<'_>,
    (format, as_of, changes): (Format, Option<u64>, Option<Between>),
    out: &mut (impl Write + Send),
) -> Result<(), Error> {
    let shard = look.open().await?;
    let kind = if changes.is_some() { Kind::Changes } else { Kind::Rows };
    match changes {
        None => {
            let as_of = as_of.or_else(|| last_final(&shard));
            let rows = match as_of {
                Some(as_of) => Some(shard.stream(as_of).await?),
                None => None,
            };
            let form = look.form(&shard)?;
            let mut table = opened(format, kind, &form, out)?;
            if let Some(rows) = rows {
                let (rows, _) = sorted(look, rows, &form, |_| true).await?;
                for row in one_each(rows.finish()?) {
                    row.and_then(|row| table.row(&row)).map_err(|e| e.at(look.url))?;
                }
            }
            table.finish()?;
        }
        Some(between) => {
            let times = times(look, &shard, between)?;
            let form = look.form(&shard)?;
            let mut table = opened(format, kind, &form, out)?;
            if let Some(times) = times {
                let table = &mut *table;
                let mut each =
                    |changed: &Changed| table.change(changed).map_err(|e| e.at(look.url));
                changed(look, &shard, times, &form, &mut each).await?;
            }
            table.finish()?;
        }
    }
    out.flush().map_err(unwritable)
}

/// Hands over the changes of an interval.
async fn changed(
    look: &Look<'_>,
    shard: &Handle,
    times: (u64, u64),
    form: &Form,
    each: &mut impl FnMut(&Changed) -> Result<(), Error>,
) -> Result<(), Error> {
    let (mut pairing, state) = (Pairing::default(), shard.state());
    later(look, shard, &state, times, form, |row| pairing.take(row, each)).await?;
    pairing.finish(each)
}

/// Returns the interval of the changes after one time, up to another; none if the shard has no time.
fn times(
    look: &Look<'_>,
    shard: &Handle,
    Between { from, to }: Between,
) -> Result<Option<(u64, u64)>, Error> {
    let state = shard.state();
    let (since, upper) = (state.since, state.upper);
    if upper == 0 && from.is_none() && to.is_none() {
        return Ok(None);
    }
    let wrong = |what: String, hint: &str| {
        let what = format!("{what}: since is {since}, upper is {upper}");
        Err(Error::new(ErrorKind::Invalid, what).at(look.url).hint(hint))
    };
    for time in [from, to].into_iter().flatten() {
        if time < since || time >= upper {
            let what = format!("no changes from or to {time}");
            return wrong(what, "ask for times from since to below upper");
        }
    }
    match from {
        // What was before since is in the collection as of it, and no change any more.
        None if since > 0 => wrong(
            "no changes from the beginning".to_string(),
            "ask for those after a time: --changes FROM..TO",
        ),
        from => {
            let lower = from.map_or(0, |from| from.saturating_add(1));
            let upper = to.map_or(upper, |to| to.saturating_add(1));
            Ok(Some((lower.min(upper), upper)))
        }
    }
}
