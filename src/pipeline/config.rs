//! Owns what a pipeline is configured with: bounds and choices, plain values. It does not own what they
//! do.

use std::path::PathBuf;
use std::time::Duration;

use crate::control::promotion::Promotion;
use crate::error::{Error, ErrorKind, at_least};
use crate::reclock::SourceConfig;
use crate::shard::{Feed, History};

/// What becomes of a [patch](crate::Command::Patch) whose [fold](crate::Shard::with_fold) says that it is an error, or that
/// finds no value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PatchErrors {
    /// The error is the key's value.
    #[default]
    Keep,
    /// The pipeline fails with it, of kind [`Invalid`](ErrorKind::Invalid), and commits nothing of its time. An error that
    /// the key has already stays, and stops nothing.
    Stop,
}

/// Bounds of a pipeline, plain values.
#[derive(Clone, Debug)]
pub struct PipelineConfig {
    /// What it is called where several are shown: the label `pipeline` of its [metrics](crate::pipeline::metrics), and its
    /// heading on the [page](crate#features). Default: empty, and its metrics as text go without labels.
    pub name: String,
    /// How long another process's commit may go unseen, while they come; after a rest it may be an eighth of that rest,
    /// 64 times this at the most. Commits of this process are seen at once. Default: 20 ms.
    pub poll: Duration,
    /// Changes how far the shard's since lags its upper. Default: leave it as the shard has it,
    /// which is 1 for a new shard.
    pub history: Option<History>,
    /// Makes it a standby, which writes nothing until promoted. Default: a writer.
    pub standby: Option<Promotion>,
    /// What feeds the shard: kept by its first commit. A feed whose times are made in another way
    /// is refused. Default: given times, from nowhere in particular.
    pub feed: Feed,
    /// Whether to check that the commands are those that the shard was made from: see
    /// [`definite`](crate::definite). Once a writer has gone without, no writer of this shard can
    /// be checked any more. Default: true.
    pub checked: bool,
    /// What becomes of a patch that comes to an error. Default: it is the key's value.
    pub patch_errors: PatchErrors,
    /// How a source with cursors is run: see [`Pipeline::from_source`](crate::Pipeline::from_source).
    pub source: SourceConfig,
    /// Bytes of the stash in memory, per worker, the buffers that its rows keep included; past it the stash spills to an
    /// unnamed temporary file. Default: 256 MiB.
    pub stash_bytes_max: usize,
    /// Bytes of the state in memory, per worker, its index included: past it the rows that were written longest ago go to a
    /// scratch file, and are read, many at a time, when their keys are commanded. The index, 20 to 28 bytes per key, two
    /// chunks and what is being read stay in any case: see [`upsert`](crate::upsert#limits). Default: none, all of it.
    pub state_bytes_max: Option<usize>,
    /// The directory where the state's scratch file is, and between two runs an image of the state: a start on it reads
    /// only what the shard has gained since. One directory for one pipeline; each worker has a folder in it. An image that
    /// is not of this shard and these workers, or that the shard has gone past, is removed, and the shard is read from its
    /// contents on: [`UpsertStats::state_start`](crate::upsert::UpsertStats::state_start) says which. Damage that is found later, as a row
    /// is read, ends the pipeline with [`StateLost`](crate::ErrorKind::StateLost) and removes the image: start it again, as `ingest`
    /// does by itself. It may be deleted whenever the
    /// pipeline does not run. Images are taken only if [`collection`](PipelineConfig::collection) is false. Default: none,
    /// and the scratch file is an unnamed temporary one.
    pub state_dir: Option<PathBuf>,
    /// Whether [`Pipeline::collection`](crate::Pipeline::collection) and
    /// [`data_errors`](crate::Pipeline::data_errors) may be read: from the contents on, so that a start has to read all of
    /// them. Default: true.
    pub collection: bool,
    /// Bytes of commands read from a source ahead of the time that waits for its commit; past it
    /// the source is held back. Default: 8 MiB.
    pub ahead_bytes_max: usize,
    /// Whether to run ahead: to work a time out before the commits below it have come back, so that the rate of
    /// times is not bound by the latency of a commit. It does so only where the feed is checked: see
    /// [`upsert`](crate::upsert). Default: true.
    pub ahead: bool,
    /// Bytes of what it has worked out ahead, per worker; past it the operator waits until more has come back. One
    /// append takes about as much. Default: 16 MiB.
    pub overlay_bytes_max: usize,
    /// Updates emitted per wake-up of a worker; at the bound it lets others run, and goes on. Default: 16,384.
    pub drain_rows_max: usize,
    /// Bytes in memory of what is emitted and not yet in a durable part, its encoding included, per worker; past it the
    /// operator waits. Default: 64 MiB.
    pub inflight_bytes_max: usize,
    /// Bytes of updates of one time that are written early, as a part. Default: 8 MiB.
    pub part_bytes_max: usize,
    /// How long the pipeline may not move while it ought to, before its health is `stalled`.
    /// Default: 60 s.
    pub stall_after: Duration,
}

impl Default for PipelineConfig {
    fn default() -> Self {
        PipelineConfig {
            name: String::new(),
            poll: Duration::from_millis(20),
            history: None,
            standby: None,
            feed: Feed { mode: Feed::GIVEN.into(), identity: "a dataflow".into() },
            checked: true,
            patch_errors: PatchErrors::default(),
            source: SourceConfig::default(),
            stash_bytes_max: 256 << 20,
            state_bytes_max: None,
            state_dir: None,
            collection: true,
            ahead_bytes_max: 8 << 20,
            ahead: true,
            overlay_bytes_max: 16 << 20,
            drain_rows_max: 1 << 14,
            inflight_bytes_max: 64 << 20,
            part_bytes_max: 8 << 20,
            stall_after: Duration::from_secs(60),
        }
    }
}

impl PipelineConfig {
    /// Checks the values. A pipeline does so itself: it then commits nothing, and has failed.
    ///
    /// # Errors
    ///
    /// `Invalid`, naming the field and its range.
    pub fn validate(&self) -> Result<(), Error> {
        let instant = Duration::from_nanos(1);
        at_least("poll", self.poll, instant)?;
        at_least("stall_after", self.stall_after, instant)?;
        at_least("ahead_bytes_max", self.ahead_bytes_max, 1)?;
        at_least("overlay_bytes_max", self.overlay_bytes_max, 1)?;
        at_least("drain_rows_max", self.drain_rows_max, 1)?;
        at_least("inflight_bytes_max", self.inflight_bytes_max, 1)?;
        at_least("part_bytes_max", self.part_bytes_max, 1)?;
        if self.history == Some(History::Last(0)) {
            return Err(Error::new(
                ErrorKind::Invalid,
                "history must be at least 1 time, and is 0",
            ));
        }
        if self.state_dir.as_ref().is_some_and(|dir| dir.as_os_str().is_empty()) {
            let what = "state_dir must name a directory, and is empty";
            return Err(Error::new(ErrorKind::Invalid, what));
        }
        self.source.validate()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::HandleConfig;
    use crate::upsert::UpsertConfig;

    fn refused<C: Default>(
        field: &str,
        validate: impl Fn(&C) -> Result<(), Error>,
        change: impl Fn(&mut C),
    ) {
        let mut config = C::default();
        validate(&config).unwrap();
        change(&mut config);
        let error = validate(&config).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{field}: {error}");
        assert!(error.what().starts_with(field), "{field}: {error}");
    }

    #[test]
    fn a_value_out_of_range_is_refused_by_its_name() {
        type Change<C> = fn(&mut C);
        let pipeline: [(&str, Change<PipelineConfig>); 12] = [
            ("state_dir", |c| c.state_dir = Some(PathBuf::new())),
            ("poll", |c| c.poll = Duration::ZERO),
            ("stall_after", |c| c.stall_after = Duration::ZERO),
            ("ahead_bytes_max", |c| c.ahead_bytes_max = 0),
            ("overlay_bytes_max", |c| c.overlay_bytes_max = 0),
            ("drain_rows_max", |c| c.drain_rows_max = 0),
            ("inflight_bytes_max", |c| c.inflight_bytes_max = 0),
            ("part_bytes_max", |c| c.part_bytes_max = 0),
            ("history", |c| c.history = Some(History::Last(0))),
            ("attempts_max", |c| c.source.attempts.attempts_max = 0),
            ("delay_min", |c| c.source.attempts.delay_min = Duration::from_secs(3600)),
            ("unit_bytes_max", |c| c.source.stage.unit_bytes_max = 0),
        ];
        for (field, change) in pipeline {
            refused(field, PipelineConfig::validate, change);
        }
        refused("drain_rows_max", UpsertConfig::<u64>::validate, |c| c.drain_rows_max = 0);
        refused("drain_bytes_max", UpsertConfig::<u64>::validate, |c| c.drain_bytes_max = 0);
        let handle: [(&str, Change<HandleConfig>); 8] = [
            ("part_bytes_max", |c| c.part_bytes_max = 0),
            ("part_bytes_max", |c| c.part_bytes_max = usize::MAX),
            ("inline_bytes_max", |c| c.inline_bytes_max = c.part_bytes_max + 1),
            ("rollup_every", |c| c.rollup_every = 0),
            ("maintain_every", |c| c.maintain_every = 0),
            ("lease", |c| c.lease = Duration::from_micros(1)),
            ("retry_delay_min", |c| c.retry_delay_min = Duration::from_secs(3600)),
            ("history", |c| c.history = Some(History::Last(0))),
        ];
        for (field, change) in handle {
            refused(field, HandleConfig::validate, change);
        }
    }
}
