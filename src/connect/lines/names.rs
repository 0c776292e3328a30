//! Owns the names of a feed's part files: which they are, of a directory or a glob, and in which order they are
//! read. It does not own reading them.
//!
//! The order is that of the bytes of their names. Where that is not the order of the numbers in them, as `part-10` and
//! `part-9`, which of the two is meant cannot be known: it is an error. So is
//! `part-1` beside `part-1.gz`, whose rows would be read twice. Names that begin with `.` or `_` are not
//! parts: others write those while they work, or say that they have ended.

use std::cmp::Ordering;
use std::fs;
use std::io;
use std::path::Path;

use crate::error::{Error, ErrorKind};

/// Where part files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Where {
    Directory(String),
    Glob(String),
}

impl Where {
    /// Returns where the part files are that a path names; `None` if it names one file, or none.
    pub(super) fn of(path: &str) -> Option<Where> {
        match fs::metadata(path) {
            Ok(found) if found.is_dir() => Some(Where::Directory(path.to_string())),
            Err(e) if e.kind() == io::ErrorKind::NotFound && path.contains(['*', '?', '[']) => {
                Some(Where::Glob(path.to_string()))
            }
            _ => None,
        }
    }

    /// Returns the path.
    pub(super) fn path(&self) -> &str {
        match self {
            Where::Directory(path) | Where::Glob(path) => path,
        }
    }

    /// Returns the paths of the parts that are there now, in their order.
    ///
    /// # Errors
    ///
    /// `Missing` if there is none; `Invalid` for what cannot be a part, and for an order that is not certain.
    pub(super) fn list(&self) -> Result<Vec<String>, Error> {
        let at = |what: &str, path: &str, hint: &str| {
            Error::new(ErrorKind::Invalid, what).at(path).hint(hint)
        };
        let mut found = Vec::new();
        for path in self.paths()? {
            let path = path.into_os_string().into_string().map_err(|path| {
                let hint = "name it as UTF-8";
                at("a part file whose name is not UTF-8", &path.to_string_lossy(), hint)
            })?;
            let name = Path::new(&path).file_name().and_then(|name| name.to_str());
            if !name.is_some_and(|name| name.starts_with(['.', '_'])) {
                found.push(path);
            }
        }
        found.sort_unstable();
        for path in &found {
            let kind = fs::metadata(path).map_err(|e| unread(path, e))?;
            if !kind.is_file() {
                let hint = "name the files with a glob in quotes, or a repository as git:PATH";
                return Err(at("what is not a file among part files", path, hint));
            }
        }
        if let Some(pair) = found.windows(2).find(|two| by_number(&two[0], &two[1]).is_gt()) {
            let what = format!(
                "part files whose numbers are in another order than their names: {} comes first",
                pair[0]
            );
            return Err(at(&what, &pair[1], "write the numbers with as many digits each"));
        }
        let is_copy = |path: &&String| {
            let whole = path.strip_suffix(".gz").or(path.strip_suffix(".zst"));
            whole.is_some_and(|whole| found.binary_search_by(|at| (**at).cmp(whole)).is_ok())
        };
        if let Some(path) = found.iter().find(is_copy) {
            return Err(at("a part file and its compressed copy", path, "keep one of them"));
        }
        if found.is_empty() {
            let what = match self {
                Where::Directory(_) => "a directory without a part file",
                Where::Glob(_) => "not one file of this pattern",
            };
            let hint = "check the path, wait for one with --wait, or name a repository as git:PATH";
            return Err(Error::new(ErrorKind::Missing, what).at(self.path()).hint(hint));
        }
        Ok(found)
    }

    fn paths(&self) -> Result<Vec<std::path::PathBuf>, Error> {
        match self {
            Where::Directory(path) => {
                let entries = fs::read_dir(path).map_err(|e| unread(path, e))?;
                let entries: io::Result<Vec<_>> =
                    entries.map(|entry| entry.map(|entry| entry.path())).collect();
                entries.map_err(|e| unread(path, e))
            }
            Where::Glob(path) => {
                let found = glob::glob(path).map_err(|e| {
                    let what = format!("not a glob: {}", e.msg);
                    Error::new(ErrorKind::Invalid, what).at(path).hint("correct the pattern")
                })?;
                let found: Result<Vec<_>, glob::GlobError> = found.collect();
                found.map_err(|e| unread(path, e.into()))
            }
        }
    }
}

fn unread(path: &str, e: io::Error) -> Error {
    let what = format!("cannot list the part files: {e}");
    Error::new(ErrorKind::Unavailable, what)
        .at(path)
        .hint("make them readable and rerun")
        .because(e)
}

/// Compares names by the numbers in them, where they have them at the same places.
fn by_number(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    loop {
        let (Some(x), Some(y)) = (a.first(), b.first()) else { return a.len().cmp(&b.len()) };
        if x.is_ascii_digit() && y.is_ascii_digit() {
            let ([first, second], rest) = ([number(a), number(b)], [a, b]);
            let digits = |(digits, _): (&[u8], usize)| (digits.len(), digits.to_vec());
            match digits(first).cmp(&digits(second)) {
                Ordering::Equal => (a, b) = (&rest[0][first.1..], &rest[1][second.1..]),
                other => return other,
            }
            continue;
        }
        match x.cmp(y) {
            Ordering::Equal => (a, b) = (&a[1..], &b[1..]),
            other => return other,
        }
    }
}

/// Returns the digits that a text begins with, without leading zeros, and how many there are with them.
fn number(text: &[u8]) -> (&[u8], usize) {
    let count = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let zeros = text[..count].iter().take_while(|byte| **byte == b'0').count();
    (&text[zeros..count], count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_by_their_numbers() {
        for (a, b, expected) in [
            ("p-9", "p-10", Ordering::Less),
            ("p-09", "p-10", Ordering::Less),
            ("p-2-x", "p-10-a", Ordering::Less),
            ("p-010", "p-9", Ordering::Greater),
            ("a", "b", Ordering::Less),
            ("p-1", "p-1.gz", Ordering::Less),
            ("p-01", "p-1", Ordering::Equal),
            ("2026-01-31", "2026-02-01", Ordering::Less),
            ("", "", Ordering::Equal),
        ] {
            assert_eq!(by_number(a, b), expected, "{a} {b}");
        }
    }
}
