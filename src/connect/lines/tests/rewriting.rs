//! Goal: a file that is cut or written over while it is read is noticed before any byte of what it is
//! now is taken, at any size that it has by then and at any moment of a read. Method: a real file that
//! changes between two reads, and one in memory that changes inside of one.

use std::cell::{Cell, RefCell};
use std::io::{self, Read as _, Write as _};
use std::ops::Range;

use crate::connect::lines::input::{Input, unreadable};
use crate::connect::lines::live::{Live, ReadAt, SEEN_BYTES};
use crate::connect::lines::parts::Places;

/// Lines of a feed, none like another.
fn lines(range: Range<u32>) -> String {
    range.map(|n| format!("{{\"key\":{n},\"value\":{n},\"ts\":{n}}}\n")).collect()
}

fn read_all(input: &mut Input) -> io::Result<String> {
    let mut text = String::new();
    let mut buffer = [0; 1000];
    loop {
        match input.read(&mut buffer)? {
            0 => return Ok(text),
            count => text.push_str(std::str::from_utf8(&buffer[..count]).expect("ASCII")),
        }
    }
}

#[test]
fn what_is_appended_continues_and_all_else_is_an_error() {
    for before in [lines(0..1), lines(0..1000)] {
        let tail = before.len().min(SEEN_BYTES);
        let position = before.len();
        let rewritten = format!(
            "the feed was rewritten while it was read: the {tail} bytes before byte {position} are others now at f:3; a feed may only grow: put it back as it was and rerun, or feed the new one to another shard"
        );
        let truncated = format!(
            "the feed was truncated while it was read: it ends before byte {position}, up to where it was read at f:3; a feed may only grow: put it back as it was and rerun, or feed the new one to another shard"
        );
        let other = before.replace("key", "KEY");
        let cases = [
            ("the same", before.clone(), Ok(String::new())),
            ("grown", before.clone() + "more\n", Ok("more\n".to_string())),
            ("of the same size", other.clone(), Err(&rewritten)),
            ("larger", other.clone() + "more\n", Err(&rewritten)),
            ("much larger", lines(5000..9000), Err(&rewritten)),
            ("smaller, with other bytes", other[..position - 1].to_string(), Err(&rewritten)),
            ("only cut", before[..position - 1].to_string(), Err(&truncated)),
            ("empty", String::new(), Err(&truncated)),
            ("cut and filled with NUL", "\0".repeat(position), Err(&rewritten)),
            ("one byte is another", format!("{}x", &before[..position - 1]), Err(&rewritten)),
        ];
        for (what, after, expected) in cases {
            let mut file = tempfile::NamedTempFile::new().expect("a file");
            file.write_all(before.as_bytes()).expect("room");
            let path = file.path().to_str().expect("UTF-8");
            let mut input = Input::open(path, &Places::default()).expect("it is there");
            assert_eq!(read_all(&mut input).expect("whole"), before);
            std::fs::write(file.path(), &after).expect("in place");
            let read = read_all(&mut input).map_err(|e| unreadable("f:3", e).to_string());
            assert_eq!(read.as_ref(), expected.as_ref().map_err(|e| *e), "{what}");
            if read.is_err() {
                // It stays one.
                assert!(read_all(&mut input).is_err(), "{what}");
            }
        }
    }
}

/// A file that is written over once a number of reads of it are done.
struct Changing {
    now: RefCell<String>,
    then: String,
    reads: Cell<usize>,
}

impl ReadAt for Changing {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        if self.reads.get() == 0 {
            self.now.replace(self.then.clone());
        }
        self.reads.set(self.reads.get().wrapping_sub(1));
        let now = self.now.borrow();
        let rest = now.as_bytes().get(offset as usize..).unwrap_or_default();
        // Short reads, as a file system may give them.
        let count = rest.len().min(buffer.len()).min(700);
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
}

#[test]
fn whenever_it_changes_no_byte_behind_the_change_is_taken() {
    let (before, after) = (lines(0..300), lines(1000..1900));
    // At 0 it would be the other file from its start.
    for reads in 1..60 {
        let now = RefCell::new(before.clone());
        let mut file = Live::new(Changing { now, then: after.clone(), reads: reads.into() }, 0);
        let (mut taken, mut buffer) = (String::new(), [0; 1000]);
        let error = loop {
            match file.read(&mut buffer) {
                Ok(count) => {
                    taken.push_str(std::str::from_utf8(&buffer[..count]).expect("ASCII"));
                    assert!(taken.len() <= before.len(), "it changed: {taken}");
                }
                Err(e) => break e.to_string(),
            }
        };
        assert!(before.starts_with(&taken), "after {reads} reads: {taken}");
        assert!(error.starts_with("the feed was rewritten while it was read: "), "{error}");
    }
}
