//! Owns the wait of a worker that stops until what is committed was read back, so that the last image of its state has all of
//! it. It does not own the image, nor the reader.
//!
//! It waits before any worker may let go, for then the readers end; and for [`GRACE`] at the most. What is not read by then is
//! read by the next start.

use timely::scheduling::{Activator, SyncActivator};
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

use super::context::SinkContext;
use crate::control::lifecycle::GRACE;
use crate::control::waking::Waking;

/// The wait of one worker.
pub(super) struct ReadBack {
    context: SinkContext,
    /// The operator that waits: woken when more was read, and when it has waited for long enough.
    waits: Activator,
    wakes: SyncActivator,
    /// What is committed as the wait begins.
    end: Option<u64>,
    grace: Option<oneshot::Receiver<()>>,
}

impl ReadBack {
    pub(super) fn new(context: &SinkContext, waits: Activator, wakes: SyncActivator) -> ReadBack {
        ReadBack { context: context.clone(), waits, wakes, end: None, grace: None }
    }

    /// Whether the worker may let go. It is asked once no append will come.
    pub(super) fn is_over(&mut self) -> bool {
        let Some(image) = &self.context.image else { return true };
        let end = *self.end.get_or_insert_with(|| self.context.status.upper());
        if image.is_complete_to(end, &self.waits) || crate::mutant::on("stop_before_read") {
            return true;
        }
        match &mut self.grace {
            Some(grace) => !matches!(grace.try_recv(), Err(TryRecvError::Empty)),
            None => {
                let (sender, receiver) = oneshot::channel();
                let sender = Waking::new(sender, self.wakes.clone());
                self.context.io.spawn(async move {
                    tokio::time::sleep(GRACE).await;
                    sender.send(());
                });
                self.grace = Some(receiver);
                false
            }
        }
    }
}
