//! Owns the lines of `status --text`, for people. It does not own what they say; that is `status`. Pure.

use std::fmt::Write as _;

use differential_upsert::shard::{Fingerprint, History, State};

use crate::status::{Leased, Seen, Status, clock};

/// Writers that are named.
const WRITERS_SHOWN: usize = 5;

/// What the words mean.
const WORDS: [&str; 4] = [
    "update: a row that comes or goes at a time; batch: those of an interval of times; part: a file of them",
    "live: named by the newest state; retired: merged into others, until `shard gc` deletes it",
    "entry: a commit; epoch: how often a writer has shut the others out",
    "lease: what a reader or a writer holds while it works; it ends by itself",
];

/// Returns the lines.
pub(crate) fn text(seen: &Seen) -> String {
    let status = Status::of(seen);
    let history = match status.history {
        History::Keep => "everything is kept".to_string(),
        History::Last(1) => "the last time".to_string(),
        History::Last(times) => format!("the last {times} times"),
    };
    let feed = match &status.feed {
        Some(feed) => format!("{} ({}), {}", feed.identity, feed.mode, checked(&seen.data)),
        None => "none yet".to_string(),
    };
    let used = match status.leases() {
        [] => "nobody".to_string(),
        leases => lines(leases.iter().map(Leased::to_string)),
    };
    let Status { seqno, epoch, bytes, .. } = status;
    let updates = counted(status.updates, "update", "updates");
    let batches = counted(status.batches as u64, "batch", "batches");
    let parts = counted(status.parts as u64, "part", "parts");
    let Status { total_bytes, live_bytes, retired_bytes, .. } = status;
    format!(
        "readable   {}\nhistory    {history}\nfed by     {feed}\nschema     {}\n\
         contents   {updates} in {batches}, {parts}, {bytes} bytes\n\
         space      {total_bytes} bytes: {live_bytes} live, {retired_bytes} retired, the rest log and state\n\
         log        entry {seqno}, epoch {epoch}{}\nin use by  {used}\nwritten by {}\n\
         words      {}",
        times(&status),
        schema(seen),
        last(seen),
        written(&seen.data),
        lines(WORDS.iter().map(ToString::to_string)),
    )
}

fn counted(number: u64, one: &str, more: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { more })
}

fn lines(all: impl Iterator<Item = String>) -> String {
    all.collect::<Vec<_>>().join("\n           ")
}

fn times(status: &Status) -> String {
    match (status.upper, status.sealed_at) {
        (Some(0), _) => "nothing yet".to_string(),
        (_, Some(0)) => "nothing, and it is sealed".to_string(),
        (_, Some(end)) => format!("{} to {}, and it is sealed", status.since, end - 1),
        (upper, None) => format!("{} to {}", status.since, upper.unwrap_or(1) - 1),
    }
}

fn checked(state: &State) -> String {
    match state.sum() {
        Some(sum) => format!("checked: {} rows of it", sum.rows),
        None => "not checked".to_string(),
    }
}

fn schema(seen: &Seen) -> String {
    let Some(schema) = &seen.schema else { return "none yet".to_string() };
    let of = |Fingerprint { name, shape }: &Fingerprint| match shape {
        Some(shape) => format!("{name} = {shape}"),
        None => name.clone(),
    };
    let later = seen.data.shapes.iter().map(|shape| format!(", later {}", of(shape)));
    let (key, value) = (of(&schema.key), of(&schema.value));
    format!("codec {}, keys {key}, values {value}{}", schema.codec, later.collect::<String>())
}

fn last(seen: &Seen) -> String {
    let at_ms = seen.last.as_ref().and_then(|last| last.at_ms);
    at_ms.map_or_else(String::new, |at| format!(", of {} by its writer's clock", clock(at)))
}

/// Returns the writers that committed lately: the last ones first.
fn written(state: &State) -> String {
    let mut writers: Vec<_> = state.writers.iter().collect();
    writers.sort_by_key(|(_, writer)| std::cmp::Reverse(writer.seqno));
    let mut named = writers.iter().take(WRITERS_SHOWN).map(|(id, writer)| {
        format!("writer {id}, last entry {}, up to time {}", writer.seqno, writer.upper)
    });
    let mut all = match named.next() {
        Some(first) => lines(std::iter::once(first).chain(named)),
        None => return "nobody yet".to_string(),
    };
    if let Some(more) = writers.len().checked_sub(WRITERS_SHOWN + 1) {
        let _ = write!(all, "\n           and {} before them", more + 1);
    }
    all
}
