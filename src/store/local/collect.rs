//! Owns how a log loses what is collected: the floor first, in the marks, twice, each synced; only then anything
//! goes. A segment goes with its last entry, and what is left of a log is copied when it is little.

use std::path::PathBuf;

use super::fail::{Fail, failed, unknown};
use super::index::Log;
use super::marks::{BOUNDS_AT, Bounds, Place};
use super::os::Wait;
use super::ready::{SEGMENT_MAX, SEGMENT_MIN};
use super::segment::{self, HEADER, Rest};
use super::shared::Shared;
use crate::error::{Error, ErrorKind};
use crate::store::refusal::Step;

impl Shared {
    /// Raises the floor, durably.
    pub(super) fn raise_floor(&self, seqno: u64) -> Result<(), Error> {
        // The state that stands in for what will go may be of another process, which died before its name was
        // durable.
        let shard = self.root.join(&self.shard);
        for folder in [&shard.join("rollup"), &shard] {
            self.sync_folder_if_there(folder, Step::Stage)?;
        }
        let mut writing = self.writing.lock();
        let _held = self.locked(&mut writing)?;
        let mut known = self.known.lock();
        let log = self.ready(&mut known)?;
        let bounds = Bounds { floor: log.bounds.floor.max(seqno), ..log.bounds };
        self.bound(log, bounds)?;
        // A process of before may have left files while the log was copied. One that stays is found again.
        self.remove_idle(log.bounds.first);
        Ok(())
    }

    /// Deletes an entry, and all before it.
    pub(super) fn delete(&self, seqno: u64) -> Result<(), Error> {
        let mut writing = self.writing.lock();
        let _held = self.locked(&mut writing)?;
        let mut known = self.known.lock();
        let log = self.ready(&mut known)?;
        if seqno > log.bounds.floor {
            return Err(
                Error::new(ErrorKind::Invalid, "a delete above the floor").at(self.place(seqno))
            );
        }
        let gone = log.bounds.gone.max(seqno);
        self.shrink(log, gone)?;
        let first = log.first_after(gone);
        let idle = log.segments.range(..first);
        let idle: Vec<PathBuf> = idle.map(|(_, segment)| segment.file.path.clone()).collect();
        let bounds = Bounds { gone, first, ..log.bounds };
        if idle.is_empty() {
            // Nothing depends on it: what is lost of this is deleted again.
            let marked = self.disk.write_at(&log.marks, &bounds.encode(), BOUNDS_AT[0]);
            marked.map_err(|e| failed(Step::Delete, &log.marks.path, e))?;
            log.bound(bounds);
            return Ok(());
        }
        let remove = || -> Result<(), Error> {
            for path in &idle {
                self.disk.remove(path).map_err(|e| failed(Step::Delete, path, e))?;
            }
            Ok(())
        };
        if crate::mutant::on("segment_gone_before_marks") {
            remove()?;
        }
        self.bound(log, bounds)?;
        remove()
    }

    /// Copies what is left of a log to a segment of its own, if that is little.
    fn shrink(&self, log: &mut Log, gone: u64) -> Result<(), Error> {
        let (left, total) = (log.bytes_after(gone), log.len());
        if total <= 2 * SEGMENT_MIN || left > total / 4 || left > SEGMENT_MAX {
            return Ok(());
        }
        let number = log.end.segment + 1;
        let mut bytes = segment::header(number, log.end.at).to_vec();
        for seqno in log.numbers().into_iter().filter(|seqno| *seqno > gone) {
            let entry = match log.get(seqno, Wait::Yes) {
                Ok(entry) => entry.unwrap_or_default(),
                Err(Fail::Error(e)) => return Err(e),
                Err(_) => return Ok(()),
            };
            let at = bytes.len() as u64;
            segment::push_record(&mut bytes, number, at, HEADER, seqno, &entry);
        }
        let copies = segment::scan(number, HEADER, &bytes[HEADER as usize..]).records;
        // Room for as much again: else the next entry needs another segment.
        let len = SEGMENT_MIN.max(2 * bytes.len() as u64);
        // A disk that is full is the more reason to remove what can go without.
        let Ok(file) = self.make_segment(number, &bytes, len) else { return Ok(()) };
        self.sync_folder(&self.directory, Step::Stage)?;
        let end = Place { segment: number, at: bytes.len() as u64 };
        self.mark_durable(log, end)?;
        log.open(number, file, len);
        log.take_copies(number, &copies);
        (log.end, log.rest) = (end, Rest::Free);
        Ok(())
    }

    /// Writes the bounds, twice: one of both is whole at any moment.
    fn bound(&self, log: &mut Log, bounds: Bounds) -> Result<(), Error> {
        for at in BOUNDS_AT {
            let marked = self.disk.write_at(&log.marks, &bounds.encode(), at);
            marked.map_err(|e| failed(Step::Publish, &log.marks.path, e))?;
            self.synced(self.disk.sync(&log.marks), &log.marks.path)
                .map_err(|e| unknown(&log.marks.path, e))?;
        }
        log.bound(bounds);
        Ok(())
    }
}
