//! Owns what the sink's operators share besides the updates. It does not own any of it.

use std::sync::Arc;

use tokio::sync::Notify;

use crate::control::promotion::Promotion;
use crate::definite::Checked;
use crate::health::Status;
use crate::io::Io;
use crate::reclock::Cursors;
use crate::shard::{Feed, Handle, History};
use crate::upsert::{ImageLink, Inflight, UpsertStats};

/// What the sink needs besides the updates.
#[derive(Clone)]
pub(crate) struct SinkContext {
    pub(crate) handle: Handle,
    pub(crate) io: Io,
    pub(crate) status: Status,
    pub(crate) stats: UpsertStats,
    pub(crate) inflight: Inflight,
    pub(crate) part_bytes_max: usize,
    pub(crate) history: Option<History>,
    pub(crate) feed: Feed,
    /// The cursors to be committed with the rows that they cover.
    pub(crate) cursors: Cursors,
    /// What the feed has below a time, to go with an append.
    pub(crate) checked: Checked,
    /// Set while it may not write.
    pub(crate) standby: Option<Promotion>,
    /// Tells the worker's reader that the log has news.
    pub(crate) news: Arc<Notify>,
    /// Says how far the reader is, where images of the state are taken.
    pub(crate) image: Option<ImageLink>,
}
