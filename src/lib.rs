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
//!   still is `stalled`, with the frontier that is stuck and who holds it.
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
//! use timely::dataflow::operators::Input;
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
//! # Features
//!
//! None by default. `json` reads JSON lines and Debezium's messages ([`connect`]), `planetscale` tables of
//! PlanetScale and Vitess. `http` shows a pipeline over HTTP (`face`). `aws`, `gcp` and `azure` let a shard live
//! in object storage.

#![forbid(unsafe_code)]
#![forbid(missing_docs)]
#![cfg_attr(
    not(test),
    warn(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_types)
)]

pub mod command;

pub mod source;

pub mod connect;

pub mod reclock;

pub mod input;

pub mod definite;

pub mod upsert;

mod sink;

pub mod shard;

pub mod store;

mod feedback;

mod output;

pub mod pipeline;

pub mod health;

mod control;

#[cfg(feature = "http")]
pub mod face;

pub mod codec;

pub mod io;

pub mod logging;

mod waking;

pub mod login;

mod mutant;

pub mod error;

pub use codec::DataError;
pub use codec::packed::{Encoded, Packed, Packer};
pub use command::Command;
pub use control::lifecycle::Token;
pub use control::promotion::Promotion;
pub use error::{Error, ErrorKind};
pub use pipeline::config::PipelineConfig;
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
