//! Owns the document that the page is drawn from, as JSON: one of each moment. What is not known is `null`. It does not
//! own when one is sent, nor how it is drawn.
//!
//! Times are texts: JavaScript's numbers do not hold all of them.

use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::shown::{Face, Feed, One};
use super::track::{Stands, tenths};
use crate::health::{HealthReport, HealthState, Holder, Stuck};
use crate::io::{Clock, SystemClock};
use crate::pipeline::families;
use crate::pipeline::metrics::MetricValue;

/// Returns the document now. One that a page begins with has the rates of the last ten minutes, a later one the last.
pub(super) fn document(face: &Face, now: Instant, tick: u64, whole: bool) -> String {
    let shown = face.shown();
    let feeds = face.0.feeds.lock().clone();
    let mut pipelines: Vec<Value> = (shown.iter())
        .map(|one| pipeline(face, one, now, whole, feed_of(one, &shown, &feeds)))
        .collect();
    if pipelines.is_empty() {
        let mut before = said(&face.before());
        before.extend(read(feeds.first()));
        pipelines.push(Value::Object(before));
    }
    let document = json!({
        "tick": tick,
        "now_ms": SystemClock.now_ms(),
        "host": host(),
        "version": env!("CARGO_PKG_VERSION"),
        "uptime": now.saturating_duration_since(face.0.began).as_secs(),
        "pipelines": pipelines,
    });
    document.to_string()
}

fn members(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

/// What every report says.
fn said(report: &HealthReport) -> Map<String, Value> {
    members(json!({
        "role": report.role.name(),
        "state": report.state.name(),
        "trouble": report.state.is_trouble(),
        "why": report.why,
    }))
}

/// What is said of the feed, as far as it is known.
fn read(feed: Option<&Feed>) -> Map<String, Value> {
    members(json!({
        "feed": feed.map(|feed| &feed.name),
        "progress": feed.and_then(progress),
    }))
}

/// Returns what a pipeline reads: what was told of its name, if that is the name of it alone.
fn feed_of<'a>(one: &One, shown: &[One], feeds: &'a [Feed]) -> Option<&'a Feed> {
    let name = one.metrics.name();
    let alone = shown.iter().filter(|other| other.metrics.name() == name).count() == 1;
    let is_its = |feed: &&Feed| feed.pipeline == name || crate::mutant::on("feed_of_all");
    feeds.iter().find(is_its).filter(|_| alone)
}

fn pipeline(face: &Face, one: &One, now: Instant, whole: bool, feed: Option<&Feed>) -> Value {
    let (seen, process) = (one.health.see(), &one.health.process);
    let (handle, state) = (&process.handle, process.handle.state());
    let mut report = face.ended(seen.report.clone());
    // Between two commits it is at rest for a moment, which no eye can follow.
    if report.state == HealthState::Idle && one.track.moved_lately(now, report.upper) {
        report.state = HealthState::Running;
    }
    let mut members = said(&report);
    members.extend(read(feed));
    let [input, output, shard, feedback] = &one.track.frontiers;
    let at = |stands: &Stands, at: u64| {
        let lasts = stands.lasts(now, at).map(|lasts| tenths(lasts.as_secs_f64()));
        json!({ "at": at.to_string(), "stands": lasts, "moved": stands.moved })
    };
    let named = state.feed.as_ref().map(|feed| feed.identity.as_str()).filter(|it| !it.is_empty());
    let rates: Vec<_> = match whole {
        true => one.track.rates.iter().collect(),
        false => one.track.rates.back().into_iter().collect(),
    };
    let staged = process.staged();
    let copy =
        staged.copying().map(|(rows, age)| json!({ "rows": rows, "seconds": age.as_secs() }));
    let (found, read) = one.metrics.parts();
    let stuck = |stuck: Stuck| {
        let seconds = stuck.lasts.map(|lasts| tenths(lasts.as_secs_f64()));
        let Holder { place, of } = stuck.holder;
        json!({ "frontier": stuck.frontier, "holder": place, "of": of, "seconds": seconds })
    };
    let append = seen.append.map(|(lower, upper, lasts)| {
        json!({ "lower": lower.to_string(), "upper": upper.to_string(), "seconds": tenths(lasts.as_secs_f64()) })
    });
    let cluster = seen.process.filter(|(_, of)| *of > 1);
    let more = json!({
        "name": one.metrics.name(),
        "shard": handle.url(),
        "process": cluster.map(|(process, of)| json!({ "index": process, "of": of })),
        "waits": seen.waits,
        "input": at(input, report.input),
        "output": at(output, report.output),
        "upper": at(shard, report.upper),
        "feedback": at(feedback, seen.feedback),
        "since": report.since.to_string(),
        "least": seen.least.map(|least| least.to_string()),
        "stuck": seen.stuck.map(stuck),
        "append": append,
        "copy": copy,
        "hydration_eta": one.track.parts.eta(read, found),
        // An empty shard has neither.
        "error_key": report.errors.as_ref().and_then(|errors| errors.key.as_ref()),
        "writers": (state.seqno > 0).then_some(state.writers.len()),
        "leases": (state.seqno > 0).then_some(state.leases.len()),
        "sealed_at": state.sealed_at.map(|end| end.to_string()),
        "rates": rates,
        "whole": whole,
        "metrics": metrics(one),
    });
    members.extend(self::members(more));
    // What the program reads goes before what the shard was made from.
    if feed.is_none() {
        members.insert("feed".into(), json!(named));
    }
    Value::Object(members)
}

/// The metrics without labels of their own, by their names without what all begin with.
fn metrics(one: &One) -> Map<String, Value> {
    let metric = |metric: crate::pipeline::metrics::Metric| {
        let [sample] = &metric.samples[..] else { return None };
        let name = metric.name.strip_prefix(families::PREFIX)?.to_string();
        match sample.value {
            MetricValue::Integer(value) => Some((name, json!(value))),
            MetricValue::Float(value) => Some((name, json!(value))),
            MetricValue::Histogram { .. } => None,
        }
    };
    one.metrics.iter().filter_map(metric).collect()
}

/// How far the feed is, if it says.
fn progress(feed: &Feed) -> Option<Value> {
    let (at, of) = (feed.stats.position(), feed.stats.length());
    let rate = feed.pace.rate();
    (at > 0 || of > 0).then(|| {
        let of_known = (of > 0).then_some(of);
        let eta = of_known.and_then(|of| feed.pace.eta(at, of));
        json!({ "at": at, "of": of_known, "rate": rate, "eta": eta, "rows": feed.stats.rows_read() })
    })
}

/// Returns the name of this machine, if it has one.
fn host() -> Option<String> {
    #[cfg(unix)]
    let name = Some(rustix::system::uname().nodename().to_string_lossy().into_owned());
    #[cfg(not(unix))]
    let name = std::env::var("COMPUTERNAME").ok();
    name.filter(|name| !name.is_empty())
}

#[cfg(test)]
#[path = "document_tests.rs"]
mod tests;
