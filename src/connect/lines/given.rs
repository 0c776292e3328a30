//! Owns reading a feed of JSON lines from its start to its end: when to read, when to send, and
//! what to do with a bad line. It does not own the rules: `line` has a line's, `times` has time's.

use tokio_util::sync::CancellationToken;

use super::config::{Config, pace, rest};
use super::cut::{Cutter, Piece};
use super::formats::Timed;
use super::input::{Input, unreadable};
use super::line::{Bad, Line, Row, key_base64};
use super::quarantine::Quarantine;
use super::times::{Place, Times};
use crate::codec::{DataError, Json};
use crate::command::Command;
use crate::connect::on_error::OnError;
use crate::error::Error;
use crate::input::blocking::{Batch, Row as Sent, RowSink, Throttle, check, sleep};

/// Bad lines that may wait for the feed to say its first time, in number and in bytes. Any more
/// and all are kept at time 0: memory has a bound, whatever the feed.
const LEADING_MAX: usize = 1000;
const LEADING_BYTES_MAX: usize = 32 << 20;

/// A row of a feed with given times.
pub(super) type Cell = Result<Json, DataError>;

/// Where rows of such a feed go.
pub(super) trait CellSink: RowSink<Key = Json, Value = Cell, Order = u64> {}

impl<S: RowSink<Key = Json, Value = Cell, Order = u64>> CellSink for S {}

/// Reads a feed, which was perhaps opened already, into a sink until `stop`, and returns its end E. Blocks,
/// and of a followed feed returns only with an error.
pub(super) fn read<S: CellSink>(
    config: &Config,
    opened: Option<Input>,
    sink: S,
    stop: &CancellationToken,
) -> Result<u64, Error> {
    let mut lines = Cutter::new(config.open(opened, &|| check(stop))?);
    let mut rows = Rows {
        batch: Batch::new(Behind { sink, quarantine: config.quarantine()? }),
        times: Times::default(),
        parser: Timed::new(config),
        leading: Vec::new(),
        leading_bytes: 0,
        throttle: config.throttle.map(Throttle::new),
        stop: stop.clone(),
        config,
    };
    let mut pace = pace();
    let end = loop {
        while let Some(piece) = lines.next() {
            rows.line(piece)?;
        }
        // Reading may block: nothing that could be sent waits for it.
        rows.flush()?;
        check(stop)?;
        let place = config.place(lines.number());
        let read = lines.fill().map_err(|e| unreadable(&place, e))?;
        config.stats.set_position(lines.position(), lines.input().length());
        match (read, config.follow) {
            (1.., _) => pace.wake(),
            (0, false) => break lines.rest(),
            (0, true) if lines.input_mut().go_on()? => {}
            (0, true) => rest(&mut pace, stop)?,
        }
    };
    if let Some(piece) = end {
        rows.line(piece)?;
    }
    rows.release()?;
    rows.flush()?;
    // The end closes what comes last, where no row and no time does.
    rows.batch.sink_mut().sync()?;
    Ok(rows.times.end())
}

/// A sink that nothing reaches before the bad lines that were written away before it are durable: what is committed
/// behind them is never read again.
struct Behind<S> {
    sink: S,
    quarantine: Option<Quarantine>,
}

impl<S> Behind<S> {
    fn sync(&mut self) -> Result<(), Error> {
        self.quarantine.as_mut().map_or(Ok(()), Quarantine::sync)
    }
}

impl<S: RowSink> RowSink for Behind<S> {
    type Key = S::Key;
    type Value = S::Value;
    type Order = S::Order;

    fn rows(&mut self, rows: Vec<Sent<Self>>) -> Result<(), Error> {
        self.sync()?;
        self.sink.rows(rows)
    }

    fn closed(&mut self, time: u64) -> Result<(), Error> {
        self.sync()?;
        self.sink.closed(time)
    }
}

/// What turns lines into rows.
struct Rows<'a, S: RowSink> {
    config: &'a Config,
    batch: Batch<Behind<S>>,
    times: Times,
    parser: Timed,
    /// Bad lines, with their numbers, from before the feed said any time. They are kept at the
    /// first time it says, so that they do not make a feed that starts late look like one that
    /// starts at 0.
    leading: Vec<(Bad, u64)>,
    leading_bytes: usize,
    throttle: Option<Throttle>,
    stop: CancellationToken,
}

impl<S: CellSink> Rows<'_, S> {
    fn line(&mut self, piece: Piece<'_>) -> Result<(), Error> {
        if let Some(wait) = self.throttle.as_mut().and_then(Throttle::next_wait) {
            self.flush()?;
            sleep(wait, &self.stop)?;
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
        self.send(command, place.time)
    }

    fn bad(&mut self, bad: Bad, piece: &Piece<'_>) -> Result<(), Error> {
        self.config.says_open(&bad, piece);
        if let Some(quarantine) = &mut self.batch.sink_mut().quarantine {
            quarantine.add(&self.config.path, &bad, piece)?;
            self.config.stats.add_quarantined(piece.number);
            return Ok(());
        }
        if self.config.on_error == OnError::Stop {
            // The times that are closed are committed all the same.
            self.flush()?;
            return Err(self.config.stops_at(bad, piece));
        }
        let key = bad.key.clone();
        let key = key.unwrap_or_else(|| key_base64(piece.bytes));
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
            let key = bad.key.unwrap_or_else(|| key_base64(&[]));
            self.send(Command::put(key, error, place.order), place.time)?;
        }
        Ok(())
    }

    fn send(&mut self, command: Command<Json, Cell, u64>, time: u64) -> Result<(), Error> {
        self.config.stats.add_rows_read(1);
        let bytes = match &command {
            Command::Put { key, value, .. } | Command::Patch { key, patch: value, .. } => {
                let value = value.as_ref().map_or_else(|error| &*error.0, Json::as_str);
                key.as_str().len() + value.len()
            }
            Command::Delete { key, .. } => key.as_str().len(),
            Command::Reset { .. } => 0,
            Command::ResetOf { collection, .. } => collection.len(),
        };
        self.batch.row(command, time, bytes)
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.batch.flush()
    }
}
