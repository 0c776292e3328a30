//! Owns the remap shard: where bindings are durable before any row of their time may be. It does not
//! own when one is minted.
//!
//! A binding at `t` is the one row of the shard from `t` on: key "cursor", value the cursor's bytes.
//! It is appended as `[upper, t + 1)`, so a writer that loses that race finds another's binding there.
//!
//! Its since never passes the data upper - 1: each append sets how far it may lag, from a data upper
//! that was read before. So the place to resume from is always there, whatever the clocks say.

use std::convert::Infallible;

use super::bindings::{Binding, Bindings};
use crate::codec::packed::Encoded;
use crate::command::time::after;
use crate::error::{Error, ErrorKind};
use crate::shard::{Append, Appended, Handle, History, Hold, REMAP, remap_behind};
use crate::source::{Cursor, Durable, Position};

/// What the shard of the bindings is called in its root.
const KEY: &[u8] = b"cursor";
/// The tag of a stored value.
const VALUE: u8 = 0;

/// The remap shard beside a data shard, as far as read.
pub(super) struct Remap<P> {
    handle: Handle,
    hold: Hold,
    bindings: Bindings<P>,
    /// All bindings below it are known.
    read_to: u64,
}

impl<P: Position> Remap<P> {
    /// Opens it, in the root of a data shard, and holds what it has now.
    ///
    /// # Errors
    ///
    /// Those of the store; `Corrupt` for damage.
    pub(super) async fn open(data: &Handle) -> Result<Self, Error> {
        let handle = data.sibling(REMAP).await?;
        // Before the data upper is read: what is held then is not after that.
        let hold = handle.hold(0).await?;
        let bindings = Bindings::default();
        let mut remap = Remap { handle, hold, bindings, read_to: 0 };
        match remap.refresh().await {
            Ok(_) => Ok(remap),
            Err(error) => {
                remap.held().let_go().await;
                Err(error)
            }
        }
    }

    pub(super) fn bindings(&self) -> &Bindings<P> {
        &self.bindings
    }

    /// Checks that what is bound is of this feed, also what no row has come of yet.
    ///
    /// # Errors
    ///
    /// `FeedDiffers`.
    pub(super) fn check(&self, identity: &str) -> Result<(), Error> {
        self.bindings.last().map_or(Ok(()), |last| last.cursor.check(identity))
    }

    /// Returns the first time that is not bound yet.
    pub(super) fn upper(&self) -> u64 {
        self.read_to
    }

    /// Checks that all that a data shard holds is bound. `data_upper` was read before the last
    /// [`refresh`](Remap::refresh), so that no writer at work makes this look behind.
    ///
    /// # Errors
    ///
    /// `Corrupt`, naming both uppers: of the times between them nobody can tell what they cover.
    pub(super) fn covers(&self, data_upper: u64) -> Result<(), Error> {
        if data_upper <= self.read_to {
            return Ok(());
        }
        Err(remap_behind(data_upper, self.read_to, self.handle.url()))
    }

    /// Returns the cursor that covers what a data shard with this upper holds, and nothing else.
    ///
    /// # Errors
    ///
    /// `FeedDiffers` if it has rows that no binding covers.
    pub(super) fn resume(&self, upper: u64, identity: &str) -> Result<Durable<P>, Error> {
        match self.bindings.below(upper) {
            Some(binding) => Durable::read(&binding.bytes),
            // The times before the first binding may be closed already; nothing is in them.
            None if upper == 0 || self.bindings.last().is_some() => Ok(Durable::start(identity)),
            None => {
                let what = format!(
                    "FeedDiffers: the shard has rows below {upper}, and no binding says of where"
                );
                Err(Error::new(ErrorKind::FeedDiffers, what)
                    .hint("feed it as before, or another shard"))
            }
        }
    }

    /// Reads the bindings that others have minted. Returns whether there were any.
    ///
    /// # Errors
    ///
    /// `LeaseLost` if some have been merged away; `Corrupt` if a part is lost although its lease is
    /// there; else those of the store.
    pub(super) async fn refresh(&mut self) -> Result<bool, Error> {
        self.handle.holds().keep_surely().await?;
        // Not older than the lease, or a collection before the lease may have taken its parts.
        let lease = self.handle.holds().lease();
        let state = self.handle.refresh().await?;
        if state.upper <= self.read_to {
            return Ok(false);
        }
        if !state.tells_apart(self.read_to) {
            return Err(lost());
        }
        let mut found = Vec::new();
        for batch in state.batches.iter().filter(|batch| batch.upper > self.read_to) {
            for part in &batch.parts {
                let lower = batch.lower.max(self.read_to);
                let rows = match self.handle.fetch(part, lower, batch.upper).await {
                    Err(e) if e.kind() == ErrorKind::Missing => {
                        let lease = lease.filter(|_| !crate::mutant::on("missing_is_lease_lost"));
                        return Err(self.handle.holds().gone(lease, e, lost).await);
                    }
                    rows => rows?,
                };
                // A retraction only says again what was there before.
                found.extend(rows.into_iter().filter(|(_, _, diff)| *diff > 0));
            }
        }
        found.sort_by_key(|(_, time, _)| *time);
        for ((_, value), time, _) in found {
            let Some((&VALUE, bytes)) = value.as_bytes().split_first() else {
                return Err(Error::new(ErrorKind::Corrupt, "a binding without a value"));
            };
            let cursor = Cursor::decode(bytes)?;
            self.bindings.add(Binding { time, cursor, bytes: bytes.to_vec() })?;
        }
        self.read_to = state.upper;
        Ok(true)
    }

    /// Binds a time to a cursor, durably. Returns whether this did: if not, another has bound the next
    /// time; read that. `data_upper` is the upper of the data shard, or what it was.
    ///
    /// # Errors
    ///
    /// What an append reports.
    pub(super) async fn mint(
        &mut self,
        time: u64,
        cursor: &Cursor<P>,
        data_upper: u64,
    ) -> Result<bool, Error> {
        let (lower, upper) = (self.read_to, after(time)?);
        let row = |bytes: &[u8], diff| {
            let value = [&[VALUE], bytes].concat();
            ((Encoded::from_bytes(KEY.to_vec()), Encoded::from_bytes(value)), time, diff)
        };
        let bytes = cursor.encode();
        let mut rows = vec![row(&bytes, 1)];
        rows.extend(self.bindings.last().map(|last| row(&last.bytes, -1)));
        let parts = self.handle.prepare(rows).await?;
        let times = (upper - data_upper.saturating_sub(1)).max(1);
        let history =
            Some(History::Last(if crate::mutant::on("merge_needed_binding") { 1 } else { times }));
        let append = Append { lower, upper, parts, history, ..Append::default() };
        match self.handle.compare_and_append(append).await? {
            Appended::Won { .. } => {
                self.bindings.add(Binding { time, cursor: cursor.clone(), bytes })?;
                self.read_to = upper;
                self.handle.maintain_aside();
                Ok(true)
            }
            Appended::UpperMismatch(_) => Ok(false),
            Appended::Fenced(epoch) => Err(crate::shard::fenced(epoch)),
        }
    }

    /// Keeps its lease for as long as this is polled.
    pub(super) fn attend(&self) -> impl Future<Output = Infallible> + use<P> {
        let handle = self.handle.clone();
        async move { handle.attend().await }
    }

    /// Returns what it holds, for a caller that lets go of it when all is over.
    pub(super) fn held(&self) -> Held {
        Held(self.handle.clone())
    }

    /// Says that the data shard has this upper, and that the times below `closed` are closed here: what
    /// lies before both is not needed any more. Who is behind must still give its units their times.
    pub(super) fn forget(&mut self, data_upper: u64, closed: u64) {
        self.bindings.forget(data_upper.min(closed));
        self.handle.advance(&self.hold, data_upper.saturating_sub(1));
    }
}

/// A lease on the bindings.
pub(super) struct Held(Handle);

impl Held {
    /// Gives it up. If that fails it runs out by itself.
    pub(super) async fn let_go(self) {
        if let Err(error) = self.0.close().await {
            tracing::debug!(%error, "a lease on the bindings is left to run out");
        }
    }
}

fn lost() -> Error {
    let what = "the lease on the bindings has run out, and some are merged away";
    Error::new(ErrorKind::LeaseLost, what).hint("start again; it reads the contents anew")
}
