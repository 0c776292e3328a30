//! Owns the assembly of one worker's pipeline: which operator gets what, and in which order they are built. It does not
//! own what a program gets of it; that is [`Pipeline`](super::Pipeline)'s.

use std::sync::Arc;

use differential_dataflow::ExchangeData;
use timely::dataflow::{Scope, StreamVec};

use super::config::PipelineConfig;
use super::image::{Kept, keep};
use super::metrics::Metrics;
use super::shard::Shard;
use super::worker::{ReadBack, join, read_back};
use crate::codec::Codec;
use crate::codec::packed::Encoded;
use crate::command::Command;
use crate::control::epoch::Epoch;
use crate::definite::{check, tally};
use crate::error::Error;
use crate::health::errors::report;
use crate::health::{Role, Status};
use crate::input::end::Ends;
use crate::output::decode::Rows;
use crate::reclock::{Cursors, Times};
use crate::sink::{self, SinkContext, Watch};
use crate::upsert::{Inflight, Look, UpsertConfig, UpsertContext, UpsertStats, upsert};

/// What the operators of one worker's pipeline share, before they exist.
pub(super) struct Parts {
    pub(super) ends: Ends,
    pub(super) status: Status,
    pub(super) stats: UpsertStats,
    pub(super) cursors: Cursors,
    /// Why nothing may be committed.
    invalid: Option<Error>,
}

/// What has been built.
pub(super) struct Built<'scope> {
    pub(super) errors: StreamVec<'scope, u64, Error>,
    pub(super) metrics: Metrics,
    pub(super) stats: UpsertStats,
    pub(super) watch: Watch,
    pub(super) rows: Rows<'scope>,
    pub(super) status: Status,
    /// The contents are read back, too.
    pub(super) collects: bool,
}

/// Returns a config that can be run, and why the one that was asked for cannot.
pub(super) fn checked(config: PipelineConfig) -> (PipelineConfig, Option<Error>) {
    match config.validate() {
        Ok(()) => (config, None),
        // The parts still need bounds to stand on, until they are told to stop.
        Err(e) => {
            let PipelineConfig { name, feed, standby, .. } = config;
            (PipelineConfig { name, feed, standby, ..PipelineConfig::default() }, Some(e))
        }
    }
}

impl Parts {
    pub(super) fn new<K, V, C: Codec<K> + Codec<V>>(
        scope: Scope<'_, u64>,
        shard: &Shard<K, V, C>,
        config: &PipelineConfig,
        invalid: Option<Error>,
        epoch: Epoch,
    ) -> Parts {
        let role = config.standby.as_ref().map_or(Role::Writer, |_| Role::Standby);
        let (status, stats) = join(scope, shard, config.stall_after, role, epoch);
        if let Some(error) = &invalid {
            status.fail(error.clone());
        }
        Parts { ends: Ends::default(), status, stats, cursors: Cursors::default(), invalid }
    }

    pub(super) fn build<'scope, K, V, O, C>(
        self,
        commands: StreamVec<'scope, u64, (Command<Encoded, Encoded, O>, u64)>,
        shard: &Shard<K, V, C>,
        config: PipelineConfig,
    ) -> Built<'scope>
    where
        K: ExchangeData,
        V: 'static,
        C: Codec<K> + Codec<V>,
        O: ExchangeData,
    {
        let Parts { ends, status, stats, cursors, invalid } = self;
        let (scope, handle) = (commands.scope(), shard.handle().clone());
        let inflight = Inflight::bounded(config.inflight_bytes_max, stats.clone());
        let worker = (scope.index() as u64, scope.peers() as u64);
        let Kept { cold, images, link } = keep(shard, &config, worker, &stats);
        let image = link.as_ref().map(|(link, _)| link.clone());
        let ReadBack { rows, known, news } = read_back(scope, shard, config.poll, &status, link);
        let lent = UpsertContext {
            known,
            spill: Default::default(),
            cold,
            images: images.map(|images| (images, <u64 as Clone>::clone as fn(&u64) -> u64)),
            inflight: inflight.clone(),
            lifecycle: status.lifecycle().clone(),
            stats: stats.clone(),
            watch: Some(look(&status)),
            invalid,
        };
        let checks = config.checked;
        // What is not checked proves at no commit that others emit what the operator has emitted.
        let proven = checks || crate::mutant::on("ahead_unchecked");
        let upsert_config = UpsertConfig {
            stash_bytes_max: config.stash_bytes_max,
            state_bytes_max: config
                .state_bytes_max
                .filter(|_| !crate::mutant::on("state_unbounded")),
            drain_rows_max: config.drain_rows_max,
            overlay_bytes_max: if config.ahead && proven { config.overlay_bytes_max } else { 0 },
            ..UpsertConfig::default()
        };
        let (commands, counted) = tally(commands, checks, shard.digest(), ends, status.clone());
        let resumes = shard.resumes().clone();
        // Other writers may have come further than its end: by cursors, an end says nothing of the whole.
        let stops = config.feed.mode == Times::WriteAhead.mode();
        let feed = config.feed.clone();
        let (limit, checked) = check(counted, checks, feed, stops, resumes, status.clone());
        let rules = shard.rules(config.patch_errors);
        let upserted = upsert(commands, rows.clone(), upsert_config, rules, lent);
        let errors = report(upserted.errors.clone(), status.clone());
        let context = SinkContext {
            handle,
            io: shard.io().clone(),
            status: status.clone(),
            stats: stats.clone(),
            inflight,
            part_bytes_max: config.part_bytes_max,
            history: config.history,
            feed: config.feed,
            cursors,
            checked,
            standby: config.standby,
            news,
            image,
        };
        // The operator's errors have the frontier of its updates.
        let sink = sink::sink(upserted.updates, upserted.errors, limit, &context);
        let metrics = Metrics::new(status.health(), sink.clone(), &config.name);
        Built { errors, metrics, stats, watch: sink, rows, status, collects: config.collection }
    }
}

/// Tells the health what an operator sees after each wake-up.
fn look(status: &Status) -> Look<u64> {
    let vitals = Arc::clone(status.vitals());
    Box::new(move |least, at| {
        vitals.see(least.copied(), at.input.first().copied(), at.complete.first().copied());
    })
}
