//! Owns the search: states as numbers, each once, breadth first, and the way back to the start. It
//! does not know what a step means.

use std::cmp::Ordering;

use crate::floor_model::protocol::{
    At, ENTRIES, Entry, Flaw, Model, Reader, Reading, Slot, State, Writer,
};
use crate::floor_model::step::Step;

/// A state as one number, the same for all states between which no actor can tell.
pub type Code = u64;

/// Forgets what no actor can see any more, and which writer is which.
pub fn code(state: &State, model: Model) -> Code {
    if !model.merged {
        return plain(state);
    }
    let mut state = *state;
    let reader = &mut state.reader;
    let overtaken = state.floor > reader.knows
        && !matches!(model.flaw, Flaw::ReaderIgnoresFloor | Flaw::ReaderWaits);
    if overtaken || reader.at != Reading::Entries {
        // Whatever it reads, it will find the floor above its start and throw that away.
        if reader.at == Reading::Entries {
            reader.at = Reading::List;
        }
        if reader.at == Reading::List {
            (reader.seen, reader.wrong) = (state.rollup, false);
        }
        // It goes on from a rollup, so that where it started does not count.
        reader.knows = reader.seen;
    }
    let knows = state.writers.map(|writer| writer.knows);
    // Nobody looks at an entry again that all have passed.
    let passed = knows[0].min(knows[1]).min(state.reader.knows);
    for (slot, entry) in state.slots.iter_mut().zip(1..) {
        if entry <= passed {
            *slot = Slot { first: Entry::First(NOBODY), ..Slot::default() };
            continue;
        }
        // The table only ever tells a writer about entries above what it knows.
        if let Entry::First(writer) = slot.first
            && writer != NOBODY
            && entry <= knows[usize::from(writer)]
        {
            if slot.now == slot.first {
                slot.now = Entry::First(NOBODY);
            }
            slot.first = Entry::First(NOBODY);
        }
        // Nor does it matter whose a ghost is that can no longer be first.
        if slot.first != Entry::Absent {
            slot.ghosts = [slot.ghosts[0] || slot.ghosts[1], false];
        }
    }
    let rank = |writer: &Writer| writer.knows << 3 | writer.at as u8;
    match rank(&state.writers[0]).cmp(&rank(&state.writers[1])) {
        Ordering::Less => plain(&state),
        Ordering::Greater => plain(&swapped(&state)),
        Ordering::Equal => plain(&state).min(plain(&swapped(&state))),
    }
}

/// The same with the writers' names exchanged: they run the same protocol.
fn swapped(state: &State) -> State {
    let mut state = *state;
    let swap = |entry| match entry {
        Entry::Of(writer) => Entry::Of(1 - writer),
        Entry::First(writer) if writer != NOBODY => Entry::First(1 - writer),
        other => other,
    };
    for slot in &mut state.slots {
        slot.sent.swap(0, 1);
        if slot.first == Entry::Absent {
            slot.ghosts.swap(0, 1);
        }
        (slot.first, slot.now) = (swap(slot.first), swap(slot.now));
    }
    state.writers.swap(0, 1);
    state
}

/// The writer of an entry whose writer does not matter any more.
const NOBODY: u8 = 2;
const ENTRY: [Entry; 7] = [
    Entry::Absent,
    Entry::Of(0),
    Entry::Of(1),
    Entry::First(0),
    Entry::First(1),
    Entry::First(NOBODY),
    Entry::Ghost,
];
const AT: [At; 6] = [At::Rest, At::Look, At::Ours, At::Theirs, At::Nothing, At::Collected];
const READING: [Reading; 3] = [Reading::Entries, Reading::List, Reading::Get];
/// How many values the number of an entry has, with 0 for none.
const NUMBERS: u8 = ENTRIES + 1;

fn entry_code(entry: Entry) -> u8 {
    match entry {
        Entry::Absent => 0,
        Entry::Of(writer) => 1 + writer,
        Entry::First(writer) => 3 + writer,
        Entry::Ghost => 6,
    }
}

fn two(bits: [bool; 2]) -> u8 {
    u8::from(bits[0]) + 2 * u8::from(bits[1])
}

/// Puts the parts of a state one after another, as the digits of a number.
fn plain(state: &State) -> Code {
    let mut code = 0;
    let mut put = |values: u8, value: u8| code = code * u64::from(values) + u64::from(value);
    for slot in &state.slots {
        put(7, entry_code(slot.first));
        put(7, entry_code(slot.now));
        put(4, two(slot.sent));
        put(4, two(slot.ghosts));
    }
    put(NUMBERS, state.floor);
    put(NUMBERS, state.rollup);
    for writer in &state.writers {
        put(NUMBERS, writer.knows);
        put(6, writer.at as u8);
    }
    put(NUMBERS, state.reader.knows);
    put(NUMBERS, state.reader.seen);
    put(2, state.reader.wrong.into());
    put(3, state.reader.at as u8);
    code
}

fn decode(mut code: Code) -> State {
    // What was put last comes first.
    let mut take = |values: u8| {
        let value = code % u64::from(values);
        code /= u64::from(values);
        value as u8
    };
    let bits = |two: u8| [two & 1 == 1, two & 2 == 2];
    let at = READING[usize::from(take(3))];
    let wrong = take(2) == 1;
    let (seen, knows) = (take(NUMBERS), take(NUMBERS));
    let mut state = State::new();
    state.reader = Reader { knows, seen, wrong, at };
    for writer in state.writers.iter_mut().rev() {
        let at = AT[usize::from(take(6))];
        *writer = Writer { knows: take(NUMBERS), at };
    }
    state.rollup = take(NUMBERS);
    state.floor = take(NUMBERS);
    for slot in state.slots.iter_mut().rev() {
        let (ghosts, sent) = (bits(take(4)), bits(take(4)));
        let now = ENTRY[usize::from(take(7))];
        *slot = Slot { first: ENTRY[usize::from(take(7))], now, sent, ghosts };
    }
    state
}

/// States by number, each with where it was first reached from and where it goes when all is calm.
pub struct Found {
    pub codes: Vec<Code>,
    parents: Vec<u32>,
    calm: Vec<u32>,
    /// Finds a state by its code: open addressing.
    table: Vec<u32>,
}

const FREE: u32 = u32::MAX;

impl Found {
    fn place(&self, code: Code) -> usize {
        let mask = self.table.len() - 1;
        let mut at = (code.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize & mask;
        while self.table[at] != FREE && self.codes[self.table[at] as usize] != code {
            at = (at + 1) & mask;
        }
        at
    }

    fn add(&mut self, code: Code, parent: u32) -> u32 {
        let at = self.place(code);
        if self.table[at] != FREE {
            return self.table[at];
        }
        let index = self.codes.len() as u32;
        self.table[at] = index;
        self.codes.push(code);
        self.parents.push(parent);
        if self.codes.len() * 2 > self.table.len() {
            self.table = vec![FREE; self.table.len() * 2];
            for index in 0..self.codes.len() {
                let at = self.place(self.codes[index]);
                self.table[at] = index as u32;
            }
        }
        index
    }

    /// Tells in words how a state was reached, and what went wrong there.
    fn trace(&self, index: u32, model: Model, wrong: &str) -> String {
        let mut path = vec![];
        let mut at = index;
        while at != 0 {
            path.push(self.codes[at as usize]);
            at = self.parents[at as usize];
        }
        // Along one run, in which the writers keep their names.
        let (mut state, mut text, mut number) = (State::new(), String::new(), 0);
        let mut say = |step: Step| {
            number += 1;
            text += &format!("  {number:2}. {step}\n");
        };
        for target in path.into_iter().rev() {
            let mut taken = None;
            state.steps(model, &mut |step, next| {
                let next = next.ok().filter(|next| code(next, model) == target);
                taken = taken.or(next.map(|next| (step, next)));
            });
            let (step, next) = taken.expect("it was reached by a step");
            say(step);
            state = next;
        }
        let mut last = None;
        state.steps(model, &mut |step, next| {
            last = last.or(next.is_err_and(|what| what == wrong).then_some(step));
        });
        if let Some(step) = last {
            say(step);
        }
        text + &format!("  => {wrong}\n")
    }

    /// Returns the most steps that any state needs until all is settled, once all is calm; or the
    /// way to a state from which that never is.
    pub fn settles(&self, model: Model) -> Result<u32, String> {
        let mut left = vec![FREE; self.codes.len()];
        let mut way = Vec::new();
        for start in 0..self.codes.len() as u32 {
            let mut at = start;
            // No way is longer than a few dozen steps, unless it goes round for ever.
            while left[at as usize] == FREE && self.calm[at as usize] != FREE && way.len() < 1_000 {
                way.push(at);
                at = self.calm[at as usize];
            }
            if left[at as usize] == FREE {
                if !decode(self.codes[at as usize]).is_settled() {
                    return Err(self.trace(start, model, "from here nothing settles any more"));
                }
                left[at as usize] = 0;
            }
            let mut steps = left[at as usize];
            while let Some(before) = way.pop() {
                steps += 1;
                left[before as usize] = steps;
            }
        }
        Ok(left.into_iter().max().unwrap_or(0))
    }
}

/// Visits every state that can be reached; or returns the shortest way to what is wrong.
pub fn search(model: Model) -> Result<Found, String> {
    let (codes, parents, calm) = (Vec::new(), Vec::new(), Vec::new());
    let mut found = Found { codes, parents, calm, table: vec![FREE; 1 << 12] };
    let mut index = found.add(code(&State::new(), model), FREE);
    while let Some(code_here) = found.codes.get(index as usize) {
        let state = decode(*code_here);
        let (mut wrong, mut calm) = (None, None);
        state.steps(model, &mut |step, next| match next {
            Ok(next) => {
                let reached = found.add(code(&next, model), index);
                let turn = step.turn(&state).map(|turn| (turn, reached));
                calm = turn.into_iter().chain(calm).min();
            }
            Err(what) => wrong = wrong.or(Some(what)),
        });
        if let Some(what) = wrong {
            return Err(found.trace(index, model, what));
        }
        found.calm.push(calm.map_or(FREE, |(_, reached)| reached));
        index += 1;
    }
    Ok(found)
}
