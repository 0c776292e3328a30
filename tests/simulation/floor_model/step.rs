//! Owns the names of the steps: what each is in words, and when it comes if all is calm. What a step
//! does is [`protocol`](crate::floor_model::protocol)'s.

use std::fmt;

use crate::floor_model::protocol::{At, Entry, State};

/// One atomic operation on the store by one actor, and what it hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Create { writer: u8, entry: u8, clean: bool },
    Look { writer: u8, entry: u8, found: Entry },
    ReadsFloor { writer: u8, floor: u8, then: Then },
    Refreshes { writer: u8, to: u8, then: Then },
    GivesUp { writer: u8, entry: u8 },
    Lands { entry: u8, of: Entry },
    Reads { entry: u8 },
    ReaderReadsFloor { floor: u8 },
    Lists { rollup: u8 },
    Gets { rollup: u8, there: bool },
    Rollup { at: u8 },
    Raises { to: u8 },
    Deletes { entry: u8 },
}

/// What a writer then says of its append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    Won,
    Lost,
    /// Its number was collected: the table must say.
    Asks,
    /// It has none under way.
    Nothing,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |writer: u8| ["writer A", "writer B"][usize::from(writer)];
        let then = |then| match then {
            Then::Won => ": its append has WON",
            Then::Lost => ": its append has LOST",
            Then::Asks => ": its number was collected",
            Then::Nothing => "",
        };
        match *self {
            Step::Create { writer, entry, clean: true } => {
                write!(f, "{} creates entry {entry} and hears that it did", name(writer))
            }
            Step::Create { writer, entry, clean: false } => {
                write!(f, "{} sends a create of entry {entry} and hears nothing", name(writer))
            }
            Step::Look { writer, entry, found } => {
                let what = match found {
                    Entry::Absent => "nothing",
                    Entry::Of(by) if by == writer => "its own",
                    _ => "another's",
                };
                write!(f, "{} looks at entry {entry}: {what}", name(writer))
            }
            Step::ReadsFloor { writer, floor, then: t } => {
                write!(f, "{} reads floor {floor}{}", name(writer), then(t))
            }
            Step::Refreshes { writer, to, then: t } => {
                write!(f, "{} reads the log up to entry {to}{}", name(writer), then(t))
            }
            Step::GivesUp { writer, entry } => {
                write!(f, "{} gives up on entry {entry}, as indeterminate", name(writer))
            }
            Step::Lands { entry, of: Entry::Of(writer) } => {
                write!(f, "a create of entry {entry} by {} lands", name(writer))
            }
            Step::Lands { entry, .. } => {
                write!(f, "a create of entry {entry} that nobody waits for lands")
            }
            Step::Reads { entry } => write!(f, "the reader reads entry {entry}"),
            Step::ReaderReadsFloor { floor } => write!(f, "the reader reads floor {floor}"),
            Step::Lists { rollup } => write!(f, "the reader sees rollup {rollup} listed"),
            Step::Gets { rollup, there: true } => write!(f, "the reader reads rollup {rollup}"),
            Step::Gets { rollup, .. } => write!(f, "the reader finds rollup {rollup} gone"),
            Step::Rollup { at } => write!(f, "the collector writes rollup {at}"),
            Step::Raises { to } => write!(f, "the collector raises the floor to {to}"),
            Step::Deletes { entry } => write!(f, "the collector deletes entry {entry}"),
        }
    }
}

impl Step {
    /// Where a step comes if the store answers, nothing is late, nobody gives up or starts anything
    /// new, and everybody gets a turn: the least first. `None` if it does not come then.
    pub fn turn(self, from: &State) -> Option<u8> {
        match self {
            Step::Look { .. } => Some(0),
            Step::ReadsFloor { .. } => Some(1),
            Step::Create { writer, .. } if from.writers[usize::from(writer)].at == At::Rest => None,
            Step::Create { clean, .. } => Some(if clean { 2 } else { 3 }),
            Step::Refreshes { to, .. } => (to == from.head()).then_some(4),
            Step::Reads { .. } => Some(5),
            Step::ReaderReadsFloor { .. } => Some(6),
            Step::Lists { .. } => Some(7),
            Step::Gets { there, .. } => there.then_some(8),
            Step::GivesUp { .. } | Step::Lands { .. } => None,
            Step::Rollup { .. } | Step::Raises { .. } | Step::Deletes { .. } => None,
        }
    }
}
