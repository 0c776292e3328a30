//! Owns what the reader of the shard and the operator of one worker tell each other about the image: where the feedback
//! begins, how far it has come on this worker, and which history is still needed. It does not own the image.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use timely::scheduling::Activator;

use super::super::stats::UpsertStats;
use super::manifest::Mark;

/// Where the feedback may begin, instead of with the contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Begin {
    /// The first time that is read.
    pub(crate) from: u64,
    /// Where the image stands in the log.
    pub(crate) mark: Mark,
    /// Keys whose value is an error, below `from`.
    pub(crate) errors: i64,
}

/// Shared by the reader and the operator of one worker; clones share it.
#[derive(Clone)]
pub(crate) struct ImageLink(Rc<Cells>);

struct Cells {
    begun: Cell<Option<bool>>,
    complete: Cell<u64>,
    /// Is woken when more is complete.
    waits: RefCell<Option<Activator>>,
    errors: RefCell<BTreeMap<u64, i64>>,
    needed: Arc<AtomicU64>,
    stats: UpsertStats,
}

impl ImageLink {
    /// Returns one that says what it begins with where the operator counts.
    pub(crate) fn new(stats: UpsertStats) -> ImageLink {
        ImageLink(Rc::new(Cells {
            begun: Cell::new(None),
            complete: Cell::new(0),
            waits: RefCell::default(),
            errors: RefCell::default(),
            needed: Arc::new(AtomicU64::new(u64::MAX)),
            stats,
        }))
    }

    /// Says what the state begins with, in one line.
    pub(crate) fn say(&self, line: String) {
        tracing::info!("{line}");
        self.0.stats.set_state_start(line);
    }

    /// Says, before the first row, whether the feedback begins at the image: if not, with the contents.
    pub(crate) fn begin(&self, at_image: bool) {
        self.0.begun.set(Some(at_image));
    }

    /// Returns how it begins, once that is known.
    pub(super) fn begun(&self) -> Option<bool> {
        self.0.begun.get()
    }

    /// Says that every row of this worker below a time was handed on.
    pub(crate) fn complete(&self, upper: u64) {
        self.0.complete.set(upper);
        if let Some(waits) = &*self.0.waits.borrow() {
            waits.activate();
        }
    }

    /// Whether every row of this worker below a time was handed on. If not, an operator is woken each time that more was.
    pub(crate) fn is_complete_to(&self, upper: u64, waits: &Activator) -> bool {
        let is_complete = self.completed() >= upper;
        *self.0.waits.borrow_mut() = (!is_complete).then(|| waits.clone());
        is_complete
    }

    /// Returns that time.
    pub(super) fn completed(&self) -> u64 {
        self.0.complete.get()
    }

    /// Counts keys whose value is an error, as of a time.
    pub(crate) fn add_errors(&self, time: u64, more: i64) {
        *self.0.errors.borrow_mut().entry(time).or_default() += more;
    }

    /// Returns how many there are as of just below a time, no less than that of the last call.
    pub(super) fn errors_below(&self, time: u64) -> i64 {
        let mut errors = self.0.errors.borrow_mut();
        let later = errors.split_off(&time);
        let below: i64 = errors.values().sum();
        *errors = later;
        if below != 0 {
            errors.insert(0, below);
        }
        below
    }

    /// Returns the time from which on the history has to stay; `u64::MAX` if none has to.
    pub(crate) fn needed(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.0.needed)
    }

    pub(super) fn need(&self, from: u64) {
        self.0.needed.store(from, Ordering::Relaxed);
    }
}
