//! Owns changes: what a key had and has, made of the retractions and insertions that a shard stores. It does not know how
//! they look. Pure.

use differential_upsert::shard::Update;
use differential_upsert::{Encoded, Error};

use crate::text::not_once;

/// What became of a key at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Changed {
    pub(crate) key: Encoded,
    /// What is stored of the value before; none if there was none.
    pub(crate) before: Option<Encoded>,
    /// What is stored of the value after.
    pub(crate) after: Option<Encoded>,
    pub(crate) time: u64,
}

impl Changed {
    /// Returns what the change is called.
    pub(crate) fn op(&self) -> &'static str {
        match (&self.before, &self.after) {
            (None, _) => "insert",
            (Some(_), Some(_)) => "update",
            (Some(_), None) => "delete",
        }
    }
}

/// Rows in the order of time, key, and retraction before insertion, on their way into changes.
#[derive(Debug, Default)]
pub(crate) struct Pairing {
    /// What is known of the key and time of the last row.
    open: Option<Changed>,
}

impl Pairing {
    /// Takes the next row, and hands over the change that is complete by it, if one is.
    ///
    /// # Errors
    ///
    /// `Corrupt` if a key has two values at one time; else those of `each`.
    pub(crate) fn take(
        &mut self,
        ((key, value), time, diff): &Update,
        each: &mut impl FnMut(&Changed) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let is_next = |open: &&mut Changed| open.time == *time && open.key == *key;
        let (value, is_new) = (Some(value.clone()), *diff == 1);
        match self.open.as_mut().filter(is_next) {
            Some(open) if is_new && open.after.is_none() => {
                open.after = value;
                return Ok(());
            }
            Some(_) => return Err(not_once(*time)),
            None if *diff != 1 && *diff != -1 => return Err(not_once(*time)),
            None => {}
        }
        let (before, after) = if is_new { (None, value) } else { (value, None) };
        let next = Changed { key: key.clone(), before, after, time: *time };
        self.open.replace(next).map_or(Ok(()), |done| each(&done))
    }

    /// Hands over what is left.
    ///
    /// # Errors
    ///
    /// Those of `each`.
    pub(crate) fn finish(
        self,
        each: &mut impl FnMut(&Changed) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.open.map_or(Ok(()), |done| each(&done))
    }
}
