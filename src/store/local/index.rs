//! Owns what a process knows of a log in segments: which entry is where, and how far the log goes. It reads; what
//! is written, and when, is [`append`](super::append)'s.
//!
//! It is loaded once, by reading every segment to its end: a crash may have left whole records that the marks do
//! not tell of yet. From then on the marks tell of every entry that anyone was told is durable, so one read of
//! them answers whether there is anything new.
//!
//! A record that the marks do not tell of may stand in the cache alone: the sync of its writer failed, and a process
//! that opens the file after that hears nothing of it. A reader shows it once it has synced the segment, made the system
//! forget its pages, and read the same record again ([`Log::agrees_with`]). A writer writes it anew.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;

use super::fail::{Fail, failed};
use super::marks::{self, Bounds, Marks, Place};
use super::os::{Identity, Opened, Wait, identity};
use super::segment::{self, HEADER, RECORD, Record, Rest};
use crate::error::{Error, ErrorKind};
use crate::store::refusal::Step;

/// How often a load begins anew because another process wrote, or removed, what it was about to read.
const LOADS_MAX: u32 = 100;

/// The name of the marks.
pub(super) const MARKS: &str = "marks";

/// Returns where a segment is.
pub(super) fn segment_path(directory: &Path, number: u64) -> PathBuf {
    directory.join(segment_name(number))
}

fn segment_name(number: u64) -> String {
    format!("{number:016x}.seg")
}

/// Returns the number of a segment from its name.
pub(super) fn segment_number(name: &str) -> Option<u64> {
    let number = u64::from_str_radix(name.strip_suffix(".seg")?, 16).ok()?;
    (segment_name(number) == name).then_some(number)
}

/// A segment that is open.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) file: Arc<Opened>,
    pub(super) len: u64,
}

/// Where an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stored {
    segment: u64,
    at: u64,
    bytes: u32,
    crc: u32,
}

impl Stored {
    fn place(&self) -> Place {
        Place { segment: self.segment, at: self.at }
    }
}

/// A log in segments, as it was last read.
#[derive(Debug)]
pub(super) struct Log {
    directory: PathBuf,
    pub(super) marks: Opened,
    identity: Identity,
    /// The marks, as they were read last.
    seen: Box<[u8; marks::LEN]>,
    pub(super) bounds: Bounds,
    /// Up to where the marks say that it is durable.
    pub(super) durable: Place,
    /// Up to where it is known here to be: no less, and more where this process has looked itself.
    pub(super) sure: Place,
    pub(super) segments: BTreeMap<u64, Segment>,
    entries: BTreeMap<u64, Stored>,
    /// Where the last whole record ends; beyond `durable` and `sure` after a crash.
    pub(super) end: Place,
    /// What stands there, as far as this process knows.
    pub(super) rest: Rest,
    /// A segment behind the last one, that a writer died in the making of.
    left: Option<u64>,
    /// Whether this process knows that the names of the log's files and folders are durable: their maker may have
    /// died before they were.
    pub(super) named: Arc<AtomicBool>,
}

impl Log {
    /// Reads a whole log; `None` if it is not in segments.
    pub(super) fn load(directory: &Path) -> Result<Option<Log>, Error> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let Some(mut log) = Log::begin(directory)? else { return Ok(None) };
            match log.read_all() {
                Ok(()) => return Ok(Some(log)),
                Err(e) => {
                    // What is read beside a writer at work may be half of what it writes.
                    let marks = |log: &Log| (log.bounds, log.durable);
                    let same = Log::begin(directory)?.is_some_and(|now| marks(&now) == marks(&log));
                    if same || attempt == LOADS_MAX {
                        return Err(e);
                    }
                }
            }
        }
    }

    fn begin(directory: &Path) -> Result<Option<Log>, Error> {
        let path = directory.join(MARKS);
        let unreadable = |e| failed(Step::Read, &path, e);
        let marks = match Opened::open(path.clone()) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            marks => marks.map_err(unreadable)?,
        };
        let mut seen = Box::new([0; marks::LEN]);
        let read = marks.read_at(&mut *seen, 0, Wait::Yes).map_err(unreadable)?;
        let found = (read == seen.len()).then(|| Marks::decode(&seen)).flatten();
        let Marks { bounds, durable } =
            found.ok_or_else(|| damaged(&path, "the marks are damaged"))?;
        let identity = marks.file.metadata().map(|found| identity(&found)).map_err(unreadable)?;
        let durable = durable.unwrap_or(Place::start(bounds.first));
        Ok(Some(Log {
            directory: directory.into(),
            marks,
            identity,
            seen,
            bounds,
            durable,
            sure: durable,
            segments: BTreeMap::new(),
            entries: BTreeMap::new(),
            end: Place::start(bounds.first),
            rest: Rest::Free,
            left: None,
            named: Arc::default(),
        }))
    }

    fn read_all(&mut self) -> Result<(), Error> {
        let mut number = self.bounds.first;
        let last =
            if crate::mutant::on("segment_forget_tail") { self.durable.segment } else { u64::MAX };
        while let Some((opened, len, bytes)) = self.read_segment(number)? {
            let Some(after) = segment::read_header(number, &bytes) else {
                // Its making was interrupted: nothing was ever written to it, and none was made after it.
                let next = segment_path(&self.directory, number.saturating_add(1));
                if Place::start(number) >= self.durable
                    && !self.has_news(number, &bytes)
                    && !next.exists()
                {
                    self.left = Some(number);
                    break;
                }
                return Err(damaged(&opened.path, "the header of a segment is damaged"));
            };
            if self.rest != Rest::Free {
                // A writer died in the making of this segment; another one, that knew the one before, went on in
                // it and died as well. The next that is made takes its place.
                if self.rest == Rest::Torn
                    && self.end.at >= after
                    && !self.has_news(number, &bytes)
                    && !crate::mutant::on("segment_believe_begun")
                {
                    self.left = Some(number);
                    break;
                }
                let path = segment_path(&self.directory, self.end.segment);
                return Err(damaged(&path, &format!("no whole record at byte {}", self.end.at)));
            }
            let scan = segment::scan(number, HEADER, &bytes[HEADER as usize..]);
            self.open(number, opened, len);
            self.take(number, &scan.records);
            (self.end, self.rest) = (Place { segment: number, at: scan.end }, scan.rest);
            number = number.saturating_add(1);
            if number > last {
                break;
            }
        }
        if self.end < self.durable || self.rest == Rest::Damaged {
            let path = segment_path(&self.directory, self.end.segment);
            let what = format!("no whole record at byte {}, where there was one", self.end.at);
            return Err(damaged(&path, &what));
        }
        Ok(())
    }

    /// Whether a segment has an entry that is not gone and stands in none before it: more than copies, then, which are
    /// written in its making.
    fn has_news(&self, number: u64, bytes: &[u8]) -> bool {
        let records = bytes.get(HEADER as usize..).unwrap_or_default();
        let mut records = segment::find_records(number, HEADER, records);
        let is_gone =
            |seqno| seqno <= self.bounds.gone && !crate::mutant::on("segment_gone_is_news");
        records.any(|record| !is_gone(record.seqno) && !self.entries.contains_key(&record.seqno))
    }

    fn read_segment(&self, number: u64) -> Result<Option<(Opened, u64, Vec<u8>)>, Error> {
        let path = segment_path(&self.directory, number);
        let unreadable = |e| failed(Step::Read, &path, e);
        let opened = match Opened::open(path.clone()) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(unreadable)?,
        };
        let len = opened.file.metadata().map_err(unreadable)?.len();
        if len > u64::from(u32::MAX) {
            return Err(damaged(&path, "a segment that is longer than any is"));
        }
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
        let read = opened.read_at(&mut bytes, 0, Wait::Yes).map_err(unreadable)?;
        bytes.truncate(read);
        Ok(Some((opened, len, bytes)))
    }

    /// Takes a segment in that is there now.
    pub(super) fn open(&mut self, number: u64, opened: Opened, len: u64) {
        self.segments.insert(number, Segment { file: Arc::new(opened), len });
    }

    /// Takes records in that stand in a segment now.
    pub(super) fn take(&mut self, number: u64, records: &[Record]) {
        for Record { seqno, place, bytes, crc, .. } in records {
            let stored = Stored { segment: number, at: place.start, bytes: *bytes, crc: *crc };
            self.entries.entry(*seqno).or_insert(stored);
        }
    }

    /// Takes copies of entries in that stand in a segment now.
    pub(super) fn take_copies(&mut self, number: u64, records: &[Record]) {
        for record in records {
            self.entries.remove(&record.seqno);
        }
        self.take(number, records);
    }

    /// Returns the first segment that has an entry after a number; the last there is if none has.
    pub(super) fn first_after(&self, seqno: u64) -> u64 {
        let later = self.entries.range(seqno.saturating_add(1)..);
        let first = later.map(|(_, stored)| stored.segment).min();
        first.map_or(self.end.segment, |first| first.min(self.end.segment))
    }

    /// Whether there is a segment that this process should know, and does not: its maker had the lock, so it is of
    /// one that died, or marks that told of it were lost, or a collection began it while we looked away.
    pub(super) fn has_unseen(&self) -> bool {
        let is_known = self.segments.contains_key(&self.end.segment);
        let next = self.end.segment.saturating_add(u64::from(is_known));
        self.left != Some(next)
            && segment_path(&self.directory, next).exists()
            && !crate::mutant::on("segment_next_unseen")
    }

    /// Returns how many bytes the segments have.
    pub(super) fn len(&self) -> u64 {
        self.segments.values().map(|segment| segment.len).sum()
    }

    /// Returns how many bytes the records of the entries after a number take.
    pub(super) fn bytes_after(&self, seqno: u64) -> u64 {
        let later = self.entries.range(seqno.saturating_add(1)..);
        later.map(|(_, stored)| segment::record_len(stored.bytes as usize) as u64).sum()
    }

    /// Whether the marks under the log's name are those that are open here.
    pub(super) fn is_still_there(&self) -> bool {
        let found = std::fs::metadata(&self.marks.path);
        found.is_ok_and(|found| identity(&found) == self.identity)
    }

    /// Reads on as far as the marks say. No read but that of the marks if they say nothing new.
    pub(super) fn refresh(&mut self, wait: Wait) -> Result<(), Fail> {
        if !self.is_still_there() {
            return Err(Fail::Stale);
        }
        let mut seen = [0; marks::LEN];
        let read = self.marks.read_at(&mut seen, 0, wait);
        let read = read.map_err(|e| Fail::of(Step::Read, &self.marks.path, e))?;
        if read == seen.len() && seen == *self.seen {
            return Ok(());
        }
        let marks = (read == seen.len()).then(|| Marks::decode(&seen)).flatten();
        let marks = marks.ok_or_else(|| damaged(&self.marks.path, "the marks are damaged"))?;
        // Caught in the midst of a write.
        let Some(durable) = marks.durable else { return Err(Fail::Stale) };
        // A collection has copied what is left: it is read anew, where it stands by now.
        let left = self.entries.range(marks.bounds.gone.saturating_add(1)..);
        if marks.bounds.first > self.bounds.first && { left }
            .any(|(_, stored)| stored.segment < marks.bounds.first)
        {
            return Err(Fail::Stale);
        }
        // We have seen a segment in its making. A writer that does not know of it goes on in the one before, and it may be made
        // anew.
        if durable != self.durable
            && self.sure.segment > self.durable.segment
            && !crate::mutant::on("segment_sure_of_begun")
        {
            return Err(Fail::Stale);
        }
        if durable > self.sure && self.end > self.sure {
            self.forget_from(self.sure);
        }
        self.bound(self.bounds.max(marks.bounds));
        self.end = self.end.max(Place::start(self.bounds.first));
        if durable > self.end {
            self.read_on(durable, wait)?;
        }
        self.durable = self.durable.max(durable);
        self.sure = self.sure.max(durable);
        *self.seen = seen;
        Ok(())
    }

    /// Forgets what is gone.
    pub(super) fn bound(&mut self, bounds: Bounds) {
        if bounds.first > self.bounds.first {
            self.segments = self.segments.split_off(&bounds.first);
            self.entries.retain(|_, stored| stored.segment >= bounds.first);
        }
        self.bounds = bounds;
    }

    /// Forgets what was read beyond a place: a writer was at work on it, or has died, and another may have written
    /// other records there by now.
    fn forget_from(&mut self, place: Place) {
        self.entries.retain(|_, stored| stored.place() < place);
        drop(self.segments.split_off(&place.segment.saturating_add(1)));
        (self.end, self.rest) = (place, Rest::Free);
    }

    /// Whether all that was read is known to be durable.
    pub(super) fn is_sure(&self) -> bool {
        self.end <= self.sure || crate::mutant::on("segment_believe_cache")
    }

    /// Whether a log that was read after this one has the same records beyond what this one is sure of.
    pub(super) fn agrees_with(&self, later: &Log) -> bool {
        let mut unsure = self.entries.iter().filter(|(_, stored)| stored.place() >= self.sure);
        later.end >= self.end
            && unsure.all(|(seqno, stored)| later.entries.get(seqno) == Some(stored))
    }

    /// Takes what was read up to a place as durable; what was read beyond it is forgotten.
    pub(super) fn be_sure(&mut self, place: Place) {
        self.sure = self.sure.max(place);
        if self.end > self.sure {
            self.forget_from(self.sure);
        }
    }

    /// Reads on to a place up to which there are whole records.
    fn read_on(&mut self, to: Place, wait: Wait) -> Result<(), Fail> {
        loop {
            let Place { segment: number, at } = self.end;
            if !self.segments.contains_key(&number) {
                if wait == Wait::No {
                    return Err(Fail::WouldBlock);
                }
                // Gone again: what we know is old.
                let Some((opened, len, bytes)) = self.read_segment(number)? else {
                    return Err(Fail::Stale);
                };
                if segment::read_header(number, &bytes).is_none() {
                    return Err(damaged(&opened.path, "the header of a segment is damaged").into());
                }
                self.open(number, opened, len);
            }
            let Some(Segment { file, len, .. }) = self.segments.get(&number) else {
                return Err(Fail::Stale);
            };
            let until = if number == to.segment { to.at.min(*len) } else { *len };
            let mut bytes =
                vec![0; usize::try_from(until.saturating_sub(at)).unwrap_or(usize::MAX)];
            let read = file.read_at(&mut bytes, at, wait);
            bytes.truncate(read.map_err(|e| Fail::of(Step::Read, &file.path, e))?);
            let scan = segment::scan(number, at, &bytes);
            let whole = match number == to.segment {
                true => scan.end == to.at,
                false => scan.rest == Rest::Free,
            };
            if !whole {
                let what = format!("no whole record at byte {}, where there was one", scan.end);
                return Err(damaged(&file.path, &what).into());
            }
            self.take(number, &scan.records);
            (self.end, self.rest) = (Place { segment: number, at: scan.end }, Rest::Free);
            if number == to.segment {
                return Ok(());
            }
            self.end = Place::start(number.saturating_add(1));
        }
    }

    /// Whether an entry is there.
    pub(super) fn has(&self, seqno: u64) -> bool {
        seqno > self.bounds.gone && self.entries.contains_key(&seqno)
    }

    /// Returns the numbers of the entries that are there.
    pub(super) fn numbers(&self) -> Vec<u64> {
        let there = self.entries.keys().filter(|seqno| **seqno > self.bounds.gone);
        there.copied().collect()
    }

    /// Returns an entry, if it is there as far as the log was read.
    pub(super) fn get(&self, seqno: u64, wait: Wait) -> Result<Option<Bytes>, Fail> {
        let stored = self.entries.get(&seqno).filter(|_| seqno > self.bounds.gone);
        let Some(Stored { segment: number, at, bytes, .. }) = stored.copied() else {
            return Ok(None);
        };
        let Some(Segment { file, .. }) = self.segments.get(&number) else { return Ok(None) };
        let mut record = vec![0; segment::record_len(bytes as usize)];
        let read = file.read_at(&mut record, at, wait);
        record.truncate(read.map_err(|e| Fail::of(Step::Read, &file.path, e))?);
        match segment::read_record(number, at, &record) {
            Some(found) if found.seqno == seqno && found.bytes == bytes => {
                Ok(Some(Bytes::from(record).slice(RECORD..RECORD + bytes as usize)))
            }
            _ => {
                let what = format!("entry {seqno}, at byte {at}, is damaged");
                Err(damaged(&file.path, &what).into())
            }
        }
    }
}

/// The error of a log that is not what was written.
pub(super) fn damaged(path: &Path, what: &str) -> Error {
    Error::new(ErrorKind::Corrupt, what)
        .at(path.display().to_string())
        .hint("restore the shard from a copy")
}
