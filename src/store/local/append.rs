//! Owns how entries are written: its record, a sync of the segment, the mark that it is durable, and only then
//! anyone is told. What is queued at one time is one write and one sync. What must stand before that is
//! [`ready`](super::ready)'s.

use std::sync::Arc;

use super::fail::{Fail, failed, unknown};
use super::index::Log;
use super::lock::{Held, LockFile};
use super::marks::{DURABLE_AT, Place};
use super::os::{Opened, Wait};
use super::segment::{self, Record};
use super::shared::{Pending, Shared};
use crate::error::{Error, ErrorKind};
use crate::store::Create;
use crate::store::refusal::Step;

/// The most bytes of an entry: places in a segment are 32 bits.
pub(super) const ENTRY_MAX: usize = 1 << 30;
/// The most that is written in one go.
const GO_MAX: usize = 1 << 20;

/// Records that are written in one go.
struct Go {
    file: Arc<Opened>,
    from: Place,
    bytes: Vec<u8>,
    records: Vec<Record>,
    answers: Vec<Create>,
}

impl Shared {
    pub(super) fn queue(&self, pending: Pending) {
        self.queue.lock().push(pending);
    }

    /// Writes all that is queued, and answers.
    pub(super) fn append_queued(&self) {
        let mut writing = self.writing.lock();
        let queued = std::mem::take(&mut *self.queue.lock());
        if queued.is_empty() {
            return;
        }
        let results = self.append(&mut writing, &queued);
        drop(writing);
        for (pending, result) in queued.into_iter().zip(results) {
            // A caller that is gone hears nothing.
            let _ = pending.answer.send(result);
        }
    }

    fn append(
        &self,
        writing: &mut Option<Arc<LockFile>>,
        queued: &[Pending],
    ) -> Vec<Result<Create, Error>> {
        let mut results = Vec::new();
        while results.len() < queued.len() {
            let gathered = self.locked(writing).and_then(|held| {
                let go = self.gather(&queued[results.len()..])?;
                Ok((held, go))
            });
            match gathered {
                Ok((held, go)) => {
                    let count = go.answers.len();
                    match self.write(writing, held, &go) {
                        Ok(()) => results.extend(go.answers.into_iter().map(Ok)),
                        Err(e) => results.extend((0..count).map(|_| Err(e.clone()))),
                    }
                }
                // Before anything of these was written.
                Err(e) => results.resize_with(queued.len(), || Err(e.clone())),
            }
        }
        results
    }

    /// Decides about as many entries as fit in one go: one at least.
    fn gather(&self, queued: &[Pending]) -> Result<Go, Error> {
        let mut known = self.known.lock();
        let log = self.ready(&mut known)?;
        let need = queued.first().map_or(0, |pending| segment::record_len(pending.entry.len()));
        if is_new(log, &queued[0]) && !fits(log, log.end.at, need) {
            self.roll(log, need as u64)?;
        }
        let Place { segment: number, at } = log.end;
        let file = Arc::clone(&log.segments[&number].file);
        let mut go = Go { file, from: log.end, bytes: vec![], records: vec![], answers: vec![] };
        for pending in queued {
            let place = at + go.bytes.len() as u64;
            let twice = go.records.iter().any(|record| record.seqno == pending.seqno);
            if twice || !is_new(log, pending) {
                go.answers.push(Create::Exists);
                continue;
            }
            let need = segment::record_len(pending.entry.len());
            let is_full = !fits(log, place, need)
                || go.bytes.len() + need > GO_MAX
                || crate::mutant::on("segment_one_by_one");
            if is_full && !go.bytes.is_empty() {
                break;
            }
            let (seqno, entry) = (pending.seqno, &pending.entry);
            segment::push_record(&mut go.bytes, number, place, at, seqno, entry);
            let record = segment::read_record(number, place, &go.bytes[(place - at) as usize..]);
            go.records.extend(record);
            go.answers.push(Create::Created);
        }
        Ok(go)
    }

    /// Writes and syncs. From the first byte on, a failure is an unknown outcome.
    ///
    /// The sync takes no lock, or a process that is stopped in it, which is where a writer is most of its time, would
    /// stop all others. The next writer takes these records over, as if we had died.
    fn write(&self, writing: &mut Option<Arc<LockFile>>, held: Held, go: &Go) -> Result<(), Error> {
        if go.records.is_empty() {
            return Ok(());
        }
        let wrote = self.disk.write_at(&go.file, &go.bytes, go.from.at);
        wrote.map_err(|e| failed(Step::Publish, &go.file.path, e))?;
        let end = Place { segment: go.from.segment, at: go.from.at + go.bytes.len() as u64 };
        drop(held);
        if !crate::mutant::on("segment_no_sync") {
            let synced = self.disk.sync(&go.file);
            self.synced(synced, &go.file.path).map_err(|e| unknown(&go.file.path, e))?;
        }
        // Durable, and not yet told of: the writer that finds that takes it over.
        let untold = |e| unknown(self.place(go.records[0].seqno), e);
        let _held = self.locked(writing).map_err(untold)?;
        let mut known = self.known.lock();
        let replaced = || {
            Error::new(ErrorKind::Indeterminate, "the log was replaced")
                .at(self.place(go.records[0].seqno))
        };
        let log = known.as_mut().ok_or_else(replaced)?;
        match log.refresh(Wait::Yes) {
            Ok(()) => {}
            Err(Fail::Error(e)) => return Err(untold(e)),
            // A collection has copied it, records of ours with it.
            Err(_) if log.is_still_there() => {
                *log = Log::load(&self.directory).map_err(untold)?.ok_or_else(replaced)?;
            }
            Err(_) => return Err(replaced()),
        }
        if log.durable >= end {
            return Ok(());
        }
        let mark = self.disk.write_at(&log.marks, &end.encode(), DURABLE_AT);
        mark.map_err(|e| failed(Step::Publish, &log.marks.path, e))?;
        // Nothing that another has written behind it meanwhile.
        log.be_sure(end);
        log.take(end.segment, &go.records);
        (log.end, log.durable) = (end, end);
        Ok(())
    }
}

/// Whether an entry is to be written. One below the floor is not: nobody would believe it.
fn is_new(log: &Log, pending: &Pending) -> bool {
    pending.seqno > log.bounds.floor && !log.has(pending.seqno)
}

/// Whether a record of `need` bytes fits behind a place of the log's last segment.
fn fits(log: &Log, at: u64, need: usize) -> bool {
    log.segments.get(&log.end.segment).is_some_and(|segment| at + need as u64 <= segment.len)
}
