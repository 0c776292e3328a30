//! Owns a feed of several files read as one: part after part, in the order of their names, with a line break
//! behind each that lacks one. It does not own which files those are; that is `names`.
//!
//! A part that has another one behind it is complete. A place is one in all that the parts hold together, so a part
//! that is gone or has changed is found by the hash of a place. Beyond that, whenever the parts are listed again,
//! those that were read must be the first of them, and as long as they were.

use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;

use parking_lot::Mutex;

use super::names::Where;
use crate::error::{Error, ErrorKind};

/// Where in which file the lines of a feed of several files are: cheap to clone, and shared with what reads it.
#[derive(Clone, Debug, Default)]
pub(super) struct Places(Arc<Mutex<Vec<(String, u64)>>>);

impl Places {
    /// Returns `FILE:LINE` of a line of a feed.
    pub(super) fn of(&self, feed: &str, line: u64) -> String {
        let parts = self.0.lock();
        match parts.iter().rev().find(|(_, before)| *before < line) {
            Some((path, before)) => format!("{path}:{}", line - before),
            None => format!("{feed}:{line}"),
        }
    }
}

/// Opens a part by its path.
type Open<R> = fn(&str) -> Result<R, Error>;

/// How many bytes of its file were read, of a part whose end is its end for good: a compressed one.
type Taken<R> = fn(&R) -> Option<u64>;

/// The files of a feed, read as one.
pub(super) struct Parts<R> {
    found: Where,
    open: Open<R>,
    taken: Taken<R>,
    /// Those that are there, in their order.
    names: Vec<String>,
    /// Of each that was opened, its length at its end, and how many lines come before it.
    read: Vec<(u64, u64)>,
    current: Option<R>,
    /// The last byte, and the lines so far.
    last: u8,
    lines: u64,
    places: Places,
}

impl<R: Read> Parts<R> {
    /// Lists the parts.
    ///
    /// # Errors
    ///
    /// `Missing` if there is none.
    pub(super) fn new(
        found: Where,
        open: Open<R>,
        taken: Taken<R>,
        places: Places,
    ) -> Result<Parts<R>, Error> {
        let names = found.list()?;
        let (read, current) = (Vec::new(), None);
        Ok(Parts { found, open, taken, names, read, current, last: b'\n', lines: 0, places })
    }

    /// Returns the part that is read.
    pub(super) fn current(&self) -> Option<&R> {
        self.current.as_ref()
    }

    /// Lists the parts again, and checks those that were read.
    fn list(&mut self) -> Result<(), Error> {
        let names = self.found.list()?;
        for (index, name) in self.names[..self.read.len()].iter().enumerate() {
            match names.get(index) {
                Some(found) if found == name => {}
                Some(found) if names.contains(name) => {
                    return Err(differs("a part file that comes before one that was read", found));
                }
                _ => return Err(differs("a part file that was read is gone", name)),
            }
            // The last of them is read still.
            if index + 1 < self.read.len() && length(name)? != self.read[index].0 {
                return Err(differs(CHANGED, name));
            }
        }
        self.names = names;
        Ok(())
    }

    fn next(&mut self) -> Result<(), Error> {
        let name = &self.names[self.read.len()];
        self.current = Some((self.open)(name)?);
        let mut places = self.places.0.lock();
        if self.read.is_empty() {
            // Those of a reading before this one.
            places.clear();
        }
        places.push((name.clone(), self.lines));
        self.read.push((0, self.lines));
        Ok(())
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if let Some(current) = &mut self.current {
                let count = current.read(buffer)?;
                if count > 0 {
                    return Ok(self.took(&buffer[..count]));
                }
                if self.names.len() == self.read.len() {
                    self.list().map_err(io::Error::other)?;
                    if self.names.len() == self.read.len() {
                        return Ok(0);
                    }
                    // It may have grown before the next one came.
                    continue;
                }
                let index = self.read.len() - 1;
                let length = length(&self.names[index]).map_err(io::Error::other)?;
                if (self.taken)(current).is_some_and(|taken| taken != length) {
                    return Err(io::Error::other(differs(CHANGED, &self.names[index])));
                }
                self.read[index].0 = length;
                self.current = None;
                if self.last != b'\n' {
                    buffer[0] = b'\n';
                    return Ok(self.took(b"\n"));
                }
            }
            self.next().map_err(io::Error::other)?;
        }
    }

    fn took(&mut self, bytes: &[u8]) -> usize {
        self.last = bytes.last().copied().unwrap_or(self.last);
        self.lines += memchr::memchr_iter(b'\n', bytes).count() as u64;
        bytes.len()
    }
}

impl<R: Read> Read for Parts<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Parts::read(self, buffer)
    }
}

impl<R> fmt::Debug for Parts<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Parts({:?}, {} read)", self.found, self.read.len())
    }
}

const CHANGED: &str = "a part file has changed since it was read";

fn differs(what: &str, path: &str) -> Error {
    let hint = "put the parts back as they were, name new ones so that they come last, and rerun";
    Error::new(ErrorKind::Invalid, what).at(path).hint(hint)
}

fn length(path: &str) -> Result<u64, Error> {
    let found = std::fs::metadata(path).map_err(|e| {
        let what = format!("a part file cannot be looked at: {e}");
        Error::new(ErrorKind::Unavailable, what)
            .at(path)
            .hint("make it readable and rerun")
            .because(e)
    })?;
    Ok(found.len())
}
