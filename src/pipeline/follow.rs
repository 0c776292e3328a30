//! Owns following a shard in a dataflow without feeding it: the committed collection and its health.
//! Nothing is appended; what reads the shard is the [`feedback`](crate::feedback)'s.
//!
//! # Stopping
//!
//! A worker reads its own keys' rows only. So if one stops, all must, before any lets its frontier go:
//! each tells all others when it stops, or has read a sealed shard to its end, and lets go once it has
//! heard of every one.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use differential_dataflow::{ExchangeData, VecCollection};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::generic::operator::empty;
use timely::dataflow::operators::generic::{Operator, OutputBuilder};
use timely::dataflow::{Scope, StreamVec};
use tokio::sync::Notify;

use crate::codec::packed::Encoded;
use crate::codec::{Codec, DataError, Postcard};
use crate::control::epoch::Epoch;
use crate::control::lifecycle::{Lifecycle, Phase, Token};
use crate::error::Error;
use crate::feedback::{Poll, feedback};
use crate::health::{self, Health, Role, Status};
use crate::pipeline::config::PipelineConfig;
use crate::pipeline::shard::Shard;
use crate::pipeline::{Pipeline, committed, committed_errors, report};
use crate::upsert::{Known, UpsertStats};

/// A shard that is followed, on one worker: see [`Pipeline::follow`].
pub struct Follow<'scope, K, V, C = Postcard> {
    /// What went wrong on this worker; after the first error its part holds still.
    pub errors: StreamVec<'scope, u64, Error>,
    /// Watch it. Its input is what it has read.
    pub health: Health,
    /// Drop it to stop, on every worker.
    pub token: Token,
    rows: VecCollection<'scope, u64, (Encoded, Encoded), isize>,
    status: Status,
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
    /// Follows a shard: its contents, at the time before its upper, then every change, whoever
    /// commits it. Nothing is appended. The collection ends when the shard is sealed.
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
        let lifecycle = Lifecycle::default();
        let place = (scope.addr().first().copied().unwrap_or(0), scope.peers());
        let shared = (UpsertStats::default(), lifecycle.watch());
        let (process, vitals, begun) = shard.pipelines().join(
            place,
            scope.index(),
            shared,
            shard.handle(),
            config.stall_after,
            // Whoever writes.
            (Role::Reader, Epoch::unclaimed()),
        );
        if begun {
            health::watch(&process, shard.io());
        }
        let status = Status::new(process, vitals, lifecycle);
        let poll = Poll { interval: config.poll, news: Arc::new(Notify::new()) };
        let known = Known::new(shard.state().upper);
        let handle = shard.handle().clone();
        let rows = feedback(scope, handle, shard.io(), poll, known, status.clone());
        stop_together(scope, status.clone());
        let errors = report(empty(scope), status.clone());
        Follow {
            errors,
            health: status.health(),
            token: Token(status.lifecycle().clone()),
            rows,
            status,
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
        committed::<K, V, C>(&self.rows, &self.status)
    }

    /// Returns the keys whose value is an error, and the error.
    pub fn data_errors(&self) -> VecCollection<'scope, u64, (K, DataError), isize> {
        committed_errors::<K, V, C>(&self.rows, &self.status)
    }
}

/// Lets every worker go once all have stopped, or have read a sealed shard to its end.
fn stop_together(scope: Scope<'_, u64>, status: Status) {
    let mut builder = status.lifecycle().operator("UpsertFollow", scope);
    let (output, stream) = builder.new_output();
    let mut output = OutputBuilder::<_, CapacityContainerBuilder<Vec<(u64, bool)>>>::from(output);
    let peers = scope.peers() as u64;
    let own = status.clone();
    builder.build(move |mut capabilities| {
        let mut capability = capabilities.pop();
        move |_| {
            let Some(held) = &capability else { return };
            let sealed = own.state().and_then(|state| state.sealed_at);
            let whole =
                own.is_hydrated() && sealed.is_some_and(|end| end <= own.vitals().read_to());
            if whole {
                own.set_ended();
            } else if own.phase() < Phase::Stopping {
                return;
            }
            let told = (0..peers).map(|worker| (worker, whole));
            output.activate().session(held).give_iterator(told);
            capability = None;
        }
    });
    let to_all = Exchange::new(|(worker, _): &(u64, bool)| *worker);
    let mut heard = 0;
    stream.sink(to_all, "UpsertFollowTold", move |(input, _)| {
        let before = heard;
        input.for_each(|_, told| {
            for (_, whole) in told.drain(..) {
                heard += 1;
                if !whole {
                    status.lifecycle().advance(Phase::Stopping);
                }
            }
        });
        if heard > before && heard == peers {
            status.lifecycle().advance(Phase::Released);
        }
    });
}
