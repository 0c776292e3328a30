//! Owns opening a feed of lines, and noticing that its name means another file than the one that was
//! opened. It does not own what is in the file; that is `live`. Nor cutting it into lines.

use std::fs::File;
use std::io::{self, Read};

use parking_lot::Mutex;

use super::live::Live;
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
    /// Opens a path, or standard input for `-`.
    pub(super) fn open(path: &str) -> Result<Input, Error> {
        if path == "-" {
            return Ok(match stdin_file() {
                Some((file, base)) => Input::File { file: Live::new(file, base), path: None },
                None => Input::Stream(Stream::Stdin(io::stdin())),
            });
        }
        let file = File::open(path).map_err(|e| unreadable(path, e))?;
        let kind = file.metadata().map_err(|e| unreadable(path, e))?.file_type();
        // A directory can be opened, and fails only when it is read, with a message of its own.
        if kind.is_dir() {
            let error = Error::new(ErrorKind::Invalid, "a directory where a feed was expected");
            let hint = "name a file of JSON lines, or a repository as git:PATH";
            return Err(error.at(path).hint(hint));
        }
        if !kind.is_file() {
            return Ok(Input::Stream(Stream::Named(file, path.to_string())));
        }
        Ok(Input::File { file: Live::new(file, 0), path: Some(path.to_string()) })
    }

    /// Puts back bytes that were read from it.
    pub(super) fn behind(self, bytes: Vec<u8>) -> Input {
        Input::Behind { bytes: io::Cursor::new(bytes), input: Box::new(self) }
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
        }
    }

    /// Checks that the name of a followed file still means it: lines that come under that name from
    /// now on would never be read.
    pub(super) fn unchanged(&self) -> Result<(), Error> {
        let (file, path) = match self {
            Input::File { file, path: Some(path) } => (file.file(), path),
            Input::Stream(Stream::Named(file, path)) => (file, path),
            Input::File { path: None, .. }
            | Input::Stream(Stream::Stdin(_) | Stream::Reader(_)) => {
                return Ok(());
            }
            Input::Behind { input, .. } => return input.unchanged(),
        };
        let opened = file.metadata().map_err(|e| unreadable(path, e))?;
        let named = std::fs::metadata(path);
        if !named.is_ok_and(|named| same_file(&opened, &named)) {
            let error = Error::new(ErrorKind::Invalid, "the followed file was replaced or removed");
            return Err(error.at(path).hint("put the whole feed back and rerun"));
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

#[cfg(unix)]
fn same_file(a: &std::fs::Metadata, b: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

#[cfg(not(unix))]
fn same_file(a: &std::fs::Metadata, b: &std::fs::Metadata) -> bool {
    a.created().ok() == b.created().ok()
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
        }
    }
}

/// Returns the error for a feed that cannot be read, or that is not what it was.
pub(super) fn unreadable(path: &str, e: io::Error) -> Error {
    let e = match e.downcast::<Error>() {
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
