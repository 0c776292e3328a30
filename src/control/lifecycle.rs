//! Owns how a pipeline is told to stop and how its workers learn that they may let go. It does not
//! own what stopping means to a part; each operator asks.
//!
//! Stopping has two phases, or a frontier would pass a time whose rows a stopped worker still has.
//! First every sink stops appending, on every worker; until then all capabilities are kept. Then
//! they are released.
//!
//! A stop waits for the store twice, [`GRACE`] at a time, whatever the store does: for the append in
//! flight to be settled, and for the lease to be given back; in between once more, where the state has an image,
//! for what was committed to be read back. What has no answer by then is left as a crash would leave it: the
//! append is in the log or not, and the next run reads which.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use timely::dataflow::Scope;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::progress::Timestamp;
use timely::scheduling::Activator;

/// How long a stop waits for an answer of the store, each time.
pub(crate) const GRACE: Duration = Duration::from_millis(300);

/// How far a worker's part of a pipeline is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// It works.
    Running,
    /// It does nothing more and keeps every capability.
    Stopping,
    /// No sink will append any more. From here on no frontier says that what is below it is whole,
    /// for another worker may already be letting go.
    Silent,
    /// Every worker is silent: capabilities may go.
    Released,
}

impl Phase {
    const ALL: [Phase; 4] = [Phase::Running, Phase::Stopping, Phase::Silent, Phase::Released];
}

/// A worker's phase, to be read from any thread.
#[derive(Clone, Debug, Default)]
pub(crate) struct PhaseWatch(Arc<AtomicU8>);

impl PhaseWatch {
    /// Returns the phase.
    pub(crate) fn get(&self) -> Phase {
        Phase::ALL[usize::from(self.0.load(Ordering::SeqCst))]
    }
}

/// The phase that the operators of one worker share, and the operators to wake when it changes.
#[derive(Clone, Default)]
pub(crate) struct Lifecycle(Rc<Shared>);

#[derive(Default)]
struct Shared {
    phase: PhaseWatch,
    /// The token is gone: nobody waits for this worker's part any more.
    dropped: Cell<bool>,
    wake: RefCell<Vec<Activator>>,
}

impl std::fmt::Debug for Lifecycle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Lifecycle").field(&self.phase()).finish()
    }
}

impl Lifecycle {
    /// Returns the phase.
    pub(crate) fn phase(&self) -> Phase {
        self.0.phase.get()
    }

    /// Returns the phase as other threads may read it.
    pub(crate) fn watch(&self) -> PhaseWatch {
        self.0.phase.clone()
    }

    /// Moves on to a later phase and wakes every part. Going back does nothing.
    pub(crate) fn advance(&self, phase: Phase) {
        if self.phase() < phase {
            self.0.phase.0.store(phase as u8, Ordering::SeqCst);
            self.wake_all();
        }
    }

    /// Whether this worker's own token was dropped.
    pub(crate) fn is_dropped(&self) -> bool {
        self.0.dropped.get()
    }

    /// Wakes every operator that asked for it.
    pub(crate) fn wake_all(&self) {
        self.0.wake.borrow().iter().for_each(Activator::activate);
    }

    /// Begins an operator that is woken when the phase or the upper moves, and when an error comes.
    /// The one way to make an operator that may hold a capability: one that nobody wakes at a stop
    /// never lets go of it.
    pub(crate) fn operator<'scope, T: Timestamp>(
        &self,
        name: &str,
        scope: Scope<'scope, T>,
    ) -> OperatorBuilder<'scope, T> {
        #[allow(clippy::disallowed_methods, reason = "the one place that registers what it makes")]
        let builder = OperatorBuilder::new(name.into(), scope);
        let activator = scope.activator_for(builder.operator_info().address);
        if !(name == "UpsertEncode" && crate::mutant::on("encode_unwoken")) {
            self.0.wake.borrow_mut().push(activator);
        }
        builder
    }
}

/// Stops a pipeline on this worker when dropped, and with it the pipeline on every worker.
///
/// What has been committed stays; what has not is not, and the next run commits it. Once the input has
/// ended and all of it is committed there is nothing left to stop but each worker's own reading of
/// the collection; if that has failed, it holds until this worker's token is dropped.
#[derive(Debug)]
#[must_use = "dropping the token stops the pipeline"]
pub struct Token(pub(crate) Lifecycle);

impl Drop for Token {
    fn drop(&mut self) {
        self.0.0.dropped.set(true);
        self.0.advance(Phase::Stopping);
        // After the end the phase stays, but the collection may wait for this drop.
        self.0.wake_all();
    }
}
