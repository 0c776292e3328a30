//! Owns what time a row of a feed with cursors gets, and how the cursor that covers it becomes durable
//! with it. It does not own reading the feed ([`source`](crate::source)) nor the commit of the rows.
//!
//! > **Safety.** In every durable state, the collection just below the shard's upper is the fold of the
//! > feed up to the cursor that the same state holds.
//! > **Liveness.** While the feed makes boundaries, with rows or without, and writes succeed, that
//! > cursor advances.
//! > **Ack.** No position is ever told to the feed beyond such a durable cursor.
//!
//! # Operators
//!
//! ```text
//!   attempt loop --units--> reclock --rows@t, closed times--> UpsertSource --> ... --> [ data shard ]
//!        ^                    |  ^                                                        |
//!        |                    v  | bindings                            upper, cursor      |
//!        |                [ remap shard ]                                                 |
//!        '--------------- ack(durable cursor) <-------------------------------------------'
//! ```
//!
//! | [`Times`] | the cursor is | for | writers |
//! |---|---|---|---|
//! | [`WriteAhead`](Times::WriteAhead) | bound to a time in the root's `remap/` shard, before any row of that time may close | positions that can be compared: offsets | any number |
//! | [`CoCommitted`](Times::CoCommitted) | in the same commit as the rows | any position, opaque ones too | one at a time: the last to take the shard over |
//!
//! # Frontiers
//!
//! * rows: a time closes after whole units only, when its cursor is noted or bound. So when a time is
//!   below the shard's upper, its cursor covers exactly the rows up to it.
//!
//! # Loop
//!
//! 1. Read the upper and the cursor just below it ([`CoCommitted`](Times::CoCommitted): after raising
//!    the epoch), and connect from there.
//! 2. Give each unit a time. The next time is the clock's milliseconds, and greater than all before.
//! 3. One time is on its way at once; what comes meanwhile gets the next. Boundaries without rows get one
//!    every [`idle_commit`](SourceConfig::idle_commit) at most.
//!
//! # Invariants
//!
//! 1. One owner of the cursor: the shard. Nothing else is read to resume from.
//! 2. The place to resume from is that of the upper - 1, never a later one that is bound already.
//! 3. A binding is never skipped: a writer closes its time only after handing over all of its rows.
//!
//! # Limits
//!
//! Units that wait to be bound are in memory; of a feed with several partitions, those that are ahead
//! of the others. [`WriteAhead`](Times::WriteAhead) takes no feed whose partitions are replaced, and of
//! those that must be copied anew only such as can end the copy where another writer has
//! ([`Source::copy_until`]), or have one partition, and the same first boundary for every writer: the
//! reset goes with it.

mod bindings;
pub(crate) mod claim;
mod co_committed;
mod config;
mod cursors;
mod drive;
mod remap;
mod waiting;
mod write_ahead;

use std::marker::PhantomData;

use crate::codec::Codec;
use crate::codec::packed::Encoded;
use crate::error::Error;
use crate::input::{Outlet, TimedSource};
use crate::source::{Order, Source, SourceStats};

pub use config::{SourceConfig, Times};
pub(crate) use cursors::Cursors;
pub(crate) use drive::ReclockContext;

use co_committed::CoCommitted;
use write_ahead::WriteAhead;

/// A source with cursors, as a feed with times.
pub(crate) struct Reclocked<S, C> {
    pub(crate) source: S,
    pub(crate) context: ReclockContext,
    pub(crate) codec: PhantomData<fn(C)>,
}

impl<S, C> TimedSource for Reclocked<S, C>
where
    S: Source,
    C: Codec<S::Key> + Codec<S::Value>,
{
    type Key = Encoded;
    type Value = Encoded;
    type Order = Order;

    fn counts(&self) -> Option<SourceStats> {
        self.source.counts()
    }

    async fn run(self, outlet: Outlet<Encoded, Encoded, Order>) -> Result<u64, Error> {
        let Reclocked { source, context, codec } = self;
        match context.config.times {
            // It lets go of the bindings when it is stopped.
            Times::WriteAhead => WriteAhead { source, context, codec }.run(&outlet).await,
            Times::CoCommitted => {
                outlet.unless_stopped(CoCommitted { source, context, codec }.run(&outlet)).await
            }
        }
    }
}
