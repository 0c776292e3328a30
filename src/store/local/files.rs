//! Owns the log of a directory as it was before there were segments: a file for each entry, and an empty one in
//! the folder `floor` for each floor. It is read, and [`ready`](super::ready) copies it; nothing is added but its
//! end.
//!
//! A program of before may be at work on it: a write of its that is under way would be in no copy, and what it has
//! read would be the whole log for ever. So the copy begins with a last file, [`CLOSED`], in the place of the next
//! entry. It stays for good: that program's write finds it there, and its readers find an entry of a version that
//! they do not know. A log without entries is not closed: a reader of before that has it open shows it empty until it
//! is started again.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::fail::failed;
use crate::error::Error;
use crate::store::refusal::Step;

/// The last file. Programs of before read an entry of a version that they do not know, and say so.
pub(super) const CLOSED: &[u8] = b"DUPSLOG\n\xff\xff in segments\n";

/// A log of files; `directory` is that of its entries.
#[derive(Debug)]
pub(super) struct Files<'a> {
    pub(super) directory: &'a Path,
}

impl Files<'_> {
    /// Returns where an entry is.
    pub(super) fn path(&self, seqno: u64) -> PathBuf {
        self.directory.join(format!("{seqno:020}"))
    }

    /// Returns the folder of the floors.
    pub(super) fn floors(&self) -> PathBuf {
        self.directory.with_file_name("floor")
    }

    pub(super) fn get(&self, seqno: u64) -> Result<Option<Bytes>, Error> {
        let path = self.path(seqno);
        match std::fs::read(&path) {
            Ok(bytes) if bytes == CLOSED => Ok(None),
            Ok(bytes) => Ok(Some(Bytes::from(bytes))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(failed(Step::Read, &path, e)),
        }
    }

    /// Returns the numbers of the entries, in order.
    pub(super) fn numbers(&self) -> Result<Vec<u64>, Error> {
        let mut numbers = numbers(self.directory)?;
        if let Some(last) = numbers.last()
            && self.is_closed_at(*last)?
        {
            numbers.pop();
        }
        Ok(numbers)
    }

    /// Returns the number of the last file, if the log has been closed.
    pub(super) fn closed_at(&self) -> Result<Option<u64>, Error> {
        let Some(last) = numbers(self.directory)?.pop() else { return Ok(None) };
        Ok(self.is_closed_at(last)?.then_some(last))
    }

    /// Whether the file of a number is the last one.
    pub(super) fn is_closed_at(&self, seqno: u64) -> Result<bool, Error> {
        let path = self.path(seqno);
        // Most are longer, and of no interest.
        let read = || match std::fs::metadata(&path)?.len() == CLOSED.len() as u64 {
            true => Ok(std::fs::read(&path)? == CLOSED),
            false => Ok(false),
        };
        match read() {
            Ok(is_closed) => Ok(is_closed),
            Err(e) if io::Error::kind(&e) == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(failed(Step::Read, &path, e)),
        }
    }

    pub(super) fn floor(&self) -> Result<u64, Error> {
        Ok(numbers(&self.floors())?.last().copied().unwrap_or(0))
    }
}

/// Returns the numbers that name files of a folder, in order. A name that is not one is not ours; `verify` lists
/// it.
fn numbers(folder: &Path) -> Result<Vec<u64>, Error> {
    let named = names(folder).map_err(|e| failed(Step::Read, folder, e))?;
    let mut numbers: Vec<u64> = named.iter().filter_map(|name| number(name)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Returns the number of an entry from the name of its file.
pub(super) fn number(name: &str) -> Option<u64> {
    name.parse().ok().filter(|number| format!("{number:020}") == name)
}

/// Returns the names in a directory, read in one go; none if it is not there.
pub(super) fn names(path: &Path) -> io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}
