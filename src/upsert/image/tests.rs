//! Goal: whatever happens while an image is made, and whatever becomes of its bytes, a start has the contents or is refused.
//! Method: a directory in memory that loses what is not synced; states against a map.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, MutexGuard};

use super::super::cold::ColdSpace;
use super::super::rows::KeyHash;
use super::disk::Disk;
use super::*;
use crate::codec::packed::Encoded;

/// Files by name: the number of each, and what is in it, as it is and as it would be after a crash.
#[derive(Clone, Debug, Default)]
struct Files {
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    bytes: BTreeMap<u64, Vec<u8>>,
    durable: BTreeMap<u64, Vec<u8>>,
    next: u64,
    /// Operations that change something, and after how many the process is gone.
    done: u64,
    last: Option<u64>,
}

#[derive(Debug, Default)]
struct MemoryDisk(Mutex<Files>);

impl MemoryDisk {
    fn files(&self) -> MutexGuard<'_, Files> {
        self.0.lock().unwrap()
    }

    fn change<R>(&self, change: impl FnOnce(&mut Files) -> R) -> io::Result<R> {
        let mut files = self.files();
        files.done += 1;
        if files.last.is_some_and(|last| files.done > last) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Ok(change(&mut files))
    }

    /// Returns what a crash leaves: of files that were not synced all, nothing, or the first half of what was written.
    fn after_crash(&self, unsynced: u32) -> MemoryDisk {
        let files = self.files();
        let mut left = Files { next: files.next, ..Files::default() };
        let names = if unsynced == 0 { &files.names } else { &files.durable_names };
        for (name, number) in names {
            let now = files.bytes.get(number).cloned().unwrap_or_default();
            let synced = files.durable.get(number).cloned().unwrap_or_default();
            let bytes = match unsynced {
                0 => now,
                1 => synced,
                _ => {
                    let half = now.len() / 2;
                    let rest = synced.get(half..).unwrap_or_default();
                    [&now[..half], rest].concat()
                }
            };
            left.names.insert(name.clone(), *number);
            left.bytes.insert(*number, bytes);
        }
        left.durable_names = left.names.clone();
        left.durable = left.bytes.clone();
        MemoryDisk(Mutex::new(left))
    }
}

fn number_of(files: &mut Files, name: &str) -> u64 {
    let next = files.next;
    let number = *files.names.entry(name.to_string()).or_insert(next);
    files.next += u64::from(number == next);
    number
}

impl Disk for MemoryDisk {
    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let files = self.files();
        let number = files.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(files.bytes.get(number).cloned().unwrap_or_default())
    }

    fn length(&self, name: &str) -> io::Result<u64> {
        Ok(self.read(name).map_or(0, |bytes| bytes.len() as u64))
    }

    fn read_at(&self, name: &str, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        let all = self.read(name)?;
        let range = at as usize..at as usize + bytes.len();
        bytes.copy_from_slice(all.get(range).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, name: &str, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.change(|files| {
            let number = number_of(files, name);
            let all = files.bytes.entry(number).or_default();
            let end = at as usize + bytes.len();
            all.resize(all.len().max(end), 0);
            all[at as usize..end].copy_from_slice(bytes);
        })
    }

    fn cut(&self, name: &str, length: u64) -> io::Result<()> {
        self.change(|files| {
            let number = number_of(files, name);
            files.bytes.entry(number).or_default().resize(length as usize, 0);
        })
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        self.change(|files| {
            let number = number_of(files, name);
            let bytes = files.bytes.get(&number).cloned().unwrap_or_default();
            files.durable.insert(number, bytes);
        })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.change(|files| {
            if let Some(number) = files.names.remove(from) {
                files.names.insert(to.to_string(), number);
            }
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.change(|files| {
            files.names.remove(name);
        })
    }

    fn sync_names(&self) -> io::Result<()> {
        self.change(|files| files.durable_names = files.names.clone())
    }

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.files().names.keys().cloned().collect())
    }
}

type Row = (Encoded, Encoded);
type Updates = Vec<(Row, u64, isize)>;
const INCARNATION: u128 = 7;

fn bytes(text: String) -> Encoded {
    Encoded::from_bytes(text.into_bytes())
}

/// A state with its images, all updates that it has had, and the contents.
struct Bed {
    state: State<Encoded, Encoded>,
    images: Images,
    link: ImageLink,
    upper: Arc<AtomicU64>,
    history: Updates,
    contents: BTreeMap<Encoded, Encoded>,
    random: fastrand::Rng,
}

impl Bed {
    fn new(disk: &Arc<MemoryDisk>, bytes_max: Option<usize>, upper: u64) -> (Bed, Verdict) {
        let folder = Folder::new(Arc::clone(disk) as Arc<dyn Disk>, (0, 1));
        let verdict = folder.look(INCARNATION).unwrap();
        let found = match &verdict {
            Verdict::Good(found) => Some(found.clone()),
            _ => None,
        };
        let link = ImageLink::new(UpsertStats::default());
        let upper = Arc::new(AtomicU64::new(upper));
        let now = Arc::clone(&upper);
        let mark: MarkNow = Box::new(move || {
            let upper = now.load(Ordering::Relaxed);
            (Mark { incarnation: INCARNATION, seqno: upper, token: 1, upper }, 5)
        });
        let run: Readers = Box::new(|job| job());
        link.begin(found.is_some());
        let images = Images::new(folder, found, link.clone(), mark, run, UpsertStats::default());
        let space = ColdSpace { file: Some(images.file()), ..ColdSpace::default() };
        let mut bed = Bed {
            state: State::new(bytes_max, space),
            images,
            link,
            upper,
            history: Vec::new(),
            contents: BTreeMap::new(),
            random: fastrand::Rng::with_seed(7),
        };
        bed.images.begin(&mut bed.state).unwrap();
        (bed, verdict)
    }

    /// Changes some keys at the next time. Returns false once the disk is gone.
    fn change(&mut self, count: u64, keys: u64) -> bool {
        let time = self.upper.load(Ordering::Relaxed);
        let mut updates = Updates::new();
        for _ in 0..count {
            let key = bytes(format!("key {}", self.random.u64(..keys)));
            let length = 20 + self.random.usize(..2) * 30;
            let value = bytes(format!("{time:0length$}"));
            if updates.iter().any(|((other, _), ..)| *other == key) {
                continue;
            }
            if let Some(prior) = self.contents.get(&key) {
                updates.push(((key.clone(), prior.clone()), time, -1));
            }
            if self.random.u32(..5) > 0 {
                updates.push(((key.clone(), value.clone()), time, 1));
                self.contents.insert(key, value);
            } else {
                self.contents.remove(&key);
            }
        }
        self.history.extend(updates.iter().cloned());
        let applied = self.apply(updates);
        self.upper.store(time + 1, Ordering::Relaxed);
        self.link.complete(time + 1);
        applied
    }

    fn apply(&mut self, mut updates: Updates) -> bool {
        self.images.take(&mut updates, |time| *time);
        for ((key, value), _, diff) in updates {
            if self.state.apply(key.key_hash(), &key, &value, diff).is_err() {
                return false;
            }
        }
        self.state.keep_bound().is_ok()
    }

    fn end(&mut self) -> Result<(), Error> {
        let exact = self.exact();
        self.images.end(&mut self.state, exact)
    }

    fn go_on(&mut self) -> Result<bool, Error> {
        let exact = self.exact();
        self.images.go_on(&mut self.state, Some(exact))
    }

    /// Returns what a start would find.
    fn look(&self) -> Verdict {
        self.images.folder.look(INCARNATION).unwrap()
    }

    fn exact(&self) -> u64 {
        self.upper.load(Ordering::Relaxed)
    }

    /// Gives a start on an image what came since, and checks that it comes to the same contents.
    fn starts(&self, disk: MemoryDisk, bytes_max: Option<usize>, what: &str) -> bool {
        let (mut start, verdict) = Bed::new(&Arc::new(disk), bytes_max, self.exact());
        let from = match verdict {
            Verdict::Good(found) => found.least(),
            Verdict::None | Verdict::Torn(_) => return false,
            verdict => panic!("{what}: {verdict:?}"),
        };
        let since: Updates =
            self.history.iter().filter(|(_, time, _)| *time >= from).cloned().collect();
        assert!(start.apply(since), "{what}: an update cannot be applied");
        assert!(start.state.unsettled().is_none(), "{what}: updates come twice");
        start.link.complete(self.exact());
        assert_eq!(start.images.exact(None), Some(self.exact()), "{what}");
        start.state.end_replay();
        let (mut all, mut last) = (BTreeMap::new(), None);
        while let Some(live) = start.state.next(last).unwrap_or_else(|e| panic!("{what}: {e}")) {
            let (key, value) = start.state.get(live.slot).unwrap();
            all.insert(key, value);
            last = Some(live.slot);
        }
        assert_eq!(all, self.contents, "{what}");
        true
    }
}

/// The process is gone after each operation of a second image: the first one, or the second, or none is found, and a start on
/// it has the contents.
#[test]
fn a_crash_at_any_point_leaves_an_image_or_none() {
    let (mut after, mut whole, mut starts) = (0, false, 0);
    while !whole {
        let disk = Arc::new(MemoryDisk::default());
        let (mut bed, _) = Bed::new(&disk, Some(8 << 10), 0);
        for _ in 0..6 {
            assert!(bed.change(60, 200));
        }
        bed.end().unwrap();
        let mut goes_on = bed.change(60, 200);
        let last = disk.files().done + after;
        disk.files().last = Some(last);
        goes_on = goes_on && bed.end().is_ok();
        for _ in 0..4 {
            goes_on = goes_on && bed.change(60, 200);
        }
        whole = disk.files().done <= last;
        for unsynced in 0..3 {
            let what = format!("after {after} operations, unsynced {unsynced}");
            starts += u32::from(bed.starts(disk.after_crash(unsynced), Some(8 << 10), &what));
        }
        after += 1;
    }
    assert!(after > 15 && starts > 2 * after as u32, "{starts} starts in {after} runs");
}

/// An image whose segments are of different times: each leaves out what it has.
#[test]
fn what_a_segment_has_is_left_out() {
    let disk = Arc::new(MemoryDisk::default());
    let (mut bed, _) = Bed::new(&disk, Some(1 << 20), 0);
    for _ in 0..40 {
        assert!(bed.change(2_000, 60_000));
        while bed.images.round.is_none() && bed.images.go_on(&mut bed.state, None).unwrap() {}
        bed.go_on().unwrap();
    }
    while bed.go_on().unwrap() {}
    assert!(bed.images.is_durable, "an image was due");
    let folder = Folder::new(Arc::clone(&disk) as Arc<dyn Disk>, (0, 1));
    let Verdict::Good(found) = folder.look(INCARNATION).unwrap() else { panic!("an image") };
    assert!(found.pieces.iter().any(|piece| piece.upper > found.least()), "of one time");
    assert!(bed.starts(disk.after_crash(0), Some(1 << 20), "at the end"));
}

/// Every byte of it flipped: it is refused, or what is damaged is told when it is read, and never taken for a row.
#[test]
fn a_byte_that_is_another_is_never_believed() {
    let disk = Arc::new(MemoryDisk::default());
    let (mut bed, _) = Bed::new(&disk, Some(64 << 10), 0);
    for _ in 0..4 {
        assert!(bed.change(10, 30));
    }
    bed.end().unwrap();
    let names = disk.names().unwrap();
    assert!(names.iter().any(|name| name.starts_with("pieces-")), "{names:?}");
    let mut removed = 0;
    for name in names {
        let length = disk.length(&name).unwrap() as usize;
        for at in 0..length {
            let other = disk.after_crash(0);
            let number = other.files().names[&name];
            other.files().bytes.get_mut(&number).unwrap()[at] ^= 1 << (at % 8);
            let (mut start, verdict) = Bed::new(&Arc::new(other), Some(64 << 10), bed.exact());
            match (name.as_str(), verdict) {
                ("image", Verdict::Good(_)) => panic!("byte {at} of the manifest is believed"),
                (_, Verdict::Good(_)) => {}
                (_, verdict) => assert_ne!(verdict, Verdict::None, "{name} at {at}"),
            }
            if start.state.len() == 0 {
                continue;
            }
            start.state.end_replay();
            for (key, value) in &bed.contents {
                let mut found = Vec::new();
                let hash = key.key_hash();
                let read = start.state.bring([(hash, key)].into_iter());
                let read = read.and_then(|()| {
                    start.state.find_all([(hash, key)].into_iter(), &mut found);
                    let Some(entry) = found[0] else { return Ok(None) };
                    start.state.fetch([entry].into_iter())?;
                    start.state.arrive()?;
                    let slot = start.state.confirm(hash, key, &entry)?;
                    Ok(slot.and_then(|slot| start.state.get(slot)).map(|(_, value)| value))
                });
                match read {
                    Ok(read) => assert_eq!(read.as_ref(), Some(value), "{name} at {at}"),
                    Err(error) => {
                        let error = start.images.fail(error);
                        assert_eq!(error.kind(), ErrorKind::StateLost, "{name} at {at}: {error}");
                        assert_eq!(start.look(), Verdict::None, "{name} at {at}");
                        removed += 1;
                        break;
                    }
                }
            }
        }
        for length in 0..length {
            let other = disk.after_crash(0);
            let number = other.files().names[&name];
            other.files().bytes.get_mut(&number).unwrap().truncate(length);
            let folder = Folder::new(Arc::new(other) as Arc<dyn Disk>, (0, 1));
            let verdict = folder.look(INCARNATION).unwrap();
            let refused = matches!(verdict, Verdict::Torn(_) | Verdict::Damaged(_));
            // The file of rows may be longer than what the image names.
            assert!(refused || name == "rows", "{name} of {length} bytes: {verdict:?}");
        }
    }
    assert!(removed > 500, "{removed} images were found to be damaged by what is read late");
}

/// A state that began with an image and comes to be no collection is to be read from the shard; without one it is the shard
/// that is damaged. An image that cannot be written says nothing of the one before.
#[test]
fn what_fails_an_operator_may_be_its_image() {
    for (kind, has_image, left) in [
        (ErrorKind::Corrupt, true, Some(ErrorKind::StateLost)),
        (ErrorKind::Corrupt, false, Some(ErrorKind::Corrupt)),
        (ErrorKind::StateLost, false, Some(ErrorKind::StateLost)),
        (ErrorKind::Unavailable, true, None),
    ] {
        let disk = Arc::new(MemoryDisk::default());
        let (mut bed, _) = Bed::new(&disk, None, 0);
        assert!(bed.change(10, 30));
        if has_image {
            bed.end().unwrap();
            bed = Bed::new(&disk, None, bed.exact()).0;
        }
        let error = bed.images.fail(Error::new(kind, "it has failed"));
        assert_eq!(error.kind(), left.unwrap_or(kind));
        assert_eq!(bed.look() == Verdict::None, left.is_some(), "{kind:?}, image {has_image}");
    }
}

/// Of another shard or other workers it is foreign.
#[test]
fn of_something_else_it_is_foreign() {
    let disk = Arc::new(MemoryDisk::default());
    let (mut bed, _) = Bed::new(&disk, None, 0);
    assert!(bed.change(10, 30));
    bed.end().unwrap();
    let look = |worker, incarnation| {
        Folder::new(Arc::clone(&disk) as Arc<dyn Disk>, worker).look(incarnation).unwrap()
    };
    assert!(matches!(look((0, 1), INCARNATION), Verdict::Good(_)));
    assert!(matches!(look((0, 1), INCARNATION + 1), Verdict::Foreign(_)));
    assert!(matches!(look((0, 2), INCARNATION), Verdict::Foreign(_)));
    let mut later = disk.read("image").unwrap();
    later[7] = 2;
    disk.write_at("image", 0, &later).unwrap();
    assert!(matches!(look((0, 1), INCARNATION), Verdict::Foreign(_)));
}
