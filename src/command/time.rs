//! Owns what a time may be: every `u64` but the greatest, because a time is closed by the one after
//! it; and the time of a message. It does not own the making of times.
//!
//! An *upper* may be `u64::MAX`: every time there is lies below it, and nothing more can be appended.

use std::any::Any;

use timely::dataflow::operators::{Capability, InputCapability};
use timely::order::TotalOrder;
use timely::progress::Timestamp;

use crate::error::{Error, ErrorKind};

/// Returns the first time after a command's: its end.
///
/// # Errors
///
/// `Invalid` for `u64::MAX`, which has none, so that a command there would never be whole.
pub(crate) fn after(time: u64) -> Result<u64, Error> {
    let last = crate::mutant::on("end_saturates").then_some(u64::MAX);
    time.checked_add(1).or(last).ok_or_else(refused)
}

/// Whether a time is one that no command may have. Only `u64` is known to have such.
pub(crate) fn is_last<T: 'static>(time: &T) -> bool {
    (time as &dyn Any).downcast_ref() == Some(&u64::MAX) && !crate::mutant::on("end_saturates")
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

/// Returns the least time of a message.
///
/// # Errors
///
/// `Invalid` for a message that was sent under no capability. It may come after the frontier has
/// passed the times of its rows, so these times may be closed already.
pub(crate) fn least<T: Timestamp + TotalOrder>(message: &InputCapability<T>) -> Result<&T, Error> {
    message.least().ok_or_else(untimed)
}

/// Returns a capability for the least time of a message, at an output.
///
/// # Errors
///
/// As [`least`].
pub(crate) fn retain<T: Timestamp + TotalOrder>(
    message: &InputCapability<T>,
    output: usize,
) -> Result<Capability<T>, Error> {
    message.retain_least(output).ok_or_else(untimed)
}

/// The error of a message whose stamp is empty.
fn untimed() -> Error {
    Error::new(ErrorKind::Invalid, "a message without a time: it was sent under no capability")
        .hint("send rows with a capability for their time, not with an empty capability set")
}
