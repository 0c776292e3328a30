//! Owns being told to stop: by a signal, or because nobody listens any more. It does not own what
//! stopping means; whoever reads or runs asks here and acts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use differential_upsert::{Error, ErrorKind};
use tokio::sync::Notify;

/// A flag that all parts of a run share; cheap to clone. Once set it stays set.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<Flags>);

#[derive(Debug, Default)]
struct Flags {
    interrupted: AtomicBool,
    abandoned: AtomicBool,
    changed: Notify,
}

impl Stop {
    /// Tells everyone to stop because the user wants it.
    pub fn interrupt(&self) {
        self.0.interrupted.store(true, Ordering::SeqCst);
        self.0.changed.notify_waiters();
    }

    /// Tells everyone to stop because nobody takes what they produce.
    pub fn abandon(&self) {
        self.0.abandoned.store(true, Ordering::SeqCst);
        self.0.changed.notify_waiters();
    }

    /// Returns whether the user wanted it.
    pub fn interrupted(&self) -> bool {
        self.0.interrupted.load(Ordering::SeqCst)
    }

    /// Returns whether to stop, for whatever reason.
    pub fn is_set(&self) -> bool {
        self.interrupted() || self.0.abandoned.load(Ordering::SeqCst)
    }

    /// Returns an error iff it is time to stop.
    pub fn check(&self) -> Result<(), Error> {
        if self.is_set() {
            return Err(stopped());
        }
        Ok(())
    }

    /// Waits until it is time to stop.
    pub async fn wait(&self) {
        loop {
            let mut changed = std::pin::pin!(self.0.changed.notified());
            // Listen first, look second: a change in between is then not missed.
            changed.as_mut().enable();
            if self.is_set() {
                return;
            }
            changed.await;
        }
    }

    /// Runs a future to its end, or until it is time to stop: a store that hangs must not keep us.
    pub async fn or<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        tokio::select! {
            biased;
            () = self.wait() => Err(stopped()),
            done = work => done,
        }
    }

    /// Catches SIGINT and SIGTERM from now on, and returns what then sets the flag at the first
    /// one. A second one ends the process at once, which is safe at any moment.
    ///
    /// Call it inside a runtime, and run what it returns on one.
    ///
    /// # Errors
    ///
    /// If the operating system does not let signals be handled.
    #[cfg(unix)]
    pub fn on_signals(self) -> std::io::Result<impl Future<Output = ()> + Send> {
        use tokio::signal::unix::{SignalKind, signal};
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        Ok(async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if self.interrupted() {
                    std::process::exit(1);
                }
                self.interrupt();
            }
        })
    }

    /// Sets the flag at the first Ctrl-C; a second one ends the process at once.
    #[cfg(not(unix))]
    pub fn on_signals(self) -> std::io::Result<impl Future<Output = ()> + Send> {
        Ok(async move {
            while tokio::signal::ctrl_c().await.is_ok() {
                if self.interrupted() {
                    std::process::exit(1);
                }
                self.interrupt();
            }
        })
    }
}

/// What a run that was stopped ends with.
pub fn stopped() -> Error {
    Error::new(ErrorKind::Stopped, "interrupted, rerun to continue")
        .hint("what is committed stays, and the same command goes on from there")
}
