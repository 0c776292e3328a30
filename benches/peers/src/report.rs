//! Owns what a run of the comparison found, as it is kept beside the tables for the plots. It does not own
//! how it reads.

use serde::{Deserialize, Serialize};

use crate::clock::Figures;
use crate::contestant::Contestant;
use crate::idle::Idle;
use crate::ingest::How;
use crate::latency::Latency;
use crate::race::Race;
use crate::reload::{Reload, Reloaded};
use crate::warm::Warm;

/// All that one run found.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    pub machine: String,
    pub commit: String,
    /// Each that a figure is from; the last made what it makes anew.
    pub commands: Vec<String>,
    pub keys: u64,
    pub rounds: usize,
    pub cases: Vec<Case>,
    #[serde(default)]
    pub restarts: Vec<Restart>,
    #[serde(default)]
    pub latencies: Vec<Load>,
    #[serde(default)]
    pub feeds: Vec<Feed>,
    #[serde(default)]
    pub warms: Vec<Warm>,
    #[serde(default)]
    pub races: Vec<Race>,
    #[serde(default)]
    pub idle: Vec<Idle>,
}

/// How long everybody takes to have so many keys again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Restart {
    pub keys: u64,
    pub results: Vec<(Reload, Vec<Reloaded>)>,
}

/// Latencies at one rate.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Load {
    pub contestant: Contestant,
    /// Rows a second, and which part of what it can do at most that is.
    pub rate: f64,
    pub part: f64,
    pub latency: Latency,
    /// That of one bare durable append for each time, at the same rate.
    pub append: Latency,
}

/// What became of a file of JSON lines.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Feed {
    pub lines: u64,
    pub results: Vec<(How, Vec<Figures>)>,
}

/// One input, and how each contestant did with it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Case {
    pub name: String,
    pub rows_per_time: u64,
    pub workers: usize,
    pub results: Vec<Result>,
}

/// How one contestant did: a figure for each round.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Result {
    pub contestant: Contestant,
    pub rounds: Vec<Figures>,
}

impl Feed {
    /// Returns the median of the seconds, if it was run.
    pub fn seconds(&self, how: How) -> Option<f64> {
        let (_, all) = self.results.iter().find(|(other, _)| *other == how)?;
        (!all.is_empty()).then(|| median(all.iter().map(|one| one.seconds).collect()))
    }
}

impl Case {
    /// Returns how `contestant` did, if it took part.
    pub fn of(&self, contestant: Contestant) -> Option<&Result> {
        self.results.iter().find(|result| result.contestant == contestant)
    }
}

impl Result {
    /// Returns the median over the rounds of what `get` takes from each.
    pub fn median(&self, get: impl Fn(&Figures) -> f64) -> f64 {
        median(self.rounds.iter().map(get).collect())
    }

    /// Returns rows a second, by wall time.
    pub fn rate(&self) -> f64 {
        self.median(|figures| figures.rows as f64 / figures.seconds)
    }

    /// Returns microseconds of CPU for a row.
    pub fn cpu(&self) -> f64 {
        self.median(|figures| figures.cpu_seconds * 1e6 / figures.rows as f64)
    }
}

/// Returns the median of some figures, 0 of none; of two, the mean.
pub fn median(mut all: Vec<f64>) -> f64 {
    all.sort_unstable_by(f64::total_cmp);
    let middle = all.len() / 2;
    match all.len() {
        0 => 0.0,
        count if count % 2 == 1 => all[middle],
        _ => (all[middle - 1] + all[middle]) / 2.0,
    }
}
