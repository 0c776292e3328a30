//! Owns what a metric is, as a value and as Prometheus text. It does not own which there are; that is
//! [`metrics`](super::metrics).

use std::fmt::{self, Display, Write};

/// What stands before each name.
pub(crate) const PREFIX: &str = "differential_upsert_";

/// The metric whose samples have all their labels, however few pipelines a text is of.
const INFO: &str = "differential_upsert_info";

/// How the values of a metric change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MetricKind {
    /// It grows, from 0 at the start of the process.
    Counter,
    /// It goes up and down.
    Gauge,
    /// It counts what was observed, by how much it was.
    Histogram,
}

impl MetricKind {
    /// Returns its name, as in the text.
    pub fn name(self) -> &'static str {
        match self {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        }
    }
}

/// One metric of a pipeline: its name, and its samples now.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Metric {
    /// `differential_upsert_..`; a counter's ends in `_total`.
    pub name: String,
    /// What it says.
    pub help: &'static str,
    /// How it changes.
    pub kind: MetricKind,
    /// None where nothing is known.
    pub samples: Vec<Sample>,
}

/// One value of a metric.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Sample {
    /// Names and values: `shard` and `pipeline` first, then its own.
    pub labels: Vec<(&'static str, String)>,
    /// The value.
    pub value: MetricValue,
}

/// A value of a metric.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum MetricValue {
    /// A whole number, exactly.
    Integer(u64),
    /// Any number.
    Float(f64),
    /// What a histogram has counted.
    Histogram {
        /// Bounds, and how much that was observed was at most that; they grow.
        buckets: Vec<(f64, u64)>,
        /// How much was observed.
        count: u64,
        /// Its sum.
        sum: f64,
    },
}

impl From<u64> for MetricValue {
    fn from(value: u64) -> Self {
        MetricValue::Integer(value)
    }
}

impl From<f64> for MetricValue {
    fn from(value: f64) -> Self {
        MetricValue::Float(value)
    }
}

impl Display for MetricValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MetricValue::Integer(value) => value.fmt(f),
            MetricValue::Float(value) => value.fmt(f),
            MetricValue::Histogram { count, .. } => count.fmt(f),
        }
    }
}

/// The metrics of one pipeline in the making.
pub(super) struct Families {
    labels: [(&'static str, String); 2],
    pub(super) made: Vec<Metric>,
}

impl Families {
    pub(super) fn new(shard: &str, pipeline: &str) -> Families {
        let labels = [("shard", shard.to_string()), ("pipeline", pipeline.to_string())];
        Families { labels, made: Vec::new() }
    }

    pub(super) fn counter(&mut self, name: &str, help: &'static str, value: u64) {
        debug_assert!(name.ends_with("_total"), "a counter's name says so: {name}");
        let sample = self.sample(None, value);
        self.add(name, help, MetricKind::Counter, vec![sample]);
    }

    pub(super) fn gauge(&mut self, name: &str, help: &'static str, value: impl Into<MetricValue>) {
        self.known_gauge(name, help, Some(value));
    }

    /// A gauge; without a value it has no sample.
    pub(super) fn known_gauge(
        &mut self,
        name: &str,
        help: &'static str,
        value: Option<impl Into<MetricValue>>,
    ) {
        let samples = value.map(|value| self.sample(None, value)).into_iter().collect();
        self.add(name, help, MetricKind::Gauge, samples);
    }

    /// A histogram of seconds; without samples until something was observed.
    pub(super) fn histogram(
        &mut self,
        name: &str,
        help: &'static str,
        (buckets, count, sum): (Vec<(f64, u64)>, u64, f64),
    ) {
        let value = MetricValue::Histogram { buckets, count, sum };
        let sample = Sample { labels: self.labels.to_vec(), value };
        let samples = (count > 0).then_some(sample).into_iter().collect();
        self.add(name, help, MetricKind::Histogram, samples);
    }

    /// A gauge per possible value, one of which is 1.
    pub(super) fn one_of(
        &mut self,
        name: &str,
        help: &'static str,
        label: &'static str,
        values: &[(&str, bool)],
    ) {
        let sample = |(value, holds): &(&str, bool)| {
            self.sample(Some((label, (*value).to_string())), u64::from(*holds))
        };
        let samples = values.iter().map(sample).collect();
        self.add(name, help, MetricKind::Gauge, samples);
    }

    fn sample(&self, own: Option<(&'static str, String)>, value: impl Into<MetricValue>) -> Sample {
        Sample { labels: self.labels.iter().cloned().chain(own).collect(), value: value.into() }
    }

    fn add(&mut self, name: &str, help: &'static str, kind: MetricKind, samples: Vec<Sample>) {
        self.made.push(Metric { name: format!("{PREFIX}{name}"), help, kind, samples });
    }
}

/// Returns the metrics of pipelines as Prometheus text. Of one alone, that has no name, samples go without the labels
/// `shard` and `pipeline`.
pub(crate) fn text(pipelines: &[Vec<Metric>]) -> String {
    let mut text = String::new();
    let is_plain = |sample: &Sample| {
        sample.labels.iter().any(|(name, value)| *name == "pipeline" && value.is_empty())
    };
    let Some(first) = pipelines.first() else { return text };
    for (place, Metric { name, help, kind, .. }) in first.iter().enumerate() {
        line(&mut text, format_args!("# HELP {name} {help}"));
        line(&mut text, format_args!("# TYPE {name} {}", kind.name()));
        // All pipelines have the same metrics.
        let samples = pipelines.iter().filter_map(|metrics| metrics.get(place));
        for sample in samples.flat_map(|metric| &metric.samples) {
            let plain = pipelines.len() == 1 && is_plain(sample) && name != INFO;
            let labels = &sample.labels[if plain { 2 } else { 0 }..];
            write_sample(&mut text, name, labels, &sample.value);
        }
    }
    text
}

fn write_sample(
    text: &mut String,
    name: &str,
    labels: &[(&'static str, String)],
    value: &MetricValue,
) {
    let MetricValue::Histogram { buckets, count, sum } = value else {
        return line(text, format_args!("{name}{} {value}", braced(labels, None)));
    };
    for (bound, within) in buckets {
        let labels = braced(labels, Some(&bound.to_string()));
        line(text, format_args!("{name}_bucket{labels} {within}"));
    }
    line(text, format_args!("{name}_bucket{} {count}", braced(labels, Some("+Inf"))));
    line(text, format_args!("{name}_sum{} {sum}", braced(labels, None)));
    line(text, format_args!("{name}_count{} {count}", braced(labels, None)));
}

/// Returns labels as they stand behind a name, of a histogram's bucket with its bound.
fn braced(labels: &[(&'static str, String)], bound: Option<&str>) -> String {
    let own = labels.iter().map(|(name, value)| (*name, value.as_str()));
    let all = own.chain(bound.map(|bound| ("le", bound)));
    let escaped =
        |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let all: Vec<_> = all.map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
    if all.is_empty() { String::new() } else { format!("{{{}}}", all.join(",")) }
}

fn line(text: &mut String, line: fmt::Arguments<'_>) {
    // A string takes everything.
    let _ = writeln!(text, "{line}");
}
