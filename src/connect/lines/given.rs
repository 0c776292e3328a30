//! Owns reading a feed of JSON lines from its start to its end: when to read, when to send, and
//! what to do with a bad line. It does not own the rules: `jsonl` has a line's, `times` has time's.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use differential_upsert::{Command, DataError, Error, ErrorKind};

use crate::emit::{Batch, Counts, Sink};
use crate::input::{Input, unreadable};
use crate::json::Json;
use crate::jsonl::{Bad, Line, LineParser, Row};
use crate::lines::{Lines, Piece};
use crate::stop::Stop;
use crate::throttle::{self, Throttle};
use crate::times::{Place, Times};

/// How long a followed feed is left alone after its end was reached.
const POLL: Duration = Duration::from_millis(50);

/// Bad lines that may wait for the feed to say its first time, in number and in bytes. Any more
/// and all are kept at time 0: memory has a bound, whatever the feed.
const LEADING_MAX: usize = 1000;
const LEADING_BYTES_MAX: usize = 32 << 20;

/// What happens at a bad line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum OnError {
    /// The run ends with exit 1.
    Stop,
    /// The line becomes an error value in the shard.
    Keep,
}

/// A feed of JSON lines, not yet opened.
#[derive(Debug)]
pub(crate) struct JsonLines {
    /// A path, or `-`.
    pub(crate) path: String,
    /// The feed, if it was opened already and cannot be opened again.
    pub(crate) looked: Option<Input>,
    pub(crate) follow: bool,
    pub(crate) on_error: OnError,
    pub(crate) throttle: Option<Throttle>,
    pub(crate) counts: Arc<Counts>,
    pub(crate) stop: Stop,
}

impl JsonLines {
    /// Reads the feed and returns its end E. Blocks, and on a followed feed returns only with an
    /// error.
    pub(crate) fn read<S: Sink>(self, sink: S) -> Result<u64, Error> {
        let mut lines = Lines::new(self.looked.map_or_else(|| Input::open(&self.path), Ok)?);
        let mut rows = Rows {
            batch: Batch::new(sink, Arc::clone(&self.counts)),
            times: Times::default(),
            parser: LineParser::default(),
            leading: Vec::new(),
            leading_bytes: 0,
            throttle: self.throttle,
            on_error: self.on_error,
            stop: self.stop.clone(),
            path: self.path.clone(),
        };
        let end = loop {
            while let Some(piece) = lines.next() {
                rows.line(piece)?;
            }
            // Reading may block: nothing that could be sent waits for it.
            rows.batch.flush()?;
            self.stop.check()?;
            let place = format!("{}:{}", self.path, lines.number());
            let read = lines.fill().map_err(|e| unreadable(&place, e))?;
            self.counts.position.store(lines.position(), Ordering::Relaxed);
            self.counts.length.store(lines.input().length().unwrap_or(0), Ordering::Relaxed);
            match (read, self.follow) {
                (1.., _) => {}
                (0, false) => break lines.rest(),
                (0, true) => {
                    lines.input().unchanged()?;
                    throttle::sleep(POLL, &self.stop)?;
                }
            }
        };
        if let Some(piece) = end {
            rows.line(piece)?;
        }
        rows.release()?;
        rows.batch.flush()?;
        Ok(rows.times.end())
    }
}

/// What turns lines into rows.
struct Rows<S> {
    batch: Batch<S>,
    times: Times,
    parser: LineParser,
    /// Bad lines, with their numbers, from before the feed said any time. They are kept at the
    /// first time it says, so that they do not make a feed that starts late look like one that
    /// starts at 0.
    leading: Vec<(Bad, u64)>,
    leading_bytes: usize,
    throttle: Option<Throttle>,
    on_error: OnError,
    stop: Stop,
    path: String,
}

impl<S: Sink> Rows<S> {
    fn line(&mut self, piece: Piece<'_>) -> Result<(), Error> {
        if let Some(wait) = self.throttle.as_mut().and_then(Throttle::next) {
            self.batch.flush()?;
            throttle::sleep(wait, &self.stop)?;
        }
        let parsed = match piece.too_long {
            true => Err(Bad::too_long(piece.bytes)),
            false => self.parser.parse(piece.bytes),
        };
        match parsed {
            Ok(Line::Blank) => Ok(()),
            Ok(Line::Closed(time)) => {
                self.times.close(time);
                self.release()
            }
            Ok(Line::Row(row)) => match self.times.row(&row, piece.number) {
                Ok(place) => self.row(row, place),
                Err(bad) => self.bad(bad, &piece),
            },
            Err(bad) => self.bad(bad, &piece),
        }
    }

    fn row(&mut self, row: Row, place: Place) -> Result<(), Error> {
        self.release()?;
        let command = match row.value {
            Some(value) => Command::put(row.key, Ok(value), place.order),
            None => Command::delete(row.key, place.order),
        };
        self.batch.row(command, place.time)
    }

    fn bad(&mut self, bad: Bad, piece: &Piece<'_>) -> Result<(), Error> {
        if self.on_error == OnError::Stop {
            return Err(self.fail(bad, piece.number));
        }
        let key = bad.key.clone();
        let key = key.unwrap_or_else(|| Json::key_base64(piece.bytes));
        self.leading_bytes += key.as_str().len();
        let key = Some(key);
        self.leading.push((Bad { key, ..bad }, piece.number));
        let full = self.leading.len() > LEADING_MAX || self.leading_bytes > LEADING_BYTES_MAX;
        if full || self.times.current().is_some() {
            return self.release();
        }
        Ok(())
    }

    /// Sends the bad lines that wait, at the current time, and notes what is closed.
    fn release(&mut self) -> Result<(), Error> {
        self.batch.boundary(self.times.boundary());
        if self.leading.is_empty() {
            return Ok(());
        }
        self.leading_bytes = 0;
        for (bad, line) in std::mem::take(&mut self.leading) {
            let place = self.times.keep(&bad, line);
            // Without the feed's name: every replica must store the same bytes, whatever it
            // calls the feed.
            let error = Err(DataError(format!("{} at line {line}", bad.what)));
            let key = bad.key.unwrap_or_else(|| Json::key_base64(&[]));
            self.batch.row(Command::put(key, error, place.order), place.time)?;
        }
        Ok(())
    }

    /// Returns the error for a bad line, with everything before it sent: the times that are
    /// closed are committed all the same.
    fn fail(&mut self, bad: Bad, line: u64) -> Error {
        if let Err(e) = self.batch.flush() {
            return e;
        }
        Error::new(ErrorKind::Invalid, bad.what).at(format!("{}:{line}", self.path)).hint(bad.hint)
    }
}
