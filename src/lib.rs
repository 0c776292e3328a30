//! Upsert for [timely] and [differential dataflow](differential_dataflow), with continual feedback
//! through a durable, multi-writer shard.
//!
//! A keyed change feed, a stream of `(key, value or nothing, order)` at times, becomes a correct
//! differential collection: durable, with the retractions that the feed does not carry.
//!
//! ```text
//!   source --rows--> commands@t --> UPSERT --updates@t--> SINK --compare_and_append--> [ SHARD ]
//!                                     ^                                                   |  upper p
//!                                     '------------------- FEEDBACK <---------------------'
//!
//!   t <  p           below     drop it, and count it: some writer has persisted that time
//!   t == p  (p < i)  equal     emit: the state is exactly as of p
//!   otherwise        above     stash it                     (i = input upper, p = shard upper)
//! ```
//!
//! # The contract
//!
//! * The collection just below the shard's upper is the fold of the commands below it: per key the
//!   last put, if no delete or reset came after it.
//! * The operator's state changes only by what comes back from the shard. So any number of writers
//!   may race on one shard, one may lag far behind, and each may crash at any moment: they all
//!   compute against the same durable truth.
//! * A command is dropped only when its time is durable; a time closes only when every worker has
//!   emitted its rows; an end, a failure and a stop close nothing.
//! * A writer whose feed is not the one that the shard was made from stops, and says so: what is
//!   dropped as already there is compared, not assumed ([`definite`]).
//! * Nothing fails in silence: errors come out as a stream and in the [`health`], and what stands
//!   still is `stalled`, with the frontier that is stuck and what holds it.
//!
//! # It is not
//!
//! A database; exactly-once delivery to other systems; for partially ordered times; for times that
//! differ between runs or writers, but for one writer at a time ([`Shard::take_over`]).
//!
//! # A tour
//!
//! ```
//! use differential_upsert::{Command, PipelineConfig, Shard, UpsertInto};
//! use differential_upsert::timely::{self, dataflow::operators::Input};
//!
//! // Level 2: the durable loop around a stream. `upper` is where a program resumes its times.
//! let shard = Shard::<String, u64>::open("mem:")?;
//! assert_eq!(shard.upper(), 0);
//! timely::execute_directly({
//!     let shard = shard.clone();
//!     move |worker| {
//!         let (mut feed, token) = worker.dataflow(|scope| {
//!             let (input, commands) = scope.new_input();
//!             let pipeline = commands.upsert_into(&shard, PipelineConfig::default());
//!             pipeline.collection().inspect(|update| println!("{update:?}"));
//!             (input, pipeline.token)
//!         });
//!         feed.send((Command::put("apples".to_string(), 3, 0), 0));
//!         feed.send((Command::put("pears".to_string(), 1, 0), 0));
//!         feed.advance_to(1);
//!         feed.send((Command::delete("pears".to_string(), 0), 1));
//!         feed.close();
//!         while worker.has_dataflows() {
//!             worker.step_or_park(None);
//!         }
//!         drop(token);
//!     }
//! });
//! assert_eq!(shard.upper(), 2);
//! # Ok::<(), differential_upsert::Error>(())
//! ```
//!
//! Level 1 is [`Upsert::upsert`], the bare operator with feedback of your own; level 3 is
//! [`Pipeline::from_source`], for a [`Source`](source::Source).
//!
//! # The rooms
//!
//! The modules below stand in the order in which data flows through them, then what serves them all; imports
//! go one way only (`tests/house.rs` has the directions). What a **command** goes through, each room once:
//!
//! 1. A feed's rows become [`Command`]s with a time: in your own stream, or in a [`TimedSource`](input::TimedSource).
//! 2. [`input`] brings them into the dataflow and makes their keys and values bytes.
//! 3. [`definite`] counts and hashes them, and drops those whose time the shard has.
//! 4. [`upsert`] stashes them until the feedback says that their time is equal, and drains them against the
//!    prior values: updates, with retractions.
//! 5. `sink` writes the updates as parts, and appends them when every worker has emitted its own.
//! 6. [`shard`] settles the append in its log, whatever other writers do, on the blobs and entries of [`store`].
//! 7. `feedback` reads the log, and brings the rows to [`upsert`] as prior values, and to
//! 8. `output`, which makes typed rows of them: [`Pipeline::collection`].
//!
//! What a **cursor** goes through:
//!
//! 1. [`connect`] reads a unit of a feed and says its place: a [`Received`](source::Received).
//! 2. [`source`] keeps the unit back until it is whole: the [`Boundary`](source::Boundary) after it.
//! 3. [`reclock`] gives the unit its time, and binds the place to that, or sends it along with the rows.
//! 4. The rows walk as above. When `sink` appends them, the cursor is covered.
//! 5. [`shard`] holds it: read back it is [`Durable`](source::Durable), and only such a one is told to the feed.
//!
//! # What may change
//!
//! Enums that say what happened or what is chosen, and what is returned to be read, may gain members: they are
//! `non_exhaustive`. A [`Command`], and a [`Change`](source::Change) of a source, are not: a kind of which a program does not know
//! must not be passed over. Configs are plain values that may gain fields: end one with `..Default::default()`. What is below
//! [`unstable`] may change with any version. Bytes that are stored change with a version and a way to read the older one,
//! under *Format* in the changelog. Types of timely and differential dataflow in signatures are those of the re-exports.
//!
//! # Features
//!
//! None by default. `json` reads JSON lines and Debezium's messages ([`connect`]), `planetscale` tables of
//! PlanetScale and Vitess, `postgres-source` tables of PostgreSQL, `kafka` topics. `http` shows a pipeline over HTTP (`face`). `aws`, `gcp` and `azure` let a shard live
//! in object storage. `testing` exports the contracts that a store of your own must keep (`testing`).

#![forbid(unsafe_code)]
#![forbid(missing_docs)]
// On docs.rs, which sets it, each item says which feature it needs.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(
    not(test),
    warn(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_types)
)]

// The book: chapters, and no code.
pub mod guide;

// One instruction of a feed, and the times it may have.
pub mod command;

// The contract of a feed that can be resumed: cursors, units, attempts.
pub mod source;

// The feeds that can be read: one folder each.
pub mod connect;

// Which time a unit of a source gets, and how its cursor becomes durable with it.
pub mod reclock;

// The way into the dataflow: feeds with times, commands as bytes, the end of an input.
pub mod input;

// Whether this feed is the one that the shard was made from.
pub mod definite;

// The operator: commands and prior values in, updates out.
pub mod upsert;

// Updates become parts, and parts an append.
mod sink;

// The durable collection: one log, many writers.
pub mod shard;

// What a shard stands on: blobs and numbered entries.
pub mod store;

// The committed rows, read back.
mod feedback;

// The way out of the dataflow: committed rows, typed again.
mod output;

// The wiring of all of these, its configuration and its counters.
pub mod pipeline;

// What a pipeline says of itself.
pub mod health;

// A pipeline's health and metrics over HTTP.
#[cfg(feature = "http")]
pub mod face;

// How a pipeline is told what to do: to stop, to begin writing, under which epoch.
mod control;

// How keys and values become bytes.
pub mod codec;

// Where everything that waits runs.
pub mod io;

// How long to wait before what has failed is tried again.
mod backoff;

// How often what may have changed is looked at.
mod pace;

// Bytes that leave memory for a while.
mod scratch;

// A number that many threads count.
mod counter;

// Typed events in timely's own log.
pub mod logging;

// A login in a URL is noticed before anything repeats it.
pub mod login;

// Pieces for tests: nothing in here is stable.
pub mod unstable;

// Faults that tests switch on.
mod mutant;

// What went wrong, where, and what to do.
pub mod error;

// The contracts of a store and of a shard upon it, for stores of your own.
#[cfg(feature = "testing")]
pub mod testing;

pub use codec::DataError;
pub use codec::packed::{Encoded, Packed, Packer};
pub use command::Command;
pub use control::lifecycle::Token;
pub use control::promotion::Promotion;
pub use error::{Error, ErrorKind};
pub use pipeline::config::{PatchErrors, PipelineConfig};
pub use pipeline::follow::Follow;
pub use pipeline::restarts::Restarts;
pub use pipeline::shard::Shard;
pub use pipeline::{Pipeline, UpsertInto};
pub use sink::Totals;
pub use upsert::{Upsert, UpsertConfig, Upserted};

pub use differential_dataflow;
pub use timely;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeDoctests;

#[cfg(doctest)]
#[doc = include_str!("../docs/embedding.md")]
#[doc = include_str!("../docs/feeds.md")]
#[doc = include_str!("../docs/sources.md")]
#[doc = include_str!("../docs/testing.md")]
#[doc = include_str!("../docs/watching.md")]
#[doc = include_str!("../docs/writers.md")]
struct DocsDoctests;
