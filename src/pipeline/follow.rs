//! Owns following a shard in a dataflow without feeding it: the committed collection and its health.
//! Nothing is appended; what reads the shard is the [`feedback`](crate::feedback)'s.

use std::fmt;
use std::marker::PhantomData;

use differential_dataflow::{ExchangeData, VecCollection};
use timely::dataflow::operators::generic::operator::empty;
use timely::dataflow::{Scope, StreamVec};

use super::Pipeline;
use super::config::PipelineConfig;
use super::shard::Shard;
use super::worker::{ReadBack, join, read_back};
use crate::codec::{Codec, DataError, Postcard, Values};
use crate::control::epoch::Epoch;
use crate::control::lifecycle::Token;
use crate::error::Error;
use crate::health::errors::report;
use crate::health::{Health, Role, Status};
use crate::output::decode::{Rows, committed, committed_errors};
use crate::output::together::stop_together;

/// A shard that is followed, on one worker: see [`Pipeline::follow`].
pub struct Follow<'scope, K, V, C = Postcard> {
    /// What went wrong on this worker; after the first error its part holds still.
    pub errors: StreamVec<'scope, u64, Error>,
    /// Watch it. Its input is what it has read.
    pub health: Health,
    /// Drop it to stop, on every worker.
    pub token: Token,
    rows: Rows<'scope>,
    status: Status,
    values: Values<V, C>,
    types: PhantomData<fn(C) -> (K, V)>,
}

impl<K, V, C> fmt::Debug for Follow<'_, K, V, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follow").field("health", &self.health.report()).finish_non_exhaustive()
    }
}

impl<'scope, K, V, C> Pipeline<'scope, K, V, C>
where
    K: ExchangeData,
    V: ExchangeData,
    C: Codec<K> + Codec<V>,
{
    /// Follows a shard: its contents, at the time before its upper, then every change of any
    /// writer. Nothing is appended. The collection ends when the shard is sealed.
    ///
    /// If the shard was opened for writing, the history that is yet to be read is held. If for
    /// [reading](Shard::read), nothing is written at all, and what is merged away before it was read
    /// is an error of kind [`LeaseLost`](crate::ErrorKind::LeaseLost): the collection then holds
    /// still, and is begun again by building it again.
    ///
    /// ```
    /// use differential_upsert::{Command, Pipeline, PipelineConfig, Shard, UpsertInto};
    /// use timely::dataflow::operators::{Capture, Input, capture::Extract};
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let url = directory.path().to_str().unwrap();
    ///
    /// let shard = Shard::<String, u64>::open(url)?;
    /// let feed = shard.clone();
    /// timely::execute_directly(move |worker| {
    ///     let (mut commands, _token) = worker.dataflow(|scope| {
    ///         let (input, commands) = scope.new_input();
    ///         (input, commands.upsert_into(&feed, PipelineConfig::default()).token)
    ///     });
    ///     commands.send((Command::put("apples".to_string(), 3, 0), 0));
    ///     commands.close();
    ///     while worker.has_dataflows() {
    ///         worker.step_or_park(None);
    ///     }
    /// });
    /// shard.io().block_on(shard.seal(1))?;
    ///
    /// // Somewhere else, where nothing may be written.
    /// let shard = Shard::<String, u64>::read(url)?;
    /// let rows = timely::execute_directly(move |worker| {
    ///     let (rows, _token) = worker.dataflow(|scope| {
    ///         let follow = Pipeline::follow(scope, &shard);
    ///         (follow.collection().inner.capture(), follow.token)
    ///     });
    ///     while worker.has_dataflows() {
    ///         worker.step_or_park(None);
    ///     }
    ///     rows
    /// });
    /// let rows: Vec<_> = rows.extract().into_iter().flat_map(|(_, rows)| rows).collect();
    /// assert_eq!(rows, [(("apples".to_string(), 3), 0, 1)]);
    /// # Ok::<(), differential_upsert::Error>(())
    /// ```
    pub fn follow(scope: Scope<'scope, u64>, shard: &Shard<K, V, C>) -> Follow<'scope, K, V, C> {
        let config = PipelineConfig::default();
        // Its epoch is that of any writer.
        let epoch = Epoch::unclaimed();
        let (status, _) = join(scope, shard, config.stall_after, Role::Reader, epoch);
        let ReadBack { rows, .. } = read_back(scope, shard, config.poll, &status, None);
        stop_together(scope, status.clone());
        let errors = report(empty(scope), status.clone());
        Follow {
            errors,
            health: status.health(),
            token: Token(status.lifecycle().clone()),
            rows,
            status,
            values: shard.values().clone(),
            types: PhantomData,
        }
    }
}

impl<'scope, K, V, C> Follow<'scope, K, V, C>
where
    K: ExchangeData,
    V: ExchangeData,
    C: Codec<K> + Codec<V>,
{
    /// Returns the collection; keys whose value is an error are not in it, see
    /// [`data_errors`](Follow::data_errors).
    pub fn collection(&self) -> VecCollection<'scope, u64, (K, V), isize> {
        committed::<K, V, C>(&self.rows, self.values.clone(), &self.status)
    }

    /// Returns the keys whose value is an error, and the error.
    pub fn data_errors(&self) -> VecCollection<'scope, u64, (K, DataError), isize> {
        committed_errors::<K, V, C>(&self.rows, self.values.clone(), &self.status)
    }
}
