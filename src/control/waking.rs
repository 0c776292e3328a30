//! Owns how a task or another thread reaches an operator: senders that wake the operator which
//! receives, and a list of operators to wake. It does not own what is sent.
//!
//! The operator is woken after each message, and finds it; and once more after the sender is dropped,
//! and finds the channel closed. The other way round it would find nothing, and sleep for ever.

use parking_lot::Mutex;
use timely::scheduling::SyncActivator;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

/// A channel's sender that wakes the operator which receives, after each message and after its own
/// drop. A clone wakes it as well when it is dropped.
#[derive(Clone, Debug)]
pub(crate) struct Waking<S> {
    // The order of the fields is that of their drops: first the channel is closed.
    sender: S,
    operator: WakesAtDrop,
}

#[derive(Clone, Debug)]
struct WakesAtDrop(SyncActivator);

impl WakesAtDrop {
    fn wake(&self) {
        // An error means that the worker is gone, which the next send reports.
        let _ = self.0.activate();
    }
}

impl Drop for WakesAtDrop {
    fn drop(&mut self) {
        self.wake();
    }
}

impl<S> Waking<S> {
    pub(crate) fn new(sender: S, operator: SyncActivator) -> Self {
        Waking { sender, operator: WakesAtDrop(operator) }
    }
}

impl<T> Waking<mpsc::Sender<T>> {
    /// Sends as soon as there is room. Returns false if the operator receives nothing any more.
    pub(crate) async fn send(&self, message: T) -> bool {
        let sent = self.send_ahead(message).await;
        self.wake();
        sent
    }

    /// As [`send`](Waking::send), but the operator is left asleep as long as there is room: for a message that
    /// another one follows at once, or a [`wake`](Waking::wake).
    pub(crate) async fn send_ahead(&self, message: T) -> bool {
        match self.sender.try_send(message) {
            Ok(()) => true,
            Err(TrySendError::Closed(_)) => false,
            Err(TrySendError::Full(message)) => {
                // It makes room when it runs, and nothing may have woken it for what is there.
                if !crate::mutant::on("asleep_when_full") {
                    self.wake();
                }
                self.sender.send(message).await.is_ok()
            }
        }
    }

    /// Wakes the operator.
    pub(crate) fn wake(&self) {
        self.operator.wake();
    }

    /// Waits until the operator receives nothing any more.
    pub(crate) async fn closed(&self) {
        self.sender.closed().await;
    }

    /// Whether the operator receives nothing any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }
}

impl<T> Waking<mpsc::UnboundedSender<T>> {
    /// Sends the one message of this clone. If the operator is gone, it goes nowhere.
    pub(crate) fn send(self, message: T) {
        // The wake-up comes with the drop.
        let _ = self.sender.send(message);
    }
}

impl<T> Waking<oneshot::Sender<T>> {
    /// Sends the one message. If the operator is gone, the message goes nowhere.
    pub(crate) fn send(self, message: T) {
        // The wake-up comes with the drop.
        let Waking { sender, operator: _operator } = self;
        let _ = sender.send(message);
    }
}

/// Operators to be woken together, from any thread.
#[derive(Debug, Default)]
pub(crate) struct Sleepers(Mutex<Vec<SyncActivator>>);

impl Sleepers {
    /// Adds an operator.
    pub(crate) fn add(&self, operator: SyncActivator) {
        self.0.lock().push(operator);
    }

    /// Wakes them all.
    pub(crate) fn wake(&self) {
        for operator in &*self.0.lock() {
            // An error means that the worker is gone.
            let _ = operator.activate();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

    use super::*;

    #[test]
    fn an_operator_runs_when_something_comes_and_when_nothing_more_will() {
        timely::execute_directly(|worker| {
            let (sender, mut receiver) = mpsc::unbounded_channel();
            let received = Rc::new(RefCell::new(Vec::new()));
            let into = Rc::clone(&received);
            let address = worker.dataflow::<u64, _, _>(|scope| {
                #[allow(clippy::disallowed_methods, reason = "nothing stops it but the channel")]
                let mut builder = OperatorBuilder::new("Receiver".into(), scope);
                let address = builder.operator_info().address;
                let (_output, _stream) = builder.new_output::<Vec<()>>();
                builder.build(move |capabilities| {
                    let mut held = capabilities;
                    move |_| {
                        loop {
                            match receiver.try_recv() {
                                Ok(message) => into.borrow_mut().push(message),
                                Err(mpsc::error::TryRecvError::Empty) => return,
                                Err(mpsc::error::TryRecvError::Disconnected) => {
                                    held.clear();
                                    return;
                                }
                            }
                        }
                    }
                });
                address
            });
            let sender = Waking::new(sender, worker.sync_activator_for(address.to_vec()));
            // Enough for whatever was woken. What was not does not run.
            let mut settle = || (0..10).for_each(|_| _ = worker.step());
            settle();
            sender.clone().send(7);
            settle();
            assert_eq!(*received.borrow(), [7]);
            drop(sender);
            settle();
            assert!(!worker.has_dataflows(), "it has found the channel closed");
        });
    }
}
