//! Owns being told to stop by a signal, and the words that such a run ends with. It does not own what
//! stopping means: the parts of a run that share the token ask it and act.

use differential_upsert::{Error, ErrorKind};
use tokio_util::sync::CancellationToken;

/// Runs a future to its end, or until it is time to stop: a store that hangs must not keep us.
pub(crate) async fn or<T>(
    stop: &CancellationToken,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    tokio::select! {
        biased;
        () = stop.cancelled() => Err(stopped()),
        done = work => done,
    }
}

/// Catches SIGINT and SIGTERM from now on, and returns what then cancels the token at the first one. A
/// second one ends the process at once, which is safe at any moment.
///
/// Call it inside a runtime, and run what it returns on one.
///
/// # Errors
///
/// If the operating system does not let signals be handled.
#[cfg(unix)]
pub(crate) fn on_signals(
    stop: CancellationToken,
) -> std::io::Result<impl Future<Output = ()> + Send> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if stop.is_cancelled() {
                std::process::exit(1);
            }
            stop.cancel();
        }
    })
}

/// Cancels the token at the first Ctrl-C; a second one ends the process at once.
#[cfg(not(unix))]
pub(crate) fn on_signals(
    stop: CancellationToken,
) -> std::io::Result<impl Future<Output = ()> + Send> {
    Ok(async move {
        while tokio::signal::ctrl_c().await.is_ok() {
            if stop.is_cancelled() {
                std::process::exit(1);
            }
            stop.cancel();
        }
    })
}

/// What a run that was stopped ends with.
pub(crate) fn stopped() -> Error {
    interrupted("what is committed stays, and the same command goes on from there")
}

/// The same, where another hint is true.
pub(crate) fn interrupted(hint: &'static str) -> Error {
    Error::new(ErrorKind::Stopped, "interrupted, rerun to continue").hint(hint)
}
