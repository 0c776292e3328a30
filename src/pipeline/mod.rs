//! Owns the wiring: source, upsert, sink, shard and feedback into one loop. It has no logic of its
//! own.
//!
//! ```text
//!   a feed -----------> source --.
//!   your rows --> values, hold --+--> encode --> tally, check --> upsert --> sink --> [ shard ]
//!                                                                   ^                     |
//!                                                                   '---- feedback <------'
//!                                                                            '--> decode: collection
//! ```
//!
//! # Memory
//!
//! | what grows | bound | gauge |
//! |---|---|---|
//! | the state: a row per live key | [`state_bytes_max`](PipelineConfig::state_bytes_max) per worker, but its index; the live rows where that is not set | `state_bytes` |
//! | the stash | [`stash_bytes_max`](PipelineConfig::stash_bytes_max) per worker, then a file | `stash_bytes`, `spill_bytes` |
//! | a unit of a source that is not complete | [`SourceConfig::stage`](crate::reclock::SourceConfig::stage) per source, then a file | `source_staged_bytes` |
//! | read from a source, its time not bound or not committed | [`ahead_bytes_max`](PipelineConfig::ahead_bytes_max), and a unit | `source_unbound_units` |
//! | emitted, in no durable part yet | [`inflight_bytes_max`](PipelineConfig::inflight_bytes_max) per worker, and a piece of a drain | `inflight_bytes` |
//! | emitted and not read back, which it runs ahead on | [`overlay_bytes_max`](PipelineConfig::overlay_bytes_max) per worker, and a row | `overlay_bytes` |
//! | came back while a drain reads the state | what was emitted before that drain: `overlay_bytes_max` | |
//! | the sums of commands, of which the shard has to have the same | 48 bytes per time that is not in the shard, on worker 0 | |
//! | parts at hand for followers, and the rows of those written here | [`cache_bytes_max`](crate::shard::HandleConfig::cache_bytes_max) per process, each | `cache_bytes` |
//! | parts on their way back, as they are encoded | [`read_bytes_max`](crate::shard::HandleConfig::read_bytes_max) per worker, and as much that its worker has taken and not applied | `read_bytes` |
//! | a merge, one at a time | [`compact_bytes_max`](crate::shard::HandleConfig::compact_bytes_max) per process, and two parts that it writes | `merge_bytes` |
//! | what the state of the shard names | about 200 bytes per batch and part; merges leave a few batches, but those that a holder has yet to read, until its lease has run out | |
//!
//! A standby is bound by the same, however long the active does nothing: it emits until `inflight_bytes_max`, or ahead until
//! `overlay_bytes_max`, and then the stash fills, and its file; a source is held back by `ahead_bytes_max` before that. What
//! another writer commits past the time of a drain ends the drain, so its rows wait for none.
//!
//! What only looks: a [snapshot as a stream](crate::shard::Handle::stream) has parts of `read_bytes_max`, counted as those
//! on their way back, [`verify`](crate::shard::verify) of 32 MiB, and `shard snapshot` and `tail` sort 32 MiB of rows at a time
//! through temporary files besides. [`Listen::next_piece`] has one part. A snapshot
//! [as a whole](crate::shard::Handle::snapshot) is as large as the collection, and [`Listen::next`] has a commit of whatever size.
//! Collection and `verify` list all files: some 150 bytes for each.
//! Everything that reads parts may have two of them whatever its bound, and a row however large it is.
//!
//! A row on its way back has 64 bytes beside the part that it lies in. The allocator keeps more: with glibc's, an arena
//! per thread was 30 % of what a loop took beyond the bare operator, and `MALLOC_ARENA_MAX=1` gave that back.

pub(crate) mod config;
pub(crate) mod families;
pub(crate) mod follow;
mod image;
mod listen;
pub mod metrics;
mod parts;
pub(crate) mod restarts;
pub(crate) mod shard;
mod worker;

use differential_dataflow::{ExchangeData, VecCollection};
use timely::dataflow::{Scope, StreamVec};

use self::config::PipelineConfig;
use self::metrics::Metrics;
use self::parts::{Built, Parts, checked};
use self::shard::Shard;
use crate::codec::{Codec, DataError, Postcard, Values};
use crate::command::Command;
use crate::control::epoch::Epoch;
use crate::control::lifecycle::Token;
use crate::error::{Error, ErrorKind};
use crate::health::{Health, Status};
use crate::input::TimedSource;
use crate::input::encode::encode;
use crate::input::end::hold;
use crate::input::operator::source;
use crate::input::values::values;
use crate::output::decode::{Rows, committed, committed_errors};
use crate::reclock::claim;
use crate::reclock::{ReclockContext, Reclocked, Times};
use crate::shard::Feed;
use crate::source::{Source, SourceStats};
use crate::upsert::UpsertStats;

pub use crate::sink::Watch;
pub use listen::{Changes, Contents, Keyed, Listen};

/// A running pipeline, on one worker.
pub struct Pipeline<'scope, K, V, C = Postcard> {
    /// What went wrong on this worker, as it happens; after the first error its part holds still.
    pub errors: StreamVec<'scope, u64, Error>,
    /// Watch it.
    pub health: Health,
    /// Its counters and gauges, as Prometheus text.
    pub metrics: Metrics,
    /// Drop it to stop, on every worker.
    pub token: Token,
    /// Counters and gauges of this worker's operator.
    pub stats: UpsertStats,
    /// What became of the commands.
    pub watch: Watch,
    rows: Rows<'scope>,
    status: Status,
    /// The contents are read back, too.
    collects: bool,
    values: Values<V, C>,
    types: std::marker::PhantomData<fn(C) -> (K, V)>,
}

impl<K, V, C> std::fmt::Debug for Pipeline<'_, K, V, C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pipeline").field("health", &self.health.report()).finish_non_exhaustive()
    }
}

impl<'scope, K, V, C> Pipeline<'scope, K, V, C>
where
    K: ExchangeData,
    V: ExchangeData,
    C: Codec<K> + Codec<V>,
{
    fn of(built: Built<'scope>, shard: &Shard<K, V, C>) -> Self {
        let Built { errors, metrics, stats, watch, rows, status, collects } = built;
        Pipeline {
            errors,
            health: status.health(),
            metrics,
            token: Token(status.lifecycle().clone()),
            stats,
            watch,
            rows,
            status,
            collects,
            values: shard.values().clone(),
            types: std::marker::PhantomData,
        }
    }

    /// Builds a pipeline from a feed with times of its own. Only worker 0 of process 0 asks for it and runs it; the
    /// others take part in the work.
    pub fn from_timed<S: TimedSource<Key = K, Value = Result<V, DataError>>>(
        scope: Scope<'scope, u64>,
        feed: impl FnOnce() -> Option<S>,
        shard: &Shard<K, V, C>,
        config: PipelineConfig,
    ) -> Self
    where
        S::Order: ExchangeData,
    {
        let (config, invalid) = checked(config);
        let parts = Parts::new(scope, shard, &config, invalid, Epoch::known(shard.epoch()));
        let ahead = config.ahead_bytes_max;
        let (status, stats) = (parts.status.clone(), parts.stats.clone());
        let ends = parts.ends.clone();
        let shape = shard.values().written();
        let commands = source(scope, feed, shard.io(), ends, status.clone(), stats, ahead);
        let commands = encode::<K, V, S::Order, C>(commands, shape, status);
        Pipeline::of(parts.build(commands, shard, config), shard)
    }

    /// Builds a pipeline from a source with cursors: it resumes where the shard's contents end, gives
    /// rows their times ([`times`](crate::reclock::SourceConfig::times)), and tells the source what is durable. Only worker 0
    /// of process 0 asks for the source and runs it; the others take part in the work.
    ///
    /// The config's `feed` is not asked: the source says which it is.
    pub fn from_source<S: Source<Key = K, Value = V>>(
        scope: Scope<'scope, u64>,
        feed: impl FnOnce() -> Option<S>,
        shard: &Shard<K, V, C>,
        config: PipelineConfig,
    ) -> Self {
        let (mut config, invalid) = checked(config);
        let works = invalid.is_none();
        let exclusive = config.source.times == Times::CoCommitted;
        let epoch = if exclusive { Epoch::unclaimed() } else { Epoch::known(shard.epoch()) };
        let parts = Parts::new(scope, shard, &config, invalid, epoch);
        let status = parts.status.clone();
        if exclusive {
            claim::tell(scope, status.epoch().clone(), status.clone());
        }
        let feed = (scope.index() == 0 && works).then(feed).flatten();
        let mode = config.source.times.mode().to_string();
        let identity = feed.as_ref().map(Source::identity).unwrap_or_default();
        config.feed = Feed { mode, identity };
        let context = ReclockContext {
            handle: shard.handle().clone(),
            io: shard.io().clone(),
            epoch: status.epoch().clone(),
            feed: config.feed.clone(),
            standby: config.standby.clone(),
            resumes: shard.resumes().clone(),
            cursors: parts.cursors.clone(),
            stats: status.source().clone(),
            config: config.source.clone(),
            shape: shard.values().written(),
            ahead_bytes_max: config.ahead_bytes_max,
            poll: config.poll,
        };
        let codec = std::marker::PhantomData::<fn(C)>;
        let feed = feed.map(|source| Reclocked { source, context, codec });
        let (stats, ends, ahead) =
            (parts.stats.clone(), parts.ends.clone(), config.ahead_bytes_max);
        let commands = source(scope, || feed, shard.io(), ends, status, stats, ahead);
        Pipeline::of(parts.build(commands, shard, config), shard)
    }

    /// Returns what the source of [`from_source`](Pipeline::from_source) is doing, in this process.
    pub fn source(&self) -> &SourceStats {
        self.status.source()
    }

    /// Builds a pipeline from a stream of commands whose values may be [errors](DataError): such a one is its key's until it
    /// is replaced or deleted, and part of [`data_errors`](Pipeline::data_errors). All else is as in
    /// [`upsert_into`](UpsertInto::upsert_into).
    ///
    /// ```
    /// use differential_upsert::{Command, DataError, Pipeline, PipelineConfig, Shard};
    /// use timely::dataflow::operators::{Capture, Input, capture::Extract};
    ///
    /// let shard = Shard::<String, u64>::open("mem:")?;
    /// let errors = timely::execute_directly(move |worker| {
    ///     let (mut commands, token, errors) = worker.dataflow(|scope| {
    ///         let (input, commands) = scope.new_input();
    ///         let pipeline = Pipeline::from_stream(commands, &shard, PipelineConfig::default());
    ///         let errors = pipeline.data_errors().inner.capture();
    ///         (input, pipeline.token, errors)
    ///     });
    ///     let number = "many".parse::<u64>().map_err(|e| DataError(e.to_string()));
    ///     commands.send((Command::put("apples".to_string(), number, 0), 0));
    ///     commands.close();
    ///     while worker.has_dataflows() {
    ///         worker.step_or_park(None);
    ///     }
    ///     drop(token);
    ///     errors
    /// });
    /// let errors = errors.extract().into_iter().flat_map(|(_, errors)| errors);
    /// let ((key, DataError(why)), time, diff) = errors.into_iter().next().unwrap();
    /// assert_eq!((key.as_str(), time, diff), ("apples", 0, 1));
    /// assert!(why.contains("invalid digit"), "{why}");
    /// # Ok::<(), differential_upsert::Error>(())
    /// ```
    pub fn from_stream<O: ExchangeData>(
        commands: StreamVec<'scope, u64, (Command<K, Result<V, DataError>, O>, u64)>,
        shard: &Shard<K, V, C>,
        config: PipelineConfig,
    ) -> Self {
        let epoch = Epoch::known(shard.epoch());
        let (config, invalid) = checked(config);
        let parts = Parts::new(commands.scope(), shard, &config, invalid, epoch);
        let commands = hold(commands, parts.ends.clone(), parts.status.clone());
        let commands =
            encode::<K, V, O, C>(commands, shard.values().written(), parts.status.clone());
        Pipeline::of(parts.build(commands, shard, config), shard)
    }

    /// Returns the committed collection, read back from the shard: first its contents, at the time
    /// before the upper, then every change. Keys whose value is an error are not in it; see
    /// [`data_errors`](Pipeline::data_errors).
    ///
    /// Where [`PipelineConfig::collection`] says that it is not read, the pipeline fails with `Invalid` and commits nothing.
    pub fn collection(&self) -> VecCollection<'scope, u64, (K, V), isize> {
        self.check_collects();
        committed::<K, V, C>(&self.rows, self.values.clone(), &self.status)
    }

    /// Returns the keys whose value is an error, and the error: part of the committed collection
    /// like any value, replaced or deleted by a later command.
    pub fn data_errors(&self) -> VecCollection<'scope, u64, (K, DataError), isize> {
        self.check_collects();
        committed_errors::<K, V, C>(&self.rows, self.values.clone(), &self.status)
    }
}

impl<K, V, C> Pipeline<'_, K, V, C> {
    /// A collection that lacks the contents is not handed out in silence.
    fn check_collects(&self) {
        if !self.collects {
            let what = "the collection is read, and the config says that it is not";
            let hint = "set PipelineConfig::collection";
            self.status.fail(Error::new(ErrorKind::Invalid, what).hint(hint));
        }
    }
}

/// Makes a stream of commands a durable collection. Where a value may be [an error](DataError), it is
/// [`Pipeline::from_stream`].
pub trait UpsertInto<'scope, K, V, C> {
    /// Commits a keyed change feed to a shard, with the retractions that the feed does not carry.
    ///
    /// The stream must carry every command at the same time on every run and in every writer; time
    /// `t` closes when the stream's frontier passes it. Commands below the shard's upper are
    /// dropped: they are there. A program resumes by continuing its times at
    /// [`Shard::upper`](crate::Shard::upper). When the stream ends, the pipeline goes on
    /// until its last time is committed, and only then does the collection end.
    ///
    /// # Errors
    ///
    /// Nothing is returned here; see [`Pipeline::errors`] and [`Pipeline::health`].
    ///
    /// # Examples
    ///
    /// ```
    /// use differential_upsert::{Command, PipelineConfig, Shard, UpsertInto};
    /// use timely::dataflow::operators::{Capture, Input, capture::Extract};
    ///
    /// let shard = Shard::<String, u64>::open("mem:")?;
    /// let rows = timely::execute_directly({
    ///     let shard = shard.clone();
    ///     move |worker| {
    ///         let (mut commands, token, rows) = worker.dataflow(|scope| {
    ///             let (input, commands) = scope.new_input();
    ///             let pipeline = commands.upsert_into(&shard, PipelineConfig::default());
    ///             let rows = pipeline.collection().inner.capture();
    ///             (input, pipeline.token, rows)
    ///         });
    ///         commands.send((Command::put("apples".to_string(), 3, 0), 0));
    ///         commands.advance_to(1);
    ///         commands.send((Command::put("apples".to_string(), 5, 0), 1));
    ///         commands.close();
    ///         while worker.has_dataflows() {
    ///             worker.step_or_park(None);
    ///         }
    ///         drop(token);
    ///         rows
    ///     }
    /// });
    /// let mut rows: Vec<_> = rows.extract().into_iter().flat_map(|(_, rows)| rows).collect();
    /// differential_dataflow::consolidation::consolidate_updates(&mut rows);
    /// let apples = |n| ("apples".to_string(), n);
    /// assert_eq!(rows, [(apples(3), 0, 1), (apples(3), 1, -1), (apples(5), 1, 1)]);
    /// assert_eq!(shard.upper(), 2);
    /// # Ok::<(), differential_upsert::Error>(())
    /// ```
    fn upsert_into(
        self,
        shard: &Shard<K, V, C>,
        config: PipelineConfig,
    ) -> Pipeline<'scope, K, V, C>;
}

impl<'scope, K, V, O, C> UpsertInto<'scope, K, V, C>
    for StreamVec<'scope, u64, (Command<K, V, O>, u64)>
where
    K: ExchangeData,
    V: ExchangeData,
    O: ExchangeData,
    C: Codec<K> + Codec<V>,
{
    fn upsert_into(
        self,
        shard: &Shard<K, V, C>,
        config: PipelineConfig,
    ) -> Pipeline<'scope, K, V, C> {
        let commands = values(self);
        Pipeline::from_stream(commands, shard, config)
    }
}
