//! Owns what a time may be: every `u64` but the greatest, because a time is closed by the one after
//! it. It does not own the making of times.
//!
//! An *upper* may be `u64::MAX`: every time there is lies below it, and nothing more can be appended.

use std::any::Any;

use crate::error::{Error, ErrorKind};

/// Returns the first time after a command's: its end.
///
/// # Errors
///
/// `Invalid` for `u64::MAX`, which has none, so that a command there would never be whole.
pub(crate) fn after(time: u64) -> Result<u64, Error> {
    time.checked_add(1).ok_or_else(refused)
}

/// Whether a time is one that no command may have. Only `u64` is known to have such.
pub(crate) fn is_last<T: 'static>(time: &T) -> bool {
    (time as &dyn Any).downcast_ref() == Some(&u64::MAX)
}

/// The error of a command at the last time.
pub(crate) fn refused() -> Error {
    Error::new(ErrorKind::Invalid, format!("a command at time {}, which nothing closes", u64::MAX))
        .hint("give commands times below it")
}

/// The error of a row that cannot be given a time, since the next one would be the last.
pub(crate) fn used_up() -> Error {
    let what = format!("no time is left for more rows: the next one would be {}", u64::MAX);
    Error::new(ErrorKind::Invalid, what).hint("use another shard, and look at the clock")
}
