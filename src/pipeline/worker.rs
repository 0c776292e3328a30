//! Owns what every dataflow over a shard begins with on a worker: the place where it reports, and the reader
//! that brings the committed rows back. It does not own what is built around them.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use timely::dataflow::Scope;
use tokio::sync::Notify;

use super::shard::Shard;
use crate::codec::Codec;
use crate::control::epoch::Epoch;
use crate::control::lifecycle::Lifecycle;
use crate::feedback::{Poll, feedback};
use crate::health::{self, Role, Status};
use crate::output::decode::Rows;
use crate::upsert::{Begin, ImageLink, Known, UpsertStats};

/// Gives this worker its part of a pipeline, and begins the watchdog with the first of a process. The role
/// and the epoch are known before anything is said of them.
pub(super) fn join<K, V, C: Codec<K> + Codec<V>>(
    scope: Scope<'_, u64>,
    shard: &Shard<K, V, C>,
    stall_after: Duration,
    role: Role,
    epoch: Epoch,
) -> (Status, UpsertStats) {
    let (lifecycle, stats) = (Lifecycle::default(), UpsertStats::default());
    // The workers of a pipeline build it in the same place.
    let place = (scope.addr().first().copied().unwrap_or(0), scope.peers());
    let shared = (stats.clone(), lifecycle.watch());
    let (process, vitals, begun) = shard.pipelines().join(
        place,
        scope.index(),
        shared,
        shard.handle(),
        stall_after,
        (role, epoch),
    );
    if begun {
        health::watch(&process, shard.io());
    }
    (Status::new(process, vitals, lifecycle), stats)
}

/// The committed rows, as they are read back.
pub(super) struct ReadBack<'scope> {
    pub(super) rows: Rows<'scope>,
    /// The upper that the rows are complete to.
    pub(super) known: Known<u64>,
    /// Makes the reader look at once.
    pub(super) news: Arc<Notify>,
}

/// Reads the shard back: first its contents, then every change.
pub(super) fn read_back<'scope, K: Debug, V, C: Codec<K> + Codec<V>>(
    scope: Scope<'scope, u64>,
    shard: &Shard<K, V, C>,
    interval: Duration,
    status: &Status,
    image: Option<(ImageLink, Option<Begin>)>,
) -> ReadBack<'scope> {
    let known = Known::new(shard.state().upper);
    let news = Arc::new(Notify::new());
    let poll = Poll { interval, news: Arc::clone(&news) };
    let handle = shard.handle().clone();
    let named = |key: &[u8]| <C as Codec<K>>::decode(key).ok().map(|key| format!("{key:?}"));
    status.vitals().in_error.name_by(named);
    let rows = feedback(scope, handle, shard.io(), poll, known.clone(), status.clone(), image);
    ReadBack { rows, known, news }
}
