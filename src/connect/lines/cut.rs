//! Owns cutting a byte stream into lines of bounded length, and where in it the lines so far end. It
//! does not own what lines mean, nor when to read more: the caller says that, so that it can send
//! what it has before it waits.

use std::io::{self, Read};

use super::line::LINE_BYTES_MAX;
use super::position::Prefix;
use super::strange::BOM;

/// Bytes asked of the input at once.
const READ_BYTES: usize = 256 << 10;

/// Bytes kept of a line that is too long: enough to find it again.
const PREFIX_BYTES: usize = 1 << 10;

/// A line, without its line break.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece<'a> {
    /// Its number, from 1; blank lines count.
    pub(super) number: u64,
    /// Its bytes; of a line that is too long, the first 1 KiB.
    pub(super) bytes: &'a [u8],
    /// Whether it is longer than a line may be.
    pub(super) too_long: bool,
    /// Whether more may come of it: the feed's last line, which no line break ends, and which is not too long yet.
    pub(super) is_open: bool,
}

/// Cuts a byte stream: the part of it that is read but not yet cut.
///
/// The buffer never holds more than a line that is not too long and one read: the rest of a line
/// that is too long is skipped as it comes.
#[derive(Debug)]
pub(super) struct Cutter<R> {
    input: R,
    buffer: Vec<u8>,
    /// Where the next line starts in `buffer`.
    start: usize,
    /// Up to where `buffer` is known to hold no line break for it.
    searched: usize,
    /// Up to where `buffer` holds bytes that were read.
    filled: usize,
    /// Cutter cut so far.
    number: u64,
    /// Whether what comes belongs to a line that was too long and has been returned.
    skipping: bool,
    /// Bytes of the feed read so far.
    position: u64,
    /// The bytes up to `start`, if somebody asks about them.
    prefix: Option<Prefix>,
    /// Whether the feed's first bytes, where a BOM may stand, are still to come.
    begin: bool,
}

impl<R: Read> Cutter<R> {
    pub(super) fn new(input: R) -> Cutter<R> {
        Cutter {
            input,
            buffer: vec![0; READ_BYTES],
            start: 0,
            searched: 0,
            filled: 0,
            number: 0,
            skipping: false,
            position: 0,
            prefix: None,
            begin: true,
        }
    }

    /// Goes on behind `number` lines and `position` bytes, which `prefix` has seen: the input's next
    /// byte comes after them.
    pub(super) fn after(input: R, number: u64, position: u64, prefix: Prefix) -> Cutter<R> {
        let begin = position == 0;
        Cutter { number, position, begin, prefix: Some(prefix), ..Cutter::new(input) }
    }

    /// Returns how many bytes of the feed have been read.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Returns where the lines cut so far end, and what the bytes up to there hash to (0 if it was
    /// not asked for). A line that is too long ends here only once it is [skipped](Cutter::skip).
    pub(super) fn end(&self) -> (u64, u128) {
        let offset = self.position - (self.filled - self.start) as u64;
        (offset, self.prefix.as_ref().map_or(0, Prefix::hash))
    }

    pub(super) fn input(&self) -> &R {
        &self.input
    }

    pub(super) fn input_mut(&mut self) -> &mut R {
        &mut self.input
    }

    pub(super) fn into_input(self) -> R {
        self.input
    }

    /// Returns what was hashed of the bytes before the next line.
    pub(super) fn into_prefix(self) -> Prefix {
        self.prefix.unwrap_or_default()
    }

    /// Returns whether what was read ends with a line break, if the last read gave anything.
    pub(super) fn ends_whole(&self) -> bool {
        self.buffer[..self.filled].ends_with(b"\n")
    }

    /// Returns the number of the line that would come next.
    pub(super) fn number(&self) -> u64 {
        self.number + 1
    }

    /// Returns the next line whose end has been read, or one that is too long as soon as that is
    /// known. `None` means that more must be read first.
    pub(super) fn next(&mut self) -> Option<Piece<'_>> {
        if !self.skip() {
            return None;
        }
        let (start, Some(end)) = (self.start, self.line_break()) else {
            return self.unfinished();
        };
        self.advance(end + 1);
        Some(self.piece(start, end))
    }

    /// Skips what is left of a line that was returned as too long, and returns whether all of it is
    /// read; true without such a line.
    pub(super) fn skip(&mut self) -> bool {
        if self.skipping {
            let end = self.line_break();
            self.skipping = end.is_none();
            self.advance(end.map_or(self.filled, |end| end + 1));
        }
        !self.skipping
    }

    /// Returns the line at the end of the input that no line break follows, if there is one.
    pub(super) fn rest(&mut self) -> Option<Piece<'_>> {
        let (start, end) = (self.start, self.filled);
        self.advance(end);
        let rest = (start < end && !self.skipping).then(|| self.piece(start, end));
        rest.map(|piece| Piece { is_open: !piece.too_long, ..piece })
    }

    /// Reads once and returns the number of bytes, 0 at the end of the input. May block.
    pub(super) fn fill(&mut self) -> io::Result<usize> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.filled, 0);
            self.filled -= self.start;
            self.searched -= self.start;
            self.start = 0;
        }
        let room = self.filled + READ_BYTES;
        if self.buffer.len() < room {
            self.buffer.resize(room, 0);
        }
        loop {
            match self.input.read(&mut self.buffer[self.filled..room]) {
                Ok(count) => {
                    self.filled += count;
                    self.position += count as u64;
                    return Ok(count);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Handles a line of which only the beginning has been read.
    fn unfinished(&mut self) -> Option<Piece<'_>> {
        // A CR and a BOM may still turn out not to be part of it.
        let sure = LINE_BYTES_MAX + BOM.len() + 1;
        if self.filled - self.start <= sure {
            return None;
        }
        self.skipping = true;
        let start = self.start;
        self.advance(self.filled);
        Some(self.piece(start, self.filled))
    }

    /// Returns where the first line break is in what is read and not yet cut.
    fn line_break(&mut self) -> Option<usize> {
        let found = memchr::memchr(b'\n', &self.buffer[self.searched..self.filled]);
        let end = found.map(|found| self.searched + found);
        self.searched = end.unwrap_or(self.filled);
        end
    }

    /// Cuts off what lies before `to` in the buffer.
    fn advance(&mut self, to: usize) {
        if let Some(prefix) = &mut self.prefix {
            prefix.add(&self.buffer[self.start..to]);
        }
        (self.start, self.searched) = (to, self.searched.max(to));
    }

    fn piece(&mut self, start: usize, end: usize) -> Piece<'_> {
        self.number += 1;
        let mut bytes = &self.buffer[start..end];
        if std::mem::take(&mut self.begin) {
            bytes = bytes.strip_prefix(BOM).unwrap_or(bytes);
        }
        bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        let too_long = bytes.len() > LINE_BYTES_MAX;
        if too_long {
            bytes = &bytes[..PREFIX_BYTES];
        }
        Piece { number: self.number, bytes, too_long, is_open: false }
    }
}
