//! Owns runs of stashed commands outside memory: how they are written and read back, in order. It does not own
//! when to spill, nor where the pages are.
//!
//! A run holds any number of times, in order; within a time first its resets, then commands by hash and
//! key. It is read once, from its start, and gives its pages back as it is read, so space follows what is left of it.
//!
//! ```text
//! record   length of the row, u64   hash, u64   length of the time, u32   kind, u8   time   row
//! ```

use std::collections::VecDeque;
use std::rc::Rc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::pending::Pending;
use super::spill::{PAGE, Page, SharedSpill, SpillError};

const HEADER: usize = 21;
const RESET: u8 = 0;
const COMMAND: u8 = 1;

/// Commands, and resets, in scratch space.
#[derive(Debug)]
pub struct Run<T> {
    spill: SharedSpill,
    pages: VecDeque<(Page, usize)>,
    /// What is read of the first pages and not taken yet, from `at` on.
    block: Vec<u8>,
    at: usize,
    /// The next record; none at the end.
    head: Option<Head<T>>,
    /// The greatest time.
    last: T,
    /// How many commands are left.
    commands: u64,
}

/// What is known of the next record without its row.
#[derive(Clone, Debug)]
struct Head<T> {
    time: T,
    hash: u64,
    kind: u8,
    /// The bytes before the row.
    before: usize,
    row_length: usize,
}

/// What a record is.
pub enum Record<K, V, O> {
    /// A reset of its time: of a collection, or of all keys, and its order.
    Reset(Option<String>, O),
    /// A command.
    Command(Pending<K, V, O>),
}

/// Writes a run: memory for a page, and for the greatest row.
#[derive(Debug)]
pub struct RunWriter<T> {
    spill: SharedSpill,
    pages: VecDeque<(Page, usize)>,
    block: Vec<u8>,
    record: Vec<u8>,
    first: Option<Head<T>>,
    last: Option<T>,
    commands: u64,
}

fn coded<X>(result: Result<X, postcard::Error>) -> Result<X, SpillError> {
    result.map_err(|e| SpillError(format!("a spilled command does not come back: {e}")))
}

impl<T: Clone + Serialize> RunWriter<T> {
    /// Begins a run.
    pub fn new(spill: &SharedSpill) -> Self {
        RunWriter {
            spill: Rc::clone(spill),
            pages: VecDeque::new(),
            block: Vec::with_capacity(PAGE),
            record: Vec::new(),
            first: None,
            last: None,
            commands: 0,
        }
    }

    /// Appends a reset, before the commands of its time. Returns the bytes written.
    ///
    /// # Errors
    ///
    /// What the spill reports.
    pub fn reset(
        &mut self,
        time: &T,
        collection: Option<&String>,
        order: &impl Serialize,
    ) -> Result<usize, SpillError> {
        self.write(time, 0, RESET, &(collection, order))
    }

    /// Appends a command, not before the one written last. Returns the bytes written.
    ///
    /// # Errors
    ///
    /// What the spill reports.
    pub fn command<K: Serialize, V: Serialize, O: Serialize>(
        &mut self,
        time: &T,
        command: &Pending<K, V, O>,
    ) -> Result<usize, SpillError> {
        self.commands += 1;
        let row = (&command.key, &command.action, &command.order);
        self.write(time, command.hash, COMMAND, &row)
    }

    fn write(
        &mut self,
        time: &T,
        hash: u64,
        kind: u8,
        row: &impl Serialize,
    ) -> Result<usize, SpillError> {
        let mut record = std::mem::take(&mut self.record);
        record.clear();
        record.resize(HEADER, 0);
        record = coded(postcard::to_extend(time, record))?;
        let time_length = record.len() - HEADER;
        record = coded(postcard::to_extend(row, record))?;
        let row_length = record.len() - HEADER - time_length;
        record[..8].copy_from_slice(&(row_length as u64).to_le_bytes());
        record[8..16].copy_from_slice(&hash.to_le_bytes());
        let short = u32::try_from(time_length).map_err(|_| SpillError("a time of 4 GiB".into()))?;
        record[16..20].copy_from_slice(&short.to_le_bytes());
        record[20] = kind;
        let mut rest = &record[..];
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(PAGE - self.block.len()));
            self.block.extend_from_slice(now);
            rest = later;
            if self.block.len() == PAGE {
                self.flush()?;
            }
        }
        if self.first.is_none() {
            let before = HEADER + time_length;
            self.first = Some(Head { time: time.clone(), hash, kind, before, row_length });
        }
        self.last = Some(time.clone());
        let written = record.len();
        if record.capacity() <= PAGE {
            // A large one is not kept: the next row is likely small.
            self.record = record;
        }
        Ok(written)
    }

    fn flush(&mut self) -> Result<(), SpillError> {
        let page = self.spill.borrow_mut().write(&self.block)?;
        self.pages.push_back((page, self.block.len()));
        self.block.clear();
        Ok(())
    }

    /// Ends the run. Returns none if nothing was written.
    ///
    /// # Errors
    ///
    /// What the spill reports.
    pub fn finish(mut self) -> Result<Option<Run<T>>, SpillError> {
        if !self.block.is_empty() {
            self.flush()?;
        }
        let (head, Some(last)) = (self.first.take(), self.last.take()) else { return Ok(None) };
        Ok(Some(Run {
            spill: Rc::clone(&self.spill),
            pages: std::mem::take(&mut self.pages),
            block: Vec::new(),
            at: 0,
            head,
            last,
            commands: self.commands,
        }))
    }
}

impl<T> RunWriter<T> {
    /// Returns the bytes in memory.
    pub fn heap_bytes(&self) -> usize {
        self.block.capacity() + self.record.capacity() + self.pages.capacity() * PAGE_ENTRY
    }

    /// Returns the least time written.
    pub fn first(&self) -> Option<&T> {
        self.first.as_ref().map(|head| &head.time)
    }
}

impl<T> Drop for RunWriter<T> {
    fn drop(&mut self) {
        free(&self.spill, &mut self.pages);
    }
}

impl<T> Drop for Run<T> {
    fn drop(&mut self) {
        free(&self.spill, &mut self.pages);
    }
}

const PAGE_ENTRY: usize = size_of::<(Page, usize)>();

fn free(spill: &SharedSpill, pages: &mut VecDeque<(Page, usize)>) {
    let mut spill = spill.borrow_mut();
    pages.drain(..).for_each(|(page, _)| spill.free(page));
}

impl<T> Run<T> {
    /// Returns the time of the next record; none at the end.
    pub fn time(&self) -> Option<&T> {
        self.head.as_ref().map(|head| &head.time)
    }

    /// Returns the hash of the next record's key; none for a reset, and at the end.
    pub fn hash(&self) -> Option<u64> {
        self.head.as_ref().filter(|head| head.kind == COMMAND).map(|head| head.hash)
    }

    /// Returns the greatest time.
    pub fn last(&self) -> &T {
        &self.last
    }

    /// Returns how many commands are left.
    pub fn commands(&self) -> u64 {
        self.commands
    }

    /// Returns the pages that are left.
    pub fn pages(&self) -> usize {
        self.pages.len()
    }

    /// Returns the bytes in memory.
    pub fn heap_bytes(&self) -> usize {
        self.block.capacity() + self.pages.capacity() * PAGE_ENTRY + size_of::<Self>()
    }
}

impl<T: DeserializeOwned> Run<T> {
    /// Takes the next record; none at the end.
    ///
    /// # Errors
    ///
    /// What the spill reports, or that the bytes are not a record: once, and then the run is at its end.
    pub fn take<K, V, O>(&mut self) -> Result<Option<Record<K, V, O>>, SpillError>
    where
        K: DeserializeOwned,
        V: DeserializeOwned,
        O: DeserializeOwned,
    {
        let Some(Head { hash, kind, before, row_length, .. }) = self.head.take() else {
            return Ok(None);
        };
        let row = &self.fill(before + row_length)?[before..];
        let record = if kind == RESET {
            let (collection, order) = coded(postcard::from_bytes(row))?;
            Record::Reset(collection, order)
        } else {
            let (key, action, order) = coded(postcard::from_bytes(row))?;
            Record::Command(Pending { hash, key, action, order })
        };
        self.advance(kind, before + row_length)?;
        Ok(Some(record))
    }

    /// Drops the next record, and returns how many commands that was.
    ///
    /// # Errors
    ///
    /// As [`take`](Run::take).
    pub fn skip(&mut self) -> Result<u64, SpillError> {
        let Some(Head { kind, before, row_length, .. }) = self.head.take() else { return Ok(0) };
        self.fill(before + row_length)?;
        self.advance(kind, before + row_length)?;
        Ok(u64::from(kind == COMMAND))
    }

    /// Goes past a record of so many bytes.
    fn advance(&mut self, kind: u8, length: usize) -> Result<(), SpillError> {
        self.at += length;
        self.commands = self.commands.saturating_sub(u64::from(kind == COMMAND));
        if self.at == self.block.len() && self.pages.is_empty() {
            self.block = Vec::new();
            return Ok(());
        }
        if self.at > 4 * PAGE {
            // A large row has gone; a run may wait long for its next turn.
            self.block.drain(..self.at);
            self.at = 0;
            self.block.shrink_to(PAGE);
        }
        let header = self.fill(HEADER)?;
        let (row_length, hash, kind) = (word(header, 0) as usize, word(header, 8), header[20]);
        let mut short = [0; 4];
        short.copy_from_slice(&header[16..20]);
        let before = HEADER + u32::from_le_bytes(short) as usize;
        let time = coded(postcard::from_bytes(&self.fill(before)?[HEADER..]))?;
        self.head = Some(Head { time, hash, kind, before, row_length });
        Ok(())
    }

    /// Returns the next `length` bytes, read if they are not in memory.
    fn fill(&mut self, length: usize) -> Result<&[u8], SpillError> {
        if self.block.len() - self.at < length {
            self.block.drain(..self.at);
            self.at = 0;
            let wanted = (length + PAGE).next_multiple_of(PAGE / 4);
            self.block.reserve_exact(wanted - self.block.len());
        }
        while self.block.len() - self.at < length {
            let Some((page, bytes)) = self.pages.pop_front() else {
                return Err(SpillError("a spilled run ends too early".into()));
            };
            let (have, mut spill) = (self.block.len(), self.spill.borrow_mut());
            self.block.resize(have + bytes, 0);
            let read = spill.read(&page, &mut self.block[have..]);
            spill.free(page);
            read?;
        }
        Ok(&self.block[self.at..self.at + length])
    }
}

fn word(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::super::pending::Action;
    use super::super::spill::SpillFile;
    use super::*;

    type Command = Pending<u64, Vec<u8>, u8>;

    fn commands(count: u64, bytes: usize) -> Vec<Command> {
        let action = |key: u64| match key % 3 {
            0 => Action::Delete,
            1 => Action::Put(vec![key as u8; bytes]),
            _ => Action::Patch(vec![key as u8; bytes]),
        };
        (0..count).map(|key| Pending { hash: key, key, action: action(key), order: 9 }).collect()
    }

    fn write(spill: &SharedSpill, time: u64, commands: &[Command]) -> RunWriter<u64> {
        let mut writer = RunWriter::new(spill);
        writer.reset(&time, None, &7u8).unwrap();
        for command in commands {
            writer.command(&(time + 1), command).unwrap();
        }
        writer
    }

    fn take(run: &mut Run<u64>) -> Option<(Option<Command>, u8)> {
        match run.take().unwrap()? {
            Record::Reset(_, order) => Some((None, order)),
            Record::Command(command) => Some((Some(command), 9)),
        }
    }

    /// Runs that are read side by side, with rows over the ends of pages, and their space.
    #[test]
    fn runs_come_back_as_they_were_and_give_their_space_back() {
        let spill: SharedSpill = Rc::new(RefCell::new(SpillFile::default()));
        let written = [commands(0, 0), commands(2000, 700), commands(4, PAGE * 5), commands(1, 1)];
        let mut runs = written
            .each_ref()
            .map(|all| write(&spill, 3, all).finish().unwrap().expect("at least a reset"));
        for (run, all) in runs.iter_mut().zip(&written) {
            assert_eq!(
                (run.time(), run.hash(), run.commands()),
                (Some(&3), None, all.len() as u64)
            );
            assert_eq!(take(run), Some((None, 7)));
        }
        let full = spill.borrow().bytes();
        let mut read: [Vec<_>; 4] = Default::default();
        while let Some(at) = (0..4).find(|at| read[*at].len() < written[*at].len()) {
            for (run, into) in runs[at..].iter_mut().zip(&mut read[at..]) {
                let time = run.time().copied();
                let Some((command, 9)) = take(run) else { continue };
                assert_eq!(time, Some(4));
                into.extend(command);
                assert!(run.heap_bytes() < 8 * PAGE, "{} bytes", run.heap_bytes());
            }
        }
        assert!(read == written);
        assert!(runs.iter().all(|run| run.time().is_none() && run.commands() == 0));
        assert!(full > 20 * PAGE as u64);
        assert_eq!(spill.borrow().bytes(), 0, "what was read is given back, before the runs go");
        drop(write(&spill, 3, &commands(500, 700)));
        drop(write(&spill, 3, &commands(500, 700)).finish());
        assert_eq!(spill.borrow().bytes(), 0, "so is what is dropped");
        assert!(RunWriter::<u64>::new(&spill).finish().unwrap().is_none());
    }

    #[test]
    fn what_is_skipped_is_counted() {
        let spill: SharedSpill = Rc::new(RefCell::new(SpillFile::default()));
        let all = commands(300, 900);
        let mut run = write(&spill, 3, &all).finish().unwrap().unwrap();
        assert_eq!(run.skip(), Ok(0));
        assert_eq!((0..299).map(|_| run.skip().unwrap()).sum::<u64>(), 299);
        assert_eq!(take(&mut run), Some((Some(all[299].clone()), 9)));
        assert_eq!((run.skip(), run.time()), (Ok(0), None));
    }

    /// A run that cannot be read is an error once, then the end: never fewer rows without a word.
    #[test]
    fn an_unreadable_run_is_an_error() {
        let spill: SharedSpill = Rc::new(RefCell::new(SpillFile::default()));
        let mut run = write(&spill, 3, &commands(300, 900)).finish().unwrap().unwrap();
        let (last, _) = run.pages.pop_back().unwrap();
        spill.borrow_mut().free(last);
        let mut errors = 0;
        for _ in 0..400 {
            errors += u64::from(run.take::<u64, Vec<u8>, u8>().is_err());
        }
        assert_eq!((errors, run.time()), (1, None));
    }
}
