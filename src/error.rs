//! Owns the one error type of the crate: what happened, where, and what to do about it.
//!
//! It does not own outcomes that are normal. A lost race is a value
//! ([`Appended`](crate::shard::Appended)), never an [`Error`].

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

/// What the caller should do about an [`Error`], in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The call or the input is wrong: fix it and call again.
    Invalid,
    /// There is nothing at the named place.
    Missing,
    /// The store cannot be reached or refuses: mend it and retry. Nothing was decided.
    Unavailable,
    /// The store refuses for good: room, permission or the bucket is lacking. Nothing happened:
    /// change that and start again.
    Refused,
    /// It may or may not have happened: read the shard's upper, then decide.
    Indeterminate,
    /// Stored bytes, or the contents they describe, are damaged: stop.
    Corrupt,
    /// The stored format, codec or types are not ones that this program reads.
    Unsupported,
    /// A newer writer has taken over: stop.
    Fenced,
    /// The commands are not those that the shard was made from: stop, and give it its own feed.
    FeedDiffers,
    /// A lease on the shard has run out, and what it kept is gone: history that was yet to be read, or
    /// parts that were yet to be committed. Start again from the contents.
    LeaseLost,
    /// What an operator keeps of its state beside the memory cannot be read back, and its image is removed. The shard has
    /// all of it: start again, from the contents.
    StateLost,
    /// The shard was removed, or removed and made anew, under this process: stop. What was yet to be
    /// settled went with it.
    Replaced,
    /// It was told to stop before it was done.
    Stopped,
}

/// What happened, where, and what to do; displayed as `WHAT at WHERE; DO`, and as `Debug` too: so it reads well where
/// `fn main() -> Result<(), Error>` ends with it.
///
/// ```
/// use differential_upsert::{Error, ErrorKind};
/// let error = Error::new(ErrorKind::Invalid, "missing \"key\"")
///     .at("feed.jsonl:7")
///     .hint("add the member or remove the line");
/// assert_eq!(error.to_string(), "missing \"key\" at feed.jsonl:7; add the member or remove the line");
/// assert_eq!(format!("{error:?}"), error.to_string());
/// assert_eq!(error.kind(), ErrorKind::Invalid);
/// ```
#[derive(Clone)]
pub struct Error {
    kind: ErrorKind,
    what: String,
    at: Option<String>,
    hint: Option<String>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Error {
    /// Creates an error from its kind and a lower-case clause that says what happened.
    pub fn new(kind: ErrorKind, what: impl Into<String>) -> Self {
        Error { kind, what: what.into(), at: None, hint: None, source: None }
    }

    /// Names the place: a file, an offset, a line of a feed. The innermost place given first stays.
    pub fn at(mut self, place: impl Into<String>) -> Self {
        self.at.get_or_insert_with(|| place.into());
        self
    }

    /// Says what the user can do. The first hint given stays.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint.get_or_insert_with(|| hint.into());
        self
    }

    /// Attaches the cause, which [`source`](StdError::source) then returns.
    pub fn because(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// Adds a clause to what happened.
    pub(crate) fn also(mut self, clause: impl fmt::Display) -> Self {
        self.what = format!("{}; {clause}", self.what);
        self
    }

    /// Says that the caller should do something else about it.
    pub(crate) fn of_kind(self, kind: ErrorKind) -> Self {
        Error { kind, ..self }
    }

    /// Returns what the caller should do about it.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Returns the place it names, if any.
    pub fn place(&self) -> Option<&str> {
        self.at.as_deref()
    }

    /// Returns what to do about it, if it says.
    pub fn advice(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Returns what happened, without the place and the hint.
    pub fn what(&self) -> &str {
        &self.what
    }
}

/// Refuses a value of a config that is below its range.
pub(crate) fn at_least<T: PartialOrd + fmt::Debug>(
    field: &str,
    value: T,
    least: T,
) -> Result<(), Error> {
    match value >= least {
        true => Ok(()),
        false => Err(Error::new(
            ErrorKind::Invalid,
            format!("{field} must be at least {least:?}, and is {value:?}"),
        )),
    }
}

/// Refuses two values of a config that are in the wrong order.
pub(crate) fn in_order<T: PartialOrd + fmt::Debug>(
    (lower, low): (&str, T),
    (upper, high): (&str, T),
) -> Result<(), Error> {
    match low <= high {
        true => Ok(()),
        false => Err(Error::new(
            ErrorKind::Invalid,
            format!("{lower} must not exceed {upper}, and is {low:?} against {high:?}"),
        )),
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if let Some(at) = &self.at {
            write!(f, " at {at}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "; {hint}")?;
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}
