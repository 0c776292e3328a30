//! Owns [`Handle`], the face of an open shard: what a program calls, handed to the part that does it. It
//! opens and refreshes; everything else is another file's.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::futures::Notified;
use tokio::sync::watch;
use tokio::time::Instant;

use super::config::HandleOptions;
use super::counters::{Counters, MaintenanceStats};
use super::engine::append::{Append, Appended};
use super::engine::arrange::size;
use super::engine::entry::Entry;
use super::engine::format::Schema;
use super::engine::id::Id;
use super::engine::part::{Prepared, Update};
use super::engine::state::{Part, State};
use super::holds::{Hold, Holds};
use super::memory::MemoryStats;
use super::rows::Rows;
use super::settle::Settler;
use super::snapshot::snapshot;
use super::stream::SnapshotStream;
use super::upkeep::Upkeep;
use super::view::View;
use crate::error::Error;
use crate::io::Io;
use crate::store::{Root, Trouble};

/// Rows of more bytes are encoded and decoded beside the tasks.
const BESIDE_BYTES: u64 = 64 << 10;

/// An open shard. Clones share everything: one state, one cache, one append in flight.
///
/// Behind it: a *view*, which has read the log as far as it goes, and what works on it. *Appends* settle
/// entries, *rows* become parts and come back, *holds* keep a lease, *upkeep* keeps the shard small.
#[derive(Clone)]
pub struct Handle {
    parts: Arc<Parts>,
}

struct Parts {
    view: Arc<View>,
    settler: Settler,
    holds: Holds,
    rows: Rows,
    upkeep: Upkeep,
}

impl Handle {
    /// Opens a shard of a root and reads its log to the head.
    ///
    /// A writer makes a shard out of an empty root, for which it needs the schema. A reader changes
    /// nothing; an empty root is an empty shard to it.
    ///
    /// # Errors
    ///
    /// `Missing` if a reader finds nothing at all; `Invalid` if the root holds something else, or a
    /// new shard has no schema; `Unsupported` for another format, another schema, or a store
    /// without create-if-absent; `Corrupt` for damage; `Replaced` if something was opened through
    /// this root before, and it is gone or another by now; else those of the store.
    pub async fn open(root: Root, io: Io, options: HandleOptions) -> Result<Handle, Error> {
        View::open(root, io, options).await.map(Handle::of)
    }

    /// Opens another shard of the same root, for the same kind of access.
    ///
    /// # Errors
    ///
    /// As [`open`](Handle::open).
    pub(crate) async fn sibling(&self, name: &str) -> Result<Handle, Error> {
        self.parts.view.sibling(name).await.map(Handle::of)
    }

    fn of(view: Arc<View>) -> Handle {
        let settler = Settler::new(Arc::clone(&view));
        let holds = Holds::new(settler.clone());
        let rows = Rows::new(holds.clone());
        let upkeep = Upkeep::new(&settler, &rows);
        Handle { parts: Arc::new(Parts { view, settler, holds, rows, upkeep }) }
    }

    /// Returns what the shard's keys and values are; for a reader of an empty shard what it asked
    /// for, or empty names.
    pub fn schema(&self) -> Schema {
        self.parts.view.schema()
    }

    /// Returns the address of the root.
    pub fn url(&self) -> &str {
        self.parts.view.url()
    }

    /// Returns the last settled state known here. No I/O.
    pub fn state(&self) -> Arc<State> {
        self.parts.view.state()
    }

    /// Returns what this handle has done since it was opened. No I/O.
    pub fn counters(&self) -> Counters {
        self.parts.view.counters()
    }

    /// Returns what its compactions and collections have done. No I/O.
    pub fn maintenance(&self) -> MaintenanceStats {
        self.parts.upkeep.maintenance()
    }

    /// Returns what it has in memory. No I/O.
    pub fn memory(&self) -> MemoryStats {
        self.parts.rows.memory()
    }

    /// Returns the number of the last settled entry as it changes; it is sent before the call that
    /// changed it returns.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.parts.view.changed()
    }

    /// Waits for the next change of the state after this call. Waiters are woken in the order in
    /// which they came, so that a simulation replays.
    pub(crate) fn next_change(&self) -> Notified<'_> {
        self.parts.view.next_change()
    }

    /// Returns which root it is; `None` if that has no incarnation.
    pub(crate) fn incarnation(&self) -> Option<Id> {
        let name = self.parts.view.guarded.known()?;
        super::engine::incarnation::decode(&name).ok()
    }

    /// Returns the name of an entry, if the log still has it.
    ///
    /// # Errors
    ///
    /// `Corrupt` for damage, else those of the store.
    pub(crate) async fn token_of(&self, seqno: u64) -> Result<Option<Id>, Error> {
        let entry = self.parts.view.log.get(seqno).await?;
        entry.map(|bytes| Entry::token_of(seqno, &bytes)).transpose()
    }

    /// Returns the milliseconds since 1970, by the clock of its I/O.
    pub(crate) fn now_ms(&self) -> u64 {
        self.parts.view.io.now_ms()
    }

    /// Returns what has had no answer of the store for longest, here or in a sibling.
    pub(crate) fn trouble(&self, now: Instant) -> Option<Trouble> {
        self.parts.view.trouble(now)
    }

    /// Whether a trouble is still one.
    pub(crate) fn is_in(&self, trouble: &Trouble) -> bool {
        self.parts.view.is_in(trouble)
    }

    /// Reads the log to its head and returns the state there. One get and one list when there is
    /// nothing new.
    ///
    /// # Errors
    ///
    /// `Corrupt` for damage, `Unsupported` for entries of a later version, `Replaced` if the shard was
    /// removed or replaced, else those of the store. The state stays what it was.
    pub async fn refresh(&self) -> Result<Arc<State>, Error> {
        self.parts.view.refresh().await
    }

    /// As [`refresh`](Handle::refresh), for one that looks at a shard at rest and will look again: one get most
    /// times. What was removed or replaced shows some looks later.
    pub(crate) async fn glance(&self) -> Result<(), Error> {
        self.parts.view.glance().await
    }

    /// Appends iff the shard's upper is `append.lower`, durably, and says which append won.
    ///
    /// Runs to its end even if the caller stops waiting. One append is in flight per handle; others
    /// wait. The state known here then holds the entry.
    ///
    /// # Errors
    ///
    /// `Indeterminate`: it may have happened, or may still: read the upper, and delete nothing.
    /// `Unavailable`: it did not happen. `Refused`: nor will it. `Invalid`: it cannot. `LeaseLost`: it names parts that may
    /// have been swept meanwhile. `Replaced`: the shard was removed or replaced, and with it whatever
    /// was under way. `Corrupt`: the log is damaged.
    pub async fn compare_and_append(&self, append: Append) -> Result<Appended, Error> {
        self.parts.settler.compare_and_append(append).await
    }

    /// Raises the epoch, which shuts out every other writer, and returns it.
    pub(crate) async fn take_over(&self) -> Result<u64, Error> {
        self.parts.settler.take_over().await
    }

    /// Returns what enters changes into its log.
    pub(super) fn settler(&self) -> &Settler {
        &self.parts.settler
    }

    /// Returns what is known of the shard, for those that read its log.
    pub(super) fn view(&self) -> &Arc<View> {
        &self.parts.view
    }

    /// Returns the rows, for followers.
    pub(crate) fn rows(&self) -> &Rows {
        &self.parts.rows
    }

    /// Runs a future over so many bytes of rows: beside the tasks, if they are many.
    pub(crate) async fn beside<T: Send + 'static>(
        &self,
        bytes: u64,
        future: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        if bytes <= BESIDE_BYTES { future.await } else { self.parts.view.io.beside(future).await }
    }

    /// Consolidates updates, sorts them by key, time, diff and value (so a retraction stands right
    /// before the insertion that replaces it), encodes them, and uploads what is too large for a
    /// log entry. No updates, or only ones that cancel, make no part.
    ///
    /// O(n log n), on the calling thread where that is little: call it from a task.
    ///
    /// # Errors
    ///
    /// `Unavailable` if a part cannot be stored; nothing is referenced then. `Invalid` on a handle
    /// opened for reading, and for a row of 4 GiB or more. `Replaced` if the shard was removed or replaced.
    pub async fn prepare(&self, updates: Vec<Update>) -> Result<Vec<Prepared>, Error> {
        let bytes: usize = updates.iter().map(size).sum();
        let rows = self.parts.rows.clone();
        self.beside(bytes as u64, async move { rows.prepare(updates).await }).await
    }

    /// Does ahead what the first [`prepare`](Handle::prepare) would do besides: for a writer that may be in a hurry then.
    /// It leaves nothing in the store, and a failure of it is no loss.
    pub(crate) async fn ready(&self) {
        if let Err(e) = self.parts.rows.ready().await {
            tracing::debug!(error = %e, "not made ready to write");
        }
    }

    /// Returns the updates of a part whose time is in `[lower, upper)`: pass the bounds of the
    /// part's batch. The rows share one buffer.
    ///
    /// # Errors
    ///
    /// `Missing` if it is gone: read on to a newer state, which does not name it. `Corrupt` if it is
    /// damaged or not what the state says; else those of the store.
    pub async fn fetch(&self, part: &Part, lower: u64, upper: u64) -> Result<Vec<Update>, Error> {
        self.parts.rows.fetch(part, lower, upper).await
    }

    /// Deletes the parts of an append that surely lost. Never call it after an unknown outcome: a
    /// committed entry may name them. What cannot be deleted now a later sweep finds.
    pub async fn discard(&self, prepared: Vec<Prepared>) {
        self.parts.rows.discard(prepared).await;
    }

    /// Returns the collection as of a time: every `(key, value)` with its count, consolidated, with
    /// that time, sorted by key and value. The whole collection is in memory at once, and besides it what
    /// [`stream`](Handle::stream) has, which is for collections that are larger.
    ///
    /// Takes no lease: if a part is gone it starts again from the newest state, three times.
    ///
    /// # Errors
    ///
    /// `Invalid` unless `since <= as_of < upper`, naming the three; else as [`fetch`](Handle::fetch).
    pub async fn snapshot(&self, as_of: u64) -> Result<Vec<Update>, Error> {
        snapshot(&self.parts.rows, as_of).await
    }

    /// Returns the collection as of a time, a piece after another, each row once: a collection of any size, in memory of
    /// [`read_bytes_max`](super::HandleConfig::read_bytes_max), or of two parts, and one piece, of a 256th of that. Rows
    /// come in the order of the hash of their key. Where parts are too many to be read side by side, which merges do not
    /// leave for long, they are merged into a temporary file first.
    ///
    /// Holds the history from there on until it is dropped, if this handle was opened for writing. If for reading, nothing
    /// is held: if a part is gone it goes on from the newest state at the row it stands at, as long as that still
    /// tells the time apart.
    ///
    /// # Errors
    ///
    /// As [`snapshot`](Handle::snapshot) and [`hold`](Handle::hold); `Unavailable` if there is no room for temporary files.
    pub async fn stream(&self, as_of: u64) -> Result<SnapshotStream, Error> {
        let hold = Some(self.parts.holds.hold(as_of).await?);
        SnapshotStream::begin(&self.parts.rows, as_of, hold).await
    }

    /// Returns the holds, for followers.
    pub(crate) fn holds(&self) -> &Holds {
        &self.parts.holds
    }

    /// Holds the shard's history: from now on times at or after `since` stay apart, and no part of
    /// the states that this handle reads is deleted. If since has passed the one asked for, it holds
    /// the present one: see [`Hold::since`]. No entry if the handle's lease says so already.
    ///
    /// A handle opened for reading holds nothing, and no harm is done: a part that is gone is then
    /// an error.
    ///
    /// # Errors
    ///
    /// As [`compare_and_append`](Handle::compare_and_append); nothing is held then.
    pub async fn hold(&self, since: u64) -> Result<Hold, Error> {
        self.parts.holds.hold(since).await
    }

    /// Says that a follower needs no time before `since` and no state before the one known here. No
    /// I/O: the next entry of this handle says it on.
    pub fn advance(&self, hold: &Hold, since: u64) {
        self.parts.holds.advance(hold, since);
    }

    /// Gives a hold back; the last one ends the lease, or what it holds. If that cannot be written
    /// it runs out.
    pub async fn release(&self, hold: Hold) {
        self.parts.holds.release(hold).await;
    }

    /// Renews the lease if it is time, and takes a new one if it was ended. No I/O otherwise.
    ///
    /// # Errors
    ///
    /// As [`hold`](Handle::hold). If the lease is still in the log it goes on as it was.
    pub async fn keep(&self) -> Result<(), Error> {
        self.parts.holds.keep().await
    }

    /// Ends this handle's lease, for a caller that is done: parts that it has uploaded and not
    /// appended are orphans from here on. The handle can still be used; it takes a new lease then.
    ///
    /// # Errors
    ///
    /// As [`hold`](Handle::hold). The lease runs out by itself then.
    pub async fn close(&self) -> Result<(), Error> {
        self.parts.holds.close().await
    }

    /// Keeps the lease for as long as this is polled, for a caller that reads or holds and may have
    /// nothing to write for long: looks at the log, renews the lease when it is time or when another asks
    /// for it, and keeps an idle shard small. Never ends, and fails nobody.
    pub async fn attend(&self) -> Infallible {
        self.parts.upkeep.attend().await
    }

    /// Merges all batches that every holder has read into one, whose rows have the times that can
    /// still be told apart. Beside readers and writers; nothing if there is nothing to gain. Returns
    /// what it did; losing to another compaction is normal.
    ///
    /// Memory: [`compact_bytes_max`](super::HandleConfig::compact_bytes_max), two parts that are written, and the rows of
    /// one key at one time.
    ///
    /// # Errors
    ///
    /// As [`compare_and_append`](Handle::compare_and_append). What was uploaded in vain is an orphan
    /// then.
    pub async fn compact(&self) -> Result<MaintenanceStats, Error> {
        self.parts.upkeep.compact().await
    }

    /// Deletes what nobody holds: log entries, old rollups, parts that were merged, parts whose
    /// writer's lease has ended without an entry naming them, and what interrupted writes to a local
    /// directory left. Beside readers and writers; a reader without a lease may have to begin again.
    /// Returns what it did.
    ///
    /// Leases that look wrong by this process's clock it asks for by an entry, waits up to
    /// [`answer`](super::HandleConfig::answer) for their holders to renew them, and ends those that are
    /// silent.
    ///
    /// With no lease in the log, what is left is what the state names, two rollups and an entry or two.
    ///
    /// Entries that still hold rows stay, and everything above them: [`compact`](Handle::compact)
    /// first.
    ///
    /// # Errors
    ///
    /// Those of the store, and as [`compare_and_append`](Handle::compare_and_append). What was not
    /// deleted is found again.
    pub async fn collect(&self) -> Result<MaintenanceStats, Error> {
        self.parts.upkeep.collect().await
    }

    /// Ends a lease by name, whatever it says. Returns whether it was there. Its holder, if there is
    /// one, gets [`LeaseLost`](crate::ErrorKind::LeaseLost).
    ///
    /// # Errors
    ///
    /// As [`compare_and_append`](Handle::compare_and_append).
    pub async fn end_lease(&self, token: Id) -> Result<bool, Error> {
        self.parts.upkeep.end_lease(token).await
    }

    /// Does a round of maintenance if it is time: [`maintain_every`](super::HandleConfig::maintain_every)
    /// entries after the last one of any writer, or as soon as there is much to merge or to delete.
    /// Returns at once otherwise. Ends leases that have run out, merges what is out of proportion, and
    /// deletes what nobody needs. Never fails: what goes wrong is logged, and done by a later round.
    ///
    /// Call it now and then on a task of its own: no append waits for it.
    pub async fn maintain(&self) {
        self.parts.upkeep.maintain().await;
    }

    /// As [`maintain`](Handle::maintain), on a task of its own, if it is time.
    pub(crate) fn maintain_aside(&self) {
        self.parts.upkeep.maintain_aside();
    }

    /// The last work of a writer that is done with the shard, which may be alone for long from here on:
    /// ends its lease, merges more eagerly than a round does, and deletes what nobody holds. Never
    /// fails, and takes `within` at the most; it gives up if the store does not answer for
    /// some seconds. What is left to do the next writer does.
    pub async fn tidy(&self, within: Duration) {
        self.parts.upkeep.tidy(within).await;
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Handle").field(&self.parts.view).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_future_can_be_spawned() {
        fn send(_: impl Send) {}
        let _ = |handle: &Handle, part: &Part, root: Root, io: Io| {
            send(handle.prepare(Vec::new()));
            send(handle.discard(Vec::new()));
            send(handle.compare_and_append(Default::default()));
            send(handle.fetch(part, 0, 1));
            send(handle.snapshot(0));
            send(async { handle.stream(0).await?.next().await });
            send(handle.refresh());
            send(crate::store::probe(&root, &io));
            send(crate::shard::verify(root.clone(), io.clone()));
            send(Handle::open(root.clone(), io, HandleOptions::read("data")));
        };
    }
}
