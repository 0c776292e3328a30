//! Owns rows of a shard that are read in bounded memory, in the order of their hashes: a snapshot larger than memory, and
//! the whole history as `verify` looks at it. How runs become one sequence is [`weave`](super::weave)'s.
//!
//! Parts that are too many to be open at once are merged into a scratch file first. That is rare: a merged batch is one
//! run, however large it is.

use std::fmt;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::engine::part::{ALL, Update, Written, decode_share};
use super::engine::state::{Batch, State};
use super::holds::{Hold, Holds};
use super::memory::Counted;
use super::rows::Rows;
use super::weave::{Moved, Passes, Reads, Shelf, Spill, runs};
use crate::codec::packed::Encoded;
use crate::error::{Error, ErrorKind};

/// How often a snapshot goes on from a newer state, without a row in between, because a collector took a part of it.
const ATTEMPTS_MAX: u32 = 3;

type Weaving = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

/// The rows of some batches, a piece at a time: consolidated, by the hash of the key, key, time, diff and value.
pub(super) struct Woven {
    /// Works as long as it is polled; gone at its end.
    weaving: Option<Weaving>,
    pieces: mpsc::Receiver<Written>,
    rows: Rows,
    /// The piece that was handed over last.
    handed: Option<Counted>,
    failed: Option<Error>,
}

impl Woven {
    /// Begins with the rows before `upper`, each forwarded to at least `forwarded`, of keys with one of the hashes.
    pub(super) fn new(
        rows: &Rows,
        batches: Vec<Arc<Batch>>,
        upper: u64,
        forwarded: u64,
        hashes: RangeInclusive<u64>,
    ) -> Woven {
        let (sender, pieces) = mpsc::channel(1);
        let reader = rows.clone();
        let weaving = async move {
            let mut all = Vec::new();
            for batch in batches.iter().filter(|batch| batch.lower < upper) {
                all.extend(runs(&reader, batch, upper).await?);
            }
            drop(batches);
            let spill = Spill::default();
            let (rows, gauge) = (&reader, &reader.reading);
            let bytes_max = rows.view.config.read_bytes_max as u64;
            let passes = Passes {
                reads: Reads { rows, spill: Some(&spill), gauge, hashes, forwarded },
                // The rest is for what is written.
                bytes_max: bytes_max - bytes_max / 4,
                between: Shelf::Scratch(&spill),
                last: Shelf::Reader(&sender),
            };
            passes.merge(all, &mut Moved::default()).await.map(drop)
        };
        let (rows, weaving) = (rows.clone(), Some(Box::pin(weaving) as Weaving));
        Woven { weaving, pieces, rows, handed: None, failed: None }
    }

    /// Returns the next piece; `None` at the end. Once it has failed it fails again.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<Update>>, Error> {
        let mut piece = self.one().await?;
        if let Some(all) = &mut piece
            && crate::mutant::on("snapshot_in_memory")
        {
            while let Some(mut more) = self.one().await? {
                all.append(&mut more);
            }
        }
        Ok(piece)
    }

    async fn one(&mut self) -> Result<Option<Vec<Update>>, Error> {
        self.handed = None;
        let written = loop {
            let Some(weaving) = &mut self.weaving else {
                match &self.failed {
                    Some(failed) => return Err(failed.clone()),
                    None => break self.pieces.recv().await,
                }
            };
            tokio::select! {
                biased;
                Some(piece) = self.pieces.recv() => break Some(piece),
                woven = weaving => {
                    self.weaving = None;
                    self.failed = woven.err();
                }
            }
        };
        let Some(written) = written else { return Ok(None) };
        self.handed = Some(self.rows.reading.count(written.bytes.len() as u64));
        decode_share(&Arc::new(written.bytes), 0, u64::MAX, ALL).map(Some)
    }
}

/// The collection as of one time, a piece after another: see [`Handle::stream`](super::Handle::stream).
pub struct SnapshotStream {
    rows: Rows,
    as_of: u64,
    woven: Woven,
    held: Held,
    /// The row that was handed over last.
    last: Option<Update>,
    /// How often it has begun anew since then.
    attempts: u32,
}

impl SnapshotStream {
    /// Begins a snapshot, which may hold what it reads.
    pub(super) async fn begin(
        rows: &Rows,
        as_of: u64,
        hold: Option<Hold>,
    ) -> Result<SnapshotStream, Error> {
        let held = Held { holds: rows.holds.clone(), hold };
        let mut state = rows.view.state();
        if as_of >= state.upper {
            state = rows.view.refresh().await?;
        }
        let woven = from(rows, &state, as_of, ALL)?;
        let rows = rows.clone();
        Ok(SnapshotStream { rows, as_of, woven, held, last: None, attempts: 1 })
    }

    /// Returns the time of the snapshot.
    pub fn as_of(&self) -> u64 {
        self.as_of
    }

    /// Returns the next rows, each `(key, value)` once with its count and the time of the snapshot; `None` at the end.
    /// Rows are in the order of the hash of their key, and those of one key are together.
    ///
    /// Dropped half way it has returned nothing, and can be called again.
    ///
    /// # Errors
    ///
    /// As [`Handle::stream`](super::Handle::stream). `Missing` if collectors took parts of it three times running. What was
    /// returned before an error is not the collection, and no more comes.
    pub async fn next(&mut self) -> Result<Option<Vec<Update>>, Error> {
        loop {
            match self.woven.next().await {
                Ok(Some(mut piece)) => {
                    self.skip(&mut piece);
                    let Some(last) = piece.last() else { continue };
                    self.last = Some(own(last));
                    self.attempts = 1;
                    if self.held.hold.is_some() {
                        self.rows.holds.keep_surely().await?;
                    }
                    return Ok(Some(piece));
                }
                Err(e) if e.kind() == ErrorKind::Missing && self.attempts < ATTEMPTS_MAX => {
                    self.attempts += 1;
                    let state = self.rows.view.refresh().await?;
                    let hash = self.last.as_ref().map_or(0, |((key, _), ..)| key.stable_hash());
                    self.woven = from(&self.rows, &state, self.as_of, hash..=u64::MAX)?;
                }
                end => return end,
            }
        }
    }

    /// Drops rows that were handed over before it began anew: every state has the same rows in the same order.
    fn skip(&self, piece: &mut Vec<Update>) {
        let Some(((key, value), _, diff)) = &self.last else { return };
        if crate::mutant::on("stream_begins_anew") {
            return;
        }
        let last = (key.stable_hash(), key, diff, value);
        let done = piece.partition_point(|((key, value), _, diff)| {
            (key.stable_hash(), key, diff, value) <= last
        });
        piece.drain(..done);
    }
}

/// Begins with the newest state that is known, at some hash.
fn from(
    rows: &Rows,
    state: &State,
    as_of: u64,
    hashes: RangeInclusive<u64>,
) -> Result<Woven, Error> {
    let (since, upper) = (state.since, state.upper);
    if as_of < since || as_of >= upper {
        let what = format!("no snapshot as of {as_of}: since is {since}, upper is {upper}");
        return Err(Error::new(ErrorKind::Invalid, what)
            .at(rows.view.url())
            .hint("ask for a time from since to below upper"));
    }
    // From as_of + 1 on no row is needed; as_of < upper, so this does not overflow.
    Ok(Woven::new(rows, state.batches.clone(), as_of + 1, as_of, hashes))
}

/// Returns a row that keeps nothing in memory but itself.
fn own(((key, value), time, diff): &Update) -> Update {
    let own = |row: &Encoded| Encoded::from_bytes(row.as_bytes().to_vec());
    ((own(key), own(value)), *time, *diff)
}

impl fmt::Debug for SnapshotStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("SnapshotStream");
        debug.field("as_of", &self.as_of).field("hold", &self.held.hold).finish_non_exhaustive()
    }
}

/// What a snapshot holds, as long as it is read.
struct Held {
    holds: Holds,
    hold: Option<Hold>,
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(hold) = self.hold.take() {
            let holds = self.holds.clone();
            // If nobody runs it, the lease runs out.
            self.holds.view.io.spawn(async move { holds.release(hold).await });
        }
    }
}
