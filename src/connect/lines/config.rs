//! Owns what a reading of lines is told: which feed, what its lines are, and what happens at a bad one.
//! It does not own reading.

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::cut::Piece;
use super::input::{Input, is_stream, unreadable};
use super::line::REPAIR;
use super::names::Where;
use super::parts::Places;
use super::quarantine::Quarantine;
use super::rotating::same_file;
use super::row::Bad;
use super::shape::Shape;
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

/// What a line is, and the value of its row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// A row, `{"key": K, "value": V}`: the value is the key's, or null for a delete.
    #[default]
    Json,
    /// The same, whose value is a Debezium envelope, or null for a delete; times are minted.
    Debezium,
    /// A line of `kcat -J`: a message of a topic. Its `ts` is a time only for a
    /// [`TimedSource`](crate::input::TimedSource).
    Kcat,
    /// A line of `kafka-console-consumer --property print.key=true`: `KEY<TAB>VALUE`; times are minted.
    Console,
    /// A line that is the value, whose key is [members of it](super::Lines::key); times are minted.
    Bare,
    /// A line of Maxwell's daemon: a row of a table; times are minted.
    Maxwell,
    /// A flat message of Canal: rows of a table; times are minted.
    Canal,
}

impl Format {
    /// Returns its name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Format::Json => "json",
            Format::Debezium => "debezium",
            Format::Kcat => "kcat",
            Format::Console => "console",
            Format::Bare => "bare",
            Format::Maxwell => "maxwell",
            Format::Canal => "canal",
        }
    }
}

/// What a second snapshot in a Debezium feed does to rows that it does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
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
    pub(super) shape: Shape,
    pub(super) resnapshot: Resnapshot,
    pub(super) on_unavailable: OnUnavailable,
    pub(super) follow: bool,
    pub(super) on_error: OnError,
    /// Where bad lines are written away to, whatever else would happen at one.
    pub(super) quarantine: Option<PathBuf>,
    /// Whether a feed that is not there is waited for.
    pub(super) wait: bool,
    pub(super) places: Places,
    /// Files that had the feed's name before, and are read first.
    pub(super) before: Vec<String>,
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
            shape: Shape::default(),
            resnapshot: Resnapshot::default(),
            on_unavailable: OnUnavailable::default(),
            follow: false,
            on_error: OnError::default(),
            quarantine: None,
            wait: false,
            places: Places::default(),
            before: Vec::new(),
            throttle: None,
            stats: SourceStats::default(),
            stop: CancellationToken::new(),
        }
    }

    /// Checks what depends on more than one setting.
    pub(super) fn check(&self) -> Result<(), Error> {
        let (what, hint) = match (self.format, self.shape.key.is_empty()) {
            (Format::Debezium, false) => (
                "a key in the value of Debezium's messages",
                "leave out --key: its connectors make keys, by message.key.columns",
            ),
            (Format::Bare, true) => (
                "lines that are the value, and no members of it that are the key",
                "name them with --key",
            ),
            _ => return Ok(()),
        };
        Err(Error::new(ErrorKind::Invalid, what).at(&self.path).hint(hint))
    }

    /// Returns where a line is, as `FILE:LINE`.
    pub(super) fn place(&self, line: u64) -> String {
        self.places.of(&self.path, line)
    }

    /// Returns whether what is read is gone then.
    pub(super) fn is_stream(&self) -> bool {
        self.is_reader || is_stream(&self.path)
    }

    /// Returns whether the feed goes on behind a bad line.
    pub(super) fn passes_bad_lines(&self) -> bool {
        self.on_error == OnError::Keep || self.quarantine.is_some()
    }

    /// Says of a bad line that is passed that it may be half of one: the last line, without a line break. It counts all the
    /// same, for many feeds end so.
    pub(super) fn says_open(&self, bad: &Bad, piece: &Piece<'_>) {
        let is_passed = piece.is_open && self.passes_bad_lines();
        if is_passed && !crate::mutant::on("torn_end_unsaid") {
            let (at, why) = (self.place(piece.number), &bad.what);
            tracing::warn!(
                at,
                why,
                "the last line has no line break and is passed as a bad one: if its writer was not done, append it \
                 again, whole"
            );
        }
    }

    /// Returns the error of a bad line that the feed stops at.
    pub(super) fn stops_at(&self, bad: Bad, piece: &Piece<'_>) -> Error {
        let hint = match piece.is_open && bad.hint == REPAIR {
            true => "append the rest of the line and rerun, or repair or remove it",
            false => bad.hint,
        };
        let error = Error::new(ErrorKind::Invalid, bad.what).at(self.place(piece.number));
        // Of lines of another format all would be passed.
        match hint.contains("--format") {
            true => error.hint(hint),
            false => error.hint(format!(
                "{hint}, or go on behind bad lines with --on-error keep or quarantine:FILE"
            )),
        }
    }

    /// Opens the file that bad lines are written away to, if they are.
    pub(super) fn quarantine(&self) -> Result<Option<Quarantine>, Error> {
        let Some(file) = self.quarantine.as_deref() else { return Ok(None) };
        if self.reads(file) {
            let what = "the file that bad lines are written away to is the feed, or in it";
            return Err(Error::new(ErrorKind::Invalid, what)
                .at(file.display().to_string())
                .hint("name a file that is not read"));
        }
        Quarantine::open(file).map(Some)
    }

    /// Returns whether a file is of the feed: what is written to it would be read.
    fn reads(&self, file: &Path) -> bool {
        if self.is_stream() {
            return false;
        }
        let found = Where::of(&self.path);
        let parts = match &found {
            Some(found) => found.list().unwrap_or_default(),
            None => vec![self.path.clone()],
        };
        let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty());
        let is = |a: &Path, b: &Path| match (std::fs::metadata(a), std::fs::metadata(b)) {
            (Ok(a), Ok(b)) => same_file(&a, &b),
            _ => false,
        };
        parts.iter().any(|part| is(Path::new(part), file))
            || matches!(&found, Some(Where::Directory(directory))
                if is(Path::new(directory), parent.unwrap_or(Path::new("."))))
    }

    /// Opens the feed by its name. One that is not there is waited for, if that was asked for, until `check`
    /// says otherwise.
    fn named(&self, check: &dyn Fn() -> Result<(), Error>) -> Result<Input, Error> {
        let mut pace = pace();
        loop {
            match Input::open(&self.path, &self.places) {
                Err(e) if self.wait && e.kind() == ErrorKind::Missing => {
                    check()?;
                    rest(&mut pace, &self.stop)?;
                }
                opened => return opened,
            }
        }
    }

    /// Opens the feed at its start, unless it was opened already.
    pub(super) fn open(
        &self,
        opened: Option<Input>,
        check: &dyn Fn() -> Result<(), Error>,
    ) -> Result<Input, Error> {
        // Its first bytes may be long in coming.
        check()?;
        let input = match opened {
            Some(input) => input,
            None if self.is_reader => {
                let error = Error::new(ErrorKind::Invalid, "a reader can be read only once");
                let hint = "name a file, or make another feed of a new reader";
                return Err(error.at(&self.path).hint(hint));
            }
            None => self.named(check)?,
        };
        let input = input.unpacked().map_err(|e| unreadable(&self.path, e))?;
        if self.follow && input.is_packed_file() {
            let what = "a compressed file, which does not grow by lines, cannot be followed";
            let error = Error::new(ErrorKind::Invalid, what).at(&self.path);
            return Err(error.hint("read it without --follow, and feed what comes later behind it"));
        }
        // A file of a name; standard input has none.
        match input {
            Input::File { path: Some(path), .. } if self.follow || !self.before.is_empty() => {
                Input::rotating(&path, &self.before)
            }
            input => Ok(input),
        }
    }
}
