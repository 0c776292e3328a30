//! Owns what is asked for: which table, of which server, on which tablets. It does not own how it is asked.

use std::time::Duration;

use super::channel::Server;
use super::tablet::Tablet;
use super::url::{Address, Protocol};

/// What is asked, of whom.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) address: Address,
    pub(super) server: Server,
    pub(super) user: Option<String>,
    pub(super) tablet: Tablet,
    pub(super) cells: Vec<String>,
    pub(super) silence: Option<Duration>,
}

impl Asked {
    pub(super) fn place(&self) -> String {
        format!("{}/{}", self.address.keyspace, self.address.table)
    }

    /// How long nothing may come; `None` for ever. `Sync` has no heartbeats: there, an idle shard is
    /// silent, and only the connection is asked whether it is alive.
    pub(super) fn silence_max(&self) -> Option<Duration> {
        self.silence.or_else(|| self.heartbeats().then_some(SILENCE))
    }

    pub(super) fn heartbeats(&self) -> bool {
        self.address.protocol == Protocol::VStream
    }

    /// Several heartbeats fit into the longest silence.
    pub(super) fn heartbeat_seconds(&self) -> u32 {
        let silence = self.silence_max().unwrap_or(SILENCE).as_secs();
        u32::try_from(silence / 6).unwrap_or(u32::MAX).clamp(1, 5)
    }
}

/// Six heartbeats.
const SILENCE: Duration = Duration::from_secs(30);
