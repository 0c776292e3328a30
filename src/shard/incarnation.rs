//! Owns the incarnation of a root: the object `INCARNATION`, its bytes, and its making. When it is
//! looked at is [`guard`](crate::store)'s.
//!
//! ```text
//! {"incarnation":"<32 hex digits>"}
//! crc32c <8 hex digits>
//! ```
//!
//! It is created if absent, by the first writer that finds a root without one: right after `FORMAT`
//! in a new root, and at the first opening for writing of a root that is older than incarnations. A
//! creation that was interrupted in between is such a root, too. The loser of the race takes the
//! winner's; it never changes after that. A reader makes none: until a writer has come it goes by the
//! log alone.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::entry::Entry;
use super::format::{checked_line, with_checksum};
use super::state::State;
use super::token::Token;
use crate::error::{Error, ErrorKind};
use crate::io::Io;
use crate::store::{Blob, Consensus, Create, Guarded, INCARNATION_KEY};

const WHAT: &str = "INCARNATION file";

#[derive(Debug, Serialize, Deserialize)]
struct Line {
    incarnation: Token,
}

/// Encodes the file of an incarnation.
///
/// # Panics
///
/// Never: a string always is JSON.
pub fn encode(incarnation: Token) -> Vec<u8> {
    let line = serde_json::to_string(&Line { incarnation }).expect("a string is JSON");
    with_checksum(line)
}

/// Decodes it.
///
/// # Errors
///
/// `Corrupt` for damage; `Unsupported` for a later kind.
pub fn decode(bytes: &[u8]) -> Result<Token, Error> {
    let line = checked_line(WHAT, bytes)?;
    match serde_json::from_str(line) {
        Ok(Line { incarnation }) => Ok(incarnation),
        // Intact, but not of our shape.
        Err(e) => Err(Error::new(ErrorKind::Unsupported, "an unknown kind of incarnation")
            .hint("use a newer version of the program")
            .because(e)),
    }
}

/// Finds out which root this is, for a reader: one of a root that has no incarnation makes none.
pub(super) async fn meet(root: &Guarded) -> Result<(), Error> {
    let found = read(&*root.blob()).await?;
    root.name(found)
}

/// Finds out which root this is, for a writer, and gives it an incarnation if it has none.
pub(super) async fn establish(root: &Guarded, io: &Io) -> Result<(), Error> {
    let blob = root.blob();
    if let Some(found) = read(&*blob).await? {
        return root.name(Some(found));
    }
    let made = Bytes::from(encode(Token(io.token())));
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
