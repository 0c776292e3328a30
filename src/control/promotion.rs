//! Owns how a standby becomes a writer. It does not own what a standby leaves undone: that is the
//! sink's.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use timely::scheduling::SyncActivator;
use tokio::sync::Notify;

use crate::control::waking::Sleepers;

/// Makes a standby a writer, from any thread; cheap to clone.
///
/// A pipeline whose config has one reads the shard, follows its feed and computes every update, but
/// appends nothing until promoted. The writer before it may be alive, dead or paused: both race for
/// every append, and what one has committed the other drops.
///
/// ```
/// use differential_upsert::{PipelineConfig, Promotion};
/// let promotion = Promotion::default();
/// let config = PipelineConfig { standby: Some(promotion.clone()), ..PipelineConfig::default() };
/// assert!(!promotion.is_promoted());
/// promotion.promote();
/// promotion.promote(); // once is enough
/// assert!(promotion.is_promoted());
/// # let _ = config;
/// ```
#[derive(Clone, Default)]
pub struct Promotion(Arc<Shared>);

#[derive(Default)]
struct Shared {
    promoted: AtomicBool,
    sleepers: Sleepers,
    news: Notify,
}

impl Promotion {
    /// Lets the standby write, as soon as it has read the shard. Returns at once. In a cluster it
    /// counts in process 0.
    pub fn promote(&self) {
        self.0.promoted.store(true, Ordering::Release);
        self.0.sleepers.wake();
        self.0.news.notify_waiters();
    }

    /// Whether it was promoted.
    pub fn is_promoted(&self) -> bool {
        self.0.promoted.load(Ordering::Acquire)
    }

    /// Waits until it is promoted.
    pub(crate) async fn promoted(&self) {
        loop {
            let mut news = std::pin::pin!(self.0.news.notified());
            // Listen first, look second: a change in between is then not missed.
            news.as_mut().enable();
            if self.is_promoted() {
                return;
            }
            news.await;
        }
    }

    /// Names an operator to wake at the promotion.
    pub(crate) fn wake(&self, operator: SyncActivator) {
        self.0.sleepers.add(operator);
    }
}

impl fmt::Debug for Promotion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Promotion").field(&self.is_promoted()).finish()
    }
}
