//! Owns running a source to its end without a dataflow: the attempt loop, and what came out of it. It
//! does not own what should have.

use std::collections::BTreeMap;
use std::time::Duration;

use differential_upsert::codec::{Codec, Postcard, decode_stored};
use differential_upsert::source::AttemptConfig;
use differential_upsert::source::StageLimits;
use differential_upsert::source::{Boundary, Change, Partition, Position, Source, SourceStats};
use differential_upsert::unstable::attempt::{Attempts, Ended, Reason};
use differential_upsert::unstable::stage::Unit;
use differential_upsert::{Command, DataError};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::behaviours::oracle::{collection, patched};
use crate::behaviours::script::{Asked, At, Scripted, Step, parse, rechunk};
use crate::random::Random;

/// Values by key; an error stands for one that could not be read.
pub type Contents = BTreeMap<u64, Result<u64, DataError>>;

/// A unit that went on.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept<P> {
    pub changes: Vec<Change<u64, u64>>,
    pub boundary: Boundary<P>,
}

impl<P: Position> Kept<P> {
    pub fn read(unit: Unit<P>) -> Kept<P> {
        let boundary = unit.boundary;
        let mut reading = unit.changes.read(0).unwrap();
        let mut changes = Vec::new();
        loop {
            let commands = reading.rows().unwrap();
            if commands.is_empty() {
                return Kept { changes, boundary };
            }
            for command in commands {
                let key = |bytes: &[u8]| <Postcard as Codec<u64>>::decode(bytes).unwrap();
                changes.push(match command {
                    Command::Put { key: k, value, .. } => {
                        let value = decode_stored::<u64, Postcard>(value.as_bytes()).unwrap();
                        Change::Put(key(k.as_bytes()), value)
                    }
                    Command::Patch { key: k, patch, .. } => {
                        let patch = decode_stored::<u64, Postcard>(patch.as_bytes()).unwrap();
                        Change::Patch(key(k.as_bytes()), patch.unwrap())
                    }
                    Command::Delete { key: k, .. } => Change::Delete(key(k.as_bytes())),
                    Command::Reset { .. } => Change::Reset,
                    Command::ResetOf { collection, .. } => Change::ResetOf(collection),
                });
            }
        }
    }
}

/// Applies changes, in order.
pub fn apply(contents: &mut Contents, changes: &[Change<u64, u64>]) {
    for change in changes {
        match change {
            Change::Put(key, value) => drop(contents.insert(*key, value.clone())),
            Change::Patch(key, patch) => patched(contents, *key, *patch),
            Change::Delete(key) => drop(contents.remove(key)),
            Change::Reset => contents.clear(),
            Change::ResetOf(name) => contents.retain(|key, _| collection(*key) != name),
        }
    }
}

/// How a source is run.
pub struct Setup<P> {
    pub from: Boundary<P>,
    pub config: AttemptConfig,
    pub limits: StageLimits,
    pub stop_at_current: bool,
    pub seed: u64,
    /// Units that may wait.
    pub room: usize,
    pub cancel: CancellationToken,
    pub stats: SourceStats,
}

impl<P: Position> Default for Setup<P> {
    fn default() -> Setup<P> {
        Setup {
            from: Boundary::start("script"),
            config: AttemptConfig {
                attempts_max: 3,
                outage_max: Duration::from_secs(1),
                ..AttemptConfig::default()
            },
            limits: StageLimits::default(),
            stop_at_current: false,
            seed: 0,
            room: 1,
            cancel: CancellationToken::new(),
            stats: SourceStats::default(),
        }
    }
}

impl<P: Position> Setup<P> {
    /// Returns the loop, to be run, and where its units come out.
    pub fn attempts(self) -> (Attempts<P>, mpsc::Receiver<Vec<Unit<P>>>) {
        let (units, receiver) = mpsc::channel(self.room);
        let attempts = Attempts {
            shape: 0,
            from: self.from,
            config: self.config,
            limits: self.limits,
            stop_at_current: self.stop_at_current,
            seed: self.seed,
            cancel: self.cancel,
            units,
            durable: watch::channel(None).1,
            stats: self.stats,
        };
        (attempts, receiver)
    }

    /// Runs a source to its end, taking whatever comes.
    pub async fn run<S>(self, source: S) -> (Vec<Kept<P>>, Ended<P>)
    where
        S: Source<Key = u64, Value = u64, Position = P>,
    {
        let (attempts, mut receiver) = self.attempts();
        let take = async {
            let mut kept = Vec::new();
            while let Some(units) = receiver.recv().await {
                kept.extend(units.into_iter().map(Kept::read));
            }
            kept
        };
        let run = async { tokio::join!(take, attempts.run_postcard(source)) };
        tokio::time::timeout(Duration::from_secs(1 << 20), run).await.expect("it never ends")
    }
}

/// What became of a script.
pub struct Run {
    pub kept: Vec<Kept<At>>,
    pub ended: Ended<At>,
    pub asked: Asked,
}

impl Run {
    /// Where it was when it ended.
    pub fn safe(&self) -> Option<At> {
        self.ended.boundary.get("").cloned()
    }

    /// All that went on, by key.
    pub fn contents(&self) -> Contents {
        let mut contents = Contents::new();
        self.kept.iter().for_each(|kept| apply(&mut contents, &kept.changes));
        contents
    }

    /// Where each unit ends, in the partition without a name.
    pub fn places(&self) -> Vec<At> {
        self.kept.iter().filter_map(|kept| kept.boundary.get("").cloned()).collect()
    }

    /// Which keys each unit has.
    pub fn keys(&self) -> Vec<Vec<u64>> {
        let key = |change: &Change<u64, u64>| match change {
            Change::Put(key, _) | Change::Patch(key, _) | Change::Delete(key) => Some(*key),
            Change::Reset | Change::ResetOf(_) => None,
        };
        self.kept.iter().map(|kept| kept.changes.iter().filter_map(key).collect()).collect()
    }

    /// Where it was connected, in the partition without a name.
    pub fn connects(&self) -> Vec<Option<At>> {
        self.asked.connects().iter().map(|from| from.get("").cloned()).collect()
    }

    pub fn error(&self) -> String {
        match &self.ended.reason {
            Reason::Failed(error) => error.to_string(),
            other => panic!("{other:?} is not a failure"),
        }
    }
}

/// Runs a source.
pub async fn run_with(setup: Setup<At>, source: Scripted) -> Run {
    let asked = source.asked();
    let (kept, ended) = setup.run(source).await;
    Run { kept, ended, asked }
}

/// Runs a script for each connect as it is written, and cut into responses in other ways, with the
/// same outcome.
pub async fn run(scripts: &[&str]) -> Run {
    run_as(scripts, |source| source).await
}

/// As [`run`], with a source that is made differently.
pub async fn run_as(scripts: &[&str], make: impl Fn(Scripted) -> Scripted) -> Run {
    let steps: Vec<Vec<Step>> = scripts.iter().map(|script| parse(script)).collect();
    let run = run_with(Setup::default(), make(Scripted::of(steps.clone()))).await;
    for seed in 0..20 {
        let random = Random::new(seed);
        let cut = steps.iter().map(|steps| rechunk(steps, &random)).collect();
        let other = run_with(Setup::default(), make(Scripted::of(cut))).await;
        assert_eq!(other.kept, run.kept, "in other responses, seed {seed}");
        assert_eq!(other.ended.boundary, run.ended.boundary, "in other responses, seed {seed}");
        assert_eq!(other.connects(), run.connects(), "in other responses, seed {seed}");
    }
    run
}

/// The cursor of a feed of one partition that has come to a place.
pub async fn boundary(at: At) -> Boundary<At> {
    let steps = vec![Step::Position("".into(), at), Step::Flush(Partition::from("")), Step::Border];
    let run = run_with(Setup::default(), Scripted::of(vec![steps])).await;
    run.ended.boundary
}
