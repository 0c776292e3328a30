//! Owns lines that are the value itself, whose key is some of its members: `{"id":1,"name":"x"}` with
//! `--key id`. Pure.
//!
//! No member has a meaning of its own, `ts` and `closed` neither.

use super::said::Said;
use super::tools::Tools;
use crate::codec::Json;
use crate::connect::lines::row::Bad;

/// Returns what a line says.
pub(super) fn line(line: &[u8], tools: &mut Tools) -> Result<Said, Bad> {
    let Some(value) = tools.object(line)?.map(Json::from_canonical) else {
        return Ok(Said::Nothing);
    };
    let (key, value) = tools.shaper.row(None, Some(value))?;
    Ok(Said::row(key, value))
}
