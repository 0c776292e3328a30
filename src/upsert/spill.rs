//! Owns runs of stashed commands outside memory: how they are written, read back in order, and
//! forgotten. It does not own when to spill.
//!
//! A run is scratch: it never outlives the process, so its bytes are no format.

use std::cell::RefCell;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::marker::PhantomData;
use std::rc::Rc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::stash::Pending;

/// Scratch space for runs.
pub trait Spill {
    /// Writes bytes and returns where they start.
    ///
    /// # Errors
    ///
    /// What the scratch space reports: no room, no permission.
    fn write(&mut self, bytes: &[u8]) -> Result<u64, SpillError>;
    /// Fills `bytes` from an offset that lies in written space.
    ///
    /// # Errors
    ///
    /// What the scratch space reports.
    fn read(&mut self, offset: u64, bytes: &mut [u8]) -> Result<(), SpillError>;
    /// Says that a run's space is not needed any more.
    fn forget(&mut self, run: Run);
}

/// Scratch space that the stash writes and the drain reads.
pub type SharedSpill = Rc<RefCell<dyn Spill>>;

/// Why a run could not be written or read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpillError(pub String);

/// A sorted run of commands in scratch space.
#[derive(Debug, PartialEq, Eq)]
pub struct Run {
    offset: u64,
    bytes: u64,
    /// How many commands it holds.
    pub commands: u64,
}

/// Bytes written or read at a time.
const BLOCK: usize = 1 << 18;

impl Run {
    /// Writes commands as one run.
    ///
    /// # Errors
    ///
    /// What the spill reports.
    pub fn write<K: Serialize, V: Serialize, O: Serialize>(
        spill: &mut dyn Spill,
        commands: &[Pending<K, V, O>],
    ) -> Result<Run, SpillError> {
        let mut buffer = Vec::with_capacity(BLOCK);
        for command in commands {
            let row = (command.hash, &command.key, &command.value, &command.order);
            let start = buffer.len();
            buffer.extend_from_slice(&[0; 8]);
            buffer = postcard::to_extend(&row, buffer).map_err(|e| SpillError(e.to_string()))?;
            let length = (buffer.len() - start - 8) as u64;
            buffer[start..start + 8].copy_from_slice(&length.to_le_bytes());
        }
        // One write, so that the run is contiguous.
        let offset = spill.write(&buffer)?;
        Ok(Run { offset, bytes: buffer.len() as u64, commands: commands.len() as u64 })
    }

    /// Reads the run from its start.
    pub fn reader<K, V, O>(&self, spill: SharedSpill) -> RunReader<K, V, O> {
        RunReader {
            spill,
            next: self.offset,
            end: self.offset + self.bytes,
            block: Vec::new(),
            at: 0,
            marker: PhantomData,
        }
    }
}

/// Reads a run block by block; ends at its end, or after an error.
pub struct RunReader<K, V, O> {
    spill: SharedSpill,
    next: u64,
    end: u64,
    block: Vec<u8>,
    at: usize,
    marker: PhantomData<Pending<K, V, O>>,
}

impl<K: DeserializeOwned, V: DeserializeOwned, O: DeserializeOwned> RunReader<K, V, O> {
    fn read(&mut self) -> Result<Option<Pending<K, V, O>>, SpillError> {
        if self.at == self.block.len() && self.next == self.end {
            return Ok(None);
        }
        self.fill(8)?;
        let mut length = [0; 8];
        length.copy_from_slice(&self.block[self.at..self.at + 8]);
        self.at += 8;
        let length = u64::from_le_bytes(length) as usize;
        self.fill(length)?;
        let row = &self.block[self.at..self.at + length];
        let (hash, key, value, order) =
            postcard::from_bytes(row).map_err(|e| SpillError(e.to_string()))?;
        self.at += length;
        Ok(Some(Pending { hash, key, value, order }))
    }

    /// Makes `length` bytes available at `at`.
    fn fill(&mut self, length: usize) -> Result<(), SpillError> {
        if self.block.len() - self.at >= length {
            return Ok(());
        }
        self.block.drain(..self.at);
        self.at = 0;
        let have = self.block.len();
        let left = self.end - self.next;
        let more = ((length - have).max(BLOCK) as u64).min(left) as usize;
        if have + more < length {
            return Err(SpillError("a spilled run ends too early".into()));
        }
        self.block.resize(have + more, 0);
        self.spill.borrow_mut().read(self.next, &mut self.block[have..])?;
        self.next += more as u64;
        Ok(())
    }
}

impl<K: DeserializeOwned, V: DeserializeOwned, O: DeserializeOwned> Iterator
    for RunReader<K, V, O>
{
    type Item = Result<Pending<K, V, O>, SpillError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.read().transpose();
        if let Some(Err(_)) = next {
            (self.next, self.at) = (self.end, self.block.len());
        }
        next
    }
}

/// Scratch space in a file without a name, made at the first write in the directory for temporary
/// files and freed by the operating system with the process.
#[derive(Debug, Default)]
pub struct SpillFile {
    file: Option<File>,
    end: u64,
    runs: u64,
}

fn failed(doing: &str, error: &std::io::Error) -> SpillError {
    SpillError(format!("cannot {doing} the stash's scratch file: {error}"))
}

impl Spill for SpillFile {
    fn write(&mut self, bytes: &[u8]) -> Result<u64, SpillError> {
        let offset = self.end;
        if self.file.is_none() {
            self.file = Some(tempfile::tempfile().map_err(|e| failed("create", &e))?);
        }
        if let Some(file) = &mut self.file {
            let seek = file.seek(SeekFrom::Start(offset));
            seek.and_then(|_| file.write_all(bytes)).map_err(|e| failed("write", &e))?;
        }
        self.end += bytes.len() as u64;
        self.runs += 1;
        Ok(offset)
    }

    fn read(&mut self, offset: u64, bytes: &mut [u8]) -> Result<(), SpillError> {
        let Some(file) = &mut self.file else {
            return Err(SpillError("a spilled run is read before any was written".into()));
        };
        let seek = file.seek(SeekFrom::Start(offset));
        seek.and_then(|_| file.read_exact(bytes)).map_err(|e| failed("read", &e))
    }

    fn forget(&mut self, _run: Run) {
        self.runs -= 1;
        if self.runs == 0 {
            // Space comes back when no run is left.
            (self.file, self.end) = (None, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commands(count: u64, bytes: usize) -> Vec<Pending<u64, Vec<u8>, u8>> {
        let value = |key: u64| (!key.is_multiple_of(3)).then(|| vec![key as u8; bytes]);
        (0..count).map(|key| Pending { hash: key, key, value: value(key), order: 9 }).collect()
    }

    /// Runs that are read side by side, with rows over the ends of blocks.
    #[test]
    fn runs_come_back_as_they_were() {
        let shared = Rc::new(RefCell::new(SpillFile::default()));
        let written = [commands(0, 0), commands(2000, 700), commands(3, BLOCK * 2), commands(1, 1)];
        let runs =
            written.each_ref().map(|all| Run::write(&mut *shared.borrow_mut(), all).unwrap());
        let mut readers = runs.each_ref().map(|run| run.reader::<u64, Vec<u8>, u8>(shared.clone()));
        let mut read: [Vec<_>; 4] = Default::default();
        while let Some(at) = (0..4).find(|at| read[*at].len() < written[*at].len()) {
            for (reader, into) in readers[at..].iter_mut().zip(&mut read[at..]) {
                into.extend(reader.next().map(Result::unwrap));
            }
        }
        assert!(read == written);
        assert!(readers.iter_mut().all(|reader| reader.next().is_none()));
        for run in runs {
            assert!(shared.borrow().file.is_some());
            shared.borrow_mut().forget(run);
        }
        assert!(shared.borrow().file.is_none(), "the file goes with its last run");
    }

    /// A run that cannot be read is an error once, then the end: never fewer rows without a word.
    #[test]
    fn an_unreadable_run_is_an_error() {
        let shared = Rc::new(RefCell::new(SpillFile::default()));
        let mut run = Run::write(&mut *shared.borrow_mut(), &commands(3, 10)).unwrap();
        run.bytes -= 1;
        let mut reader = run.reader::<u64, Vec<u8>, u8>(shared.clone());
        assert_eq!(reader.by_ref().filter(Result::is_err).count(), 1);
        assert!(reader.next().is_none());

        run.bytes += 100;
        let mut reader = run.reader::<u64, Vec<u8>, u8>(shared);
        assert!(reader.next().unwrap().is_err(), "past the end of the file");
        assert!(reader.next().is_none());
    }
}
