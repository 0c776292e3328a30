//! Owns opening a feed of lines, and noticing that its name means another file than the one that was
//! opened. It does not own what is in the file; that is `live`. Nor cutting it into lines.

use std::fs::File;
use std::io::{self, Read};

use parking_lot::Mutex;

use super::live::Live;
use super::names::Where;
use super::packed::{SIGN_BYTES, Sign, Unpacked};
use super::parts::{Parts, Places};
use super::rotating::{Rotating, replaced, same_file};
use crate::error::{Error, ErrorKind};

/// An open feed of bytes.
#[derive(Debug)]
pub(super) enum Input {
    /// A regular file, and its name if it has one.
    File { file: Live<File>, path: Option<String> },
    /// What is gone once it is read.
    Stream(Stream),
    /// Bytes that were read from an input already, and the input.
    Behind { bytes: io::Cursor<Vec<u8>>, input: Box<Input> },
    /// What a compressed input unpacks to.
    Packed(Unpacked<Box<Input>>),
    /// Several files, read as one.
    Parts(Parts<Box<Input>>),
    /// A file, behind those that had its name before.
    Rotating(Rotating<Box<Input>>),
}

/// A pipe, a terminal, a device, a reader of the caller's.
pub(super) enum Stream {
    Stdin(io::Stdin),
    Named(File, String),
    /// Never locked: the mutex lets workers share what is not read yet.
    Reader(Mutex<Box<dyn Read + Send>>),
}

/// Returns whether what is read from a path is gone then: a pipe, a terminal. `-` is standard input,
/// which is a file if it comes from one.
pub(super) fn is_stream(path: &str) -> bool {
    if path == "-" {
        return stdin_file().is_none();
    }
    // A path that is not there, and a directory, is for the call that opens it to complain about.
    std::fs::metadata(path).is_ok_and(|m| !m.is_file() && !m.is_dir())
}

/// Returns standard input if it is a regular file, and the place in it where the one that started this
/// program has left it at.
#[cfg(unix)]
fn stdin_file() -> Option<(File, u64)> {
    use std::io::Seek as _;
    use std::os::fd::AsFd as _;
    let mut file = File::from(io::stdin().as_fd().try_clone_to_owned().ok()?);
    let base = file.metadata().ok().filter(|m| m.is_file()).and(file.stream_position().ok())?;
    Some((file, base))
}

#[cfg(not(unix))]
fn stdin_file() -> Option<(File, u64)> {
    None
}

impl Input {
    /// Opens a path, a directory or a glob of part files, or standard input for `-`. Notes in `places` which file
    /// each line is in, if they are several.
    pub(super) fn open(path: &str, places: &Places) -> Result<Input, Error> {
        if path == "-" {
            return Ok(match stdin_file() {
                Some((file, base)) => Input::File { file: Live::new(file, base), path: None },
                None => Input::Stream(Stream::Stdin(io::stdin())),
            });
        }
        if let Some(found) = Where::of(path) {
            return Ok(Input::Parts(Parts::new(
                found,
                Input::part,
                |part| part.taken(),
                places.clone(),
            )?));
        }
        let file = File::open(path).map_err(|e| unreadable(path, e))?;
        let kind = file.metadata().map_err(|e| unreadable(path, e))?.file_type();
        if !kind.is_file() {
            return Ok(Input::Stream(Stream::Named(file, path.to_string())));
        }
        Ok(Input::File { file: Live::new(file, 0), path: Some(path.to_string()) })
    }

    /// Opens a file whose name may come to mean another one, and first those that had it before.
    pub(super) fn rotating(path: &str, before: &[String]) -> Result<Input, Error> {
        let open = |path: &str| {
            let file = File::open(path).map_err(|e| unreadable(path, e))?;
            let again = file.try_clone().map_err(|e| unreadable(path, e))?;
            Ok((Input::whole(file, path)?, again))
        };
        Ok(Input::Rotating(Rotating::new(path, before, open)?))
    }

    /// Opens a part file.
    fn part(path: &str) -> Result<Box<Input>, Error> {
        Input::whole(File::open(path).map_err(|e| unreadable(path, e))?, path)
    }

    /// Returns what a file of a name holds, from its start.
    fn whole(file: File, path: &str) -> Result<Box<Input>, Error> {
        let input = Input::File { file: Live::new(file, 0), path: Some(path.to_string()) };
        Ok(Box::new(input.unpacked().map_err(|e| unreadable(path, e))?))
    }

    /// Puts back bytes that were read from it.
    pub(super) fn behind(self, bytes: Vec<u8>) -> Input {
        Input::Behind { bytes: io::Cursor::new(bytes), input: Box::new(self) }
    }

    /// Returns what it unpacks to if its first bytes say that it is compressed, else itself: an input of
    /// which nothing was read.
    pub(super) fn unpacked(mut self) -> io::Result<Input> {
        let mut first = Vec::new();
        match &mut self {
            // It was looked at before.
            Input::Behind { .. } | Input::Packed(_) => return Ok(self),
            // Each of them is.
            Input::Parts(_) | Input::Rotating(_) => return Ok(self),
            Input::File { file, .. } => first.extend(file.first(SIGN_BYTES)?),
            Input::Stream(_) => {
                // No byte more than it takes: a silent pipe may have only those.
                let mut byte = [0];
                while Sign::of(&first) == Sign::Unsure && read_some(&mut self, &mut byte)? > 0 {
                    first.extend(byte);
                }
            }
        }
        let sign = Sign::of(&first);
        let input = match self {
            Input::Stream(_) => self.behind(first),
            input => input,
        };
        Ok(match sign {
            Sign::Packed(packing) => Input::Packed(Unpacked::new(packing, Box::new(input))),
            Sign::Other(name, hint) => {
                let what = format!("{name}, which is not read here");
                return Err(io::Error::other(Error::new(ErrorKind::Invalid, what).hint(hint)));
            }
            Sign::Plain | Sign::Unsure => input,
        })
    }

    /// Returns whether it is a file that is compressed.
    pub(super) fn is_packed_file(&self) -> bool {
        matches!(self, Input::Packed(packed) if matches!(**packed.get_ref(), Input::File { .. }))
    }

    /// Returns how many bytes of a compressed file were read; `None` of any other input.
    fn taken(&self) -> Option<u64> {
        match self {
            Input::Packed(packed) => match &**packed.get_ref() {
                Input::File { file, .. } => Some(file.position()),
                _ => None,
            },
            _ => None,
        }
    }

    /// Returns how long the feed is, if that is known.
    pub(super) fn length(&self) -> Option<u64> {
        match self {
            Input::File { file, .. } => {
                let length = file.file().metadata().ok()?.len();
                Some(length.saturating_sub(file.base()))
            }
            Input::Stream(_) => None,
            Input::Behind { input, .. } => input.length(),
            // What it unpacks to is not known before it is.
            Input::Packed(_) | Input::Parts(_) => None,
            Input::Rotating(rotating) => rotating.only().and_then(|input| input.length()),
        }
    }

    /// Looks whether a followed feed goes on elsewhere, at its end, and returns whether there is more to read at
    /// once.
    pub(super) fn go_on(&mut self) -> Result<bool, Error> {
        match self {
            Input::Rotating(rotating) => rotating.turn(),
            Input::Behind { input, .. } => input.go_on(),
            input => input.unchanged().map(|()| false),
        }
    }

    /// Checks that the name of a followed file still means it: lines that come under that name from
    /// now on would never be read.
    fn unchanged(&self) -> Result<(), Error> {
        let (file, path) = match self {
            Input::File { file, path: Some(path) } => (file.file(), path),
            Input::Stream(Stream::Named(file, path)) => (file, path),
            Input::File { path: None, .. }
            | Input::Stream(Stream::Stdin(_) | Stream::Reader(_)) => {
                return Ok(());
            }
            Input::Behind { input, .. } => return input.unchanged(),
            Input::Packed(packed) => return packed.get_ref().unchanged(),
            Input::Parts(parts) => {
                return parts.current().map_or(Ok(()), |part| part.unchanged());
            }
            Input::Rotating(_) => return Ok(()),
        };
        let opened = file.metadata().map_err(|e| unreadable(path, e))?;
        let named = std::fs::metadata(path);
        if !named.is_ok_and(|named| same_file(&opened, &named)) {
            return Err(replaced(path));
        }
        Ok(())
    }
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Stream::Stdin(_) => f.write_str("Stdin"),
            Stream::Named(_, path) => f.debug_tuple("Named").field(path).finish(),
            Stream::Reader(_) => f.write_str("Reader"),
        }
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Input::File { file, .. } => file.read(buffer),
            Input::Stream(Stream::Stdin(stdin)) => stdin.read(buffer),
            Input::Stream(Stream::Named(file, _)) => file.read(buffer),
            Input::Stream(Stream::Reader(reader)) => reader.get_mut().read(buffer),
            Input::Behind { bytes, input } => match bytes.read(buffer)? {
                0 => input.read(buffer),
                count => Ok(count),
            },
            Input::Packed(packed) => packed.read(buffer),
            Input::Parts(parts) => parts.read(buffer),
            Input::Rotating(rotating) => rotating.read(buffer),
        }
    }
}

/// Reads once, however often a signal comes in between.
fn read_some(input: &mut Input, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match input.read(buffer) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

/// Returns the error for a feed that cannot be read, or that is not what it was.
pub(super) fn unreadable(path: &str, e: io::Error) -> Error {
    let e = match e.downcast::<Error>() {
        // A part file says which it is.
        Ok(changed) if changed.place().is_some() => return changed,
        Ok(changed) => return changed.at(path),
        Err(e) => e,
    };
    let (kind, hint) = match e.kind() {
        io::ErrorKind::NotFound => (ErrorKind::Missing, "check the path"),
        io::ErrorKind::PermissionDenied => (ErrorKind::Invalid, "allow reading it"),
        _ => (ErrorKind::Unavailable, "make it readable and rerun"),
    };
    let what = format!("cannot read the feed: {e}");
    Error::new(kind, what).at(path).hint(hint).because(e)
}
