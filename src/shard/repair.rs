//! Owns ending the error of a key by hand: a commit of one retraction, which no feed has commanded. It does not own how
//! an error came about, nor how it is shown.
//!
//! # Why it is sound
//!
//! The retraction needs a time, and takes the shard's upper, `u`: the commit is `[u, u + 1)`.
//!
//! * *Writers at work* may have emitted rows past `u` that follow from the error: they run ahead, and the sums of their
//!   feed are still the shard's. So the commit raises the epoch, and every writer that was there is shut out; it is to
//!   open the shard again, which stays shared, and reads on. Writers whose lease is in the log are not shut out: while a
//!   lease is held at its beginning, nothing is committed.
//! * *Rows of the feed at `u`* would be below the upper, and dropped. Of given times the commit says the same sum of
//!   commands as before, so a feed with a command at `u` differs, and is refused by name. A feed that nobody checks
//!   would lose it without a word: there the repair is refused. Of minted times `u` is taken in `remap/` first, by an
//!   empty interval, so that no row is ever bound to it.
//! * *A place in a feed that must be covered by each commit* is the one writer's to say: an exclusive shard is refused.
//! * *A sealed shard* has no time left.
//!
//! Where it is refused, one more command for the key, in the feed, ends its error.

use super::engine::append::{Append, Appended};
use super::engine::entry::Feed;
use super::engine::format::REMAP;
use super::engine::state::State;
use super::handle::Handle;
use super::stream::SnapshotStream;
use crate::codec::is_error;
use crate::codec::packed::Encoded;
use crate::error::{Error, ErrorKind};

/// Lost races after which it gives up.
const RACES_MAX: u32 = 16;

/// An error that was ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Repaired {
    /// What was stored of it: the tag of an error, and its text.
    pub error: Encoded,
    /// The time of the retraction, which no row of the feed may have.
    pub time: u64,
    /// The epoch from there on.
    pub epoch: u64,
}

impl Handle {
    /// Ends the error of a key, by a commit that retracts it at the shard's upper and raises the epoch: writers that are
    /// at work are shut out. From there on the key has no value, until a command brings one. Reads the collection until
    /// it finds the key: O(rows).
    ///
    /// # Errors
    ///
    /// `Missing` if the key is not in error. `Invalid` where no retraction by hand is sound: the shard is sealed,
    /// exclusive, in use, or fed without a check by a feed with times of its own. Else as
    /// [`compare_and_append`](Handle::compare_and_append).
    pub async fn end_error(&self, key: &Encoded) -> Result<Repaired, Error> {
        let mut state = self.refresh().await?;
        // Once: what is prepared may take a lease of our own.
        if let Some(lease) = state.leases.keys().next() {
            return Err(refused(&format!("the shard is in use, by the holder of lease {lease}"))
                .at(self.url())
                .hint("stop what writes to it or holds its history first; `shard gc` ends the leases of the dead"));
        }
        for _ in 0..RACES_MAX {
            let (time, epoch) = repairable(&state).map_err(|e| e.at(self.url()))?;
            let error = self.error_of(key, &state).await?;
            if state.feed.as_ref().is_some_and(|feed| feed.mode == Feed::MINTED) {
                self.take_from_feed(time).await?;
            }
            let parts = self.prepare(vec![((key.clone(), error.clone()), time, -1)]).await?;
            let append = Append {
                lower: time,
                upper: time + 1,
                parts: parts.clone(),
                fence: Some(state.epoch),
                epoch: Some(epoch).filter(|_| !crate::mutant::on("repair_beside_writers")),
                shared: true,
                base: state.sum(),
                sum: state.sum(),
                ..Append::default()
            };
            match self.compare_and_append(append).await? {
                Appended::Won { .. } => return Ok(Repaired { error, time, epoch }),
                // Whatever was committed meanwhile may have ended it.
                Appended::UpperMismatch(_) | Appended::Fenced(_) => self.discard(parts).await,
            }
            state = self.refresh().await?;
        }
        Err(Error::new(ErrorKind::Unavailable, "others commit all the time")
            .at(self.url())
            .hint("stop the shard's writers first"))
    }

    /// Returns the error that a key has just below the upper.
    async fn error_of(&self, key: &Encoded, state: &State) -> Result<Encoded, Error> {
        let none = |what: &str| {
            let what = format!("the key {what}");
            Err(Error::new(ErrorKind::Missing, what)
                .at(self.url())
                .hint("`shard errors` lists the keys in error"))
        };
        let Some(as_of) = state.upper.checked_sub(1) else { return none("is not in the shard") };
        // Nothing is held: a lease would be one more entry, and the commit fails if anything comes in between.
        let mut rows = SnapshotStream::begin(self.rows(), as_of, None).await?;
        while let Some(piece) = rows.next().await? {
            let Some(((_, value), ..)) = piece.iter().find(|((found, _), ..)| found == key) else {
                continue;
            };
            return match is_error(value.as_bytes()) {
                true => Ok(Encoded::from_bytes(value.as_bytes().to_vec())),
                false => none("has a value, and no error"),
            };
        }
        none("is not in the shard")
    }

    /// Sees to it that no row of a feed whose times are minted is ever bound to this one.
    async fn take_from_feed(&self, time: u64) -> Result<(), Error> {
        let remap = self.sibling(REMAP).await?;
        let taken = self.take_in(&remap, time).await;
        let closed = remap.close().await;
        taken?;
        closed
    }

    async fn take_in(&self, remap: &Handle, time: u64) -> Result<(), Error> {
        let upper = remap.state().upper;
        // An attempt before this one may have come so far.
        if upper == time + 1 && remap.state().batches.iter().all(|batch| batch.upper <= time) {
            return Ok(());
        }
        if upper != time {
            return Err(refused(&format!("rows of the feed are bound to times up to {upper}"))
                .at(self.url())
                .hint("run its writer until they are committed"));
        }
        let empty = Append {
            lower: time,
            upper: time + 1,
            fence: Some(remap.state().epoch),
            ..Append::default()
        };
        match remap.compare_and_append(empty).await? {
            Appended::Won { .. } => Ok(()),
            Appended::UpperMismatch(_) | Appended::Fenced(_) => {
                Err(refused("a writer binds rows of the feed at this moment")
                    .at(self.url())
                    .hint("stop the shard's writers first"))
            }
        }
    }
}

/// Returns the time and the epoch of a repair.
///
/// # Errors
///
/// `Invalid` where none is sound.
fn repairable(state: &State) -> Result<(u64, u64), Error> {
    let in_feed = "feed it one more command for this key: that ends its error";
    if let Some(end) = state.sealed_at {
        return Err(refused(&format!("the shard is sealed at {end}"))
            .hint("use another shard for more commits"));
    }
    let mode = state.feed.as_ref().map(|feed| &*feed.mode);
    if mode == Some(Feed::CO_COMMITTED) || !state.is_shared() {
        return Err(refused("the shard is exclusive: only its one writer commits").hint(in_feed));
    }
    let is_checked = state.sum().is_some() || crate::mutant::on("repair_unchecked");
    if mode == Some(Feed::GIVEN) && !is_checked {
        let upper = state.upper;
        let what = format!("nobody checks the feed: a row of it at time {upper} would be lost");
        return Err(refused(&what).hint(in_feed));
    }
    let last = |number: u64| number.checked_add(1).filter(|next| *next < u64::MAX);
    match (last(state.upper), last(state.epoch)) {
        (Some(_), Some(epoch)) => Ok((state.upper, epoch)),
        _ => Err(refused("the shard has no time or no epoch left").hint("use another shard")),
    }
}

fn refused(why: &str) -> Error {
    Error::new(ErrorKind::Invalid, format!("an error cannot be ended by hand here: {why}"))
}
