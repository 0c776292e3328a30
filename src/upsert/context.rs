//! Owns what a pipeline lends its operator: the upper of the log, scratch space, a bound on what is in
//! flight, the phase, the counters. It does not own what the operator makes of them.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use timely::progress::Timestamp;
use timely::progress::frontier::Antichain;
use timely::scheduling::Activator;

use super::classify::Frontiers;
use super::cold::ColdSpace;
use super::image::Images;
use super::inbox::Update;
use super::rows::Kept;
use super::spill::SharedSpill;
use super::stats::UpsertStats;
use crate::control::lifecycle::Lifecycle;
use crate::error::Error;

/// What the pipeline around an operator lends it. The default is an operator that stands alone.
pub(crate) struct UpsertContext<T> {
    /// The shard's upper as its log has it.
    pub(crate) known: Known<T>,
    /// Where the stash spills.
    pub(crate) spill: SharedSpill,
    /// Where cold chunks are, and reads run.
    pub(crate) cold: ColdSpace,
    /// Makes images of the state, and knows what a time is.
    pub(crate) images: Option<(Images, fn(&T) -> u64)>,
    /// How much may be emitted and not yet durable.
    pub(crate) inflight: Inflight,
    /// Whether to go on, hold or release.
    pub(crate) lifecycle: Lifecycle,
    /// Where the operator counts.
    pub(crate) stats: UpsertStats,
    /// Called after each wake-up, with the least time that waits and where the frontiers are.
    pub(crate) watch: Option<Look<T>>,
    /// Why it must not work at all: then it holds from the start, and says so.
    pub(crate) invalid: Option<Error>,
}

pub(crate) type Look<T> = Box<dyn Fn(Option<&T>, &Frontiers<'_, T>)>;

impl<T: Timestamp> UpsertContext<T> {
    pub(crate) fn alone() -> Self {
        UpsertContext {
            known: Known::new(T::minimum()),
            spill: SharedSpill::default(),
            cold: ColdSpace::default(),
            images: None,
            inflight: Inflight::default(),
            lifecycle: Lifecycle::default(),
            stats: UpsertStats::default(),
            watch: None,
            invalid: None,
        }
    }
}

/// The upper of the shard's log, shared by its reader and the operator of one worker.
#[derive(Clone, Debug)]
pub(crate) struct Known<T>(Rc<RefCell<Antichain<T>>>);

impl<T: Timestamp> Known<T> {
    pub(crate) fn new(upper: T) -> Self {
        Known(Rc::new(RefCell::new(Antichain::from_elem(upper))))
    }

    pub(super) fn get(&self) -> Antichain<T> {
        self.0.borrow().clone()
    }

    /// Raises the upper. It is the caller that wakes the operator.
    pub(crate) fn advance(&self, upper: T) {
        let mut known = self.0.borrow_mut();
        if known.less_than(&upper) {
            *known = Antichain::from_elem(upper);
        }
    }
}

/// The bytes emitted by an operator and not yet durable, and their bound.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inflight(Rc<InflightCells>);

#[derive(Debug, Default)]
struct InflightCells {
    bytes: Cell<usize>,
    bytes_max: Cell<Option<usize>>,
    wake: RefCell<Option<Activator>>,
    /// Shows the bytes.
    stats: UpsertStats,
}

impl Inflight {
    pub(crate) fn bounded(bytes_max: usize, stats: UpsertStats) -> Self {
        // A bound of nothing would be full for ever.
        let bytes_max = Cell::new(Some(bytes_max.max(1)));
        Inflight(Rc::new(InflightCells { bytes_max, stats, ..InflightCells::default() }))
    }

    /// Names the operator to wake when there is room again.
    pub(super) fn wake(&self, operator: Activator) {
        *self.0.wake.borrow_mut() = Some(operator);
    }

    /// Whether the operator waits until bytes are released.
    pub(crate) fn is_full(&self) -> bool {
        self.0.bytes_max.get().is_some_and(|max| self.0.bytes.get() >= max)
    }

    pub(super) fn add(&self, bytes: usize) {
        self.set(self.0.bytes.get() + bytes);
    }

    fn set(&self, bytes: usize) {
        self.0.bytes.set(bytes);
        self.0.stats.set_inflight(bytes);
    }

    /// Says that bytes are durable, or dropped, and wakes the operator.
    pub(crate) fn release(&self, bytes: usize) {
        self.set(self.0.bytes.get().saturating_sub(bytes));
        if let Some(activator) = &*self.0.wake.borrow() {
            activator.activate();
        }
    }
}

/// Returns the bytes of an update.
pub(crate) fn row_bytes<K: Kept<V>, V>(key: &K, value: &V) -> usize {
    size_of::<Update<K, V, u64>>() + K::heap_bytes(key, Some(value))
}

/// Returns the bytes that an update takes on its way into a part: it is there as it was emitted, while it is sorted and
/// where it then stands, and its key and value also as they are encoded.
pub(crate) fn flight_bytes<K: Kept<V>, V>(key: &K, value: &V) -> usize {
    4 * size_of::<Update<K, V, u64>>() + 2 * K::heap_bytes(key, Some(value))
}
