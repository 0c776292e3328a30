//! Owns where I/O runs: the one place that makes a runtime, and the source of tokens. It does not
//! own what runs there.
//!
//! Operators never block: they hand futures to an [`Io`] and hear back through a channel and an
//! activator. Clock, executor and tokens come in from here, so a simulation can bring its own.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use futures::FutureExt;
use tokio::runtime::{Handle, Runtime};

use crate::error::{Error, ErrorKind};

/// A source of 128-bit tokens, each used once: they name writers, commits and parts.
pub trait Tokens: Send + Sync {
    /// Returns a token that no other call, in any process, has returned.
    fn token(&self) -> u128;
}

/// Tokens from the operating system's random source.
#[derive(Clone, Copy, Debug, Default)]
pub struct RandomTokens;

impl Tokens for RandomTokens {
    fn token(&self) -> u128 {
        uuid::Uuid::new_v4().as_u128()
    }
}

/// What time it is, for what must be compared between processes: how long a lease lasts. Only
/// liveness and space depend on it, never what is in a shard.
pub trait Clock: Send + Sync {
    /// Returns the milliseconds since 1970.
    fn now_ms(&self) -> u64;
}

/// The operating system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "the one clock of the library")]
    fn now_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

/// An executor for I/O, a source of tokens and a clock; cheap to clone.
///
/// Time inside its tasks is tokio's, so a paused runtime has a paused clock.
#[derive(Clone)]
pub struct Io {
    executor: Handle,
    /// Runs what nothing waits for.
    aside: Handle,
    /// What computes for long does so on a thread of its own.
    has_threads: bool,
    tokens: Arc<dyn Tokens>,
    clock: Arc<dyn Clock>,
}

impl Io {
    /// Returns the process's own I/O, made at the first call and shared by all shards: a thread for what is waited
    /// for, and one for maintenance, which may compute for long.
    ///
    /// One thread each: of two, the second is woken for every task that the first is given, and mostly finds
    /// nothing. What computes for long runs on a third, with `beside`.
    ///
    /// # Errors
    ///
    /// `Unavailable` if the operating system gives no thread.
    pub fn process() -> Result<Io, Error> {
        static RUNTIMES: OnceLock<Result<[Runtime; 2], String>> = OnceLock::new();
        let runtime = |name: &str| {
            tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .thread_name(name)
                .enable_all()
                .build()
                .map_err(|e| e.to_string())
        };
        let runtimes = RUNTIMES.get_or_init(|| {
            Ok([runtime("differential-upsert-io")?, runtime("differential-upsert-upkeep")?])
        });
        match runtimes {
            Ok([runtime, aside]) => {
                let io = Io::new(runtime.handle().clone(), Arc::new(RandomTokens));
                Ok(Io { aside: aside.handle().clone(), has_threads: true, ..io })
            }
            Err(e) => Err(Error::new(ErrorKind::Unavailable, format!("no I/O runtime: {e}"))
                .hint("raise the limit on threads")),
        }
    }

    /// Returns I/O on an executor and a source of tokens of the caller's, with the system's clock.
    pub fn new(executor: Handle, tokens: Arc<dyn Tokens>) -> Io {
        let aside = executor.clone();
        Io { executor, aside, has_threads: false, tokens, clock: Arc::new(SystemClock) }
    }

    /// Returns the same with another clock.
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Io {
        Io { clock, ..self }
    }

    /// Returns the same for work that nothing waits for: what it spawns runs beside all else.
    pub(crate) fn aside(&self) -> Io {
        Io { executor: self.aside.clone(), ..self.clone() }
    }

    /// Returns the milliseconds since 1970, by this clock.
    pub fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    /// Runs a future to its end, whether or not anyone waits for it.
    pub fn spawn<F>(&self, future: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.executor.spawn(future)
    }

    /// Runs what blocks on a thread of its own, many at a time. On an executor of the caller's it runs in a task, so that a
    /// simulation replays.
    pub(crate) fn spawn_blocking(&self, job: impl FnOnce() + Send + 'static) {
        match self.has_threads {
            true => drop(self.executor.spawn_blocking(job)),
            false => drop(self.executor.spawn(async move { job() })),
        }
    }

    /// Runs a future and hands its outcome to `answer`, which is called exactly once whatever happens:
    /// a panic, and a task that is dropped with its executor, come as an `Indeterminate` error.
    pub(crate) fn spawn_answered<T: Send + 'static>(
        &self,
        what: &'static str,
        future: impl Future<Output = Result<T, Error>> + Send + 'static,
        answer: impl FnOnce(Result<T, Error>) + Send + 'static,
    ) {
        self.spawn(answered(what, future, answer));
    }

    /// As [`spawn_answered`](Io::spawn_answered), for a future that may be ready at once: it is then answered on this
    /// thread, before this returns, and needs no task.
    pub(crate) fn answer_at_once<T: Send + 'static>(
        &self,
        what: &'static str,
        future: impl Future<Output = Result<T, Error>> + Send + 'static,
        answer: impl FnOnce(Result<T, Error>) + Send + 'static,
    ) {
        let mut answered = Box::pin(answered(what, future, answer));
        let is_done = {
            let _executor = self.executor.enter();
            (&mut answered).now_or_never().is_some()
        };
        if !is_done {
            self.spawn(answered);
        }
    }

    /// Runs a future that computes for long, so that no task waits for it but this one. On an executor of the
    /// caller's it runs in the task, so that a simulation replays.
    pub(crate) async fn beside<T: Send + 'static>(
        &self,
        future: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        if !self.has_threads {
            return future.await;
        }
        let executor = self.executor.clone();
        let running = self.executor.spawn_blocking(move || executor.block_on(future));
        running.await.unwrap_or_else(|e| match e.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(lost("a computation was dropped with its executor".into())),
        })
    }

    /// Runs a future and waits for it. Not for operators: it blocks the thread.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.executor.block_on(future)
    }

    /// Returns a fresh token.
    pub fn token(&self) -> u128 {
        self.tokens.token()
    }
}

/// Returns a future that answers with what another came to.
fn answered<T: Send + 'static>(
    what: &'static str,
    future: impl Future<Output = Result<T, Error>> + Send + 'static,
    answer: impl FnOnce(Result<T, Error>) + Send + 'static,
) -> impl Future<Output = ()> + Send + 'static {
    let mut answering = AnswerOnDrop { what, answer: Some(answer), takes: PhantomData };
    async move {
        // What the future has broken is its own: the answer alone sees it again.
        let outcome = AssertUnwindSafe(future).catch_unwind().await;
        answering.answer(outcome.unwrap_or_else(|panic| Err(panicked(what, &*panic))));
    }
}

/// Calls an answer once, at the latest when it is dropped.
struct AnswerOnDrop<T, F: FnOnce(Result<T, Error>)> {
    what: &'static str,
    answer: Option<F>,
    takes: PhantomData<fn(T)>,
}

impl<T, F: FnOnce(Result<T, Error>)> AnswerOnDrop<T, F> {
    fn answer(&mut self, outcome: Result<T, Error>) {
        if let Some(answer) = self.answer.take() {
            answer(outcome);
        }
    }
}

impl<T, F: FnOnce(Result<T, Error>)> Drop for AnswerOnDrop<T, F> {
    fn drop(&mut self) {
        self.answer(Err(lost(format!("{} was dropped with its executor", self.what))));
    }
}

fn panicked(what: &str, panic: &(dyn Any + Send)) -> Error {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason given");
    lost(format!("{what} panicked: {text}"))
}

fn lost(what: String) -> Error {
    Error::new(ErrorKind::Indeterminate, what).hint("start again; what is committed stays")
}

impl fmt::Debug for Io {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Io").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    /// The executor does not run meanwhile: only what is not ready needs it.
    #[test]
    fn what_is_ready_at_once_is_answered_at_once() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let io = Io::new(runtime.handle().clone(), Arc::new(RandomTokens));
        let (sender, receiver) = channel();
        let answer = || {
            let sender = sender.clone();
            move |outcome: Result<u64, Error>| sender.send(outcome).unwrap()
        };
        io.answer_at_once("a number", async { Ok(1) }, answer());
        assert_eq!(receiver.try_recv().unwrap().unwrap(), 1);
        io.answer_at_once("a panic", async { panic!("on purpose") }, answer());
        let error = receiver.try_recv().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Indeterminate);
        let later = async {
            tokio::task::yield_now().await;
            Ok(2)
        };
        io.answer_at_once("a number", later, answer());
        assert!(receiver.try_recv().is_err());
        runtime.block_on(tokio::task::yield_now());
        runtime.block_on(tokio::task::yield_now());
        assert_eq!(receiver.try_recv().unwrap().unwrap(), 2);
        assert!(receiver.try_recv().is_err());
    }

    #[test]
    fn what_computes_for_long_runs_beside_the_tasks() {
        let io = Io::process().unwrap();
        let here = || std::thread::current().id();
        let (task, beside) = io.block_on(async {
            let task = io.clone();
            let both =
                io.spawn(async move { (here(), task.beside(async move { Ok(here()) }).await) });
            both.await.unwrap()
        });
        assert_ne!(task, beside.unwrap());
    }
}
