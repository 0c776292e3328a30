//! Owns the sink: updates in, commits to the shard out. It does not own what a commit is (that is
//! [`shard`](crate::shard)) nor what the updates are.
//!
//! # Operators
//!
//! ```text
//!   updates' frontier f          intervals [u, f)            responses
//!   ------------------> Mint --------------------> Write ---------------> Append --> [ shard ]
//!                    (worker 0)   to every worker    ^     to worker 0   (worker 0)      | u
//!                        ^                           |                       |           |
//!                        |                       updates                     v           |
//!                        '---------------- settled, one append in flight ----------------'
//! ```
//!
//! *Mint* names the next interval. *Write* makes each worker's updates of it durable, as parts that
//! nothing refers to yet. *Append* commits the parts of all workers in one compare-and-append.
//!
//! # Frontiers
//!
//! * updates, `f`: times below it have been emitted by every worker, and their commands agree with
//!   what the shard was made from ([`definite`](crate::definite)).
//! * intervals: empty once mint will never name another; then no append is left to come.
//! * responses: empty once every worker has seen that and has said its last counts.
//! * settled: empty after responses; only then may a worker let go of anything.
//!
//! # Loop
//!
//! 1. Whenever no append is in flight, the sink may write and the settled upper `u` is below `f`,
//!    name `[u, f)`. The rule looks at levels, not at changes: acting only on changes freezes after
//!    a half-lost race, at the start, and after a promotion.
//!    A standby may not write until it is promoted and has read the shard; until then its updates
//!    wait here, and go when the shard has passed them.
//! 2. Every worker, once its own updates below `f` have arrived, writes them, all times together, and responds.
//! 3. Append. Lost: drop what the shard has passed, keep the rest ([`race`]). Then 1 again.
//!
//! # Invariants
//!
//! 1. One append in flight, settled before the next. So an upper is never guessed.
//! 2. An interval is named only when `f` has passed it, and `f` passes only when every worker has
//!    emitted. So no append lacks a worker's rows; a failed worker holds `f` and with it all appends.
//! 3. An empty frontier names nothing. So the end of the input, a crash and a stop close no time.
//! 4. What is dropped after a lost race lies below the shard's upper: another wrote it.
//! 5. A stop gives up an interval that is not yet appended, and waits a little for an append in
//!    flight. Without an answer it claims none: nothing of it is deleted, acked or counted, and it may
//!    still land, whole. Every worker's rows are in it, so no time that it closes lacks any.
//! 6. Every append carries the writer's epoch and what its feed has below: one that was shut out,
//!    or has another feed, commits nothing, whatever race it wins.
//!
//! # Limits
//!
//! * The bytes between operator and durable parts, what encoding takes included, are bounded by
//!   [`PipelineConfig::inflight_bytes_max`](crate::PipelineConfig::inflight_bytes_max), and one more piece
//!   of the operator's, [`UpsertConfig::drain_bytes_max`](crate::UpsertConfig::drain_bytes_max).
//! * An append is all or nothing: closed times that share it with one that cannot be written wait with it.
//! * Parts that are written and not committed are named in memory, a few hundred bytes each; those small
//!   enough for the log entry (16 KiB) are there whole.

mod append;
mod commit;
mod context;
mod counts;
mod messages;
mod mint;
mod race;
mod read_back;
mod turn;
mod waiting;
mod whole;
mod write;

use std::sync::Arc;

use differential_dataflow::VecCollection;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact;
use timely::dataflow::operators::generic::Operator;

use self::counts::SharedTotals;
use self::turn::Turn;
use crate::codec::packed::Encoded;
use crate::control::lifecycle::Phase;
use crate::error::Error;

pub(crate) use context::SinkContext;
pub use counts::{Totals, Watch};

/// Commits a collection to a shard. `frontier` is any stream with the updates' frontier, `checked`
/// one beyond which nothing may be appended.
pub(crate) fn sink<'scope>(
    updates: VecCollection<'scope, u64, (Encoded, Encoded), isize>,
    frontier: StreamVec<'scope, u64, Error>,
    checked: StreamVec<'scope, u64, ()>,
    context: &SinkContext,
) -> Watch {
    let turn = Turn::default();
    let totals = SharedTotals::default();
    if context.standby.is_some() {
        // A takeover waits for what it syncs.
        let handle = context.handle.clone();
        context.io.spawn(async move { handle.ready().await });
    }
    let intervals = mint::mint(frontier, checked, &turn, context);
    let responses = write::write(intervals, updates.inner, context);
    let settled = append::append(responses, &turn, &totals, context);
    hint(settled, context);
    Watch(totals)
}

/// Has each worker read the log when an append is settled: in another process it would otherwise be
/// seen only at the next poll. When there is no append to come, lets the worker go.
fn hint(settled: StreamVec<'_, u64, (u64, u64)>, context: &SinkContext) {
    let (news, status) = (Arc::clone(&context.news), context.status.clone());
    let to_all = pact::Exchange::new(|(worker, _): &(u64, u64)| *worker);
    settled.sink(to_all, "UpsertHint", move |(input, frontier)| {
        input.for_each(|_, uppers| {
            if uppers.iter().any(|(_, upper)| status.upper() < *upper) {
                news.notify_one();
            }
        });
        if frontier.is_empty() {
            // Every worker is silent. One that let go sooner would look complete to a worker that
            // still believes in frontiers.
            status.lifecycle().advance(Phase::Released);
        }
    });
}
