//! Owns the plainest durable peer: a `HashMap` in front of a log, one record and one fdatasync for each
//! time. It does not own rows that are older than its log: it never cuts it.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use super::map::{made, upsert};
use crate::clock::{Figures, Pace, drive};
use crate::load::{Record, Words, to_bytes};
use crate::sums::Sums;

/// Bytes of a row: its key and its value.
pub const ROW: usize = 72;

/// A log of records: length, checksum, rows.
pub struct Log {
    file: File,
    buffer: Vec<u8>,
}

impl Log {
    /// Makes the log of `directory`.
    pub fn create(directory: &Path) -> Log {
        let file = File::create(directory.join("log")).expect("a directory to write to");
        Log { file, buffer: Vec::new() }
    }

    /// Appends one time's rows, and returns when they are on the disk.
    pub fn append(&mut self, rows: &[(u64, Words)]) {
        self.buffer.clear();
        self.buffer.extend_from_slice(&[0; 8]);
        for (key, value) in rows {
            self.buffer.extend_from_slice(&key.to_le_bytes());
            self.buffer.extend_from_slice(&to_bytes(value));
        }
        let (head, body) = self.buffer.split_at_mut(8);
        head[..4].copy_from_slice(&(body.len() as u32).to_le_bytes());
        head[4..].copy_from_slice(&crc32c::crc32c(body).to_le_bytes());
        self.file.write_all(&self.buffer).expect("room on the disk");
        self.file.sync_data().expect("a disk that works");
    }
}

/// Runs the map and its log over `records`.
pub fn run(records: &[Record], pace: Pace, directory: &Path) -> Figures {
    let mut live = HashMap::new();
    let mut sums = Sums::default();
    let mut log = Log::create(directory);
    let figures = drive(records, pace, made, |time, _, rows| {
        log.append(&rows);
        for (key, value) in rows {
            upsert(&mut live, &mut sums, time, key, value);
        }
    });
    Figures { sums, ..figures }
}

/// Makes the map of `directory`'s log anew, every record of it checked.
pub fn replay(directory: &Path) -> HashMap<u64, Words> {
    let bytes = fs::read(directory.join("log")).expect("the log that was written");
    let half = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("four bytes"));
    let mut live = HashMap::new();
    let mut left = &bytes[..];
    while let Some((head, rest)) = left.split_at_checked(8) {
        let (body, rest) = rest.split_at(half(&head[..4]) as usize);
        assert_eq!(crc32c::crc32c(body), half(&head[4..]), "a record that is whole");
        live.extend(body.chunks_exact(ROW).map(row));
        left = rest;
    }
    live
}

/// Returns the row at the start of `bytes`.
pub fn row(bytes: &[u8]) -> (u64, Words) {
    let word = |i: usize| {
        let word = bytes[8 * i..8 * i + 8].try_into().expect("eight bytes");
        u64::from_le_bytes(word)
    };
    (word(0), std::array::from_fn(|i| word(i + 1)))
}
