//! Owns the shard: a durable, definite, time-varying collection of `(key, value)` bytes with one
//! `since` and one `upper`. It does not know types, dataflows or sources.
//!
//! # Rooms
//!
//! `engine` is pure: states, entries, parts, leases, and what each makes of the other. A *view* opens and
//! refreshes: it has read the log as far as it goes. On it work, each on those before it: `settle`, which
//! enters changes; `holds`, which keeps the lease (`keeper` is its pure half); `rows`, which brings rows into
//! parts and back; `upkeep`, which keeps the shard small, and verifies. A [`Handle`] is all of them.
//!
//! # Loop
//!
//! ```text
//!   prepare(updates) --> parts (uploaded, or inline)          in nobody's sight yet
//!        |
//!   compare_and_append(lower, upper, parts)
//!        |   1. judge against the last settled state          Fenced / UpperMismatch: a value
//!        |   2. create log entry n+1 if absent, in the        THE commit point
//!        |      incarnation that was opened
//!        |   3. read the floor; it must lie below n+1, in the same incarnation
//!        |   4. anything but a clean yes: read n+1 back, compare tokens
//!        v
//!   Won -> state n+1 -> changed() -> fetch(parts)             feedback
//! ```
//!
//! Beside it, in any process that writes:
//!
//! ```text
//!   hold(since)   entry: nobody forwards history or deletes parts that I have yet to read
//!   compact()     merge runs of batches -> entry: these batches are that one now
//!   collect()     rollup, floor, then delete: entries, merged parts, orphans
//!   maintain()    both, when it is time; one of many writers claims the round with an entry
//!   attend()      for a handle at rest: renews the lease, answers those that ask for it, maintains
//! ```
//!
//! ```
//! use differential_upsert::io::Io;
//! use differential_upsert::shard::{Access, Append, Appended, Handle, HandleOptions, Schema};
//! use differential_upsert::store::Root;
//! use differential_upsert::{Encoded, Error};
//!
//! let io = Io::process()?;
//! io.block_on(async {
//!     let root = Root::open("mem:", Access::Write)?;
//!     let schema = Schema { codec: "text".into(), key: "text".into(), value: "text".into() };
//!     let shard = Handle::open(root, io.clone(), HandleOptions::write("data", schema)).await?;
//!
//!     let text = |text: &str| Encoded::from_bytes(text.as_bytes().to_vec());
//!     let parts = shard.prepare(vec![((text("pear"), text("green")), 3, 1)]).await?;
//!     let append = Append { lower: 0, upper: 5, parts, ..Append::default() };
//!     assert_eq!(shard.compare_and_append(append.clone()).await?, Appended::Won { seqno: 1 });
//!     // The same again has lost, against itself: a value, not an error.
//!     assert_eq!(shard.compare_and_append(append).await?, Appended::UpperMismatch(5));
//!     assert_eq!(shard.snapshot(4).await?, [((text("pear"), text("green")), 4, 1)]);
//!     Ok::<_, Error>(())
//! })?;
//! # Ok::<_, Error>(())
//! ```
//!
//! # Invariants
//!
//! 1. The state after entry n is a function of entries 1..=n alone ([`State::apply`]), so every
//!    reader has the same state: nobody compares notes.
//! 2. Each entry names the token of the one before it. An entry created a second time under the
//!    same number, after a collector took the first, therefore fits no chain.
//! 3. An entry counts once it was seen *and* a floor read later lies below it.
//! 4. Nothing is deleted on an unknown outcome: it may be referenced by the time we look again.
//! 5. The floor stays below every entry whose inline rows the state still names, or that a leased
//!    reader may be reading, and a rollup at or above it exists: a collector sees to all three before
//!    it raises the floor.
//! 6. `since` passes no lease's. A merge forwards times to the since of its entry at most, and inside
//!    the interval of its batch: at every time from since on, every later state holds the same
//!    collection.
//! 7. A part is named for the first time only while the lease it was uploaded under is in the log,
//!    and a lease that was ended is never granted again. So a part that no entry names, of a lease
//!    that the log does not show, is garbage for ever. Under its own lease a holder knows what it has
//!    not handed out or not named yet; the rest of its folder that no entry names is garbage, too.
//! 8. A merged part is deleted once the floor has passed the entry that replaced it; until another
//!    entry says that it is gone, the state names it.
//! 9. Nothing of this depends on a clock: clocks decide which process proposes, entries decide what is.
//! 10. A root has an incarnation, made once. Every write looks at it first, every look at the log and
//!     every commit once more with the floor. Gone or another is [`Replaced`](crate::ErrorKind::Replaced),
//!     and nothing is written: so all that this handle knows is of one root.
//!
//! # Limits
//!
//! Times are `u64`, diffs `i64`. The state names every batch, in memory and in each rollup, until
//! batches are merged. The table of writers keeps the last
//! [`WRITERS_MAX`](engine::state::WRITERS_MAX). A process that dies holds history, and its
//! orphans stay, until its lease has run out: until somebody has watched it for so long, or has asked
//! for it in vain. Rows that were prepared and dropped stay as long as the handle's lease does. A merge
//! has one part of each run in memory, and all rows of one key. A writer that is paused for longer than its lease may find, with
//! [`LeaseLost`](crate::ErrorKind::LeaseLost), that what it had uploaded or had yet to read is gone.

pub(crate) mod engine;

mod config;

mod counters;

mod memory;

mod resumes;

mod window;

mod cache;

mod own;

mod uploading;

mod uploads;

mod keeper;

mod incarnation;

mod open;

mod view;

mod look;

mod settle;

mod holds;

mod rows;

mod weave;

mod stream;

mod snapshot;

mod upkeep;

mod handle;

mod entries;

mod repair;

mod shapes;

pub use crate::store::Access;
pub use config::{HandleConfig, HandleOptions};
pub use counters::{Counters, MaintenanceStats};
pub use engine::append::{Append, Appended};
pub(crate) use engine::arrange::arranged;
pub use engine::entry::{
    Change, Collected, Commit, Entry, EntryPart, Feed, History, Leased, Merged, Shaped,
};
pub(crate) use engine::format::{DATA, REMAP};
pub use engine::format::{Fingerprint, Schema, Upgrades};
pub use engine::id::Id;
pub use engine::lease::{Grant, Lease};
pub use engine::part::{PartRef, Prepared, Update};
pub(crate) use engine::state::fenced;
pub use engine::state::{Batch, Part, Retired, State, Writer};
pub(crate) use engine::sum::{FEED_DIFFERS_HINT, differs, unknown};
pub use engine::sum::{Mark, Sum};
pub use entries::Entries;
pub use handle::Handle;
pub use holds::Hold;
pub use memory::MemoryStats;
pub use repair::Repaired;
pub(crate) use resumes::Resumes;
pub(crate) use rows::CacheUse;
pub use stream::SnapshotStream;
pub(crate) use upkeep::remap_behind;
pub use upkeep::{Verified, verify};
pub(crate) use window::{Room, Window};
