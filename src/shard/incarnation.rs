//! Owns the making of a root's incarnation, the object `INCARNATION`. Its bytes are
//! [`engine::incarnation`](super::engine::incarnation)'s, when it is looked at is
//! [`guard`](crate::store)'s.
//!
//! It is created if absent, by the first writer that finds a root without one: right after `FORMAT`
//! in a new root, and at the first opening for writing of a root that is older than incarnations. A
//! creation that was interrupted in between is such a root, too. The loser of the race takes the
//! winner's; it never changes after that, but for its spelling when the layout of a directory becomes another. A
//! reader makes none: until a writer has come it goes by the log alone.

use bytes::Bytes;

use super::engine::entry::Entry;
use super::engine::id::Id;
use super::engine::incarnation::{decode, encode};
use super::engine::state::State;
use crate::error::{Error, ErrorKind};
use crate::io::Io;
use crate::store::{Blob, Consensus, Create, Guarded, INCARNATION_KEY};

/// Finds out which root this is, for a reader: one of a root that has no incarnation makes none.
pub(super) async fn meet(root: &Guarded) -> Result<(), Error> {
    let found = read(&*root.blob()).await?;
    root.name(found)
}

/// Finds out which root this is, for a writer, and gives it an incarnation if it has none. One that is spelt for
/// another version of the layout is written anew: whoever went by that spelling stops.
pub(super) async fn establish(root: &Guarded, io: &Io, layout: u32) -> Result<(), Error> {
    let blob = root.blob();
    if let Some(found) = read(&*blob).await? {
        let spelt = Bytes::from(encode(decode(&found)?, layout));
        if spelt != found {
            // The same bytes, whichever of several writers comes last.
            blob.put(INCARNATION_KEY, spelt.clone()).await?;
            root.respell(&found, &spelt);
        }
        return root.name(Some(spelt));
    }
    let made = Bytes::from(encode(Id(io.token()), layout));
    let created = blob.create(INCARNATION_KEY, made.clone()).await;
    if let Ok(Create::Created) = created {
        return root.name(Some(made));
    }
    // Anything else is settled by what is there now.
    match read(&*blob).await? {
        Some(found) => root.name(Some(found)),
        None => Err(created.err().unwrap_or_else(|| {
            Error::new(ErrorKind::Indeterminate, "the INCARNATION file could not be created")
                .at(blob.place(INCARNATION_KEY))
                .hint("retry")
        })),
    }
}

/// Says whether a root that had no incarnation is still the same, now that it has one: as far as its
/// log goes, for a root that was made anew lacks our entries.
pub(super) async fn recognise(
    root: &Guarded,
    log: &dyn Consensus,
    state: &State,
    floor: u64,
) -> Result<(), Error> {
    // Collected meanwhile, or never seen: there is nothing to compare.
    if state.seqno > floor {
        let entry = log.get(state.seqno).await?;
        let token = entry.map(|bytes| Entry::token_of(state.seqno, &bytes));
        if !token.is_some_and(|token| token.is_ok_and(|token| token == state.token)) {
            return Err(root.replaced());
        }
    }
    root.recognise();
    Ok(())
}

async fn read(blob: &dyn Blob) -> Result<Option<Bytes>, Error> {
    let Some(bytes) = blob.get(INCARNATION_KEY).await? else { return Ok(None) };
    decode(&bytes).map_err(|e| e.at(blob.place(INCARNATION_KEY)))?;
    Ok(Some(bytes))
}
