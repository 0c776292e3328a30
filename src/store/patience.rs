//! Owns how long a store that does not answer is asked again: a budget of time for each operation,
//! the pauses in between, and the list of what has no answer now. It does not own which answers are
//! final; that is [`refusal`](super::refusal)'s, nor what may be
//! repeated; that is [`patient`](super::patient)'s.
//!
//! What is transient (`Unavailable`, `Indeterminate`) is tried again until the budget is spent,
//! however many attempts that takes: a hiccup and an outage of minutes are the same thing, and
//! nothing is decided by counting. Everything else ends at once.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use backon::Retryable;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::error::{Error, ErrorKind};
use crate::io::Io;

/// The bounds of a patience.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// How long one operation may go without an answer.
    pub(crate) outage_max: Duration,
    pub(crate) delay_min: Duration,
    pub(crate) delay_max: Duration,
}

/// What a store is asked with; clones share the list of what has no answer.
#[derive(Clone)]
pub(crate) struct Patience {
    io: Io,
    delay_min: Duration,
    delay_max: Duration,
    waiting: Arc<Mutex<Waiting>>,
}

/// The operations that wait for an answer, by the order in which they began.
#[derive(Debug)]
struct Waiting {
    outage_max: Duration,
    next: u64,
    operations: BTreeMap<u64, Operation>,
}

#[derive(Clone, Debug)]
struct Operation {
    what: &'static str,
    place: String,
    since: Instant,
    failures: u32,
    last: Option<String>,
}

/// An operation that has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    id: u64,
    /// For how long.
    pub(crate) lasts: Duration,
    /// How often it has failed; 0 if it hangs.
    pub(crate) failures: u32,
    says: String,
}

#[cfg(test)]
impl Trouble {
    /// One that lasts for so long.
    pub(crate) fn seen(lasts: Duration, failures: u32, says: &str) -> Trouble {
        Trouble { id: 0, lasts, failures, says: says.to_string() }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the store does not answer for {} s: {}", self.lasts.as_secs(), self.says)
    }
}

/// Whether an error may be gone at the next attempt.
fn is_transient(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Indeterminate)
}

impl Patience {
    pub(crate) fn new(io: Io, bounds: Bounds) -> Patience {
        let Bounds { outage_max, delay_min, delay_max } = bounds;
        let waiting = Waiting { outage_max, next: 0, operations: BTreeMap::new() };
        Patience { io, delay_min, delay_max, waiting: Arc::new(Mutex::new(waiting)) }
    }

    /// Gives the operations that begin from now on another budget.
    pub(crate) fn set_outage_max(&self, outage_max: Duration) {
        self.waiting.lock().outage_max = outage_max;
    }

    /// Begins an operation: `what` is done at `place`.
    pub(crate) fn begin(&self, what: &'static str, place: String) -> Attempts<'_> {
        let mut attempts = self.begin_quietly(what, place);
        self.enlist(&attempts.operation, &mut attempts.id);
        attempts
    }

    /// Shows an operation among those that wait, as it is now.
    fn enlist(&self, operation: &Operation, id: &mut Option<u64>) {
        let mut waiting = self.waiting.lock();
        let id = *id.get_or_insert_with(|| {
            waiting.next += 1;
            waiting.next
        });
        waiting.operations.insert(id, operation.clone());
    }

    /// Notes that an attempt has failed, and will be repeated.
    fn failed(&self, operation: &mut Operation, id: &mut Option<u64>, error: &Error) {
        operation.failures = operation.failures.saturating_add(1);
        operation.last = Some(error.what().to_string());
        self.enlist(operation, id);
    }

    /// Begins one that is made of others, which show if they hang: it shows only once it has failed.
    pub(crate) fn begin_quietly(&self, what: &'static str, place: String) -> Attempts<'_> {
        let since = Instant::now();
        let operation = Operation { what, place, since, failures: 0, last: None };
        let budget = Budget { since, outage_max: self.waiting.lock().outage_max };
        let (io, bounds) = (self.io.clone(), (self.delay_min, self.delay_max));
        let pauses = Pauses { io, bounds, budget, paused: 0, delays: None };
        Attempts { patience: self, operation, id: None, budget, pauses }
    }

    /// Tries until it is answered, or until that is not worth it any more.
    pub(super) async fn retry_transient<T, F: Future<Output = Result<T, Error>>>(
        &self,
        what: &'static str,
        place: String,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, Error> {
        let attempts = self.begin(what, place);
        let budget = attempts.budget;
        attempts.retry_transient(|| budget.answer(attempt())).await
    }

    /// Returns what has had no answer for longest; one that has failed goes before one that hangs.
    pub(crate) fn trouble(&self, now: Instant) -> Option<Trouble> {
        let waiting = self.waiting.lock();
        let worst = waiting.operations.iter().max_by_key(|(id, operation)| {
            (operation.failures > 0, std::cmp::Reverse(operation.since), std::cmp::Reverse(**id))
        });
        worst.map(|(id, operation)| {
            let Operation { what, place, since, failures, last } = operation;
            let says = match last {
                Some(last) => format!("{what} {place}, {failures} times tried: {last}"),
                None => format!("{what} {place} hangs"),
            };
            let lasts = now.saturating_duration_since(*since);
            Trouble { id: *id, lasts, failures: *failures, says }
        })
    }

    /// Whether a trouble is still one.
    pub(crate) fn is_in(&self, trouble: &Trouble) -> bool {
        self.waiting.lock().operations.contains_key(&trouble.id)
    }
}

impl fmt::Debug for Patience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Patience").field("waiting", &self.waiting.lock()).finish_non_exhaustive()
    }
}

/// How long one operation may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    since: Instant,
    outage_max: Duration,
}

impl Budget {
    /// Waits for one attempt, as long as there is budget left.
    pub(crate) async fn answer<T>(
        self,
        attempt: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let Some(over) = self.since.checked_add(self.outage_max) else {
            return attempt.await;
        };
        // A budget of nothing is one attempt, however long that takes.
        if self.outage_max.is_zero() {
            return attempt.await;
        }
        tokio::time::timeout_at(over, attempt).await.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Indeterminate, "no answer").hint("check the store and rerun"))
        })
    }

    /// Returns what is left, if anything is.
    fn left(self) -> Option<Duration> {
        let left = self.outage_max.checked_sub(self.since.elapsed());
        left.filter(|left| !left.is_zero())
    }
}

/// The pauses between attempts, as long as there is budget left.
struct Pauses {
    io: Io,
    bounds: (Duration, Duration),
    budget: Budget,
    paused: u32,
    /// Made at the first pause: most operations need none.
    delays: Option<Backoff>,
}

impl Iterator for Pauses {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        if self.paused >= 7 && crate::mutant::on("outage_by_count") {
            return None;
        }
        let left = self.budget.left()?;
        self.paused = self.paused.saturating_add(1);
        let (delay_min, delay_max) = self.bounds;
        let begin = || Backoff::new(delay_min, delay_max, self.io.token() as u64);
        Some(self.delays.get_or_insert_with(begin).next_delay().min(left))
    }
}

/// The attempts at one operation. Dropped, it waits for nothing any more.
pub(crate) struct Attempts<'a> {
    patience: &'a Patience,
    operation: Operation,
    /// Its number among those that wait.
    id: Option<u64>,
    pub(crate) budget: Budget,
    pauses: Pauses,
}

impl Attempts<'_> {
    /// Tries until it is answered, or until that is not worth it any more.
    ///
    /// # Errors
    ///
    /// The last error, if it is final or no budget is left.
    pub(crate) async fn retry_transient<T, F: Future<Output = Result<T, Error>>>(
        mut self,
        attempt: impl FnMut() -> F,
    ) -> Result<T, Error> {
        let pauses = std::iter::from_fn(|| self.pauses.next());
        let (patience, operation, id) = (self.patience, &mut self.operation, &mut self.id);
        let tried = attempt
            .retry(pauses)
            .sleep(tokio::time::sleep)
            .when(is_transient)
            .notify(|error, _| patience.failed(operation, id, error))
            .await;
        tried.map_err(|error| if is_transient(&error) { self.spent(error) } else { error })
    }

    /// Waits before the next attempt, of a caller that begins anew in between.
    ///
    /// # Errors
    ///
    /// The error itself if it is final, or no budget is left.
    pub(crate) async fn pause(&mut self, error: Error) -> Result<(), Error> {
        if !is_transient(&error) {
            return Err(error);
        }
        let Some(pause) = self.pauses.next() else { return Err(self.spent(error)) };
        self.patience.failed(&mut self.operation, &mut self.id, &error);
        tokio::time::sleep(pause).await;
        Ok(())
    }

    /// Says that it was tried for as long as it may be.
    fn spent(&self, error: Error) -> Error {
        let spent = self.operation.since.elapsed().as_secs();
        if spent == 0 {
            return error;
        }
        let what = format!("the store did not answer for {spent} s: {}", error.what());
        let place = error.place().unwrap_or(&self.operation.place).to_string();
        let hint = "mend the store and rerun; everything committed stays readable";
        Error::new(error.kind(), what).at(place).hint(hint).because(error)
    }
}

impl Drop for Attempts<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.patience.waiting.lock().operations.remove(&id);
        }
    }
}
