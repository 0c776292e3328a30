//! Owns `log`: the entries of a shard's log that are still there, a line each. It does not own reading them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write;

use differential_upsert::Error;
use differential_upsert::shard::{
    Change, Collected, Commit, Entry, EntryPart, Feed, History, Id, Leased, Merged, Shaped,
};
use serde::Serialize;

use crate::open::{Look, print};
use crate::status::{clock, history_of, no_history};

/// Prints the entries from a number on.
pub(crate) async fn log(
    look: &Look<'_>,
    from: u64,
    text: bool,
    out: &mut impl Write,
) -> Result<(), Error> {
    let shard = look.open().await?;
    // The writer that lost says so in its next entry.
    let mut losers: BTreeMap<u64, BTreeSet<Id>> = BTreeMap::new();
    let mut entries = shard.entries(from).await?;
    while let Some(entry) = entries.next().await? {
        for number in entry.lost {
            losers.entry(number).or_default().insert(entry.writer);
        }
    }
    let (mut entries, mut first) = (shard.entries(from).await?, None);
    while let Some(entry) = entries.next().await? {
        look.progress.add(1);
        first.get_or_insert(entry.seqno);
        let line = Line::of(&entry, losers.remove(&entry.seqno).unwrap_or_default());
        print(out, &if text { line.text() } else { line.json() })?;
    }
    let missing = missing(from, first, shard.state().seqno);
    missing.iter().for_each(|note| eprintln!("note: {note}"));
    Ok(())
}

/// Says why entries from a number on are not there, of a shard whose last one has the number `last`.
fn missing(from: u64, first: Option<u64>, last: u64) -> Option<String> {
    if from > last {
        return (last > 0).then(|| format!("the last entry is {last}"));
    }
    let first = first.unwrap_or(last + 1);
    (first > from).then(|| {
        format!(
            "entries before {first} are deleted, as a writer does at the end of its feed and shard gc at any time: \
             shard status has what they add up to, and shard tail their changes, where --history has kept those"
        )
    })
}

/// An entry as it is printed. The order of the fields is the order of the members.
#[derive(Debug, Default, Serialize)]
struct Line {
    seqno: u64,
    kind: &'static str,
    writer: String,
    /// By the writer's clock; `None` if it did not say.
    at: Option<String>,
    at_ms: Option<u64>,
    /// The times that it commits.
    lower: Option<u64>,
    upper: Option<u64>,
    /// How many updates it brings.
    rows: Option<u64>,
    /// Writers that had proposed another entry for this number, as far as they have said so.
    against: Vec<String>,
    since: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    sealed_at: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<u64>,
    #[serde(skip_serializing_if = "no_history", serialize_with = "history_of")]
    history: Option<History>,
    #[serde(skip_serializing_if = "Option::is_none")]
    feed: Option<Feed>,
    /// A lease that it grants or renews.
    #[serde(skip_serializing_if = "Option::is_none")]
    lease: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lease_until: Option<String>,
    /// Leases that it ends.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ended: Vec<String>,
    /// The entries of the first and the last batch that it merges.
    #[serde(skip_serializing_if = "Option::is_none")]
    merged: Option<[u64; 2]>,
    /// The time to which it forwards the earlier ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    forwarded: Option<u64>,
    /// What was retired up to this entry is deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    collected_to: Option<u64>,
    /// A shape that values may have from here on.
    #[serde(skip_serializing_if = "Option::is_none")]
    shape: Option<String>,
}

impl Line {
    fn of(entry: &Entry, against: BTreeSet<Id>) -> Line {
        let mut line = Line {
            seqno: entry.seqno,
            writer: entry.writer.to_string(),
            at: entry.at_ms.map(clock),
            at_ms: entry.at_ms,
            against: against.iter().map(Id::to_string).collect(),
            ..Line::default()
        };
        match &entry.change {
            Change::Append(commit) => line.append(commit),
            Change::Lease(leased) => line.lease(leased),
            Change::Compact(merged) => line.compact(merged),
            Change::Collect(collected) => line.collect(collected),
            Change::Shape(shaped) => line.shape(shaped),
            _ => line.kind = "other",
        }
        line
    }

    fn append(&mut self, commit: &Commit) {
        let updates = |part: &EntryPart| match part {
            EntryPart::Stored(part) => part.updates,
            EntryPart::Inline { updates, .. } => *updates,
        };
        // One of no time says something else.
        self.kind = match commit {
            Commit { sealed_at: Some(_), .. } => "seal",
            Commit { shared: true, .. } => "clear_error",
            Commit { lower, upper, epoch: Some(_), .. } if lower == upper => "take_over",
            Commit { lower, upper, history: Some(_), .. } if lower == upper => "history",
            _ => "append",
        };
        (self.lower, self.upper) = (Some(commit.lower), Some(commit.upper));
        self.rows = Some(commit.parts.iter().map(updates).sum());
        (self.since, self.sealed_at, self.epoch) = (commit.since, commit.sealed_at, commit.epoch);
        (self.history, self.feed) = (commit.history, commit.feed.clone());
        self.grants(commit.grant.as_ref().map(|grant| (grant.token, grant.lease.expires_ms)));
    }

    fn lease(&mut self, leased: &Leased) {
        (self.kind, self.since, self.history) = ("lease", leased.since, leased.history);
        self.grants(leased.grant.as_ref().map(|grant| (grant.token, grant.lease.expires_ms)));
        self.ended = leased.release.iter().map(Id::to_string).collect();
    }

    fn compact(&mut self, merged: &Merged) {
        (self.kind, self.since) = ("compact", merged.since);
        self.rows = Some(merged.parts.iter().map(|part| part.updates).sum());
        self.merged = Some([merged.first, merged.last]);
        self.forwarded = Some(merged.forwarded);
    }

    fn collect(&mut self, collected: &Collected) {
        (self.kind, self.since) = ("collect", collected.since);
        self.collected_to = Some(collected.floor);
        self.ended = collected.expired.iter().map(Id::to_string).collect();
    }

    fn shape(&mut self, shaped: &Shaped) {
        (self.kind, self.since, self.history) = ("shape", shaped.since, shaped.history);
        self.shape = Some(shaped.shape.shape.clone().unwrap_or_else(|| shaped.shape.name.clone()));
    }

    fn grants(&mut self, grant: Option<(Id, u64)>) {
        self.lease = grant.map(|(token, _)| token.to_string());
        self.lease_until = grant.map(|(_, until_ms)| clock(until_ms));
    }

    fn json(&self) -> String {
        serde_json::to_string(self).expect("numbers and strings are JSON")
    }

    /// Returns a line for people: number, when, writer, kind, and what it did.
    fn text(&self) -> String {
        let at = self.at.as_deref().unwrap_or("at an unknown time");
        let mut line =
            format!("{:>6}  {at:<24}  {}  {:<9}", self.seqno, short(&self.writer), self.kind);
        // Writing to a string cannot fail.
        if let (Some(lower), Some(upper)) = (self.lower, self.upper) {
            let _ = write!(line, "  [{lower}, {upper})");
        }
        if let Some(rows) = self.rows {
            let _ = write!(line, "  {rows} rows");
        }
        if let Some([first, last]) = self.merged {
            let _ = write!(line, "  of entries {first} to {last}");
        }
        if let Some(floor) = self.collected_to {
            let _ = write!(line, "  up to entry {floor}");
        }
        if let Some(shape) = &self.shape {
            let _ = write!(line, "  values of {shape}");
        }
        if let Some(epoch) = self.epoch {
            let _ = write!(line, "  epoch {epoch}");
        }
        if let Some(Feed { mode, identity }) = &self.feed {
            let _ = write!(line, "  of {identity} ({mode})");
        }
        if let (Some(lease), Some(until)) = (&self.lease, &self.lease_until) {
            let _ = write!(line, "  lease {} until {until}", short(lease));
        }
        for ended in &self.ended {
            let _ = write!(line, "  ends lease {}", short(ended));
        }
        for loser in &self.against {
            let _ = write!(line, "  won against {}", short(loser));
        }
        line
    }
}

/// Returns as much of an id as tells a few of them apart.
fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}
