//! Owns a scratch file: one without a name, made at the first write in the directory for temporary files,
//! and freed by the operating system with the process. It does not own what is where in it.
//!
//! It never outlives the process, so its bytes are not a format.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

/// A scratch file, which takes no room before something is written.
#[derive(Debug, Default)]
pub(crate) struct Scratch(Option<File>);

/// What could not be done with the file, as a verb, and why.
#[derive(Debug)]
pub(crate) struct ScratchError {
    pub(crate) doing: &'static str,
    pub(crate) error: io::Error,
}

fn failed(doing: &'static str) -> impl FnOnce(io::Error) -> ScratchError {
    move |error| ScratchError { doing, error }
}

impl Scratch {
    /// Whether nothing was ever written.
    #[cfg(test)]
    pub(crate) fn is_unused(&self) -> bool {
        self.0.is_none()
    }

    /// Writes all of `bytes` from a place on.
    pub(crate) fn write_at(&mut self, at: u64, bytes: &[u8]) -> Result<(), ScratchError> {
        let file = self.made()?;
        let seek = file.seek(SeekFrom::Start(at));
        seek.and_then(|_| file.write_all(bytes)).map_err(failed("write"))
    }

    /// Writes all of another file from a place on.
    pub(crate) fn copy_at(&mut self, at: u64, from: Scratch) -> Result<(), ScratchError> {
        let mut from = from.into_reader()?;
        let file = self.made()?;
        let seek = file.seek(SeekFrom::Start(at));
        seek.and_then(|_| io::copy(&mut from, file)).map_err(failed("copy"))?;
        Ok(())
    }

    /// Fills `bytes` from a place on.
    pub(crate) fn read_at(&mut self, at: u64, bytes: &mut [u8]) -> Result<(), ScratchError> {
        let file = self.made()?;
        let seek = file.seek(SeekFrom::Start(at));
        seek.and_then(|_| file.read_exact(bytes)).map_err(failed("read"))
    }

    /// Returns the file, to be read from its start.
    pub(crate) fn into_reader(mut self) -> Result<File, ScratchError> {
        self.made()?.rewind().map_err(failed("read"))?;
        self.0.ok_or_else(|| failed("read")(io::ErrorKind::NotFound.into()))
    }

    /// Cuts the file to its first bytes. Returns whether that was done; if not, it costs room alone.
    pub(crate) fn cut(&mut self, length: u64) -> bool {
        self.0.as_ref().is_some_and(|file| file.set_len(length).is_ok())
    }

    fn made(&mut self) -> Result<&mut File, ScratchError> {
        match &mut self.0 {
            Some(file) => Ok(file),
            none => Ok(none.insert(tempfile::tempfile().map_err(failed("create"))?)),
        }
    }
}
