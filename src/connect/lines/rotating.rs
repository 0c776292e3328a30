//! Owns a file that others rotate: it is renamed, and a new one of its name begun. It does not own opening files.
//!
//! A followed file is read to its end under its new name before the new one is read, once that has bytes: its writer
//! has left the old one then. An old one that grows all the same is an error. One that has not any name was
//! replaced, and not rotated.
//!
//! A place is one in the old files and the new one together. So a run that goes on looks for the files before it beside
//! it, by their names, and the hash of the place says whether they are the right ones.

use std::collections::VecDeque;
use std::fmt;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::path::Path;

use crate::error::{Error, ErrorKind};

/// Opens a file by its path: what is read of it, and the file.
type Open<R> = fn(&str) -> Result<(R, File), Error>;

/// A file, behind those that had its name before.
pub(super) struct Rotating<R> {
    path: String,
    open: Open<R>,
    current: (R, File),
    next: VecDeque<(R, File)>,
    /// Those that were read and have a name still, and how long they were.
    ended: Vec<(File, u64)>,
    /// How many were read.
    ended_count: usize,
    /// The last byte.
    last: u8,
    /// Whether it was not found at the last look.
    is_lost: bool,
}

impl<R: Read> Rotating<R> {
    /// Opens a file, and first those of `before`.
    pub(super) fn new(path: &str, before: &[String], open: Open<R>) -> Result<Rotating<R>, Error> {
        let paths = before.iter().map(String::as_str).chain([path]);
        let mut next = paths.clone().map(open).collect::<Result<VecDeque<_>, Error>>()?;
        if !before.is_empty() && !all_stand(paths, &next) {
            let what = "the feed was rotated while it was opened";
            return Err(Error::new(ErrorKind::Unavailable, what).at(path).hint("rerun"));
        }
        let missing = || Error::new(ErrorKind::Missing, "no file").at(path).hint("check the path");
        let current = next.pop_front().ok_or_else(missing)?;
        let (path, ended, ended_count) = (path.to_string(), Vec::new(), 0);
        let (last, is_lost) = (b'\n', false);
        Ok(Rotating { path, open, current, next, ended, ended_count, last, is_lost })
    }

    /// Returns the file that is read, unless there are others.
    pub(super) fn only(&self) -> Option<&R> {
        Some(&self.current.0).filter(|_| self.ended_count == 0 && self.next.is_empty())
    }

    /// Looks whether the file was rotated, once its end has been reached, and returns whether there is more to
    /// read.
    ///
    /// # Errors
    ///
    /// If it was replaced or removed, or if one that was rotated has grown.
    pub(super) fn turn(&mut self) -> Result<bool, Error> {
        let looked = |e: io::Error| {
            let what = format!("cannot look at the feed: {e}");
            let hint = "make it readable and rerun";
            Error::new(ErrorKind::Unavailable, what).at(&self.path).hint(hint).because(e)
        };
        for (file, length) in &self.ended {
            if file.metadata().map_err(looked)?.len() != *length {
                let what = "a rotated file has changed since the new one was begun";
                let hint = "rotate it once it is not written to any more, and rerun";
                return Err(Error::new(ErrorKind::Invalid, what).at(&self.path).hint(hint));
            }
        }
        self.ended.retain(|(file, _)| file.metadata().is_ok_and(|file| is_named(&file)));
        let opened = self.current.1.metadata().map_err(looked)?;
        match std::fs::metadata(&self.path) {
            Ok(named) if same_file(&opened, &named) => Ok(false),
            Ok(_) if !is_named(&opened) => Err(replaced(&self.path)),
            Ok(named) if named.is_file() && named.len() > 0 => {
                let later = self.later(&opened)?;
                if later.is_none() && self.is_lost {
                    return Err(lost(&self.path));
                }
                // It may be found at the next look, behind a list that was read while names moved.
                self.is_lost = later.is_none();
                self.next.extend(later.into_iter().flatten());
                Ok(!self.next.is_empty())
            }
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(looked(e)),
            Err(_) if !is_named(&opened) => Err(replaced(&self.path)),
            // The new one is still to come.
            _ => Ok(false),
        }
    }

    /// Opens the files that came after the one that is read: more than one, if it was rotated twice meanwhile. Not
    /// one, if their names move just now; `None` if it is not among them itself.
    fn later(&self, opened: &Metadata) -> Result<Option<VecDeque<(R, File)>>, Error> {
        let before = self::before(&self.path);
        let Some(ours) = before.iter().position(|before| names(&before.path, opened)) else {
            return Ok(None);
        };
        let paths = [since(&before, ours), vec![self.path.clone()]].concat();
        let later = paths[1..].iter().map(|path| (self.open)(path));
        let later = match later.collect::<Result<VecDeque<_>, Error>>() {
            Err(e) if e.kind() == ErrorKind::Missing => return Ok(Some(VecDeque::new())),
            later => later?,
        };
        let all =
            names(&paths[0], opened) && all_stand(paths[1..].iter().map(String::as_str), &later);
        // A list that is read while names move may lack one.
        let all = all && before == self::before(&self.path);
        Ok(Some(if all { later } else { VecDeque::new() }))
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.current.0.read(buffer)?;
            if let Some(last) = buffer[..count].last() {
                self.last = *last;
                return Ok(count);
            }
            let Some(next) = self.next.pop_front().filter(|_| !buffer.is_empty()) else {
                return Ok(0);
            };
            let (_, ended) = std::mem::replace(&mut self.current, next);
            let length = ended.metadata()?.len();
            self.ended.push((ended, length));
            self.ended_count += 1;
            if self.last != b'\n' {
                (buffer[0], self.last) = (b'\n', b'\n');
                return Ok(1);
            }
        }
    }
}

/// Returns whether a path is the name of a file.
fn names(path: &str, file: &Metadata) -> bool {
    std::fs::metadata(path).is_ok_and(|named| same_file(file, &named))
}

/// Returns whether files have the names still that they were opened by.
fn all_stand<'a, R>(paths: impl Iterator<Item = &'a str>, files: &VecDeque<(R, File)>) -> bool {
    let mut stand = paths.zip(files);
    stand.all(|(path, (_, file))| file.metadata().is_ok_and(|file| names(path, &file)))
}

/// The error of a followed file whose name means another one now.
pub(super) fn replaced(path: &str) -> Error {
    let error = Error::new(ErrorKind::Invalid, "the followed file was replaced or removed");
    error.at(path).hint("put the whole feed back and rerun")
}

fn lost(path: &str) -> Error {
    let what =
        "the followed file was renamed, and what came between it and the new one is not known";
    let hint = format!("name it {path}.1 or {path}-DATE, put it back there and rerun");
    Error::new(ErrorKind::Invalid, what).at(path).hint(hint)
}

/// A file that may have had the name of another before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Before {
    /// How many came after it, of one that is numbered; else its name has a date.
    age: Option<u64>,
    pub(super) path: String,
}

impl Before {
    /// Returns whether both are numbered, or both dated: others are of another rotation.
    fn is_like(&self, other: &Before) -> bool {
        self.age.is_some() == other.age.is_some()
    }
}

/// Returns the paths of one of these files, and of those of its rotation that came after it.
pub(super) fn since(before: &[Before], first: usize) -> Vec<String> {
    let of = before[first..].iter().filter(|other| other.is_like(&before[first]));
    of.map(|before| before.path.clone()).collect()
}

/// Returns the files beside a path that may have had its name before, the oldest first: `feed.2`, `feed.1`, or
/// `feed-20260102`, `feed-20260103.gz`. Any others are not of a rotation. Of `feed.1` and `feed.1.gz`, which stand
/// both while the one is compressed to the other, it is `feed.1`.
pub(super) fn before(path: &str) -> Vec<Before> {
    let path = Path::new(path);
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return Vec::new() };
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let entries = std::fs::read_dir(parent.unwrap_or(Path::new("."))).into_iter().flatten();
    let mut found = Vec::new();
    for entry in entries.flatten().filter(|entry| entry.path().is_file()) {
        let (file, path) = (entry.file_name(), entry.path());
        let suffix = file.to_str().and_then(|file| file.strip_prefix(name));
        let (Some(suffix), Some(path)) = (suffix, path.to_str()) else { continue };
        let Some(stamp) = suffix.strip_prefix(['.', '-']) else { continue };
        let stamp = stamp.trim_end_matches(".gz").trim_end_matches(".zst");
        let is_stamp = |c: char| c.is_ascii_digit() || "-_:T".contains(c);
        if stamp.starts_with(|c: char| c.is_ascii_digit()) && stamp.chars().all(is_stamp) {
            // A number that is longer is a date.
            let age = stamp.parse::<u64>().ok().filter(|_| stamp.len() < 6);
            let before = Before { age, path: path.to_string() };
            found.push((std::cmp::Reverse(age), stamp.to_string(), before));
        }
    }
    found.sort_by(|a, b| (a.0, &a.1, &a.2.path).cmp(&(b.0, &b.1, &b.2.path)));
    found.dedup_by(|copy, whole| {
        (copy.0, &copy.1) == (whole.0, &whole.1) && copy.2.path.starts_with(&whole.2.path)
    });
    found.into_iter().map(|(_, _, before)| before).collect()
}

impl<R: Read> Read for Rotating<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Rotating::read(self, buffer)
    }
}

impl<R> fmt::Debug for Rotating<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rotating({:?}, {} ended)", self.path, self.ended_count)
    }
}

/// Returns whether both are of one file.
#[cfg(unix)]
pub(super) fn same_file(a: &Metadata, b: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

#[cfg(unix)]
fn is_named(file: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    file.nlink() > 0
}

#[cfg(not(unix))]
pub(super) fn same_file(a: &Metadata, b: &Metadata) -> bool {
    a.created().ok() == b.created().ok()
}

#[cfg(not(unix))]
fn is_named(_: &Metadata) -> bool {
    false
}
