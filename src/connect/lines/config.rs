//! Owns what a reading of lines is told: which feed, what its lines are, and what happens at a bad one.
//! It does not own reading.

use std::num::NonZeroU64;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::input::{Input, is_stream};
use crate::connect::debezium::OnUnavailable;
use crate::connect::on_error::OnError;
use crate::error::{Error, ErrorKind};
use crate::input::blocking::sleep;
use crate::pace::Pace;
use crate::source::SourceStats;

/// How long a followed feed is left alone after its end was reached, while it grows and at rest.
const POLL: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Returns the pauses between looks at what a followed feed may have got.
pub(super) fn pace() -> Pace {
    Pace::new(POLL.0, POLL.1)
}

/// Waits for the next look, unless told to stop.
pub(super) fn rest(pace: &mut Pace, stop: &CancellationToken) -> Result<(), Error> {
    let pause = pace.pause();
    sleep(pause, stop)?;
    pace.rest(pause);
    Ok(())
}

/// What the value of a row is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// The key's value, or null for a delete.
    #[default]
    Json,
    /// A Debezium envelope, or null for a delete; times are minted.
    Debezium,
}

/// What a second snapshot in a Debezium feed does to rows that it does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Resnapshot {
    /// They stay, with a warning.
    #[default]
    Keep,
    /// They go, in one step with the rows that the snapshot has. The feed must be of one table.
    Replace,
}

/// What to read, and how.
#[derive(Clone, Debug)]
pub(super) struct Config {
    /// A path, or `-`; of a reader, the name in messages.
    pub(super) path: String,
    /// Whether it is a reader, which is given away once.
    pub(super) is_reader: bool,
    pub(super) format: Format,
    pub(super) resnapshot: Resnapshot,
    pub(super) on_unavailable: OnUnavailable,
    pub(super) follow: bool,
    pub(super) on_error: OnError,
    /// Lines per second at most.
    pub(super) throttle: Option<NonZeroU64>,
    pub(super) stats: SourceStats,
    pub(super) stop: CancellationToken,
}

impl Config {
    pub(super) fn new(path: String, is_reader: bool) -> Config {
        Config {
            path,
            is_reader,
            format: Format::default(),
            resnapshot: Resnapshot::default(),
            on_unavailable: OnUnavailable::default(),
            follow: false,
            on_error: OnError::default(),
            throttle: None,
            stats: SourceStats::default(),
            stop: CancellationToken::new(),
        }
    }

    /// Returns whether what is read is gone then.
    pub(super) fn is_stream(&self) -> bool {
        self.is_reader || is_stream(&self.path)
    }

    /// Opens the feed at its start, unless it was opened already.
    pub(super) fn open(&self, opened: Option<Input>) -> Result<Input, Error> {
        match opened {
            Some(input) => Ok(input),
            None if self.is_reader => {
                let error = Error::new(ErrorKind::Invalid, "a reader can be read only once");
                Err(error.at(&self.path).hint("name a file, or make another feed of a new reader"))
            }
            None => Input::open(&self.path),
        }
    }
}
