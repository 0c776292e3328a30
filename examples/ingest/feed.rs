//! Owns what a feed is to the pipeline: a [`TimedSource`] of JSON keys and cells, whichever kind it is.
//! It does not own how any kind is read.
//!
//! Reading blocks (files, pipes, git), so it runs on a thread that may, and what it reads goes
//! straight into the pipeline's outlet from there.

use std::time::Duration;

use differential_upsert::input::{Outlet, TimedSource};
use differential_upsert::{Error, ErrorKind};

use crate::emit::{Blocking, Sink};
use crate::git::GitHistory;
use crate::json::{Cell, Json};
use crate::reader::JsonLines;
use crate::stop::{Stop, stopped};

/// How long the reading thread gets to hand over what it has when the run is stopped. It may sit
/// in a read of a silent pipe, which nothing but its writer can end.
const PARTING: Duration = Duration::from_millis(200);

/// A feed, not yet opened.
#[derive(Debug)]
pub(crate) enum Feed {
    Lines(JsonLines),
    Git(GitHistory),
}

impl Feed {
    /// Reads the feed into a sink and returns its end E. Blocks.
    pub(crate) fn read<S: Sink>(self, sink: S) -> Result<u64, Error> {
        match self {
            Feed::Lines(lines) => lines.read(sink),
            Feed::Git(history) => history.read(sink),
        }
    }

    fn stop(&self) -> Stop {
        match self {
            Feed::Lines(lines) => lines.stop.clone(),
            Feed::Git(history) => history.stop.clone(),
        }
    }
}

impl TimedSource for Feed {
    type Key = Json;
    type Value = Cell;
    type Order = u64;

    async fn run(self, outlet: Outlet<Json, Cell, u64>) -> Result<u64, Error> {
        let stop = self.stop();
        let runtime = tokio::runtime::Handle::current();
        // If this future is dropped, nobody takes what the thread reads: it must end too.
        let abandon = Abandon(stop.clone());
        let mut reading =
            tokio::task::spawn_blocking(move || self.read(Blocking { outlet, runtime }));
        let ended = tokio::select! {
            ended = &mut reading => Some(ended),
            () = stop.wait() => tokio::time::timeout(PARTING, reading).await.ok(),
        };
        std::mem::forget(abandon);
        match ended {
            Some(Ok(ended)) => ended,
            Some(Err(e)) => {
                Err(Error::new(ErrorKind::Unavailable, "the thread that reads the feed panicked")
                    .because(e))
            }
            None => Err(stopped()),
        }
    }
}

struct Abandon(Stop);

impl Drop for Abandon {
    fn drop(&mut self) {
        self.0.abandon();
    }
}
