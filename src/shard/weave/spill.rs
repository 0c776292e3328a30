//! Owns the scratch file of a merge that nobody else sees the parts of. It does not own what is merged.

use parking_lot::Mutex;

use crate::error::{Error, ErrorKind};
use crate::scratch::{Scratch, ScratchError};
use crate::shard::engine::state::Part;
use crate::shard::engine::stored::check;

/// Parts of earlier passes, in a scratch file that goes with this.
#[derive(Debug, Default)]
pub(in crate::shard) struct Spill(Mutex<(Scratch, u64)>);

impl Spill {
    /// Writes a part, and returns where.
    pub(super) fn write(&self, bytes: &[u8]) -> Result<u64, Error> {
        let (file, end) = &mut *self.0.lock();
        let at = *end;
        file.write_at(at, bytes).map_err(failed)?;
        *end = at + bytes.len() as u64;
        Ok(at)
    }

    /// Reads a part again, and checks it.
    pub(super) fn read(&self, at: u64, part: &Part) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![0; part.bytes() as usize];
        self.0.lock().0.read_at(at, &mut bytes).map_err(failed)?;
        check(part, &bytes).map_err(|e| e.at(Spill::place()))?;
        Ok(bytes)
    }

    pub(super) fn place() -> String {
        std::env::temp_dir().display().to_string()
    }
}

fn failed(ScratchError { doing, error }: ScratchError) -> Error {
    Error::new(ErrorKind::Unavailable, format!("cannot {doing} a temporary file: {error}"))
        .at(Spill::place())
        .hint("make room there, or set TMPDIR")
        .because(error)
}
