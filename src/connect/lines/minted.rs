//! Owns JSON lines as a [`Source`]: each line is a unit, its place the end of the line. It does not own
//! reading the file, which blocks and so has a thread of its own; that is `follow`.

use std::num::NonZeroU64;
use std::sync::Arc;

use differential_upsert::source::{Boundary, Event, Failure, Source};
use differential_upsert::{Error, ErrorKind};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::change::Format;
use crate::emit::Counts;
use crate::follow::Reading;
use crate::input::Input;
use crate::json::Json;
use crate::position::FilePosition;
use crate::reader::OnError;
use crate::resnapshot::Resnapshot;
use crate::stop::Stop;

/// Batches of units between the reading thread and the pipeline.
const BATCHES_AHEAD: usize = 4;

pub(crate) type LineEvent = Event<Json, Json, FilePosition>;

/// What the reading thread hands over: the last is an end or a failure, unless nobody listens.
pub(crate) type Handed = Result<Vec<LineEvent>, Failure>;

/// A feed of lines whose times are minted.
#[derive(Debug)]
pub(crate) struct MintedLines {
    pub(crate) lines: MintedConfig,
    /// The feed, if it was opened already and cannot be opened again.
    pub(crate) looked: Option<Input>,
    pub(crate) reading: Option<Thread>,
}

/// What to read, and how.
#[derive(Clone, Debug)]
pub(crate) struct MintedConfig {
    /// A path, or `-`.
    pub(crate) path: String,
    pub(crate) format: Format,
    pub(crate) resnapshot: Resnapshot,
    pub(crate) follow: bool,
    pub(crate) on_error: OnError,
    /// Lines per second at most.
    pub(crate) throttle: Option<NonZeroU64>,
    pub(crate) counts: Arc<Counts>,
    pub(crate) stop: Stop,
}

/// A thread that reads, and what it has read.
#[derive(Debug)]
pub(crate) struct Thread {
    handed: mpsc::Receiver<Handed>,
    thread: JoinHandle<()>,
}

impl MintedLines {
    pub(crate) fn new(lines: MintedConfig, looked: Option<Input>) -> MintedLines {
        MintedLines { lines, looked, reading: None }
    }

    /// Starts to read behind a place, once whoever read before has ended.
    pub(crate) async fn start(&mut self, from: Option<FilePosition>) {
        if let Some(reading) = &mut self.reading {
            // It ends at the next thing it hands over. A panic is reported by its hook.
            reading.handed.close();
            let _ = (&mut reading.thread).await;
        }
        let (sender, handed) = mpsc::channel(BATCHES_AHEAD);
        let (lines, looked) = (self.lines.clone(), self.looked.take());
        let thread =
            tokio::task::spawn_blocking(move || Reading::new(lines, sender).run(from, looked));
        self.reading = Some(Thread { handed, thread });
    }
}

impl Source for MintedLines {
    type Key = Json;
    type Value = Json;
    type Position = FilePosition;

    /// What is in a file says which it is: the name may change, and each place has a hash.
    fn identity(&self) -> String {
        match self.lines.format {
            Format::Json => "lines".to_string(),
            Format::Debezium => "debezium lines".to_string(),
        }
    }

    async fn connect(&mut self, from: &Boundary<FilePosition>) -> Result<(), Failure> {
        self.start(from.get("").copied()).await;
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<Vec<LineEvent>>, Failure> {
        let Some(reading) = &mut self.reading else { return Ok(None) };
        match reading.handed.recv().await {
            Some(handed) => handed.map(Some),
            None => {
                let what = "the thread that reads the feed is gone";
                Err(Failure::Definite(Error::new(ErrorKind::Unavailable, what)))
            }
        }
    }
}
