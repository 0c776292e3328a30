//! Owns the directory of one worker's image, and what becomes of it: opened with a verdict, written so that at each moment
//! the image before or the new one is whole, or none is. It does not own what an image says of the shard.
//!
//! ```text
//! LOCK         held by the process that uses the directory
//! image        the manifest
//! image.new    the next manifest, until it is durable
//! pieces-R     the segments of the index, of image R
//! rows         the chunks, of the image and of what has come since
//! ```
//!
//! The manifest is the one thing that is looked at first, and it comes last: the rows and pieces that it names are durable
//! before it has its name. Regions of `rows` that it names are not written to, but for rows that a start does not look at.

use std::io;
use std::sync::Arc;

use super::super::index::Index;
use super::super::placed::ColdFile;
use super::disk::Disk;
use super::manifest::{Manifest, Stored, Unreadable};
use crate::error::{Error, ErrorKind};

const IMAGE: &str = "image";
const IMAGE_NEW: &str = "image.new";
const ROWS: &str = "rows";
const PIECES: &str = "pieces-";

/// What was found in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// No image.
    None,
    /// One that is whole, as far as it was looked at. The shard has yet to agree.
    Good(Box<Manifest>),
    /// One of something else, and of what.
    Foreign(&'static str),
    /// One of which something is missing.
    Torn(&'static str),
    /// One that says what cannot be, and where.
    Damaged(&'static str),
}

/// The directory.
#[derive(Clone)]
pub(crate) struct Folder {
    disk: Arc<dyn Disk>,
    worker: (u64, u64),
}

fn pieces_of(round: u64) -> String {
    format!("{PIECES}{round}")
}

impl Folder {
    /// Takes the directory of a worker of so many.
    pub(crate) fn new(disk: Arc<dyn Disk>, worker: (u64, u64)) -> Folder {
        Folder { disk, worker }
    }

    /// Returns which worker it is of, of how many.
    pub(super) fn worker(&self) -> (u64, u64) {
        self.worker
    }

    /// Says what is there, for a shard of this incarnation.
    ///
    /// # Errors
    ///
    /// What the operating system reports.
    pub(crate) fn look(&self, incarnation: u128) -> io::Result<Verdict> {
        let bytes = match self.disk.read(IMAGE) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Verdict::None),
            bytes => bytes?,
        };
        let manifest = match Manifest::decode(&bytes) {
            Ok(manifest) => manifest,
            Err(Unreadable::Torn) => return Ok(Verdict::Torn("its manifest ends too early")),
            Err(Unreadable::Damaged) => return Ok(Verdict::Damaged("its manifest")),
            Err(Unreadable::Foreign) => return Ok(Verdict::Foreign("another version")),
        };
        if manifest.mark.incarnation != incarnation {
            return Ok(Verdict::Foreign("another shard"));
        }
        if manifest.worker != self.worker {
            return Ok(Verdict::Foreign("another worker, or another number of them"));
        }
        let pieces: Vec<_> = manifest.pieces.iter().map(|stored| stored.piece).collect();
        let live: u64 = manifest.chunks.iter().map(|chunk| u64::from(chunk.live)).sum();
        if Index::of_pieces(&pieces).is_none_or(|index| index.len() as u64 != live) {
            return Ok(Verdict::Damaged("its tables"));
        }
        let ends = |stored: &Stored| stored.at.checked_add(stored.bytes() as u64);
        let length = manifest.pieces.iter().map(ends).max().flatten();
        let found = self.disk.length(&pieces_of(manifest.round))?;
        if length.is_none_or(|length| length > found) {
            return Ok(Verdict::Torn("its pieces end too early"));
        }
        let ends = manifest.chunks.iter().map(|chunk| chunk.region.end());
        if ends.max().unwrap_or(0) > self.disk.length(ROWS)? {
            return Ok(Verdict::Torn("its rows end too early"));
        }
        Ok(Verdict::Good(Box::new(manifest)))
    }

    /// Removes the image, and what only it needs. It is gone before anything that it names is.
    ///
    /// # Errors
    ///
    /// What the operating system reports.
    pub(crate) fn discard(&self) -> io::Result<()> {
        self.disk.remove(IMAGE)?;
        self.disk.remove(IMAGE_NEW)?;
        self.disk.sync_names()?;
        self.remove_pieces(None)
    }

    /// Removes the image alone: what is being read stays.
    pub(crate) fn distrust(&self) -> io::Result<()> {
        self.disk.remove(IMAGE)?;
        self.disk.sync_names()
    }

    /// Empties the file of rows.
    pub(crate) fn empty_rows(&self) -> io::Result<()> {
        self.disk.cut(ROWS, 0)
    }

    /// Removes the pieces of other images than this one.
    pub(crate) fn remove_pieces(&self, but: Option<u64>) -> io::Result<()> {
        let kept = but.map(pieces_of);
        for name in self.disk.names()? {
            if name.starts_with(PIECES) && Some(&name) != kept.as_ref() {
                self.disk.remove(&name)?;
            }
        }
        Ok(())
    }

    /// Returns the file of rows.
    pub(crate) fn rows(&self) -> Arc<dyn ColdFile> {
        Arc::new(RowsFile(Arc::clone(&self.disk)))
    }

    /// Begins the pieces of an image.
    pub(crate) fn begin(&self, round: u64) -> io::Result<()> {
        self.disk.cut(&pieces_of(round), 0)
    }

    /// Writes a piece.
    pub(crate) fn write_piece(&self, round: u64, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.disk.write_at(&pieces_of(round), at, bytes)
    }

    /// Makes an image durable whose pieces and rows are written. Until it returns, the image before it may be the one that
    /// is found, or the new one.
    ///
    /// # Errors
    ///
    /// What the operating system reports; then either of the two is the image.
    pub(crate) fn finish(&self, manifest: &Manifest) -> io::Result<()> {
        if !crate::mutant::on("image_before_its_rows") {
            self.disk.sync(ROWS)?;
            self.disk.sync(&pieces_of(manifest.round))?;
        }
        self.disk.cut(IMAGE_NEW, 0)?;
        self.disk.write_at(IMAGE_NEW, 0, &manifest.encode())?;
        self.disk.sync(IMAGE_NEW)?;
        self.disk.sync_names()?;
        self.disk.rename(IMAGE_NEW, IMAGE)?;
        self.disk.sync_names()
    }

    /// Returns what reads the pieces of an image.
    pub(crate) fn reader(
        &self,
        manifest: &Manifest,
    ) -> impl FnMut(u32) -> Result<Vec<u8>, Error> + use<> {
        let (disk, name) = (Arc::clone(&self.disk), pieces_of(manifest.round));
        let pieces = manifest.pieces.clone();
        move |number| {
            let damaged = |why: &str| {
                let what = format!("piece {number} of the state's image {why}");
                Error::new(ErrorKind::StateLost, what)
                    .hint("start again: the image is removed, and the state read from the shard")
            };
            let stored = pieces.get(number as usize).ok_or_else(|| damaged("is not known"))?;
            let mut bytes = vec![0; stored.bytes()];
            disk.read_at(&name, stored.at, &mut bytes)
                .map_err(|e| damaged(&format!("cannot be read: {e}")))?;
            if crc32c::crc32c(&bytes) != stored.crc && !crate::mutant::on("image_piece_unchecked") {
                return Err(damaged("is damaged"));
            }
            Ok(bytes)
        }
    }
}

/// The file of rows.
struct RowsFile(Arc<dyn Disk>);

impl ColdFile for RowsFile {
    fn read_at(&self, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.0.read_at(ROWS, at, bytes)
    }

    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_at(ROWS, at, bytes)
    }

    fn cut(&self, length: u64) -> io::Result<()> {
        self.0.cut(ROWS, length)
    }
}
