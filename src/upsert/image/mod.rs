//! Owns images of one worker's state: when one is due, the round that makes it beside the work, and the start on it. It does
//! not own what is in the state, nor whether the shard agrees with the image: that is the reader's.
//!
//! # Rounds
//!
//! The state changes only by feedback, and feedback is what the shard has. So an image need not be of one moment: each
//! segment of the index is captured as of an upper of its own, at a moment when the state is exact. A start reads the shard
//! from the least of these on, and leaves out, per segment, what is below its own. Rows that have been overwritten or
//! deleted since they were captured are superseded by what it reads, and so never looked at. What it reads waits for its
//! segment, too ([`deferred`](super::deferred)): the first append waits for the segments of the commands that are there, and for
//! these alone.
//!
//! A round is due when what a restart would have to read is half of what an image costs to write, and 4 MiB, or the bound of
//! the state if that is less: so images cost at most twice what they save. It takes a few segments, and then a few MiB of
//! rows, per wake-up; what is waited for, the syncs and the manifest, is done where reads are.
//!
//! # Limits
//!
//! History is held in the shard from the image's upper on, so that a merge does not go past it: no more than four times what
//! makes a round due. Then, or when images cannot be written, it is let go, and a start may find the image stale.
//! The file of rows has, beside the live rows, what died since the image: at most what it had then.

mod disk;
mod folder;
mod link;
mod manifest;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, channel};

use parking_lot::Mutex;

pub(crate) use disk::OsDisk;
pub(crate) use folder::{Folder, Verdict};
pub(crate) use link::{Begin, ImageLink};
use manifest::Stored;
pub(crate) use manifest::{Manifest, Mark};

use super::cold::{Job, MakeFile, Readers};
use super::entry::{ENTRY_BYTES, Hashed};
use super::index::Prefix;
use super::readers::Wake;
use super::rows::Kept;
use super::state::State;
use super::stats::{StateImage, UpsertStats};
use crate::error::{Error, ErrorKind};

/// Segments captured per wake-up.
const SEGMENTS: usize = 4;
/// Bytes of rows written per wake-up.
const WRITE_BYTES: usize = 2 << 20;
/// A start may read so many bytes of the shard without an image being due.
const DUE_BYTES_MIN: u64 = 4 << 20;
/// Bytes of an update beside its key and value.
const UPDATE_BYTES: u64 = 16;

/// Where the shard's log is, and the clock in milliseconds since the Unix epoch.
pub(crate) type MarkNow = Box<dyn Fn() -> (Mark, u64)>;

/// The images of one worker.
pub(crate) struct Images {
    folder: Folder,
    link: ImageLink,
    /// The image that a start may begin with, until that is decided.
    found: Option<Box<Manifest>>,
    begun: bool,
    /// Of each segment of the image, the time below which updates are left out.
    limits: Vec<(Prefix, u64)>,
    /// The greatest of these.
    limit: u64,
    /// The shard's upper when the state began: all that was ever written to the file of rows is below.
    floor: u64,
    mark: MarkNow,
    run: Readers,
    wake: Option<Wake>,
    next: u64,
    round: Option<Round>,
    /// Bytes of feedback since the image, or the round under way, began.
    gained: u64,
    is_durable: bool,
    /// Images cannot be written.
    given_up: bool,
    stats: UpsertStats,
}

/// An image in the making.
struct Round {
    manifest: Manifest,
    /// Where the next segment begins.
    from: u64,
    at: u64,
    /// What the syncs came to.
    synced: Option<Receiver<io::Result<()>>>,
    /// What syncs, until something runs it.
    job: Arc<Mutex<Option<Job>>>,
}

impl Images {
    /// Takes what was found in a folder.
    pub(crate) fn new(
        folder: Folder,
        found: Option<Box<Manifest>>,
        link: ImageLink,
        mark: MarkNow,
        run: Readers,
        stats: UpsertStats,
    ) -> Images {
        Images {
            next: found.as_ref().map_or(0, |found| found.round) + 1,
            folder,
            link,
            found,
            begun: false,
            limits: Vec::new(),
            limit: 0,
            floor: 0,
            mark,
            run,
            wake: None,
            round: None,
            gained: 0,
            is_durable: false,
            given_up: false,
            stats,
        }
    }

    /// Returns what opens the file of rows.
    pub(super) fn file(&self) -> MakeFile {
        let folder = self.folder.clone();
        Box::new(move || Ok(folder.rows()))
    }

    /// Says what wakes the operator.
    pub(super) fn set_wake(&mut self, wake: Wake) {
        self.wake = Some(wake);
    }

    /// Makes an empty state that of the image, once it is known that the feedback begins there; or removes the image.
    ///
    /// # Errors
    ///
    /// `StateLost` if the image is not what a state has written.
    pub(super) fn begin<K, V>(&mut self, state: &mut State<K, V>) -> Result<(), Error>
    where
        K: Kept<V> + Clone + Ord,
        V: Clone + Ord,
    {
        let Some(at_image) = self.link.begun().filter(|_| !self.begun) else { return Ok(()) };
        self.begun = true;
        self.floor = (self.mark)().0.upper;
        match self.found.take().filter(|_| at_image) {
            Some(found) => {
                let pieces: Vec<_> = found.pieces.iter().map(|stored| stored.piece).collect();
                let limits = found.pieces.iter().map(|stored| (stored.piece.prefix, stored.upper));
                self.limits = limits.collect();
                self.limit = found.pieces.iter().map(|stored| stored.upper).max().unwrap_or(0);
                let read = Box::new(self.folder.reader(&found));
                if !state.keep(&pieces, &found.chunks, read) {
                    let what = "the state's image names places that it cannot have written";
                    return Err(Error::new(ErrorKind::StateLost, what)
                        .hint("start again: it is removed, and the state read from the shard"));
                }
                self.link.need(found.least());
                self.show(&found);
                self.is_durable = true;
            }
            None => {
                let emptied = self.folder.discard().and_then(|()| self.folder.empty_rows());
                self.note(emptied);
            }
        }
        state.keep_images();
        Ok(())
    }

    /// Leaves out what the image has, and counts the rest.
    pub(super) fn take<K: Kept<V>, V, T>(
        &mut self,
        updates: &mut Vec<((K, V), T, isize)>,
        time_of: fn(&T) -> u64,
    ) {
        if self.limit > 0 && !crate::mutant::on("image_updates_twice") {
            let (limits, limit) = (&self.limits, self.limit);
            updates.retain(|((key, _), time, _)| {
                let time = time_of(time);
                time >= limit || time >= limit_of(limits, Hashed::of(key.key_hash()))
            });
        }
        let bytes = |((key, value), ..): &((K, V), T, isize)| {
            UPDATE_BYTES + K::heap_bytes(key, Some(value)) as u64
        };
        self.gained += updates.iter().map(bytes).sum::<u64>();
    }

    /// Returns the time below which this worker has all updates, given where the feedback's frontier is; `None` if that
    /// is less than what the image's segments and its rows have.
    pub(super) fn exact(&self, frontier: Option<u64>) -> Option<u64> {
        let upper = self.link.completed().min(frontier.unwrap_or(u64::MAX));
        Some(upper).filter(|upper| *upper >= self.limit.max(self.floor) && *upper > 0)
    }

    /// Goes on with a round, or begins one that is due. `exact` is the time below which the state has all updates, and no
    /// other, if that is so. Returns whether there is more to do at once.
    ///
    /// # Errors
    ///
    /// What reading a piece of the image before reports. What cannot be written is noted, and ends images.
    pub(super) fn go_on<K, V>(
        &mut self,
        state: &mut State<K, V>,
        exact: Option<u64>,
    ) -> Result<bool, Error>
    where
        K: Kept<V> + Clone + Ord,
        V: Clone + Ord,
    {
        if self.given_up || !self.begun {
            return Ok(false);
        }
        let due = self.due(state);
        if self.gained > 4 * due {
            self.link.need(u64::MAX);
        }
        if self.round.is_none() {
            let Some(upper) = exact.filter(|_| self.gained >= due) else { return Ok(false) };
            self.begin_round(state, upper);
        }
        self.step(state, exact, false)
    }

    /// Makes an image at the end of the work, unless nothing has come since the last one.
    ///
    /// # Errors
    ///
    /// As [`go_on`](Images::go_on).
    pub(super) fn end<K, V>(&mut self, state: &mut State<K, V>, exact: u64) -> Result<(), Error>
    where
        K: Kept<V> + Clone + Ord,
        V: Clone + Ord,
    {
        while !self.given_up && self.begun {
            if self.round.is_none() {
                if self.gained == 0 && self.is_durable {
                    break;
                }
                self.begin_round(state, exact);
            }
            self.step(state, Some(exact), true)?;
        }
        Ok(())
    }

    /// Ends images, for the operator has failed: the image is removed if it may be to blame. Returns why it has failed: a
    /// state that began with an image may have the damage from there, and the shard says whether it has.
    pub(super) fn fail(&mut self, error: Error) -> Error {
        self.given_up = true;
        if !matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::StateLost) {
            return error;
        }
        let removed = self.folder.distrust();
        self.note(removed);
        match self.limit > 0 {
            true => error.of_kind(ErrorKind::StateLost),
            false => error,
        }
    }

    fn due<K, V>(&self, state: &State<K, V>) -> u64
    where
        K: Kept<V> + Clone + Ord,
        V: Clone + Ord,
    {
        let entries = (state.len() * ENTRY_BYTES) as u64;
        let least = DUE_BYTES_MIN.min(state.bytes_max().map_or(u64::MAX, |max| max as u64));
        ((entries + state.places().hot_bytes) / 2).max(least).max(1)
    }

    fn begin_round<K, V>(&mut self, state: &mut State<K, V>, upper: u64)
    where
        K: Kept<V> + Clone + Ord,
        V: Clone + Ord,
    {
        let number = self.next;
        self.next += 1;
        if let Err(error) = self.folder.begin(number) {
            return self.give_up(state, error);
        }
        state.begin_round();
        self.gained = 0;
        let errors = self.link.errors_below(upper);
        let manifest = Manifest { round: number, errors, ..Manifest::default() };
        self.round = Some(Round { manifest, from: 0, at: 0, synced: None, job: Arc::default() });
        if !self.is_durable {
            self.link.need(upper);
        }
    }

    fn step<K, V>(
        &mut self,
        state: &mut State<K, V>,
        exact: Option<u64>,
        to_the_end: bool,
    ) -> Result<bool, Error>
    where
        K: Kept<V> + Clone + Ord,
        V: Clone + Ord,
    {
        let Some(round) = &mut self.round else { return Ok(false) };
        if let Some(synced) = &round.synced {
            // What would run it may be waiting for this very thread.
            let job = if to_the_end { round.job.lock().take() } else { None };
            if let Some(job) = job {
                job();
            }
            let outcome = match to_the_end {
                true => synced.recv().map_err(|_| TryRecvError::Disconnected),
                false => synced.try_recv(),
            };
            return Ok(match outcome {
                Ok(outcome) => self.end_round(state, outcome),
                // It wakes.
                Err(TryRecvError::Empty) => false,
                Err(TryRecvError::Disconnected) => {
                    self.end_round(state, Err(io::ErrorKind::Interrupted.into()))
                }
            });
        }
        if round.from < 1 << 32 {
            let Some(upper) = exact else { return Ok(false) };
            for _ in 0..SEGMENTS {
                let captured = state.capture(round.from)?;
                let (piece, bytes) = (captured.piece, captured.bytes);
                let written = self.folder.write_piece(round.manifest.round, round.at, &bytes);
                if let Err(error) = written {
                    return Ok(self.end_round(state, Err(error)));
                }
                let crc = crc32c::crc32c(&bytes);
                round.manifest.pieces.push(Stored { piece, at: round.at, crc, upper });
                round.at += bytes.len() as u64;
                round.from = piece.prefix.end();
                if round.from >= 1 << 32 {
                    break;
                }
            }
            return Ok(true);
        }
        let written = match state.write_round(WRITE_BYTES) {
            Ok(None) => return Ok(true),
            Ok(Some(chunks)) => chunks,
            Err(error) => {
                return Ok(self.end_round(state, Err(io::Error::other(error.to_string()))));
            }
        };
        round.manifest.chunks = written;
        let (mark, made_ms) = (self.mark)();
        round.manifest.mark = mark;
        round.manifest.made_ms = made_ms;
        round.manifest.worker = self.folder.worker();
        let (sender, receiver) = channel();
        let (folder, manifest) = (self.folder.clone(), round.manifest.clone());
        let wake = self.wake.clone();
        round.synced = Some(receiver);
        let job: Job = Box::new(move || {
            // An error means that the operator is gone.
            let _ = sender.send(folder.finish(&manifest));
            if let Some(wake) = wake {
                wake();
            }
        });
        if to_the_end {
            job();
            return Ok(false);
        }
        *round.job.lock() = Some(job);
        let job = Arc::clone(&round.job);
        (self.run)(Box::new(move || {
            let job = job.lock().take();
            if let Some(job) = job {
                job();
            }
        }));
        Ok(false)
    }

    /// Ends the round. Returns false: there is nothing more to do.
    fn end_round<K, V>(&mut self, state: &mut State<K, V>, outcome: io::Result<()>) -> bool
    where
        K: Kept<V> + Clone + Ord,
        V: Clone + Ord,
    {
        let Some(round) = self.round.take() else { return false };
        match outcome {
            Ok(()) => {
                state.end_round();
                self.is_durable = true;
                self.link.need(round.manifest.least());
                self.show(&round.manifest);
                // All of the image before is read by now: a round captures each segment.
                if let Err(error) = self.folder.remove_pieces(Some(round.manifest.round)) {
                    tracing::debug!(%error, "pieces of an image before stay");
                }
            }
            Err(error) => {
                state.give_round_up();
                self.give_up(state, error);
            }
        }
        false
    }

    /// Ends images, which cannot be written.
    fn give_up<K, V>(&mut self, state: &mut State<K, V>, error: io::Error)
    where
        K: Kept<V> + Clone + Ord,
        V: Clone + Ord,
    {
        self.note(Err(error));
        // Without an image its regions are free for use. With one that cannot be removed they are not.
        match self.folder.distrust() {
            Ok(()) => state.end_images(),
            Err(error) => tracing::warn!(%error, "an image of the state stays"),
        }
    }

    fn show(&self, manifest: &Manifest) {
        self.stats.set_image(StateImage {
            upper: manifest.least(),
            bytes: manifest.bytes().max(1),
            made_ms: manifest.made_ms,
        });
    }

    /// Ends images where they cannot be written: the work goes on without.
    fn note(&mut self, outcome: io::Result<()>) {
        if let Err(error) = outcome {
            tracing::warn!(%error, "no further image of the state is written");
            self.given_up = true;
            self.link.need(u64::MAX);
        }
    }
}

/// Returns the time below which updates of a hash are left out.
fn limit_of(limits: &[(Prefix, u64)], hashed: Hashed) -> u64 {
    let past = limits.partition_point(|(prefix, _)| prefix.is_up_to(hashed));
    limits.get(past.wrapping_sub(1)).map_or(0, |(_, upper)| *upper)
}
