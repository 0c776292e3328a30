//! Owns what a report says: the states, the roles and the members. It does not own which state a pipeline
//! is in; that is [`judge`](super::judge)'s.

use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::source::Lag;

/// What a pipeline is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum HealthState {
    /// It reads the shard to know the prior values.
    Hydrating,
    /// A closed time is on its way into the shard, rows wait for their time to be closed, or a unit or a
    /// copy of the source for its end.
    Running,
    /// Everything received from the source is in the shard.
    Idle,
    /// The shard is ahead of this pipeline's input.
    Lagging,
    /// It ought to move, and has not for too long.
    Stalled,
    /// A newer writer has taken over; it holds still.
    Fenced,
    /// It has stopped on an error and holds still.
    Failed,
    /// It has stopped, at the end of its input or because it was told to.
    Finished,
}

impl HealthState {
    /// All of them.
    pub const ALL: [HealthState; 8] = [
        HealthState::Hydrating,
        HealthState::Running,
        HealthState::Idle,
        HealthState::Lagging,
        HealthState::Stalled,
        HealthState::Fenced,
        HealthState::Failed,
        HealthState::Finished,
    ];

    /// Returns its name, as in a report.
    pub fn name(self) -> &'static str {
        match self {
            HealthState::Hydrating => "hydrating",
            HealthState::Running => "running",
            HealthState::Idle => "idle",
            HealthState::Lagging => "lagging",
            HealthState::Stalled => "stalled",
            HealthState::Fenced => "fenced",
            HealthState::Failed => "failed",
            HealthState::Finished => "finished",
        }
    }

    /// Whether somebody has to look: stalled, fenced or failed.
    pub fn is_trouble(self) -> bool {
        matches!(self, HealthState::Stalled | HealthState::Fenced | HealthState::Failed)
    }
}

/// Whether a pipeline writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Role {
    /// It appends.
    #[default]
    Writer,
    /// It follows, and appends nothing.
    Standby,
    /// It reads, and has nothing to append.
    Reader,
}

impl Role {
    /// All of them.
    pub const ALL: [Role; 3] = [Role::Writer, Role::Standby, Role::Reader];

    /// Returns its name, as in a report.
    pub fn name(self) -> &'static str {
        match self {
            Role::Writer => "writer",
            Role::Standby => "standby",
            Role::Reader => "reader",
        }
    }
}

/// A pipeline's health at one moment. Serialized, its members keep this order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HealthReport {
    /// Whether it writes.
    pub role: Role,
    /// What it is doing.
    pub state: HealthState,
    /// The input frontier: times below it are closed on the source.
    pub input: u64,
    /// The shard's upper, as last read.
    pub upper: u64,
    /// The frontier of the updates: times below it have been emitted.
    pub output: u64,
    /// How far the shard is behind the input, in units of time.
    pub behind: u64,
    /// The shard's since.
    pub since: u64,
    /// Why, where that needs words.
    pub why: Option<String>,
    /// How far the shard is behind the end of the source; left out where the source says nothing of it.
    #[serde(skip_serializing_if = "SourceLag::is_unknown")]
    pub lag: SourceLag,
    /// Keys whose value is an error; left out where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errors: Option<KeysInError>,
}

/// Keys whose value is an error, of all workers of this process: what it has read back of the shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeysInError {
    /// How many there are.
    pub keys: u64,
    /// One of them, 64 characters of it, in its [`Debug`](std::fmt::Debug) form. A worker knows the first few that it has read;
    /// as those have ended, and where the state began with an image, none is known before another one comes. `shard errors`
    /// lists all.
    pub key: Option<String>,
}

/// How far what is in the shard lies behind the end of its source: each as far as the source
/// [says](crate::source::Source::lag), else left out. While the source is not connected, as it was last said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SourceLag {
    /// Changes, or messages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// Bytes, as the source counts them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// How long ago the oldest change was made upstream that is not in the shard; in seconds.
    #[serde(
        rename = "seconds",
        serialize_with = "in_seconds",
        skip_serializing_if = "Option::is_none"
    )]
    pub age: Option<Duration>,
}

impl SourceLag {
    pub(super) fn new(lag: Lag, now_ms: u64) -> SourceLag {
        SourceLag { rows: lag.rows, bytes: lag.bytes, age: lag.age(now_ms) }
    }

    /// Returns whether nothing is known of it.
    pub fn is_unknown(&self) -> bool {
        *self == SourceLag::default()
    }
}

fn in_seconds<S: Serializer>(age: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    age.map(|age| age.as_secs_f64()).serialize(serializer)
}

/// Writes how many there are of something: `1 row`, `2 rows`.
pub(super) fn counted(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// Writes a time as a reader of a report wants it.
pub(super) fn seconds(time: Duration) -> String {
    match time.as_secs() {
        0..10 => format!("{:.1} s", time.as_secs_f64()),
        whole => format!("{whole} s"),
    }
}
