//! Owns opening a feed of lines and noticing that a followed file is no longer the one that was
//! opened. It does not own cutting it into lines.

use std::fs::File;
use std::io::{self, Read};

use differential_upsert::{Error, ErrorKind};

/// An open feed of bytes.
#[derive(Debug)]
pub(crate) enum Input {
    File {
        file: File,
        path: String,
    },
    Stdin(io::Stdin),
    /// Bytes that were read from an input already, and the input.
    Behind {
        bytes: io::Cursor<Vec<u8>>,
        input: Box<Input>,
    },
}

/// Returns whether what is read from a path is gone then: standard input, a pipe, a terminal.
pub(crate) fn is_stream(path: &str) -> bool {
    // A path that is not there, and a directory, is for whoever opens it to complain about.
    path == "-" || std::fs::metadata(path).is_ok_and(|m| !m.is_file() && !m.is_dir())
}

impl Input {
    /// Opens a path, or standard input for `-`.
    pub(crate) fn open(path: &str) -> Result<Input, Error> {
        if path == "-" {
            return Ok(Input::Stdin(io::stdin()));
        }
        let file = File::open(path).map_err(|e| unreadable(path, e))?;
        // A directory can be opened, and fails only when it is read, with a message of its own.
        if file.metadata().map_err(|e| unreadable(path, e))?.is_dir() {
            let error = Error::new(ErrorKind::Invalid, "a directory where a feed was expected");
            let hint = "name a file of JSON lines, or a repository as git:PATH";
            return Err(error.at(path).hint(hint));
        }
        let path = path.to_string();
        Ok(Input::File { file, path })
    }

    /// Puts back bytes that were read from it.
    pub(crate) fn behind(self, bytes: Vec<u8>) -> Input {
        Input::Behind { bytes: io::Cursor::new(bytes), input: Box::new(self) }
    }

    /// Returns how long the feed is, if that is known.
    pub(crate) fn length(&self) -> Option<u64> {
        match self {
            Input::File { file, .. } => file.metadata().ok().map(|m| m.len()),
            Input::Stdin(_) => None,
            Input::Behind { input, .. } => input.length(),
        }
    }

    /// Checks that a followed file, of which `position` bytes have been read, still is what it
    /// was: lines from another file under the same name would be taken for a continuation.
    pub(crate) fn unchanged(&self, position: u64) -> Result<(), Error> {
        let (file, path) = match self {
            Input::File { file, path } => (file, path),
            Input::Stdin(_) => return Ok(()),
            Input::Behind { input, .. } => return input.unchanged(position),
        };
        let opened = file.metadata().map_err(|e| unreadable(path, e))?;
        if opened.is_file() && opened.len() < position {
            let error = Error::new(ErrorKind::Invalid, "the followed file was truncated");
            return Err(error.at(path).hint(CHANGED));
        }
        let named = std::fs::metadata(path);
        if !named.is_ok_and(|named| same_file(&opened, &named)) {
            let error = Error::new(ErrorKind::Invalid, "the followed file was replaced or removed");
            return Err(error.at(path).hint(CHANGED));
        }
        Ok(())
    }
}

const CHANGED: &str = "put the whole feed back and rerun";

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
            Input::Stdin(stdin) => stdin.read(buffer),
            Input::Behind { bytes, input } => match bytes.read(buffer)? {
                0 => input.read(buffer),
                count => Ok(count),
            },
        }
    }
}

/// Returns the error for a feed that cannot be read.
pub(crate) fn unreadable(path: &str, e: io::Error) -> Error {
    let (kind, hint) = match e.kind() {
        io::ErrorKind::NotFound => (ErrorKind::Missing, "check the path"),
        io::ErrorKind::PermissionDenied => (ErrorKind::Invalid, "allow reading it"),
        _ => (ErrorKind::Unavailable, "make it readable and rerun"),
    };
    let what = format!("cannot read the feed: {e}");
    Error::new(kind, what).at(path).hint(hint).because(e)
}
