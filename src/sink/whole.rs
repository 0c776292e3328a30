//! Owns what follows from an append being whole or not at all, for those that say why it is not. It does not write or
//! append anything.

use crate::error::Error;

/// Says of an error which times wait with those that cannot be appended; nothing of them is lost.
pub(super) fn all_or_nothing(error: Error, lower: u64, upper: u64) -> Error {
    match upper - lower {
        0 | 1 => error,
        _ if crate::mutant::on("waits_unsaid") => error,
        _ => error.also(format_args!("nothing of times [{lower}, {upper}) is appended")),
    }
}
