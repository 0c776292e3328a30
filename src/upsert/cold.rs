//! Owns the file of cold chunks: what is written where, and the reads of rows that are under way. It does not own which
//! chunks are cold, nor what is in them.
//!
//! Reads run beside the worker, many at a time, and the operator is woken as they are done. Where nothing runs them, it reads
//! by itself, at once.

use std::collections::BTreeMap;
use std::io;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use super::entry::Entry;
use super::placed::{ColdFile, PlacedFile};
use super::readers::{Done, Queue, Reading, Wake};
use super::recent::BESIDE;
use super::regions::Regions;
use super::slot::Slot;
use crate::error::{Error, ErrorKind};
use crate::io::Io;

/// Bytes of a unit of the file.
const UNIT: usize = 4 << 10;

/// Makes the file, at the first write.
pub(crate) type MakeFile = Box<dyn Fn() -> io::Result<Arc<dyn ColdFile>>>;

/// Reads to be run.
pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// Where reads run.
pub(crate) type Readers = Box<dyn Fn(Job)>;

/// Returns what runs reads beside the worker.
pub(crate) fn readers_on(io: Io) -> Readers {
    Box::new(move |job| io.spawn_blocking(job))
}

/// What the operator is lent for cold chunks.
#[derive(Default)]
pub(crate) struct ColdSpace {
    /// Makes the file; an unnamed temporary one where it is not said.
    pub(crate) file: Option<MakeFile>,
    /// Runs reads; where there are none, the operator reads by itself.
    pub(crate) readers: Option<Readers>,
    /// Is told when a read is done.
    pub(crate) wake: Option<Wake>,
}

/// Where a chunk is in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Region {
    /// The first unit.
    pub(crate) unit: u32,
    /// The units.
    pub(crate) units: u32,
    /// Their bytes in use.
    pub(crate) bytes: usize,
}

impl Region {
    /// Returns where its bytes end in the file.
    pub(crate) fn end(&self) -> u64 {
        u64::from(self.unit) * UNIT as u64 + self.bytes as u64
    }

    /// Whether its bytes fit into its units.
    pub(crate) fn is_whole(&self) -> bool {
        self.bytes > 0 && self.bytes.div_ceil(UNIT) == self.units as usize
    }
}

/// A chunk in the file, as an image has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chunked {
    /// Its number.
    pub(crate) chunk: u32,
    /// Where it is.
    pub(crate) region: Region,
    /// Its rows, dead or alive.
    pub(crate) rows: u32,
    /// Those that live, by the entries of the image.
    pub(crate) live: u32,
}

/// What was read since it was last asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadCounts {
    /// Rows that were asked for.
    pub reads: u64,
    /// Bytes that were read, rows and chunks.
    pub bytes: u64,
}

/// What came of asking for rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// So many reads were begun.
    pub begun: u64,
    /// All that were wanted are here or under way. Where it is false, the read of the last entry that was taken was not
    /// begun: as many are under way as may be.
    pub is_whole: bool,
}

/// A read of a row: its entry, and what to read of its chunk.
pub(super) struct Read {
    pub(super) entry: Entry,
    pub(super) region: Region,
    pub(super) range: Range<usize>,
}

/// A read that is under way.
struct Flight {
    number: u64,
    entry: Entry,
    bytes: usize,
}

/// The cold chunks of one state.
pub(super) struct Cold {
    space: ColdSpace,
    file: Option<Arc<dyn ColdFile>>,
    regions: Regions,
    /// The reads under way, by their rows: what another read of the same place brings is not it.
    flight: BTreeMap<Slot, Flight>,
    /// The bytes of reads that were forgotten and have not come, by their numbers.
    forgotten: BTreeMap<u64, usize>,
    /// Those of both.
    flight_bytes: usize,
    number: u64,
    queue: Arc<Queue>,
    done: (Sender<Done>, Receiver<Done>),
}

impl Cold {
    pub(super) fn new(space: ColdSpace) -> Self {
        Cold {
            space,
            file: None,
            regions: Regions::default(),
            flight: BTreeMap::new(),
            forgotten: BTreeMap::new(),
            flight_bytes: 0,
            number: 0,
            queue: Arc::default(),
            done: channel(),
        }
    }

    /// Says which regions of a file that was kept are in use. Returns false if two of them overlap.
    pub(super) fn keep(&mut self, used: &[Region]) -> bool {
        let used = used.iter().map(|region| (region.unit, region.units)).collect();
        let Some(regions) = Regions::of_used(used) else { return false };
        self.regions = regions;
        true
    }

    /// Writes a chunk over what it was.
    ///
    /// # Errors
    ///
    /// `Unavailable` if the file cannot be written.
    pub(super) fn write_over(&mut self, region: &Region, bytes: &[u8]) -> Result<(), Error> {
        let at = self.at(region);
        self.file()?.write_at(at, bytes).map_err(|e| cannot("write", e))
    }

    /// Writes a chunk.
    ///
    /// # Errors
    ///
    /// `Unavailable` if the file cannot be made or written; nothing is in use then.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<Region, Error> {
        let units = bytes.len().div_ceil(UNIT).max(1) as u32;
        let full = || cannot("write", "it cannot be longer");
        let unit = self.regions.take(units).ok_or_else(full)?;
        let region = Region { unit, units, bytes: bytes.len() };
        let at = self.at(&region);
        let written =
            self.file().and_then(|file| file.write_at(at, bytes).map_err(|e| cannot("write", e)));
        match written {
            Ok(()) => Ok(region),
            Err(error) => {
                self.give(&region);
                Err(error)
            }
        }
    }

    /// Reads a chunk, at once.
    ///
    /// # Errors
    ///
    /// `StateLost` if the file cannot be read.
    pub(super) fn read(&mut self, region: &Region, range: Range<usize>) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![0; range.len()];
        let at = self.at(region) + range.start as u64;
        self.file()?.read_at(at, &mut bytes).map_err(unread)?;
        Ok(bytes)
    }

    /// Begins reads, of rows none of which is [under way](Cold::is_under_way).
    ///
    /// # Errors
    ///
    /// `Unavailable` if there is no file.
    pub(super) fn begin(&mut self, reads: Vec<Read>) -> Result<(), Error> {
        if reads.is_empty() {
            return Ok(());
        }
        let file = Arc::clone(self.file()?);
        let mut jobs = Vec::with_capacity(reads.len());
        for Read { entry, region, range } in reads {
            self.number += 1;
            let flight = Flight { number: self.number, entry, bytes: range.len() + BESIDE };
            self.flight_bytes += flight.bytes;
            self.flight.insert(entry.slot(), flight);
            let at = self.at(&region) + range.start as u64;
            jobs.push(Reading { slot: entry.slot(), number: self.number, at, bytes: range.len() });
        }
        for runner in self.queue.push(jobs, &file, &self.done.0, self.space.wake.as_ref()) {
            let job = move || runner.run();
            match &self.space.readers {
                Some(run) => run(Box::new(job)),
                None => job(),
            }
        }
        Ok(())
    }

    /// Returns the next row that was read, with its entry.
    ///
    /// # Errors
    ///
    /// `StateLost` if it could not be read.
    pub(super) fn next_done(&mut self) -> Result<Option<(Entry, Vec<u8>)>, Error> {
        while let Ok((slot, number, read)) = self.done.1.try_recv() {
            match self.flight.get(&slot) {
                Some(flight) if flight.number == number => {
                    let entry = flight.entry;
                    self.flight_bytes -= flight.bytes;
                    self.flight.remove(&slot);
                    return Ok(Some((entry, read.map_err(unread)?)));
                }
                // Its row is somewhere else by now.
                _ => self.flight_bytes -= self.forgotten.remove(&number).unwrap_or(0),
            }
        }
        Ok(None)
    }

    /// Whether a row is being read.
    pub(super) fn is_under_way(&self, slot: Slot) -> bool {
        self.flight.contains_key(&slot)
    }

    /// Whether reads have not come, of rows that may have left their places.
    pub(super) fn is_reading(&self) -> bool {
        !self.flight.is_empty() || !self.forgotten.is_empty()
    }

    /// Returns the bytes that are being read, with what each row has beside its own.
    pub(super) fn under_way_bytes(&self) -> usize {
        self.flight_bytes
    }

    /// Returns how many rows are being read.
    pub(super) fn under_way(&self) -> usize {
        self.flight.len()
    }

    /// Forgets the reads of rows that have left their places: what they bring is dropped. Until they bring it, it takes its
    /// room.
    pub(super) fn forget(&mut self, gone: RangeInclusive<Slot>) {
        while let Some((slot, _)) = self.flight.range(gone.clone()).next()
            && !crate::mutant::on("read_outlives_row")
        {
            let slot = *slot;
            let Some(Flight { number, bytes, .. }) = self.flight.remove(&slot) else { return };
            match crate::mutant::on("forgotten_uncounted") {
                true => self.flight_bytes -= bytes,
                false => drop(self.forgotten.insert(number, bytes)),
            }
        }
    }

    /// Gives a chunk's region back. A read that is under way in it is to be [forgotten](Cold::forget).
    pub(super) fn give(&mut self, region: &Region) {
        let before = self.regions.end();
        self.regions.give(region.unit, region.units);
        let end = self.regions.end();
        // What is not cut costs room alone.
        if let Some(file) = &self.file
            && end < before
        {
            let _ = file.cut(u64::from(end) * UNIT as u64);
        }
    }

    /// Returns the bytes of the file.
    pub(super) fn bytes(&self) -> u64 {
        u64::from(self.regions.end()) * UNIT as u64
    }

    fn at(&self, region: &Region) -> u64 {
        u64::from(region.unit) * UNIT as u64
    }

    fn file(&mut self) -> Result<&Arc<dyn ColdFile>, Error> {
        match &mut self.file {
            Some(file) => Ok(file),
            none => {
                let made = match &self.space.file {
                    Some(make) => make(),
                    None => unnamed(),
                };
                Ok(none.insert(made.map_err(|e| cannot("make", e))?))
            }
        }
    }
}

/// What cannot be read is in the shard.
fn unread(why: io::Error) -> Error {
    if why.kind() == io::ErrorKind::Interrupted {
        // It was given up with what runs it: the file is as good as it was.
        return cannot("read", why);
    }
    Error::new(ErrorKind::StateLost, format!("cannot read the file of cold state: {why}")).hint(
        "start again: the state is read from the shard; check the disk of the directory for state",
    )
}

fn cannot(doing: &str, why: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Unavailable, format!("cannot {doing} the file of cold state: {why}"))
        .hint("free some disk space, or raise state_bytes_max, and start again")
}

/// Returns what makes an unnamed file in a directory.
pub(crate) fn unnamed_in(dir: &std::path::Path) -> MakeFile {
    let dir = dir.to_path_buf();
    Box::new(move || {
        std::fs::create_dir_all(&dir)?;
        Ok(Arc::new(super::placed::PlacedFile::new(tempfile::tempfile_in(&dir)?)))
    })
}

fn unnamed() -> io::Result<Arc<dyn ColdFile>> {
    Ok(Arc::new(PlacedFile::new(tempfile::tempfile()?)))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::super::entry::{Class, Hashed, Placed};
    use super::*;

    /// What was asked for takes its room until it has come, also if its row is gone by then.
    #[test]
    fn a_forgotten_read_takes_room_until_it_has_come() {
        let jobs = Rc::new(RefCell::new(Vec::<Job>::new()));
        let queue = Rc::clone(&jobs);
        let readers: Readers = Box::new(move |job| queue.borrow_mut().push(job));
        let mut cold = Cold::new(ColdSpace { readers: Some(readers), ..ColdSpace::default() });
        let region = cold.write(&[7; 100]).unwrap();
        let slots = [0, 1, 2].map(|row| Slot::new(0, row));
        let read = |slot| {
            let placed = Placed { slot, class: Class::of(8), check: 0 };
            Read { entry: Entry::new(Hashed::of(1), placed), region, range: 0..40 }
        };
        cold.begin(slots.map(read).into()).unwrap();
        let all = cold.under_way_bytes();
        cold.forget(slots[0]..=slots[1]);
        assert_eq!((cold.under_way(), cold.under_way_bytes()), (1, all));
        // Its place has another row, which is asked for.
        cold.begin(vec![read(slots[1])]).unwrap();
        cold.forget(slots[1]..=slots[2]);
        assert_eq!((cold.under_way(), cold.is_reading()), (0, true));
        assert_eq!(cold.under_way_bytes(), all / 3 * 4);
        jobs.take().into_iter().for_each(|job| job());
        assert!(cold.next_done().unwrap().is_none());
        assert_eq!((cold.is_reading(), cold.under_way_bytes()), (false, 0));
    }
}
