//! Owns telling a source what is durable: one ack at a time, beside the rows, again if it fails. It
//! does not own what an ack is.

use std::future::pending;
use std::pin::Pin;
use std::time::Duration;

use backon::ExponentialBackoff;
use tokio::sync::watch;
use tokio::time::Sleep;

use super::cursor::{Durable, Position, is_beyond};
use super::stats::SourceStats;
use super::{Ack, Failure, Source};
use crate::backoff::growing;
use crate::error::{Error, ErrorKind};

/// How long an ack may take, and the greatest delay before one that failed is tried again.
const PATIENCE: Duration = Duration::from_secs(30);
/// The first delay, and the greatest.
const DELAYS: (Duration, Duration) = (Duration::from_secs(1), PATIENCE);

/// The acks of one source.
pub(super) struct Acks<P> {
    durable: watch::Receiver<Option<Durable<P>>>,
    /// The last cursor that the source was told, and took.
    told: Option<Durable<P>>,
    in_flight: Option<(Durable<P>, Ack, Pin<Box<Sleep>>)>,
    /// After a failure: when to try again.
    again: Option<Pin<Box<Sleep>>>,
    /// How long to wait after the next failures.
    delays: ExponentialBackoff,
    stats: SourceStats,
}

impl<P: Position> Acks<P> {
    pub(super) fn new(
        mut durable: watch::Receiver<Option<Durable<P>>>,
        stats: SourceStats,
    ) -> Self {
        durable.mark_changed();
        Acks { durable, told: None, in_flight: None, again: None, delays: growing(DELAYS), stats }
    }

    /// Begins to tell the source the newest durable cursor, if that is time. Frozen while a copy is
    /// under way: the feed may have to keep what lies behind it. And a place of the generation before
    /// it is none in this one, though it may look like one that is far ahead.
    pub(super) fn start<S: Source<Position = P>>(
        &mut self,
        source: &mut S,
        generation: u64,
        frozen: bool,
    ) {
        let frozen = frozen && !crate::mutant::on("ack_in_copy");
        if frozen || self.in_flight.is_some() || self.again.is_some() {
            return;
        }
        let Some(durable) = self.durable.borrow_and_update().clone() else { return };
        let is_new = match &self.told {
            Some(told) => is_beyond(durable.cursor(), told.cursor()),
            None => true,
        };
        let is_old = durable.generation() < generation && crate::mutant::on("ack_old_generation");
        let is_now = durable.generation() == generation || is_old;
        let is_place_in_copy =
            !durable.cursor().may_be_acked() && !crate::mutant::on("ack_in_copy");
        if !is_new || !is_now || durable.is_start() || is_place_in_copy {
            return;
        }
        let ack = source.ack(&durable);
        self.in_flight = Some((durable, ack, Box::pin(tokio::time::sleep(PATIENCE))));
    }

    /// Returns what is durable of a generation.
    pub(super) fn durable(&self, generation: u64) -> Option<Durable<P>> {
        let durable = self.durable.borrow();
        durable.as_ref().filter(|durable| durable.generation() == generation).cloned()
    }

    /// Waits for whatever comes next: an answer, the end of a delay, or a newer cursor. May be dropped
    /// and called again.
    pub(super) async fn turn(&mut self) {
        if let Some((_, ack, patience)) = &mut self.in_flight {
            let answer = tokio::select! {
                biased;
                answer = ack => answer,
                () = patience => Err(Failure::Transient(late())),
            };
            self.answered(answer);
        } else if let Some(delay) = &mut self.again {
            delay.await;
            self.again = None;
        } else if self.durable.changed().await.is_err() {
            pending::<()>().await;
        }
    }

    fn answered(&mut self, answer: Result<(), Failure>) {
        let Some((durable, ..)) = self.in_flight.take() else { return };
        match answer {
            Ok(()) => {
                self.told = Some(durable);
                self.delays = growing(DELAYS);
                self.stats.acked();
            }
            // It holds nothing up: the feed keeps more than it must, which shows.
            Err(failure) => {
                self.stats.ack_failed(failure.error());
                let delay = self.delays.next().unwrap_or(PATIENCE);
                self.again = Some(Box::pin(tokio::time::sleep(delay)));
            }
        }
    }
}

fn late() -> Error {
    let what = format!("the source has not answered an ack for {} s", PATIENCE.as_secs());
    Error::new(ErrorKind::Unavailable, what)
}
