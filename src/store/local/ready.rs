//! Owns what must stand before a record is written, all of it under the log's lock: a log that is read to its end,
//! with nothing but zeros behind it, in a segment with room.
//!
//! A new segment is its header and zeros, a sync, a sync of the folder, the mark; only then a record.
//!
//! # Crashes
//!
//! Whole records beyond the mark are those of a writer that died before it could tell of them. The next writer
//! takes them over: it writes them once more, since a sync that failed may have dropped them, and syncs. What is
//! not a whole record it overwrites with zeros before it writes its own.
//!
//! A log of before is copied: its entries in the first segments, then the marks, whose name makes the segments the
//! log. Once that name is durable its files go. The maker may die before it is: so each process makes the names
//! durable once, before it writes.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::fail::{Fail, failed};
use super::files::{self, Files};
use super::index::{Log, MARKS, damaged, segment_number, segment_path};
use super::lock::{Held, LockFile, lock};
use super::marks::{Bounds, DURABLE_AT, Marks, Place};
use super::os::{Opened, Wait};
use super::segment::{self, HEADER, RECORD, Rest};
use super::shared::{LOOKS_MAX, Shared, is};
use crate::error::{Error, ErrorKind};
use crate::store::refusal::Step;

/// The length of a first segment, and the most that a later one has, unless one entry needs more or the log is
/// long.
pub(super) const SEGMENT_MIN: u64 = 16 << 10;
pub(super) const SEGMENT_MAX: u64 = 256 << 10;
/// A long log is at most about this many segments, and some for each time that it has doubled: each is open.
const SEGMENTS: u64 = 16;
/// No segment is made longer, unless one entry needs more: places in it are 32 bits.
const SEGMENT_LONGEST: u64 = 256 << 20;

/// How many zeros are written in one go.
const PART: u64 = 1 << 20;

/// Whether the bytes of a segment from a place on are whole records, to the log's end or to that of the segment's
/// records.
fn is_whole(number: u64, from: u64, bytes: &[u8], end: Place) -> bool {
    let head = if from == 0 { HEADER } else { 0 };
    if head > 0 && segment::read_header(number, bytes).is_none() {
        return false;
    }
    let scan = segment::scan(number, from + head, bytes.get(head as usize..).unwrap_or_default());
    if number == end.segment { scan.end == end.at } else { scan.rest == Rest::Free }
}

/// Returns how long the next segment of a log is, which has so many bytes in segments.
fn next_len(last: u64, total: u64) -> u64 {
    let most = (total / SEGMENTS).clamp(SEGMENT_MAX, SEGMENT_LONGEST);
    last.saturating_mul(2).clamp(SEGMENT_MIN, most)
}

impl Shared {
    /// Takes the lock; the folder of the log is made if it is not there.
    pub(super) fn locked(&self, writing: &mut Option<Arc<LockFile>>) -> Result<Held, Error> {
        self.check_poison()?;
        let path = self.directory.join("lock");
        if writing.is_none() {
            // Not the root: what was removed does not come back by our hand.
            for folder in [&self.root.join(&self.shard), &self.directory] {
                match std::fs::create_dir(folder) {
                    Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
                        return Err(failed(Step::Stage, folder, e));
                    }
                    _ => {}
                }
            }
        }
        lock(&path, writing)
    }

    /// Returns the log, in segments, read to its end, with nothing but zeros behind it. Under the lock.
    pub(super) fn ready<'a>(&self, known: &'a mut Option<Log>) -> Result<&'a mut Log, Error> {
        let mut made = false;
        for _ in 0..LOOKS_MAX {
            match known.as_mut().map(|log| log.refresh(Wait::Yes)) {
                Some(Ok(())) => break,
                Some(Err(Fail::Error(e))) => return Err(e),
                Some(Err(_)) => {
                    let same = known.as_ref().is_some_and(Log::is_still_there);
                    *known = Log::load(&self.directory)?;
                    if !same {
                        // Of another root, maybe: a writer looks at that before the next attempt.
                        let what = "the log was replaced by another";
                        return Err(Error::new(ErrorKind::Unavailable, what).at(self.place(0)));
                    }
                }
                None => *known = Log::load(&self.directory)?,
            }
            if known.is_none() {
                self.make()?;
                made = true;
            }
        }
        let Some(log) = known else {
            return Err(Error::new(ErrorKind::Unavailable, "the log goes while it is opened")
                .at(self.place(0)));
        };
        if log.end > log.durable || log.has_unseen() {
            // Another may have begun to take that over, and died as well. Or the marks tell less than they did: the system
            // has dropped their page, which it could not write.
            let gone = || damaged(&self.directory, "the log is gone");
            *log = Log::load(&self.directory)?.ok_or_else(gone)?;
        }
        if !is(&log.named) && !crate::mutant::on("segment_believe_name") {
            self.sync_names(Step::Stage)?;
            log.named.store(true, Ordering::Release);
        }
        if made {
            self.remove_idle(log.bounds.first);
        }
        self.settle_end(log)?;
        Ok(log)
    }

    /// Takes over what a writer has left that died.
    fn settle_end(&self, log: &mut Log) -> Result<(), Error> {
        let Place { segment: number, at } = log.end;
        let Some(segment) = log.segments.get(&number) else { return self.roll(log, 0) };
        let (file, len) = (Arc::clone(&segment.file), segment.len);
        let stage = |e| failed(Step::Stage, &file.path, e);
        let mut next = [0; RECORD];
        file.read_at(&mut next, at, Wait::Yes).map_err(stage)?;
        if next != [0; RECORD] || log.rest != Rest::Free {
            let mut bytes = vec![0; (len - at) as usize];
            file.read_at(&mut bytes, at, Wait::Yes).map_err(stage)?;
            let scan = segment::scan(number, at, &bytes);
            if scan.rest == Rest::Damaged {
                return Err(damaged(&file.path, "damage in the midst of the log"));
            }
            log.take(number, &scan.records);
            log.end.at = scan.end;
            if scan.rest == Rest::Torn {
                let zeros = vec![0; (len - log.end.at) as usize];
                self.disk.write_at(&file, &zeros, log.end.at).map_err(stage)?;
                self.synced(self.disk.sync(&file), &file.path)?;
            }
            log.rest = Rest::Free;
        }
        if log.end > log.durable { self.take_over(log) } else { Ok(()) }
    }

    /// Makes whole records durable that the marks do not tell of: those that stand there now, for what only the cache
    /// had may be gone since they were read.
    fn take_over(&self, log: &mut Log) -> Result<(), Error> {
        for (number, segment) in log.segments.range(log.durable.segment..) {
            let stage = |e| failed(Step::Stage, &segment.file.path, e);
            let from = if *number == log.durable.segment { log.durable.at } else { 0 };
            let until = if *number == log.end.segment { log.end.at } else { segment.len };
            let mut bytes = vec![0; until.saturating_sub(from) as usize];
            segment.file.read_at(&mut bytes, from, Wait::Yes).map_err(stage)?;
            if !is_whole(*number, from, &bytes, log.end)
                && !crate::mutant::on("segment_adopt_unseen")
            {
                let what = "what another writer has left is gone while it is taken over";
                return Err(Error::new(ErrorKind::Unavailable, what)
                    .at(segment.file.path.display().to_string())
                    .hint("retry"));
            }
            self.disk.write_at(&segment.file, &bytes, from).map_err(stage)?;
            self.synced(self.disk.sync(&segment.file), &segment.file.path)?;
        }
        self.sync_folder(&self.directory, Step::Stage)?;
        self.mark_durable(log, log.end)
    }

    pub(super) fn mark_durable(&self, log: &mut Log, place: Place) -> Result<(), Error> {
        let marked = self.disk.write_at(&log.marks, &place.encode(), DURABLE_AT);
        marked.map_err(|e| failed(Step::Stage, &log.marks.path, e))?;
        // Behind a mark that is lost in the same segment the next writer finds a record; in another one it finds zeros,
        // and would begin that segment anew.
        if place.segment > log.durable.segment && !crate::mutant::on("segment_lose_mark") {
            self.synced(self.disk.sync(&log.marks), &log.marks.path)?;
        }
        (log.durable, log.sure) = (place, place);
        Ok(())
    }

    /// Begins the next segment, with room for a record of `need` bytes.
    pub(super) fn roll(&self, log: &mut Log, need: u64) -> Result<(), Error> {
        let last = log.segments.get(&log.end.segment).map(|segment| segment.len);
        let number = log.end.segment + u64::from(last.is_some());
        let after = last.map_or(0, |_| log.end.at);
        let len = next_len(last.unwrap_or(0), log.len()).max(HEADER + need);
        let file = self.make_segment(number, &segment::header(number, after), len)?;
        self.sync_folder(&self.directory, Step::Stage)?;
        log.open(number, file, len);
        (log.end, log.rest) = (Place::start(number), Rest::Free);
        self.mark_durable(log, log.end)
    }

    /// Makes a segment that begins with these bytes, durably but for its name.
    pub(super) fn make_segment(
        &self,
        number: u64,
        bytes: &[u8],
        len: u64,
    ) -> Result<Opened, Error> {
        let path = segment_path(&self.directory, number);
        let make = || {
            let file = self.disk.create(path.clone())?;
            let mut part = bytes.to_vec();
            part.resize(len.min(bytes.len() as u64 + PART) as usize, 0);
            let mut at = 0;
            while at < len {
                self.disk.write_at(&file, &part, at)?;
                at += part.len() as u64;
                part = vec![0; (len - at).min(PART) as usize];
            }
            self.disk.sync(&file)?;
            Ok(file)
        };
        make().map_err(|e| {
            let _ = self.disk.remove(&path);
            failed(Step::Stage, &path, e)
        })
    }

    /// Makes the log: out of the files of before, if there are any. Its name is not durable yet.
    fn make(&self) -> Result<(), Error> {
        // What an interrupted copy has left.
        for name in files::names(&self.directory).unwrap_or_default() {
            if segment_number(&name).is_some() {
                let path = self.directory.join(name);
                self.disk.remove(&path).map_err(|e| failed(Step::Stage, &path, e))?;
            }
        }
        let files = Files { directory: &self.directory };
        self.close(&files)?;
        let floor = files.floor()?;
        let bounds = Bounds { floor, gone: floor, first: 1 };
        let (mut number, mut total) = (bounds.first, 0);
        let mut bytes = segment::header(number, 0).to_vec();
        for seqno in files.numbers()?.into_iter().filter(|seqno| *seqno > floor) {
            let Some(entry) = files.get(seqno)? else { continue };
            let end = bytes.len() as u64;
            let most = next_len(total, total);
            if end > HEADER && end + segment::record_len(entry.len()) as u64 > most {
                self.make_segment(number, &bytes, end)?;
                (number, total) = (number + 1, total + end);
                bytes = segment::header(number, end).to_vec();
            }
            let at = bytes.len() as u64;
            segment::push_record(&mut bytes, number, at, HEADER, seqno, &entry);
        }
        let end = Place { segment: number, at: bytes.len() as u64 };
        self.make_segment(number, &bytes, SEGMENT_MIN.max(end.at))?;
        let marks = Marks { bounds, durable: Some(end) };
        let staged = self.directory.join(format!("{MARKS}#1"));
        let path = self.directory.join(MARKS);
        let make = || {
            let file = self.disk.create(staged.clone())?;
            self.disk.write_at(&file, &marks.encode(), 0)?;
            self.disk.sync(&file)
        };
        make().map_err(|e| failed(Step::Stage, &staged, e))?;
        // The segments before the marks, and before these what tells programs of before that they are no files.
        self.sync_names(Step::Stage)?;
        self.disk.rename(&staged, &path).map_err(|e| failed(Step::Stage, &path, e))
    }

    /// Ends a log of files, if there is one: no program of before adds an entry from here on.
    fn close(&self, files: &Files<'_>) -> Result<(), Error> {
        let staged = self.directory.join("closed#1");
        let stage = |e| failed(Step::Stage, &staged, e);
        loop {
            let last = files.numbers()?.last().copied().unwrap_or(0).max(files.floor()?);
            if last == 0 || files.closed_at()?.is_some() || crate::mutant::on("segment_open_end") {
                return Ok(());
            }
            let file = self.disk.create(staged.clone()).map_err(stage)?;
            self.disk.write_at(&file, files::CLOSED, 0).map_err(stage)?;
            self.disk.sync(&file).map_err(stage)?;
            let path = files.path(last + 1);
            let linked = self.disk.link(&staged, &path);
            // One that is left is swept.
            let _ = self.disk.remove(&staged);
            if linked.map_err(|e| failed(Step::Link, &path, e))? {
                return Ok(());
            }
        }
    }

    /// Removes the files of before but for the last, and segments that a collection has left. The marks are durable by now.
    pub(super) fn remove_idle(&self, first: u64) {
        let files = Files { directory: &self.directory };
        let floors = files.floors();
        // The next collection tries again.
        let Ok(closed) = files.closed_at() else { return };
        for folder in [&self.directory, &floors] {
            for name in files::names(folder).unwrap_or_default() {
                let entry = name.split('#').next().unwrap_or_default();
                let is_idle = segment_number(&name).is_some_and(|number| number < first);
                let is_old = files::number(entry).is_some_and(|number| Some(number) != closed);
                if is_idle || is_old {
                    let _ = self.disk.remove(&folder.join(name));
                }
            }
        }
        // Only if it is empty.
        let _ = std::fs::remove_dir(floors);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each segment is a file that is open.
    #[test]
    fn a_long_log_has_few_segments() {
        let (mut last, mut total, mut count) = (0, 0, 0);
        while total < 16 << 30 {
            last = next_len(last, total);
            (total, count) = (total + last, count + 1);
        }
        assert!(count < 250, "{count} segments of 16 GiB");
    }
}
