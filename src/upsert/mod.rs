//! Owns the upsert operator: commands in, a correct differential collection out, with the
//! retractions that the commands do not carry. It does not own where the collection is kept; the
//! prior values come in as feedback, from a durable shard or from any collection of the user's.
//!
//! # Operators
//!
//! ```text
//!            commands   +-------+         +--------+   updates
//!   source ------------>| route |-------->| Upsert |-------------> sink, or yours
//!                       +-------+    i    |        |  min(i, least
//!                                         | stash  |   stashed time)
//!            feedback                     | state  |
//!   shard ------------------------------->|        |-------------> errors
//!                                    p    +--------+
//! ```
//!
//! *Route* hashes each key once and copies a reset to every worker. *Upsert* holds the stash
//! (commands by time) and the state (the collection at the feedback frontier, one live value per
//! key). Both inputs are exchanged by the key's [hash](KeyHash): each worker has a range of hashes.
//!
//! # Frontiers
//!
//! * commands, `i`: times not beyond it are closed on the source.
//! * feedback, `p`: every update below it has arrived; it is the persisted upper as read back.
//! * updates: `min(i, least stashed time)`. Feedback is *disconnected* from it: connected, the
//!   output would wait for the shard, which waits for the output.
//!
//! # Loop
//!
//! 1. Take in commands. Those below the persisted upper are dropped and counted; the others are
//!    stashed by time.
//! 2. Apply feedback to the state.
//! 3. If the least stashed time `t` is equal (`t == p < i`, or `p < t < i` and it may run ahead), drain it:
//!    per key, retract the prior value and insert the new one. Then the next, as long as it is equal too.
//! 4. Downgrade the capability to the least time not drained, or to `i`.
//!
//! Where the state is larger than its bound in memory, a drain asks for the rows that it will look at, ahead of itself,
//! and lets the worker go on with others until the first has come. The state stands still meanwhile: feedback waits.
//!
//! What is due may be much, so each step does a piece of it and wakes itself for the rest: what is
//! dropped, applied, drained, swept after a reset, written to disk or merged there. A piece is bounded
//! by what is looked at, by what is emitted and by its bytes; what has just come in comes on top.
//!
//! # Running ahead
//!
//! One time per round trip of the feedback bounds the rate of times by the latency of a commit. So an operator
//! that has an overlay ([`UpsertConfig::overlay_bytes_max`]) need not wait: it drains `t > p` on the state as of
//! `p`, overlaid with its own emissions of `[p, t)`. [`Ahead::may`] says when: once it has drained a time in its
//! turn, has emitted all up to the known upper, has no row at or past `t` in the state, and the overlay has room.
//!
//! * It is sound only if every writer computes the same updates, from the same commands: then what comes back at a
//!   time in `[p, t)` are the overlay's changes, whichever of them wins. A durable loop proves it at each commit, by the sum of
//!   the feed's commands; with a feedback of your own it is your promise. And nothing between feed and operator may
//!   drop a command, or the overlay lacks what the sum has.
//! * The overlay records each change in order, deletions too. It ends by the feedback as *applied*: rows may be here
//!   and wait for a drain.
//! * A reset, of all keys or of a collection, sweeps the state, so it is drained in its turn, and nothing past it before the feedback has passed it.
//!   So is what comes after a time that the overlay has no room for.
//! * A full overlay stops the start of a time, and never a drain under way: the feedback waits for the drain, and
//!   the room for the feedback.
//!
//! # Invariants
//!
//! 1. The state changes only by feedback. So all concurrent instances compute against the one
//!    durable truth, and a lost race needs no undoing.
//! 2. A command is dropped as below only when a durable upper beyond its time was seen. So no
//!    append that contains its time can still win, and dropping loses nothing, provided that all
//!    writers give the same command the same time.
//! 3. The state is read only when all feedback that came is applied to it, and the feedback frontier is
//!    beyond every time applied; ahead of that, a key that the overlay has is not looked up in it. So feedback
//!    may come unconsolidated, out of order and in pieces.
//! 4. Emission at a time is minimal: per key at most one retraction and one insertion.
//! 5. A failure keeps the capability. So no other worker sees the frontier pass a time whose rows
//!    this worker did not emit. Only a clean end lets go.
//! 6. Which commands a reset leaves is decided by orders alone, for each key by the greatest of the resets that speak of it;
//!    which collection a key is of, by the key alone. So it does not matter when, or on which worker, a reset came.
//! 7. Feedback reads no row that is not in memory, but where two keys have the same 50 bits of hash, or a key's updates come
//!    out of order. The index reads none at all, also where it grows.
//! 8. A patch folds over the value as of its time: what the time itself has put, deleted or reset before it, else
//!    the prior value, which is exact by 3. So its outcome depends on the commands alone, as that of a put does.
//!
//! # Limits
//!
//! * Times are totally ordered.
//! * Bounds are in bytes allocated, for packed types. What a row of another type has on the heap cannot
//!   be seen and is not counted: pack rows where a bound has to hold.
//! * The stash, with what is being drained, is bounded by [`UpsertConfig::stash_bytes_max`], and an eighth
//!   more while a time of about that size is drained. A buffer that rows share counts once, and whole; rows
//!   that keep much for little are copied out of it. Past the bound the greatest times go to an unnamed
//!   temporary file, many of them in one run, down to half of the bound. Its pages are used again as soon
//!   as they are read, and what is superseded goes when runs are merged.
//! * On top come 0.04 % of the file, for naming its pages; 64 KiB for each run that holds the time being
//!   drained or merged, of which there are at most 8 of each size, a size being 8 times the one below; and a
//!   few times the largest row.
//! * The state has up to 8 TiB of packed rows per worker, then it fails, and says so. At most half of it is dead rows,
//!   and 1 MiB; more while a start on an image catches up. Past [`UpsertConfig::state_bytes_max`] the rows that were
//!   written longest ago are in a file. In memory stay the index, 20 to 28 bytes per key; 100 bytes per MiB of rows; the
//!   chunk that takes rows and one more, of a sixteenth of the bound and 1 MiB at the most; and what is being read, an
//!   eighth of the bound and 8 MiB at the most, or one row that is
//!   larger, with twice as much that was read. While a reset is drained, one chunk is on top.
//! * Keys whose updates do not yet sum to one value wait beside it, in memory, and are counted with it.
//! * A drain waits for rows that are not in memory, and is woken as they come; reads are under way for 1,024 commands ahead of
//!   it, 32 at a time. So the rate of rows that miss is bound by the reads per second of the disk. Chunks are written, and
//!   read to be compacted, by the worker itself, one MiB at a time.
//! * A row that is read back is checked against what is in memory: 50 bits of its key's hash, and 32 of its value's hash and
//!   the rest of its key's. A retraction of a row that is not in memory is checked by the same bits, and not by the value
//!   itself.
//! * A reset goes through the index in one wake-up, to take old marks away, and reads what is left of an image's.
//! * What is emitted in a wake-up is at most [`UpsertConfig::drain_bytes_max`], and one row with its prior
//!   value. What came for one time is sorted in one go when its turn comes: at most the stash's bound.
//! * The patches of one key at one time are in memory together when its turn comes, counted with the stash. Patches do
//!   not supersede each other: what they take follows their number. A wake-up takes and applies as many as it may look
//!   at, and goes on; those that were spilled it reads in one go.
//! * A reset goes through all of the state, one of a collection too: that costs a look at each row, and one of a collection
//!   a copy of each key and a call of the function that says which one it is of. A time without one calls it never.
//! * The names of the collections that a time resets are in memory together when its turn comes, counted with the stash, and
//!   are written and merged in one go.
//! * A row's key and value have less than 4 GiB each; a longer one is an error where it is packed.
//! * Two writers that keep passing each other fall back to one time per round trip, for what the other has
//!   committed past our own emissions has to be read first.
//! * Without an overlay, one time per feedback round trip: what limits the rate of distinct times is then the
//!   latency of the loop, not the operator. With one, what is emitted and not read back is at most
//!   [`UpsertConfig::overlay_bytes_max`], the buffers that rows keep included, and two of these.

mod bound;
mod chunks;
mod classify;
mod cold;
mod config;
mod context;
mod deferred;
mod drain;
#[cfg(test)]
mod drain_tests;
mod entry;
mod events;
mod image;
mod imaging;
mod inbox;
mod index;
mod merge;
mod operator;
mod overlay;
mod pending;
mod piece;
mod pile;
mod pins;
mod placed;
mod readers;
mod recent;
mod regions;
mod resets;
mod route;
pub(crate) mod rows;
mod rules;
mod run;
mod settling;
mod slot;
mod spill;
mod spilled;
mod spilling;
mod stash;
mod state;
mod stats;
mod steps;
mod table;
mod unsettled;
mod wanted;
mod warm;

use std::fmt::Debug;

use differential_dataflow::{AsCollection, ExchangeData, VecCollection};
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact;
use timely::dataflow::operators::generic::Operator;
use timely::order::TotalOrder;
use timely::progress::Timestamp;

pub use crate::codec::packed::Place;
pub use classify::{Ahead, Frontiers, Placement};
pub(crate) use cold::{ColdSpace, readers_on, unnamed_in};
pub use config::{UpsertConfig, Upserted};
pub(crate) use context::{Inflight, Known, Look, UpsertContext, flight_bytes, row_bytes};
pub(crate) use image::{Begin, Folder, ImageLink, Images, Mark, MarkNow, OsDisk, Verdict};
pub(crate) use operator::upsert;
pub use rows::{Kept, KeyHash};
pub(crate) use rules::no_fold;
pub use rules::{Fold, Rules};
pub use stats::{StateImage, StatePlaces, UpsertStats};

use crate::command::Command;
use crate::io::Io;

/// Turns a stream of commands into a collection.
pub trait Upsert<'scope, K: 'static, V: 'static, T: Timestamp> {
    /// Computes the updates of a keyed change feed, against prior values read from `feedback`.
    ///
    /// `feedback` is what became of the updates: the same collection, read back from wherever they
    /// were made durable. Its frontier says which times are persisted. Each command travels with
    /// its time, which must not lie before the time of the message that carries it.
    ///
    /// # Errors
    ///
    /// Nothing is returned here; see [`Upserted::errors`].
    ///
    /// # Examples
    ///
    /// A loop in memory: the updates are fed back as they are.
    ///
    /// ```
    /// use differential_dataflow::input::InputSession;
    /// use differential_upsert::{Command, Upsert, UpsertConfig};
    /// use timely::dataflow::operators::{Capture, Input, Probe, capture::Extract};
    ///
    /// let updates = timely::execute_directly(|worker| {
    ///     let mut feedback = InputSession::<u64, (String, u64), isize>::new();
    ///     let (mut commands, probe, updates) = worker.dataflow(|scope| {
    ///         let (input, commands) = scope.new_input();
    ///         let fed_back = feedback.to_collection(scope);
    ///         let upserted = commands.upsert(fed_back, UpsertConfig::default());
    ///         let (probe, updates) = upserted.updates.inner.probe();
    ///         (input, probe, updates.capture())
    ///     });
    ///     let key = || "k".to_string();
    ///     commands.send((Command::put(key(), 1, 0), 0));
    ///     commands.send((Command::put(key(), 2, 1), 0)); // the greater order wins
    ///     commands.send((Command::delete(key(), 0), 1));
    ///     commands.advance_to(2);
    ///
    ///     // Time 0 is closed and equal to the feedback frontier; time 1 waits for its turn.
    ///     worker.step_while(|| probe.less_than(&1));
    ///     feedback.update_at((key(), 2), 0, 1);
    ///     feedback.advance_to(1);
    ///     feedback.flush();
    ///     worker.step_while(|| probe.less_than(&2));
    ///     feedback.update_at((key(), 2), 1, -1);
    ///     feedback.advance_to(2);
    ///     feedback.flush();
    ///     commands.close();
    ///     worker.step_while(|| !probe.done());
    ///     updates
    /// });
    /// let updates: Vec<_> = updates.extract().into_iter().flat_map(|(_, rows)| rows).collect();
    /// assert_eq!(updates, [(("k".to_string(), 2), 0, 1), (("k".to_string(), 2), 1, -1)]);
    /// ```
    fn upsert(
        self,
        feedback: VecCollection<'scope, T, (K, V), isize>,
        config: UpsertConfig<T>,
    ) -> Upserted<'scope, K, V, T>
    where
        Self: Sized,
    {
        self.upsert_with(feedback, config, Rules::new())
    }

    /// As [`upsert`](Upsert::upsert), of a feed that has [patches](Command::Patch): `fold` says what one makes of the
    /// prior value, or of none. Every writer must come to the same value.
    ///
    /// # Errors
    ///
    /// Nothing is returned here; an error of the fold stops the operator, see [`Upserted::errors`].
    fn upsert_patched(
        self,
        feedback: VecCollection<'scope, T, (K, V), isize>,
        config: UpsertConfig<T>,
        fold: Fold<V>,
    ) -> Upserted<'scope, K, V, T>
    where
        Self: Sized,
        K: Debug,
    {
        self.upsert_with(feedback, config, Rules::new().with_fold(fold))
    }

    /// As [`upsert`](Upsert::upsert), of a feed that has [patches](Command::Patch) or [resets of a
    /// collection](Command::ResetOf): `rules` say what one makes of the prior value, and which collection a key is of.
    ///
    /// # Errors
    ///
    /// Nothing is returned here; what the rules report, or lack, stops the operator, see [`Upserted::errors`].
    fn upsert_with(
        self,
        feedback: VecCollection<'scope, T, (K, V), isize>,
        config: UpsertConfig<T>,
        rules: Rules<K, V>,
    ) -> Upserted<'scope, K, V, T>;
}

impl<'scope, K, V, O, T> Upsert<'scope, K, V, T> for StreamVec<'scope, T, (Command<K, V, O>, T)>
where
    K: ExchangeData + Kept<V>,
    V: ExchangeData,
    O: ExchangeData,
    T: Timestamp + TotalOrder,
{
    fn upsert_with(
        self,
        feedback: VecCollection<'scope, T, (K, V), isize>,
        config: UpsertConfig<T>,
        rules: Rules<K, V>,
    ) -> Upserted<'scope, K, V, T> {
        let mut context = UpsertContext::alone();
        context.known = Known::new(config.resume_upper.clone());
        if config.state_bytes_max.is_some() && !config.reads_on_worker {
            // Without threads it reads by itself.
            context.cold.readers = Io::process().ok().map(readers_on);
        }
        // An input handle right in front of an exchange can keep rows back when it is closed after a
        // flush (timely 0.31 and 0.32): its flush does nothing where nothing is new. A stage in between sends.
        #[allow(clippy::disallowed_methods, reason = "it passes rows on and holds nothing")]
        let feedback = feedback.inner.unary(pact::Pipeline, "UpsertFeedback", |_, _| {
            |input, output| {
                input.for_each(|time, rows| output.session(&time).give_container(rows));
            }
        });
        upsert(self, feedback.as_collection(), config, rules, context)
    }
}
