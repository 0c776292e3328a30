//! Owns what prints a collection as of one time: all of it for `snapshot`, the keys in error for `errors`. It does not own
//! how rows look.

use std::io::Write;

use differential_upsert::Error;
use differential_upsert::shard::{Handle, SnapshotStream, Update};

use crate::open::{Look, print};
use crate::sorted::{Bounds, Sorter};
use crate::text::{Form, one_each};

/// Prints the rows of the collection as of a time that are wanted.
pub(crate) async fn snapshot(
    look: &Look<'_>,
    as_of: Option<u64>,
    out: &mut impl Write,
    wanted: impl Fn(&Update) -> bool,
) -> Result<(), Error> {
    let shard = look.open().await?;
    let Some(as_of) = as_of.or_else(|| last_final(&shard)) else { return Ok(()) };
    let rows = shard.stream(as_of).await?;
    let form = look.form(&shard)?;
    let (rows, is_empty) = sorted(look, rows, &form, wanted).await?;
    if let (Some(name), true, false) = (look.collection, rows.is_empty(), is_empty) {
        eprintln!("note: no key is of the collection {name}; one of PostgreSQL is SCHEMA.TABLE");
    }
    for row in one_each(rows.finish()?) {
        let line = row.and_then(|row| form.snapshot(&row));
        print(out, &line.map_err(|e| e.at(look.url))?)?;
    }
    Ok(())
}

/// Returns the last time that is final; none if nothing is.
pub(crate) fn last_final(shard: &Handle) -> Option<u64> {
    shard.state().upper.checked_sub(1)
}

/// Reads all rows of a snapshot that are shown and wanted, and says whether there are none at all.
pub(crate) async fn sorted<'a>(
    look: &Look<'_>,
    mut rows: SnapshotStream,
    form: &'a Form,
    wanted: impl Fn(&Update) -> bool,
) -> Result<(Sorter<'a>, bool), Error> {
    let (mut sorter, mut is_empty) = (Sorter::new(form, Bounds::default()), true);
    while let Some(mut piece) = rows.next().await? {
        is_empty = false;
        look.progress.add(piece.len());
        piece.retain(&wanted);
        sorter.add(piece)?;
    }
    Ok((sorter, is_empty))
}
