//! Owns the typed events that operators write to timely's own logger: what a stream of commands, a drain
//! and an append did, as it happens. It does not own totals, which are counters
//! ([`UpsertStats`](crate::upsert::UpsertStats), [`Totals`](crate::Totals)), nor what a log is used for.
//!
//! A logger is registered with a worker under [`NAME`], before the dataflow is built: an operator looks
//! for it once, when it is made. Where there is none, an event costs one test of an `Option` a message, a
//! piece of a drain, or an append; nothing is counted or formatted for it.
//!
//! # Examples
//!
//! ```
//! use std::cell::RefCell;
//! use std::rc::Rc;
//!
//! use differential_upsert::logging::{self, AppendOutcome, UpsertEvent, UpsertEventBuilder};
//! use differential_upsert::{Command, PipelineConfig, Shard, UpsertInto};
//! use timely::dataflow::operators::Input;
//!
//! let shard = Shard::<String, u64>::open("mem:")?;
//! let (placed, emitted, won) = timely::execute_directly(move |worker| {
//!     let seen = Rc::new(RefCell::new(Vec::new()));
//!     let into = Rc::clone(&seen);
//!     let mut register = worker.log_register().expect("a worker with a clock");
//!     register.insert::<UpsertEventBuilder, _>(logging::NAME, move |_, events| {
//!         into.borrow_mut().extend(events.take().into_iter().flatten().map(|(_, event)| event));
//!     });
//!     drop(register);
//!
//!     let (mut feed, _token) = worker.dataflow(|scope| {
//!         let (input, commands) = scope.new_input();
//!         (input, commands.upsert_into(&shard, PipelineConfig::default()).token)
//!     });
//!     feed.send((Command::put("apples".to_string(), 3, 0), 0));
//!     feed.send((Command::put("apples".to_string(), 4, 1), 0));
//!     feed.send((Command::put("pears".to_string(), 1, 0), 1));
//!     feed.close();
//!     while worker.has_dataflows() {
//!         worker.step_or_park(None);
//!     }
//!     worker.log_register().expect("a worker with a clock").flush();
//!
//!     let (mut placed, mut emitted, mut won) = (0, 0, Vec::new());
//!     for event in &*seen.borrow() {
//!         match event {
//!             UpsertEvent::Placed(event) => placed += event.below + event.equal + event.above,
//!             UpsertEvent::Drain(event) => emitted += event.emitted,
//!             UpsertEvent::Append(event) if event.outcome == Some(AppendOutcome::Won) => {
//!                 won.push((event.lower, event.upper));
//!             }
//!             _ => {}
//!         }
//!     }
//!     (placed, emitted, won)
//! });
//! assert_eq!(placed, 3);
//! assert_eq!(emitted, 2, "apples once, with the greater order, and pears");
//! assert_eq!(won.first().map(|(lower, _)| *lower), Some(0));
//! assert_eq!(won.last().map(|(_, upper)| *upper), Some(2));
//! assert!(won.windows(2).all(|pair| pair[0].1 == pair[1].0), "one after the other: {won:?}");
//! # Ok::<(), differential_upsert::Error>(())
//! ```

use std::any::Any;
use std::io::Write;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::operators::capture::EventWriter;
use timely::logging::BatchLogger;
use timely::logging_core::TypedLogger;
use timely::worker::Worker;

/// The name under which a logger is registered.
pub const NAME: &str = "differential-upsert";

/// Builds the containers in which a logger gets its events: vectors of a time since the worker began,
/// and an event.
pub type UpsertEventBuilder = CapacityContainerBuilder<Vec<(Duration, UpsertEvent)>>;

/// A logger of these events.
pub type UpsertLogger = TypedLogger<UpsertEventBuilder, UpsertEvent>;

/// Writes the events of a worker, as timely's own are written: read them with an `EventReader`. Call it
/// before the dataflow is built.
///
/// Returns the logger that was registered before, as [`Registry::insert`] does; `None` also where the
/// worker has no clock and so no loggers.
///
/// [`Registry::insert`]: timely::logging_core::Registry::insert
pub fn enable<W: Write + 'static>(worker: &mut Worker, writer: W) -> Option<Box<dyn Any>> {
    let mut logger = BatchLogger::new(EventWriter::new(writer));
    let publish = move |time: &_, events: &mut Option<_>| logger.publish_batch(time, events);
    worker.log_register()?.insert::<UpsertEventBuilder, _>(NAME, publish)
}

/// Returns the logger that is registered with a worker.
pub(crate) fn logger(worker: &Worker) -> Option<UpsertLogger> {
    worker.logger_for::<UpsertEventBuilder>(NAME).map(Into::into)
}

/// What an operator of a pipeline did.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub enum UpsertEvent {
    /// A message of commands came in.
    Placed(PlacedEvent),
    /// A piece of a time was drained.
    Drain(DrainEvent),
    /// An append began, or was settled.
    Append(AppendEvent),
}

/// Commands of one message, by where their times stood when they came
/// ([`Placement`](crate::upsert::Placement)). Resets, which come to every worker, are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PlacedEvent {
    /// The upsert operator, by timely's global identifier.
    pub operator: usize,
    /// Dropped: their time is persisted.
    pub below: u64,
    /// Stashed, and may be drained now.
    pub equal: u64,
    /// Stashed, to wait.
    pub above: u64,
}

/// A piece of a drain: one wake-up's share of a time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DrainEvent {
    /// The upsert operator, by timely's global identifier.
    pub operator: usize,
    /// Commands that changed a key, and were emitted.
    pub emitted: u64,
    /// Commands that lost to a greater order in the same time, or that a later patch of it has changed.
    pub superseded: u64,
    /// Rewrites of a live value, patches that change nothing, and deletes of absent keys.
    pub unchanged: u64,
    /// Whether the time is drained.
    pub done: bool,
}

/// The begin or the end of an append of `[lower, upper)`, on worker 0. Each begin has one end, and no
/// other append begins before it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AppendEvent {
    /// The appending operator, by timely's global identifier.
    pub operator: usize,
    /// The shard's upper before it.
    pub lower: u64,
    /// The shard's upper after it.
    pub upper: u64,
    /// `None` for the begin.
    pub outcome: Option<AppendOutcome>,
}

/// What became of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub enum AppendOutcome {
    /// This append took the shard to its upper, all of it or what another writer had left.
    Won,
    /// Another writer took the shard there.
    Lost,
    /// A stop came first: it is in the log or not.
    Unknown,
    /// It failed; the pipeline's errors say why.
    Failed,
}

impl From<PlacedEvent> for UpsertEvent {
    fn from(event: PlacedEvent) -> Self {
        UpsertEvent::Placed(event)
    }
}

impl From<DrainEvent> for UpsertEvent {
    fn from(event: DrainEvent) -> Self {
        UpsertEvent::Drain(event)
    }
}

impl From<AppendEvent> for UpsertEvent {
    fn from(event: AppendEvent) -> Self {
        UpsertEvent::Append(event)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::io;
    use std::rc::Rc;

    use timely::dataflow::operators::capture::EventReader;
    use timely::dataflow::operators::capture::event::{Event, EventIterator};

    use super::*;

    #[derive(Clone, Default)]
    struct Bytes(Rc<RefCell<Vec<u8>>>);

    impl Write for Bytes {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.borrow_mut().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let placed = PlacedEvent { operator: 1, below: 2, equal: 3, above: 4 };
        let append = AppendEvent { operator: 5, lower: 6, upper: 7, outcome: None };
        let events = [UpsertEvent::from(placed), UpsertEvent::from(append)];
        let written = events.clone();
        let bytes = timely::execute_directly(move |worker| {
            let bytes = Bytes::default();
            assert!(logger(worker).is_none(), "nothing is registered");
            assert!(enable(worker, bytes.clone()).is_none());
            let log = logger(worker).expect("it was registered");
            written.into_iter().for_each(|event| log.log(event));
            log.flush();
            bytes.0.take()
        });
        let mut reader = EventReader::<Duration, Vec<(Duration, UpsertEvent)>, _>::new(&bytes[..]);
        let mut read = Vec::new();
        while let Some(event) = reader.next() {
            if let Event::Messages(_, events) = event.into_owned() {
                read.extend(events.into_iter().map(|(_, event)| event));
            }
        }
        assert_eq!(read, events);
    }
}
