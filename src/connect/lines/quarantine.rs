//! Owns the file that bad lines are written away to. It does not own which lines are bad, nor when they are
//! passed: the reader of the feed syncs this file before it hands over anything behind them.
//!
//! ```text
//! {"feed":"f.jsonl","line":7,"what":"not JSON: ..","text":"{\"key\":"}      of bytes that are not UTF-8, "base64"
//! ```
//!
//! A line that is read again, after a crash, is the same record, and is not written again: the file is read when it is
//! opened. What a crash has left of a record is closed with a line break, and stays.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use xxhash_rust::xxh3::xxh3_128;

use super::cut::Piece;
use super::row::Bad;
use crate::codec::Json;
use crate::error::{Error, ErrorKind};

/// A file of bad lines.
#[derive(Debug)]
pub(super) struct Quarantine {
    path: PathBuf,
    file: File,
    /// The hashes of its records.
    known: BTreeSet<u128>,
    /// Whether it has what is not durable yet.
    is_dirty: bool,
}

impl Quarantine {
    /// Opens the file, and makes it if it is not there. O(its bytes).
    pub(super) fn open(path: &Path) -> Result<Quarantine, Error> {
        Quarantine::read(path).map_err(|e| unwritable(path, e))
    }

    fn read(path: &Path) -> io::Result<Quarantine> {
        let is_new = !path.exists();
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        let (mut known, mut record, mut ends) = (BTreeSet::new(), Vec::new(), true);
        let mut reader = BufReader::new(&file);
        while reader.read_until(b'\n', &mut record)? > 0 {
            ends = record.ends_with(b"\n");
            known.insert(xxh3_128(record.strip_suffix(b"\n").unwrap_or(&record)));
            record.clear();
        }
        if !ends {
            file.write_all(b"\n")?;
        }
        if is_new {
            sync_directory(path)?;
        }
        Ok(Quarantine { path: path.to_path_buf(), file, known, is_dirty: !ends })
    }

    /// Appends a bad line, unless it is there.
    pub(super) fn add(&mut self, feed: &str, bad: &Bad, piece: &Piece<'_>) -> Result<(), Error> {
        let (name, text) = match std::str::from_utf8(piece.bytes) {
            Ok(text) => ("text", Json::string(text)),
            Err(_) => {
                let text = base64::engine::general_purpose::STANDARD.encode(piece.bytes);
                ("base64", Json::string(&text))
            }
        };
        let (feed, what, number) = (Json::string(feed), Json::string(&bad.what), piece.number);
        let mut record =
            format!("{{\"feed\":{feed},\"line\":{number},\"what\":{what},\"{name}\":{text}}}");
        let is_new = self.known.insert(xxh3_128(record.as_bytes()));
        if !is_new && !crate::mutant::on("quarantined_again") {
            return Ok(());
        }
        record.push('\n');
        self.is_dirty = true;
        #[cfg(test)]
        tests::note('+');
        self.file.write_all(record.as_bytes()).map_err(|e| unwritable(&self.path, e))
    }

    /// Makes all that was added durable.
    pub(super) fn sync(&mut self) -> Result<(), Error> {
        if !self.is_dirty || crate::mutant::on("quarantine_unsynced") {
            return Ok(());
        }
        self.file.sync_data().map_err(|e| unwritable(&self.path, e))?;
        #[cfg(test)]
        tests::note('!');
        self.is_dirty = false;
        Ok(())
    }
}

#[cfg(unix)]
fn sync_directory(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(not(unix))]
fn sync_directory(_: &Path) -> io::Result<()> {
    Ok(())
}

fn unwritable(path: &Path, e: io::Error) -> Error {
    let what = format!("bad lines cannot be written away: {e}");
    let hint = "make room or allow writing there, or name another file, and rerun";
    Error::new(ErrorKind::Invalid, what).at(path.display().to_string()).hint(hint).because(e)
}

#[cfg(test)]
pub(super) mod tests {
    use std::cell::RefCell;

    thread_local! {
        static DONE: RefCell<String> = RefCell::default();
    }

    /// Notes what is done on this thread: `+` for a record that is written, `!` for a sync.
    pub(in super::super) fn note(what: char) {
        DONE.with_borrow_mut(|done| done.push(what));
    }

    /// Returns what was done since the last call.
    pub(in super::super) fn done() -> String {
        DONE.take()
    }
}
