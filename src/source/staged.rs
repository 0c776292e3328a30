//! Owns the changes of one unit while they wait for its end: encoded, in memory and beyond a bound in
//! a scratch file. It does not own when a unit is complete.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::sync::Arc;

use super::Change;
use crate::codec::packed::Encoded;
use crate::codec::{Codec, encode_shaped, encode_value};
use crate::command::Command;
use crate::error::{Error, ErrorKind};
use crate::scratch::{Scratch, ScratchError};

/// Bytes that are read back at a time.
const BLOCK: usize = 1 << 18;

/// Bytes of a record beside its key and value: kind, and two lengths.
const HEAD: usize = 9;

/// Bytes of one key and value. What is in one buffer must be less than 4 GiB.
const CHANGE_BYTES_MAX: usize = 1 << 30;

/// Bytes that may be in memory, whatever the limits say, for the same reason.
pub(super) const MEMORY_BYTES_MAX: usize = 1 << 30;

const PUT: u8 = 0;
const DELETE: u8 = 1;
const RESET: u8 = 2;
const PATCH: u8 = 3;
/// Its key is the collection's name.
const RESET_OF: u8 = 4;

/// Changes in the order they came.
#[derive(Debug, Default)]
pub struct Staged {
    /// The older part, if it was spilled, and its bytes.
    file: Option<(Scratch, u64)>,
    memory: Vec<u8>,
    changes: u64,
}

impl Staged {
    /// Stages changes for a test.
    #[cfg(test)]
    pub(crate) fn of<K, V, C: Codec<K> + Codec<V>>(changes: &[Change<K, V>]) -> Self {
        let mut staged = Staged::default();
        changes.iter().for_each(|change| staged.push::<K, V, C>(change, 0).unwrap());
        staged
    }

    /// Returns one change: a reset.
    pub(super) fn reset() -> Self {
        let mut memory = vec![0; HEAD];
        memory[0] = RESET;
        Staged { file: None, memory, changes: 1 }
    }

    /// Adds a change, whose value is of the shape with a number.
    ///
    /// # Errors
    ///
    /// Those of the codec; `Invalid` for a key and value of more than 1 GiB.
    pub(super) fn push<K, V, C>(&mut self, change: &Change<K, V>, shape: u16) -> Result<(), Error>
    where
        C: Codec<K> + Codec<V>,
    {
        let start = self.memory.len();
        let pushed = self.encode::<K, V, C>(change, shape, start);
        match pushed {
            Ok(()) => self.changes += 1,
            Err(_) => self.memory.truncate(start),
        }
        pushed
    }

    fn encode<K, V, C>(
        &mut self,
        change: &Change<K, V>,
        shape: u16,
        start: usize,
    ) -> Result<(), Error>
    where
        C: Codec<K> + Codec<V>,
    {
        self.memory.extend_from_slice(&[0; HEAD]);
        let kind = match change {
            Change::Put(key, _) => {
                C::encode(key, &mut self.memory)?;
                PUT
            }
            Change::Patch(key, _) => {
                C::encode(key, &mut self.memory)?;
                PATCH
            }
            Change::Delete(key) => {
                C::encode(key, &mut self.memory)?;
                DELETE
            }
            Change::Reset => RESET,
            Change::ResetOf(collection) => {
                self.memory.extend_from_slice(collection.as_bytes());
                RESET_OF
            }
        };
        let key = self.memory.len() - start - HEAD;
        match change {
            Change::Put(_, value) => encode_shaped::<V, C>(value, shape, &mut self.memory)?,
            Change::Patch(_, patch) => encode_value::<V, C>(patch, shape, &mut self.memory)?,
            Change::Delete(_) | Change::Reset | Change::ResetOf(_) => {}
        }
        let value = self.memory.len() - start - HEAD - key;
        if key.saturating_add(value) > CHANGE_BYTES_MAX {
            return Err(Error::new(ErrorKind::Invalid, "a key and a value of more than 1 GiB"));
        }
        let (key, value) = (key as u32, value as u32);
        let head = &mut self.memory[start..start + HEAD];
        head[0] = kind;
        head[1..5].copy_from_slice(&key.to_le_bytes());
        head[5..].copy_from_slice(&value.to_le_bytes());
        Ok(())
    }

    /// Adds all of another's changes after these.
    ///
    /// # Errors
    ///
    /// `Unavailable` if the temporary file cannot be read or written.
    pub(super) fn append(&mut self, other: Staged) -> Result<(), Error> {
        if self.changes == 0 {
            *self = other;
            return Ok(());
        }
        if let Some((file, bytes)) = other.file {
            self.spill()?;
            if let Some((into, length)) = &mut self.file {
                into.copy_at(*length, file).map_err(failed)?;
                *length += bytes;
            }
        }
        self.memory.extend_from_slice(&other.memory);
        self.changes += other.changes;
        Ok(())
    }

    /// Moves what is in memory to the file.
    ///
    /// # Errors
    ///
    /// `Unavailable` if the file cannot be made or written.
    pub(super) fn spill(&mut self) -> Result<(), Error> {
        if self.memory.is_empty() && self.file.is_none() {
            return Ok(());
        }
        let (mut file, bytes) = self.file.take().unwrap_or_default();
        file.write_at(bytes, &self.memory).map_err(failed)?;
        self.file = Some((file, bytes + self.memory.len() as u64));
        self.memory = Vec::new();
        Ok(())
    }

    /// Returns how many changes there are.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Returns how many bytes are in memory.
    pub(super) fn memory_bytes(&self) -> usize {
        self.memory.len()
    }

    /// Returns how many bytes there are.
    pub fn bytes(&self) -> u64 {
        self.file.as_ref().map_or(0, |(_, bytes)| *bytes) + self.memory.len() as u64
    }

    /// Reads the changes back, as commands whose order is `unit` and the number of the change.
    ///
    /// # Errors
    ///
    /// `Unavailable` if the temporary file cannot be read.
    pub fn read(self, unit: u64) -> Result<Reading, Error> {
        let from = match self.file {
            None => From::Memory(Arc::new(self.memory), 0),
            Some((file, _)) => {
                let memory = io::Cursor::new(self.memory);
                From::File(
                    BufReader::with_capacity(BLOCK, file.into_reader().map_err(failed)?)
                        .chain(memory),
                )
            }
        };
        Ok(Reading { from, left: self.changes, unit, next: 0 })
    }
}

/// Where a change stands among those of its key and time: the number of its unit, and its own within.
pub type Order = (u64, u64);

/// The changes of a unit, on their way out.
pub struct Reading {
    from: From,
    left: u64,
    unit: u64,
    next: u64,
}

impl Reading {
    /// Returns the next commands: some 256 KiB of them, or all that are in memory. None at the end.
    ///
    /// # Errors
    ///
    /// `Unavailable` if the temporary file cannot be read.
    pub fn rows(&mut self) -> Result<Vec<Command<Encoded, Encoded, Order>>, Error> {
        let (buffer, mut at, until) = match &mut self.from {
            From::Memory(memory, at) => {
                (Arc::clone(memory), std::mem::replace(at, memory.len()), memory.len())
            }
            From::File(bytes) => {
                let block = block(bytes, self.left)?;
                let length = block.len();
                (Arc::new(block), 0, length)
            }
        };
        let mut commands = Vec::new();
        while at < until {
            let (kind, key, value) = lengths(&buffer[at..]).ok_or_else(cut)?;
            let (start, end) = (at + HEAD, at + HEAD + key + value);
            if end > until || self.left == 0 {
                return Err(cut());
            }
            let field = |offset, length| Encoded::within(&buffer, offset, length);
            let order = (self.unit, self.next);
            commands.push(match kind {
                PUT => Command::put(field(start, key), field(start + key, value), order),
                PATCH => Command::patch(field(start, key), field(start + key, value), order),
                DELETE => Command::delete(field(start, key), order),
                RESET_OF => {
                    let name = buffer[start..start + key].to_vec();
                    Command::reset_of(String::from_utf8(name).map_err(|_| cut())?, order)
                }
                _ => Command::reset(order),
            });
            (at, self.next, self.left) = (end, self.next + 1, self.left - 1);
        }
        Ok(commands)
    }
}

/// Where changes are read from.
enum From {
    /// A buffer, and where the next one begins in it.
    Memory(Arc<Vec<u8>>, usize),
    File(io::Chain<BufReader<File>, io::Cursor<Vec<u8>>>),
}

/// Reads whole changes: some 256 KiB of them, at most `left`.
fn block(bytes: &mut impl Read, mut left: u64) -> Result<Vec<u8>, Error> {
    let mut block = Vec::new();
    while left > 0 && block.len() < BLOCK {
        let start = block.len();
        read(bytes, HEAD, &mut block)?;
        let (_, key, value) = lengths(&block[start..]).ok_or_else(cut)?;
        read(bytes, key + value, &mut block)?;
        left -= 1;
    }
    Ok(block)
}

fn read(bytes: &mut impl Read, length: usize, into: &mut Vec<u8>) -> Result<(), Error> {
    match bytes.take(length as u64).read_to_end(into) {
        Ok(found) if found == length => Ok(()),
        Ok(_) => Err(cut()),
        Err(error) => Err(failed(ScratchError { doing: "read", error })),
    }
}

/// Returns the kind of a change and the lengths of its key and value.
fn lengths(head: &[u8]) -> Option<(u8, usize, usize)> {
    let [kind, a, b, c, d, e, f, g, h] = *head.first_chunk::<HEAD>()?;
    let key = u32::from_le_bytes([a, b, c, d]) as usize;
    let value = u32::from_le_bytes([e, f, g, h]) as usize;
    Some((kind, key, value))
}

fn cut() -> Error {
    failed(ScratchError { doing: "read", error: io::ErrorKind::UnexpectedEof.into() })
}

impl std::fmt::Debug for Reading {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reading").field("left", &self.left).finish_non_exhaustive()
    }
}

fn failed(ScratchError { doing, error }: ScratchError) -> Error {
    Error::new(ErrorKind::Unavailable, format!("cannot {doing} a temporary file: {error}"))
        .at(std::env::temp_dir().display().to_string())
        .hint("make room there, or set TMPDIR")
        .because(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Postcard;

    type Changes = Vec<Change<u64, String>>;

    fn staged(changes: &Changes, spill_each: usize) -> Staged {
        let mut staged = Staged::default();
        for (number, change) in changes.iter().enumerate() {
            staged.push::<u64, String, Postcard>(change, 0).unwrap();
            if spill_each > 0 && number % spill_each == 0 {
                staged.spill().unwrap();
            }
        }
        staged
    }

    fn read(staged: Staged) -> Vec<Command<Encoded, Encoded, Order>> {
        let mut reading = staged.read(7).unwrap();
        let mut all = Vec::new();
        loop {
            match reading.rows().unwrap() {
                some if some.is_empty() => return all,
                some => all.extend(some),
            }
        }
    }

    #[test]
    fn what_is_spilled_is_read_back_in_order() {
        let changes: Changes = (0..1000u64)
            .map(|n| match n % 6 {
                0 => Change::Delete(n),
                1 => Change::Reset,
                2 => Change::Put(n, Err(crate::DataError("bad".into()))),
                3 => Change::Patch(n, "p".repeat(n as usize)),
                4 => Change::ResetOf("c".repeat(n as usize)),
                _ => Change::Put(n, Ok("v".repeat(n as usize))),
            })
            .collect();
        let whole = read(staged(&changes, 0));
        assert_eq!(whole.len(), changes.len());
        assert_eq!(whole[3].order(), &(7, 3));
        assert_eq!(read(staged(&changes, 7)), whole);
        // In two pieces, each spilled or not.
        for (first, second) in [(0, 0), (0, 3), (3, 0), (3, 5)] {
            let mut joined = staged(&changes[..400].to_vec(), first);
            joined.append(staged(&changes[400..].to_vec(), second)).unwrap();
            assert_eq!(joined.changes(), 1000);
            assert_eq!(read(joined), whole, "{first} {second}");
        }
    }
}
