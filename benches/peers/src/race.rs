//! Owns the race: two writers of one feed on one shard, each a process of its own, beside one alone. It does not own the
//! writers.

use std::path::Path;
use std::thread;

use serde::{Deserialize, Serialize};

use crate::child;
use crate::clock::Figures;
use crate::contestant::Contestant;

/// How one contestant did.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Race {
    pub contestant: Contestant,
    pub rows_per_time: u64,
    pub alone: Vec<Figures>,
    /// The one that came to its end first, and the other.
    pub both: Vec<(Figures, Figures)>,
}

/// Runs the writer that `child` is, `rounds` times alone and against another of its kind.
///
/// # Panics
///
/// If two that race make other contents than one alone.
pub fn measured(child: &child::Args, rounds: usize, scratch: &Path) -> Race {
    let rows_per_time = child.shape.rows_per_time;
    let (mut alone, mut both) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        alone.push(child::spawn(child, scratch));
        let directory = tempfile::tempdir_in(scratch).expect("a scratch directory");
        let run = || child::spawn_in(child, directory.path());
        let (one, other) = thread::scope(|scope| {
            let other = scope.spawn(run);
            (run(), other.join().expect("a thread that waits"))
        });
        let contents = |figures: &Figures| figures.sums.contents;
        let expected = alone.last().map(contents);
        assert_eq!([contents(&one), contents(&other)].map(Some), [expected; 2], "{child:?}");
        both.push(if one.seconds <= other.seconds { (one, other) } else { (other, one) });
    }
    eprintln!("two {} writers, {rows_per_time} rows per time: {both:?}", child.contestant.name());
    Race { contestant: child.contestant, rows_per_time, alone, both }
}
