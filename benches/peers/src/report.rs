//! Owns what a run of the comparison found, as it is kept beside the tables for the plots. It does not own
//! how it reads.

use serde::{Deserialize, Serialize};

use crate::clock::Figures;
use crate::contestant::Contestant;

/// All that one run found.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    pub machine: String,
    pub commit: String,
    pub command: String,
    pub keys: u64,
    pub rounds: usize,
    pub cases: Vec<Case>,
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
