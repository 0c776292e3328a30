//! Owns why a run of a trace stopped: the error that a type is told. It does not own what comes of it.

use std::fmt;

/// Why a run stopped; with the name of a field that came twice, if it was that. Nobody sees it.
#[derive(Debug)]
pub(super) struct Stopped(pub(super) Option<&'static str>);

pub(super) const STOPPED: Stopped = Stopped(None);

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the trace of a type stopped")
    }
}

impl std::error::Error for Stopped {}

impl serde::de::Error for Stopped {
    fn custom<T: fmt::Display>(_: T) -> Stopped {
        STOPPED
    }

    fn duplicate_field(field: &'static str) -> Stopped {
        Stopped(Some(field))
    }
}
