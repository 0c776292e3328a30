//! Owns how a shard's state is printed. It does not own reading it. Pure.

use differential_upsert::shard::{Feed, History, State};
use serde::{Serialize, Serializer};

/// What `shard status` prints. The order of the fields is the order of the members.
#[derive(Debug, Serialize)]
pub(crate) struct Status {
    since: u64,
    /// `None` when sealed: no time is left to write.
    upper: Option<u64>,
    sealed_at: Option<u64>,
    seqno: u64,
    epoch: u64,
    feed: Option<Feed>,
    #[serde(serialize_with = "history")]
    history: History,
    batches: usize,
    parts: usize,
    updates: u64,
    bytes: u64,
    readers: usize,
    writers: usize,
}

fn history<S: Serializer>(history: &History, serializer: S) -> Result<S::Ok, S::Error> {
    match history {
        History::Keep => serializer.serialize_str("keep"),
        History::Last(times) => serializer.serialize_u64(*times),
    }
}

impl Status {
    pub(crate) fn of(state: &State) -> Status {
        let parts = || state.batches.iter().flat_map(|batch| &batch.parts);
        Status {
            since: state.since,
            upper: state.sealed_at.is_none().then_some(state.upper),
            sealed_at: state.sealed_at,
            seqno: state.seqno,
            epoch: state.epoch,
            feed: state.feed.clone(),
            history: state.history,
            batches: state.batches.len(),
            parts: parts().count(),
            updates: parts().map(|part| part.updates()).sum(),
            bytes: parts().map(|part| part.bytes()).sum(),
            readers: state.leases.values().filter(|lease| lease.since.is_some()).count(),
            writers: state.writers.len(),
        }
    }

    /// Returns one line of JSON.
    pub(crate) fn json(&self) -> String {
        serde_json::to_string(self).expect("numbers and strings are JSON")
    }

    /// Returns lines for people.
    pub(crate) fn text(&self) -> String {
        let history = match self.history {
            History::Keep => "everything is kept".to_string(),
            History::Last(1) => "the last time".to_string(),
            History::Last(times) => format!("the last {times} times"),
        };
        let times = match (self.upper, self.sealed_at) {
            (Some(0), _) => "nothing yet".to_string(),
            (_, Some(0)) => "nothing, and it is sealed".to_string(),
            (_, Some(end)) => format!("{} to {}, and it is sealed", self.since, end - 1),
            (upper, None) => format!("{} to {}", self.since, upper.unwrap_or(1) - 1),
        };
        let feed = match &self.feed {
            Some(feed) => format!("{} ({})", feed.identity, feed.mode),
            None => "none yet".to_string(),
        };
        format!(
            "readable   {times}\nhistory    {history}\nfed by     {feed}\n\
             contents   {} updates in {} batches, {} parts, {} bytes\n\
             log        entry {}, epoch {}\nin use by  {} writers, {} readers",
            self.updates,
            self.batches,
            self.parts,
            self.bytes,
            self.seqno,
            self.epoch,
            self.writers,
            self.readers
        )
    }
}
