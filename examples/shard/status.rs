//! Owns how a shard's state is printed. It does not own reading it. Pure.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use differential_upsert::shard::{Entry, Feed, History, Id, Lease, Schema, State};
use differential_upsert::store::Listed;
use serde::{Serialize, Serializer};

/// What `shard status` prints. The order of the fields is the order of the members.
#[derive(Debug, Serialize)]
pub(crate) struct Status {
    pub(crate) since: u64,
    /// `None` when sealed: no time is left to write.
    pub(crate) upper: Option<u64>,
    pub(crate) sealed_at: Option<u64>,
    pub(crate) seqno: u64,
    pub(crate) epoch: u64,
    pub(crate) feed: Option<Feed>,
    #[serde(serialize_with = "history")]
    pub(crate) history: History,
    pub(crate) batches: usize,
    pub(crate) parts: usize,
    pub(crate) updates: u64,
    pub(crate) bytes: u64,
    pub(crate) readers: usize,
    pub(crate) writers: usize,
    /// Of parts that the newest state names.
    pub(crate) live_bytes: u64,
    /// Of parts that merges replaced and that are not deleted yet.
    pub(crate) retired_bytes: u64,
    /// Of every file.
    pub(crate) total_bytes: u64,
    leases: Vec<Leased>,
}

/// A lease as people see it: its holder keeps times apart and files in place.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Leased {
    id: String,
    /// Which shard of the root it is on.
    shard: &'static str,
    /// Times from this one on stay apart.
    since: Option<u64>,
    /// What the state of this entry names stays.
    seqno: Option<u64>,
    /// When it ends unless it is renewed, by its holder's clock: milliseconds since 1970.
    until_ms: u64,
    until: String,
}

impl Leased {
    fn of(shard: &'static str, (token, lease): (&Id, &Lease)) -> Leased {
        let Lease { since, seqno, expires_ms: until_ms } = *lease;
        let until = clock(until_ms);
        Leased { id: token.to_string(), shard, since, seqno, until_ms, until }
    }
}

impl fmt::Display for Leased {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Leased { id, shard, until, .. } = self;
        write!(f, "lease {id} on {shard}")?;
        if let Some(since) = self.since {
            write!(f, " holds times from {since} on")?;
        }
        write!(f, " until {until}, by its holder's clock")
    }
}

/// Returns a moment, in milliseconds since 1970, as people write it.
pub(crate) fn clock(ms: u64) -> String {
    // The last second that has four digits for its year.
    let last_ms = 253_402_300_799_000;
    if ms > last_ms {
        return "the end of time".to_string();
    }
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_millis(ms)).to_string()
}

/// What a status is made of.
pub(crate) struct Seen {
    pub(crate) data: Arc<State>,
    /// What its keys and values are; none if nothing says so yet.
    pub(crate) schema: Option<Schema>,
    /// What was entered last, if that is still there and was asked for.
    pub(crate) last: Option<Entry>,
    /// The bindings of minted times.
    pub(crate) remap: Option<Arc<State>>,
    /// Every file under the root.
    pub(crate) files: Vec<Listed>,
}

fn history<S: Serializer>(history: &History, serializer: S) -> Result<S::Ok, S::Error> {
    match history {
        History::Keep => serializer.serialize_str("keep"),
        History::Last(times) => serializer.serialize_u64(*times),
    }
}

/// Writes a history that an entry sets.
pub(crate) fn history_of<S: Serializer>(
    set: &Option<History>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match set {
        Some(set) => history(set, serializer),
        None => serializer.serialize_none(),
    }
}

/// Whether an entry sets none.
pub(crate) fn no_history(set: &Option<History>) -> bool {
    set.is_none()
}

impl Status {
    pub(crate) fn of(seen: &Seen) -> Status {
        let state = &seen.data;
        let parts = || state.batches.iter().flat_map(|batch| &batch.parts);
        let both = || [Some(&seen.data), seen.remap.as_ref()].into_iter().flatten();
        let named = both().flat_map(|state| &state.batches).flat_map(|batch| &batch.parts);
        let retired = both().flat_map(|state| &state.retired).flat_map(|retired| &retired.keys);
        let retired: BTreeSet<&str> = retired.map(String::as_str).collect();
        let files = || seen.files.iter();
        let of = |shard, state: &Arc<State>| {
            let leases = state.leases.iter().map(|lease| Leased::of(shard, lease));
            leases.collect::<Vec<_>>()
        };
        let mut leases = of("data", state);
        leases.extend(seen.remap.iter().flat_map(|remap| of("remap", remap)));
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
            // A writer has a lease; past committers do not count.
            writers: state.leases.len(),
            live_bytes: named.map(|part| part.bytes()).sum(),
            // By the files: one that is gone already may be named until an entry says so.
            retired_bytes: (files().filter(|file| retired.contains(&*file.key)))
                .map(|file| file.bytes)
                .sum(),
            total_bytes: files().map(|file| file.bytes).sum(),
            leases,
        }
    }

    /// Returns the leases that are held.
    pub(crate) fn leases(&self) -> &[Leased] {
        &self.leases
    }

    /// Returns one line of JSON.
    pub(crate) fn json(&self) -> String {
        serde_json::to_string(self).expect("numbers and strings are JSON")
    }
}
