//! Owns what can still be read of a line that is not JSON: which text is the value of which member. It
//! does not own what is wrong with the line; that is `line`.
//!
//! A line whose brackets and quotes say where each member ends has members, whatever is inside of them:
//! half of a surrogate pair, a byte that is not UTF-8, `tru`, a nesting of a thousand. If exactly one of
//! them is the key, and good, the row is known, and the error is that row's. A line that is torn, or has
//! more behind its object, is known by its bytes alone.

use super::strange::BOM;
use crate::codec::canonical::{Reader, Scratch};

/// Returns the canonical text of a member that a line has exactly once, if that is good itself. O(bytes).
pub(super) fn once(line: &[u8], name: &str, scratch: &mut Scratch) -> Option<String> {
    let line = line.strip_prefix(BOM).unwrap_or(line);
    let mut found = None;
    let mut cut = Cut { line, at: 0 };
    cut.take(b'{')?;
    if cut.take(b'}').is_none() {
        loop {
            let member = cut.value().filter(|text| text.starts_with(b"\""))?;
            cut.take(b':')?;
            let value = cut.value()?;
            // A name that cannot be read is another's.
            if canonical(member, scratch).is_some_and(|text| text[1..text.len() - 1] == *name)
                && found.replace(value).is_some()
            {
                return None;
            }
            if cut.take(b',').is_none() {
                break;
            }
        }
        cut.take(b'}')?;
    }
    cut.peek().is_none().then_some(())?;
    canonical(found?, scratch)
}

fn canonical(text: &[u8], scratch: &mut Scratch) -> Option<String> {
    let mut out = String::new();
    let mut reader = Reader::new(std::str::from_utf8(text).ok()?, scratch);
    reader.value(&mut out, 1).ok()?;
    reader.finish().ok()?;
    Some(out)
}

/// A place in a line.
struct Cut<'a> {
    line: &'a [u8],
    at: usize,
}

impl<'a> Cut<'a> {
    /// Returns the next byte that is not white space, without taking it.
    fn peek(&mut self) -> Option<u8> {
        let blank = |byte: &&u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        self.at += self.line[self.at..].iter().take_while(blank).count();
        self.line.get(self.at).copied()
    }

    fn take(&mut self, wanted: u8) -> Option<()> {
        (self.peek()? == wanted).then(|| self.at += 1)
    }

    /// Takes what stands where a value is expected, up to where it ends: perhaps nothing.
    fn value(&mut self) -> Option<&'a [u8]> {
        self.peek()?;
        let (start, mut open) = (self.at, Vec::new());
        while let Some(byte) = self.line.get(self.at).copied() {
            match byte {
                b'"' => self.string()?,
                b'{' | b'[' => open.push(byte),
                b'}' | b']' | b',' | b':' if open.is_empty() => break,
                // `{` and `}` are two apart in ASCII, and so are `[` and `]`.
                b'}' | b']' if open.pop() != Some(byte - 2) => return None,
                _ => {}
            }
            self.at += 1;
            if open.is_empty() && matches!(byte, b'"' | b'}' | b']') {
                break;
            }
        }
        open.is_empty().then(|| self.line[start..self.at].trim_ascii())
    }

    /// Moves from a string's first quote to its last.
    fn string(&mut self) -> Option<()> {
        loop {
            self.at += 1;
            match self.line.get(self.at)? {
                b'"' => return Some(()),
                b'\\' => self.at += 1,
                _ => {}
            }
        }
    }
}
