//! Owns scratch space in a file: pages that are taken, written, read and given back. It does not own what
//! is in them.
//!
//! Pages have one size, so a page that is given back fits whatever comes next, and the file follows what is in use: the
//! least free page is taken first, and the file is cut when its end is free.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use crate::error::{Error, ErrorKind};
use crate::scratch::{Scratch, ScratchError};

/// Bytes of a page.
pub const PAGE: usize = 1 << 16;

/// Scratch space that several runs share.
pub type SharedSpill = Rc<RefCell<SpillFile>>;

/// Why a page could not be written or read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpillError(pub String);

/// A page in use.
#[derive(Debug, PartialEq, Eq)]
pub struct Page(u32);

/// Pages in a scratch file.
#[derive(Debug, Default)]
pub struct SpillFile {
    file: Scratch,
    /// Pages below this number are in use or free.
    end: u32,
    free: BTreeSet<u32>,
    /// Pages that the file has room for.
    length: u32,
}

impl From<SpillError> for Error {
    fn from(SpillError(what): SpillError) -> Self {
        Error::new(ErrorKind::Unavailable, what)
            .hint("free some disk space or raise stash_bytes_max")
    }
}

impl From<ScratchError> for SpillError {
    fn from(ScratchError { doing, error }: ScratchError) -> Self {
        SpillError(format!("cannot {doing} the stash's scratch file: {error}"))
    }
}

impl SpillFile {
    /// Writes a page's worth of bytes, or less.
    ///
    /// # Errors
    ///
    /// What the file system reports: no room, no permission. Nothing is in use then.
    pub fn write(&mut self, bytes: &[u8]) -> Result<Page, SpillError> {
        let page = match self.free.first() {
            Some(page) => *page,
            None if self.end == u32::MAX => {
                return Err(SpillError("the scratch file is full".into()));
            }
            None => self.end,
        };
        self.file.write_at(u64::from(page) * PAGE as u64, bytes)?;
        if !self.free.remove(&page) {
            self.end += 1;
        }
        self.length = self.length.max(self.end);
        Ok(Page(page))
    }

    /// Fills `bytes` from the start of a page.
    ///
    /// # Errors
    ///
    /// What the file system reports.
    pub fn read(&mut self, page: &Page, bytes: &mut [u8]) -> Result<(), SpillError> {
        Ok(self.file.read_at(u64::from(page.0) * PAGE as u64, bytes)?)
    }

    /// Gives a page back.
    pub fn free(&mut self, Page(page): Page) {
        self.free.insert(page);
        while self.end > 0 && self.free.remove(&(self.end - 1)) {
            self.end -= 1;
        }
        if self.end == 0 {
            (self.file, self.length) = (Scratch::default(), 0);
        } else if self.end <= self.length / 2 && self.file.cut(u64::from(self.end) * PAGE as u64) {
            self.length = self.end;
        }
    }

    /// Cuts the file, as a disk that fails might.
    #[cfg(test)]
    pub fn truncate(&mut self) {
        assert!(self.file.cut(0), "a file");
    }

    /// Returns the bytes of the file.
    pub fn bytes(&self) -> u64 {
        u64::from(self.length) * PAGE as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_used_again_and_the_file_follows() {
        let mut spill = SpillFile::default();
        let page = |n: u8| vec![n; if n.is_multiple_of(2) { PAGE } else { 10 }];
        let mut pages: Vec<_> = (0..10).map(|n| (n, spill.write(&page(n)).unwrap())).collect();
        assert_eq!(spill.bytes(), 10 * PAGE as u64);
        // A backlog that stands: one goes, one comes.
        for n in 10..200 {
            let (_, old) = pages.remove(usize::from(n) % pages.len());
            spill.free(old);
            pages.push((n, spill.write(&page(n)).unwrap()));
        }
        assert_eq!(spill.bytes(), 10 * PAGE as u64);
        for (n, kept) in &pages {
            let mut bytes = page(0);
            bytes.truncate(page(*n).len());
            spill.read(kept, &mut bytes).unwrap();
            assert!(bytes == page(*n), "page {n}");
        }
        // The end of the file is free: it is cut.
        pages.sort_by_key(|(_, page)| page.0);
        pages.drain(3..).for_each(|(_, page)| spill.free(page));
        assert!(spill.bytes() <= 5 * PAGE as u64, "{} bytes", spill.bytes());
        pages.drain(..).for_each(|(_, page)| spill.free(page));
        assert_eq!((spill.bytes(), spill.file.is_unused()), (0, true));
    }
}
