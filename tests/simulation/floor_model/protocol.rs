//! Owns the protocol as a transition system: what the store and the actors are, and every step that
//! one of them can make. It does not search.

use crate::floor_model::step::{Step, Then};

/// How many entries the log can have at most.
pub const ENTRIES: u8 = 4;

/// What is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Model {
    pub flaw: Flaw,
    /// How many entries the log can have.
    pub entries: u8,
    /// Whether states are merged that no actor can tell apart.
    pub merged: bool,
}

/// What is done wrong on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    None,
    /// A create that succeeds is believed without a look at the floor.
    CreateIsBelieved,
    /// What is read back is believed without a look at the floor.
    LookIsBelieved,
    /// A reader believes the entries it read without a look at the floor.
    ReaderIgnoresFloor,
    /// The collector deletes what its rollup covers and raises the floor later.
    DeletesFirst,
    /// The collector raises the floor before there is a rollup.
    RaisesFirst,
    /// An entry that cannot be seen is taken for one that never will be.
    AbsentIsLost,
    /// An append whose number was collected is taken for lost.
    CollectedIsLost,
    /// A reader below the floor waits for entries that are gone, and takes no rollup.
    ReaderWaits,
}

/// An entry, as far as anybody can ever tell it from another of the same number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Entry {
    /// There is none.
    #[default]
    Absent,
    /// Of the append that a writer has under way.
    Of(u8),
    /// Of an append that this writer no longer waits for, and the first that was created here.
    First(u8),
    /// Of an append that nobody waits for any more, and not the first that was created here.
    Ghost,
}

/// One number of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slot {
    /// What was created here first: the truth, which no actor sees.
    pub first: Entry,
    /// What is here.
    pub now: Entry,
    /// Whether each writer's create of its append under way may arrive, as often as it likes.
    pub sent: [bool; 2],
    /// Whether creates that each writer has given up may arrive, as often as they like.
    pub ghosts: [bool; 2],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    Rest,
    /// No clean answer: looks what is there.
    Look,
    /// Created cleanly or seen: reads the floor.
    Ours,
    Theirs,
    Nothing,
    /// Under the floor: reads on, then asks the table of writers.
    Collected,
}

#[derive(Clone, Copy, Debug)]
pub struct Writer {
    /// Its settled state is that after this entry; its append under way is the next.
    pub knows: u8,
    pub at: At,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    Entries,
    List,
    Get,
}

#[derive(Clone, Copy, Debug)]
pub struct Reader {
    /// Its settled state is that after this entry.
    pub knows: u8,
    /// The last entry it has read, or the rollup that it has seen listed.
    pub seen: u8,
    /// Whether that entry is not the first that was created there.
    pub wrong: bool,
    pub at: Reading,
}

#[derive(Clone, Copy, Debug)]
pub struct State {
    pub slots: [Slot; ENTRIES as usize],
    pub floor: u8,
    /// The newest rollup; older ones may be there or not.
    pub rollup: u8,
    pub writers: [Writer; 2],
    pub reader: Reader,
}

/// What a step leads to: a state, or what is wrong with it.
pub type Next = Result<State, &'static str>;

impl State {
    pub fn new() -> State {
        let writer = Writer { knows: 0, at: At::Rest };
        let reader = Reader { knows: 0, seen: 0, wrong: false, at: Reading::Entries };
        State {
            slots: [Slot::default(); ENTRIES as usize],
            floor: 0,
            rollup: 0,
            writers: [writer; 2],
            reader,
        }
    }

    fn slot(&mut self, entry: u8) -> &mut Slot {
        &mut self.slots[usize::from(entry) - 1]
    }

    /// The last entry that was ever created.
    pub fn head(&self) -> u8 {
        self.slots.iter().take_while(|slot| slot.first != Entry::Absent).count() as u8
    }

    /// Whether no append is under way, and everybody knows the whole log.
    pub fn is_settled(&self) -> bool {
        let head = self.head();
        let settled = |writer: &Writer| writer.at == At::Rest && writer.knows == head;
        let Reader { knows, seen, at, .. } = self.reader;
        let reader = at == Reading::Entries && knows == head && seen == head;
        self.writers.iter().all(settled) && reader
    }

    /// Tells every step that can be made, and what it leads to.
    pub fn steps(&self, model: Model, tell: &mut impl FnMut(Step, Next)) {
        let flaw = model.flaw;
        for writer in 0..2 {
            self.writer_steps(writer, model, tell);
        }
        self.store_steps(tell);
        self.reader_steps(flaw, tell);
        self.collector_steps(flaw, tell);
    }

    fn writer_steps(&self, writer: u8, model: Model, tell: &mut impl FnMut(Step, Next)) {
        let (w, flaw) = (usize::from(writer), model.flaw);
        let Writer { knows, at } = self.writers[w];
        let (entry, ours, head) = (knows + 1, Entry::Of(writer), self.head());
        if at == At::Rest {
            for to in knows + 1..=head {
                let mut next = *self;
                next.writers[w].knows = to;
                tell(Step::Refreshes { writer, to, then: Then::Nothing }, Ok(next));
            }
        }
        if entry > model.entries {
            return;
        }
        let slot = self.slots[usize::from(entry) - 1];
        // The first try, and every later one: any answer but a verdict leads to the next.
        if at != At::Collected {
            let mut next = *self;
            next.slot(entry).sent[w] = true;
            next.writers[w].at = At::Look;
            tell(Step::Create { writer, entry, clean: false }, Ok(next));
            if slot.now == Entry::Absent {
                next.land(entry, ours);
                next.writers[w].at = At::Ours;
                let next = match flaw {
                    Flaw::CreateIsBelieved => next.verdict(writer, true, entry),
                    _ => Ok(next),
                };
                tell(Step::Create { writer, entry, clean: true }, next);
            }
        }
        if at != At::Rest {
            let mut next = *self;
            next.leave(writer, knows);
            tell(Step::GivesUp { writer, entry }, Ok(next));
        }
        let mut next = *self;
        match at {
            At::Rest => {}
            At::Look => {
                let found = slot.now;
                next.writers[w].at = match found {
                    Entry::Absent => At::Nothing,
                    found if found == ours => At::Ours,
                    _ => At::Theirs,
                };
                let next = match flaw {
                    Flaw::LookIsBelieved if found != Entry::Absent => {
                        self.verdict(writer, found == ours, knows)
                    }
                    _ => Ok(next),
                };
                tell(Step::Look { writer, entry, found }, next);
            }
            At::Ours | At::Theirs | At::Nothing if self.floor >= entry => {
                next.writers[w].at = At::Collected;
                tell(
                    Step::ReadsFloor { writer, floor: self.floor, then: Then::Asks },
                    match flaw {
                        Flaw::CollectedIsLost => self.verdict(writer, false, knows),
                        _ => Ok(next),
                    },
                );
            }
            At::Ours | At::Theirs => {
                let won = at == At::Ours;
                let then = if won { Then::Won } else { Then::Lost };
                let next = self.verdict(writer, won, if won { entry } else { knows });
                tell(Step::ReadsFloor { writer, floor: self.floor, then }, next);
            }
            At::Nothing if flaw == Flaw::AbsentIsLost => {
                let next = self.verdict(writer, false, knows);
                tell(Step::ReadsFloor { writer, floor: self.floor, then: Then::Lost }, next);
            }
            // It has learnt nothing and tries again, as above.
            At::Nothing => {}
            At::Collected => {
                for to in self.floor.max(entry)..=head {
                    let won = self.last_of(writer, to) == (entry, ours);
                    let then = if won { Then::Won } else { Then::Lost };
                    tell(Step::Refreshes { writer, to, then }, self.verdict(writer, won, to));
                }
            }
        }
    }

    /// The last entry of a writer in the state after an entry, as the table of writers has it.
    fn last_of(&self, writer: u8, after: u8) -> (u8, Entry) {
        let mut log = (1..=after).zip(self.slots.iter().map(|slot| slot.first));
        let of_writer = |entry| entry == Entry::Of(writer) || entry == Entry::First(writer);
        log.rfind(|(_, first)| of_writer(*first)).unwrap_or_default()
    }

    /// What a writer says of its append must be so, for good.
    fn verdict(&self, writer: u8, won: bool, knows: u8) -> Next {
        let mut next = *self;
        let entry = self.writers[usize::from(writer)].knows + 1;
        let first = self.slots[usize::from(entry) - 1].first;
        match (won, first) {
            (true, first) if first != Entry::Of(writer) => {
                return Err("an append is reported won, and another entry has its number");
            }
            (false, Entry::Absent) => {
                return Err("an append is reported lost, and may still land");
            }
            (false, first) if first == Entry::Of(writer) => {
                return Err("an append is reported lost, and is in the log");
            }
            _ => {}
        }
        next.leave(writer, knows);
        Ok(next)
    }

    /// Nobody waits for a writer's append any more; its creates may still arrive.
    fn leave(&mut self, writer: u8, knows: u8) {
        let w = usize::from(writer);
        let ours = Entry::Of(writer);
        let slot = self.slot(self.writers[w].knows + 1);
        let first = slot.first == ours;
        slot.ghosts[w] |= slot.sent[w] && !first;
        slot.sent[w] = false;
        if slot.now == ours {
            slot.now = if first { Entry::First(writer) } else { Entry::Ghost };
        }
        if first {
            slot.first = Entry::First(writer);
        }
        self.writers[w] = Writer { knows, at: At::Rest };
    }

    /// An entry is created where none is.
    fn land(&mut self, entry: u8, of: Entry) {
        let slot = self.slot(entry);
        slot.now = of;
        if slot.first == Entry::Absent {
            slot.first = of;
        }
    }

    /// Requests arrive: late, or again.
    fn store_steps(&self, tell: &mut impl FnMut(Step, Next)) {
        for (slot, entry) in self.slots.iter().zip(1..) {
            if slot.now != Entry::Absent {
                continue;
            }
            let mut lands = |of, as_what, ghosts| {
                let mut next = *self;
                next.land(entry, as_what);
                next.slot(entry).ghosts = ghosts;
                tell(Step::Lands { entry, of }, Ok(next));
            };
            if let Entry::First(_) = slot.first {
                lands(slot.first, slot.first, slot.ghosts);
            }
            for writer in 0..2 {
                let w = usize::from(writer);
                if slot.sent[w] {
                    lands(Entry::Of(writer), Entry::Of(writer), slot.ghosts);
                }
                if !slot.ghosts[w] {
                    continue;
                }
                if slot.first != Entry::Absent {
                    lands(Entry::Ghost, Entry::Ghost, slot.ghosts);
                    continue;
                }
                // It is one of any number: it may have been the last, or not.
                let mut fewer = slot.ghosts;
                fewer[w] = false;
                for ghosts in [slot.ghosts, fewer] {
                    lands(Entry::Ghost, Entry::First(writer), ghosts);
                }
            }
        }
    }

    fn reader_steps(&self, flaw: Flaw, tell: &mut impl FnMut(Step, Next)) {
        let Reader { knows, seen, wrong, at } = self.reader;
        let mut next = *self;
        match at {
            Reading::Entries => {
                // What follows a wrong entry does not name it, so nothing is read past it.
                if seen < ENTRIES && !wrong {
                    let slot = self.slots[usize::from(seen)];
                    if slot.now != Entry::Absent {
                        next.reader.seen = seen + 1;
                        next.reader.wrong = slot.now != slot.first;
                        tell(Step::Reads { entry: seen + 1 }, Ok(next));
                    }
                }
                let mut next = *self;
                let step = Step::ReaderReadsFloor { floor: self.floor };
                if self.floor > knows && flaw == Flaw::ReaderWaits {
                    // It throws away what it read and reads on from where it was.
                    next.reader = Reader { seen: knows, wrong: false, ..self.reader };
                    if seen > knows {
                        tell(step, Ok(next));
                    }
                } else if self.floor > knows && flaw != Flaw::ReaderIgnoresFloor {
                    next.reader = Reader { seen: knows, wrong: false, at: Reading::List, knows };
                    tell(step, Ok(next));
                } else if wrong {
                    tell(step, Err("the reader believes an entry that was created again"));
                } else if seen > knows {
                    next.reader.knows = seen;
                    tell(step, Ok(next));
                }
            }
            Reading::List => {
                next.reader.at = Reading::Get;
                next.reader.seen = self.rollup;
                let next = match self.rollup >= self.floor {
                    true => Ok(next),
                    false => Err("the reader finds no rollup at or above the floor"),
                };
                tell(Step::Lists { rollup: self.rollup }, next);
            }
            Reading::Get => {
                next.reader = Reader { knows: seen, seen, wrong: false, at: Reading::Entries };
                tell(Step::Gets { rollup: seen, there: true }, Ok(next));
                if seen < self.rollup {
                    next.reader = Reader { knows, seen: knows, wrong: false, at: Reading::List };
                    tell(Step::Gets { rollup: seen, there: false }, Ok(next));
                }
            }
        }
    }

    fn collector_steps(&self, flaw: Flaw, tell: &mut impl FnMut(Step, Next)) {
        let head = self.head();
        for at in self.rollup + 1..=head {
            tell(Step::Rollup { at }, Ok(State { rollup: at, ..*self }));
        }
        let may_rise = if flaw == Flaw::RaisesFirst { head } else { self.rollup };
        for to in self.floor + 1..=may_rise {
            tell(Step::Raises { to }, Ok(State { floor: to, ..*self }));
        }
        let may_go = if flaw == Flaw::DeletesFirst { self.rollup } else { self.floor };
        for entry in 1..=may_go {
            let mut next = *self;
            if next.slot(entry).now != Entry::Absent {
                next.slot(entry).now = Entry::Absent;
                tell(Step::Deletes { entry }, Ok(next));
            }
        }
    }
}
