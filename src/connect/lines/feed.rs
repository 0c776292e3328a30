//! Owns the feed of lines as a program sees it: [`Lines`], which is built, looked at, and given to a
//! pipeline. It does not own reading, which blocks and so has a thread of its own; that is `given` and
//! `follow`.

use std::io::Read;
use std::num::NonZeroU64;
use std::path::PathBuf;

use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::config::{Config, Format, Resnapshot};
use super::follow::{Handed, LineEvent, Reading};
use super::given;
use super::input::{Input, Stream};
use super::look::look;
use super::position::FilePosition;
use super::shape::Shape;
use crate::codec::{DataError, Json};
use crate::connect::debezium::OnUnavailable;
use crate::connect::on_error::OnError;
use crate::error::{Error, ErrorKind};
use crate::input::blocking::{self, PARTING, stopped};
use crate::input::{Outlet, TimedSource};
use crate::source::{Boundary, Failure, Source, SourceStats};

/// Batches of units between the reading thread and the pipeline.
const BATCHES_AHEAD: usize = 4;

/// A feed of JSON lines, not yet opened.
///
/// As a [`TimedSource`] (`Pipeline::from_timed`) it has times of its own: every row has a `"ts"`. As a
/// [`Source`] (`Pipeline::from_source`) its times are minted: the order of the lines is the order of the
/// changes. [`has_times`](Lines::has_times) looks which it is.
///
/// Memory: one line of at most 16 MiB and 256 KiB of what comes after it, and what is on its way to the
/// pipeline, at most some thousand rows. A feed that resumes reads, and hashes, all that lies before its
/// place.
#[derive(Debug)]
pub struct Lines {
    config: Config,
    /// The feed, if it was opened already and cannot be opened again.
    opened: Option<Input>,
    thread: Option<Thread>,
}

/// A thread that reads, and what it has read.
#[derive(Debug)]
struct Thread {
    handed: mpsc::Receiver<Handed>,
    thread: JoinHandle<()>,
}

impl Lines {
    /// Returns the feed of the lines of a file, of a named pipe, or, for `-`, of standard input. Nothing is
    /// opened yet.
    pub fn from_path(path: impl Into<String>) -> Lines {
        Lines { config: Config::new(path.into(), false), opened: None, thread: None }
    }

    /// Returns the feed of the lines that a reader gives, to its end. `name` stands for it in messages. What
    /// is read of it is gone then: with minted times it can only begin a shard, not resume one.
    pub fn from_reader(name: impl Into<String>, reader: impl Read + Send + 'static) -> Lines {
        let opened = Input::Stream(Stream::Reader(Mutex::new(Box::new(reader))));
        Lines { config: Config::new(name.into(), true), opened: Some(opened), thread: None }
    }

    /// Says what a line is; [`Format::Json`] by default. Only that and [`Format::Kcat`] can have times of
    /// their own.
    pub fn format(mut self, format: Format) -> Lines {
        self.config.format = format;
        self
    }

    /// Takes the key out of the value, where it stays: of one member its value, of several an array of theirs. What a
    /// line has as a key is ignored then, and a null value, which has no members, is a bad line. [`Format::Bare`] needs it; with
    /// [`Format::Debezium`], whose keys are made so by its connectors, it is an error.
    pub fn key<N: Into<String>>(mut self, members: impl IntoIterator<Item = N>) -> Lines {
        self.config.shape.key = members.into_iter().map(Into::into).collect();
        self
    }

    /// Says which member of a value says that its row is deleted: a true or `"true"` is a delete. The member is
    /// taken out of the value. Debezium writes `__deleted` so, where it unwraps its envelopes.
    pub fn deleted_field(mut self, member: Option<String>) -> Lines {
        self.config.shape.deleted = member;
        self
    }

    /// Says what a second snapshot in a Debezium feed does; [`Resnapshot::Keep`] by default.
    pub fn resnapshot(mut self, resnapshot: Resnapshot) -> Lines {
        self.config.resnapshot = resnapshot;
        self
    }

    /// Says what a Debezium message comes to whose row lacks columns that did not change, as PostgreSQL sends it
    /// without `REPLICA IDENTITY FULL`; [`OnUnavailable::Error`] by default. [`OnUnavailable::Keep`] makes patches: the shard
    /// then needs [`with_fold`](crate::Shard::with_fold) of [`Json::keep_unsent`](crate::codec::Json::keep_unsent), or the first
    /// one stops the pipeline.
    pub fn on_unavailable(mut self, on_unavailable: OnUnavailable) -> Lines {
        self.config.on_unavailable = on_unavailable;
        self
    }

    /// Says what happens at a bad line; [`OnError::Stop`] by default.
    pub fn on_error(mut self, on_error: OnError) -> Lines {
        self.config.on_error = on_error;
        self
    }

    /// Writes bad lines away to this file, which is made if it is not there, and goes on behind them, whatever
    /// [`on_error`](Lines::on_error) says. Each is a line of JSON with where it stood, what is bad about it and its text; it is
    /// durable before anything behind it is committed, and counted in [`SourceStats::quarantined`].
    pub fn quarantine(mut self, file: Option<PathBuf>) -> Lines {
        self.config.quarantine = file;
        self
    }

    /// Waits for a feed that is not there yet; by default that is an error.
    pub fn wait(mut self, wait: bool) -> Lines {
        self.config.wait = wait;
        self
    }

    /// Keeps reading what is appended to the feed after its end, which is looked at every 50 ms: the feed
    /// then ends only with an error, [stopped](Lines::stop_at) or replaced. Without it, which is the
    /// default, the end of the file is the end of the feed.
    pub fn follow(mut self, follow: bool) -> Lines {
        self.config.follow = follow;
        self
    }

    /// Reads at most so many lines per second; as fast as the pipeline takes them by default.
    pub fn throttle(mut self, lines_per_second: Option<NonZeroU64>) -> Lines {
        self.config.throttle = lines_per_second;
        self
    }

    /// Stops reading once this token is cancelled: the feed fails with `Stopped` within 200 ms. A read of a
    /// silent pipe then goes on, on a thread that is left behind, until the pipe says something or ends.
    pub fn stop_at(mut self, token: CancellationToken) -> Lines {
        self.config.stop = token;
        self
    }

    /// Counts into these, so that runs over the same feed share them.
    pub fn count_into(mut self, stats: SourceStats) -> Lines {
        self.config.stats = stats;
        self
    }

    /// Returns what is counted of reading: rows, messages, and how far the feed is, in bytes.
    pub fn stats(&self) -> SourceStats {
        self.config.stats.clone()
    }

    /// Returns whether what is read of the feed is gone then: a reader, a pipe, a terminal, and standard
    /// input unless it is a file. Asks the file system.
    pub fn is_stream(&self) -> bool {
        self.config.is_stream()
    }

    /// Opens the feed and lets it go again: an error is why it cannot be read. Of a stream, where that would take
    /// something away, nothing is opened.
    ///
    /// # Errors
    ///
    /// `Missing` if it is not there; else what keeps it from being opened.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub async fn check(&self) -> Result<(), Error> {
        self.config.check()?;
        if self.is_stream() {
            return Ok(());
        }
        let config = Config { wait: false, ..self.config.clone() };
        let opening = tokio::task::spawn_blocking(move || config.open(None, &|| Ok(())).map(drop));
        opening.await.map_err(|e| {
            Error::new(ErrorKind::Unavailable, "the feed could not be opened").because(e)
        })?
    }

    /// Returns whether the rows have times of their own: whether the first row has a `"ts"`. `None` if that is not said
    /// and they may be taken as given: of a feed that has no row, or ends at a bad line before it; where bad lines
    /// are kept instead, times for them have to be minted. Reads up to the first row, and of a stream keeps what was read
    /// for the run, 64 MiB at most. A followed feed is waited for. Of formats of other programs none is looked at: a clock of
    /// theirs is a time only where that is said.
    ///
    /// # Errors
    ///
    /// `Stopped` if told to stop meanwhile, else what keeps the feed from being read. A reader is used up
    /// then, and when the future is dropped.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub async fn has_times(&mut self) -> Result<Option<bool>, Error> {
        if !matches!(self.config.format, Format::Json | Format::Debezium) {
            return Ok(Some(false));
        }
        let (config, opened) = (self.config.clone(), self.opened.take());
        let looks = config.stop.child_token();
        let _abandon = looks.clone().drop_guard();
        // A read of a silent pipe ends only with the pipe: it must not be waited for.
        let looking = tokio::task::spawn_blocking(move || look(&config, opened, &looks));
        let looked = tokio::select! {
            biased;
            () = self.config.stop.cancelled() => return Err(stopped()),
            looked = looking => looked,
        };
        let looked = looked.map_err(|e| {
            Error::new(ErrorKind::Unavailable, "the feed could not be looked at").because(e)
        })??;
        self.opened = looked.input;
        Ok(looked.given)
    }

    /// Starts to read behind a place, once the thread that read before has ended.
    async fn start(&mut self, from: Option<FilePosition>) {
        if let Some(before) = &mut self.thread {
            // It ends at the next thing it hands over. A panic is reported by its hook.
            before.handed.close();
            let _ = (&mut before.thread).await;
        }
        let (sender, handed) = mpsc::channel(BATCHES_AHEAD);
        let (config, opened) = (self.config.clone(), self.opened.take());
        let thread =
            tokio::task::spawn_blocking(move || Reading::new(config, sender).run(from, opened));
        self.thread = Some(Thread { handed, thread });
    }
}

/// Rows with times of their own. It ends at E, the time after the last one.
impl TimedSource for Lines {
    type Key = Json;
    type Value = Result<Json, DataError>;
    type Order = u64;

    fn counts(&self) -> Option<SourceStats> {
        Some(self.stats())
    }

    async fn run(self, outlet: Outlet<Json, Self::Value, u64>) -> Result<u64, Error> {
        let Lines { config, opened, .. } = self;
        if !matches!(config.format, Format::Json | Format::Kcat) {
            let what = match config.format {
                Format::Debezium => "Debezium's messages have no times".to_string(),
                other => format!("lines of the format {} have no times", other.name()),
            };
            return Err(Error::new(ErrorKind::Invalid, what)
                .at(config.path)
                .hint("have times minted, with Pipeline::from_source"));
        }
        let stop = config.stop.clone();
        let read = move |sink, stop: &CancellationToken| given::read(&config, opened, sink, stop);
        blocking::read(outlet, &stop, read).await
    }
}

/// Rows whose times are minted: each line is a unit, its place the end of the line.
impl Source for Lines {
    type Key = Json;
    type Value = Json;
    type Position = FilePosition;

    /// What is in a file says which it is: the name may change, and each place has a hash.
    fn identity(&self) -> String {
        let Shape { key, deleted } = &self.config.shape;
        let mut identity = match self.config.format {
            Format::Json => "lines".to_string(),
            other => format!("{} lines", other.name()),
        };
        // Read in another way, they are other rows.
        if !key.is_empty() {
            identity += &format!(" by {key:?}");
        }
        if let Some(deleted) = deleted {
            identity += &format!(" deleted by {deleted:?}");
        }
        identity
    }

    fn counts(&self) -> Option<SourceStats> {
        Some(self.stats())
    }

    async fn connect(&mut self, from: &Boundary<FilePosition>) -> Result<(), Failure> {
        self.start(from.get("").copied()).await;
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<Vec<LineEvent>>, Failure> {
        let Some(thread) = &mut self.thread else { return Ok(None) };
        let stop = &self.config.stop;
        let parted = async {
            stop.cancelled().await;
            tokio::time::sleep(PARTING).await;
        };
        let handed = tokio::select! {
            biased;
            handed = thread.handed.recv() => handed,
            // It sits in a read that only the other side can end.
            () = parted => return Err(Failure::Definite(stopped())),
        };
        match handed {
            Some(handed) => handed.map(Some),
            None => {
                let what = "the thread that reads the feed is gone";
                Err(Failure::Definite(Error::new(ErrorKind::Unavailable, what)))
            }
        }
    }
}
