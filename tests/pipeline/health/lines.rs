//! Goal: each change of state is one line. Method: a subscriber that keeps the watchdog's lines of
//! the test's own thread, where a rig's tasks run.

use std::cell::RefCell;
use std::fmt::Write as _;

use differential_upsert::store::Operation;

use crate::health::rig::{Rig, STALL, Valve, part};

thread_local! {
    /// The watchdog's lines on this thread: a rig's tasks run on its test's.
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

pub struct Lines;

struct Fields(String);

impl tracing::field::Visit for Fields {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        if field.name() == "state" {
            write!(self.0, " {value:?}").unwrap();
        }
    }
}

impl tracing::Subscriber for Lines {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == "differential_upsert::health::watchdog"
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut fields = Fields(event.metadata().level().to_string());
        event.record(&mut fields);
        LINES.with_borrow_mut(|lines| lines.push(fields.0.replace('"', "")));
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn each_change_is_one_line() {
    let valve = Valve::hanging(|a| a.operation == Operation::CreateEntry);
    let mut rig = Rig::new(valve.clone());
    rig.settle();
    rig.live();
    rig.valve.set(true);
    rig.give(0, 1);
    rig.settle();
    for _ in 0..3 * STALL {
        rig.live();
    }
    rig.valve.set(false);
    for _ in 0..3 {
        rig.live();
    }
    rig.end();
    let expected = [
        "INFO hydrating",
        "INFO idle",
        "DEBUG running",
        "WARN stalled",
        "WARN idle",
        "INFO finished",
    ];
    assert_eq!(LINES.take(), expected);

    let mut rig = Rig::begun(Valve::panicking(|a| part(a, Operation::Put)));
    rig.valve.set(true);
    rig.give(1, 1);
    for _ in 0..3 {
        rig.live();
    }
    let lines = LINES.take();
    assert_eq!(lines.last().map(String::as_str), Some("ERROR failed"), "{lines:?}");
    assert_eq!(lines.iter().filter(|line| line.starts_with("ERROR")).count(), 1);
}
