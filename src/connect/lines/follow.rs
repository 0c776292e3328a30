//! Owns reading a feed of lines with minted times, from a place in it to its end or for ever: finding
//! the place again, cutting units, and waiting for more. It does not own what a line does; that is
//! `change`.
//!
//! The place is found by reading all that lies before it: a file that is shorter was truncated, one
//! with other bytes was replaced, and any other has grown. Nothing less tells them apart for certain.

use std::io::Read as _;

use tokio::sync::mpsc::Sender;

use super::change::{Changes, Does, kept};
use super::config::{Config, Format, pace, rest};
use super::cut::{Cutter, Piece};
use super::input::{Input, unreadable};
use super::line::Bad;
use super::names::Where;
use super::position::{FilePosition, Offsets, Prefix};
use super::quarantine::Quarantine;
use super::rotating;
use crate::codec::Json;
use crate::connect::on_error::OnError;
use crate::error::{Error, ErrorKind};
use crate::input::blocking::{Throttle, check, sleep, stopped};
use crate::source::{Change, Event, Failure, Partition, Received};

/// A batch is handed over when it holds this many units, and before every read.
const UNITS_MAX: usize = 1024;

pub(super) type LineEvent = Event<Json, Json, FilePosition>;

/// What the reading thread hands over: the last is an end or a failure, unless nothing listens.
pub(super) type Handed = Result<Vec<LineEvent>, Failure>;

/// One reading of a feed, on a thread that may block.
pub(super) struct Reading {
    config: Config,
    sender: Sender<Handed>,
    changes: Changes,
    throttle: Option<Throttle>,
    quarantine: Option<Quarantine>,
    partition: Partition,
    batch: Vec<LineEvent>,
    /// What the last line does, and its number, until all of the line is read.
    open: Option<(Does, u64)>,
    /// Whether what comes first goes on in a line that was handed over without its line break.
    torn: bool,
    rows: u64,
}

impl Reading {
    pub(super) fn new(config: Config, sender: Sender<Handed>) -> Reading {
        Reading {
            changes: Changes::default(),
            throttle: config.throttle.map(Throttle::new),
            quarantine: None,
            partition: Partition::from(""),
            batch: Vec::new(),
            open: None,
            torn: false,
            rows: 0,
            config,
            sender,
        }
    }

    /// Hands over everything behind a place, then the end, or why there is none.
    pub(super) fn run(mut self, from: Option<FilePosition>, looked: Option<Input>) {
        let read = self.read(from, looked);
        // The units before a failure are good: they go first.
        let read = self.flush().and(read);
        let last = match read {
            Ok(()) => Ok(vec![Event::End]),
            // What a pipe has given is gone: another connection would skip it.
            Err(e) if self.config.is_stream() => Err(Failure::Definite(e)),
            Err(e) => Err(Failure::from(e)),
        };
        // An error means that the other end is gone.
        let _ = self.sender.blocking_send(last);
    }

    fn read(&mut self, from: Option<FilePosition>, looked: Option<Input>) -> Result<(), Error> {
        self.config.check()?;
        let mut pace = pace();
        self.quarantine = self.config.quarantine()?;
        let mut lines = self.open(from, looked)?;
        loop {
            self.units(&mut lines)?;
            // Reading may block: nothing that could be handed over waits for it.
            self.flush()?;
            self.check()?;
            let place = self.config.place(lines.number());
            let read = lines.fill().map_err(|e| unreadable(&place, e))?;
            self.show(lines.position(), lines.input());
            match (read, self.config.follow) {
                (1.., _) => pace.wake(),
                (0, false) => break,
                (0, true) if lines.input_mut().go_on()? => {}
                (0, true) => rest(&mut pace, &self.config.stop)?,
            }
        }
        if let Some(piece) = lines.rest() {
            self.line(&piece)?;
        }
        self.unit(&lines)?;
        let Some(began) = self.changes.snapshots().began() else { return Ok(()) };
        let place = self.config.place(lines.number() - 1);
        let what = format!("the feed ends inside the snapshot that began at line {began}");
        let hint = "append the rest of it and rerun, or go on with --resnapshot keep";
        Err(Error::new(ErrorKind::Invalid, what).at(place).hint(hint))
    }

    /// Adds the units of all lines that are read whole.
    fn units(&mut self, lines: &mut Cutter<Input>) -> Result<(), Error> {
        // The place of a line that is too long is its end, too, which may be still to come.
        while lines.skip() {
            self.unit(lines)?;
            let Some(piece) = lines.next() else { break };
            self.line(&piece)?;
        }
        Ok(())
    }

    fn line(&mut self, piece: &Piece<'_>) -> Result<(), Error> {
        if let Some(wait) = self.throttle.as_mut().and_then(Throttle::next_wait) {
            self.flush()?;
            sleep(wait, &self.config.stop)?;
        }
        let mut change = self.changes.line(piece);
        if std::mem::take(&mut self.torn) && !matches!(change, Ok(Does::Nothing)) {
            let what = "more text after the end of a line that was taken as the last one";
            let hint = "append that line again, whole, for what was taken may be half of it";
            change = Err(Bad::new(what, hint));
        }
        if let Err(bad) = &change {
            self.config.says_open(bad, piece);
        }
        if let (Err(bad), Some(quarantine)) = (&change, &mut self.quarantine) {
            quarantine.add(&self.config.path, bad, piece)?;
            self.config.stats.add_quarantined(piece.number);
            return Ok(());
        }
        let does = match change {
            Ok(does @ (Does::Change(_) | Does::Changes(_))) => does,
            Ok(Does::Nothing) => return Ok(()),
            Ok(Does::Message) => {
                // Nothing is lost: it says nothing of any row.
                self.config.stats.add_message(piece.number);
                return Ok(());
            }
            Err(bad) if self.config.on_error == OnError::Keep => Does::Change(kept(bad, piece)),
            Err(bad) => return Err(self.config.stops_at(bad, piece)),
        };
        self.open = Some((does, piece.number));
        Ok(())
    }

    /// Ends the open unit, if there is one, where the lines so far end.
    fn unit(&mut self, lines: &Cutter<Input>) -> Result<(), Error> {
        let Some((does, line)) = self.open.take() else { return Ok(()) };
        if self.changes.snapshots().take_reset() {
            self.batch.push(Event::Change(Partition::clone(&self.partition), Change::Reset));
        }
        match does {
            Does::Nothing | Does::Message => return Ok(()),
            Does::Change(change) => self.change(change),
            Does::Changes(changes) => changes.into_iter().for_each(|change| self.change(change)),
        }
        if self.changes.snapshots().is_open() {
            // Its unit ends with the snapshot's last.
            return self.flush_if_full();
        }
        let (offset, prefix) = lines.end();
        let offsets = self.changes.offsets();
        let position = FilePosition { offset, line, rows: self.rows, prefix, offsets };
        let received = Received::at(Partition::clone(&self.partition), position);
        self.batch.push(Event::Boundary(received));
        self.flush_if_full()
    }

    fn change(&mut self, change: Change<Json, Json>) {
        self.rows += 1;
        self.batch.push(Event::Change(Partition::clone(&self.partition), change));
    }

    fn flush_if_full(&mut self) -> Result<(), Error> {
        if self.batch.len() >= 2 * UNITS_MAX { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Error> {
        if let Some(quarantine) = &mut self.quarantine {
            // A cursor behind them must not be durable before they are.
            quarantine.sync()?;
        }
        self.config.stats.set_rows_read(self.rows);
        if self.batch.is_empty() {
            return Ok(());
        }
        let batch = std::mem::replace(&mut self.batch, Vec::with_capacity(2 * UNITS_MAX));
        self.sender.blocking_send(Ok(batch)).map_err(|_| stopped())
    }

    /// Opens the feed behind a place, or at its start.
    fn open(
        &mut self,
        from: Option<FilePosition>,
        looked: Option<Input>,
    ) -> Result<Cutter<Input>, Error> {
        let path = self.config.path.clone();
        let Some(at) = from else {
            self.changes = self.changes_after(0, Default::default());
            let input = self.config.open(looked, &|| self.check())?;
            return Ok(Cutter::after(input, 0, 0, Prefix::default()));
        };
        if self.config.is_stream() {
            let what = "the shard has rows of this feed, and a pipe cannot be read from its start";
            let hint = "feed a file that begins with all that was fed; or begin another shard with a \"ts\" on \
                        every row and --times given, which a pipe can be fed into again";
            return Err(Error::new(ErrorKind::Invalid, what).at(path).hint(hint));
        }
        let (input, prefix) = self.found(&at)?;
        let stats = &self.config.stats;
        if stats.rows_read() == 0 {
            // Another writer, or a run before this one, has brought these into the shard.
            stats.set_rows_skipped(at.rows);
        }
        self.rows = at.rows;
        let line = at.line - u64::from(self.torn && at.line > 0);
        Ok(Cutter::after(input, line, at.offset, prefix))
    }

    fn changes_after(&self, rows: u64, offsets: Offsets) -> Changes {
        Changes::after(&self.config, rows, offsets)
    }

    /// Opens the feed behind a place: in the file of its name or, if that was rotated meanwhile, in those that had
    /// the name before.
    fn found(&mut self, at: &FilePosition) -> Result<(Input, Prefix), Error> {
        let mut input = self.config.open(None, &|| self.check())?;
        let error = match self.find(&mut input, at) {
            Ok(prefix) => return Ok((input, prefix)),
            Err(e) if e.kind() == ErrorKind::FeedDiffers => e,
            Err(e) => return Err(e),
        };
        let before = rotating::before(&self.config.path);
        for first in (0..before.len()).rev() {
            self.config.before = rotating::since(&before, first);
            let mut input = self.config.open(None, &|| self.check())?;
            match self.find(&mut input, at) {
                Ok(prefix) => return Ok((input, prefix)),
                Err(e) if e.kind() == ErrorKind::FeedDiffers => {}
                Err(e) => return Err(e),
            }
        }
        self.config.before.clear();
        Err(error)
    }

    /// Reads up to a place and checks that what lies before it is what it was. The same lines say what no place does:
    /// which table the feed is of, as a snapshot of another one must not replace its rows, and how far each partition of
    /// a topic is.
    fn find(&mut self, input: &mut Input, at: &FilePosition) -> Result<Prefix, Error> {
        let path = self.config.path.clone();
        let differs = |what: String| {
            let hint = match self.config.format {
                Format::Kcat => {
                    "a dump that is taken anew has its partitions in another order: put the old one back and \
                     append to it (kcat -o OFFSET .. >>), or feed the new one, or kafka://, to another shard"
                }
                _ if Where::of(&path).is_some() => {
                    "a part file that was read is gone or has changed, or a new one comes before it: put them \
                     back as they were, name new ones so that they come last, and rerun"
                }
                _ => {
                    "if it is another feed, feed it to another shard; else put it back as it was and rerun: a \
                     line that was read is repaired by one more line at the end, a row for its key or a \
                     delete of {\"key_base64\": ..}"
                }
            };
            Error::new(ErrorKind::FeedDiffers, what).at(&path).hint(hint)
        };
        let mut changes = self.changes_after(at.rows, at.offsets);
        let mut learns = changes.remembers() && !crate::mutant::on("lines_learn_nothing");
        let mut lines = Cutter::after(input.take(at.offset), 0, 0, Prefix::default());
        let mut torn = false;
        while lines.position() < at.offset {
            self.check()?;
            if lines.fill().map_err(|e| unreadable(&path, e))? == 0 {
                let (read, offset) = (lines.position(), at.offset);
                return Err(differs(format!(
                    "the feed was truncated or rewritten: it has {read} bytes, the shard's cursor is at {offset}"
                )));
            }
            torn = !lines.ends_whole();
            while learns && let Some(piece) = lines.next() {
                learns = !changes.learn(&piece);
            }
            if !learns {
                // Only the hash of the rest matters.
                lines.rest();
            }
            self.show(lines.position(), lines.input().get_ref());
        }
        if let Some(piece) = lines.rest()
            && learns
        {
            changes.learn(&piece);
        }
        let prefix = lines.into_prefix();
        if prefix.hash() != at.prefix {
            let offset = at.offset;
            return Err(differs(format!(
                "the feed was replaced or rewritten before byte {offset}"
            )));
        }
        (self.torn, self.changes) = (torn, changes);
        Ok(prefix)
    }

    /// Stops when told to, or when the other end is gone.
    fn check(&self) -> Result<(), Error> {
        if self.sender.is_closed() { Err(stopped()) } else { check(&self.config.stop) }
    }

    fn show(&self, position: u64, input: &Input) {
        self.config.stats.set_position(position, input.length());
    }
}
