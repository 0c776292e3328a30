//! Owns reading a file that others may write to: it is the one that was opened as long as what was
//! read of it last still stands there. It does not own names; that is `input`.
//!
//! A feed may only grow. A file that is cut and filled again, or written over in place (a log that is
//! copied and truncated, `cat other > feed`, an editor), keeps its inode and may have any size by the
//! next read: its rows from the old place on would be taken for a continuation, and the rows before
//! it for read. So the last bytes that were taken are compared at every read.
//!
//! Limits: a file that is made anew with the same bytes in that window is the same one to this check.
//! Whatever it holds before them, the next run tells it apart by all that it has taken.

use std::fs::File;
use std::io;

use crate::error::{Error, ErrorKind};

/// Bytes that are compared: more than the longest run that lines of a feed repeat by accident.
pub(super) const SEEN_BYTES: usize = 4 << 10;

const CHANGED: &str = "a feed may only grow: put it back as it was and rerun, or feed the new one to \
                       another shard";

/// What can be read at any place.
pub(super) trait ReadAt {
    /// Reads once, from this byte on; 0 at the end and behind it.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
}

/// A file that is read from one end to the other.
#[derive(Debug)]
pub(super) struct Live<F> {
    file: F,
    /// Where in the file its first byte is.
    base: u64,
    /// How many bytes behind it the next one to read is.
    position: u64,
    /// The last bytes before it: all, if there are fewer than [`SEEN_BYTES`].
    seen: Vec<u8>,
    found: Vec<u8>,
}

impl<F: ReadAt> Live<F> {
    /// Reads a file from a place in it on.
    pub(super) fn new(file: F, base: u64) -> Live<F> {
        Live { file, base, position: 0, seen: Vec::new(), found: vec![0; SEEN_BYTES] }
    }

    pub(super) fn file(&self) -> &F {
        &self.file
    }

    /// Returns where in the file its first byte is.
    pub(super) fn base(&self) -> u64 {
        self.base
    }

    /// Returns how many bytes of it were read.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Returns its first bytes, so many if it has as many, and stays where it is.
    pub(super) fn first(&self, count: usize) -> io::Result<Vec<u8>> {
        let (mut bytes, mut read) = (vec![0; count], 0);
        while read < count {
            match self.file.read_at(&mut bytes[read..], self.base + read as u64) {
                Ok(0) => break,
                Ok(count) => read += count,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        bytes.truncate(read);
        Ok(bytes)
    }

    /// Reads once and returns the number of bytes, 0 at the end. Bytes that do not continue what was
    /// read before are not returned. O(bytes), and one more small read.
    ///
    /// # Errors
    ///
    /// One that holds an [`Error`] if the file was cut or written over.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.base + self.position)?;
        // Behind the read, not before it and not in one with it: a program that writes over a file comes from
        // its start, so that new bytes can stand at our place only once those before it are gone.
        if !crate::mutant::on("rewritten_is_grown") {
            self.compare()?;
        }
        self.position += count as u64;
        self.keep(&buffer[..count]);
        Ok(count)
    }

    fn compare(&mut self) -> io::Result<()> {
        let from = self.base + self.position - self.seen.len() as u64;
        let (mut read, wanted) = (0, self.seen.len());
        while read < wanted {
            match self.file.read_at(&mut self.found[read..wanted], from + read as u64) {
                Ok(0) => break,
                Ok(count) => read += count,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        let position = self.position;
        if self.found[..read] != self.seen[..read] {
            return Err(changed(format!(
                "the feed was rewritten while it was read: the {wanted} bytes before byte {position} are others now"
            )));
        }
        if read < wanted {
            return Err(changed(format!(
                "the feed was truncated while it was read: it ends before byte {position}, up to where it was read"
            )));
        }
        Ok(())
    }

    fn keep(&mut self, bytes: &[u8]) {
        let bytes = &bytes[bytes.len().saturating_sub(SEEN_BYTES)..];
        let extra = (self.seen.len() + bytes.len()).saturating_sub(SEEN_BYTES);
        self.seen.drain(..extra);
        self.seen.extend_from_slice(bytes);
    }
}

fn changed(what: String) -> io::Error {
    io::Error::other(Error::new(ErrorKind::Invalid, what).hint(CHANGED))
}

impl ReadAt for File {
    #[cfg(unix)]
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(self, buffer, offset)
    }

    #[cfg(not(unix))]
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        use std::io::{Read, Seek, SeekFrom};
        let mut file = self;
        file.seek(SeekFrom::Start(offset))?;
        file.read(buffer)
    }
}
