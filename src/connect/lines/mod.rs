//! Owns feeds of JSON lines: a file, a pipe or a reader as a source. It does not own when rows are
//! committed; that is the pipeline's.
//!
//! # Lines
//!
//! ```text
//! {"key": K, "value": V, "ts": u64, "offset": u64}     a change of one key; a null value deletes
//! {"closed": N}                                        no row with a ts below N will come
//! ```
//!
//! UTF-8, one object a line, at most 16 MiB (longer: a bad line, found without buffering it). A byte order
//! mark, a CR before the line break and blank lines are ignored. `key` and `value` are any JSON, and must be
//! there; both are kept as [canonical text](crate::codec::Json). Other members are ignored. `ts` and `offset`
//! are on every row or on none.
//!
//! # Times
//!
//! * **Given** ([`TimedSource`](crate::input::TimedSource)): every row has a `ts`, which never decreases and is
//!   at most 2^64 - 2. Time t is closed by a later row with `ts` > t, by `{"closed": N}` with N > t, or by the
//!   clean end of a feed that is not followed, and by nothing else. The order within a key and time is
//!   `offset`, else the line number.
//! * **Minted** ([`Source`](crate::source::Source)): the order of the lines is the order of the changes; `ts`
//!   and closings say nothing. Each line is a unit and its end a [place](FilePosition) that holds the hash of
//!   all before it, so a file that has grown is told from one that was cut or written over.
//!
//! A followed file may only grow. Cut, written over or replaced, it is an error. Renamed, as a rotation does, it is read to its
//! end, and then the new one of its name; a run that goes on finds the old ones beside it, as `feed.1` or `feed-20260102.gz`, and
//! the hash of its place says whether they are the ones that were read.
//!
//! # Formats
//!
//! The table of [`Format`]s, each with a line and the row that it is, is in `docs/feeds.md`. What all have in common:
//!
//! * Text that is JSON is taken as JSON, any other as a string (`kcat`, `console`). Null keys name no row: they are bad
//!   lines, unless [`Lines::key`] takes the key out of the value, where it stays. A null value deletes.
//! * The order is that of the lines. Where lines say where they come from, that is checked: the offsets of each
//!   partition increase, and all rows are of one topic or one table.
//! * A line of several rows is one unit, in their order. If one row of it is bad, all of the line is.
//! * Clocks say nothing of a shard's time, unless `kcat`'s is asked for, as a
//!   [`TimedSource`](crate::input::TimedSource).
//!
//! # Files
//!
//! * gzip and zstd are told by their first bytes, in files and in pipes, and unpacked. A place is one in what they unpack to, so
//!   that `feed` and `feed.gz` are one feed. A compressed file is not followed.
//! * A directory, or a glob, is its files in the order of their names, each complete once a later one is there; names that
//!   begin with `.` or `_` are passed over. A place is one in all of them together: one that is gone or has changed before it is
//!   an error, and so is a new one that comes before those that were read.
//! * With [`Lines::quarantine`], bad lines are written away, durably and before anything behind them is committed.
//! * A last line without a line break counts as any other. One that is bad, and passed, is told: its writer may not be done with it.
//!
//! [`Format::Debezium`] reads Debezium's messages in `value`, wrapped with a schema or not, and those that a
//! console consumer prints of Avro. An update that lacks columns is a bad line or, where
//! [`Lines::on_unavailable`] says so, a patch of its row: the shard then needs
//! [`Json::keep_unsent`](crate::codec::Json::keep_unsent) as its [fold](crate::Shard::with_fold).
//!
//! Hints of errors use the words of `ingest`, the example that this module makes a program of: its options
//! are the methods of [`Lines`].
//!
//! # Examples
//!
//! ```
//! use differential_upsert::codec::{Json, JsonText};
//! use differential_upsert::connect::lines::Lines;
//! use differential_upsert::{Pipeline, PipelineConfig, Shard};
//!
//! let text = r#"{"key": "apples", "value": 3, "ts": 0}
//! {"key": "pears", "value": {"n": 1}, "ts": 0}
//! {"key": "apples", "value": null, "ts": 1}
//! "#;
//! let shard = Shard::<Json, Json, JsonText>::open("mem:")?;
//! timely::execute_directly({
//!     let shard = shard.clone();
//!     move |worker| {
//!         let token = worker.dataflow(|scope| {
//!             let lines = || Some(Lines::from_reader("text", text.as_bytes()));
//!             Pipeline::from_timed(scope, lines, &shard, PipelineConfig::default()).token
//!         });
//!         while worker.has_dataflows() {
//!             worker.step_or_park(None);
//!         }
//!         drop(token);
//!     }
//! });
//! // The end of the feed has closed time 1.
//! assert_eq!(shard.upper(), 2);
//! let rows = shard.io().block_on(shard.handle().snapshot(1))?;
//! assert_eq!(rows.len(), 1);
//! # Ok::<(), differential_upsert::Error>(())
//! ```

mod config;

mod feed;

mod look;

mod given;

mod times;

mod follow;

mod position;

mod change;

mod resnapshot;

mod quarantine;

mod line;

mod row;

mod shape;

mod formats;

mod salvage;

mod strange;

mod cut;

mod input;

mod packed;

mod names;

mod parts;

mod rotating;

mod live;

#[cfg(test)]
mod tests;

pub use crate::connect::debezium::OnUnavailable;
pub use crate::connect::on_error::OnError;
pub use config::{Format, Resnapshot};
pub use feed::Lines;
pub use position::FilePosition;
