//! Owns how a source is run: plain values, and what they may be. It does not own what they do.

use std::time::Duration;

use crate::error::Error;
use crate::shard::Feed;
use crate::source::attempt::AttemptConfig;
use crate::source::stage::StageLimits;

/// How the rows of a source get definite times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Times {
    /// A binding of time and cursor is durable before the rows. Positions must have an
    /// [order](crate::source::Position::order).
    #[default]
    WriteAhead,
    /// The cursor is committed with the rows. The shard is taken over at the start, and earlier writers
    /// are shut out; a standby takes it over when it is promoted.
    CoCommitted,
}

impl Times {
    /// Returns how the shard's feed names it.
    pub fn mode(self) -> &'static str {
        match self {
            Times::WriteAhead => Feed::MINTED,
            Times::CoCommitted => Feed::CO_COMMITTED,
        }
    }
}

/// How a source is run, plain values.
#[derive(Clone, Debug)]
pub struct SourceConfig {
    /// Where times come from. Default: write-ahead.
    pub times: Times,
    /// Least time between two bindings: more rows in each, and later. Default: 0.
    pub mint_min: Duration,
    /// How long a boundary without rows waits for rows before it is made durable by itself. Default:
    /// 1 s.
    pub idle_commit: Duration,
    /// Whether to end where the feed is at the start. Default: false.
    pub stop_at_current: bool,
    /// How often and how fast a source is connected again.
    pub attempts: AttemptConfig,
    /// How much of incomplete units is kept back.
    pub stage: StageLimits,
}

impl Default for SourceConfig {
    fn default() -> Self {
        SourceConfig {
            times: Times::default(),
            mint_min: Duration::ZERO,
            idle_commit: Duration::from_secs(1),
            stop_at_current: false,
            attempts: AttemptConfig::default(),
            stage: StageLimits::default(),
        }
    }
}

impl SourceConfig {
    /// Checks the values.
    ///
    /// # Errors
    ///
    /// `Invalid`, naming the field and its range.
    pub fn validate(&self) -> Result<(), Error> {
        self.attempts.validate()?;
        self.stage.validate()
    }
}
