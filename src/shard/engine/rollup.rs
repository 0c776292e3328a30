//! Owns the bytes of a rollup: one whole [`State`] as JSON in a frame. When rollups are written is
//! `settle`'s.

use super::frame::{self, damaged};
use super::id::Id;
use super::state::State;
use crate::error::{Error, ErrorKind};

const MAGIC: &[u8; 8] = b"DUPSROL\n";
/// Version 2 has shapes, version 1 none.
const VERSION: u16 = 2;
const WHAT: &str = "rollup";

/// Encodes a state.
///
/// # Errors
///
/// `Invalid` if it has 4 GiB or more.
pub fn encode(state: &State) -> Result<Vec<u8>, Error> {
    let json = serde_json::to_vec(state)
        .map_err(|e| Error::new(ErrorKind::Invalid, "a state that JSON cannot hold").because(e))?;
    // A program that does not know shapes would write its next rollup without them.
    let version = if state.shapes.is_empty() { 1 } else { VERSION };
    frame::encode(MAGIC, version, &json, &[])
}

/// Decodes the state after entry `seqno`, whose token is `token`.
///
/// # Errors
///
/// `Corrupt` for damage, and for another state than its name says; `Unsupported` for a version that
/// this program does not know.
pub fn decode(seqno: u64, token: Id, bytes: &[u8]) -> Result<State, Error> {
    let (json, raw) = frame::decode(MAGIC, VERSION, WHAT, bytes)?;
    let state: State = serde_json::from_slice(json).map_err(|e| damaged(WHAT, &e))?;
    if !raw.is_empty() || state.seqno != seqno || state.token != token {
        return Err(damaged(WHAT, format!("it holds the state of entry {}", state.seqno)));
    }
    if state.since > state.upper {
        let (since, upper) = (state.since, state.upper);
        return Err(damaged(WHAT, format!("since {since} beyond upper {upper}")));
    }
    Ok(state)
}

/// Returns the key of a rollup of a shard.
pub fn key(shard: &str, seqno: u64, token: Id) -> String {
    format!("{shard}/rollup/{seqno:020}-{token}")
}

/// Returns the number and the token that a rollup's key names.
pub fn parse_key(key: &str) -> Option<(u64, Id)> {
    let (seqno, token) = key.rsplit('/').next()?.split_once('-')?;
    Some((seqno.parse().ok()?, token.parse().ok()?))
}
