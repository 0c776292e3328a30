//! Owns a pipeline's counters and gauges: names, units, help. It does not own the counting, nor how it is asked for.
//!
//! As text they are the [exposition format] 0.0.4, which every collector reads; as values, for a registry of one's own,
//! [`Metrics::iter`] has them. Counters and sums are over the workers of this process; a collector adds processes up.
//!
//! # Labels
//!
//! Every sample has the labels `shard`, its address, and `pipeline`, its name
//! ([`PipelineConfig::name`](crate::PipelineConfig::name)). In a text they are left out where they would tell nothing apart: of one
//! pipeline that has no name. `differential_upsert_info` always has them.
//!
//! [exposition format]: https://prometheus.io/docs/instrumenting/exposition_formats/

use std::sync::Arc;
use std::time::Duration;

use super::families::{Families, text};
use crate::health::{Health, HealthState, Role, SourceLag, Vitals};
use crate::shard::{Counters, MaintenanceStats, MemoryStats};
use crate::sink::{Totals, Watch};
use crate::source::SourceStats;
use crate::upsert::{StateImage, StatePlaces, UpsertStats};

pub use super::families::{Metric, MetricKind, MetricValue, Sample};

/// The content type of [`Metrics::text`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A pipeline's counters and gauges, from any thread; cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics {
    health: Health,
    watch: Watch,
    name: Arc<str>,
}

impl Metrics {
    pub(crate) fn new(health: Health, watch: Watch, name: &str) -> Metrics {
        Metrics { health, watch, name: name.into() }
    }

    /// Returns the name of the pipeline; empty where it has none.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the values now, as Prometheus text. O(workers).
    ///
    /// # Examples
    ///
    /// ```
    /// use differential_upsert::{Command, PipelineConfig, Shard, UpsertInto};
    /// use timely::dataflow::operators::Input;
    ///
    /// let shard = Shard::<String, u64>::open("mem:")?;
    /// let metrics = timely::execute_directly(move |worker| {
    ///     let (mut feed, token, metrics) = worker.dataflow(|scope| {
    ///         let (input, commands) = scope.new_input();
    ///         let pipeline = commands.upsert_into(&shard, PipelineConfig::default());
    ///         (input, pipeline.token, pipeline.metrics)
    ///     });
    ///     feed.send((Command::put("apples".to_string(), 3, 0), 0));
    ///     feed.send((Command::put("apples".to_string(), 4, 1), 0));
    ///     feed.close();
    ///     while worker.has_dataflows() {
    ///         worker.step_or_park(None);
    ///     }
    ///     drop(token);
    ///     metrics
    /// });
    /// let text = metrics.text();
    /// assert!(text.contains("\ndifferential_upsert_rows_superseded_total 1\n"));
    /// assert!(text.contains("\ndifferential_upsert_health_state{state=\"finished\"} 1\n"));
    /// # Ok::<(), differential_upsert::Error>(())
    /// ```
    pub fn text(&self) -> String {
        text(&[self.all()])
    }

    /// Returns the values now, one metric after another, for a registry of one's own. O(workers).
    ///
    /// ```
    /// # use differential_upsert::pipeline::metrics::{MetricValue, Metrics};
    /// fn export(metrics: &Metrics, mut set: impl FnMut(&str, &[(&'static str, String)], f64)) {
    ///     for metric in metrics.iter() {
    ///         for sample in &metric.samples {
    ///             match sample.value {
    ///                 MetricValue::Integer(value) => set(&metric.name, &sample.labels, value as f64),
    ///                 MetricValue::Float(value) => set(&metric.name, &sample.labels, value),
    ///                 _ => {} // a histogram
    ///             }
    ///         }
    ///     }
    /// }
    /// ```
    pub fn iter(&self) -> impl Iterator<Item = Metric> + use<> {
        self.all().into_iter()
    }

    /// Returns the values now.
    pub(crate) fn all(&self) -> Vec<Metric> {
        let process = &self.health.process;
        let handle = &process.handle;
        let mut page = Families::new(handle.url(), &self.name);
        let version = [(env!("CARGO_PKG_VERSION"), true)];
        page.one_of("info", "1; its labels say which pipeline it is.", "version", &version);
        self.rows(&mut page);
        self.state(&mut page);
        self.frontiers(&mut page);
        source(&mut page, &process.source);
        page.gauge(
            "source_staged_oldest_seconds",
            "Time since the first row of an incomplete unit or copy, as the watchdog saw it last.",
            process.staged().age().as_secs_f64(),
        );
        lag(&mut page, process.lag());
        page.histogram(
            "freshness_seconds",
            "Time from a change's commit at the source until it is in the shard, where the source says when that was; a standby counts what its writer commits.",
            process.source.freshness(),
        );
        shard(&mut page, self.watch.totals(), handle.counters(), handle.maintenance());
        memory(&mut page, handle.memory());
        page.made
    }

    /// Returns the commands that came, in all.
    #[cfg(feature = "http")]
    pub(crate) fn received(&self) -> u64 {
        self.sum(|v| v.stats.below() + v.stats.stashed())
    }

    /// Returns the appends won.
    #[cfg(feature = "http")]
    pub(crate) fn commits(&self) -> u64 {
        self.watch.totals().wins
    }

    /// Returns how many parts of the shard its readers had to read, and how many they have read.
    pub(crate) fn parts(&self) -> (u64, u64) {
        (self.sum(|v| v.parts().0), self.sum(|v| v.parts().1))
    }

    fn sum(&self, of: impl Fn(&Vitals) -> u64) -> u64 {
        self.health.process.members().iter().map(|vitals| of(vitals)).sum()
    }

    fn rows(&self, page: &mut Families) {
        let sum = |of: fn(&Vitals) -> u64| self.sum(of);
        page.counter(
            "rows_below_total",
            "Commands dropped because their time was already persisted.",
            sum(|v| v.stats.below()),
        );
        page.counter(
            "rows_equal_total",
            "Commands that changed a key when their time came, and were emitted.",
            sum(|v| v.stats.emitted()),
        );
        page.counter(
            "rows_above_total",
            "Commands ever stashed to wait for their time.",
            sum(|v| v.stats.stashed()),
        );
        page.counter(
            "rows_superseded_total",
            "Commands that lost to a greater order in the same time, or that a later patch of it has changed.",
            sum(|v| v.stats.superseded()),
        );
        page.counter(
            "rows_unchanged_total",
            "Rewrites of a live value, patches that changed nothing, and deletes of absent keys.",
            sum(|v| v.stats.unchanged()),
        );
        page.gauge(
            "stash_rows",
            "Commands in the stash, in memory and spilled.",
            sum(|v| v.stats.stash_rows()),
        );
        page.gauge(
            "stash_bytes",
            "Bytes of the stash in memory.",
            sum(|v| v.stats.stash_bytes() as u64),
        );
        page.gauge(
            "spill_bytes",
            "Bytes of the stash's scratch files.",
            sum(|v| v.stats.spill_bytes()),
        );
        page.gauge(
            "inflight_bytes",
            "Bytes emitted and not yet in durable parts.",
            sum(|v| v.stats.inflight_bytes() as u64),
        );
        page.gauge(
            "overlay_bytes",
            "Bytes worked out ahead of the commits below them.",
            sum(|v| v.stats.overlay_bytes() as u64),
        );
        let errors: i64 = self.health.process.members().iter().map(|v| v.in_error.count()).sum();
        page.gauge("error_keys", "Keys whose live value is an error.", errors as f64);
        let least = self.health.process.members().iter().filter_map(|v| v.least()).min();
        page.known_gauge("stash_oldest_time", "The least time that waits in the stash.", least);
    }

    fn state(&self, page: &mut Families) {
        let process = &self.health.process;
        let sum = |of: fn(&UpsertStats) -> u64| self.sum(|v| of(&v.stats));
        page.gauge("state_rows", "Keys with a live value.", sum(|s| s.state_keys() as u64));
        page.gauge(
            "state_bytes",
            "Bytes allocated for the state.",
            sum(|s| s.state_bytes() as u64),
        );
        let StatePlaces { hot_rows, hot_bytes, cold_rows, cold_bytes } = process.state_places();
        for (name, help, value) in [
            ("state_hot_rows", "Live rows of the state in memory.", hot_rows),
            ("state_hot_bytes", "Bytes allocated for the chunks of rows in memory.", hot_bytes),
            ("state_cold_rows", "Live rows of the state in its scratch files alone.", cold_rows),
            ("state_cold_bytes", "Bytes of the scratch files of the state.", cold_bytes),
            (
                "state_cold_waiting",
                "Reads of rows from the scratch files that are under way.",
                sum(|s| s.cold_waiting()),
            ),
        ] {
            page.gauge(name, help, value);
        }
        for (name, help, value) in [
            (
                "state_cold_reads_total",
                "Reads of rows from the scratch files that were begun.",
                sum(|s| s.cold_reads()),
            ),
            (
                "state_cold_read_bytes_total",
                "Bytes of rows that these reads ask for.",
                sum(|s| s.cold_read_bytes()),
            ),
            (
                "state_cold_missed_total",
                "Commands drained whose prior row was read from a scratch file; over rows_equal_total and \
                 rows_unchanged_total it is the miss rate.",
                sum(|s| s.cold_missed()),
            ),
        ] {
            page.counter(name, help, value);
        }
        // A start waits for the worker whose image is the least.
        let members = process.members();
        let images: Option<Vec<StateImage>> = members.iter().map(|v| v.stats.image()).collect();
        let images = images.unwrap_or_default();
        page.gauge(
            "state_image_bytes",
            "Bytes of the images of the state that a start may begin with.",
            images.iter().map(|image| image.bytes).sum::<u64>(),
        );
        page.known_gauge(
            "state_image_upper",
            "The time from which on a start on the images reads the shard.",
            images.iter().map(|image| image.upper).min(),
        );
        let age_ms =
            images.iter().map(|image| process.handle.now_ms().saturating_sub(image.made_ms));
        page.known_gauge(
            "state_image_age_seconds",
            "Time since the oldest of the images was made.",
            age_ms.max().map(|ms| Duration::from_millis(ms).as_secs_f64()),
        );
    }

    fn frontiers(&self, page: &mut Families) {
        let process = &self.health.process;
        let report = self.health.report();
        let members = process.members();
        page.gauge("input_frontier", "Times below it are closed on the source.", report.input);
        page.gauge("output_frontier", "Times below it have been emitted.", report.output);
        page.gauge("shard_upper", "Times below it are in the shard.", report.upper);
        page.gauge("shard_since", "Times below it may be merged.", report.since);
        let read_to = members.iter().map(|v| v.read_to()).min().unwrap_or(0);
        page.gauge(
            "feedback_lag",
            "Times in the shard whose rows have not been read back.",
            report.upper.saturating_sub(read_to),
        );
        page.gauge(
            "upper_stands_seconds",
            "Time since the shard's upper moved, as the watchdog saw it last.",
            process.upper_stands().as_secs_f64(),
        );
        page.gauge(
            "hydrated",
            "1 once the contents of the shard have been read.",
            u64::from(members.iter().all(|v| v.is_hydrated())),
        );
        let (found, read) = self.parts();
        page.counter(
            "parts_found_total",
            "Parts of the shard that the readers had to read.",
            found,
        );
        page.counter("parts_read_total", "Parts of the shard that the readers have read.", read);
        let states = HealthState::ALL.map(|state| (state.name(), state == report.state));
        page.one_of("health_state", "1 for the state of the pipeline.", "state", &states);
        let roles = Role::ALL.map(|role| (role.name(), role == report.role));
        page.one_of("role", "1 for the role of the pipeline.", "role", &roles);
    }
}

/// What a source with cursors does; all zero without one.
fn source(page: &mut Families, stats: &SourceStats) {
    for (name, help, value) in [
        ("source_connects_total", "Connections to the source.", stats.connects()),
        ("source_units_total", "Complete units, with rows or without.", stats.units()),
        (
            "source_quarantined_total",
            "Lines of the feed that could not be read, and were written away.",
            stats.quarantined(),
        ),
        ("source_copies_total", "Copies begun anew, for a lost position.", stats.copies_anew()),
        ("source_acks_total", "Durable cursors that the source took.", stats.acks()),
        ("source_acks_failed_total", "Durable cursors that it did not.", stats.acks_failed()),
    ] {
        page.counter(name, help, value);
    }
    for (name, help, value) in [
        (
            "source_attempts_without_progress",
            "Attempts in a row without success, of the partition that has most.",
            stats.attempts_without_progress(),
        ),
        ("source_staged_rows", "Changes of incomplete units.", stats.staged_rows()),
        (
            "source_staged_partitions",
            "Partitions in which a unit or a copy is incomplete.",
            stats.staged_partitions(),
        ),
        ("source_staged_bytes", "Bytes of incomplete units.", stats.staged_bytes()),
        ("source_unbound_units", "Complete units that wait for a time.", stats.unbound_units()),
    ] {
        page.gauge(name, help, value);
    }
}

/// How far the shard is behind the source; without samples where the source does not say.
fn lag(page: &mut Families, lag: SourceLag) {
    page.known_gauge(
        "source_lag_rows",
        "Changes or messages that the source has and the shard has not.",
        lag.rows,
    );
    page.known_gauge(
        "source_lag_bytes",
        "Bytes that the source has, as it counts them, and the shard has not.",
        lag.bytes,
    );
    page.known_gauge(
        "source_lag_seconds",
        "Time since the oldest change was made at the source that is not in the shard; 0 when it has all.",
        lag.age.map(|age| age.as_secs_f64()),
    );
}

/// What the shard and its upkeep have done in this process.
fn shard(page: &mut Families, totals: Totals, work: Counters, upkeep: MaintenanceStats) {
    let deleted = upkeep.entries_deleted + upkeep.parts_deleted + upkeep.rollups_deleted;
    for (name, help, value) in [
        ("appends_won_total", "Appends won.", totals.wins),
        ("appends_lost_total", "Appends that met another writer's.", totals.losses),
        ("appends_unknown_total", "Appends whose outcome nobody could tell.", work.appends_unknown),
        ("written_bytes_total", "Bytes of parts and entries written.", work.bytes_written),
        ("read_bytes_total", "Bytes of parts and entries read from the store.", work.bytes_read),
        ("compactions_total", "Runs of batches merged into one.", upkeep.compactions),
        ("compactions_lost_total", "Merges that came too late.", upkeep.compactions_lost),
        ("compacted_read_bytes_total", "Bytes of parts that merges read.", upkeep.bytes_read),
        (
            "compacted_written_bytes_total",
            "Bytes of parts that merges wrote.",
            upkeep.bytes_written,
        ),
        ("collected_objects_total", "Objects that collection deleted.", deleted),
        ("leases_expired_total", "Leases ended because they had run out.", upkeep.leases_expired),
    ] {
        page.counter(name, help, value);
    }
}

/// What the shard has in memory in this process.
fn memory(page: &mut Families, memory: MemoryStats) {
    for (name, help, value) in [
        ("cache_bytes", "Bytes of parts at hand for followers.", memory.cache_bytes),
        ("read_bytes", "Bytes of parts on their way back.", memory.read_bytes),
        ("merge_bytes", "Bytes of parts that a merge reads and writes.", memory.merge_bytes),
    ] {
        page.gauge(name, help, value);
    }
}
