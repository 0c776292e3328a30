//! Owns the canonical text of JSON: two texts mean the same key or value iff their canonical texts
//! are equal bytes. It does not own what a line of a feed must hold; that is `jsonl`.
//!
//! Canonical: members sorted by the bytes of their (unescaped) names, the last of equal names
//! kept, no white space, strings with the fewest escapes, numbers exactly as written. A number is
//! never converted, so `1`, `1.0` and a number of forty digits all stay what they are; that is why
//! this is not `serde_json::Value`, whose numbers are machine numbers.
//!
//! Recursion is bounded by [`DEPTH_MAX`], so no text can overflow the stack. All buffers are
//! reused, so a value in canonical order costs no allocation.

use std::ops::Range;

/// Arrays and objects may be nested this deep, a line's own object included.
pub(crate) const DEPTH_MAX: usize = 127;

/// What is wrong with a text that has another one behind it.
pub(crate) const MORE: &str = "more text after the value";

/// Why a text is not acceptable JSON, and at which byte (from 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Syntax {
    pub(crate) what: &'static str,
    pub(crate) byte: usize,
}

/// Buffers that readings of many texts share.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    names: String,
    members: Vec<Member>,
    sorted: String,
}

/// One member of an object that is being read: where its name and its canonical text lie.
#[derive(Clone, Debug)]
struct Member {
    name: Range<usize>,
    text: Range<usize>,
}

/// How a string is written out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// With quotes and escapes, as JSON.
    Quoted,
    /// The characters it stands for.
    Plain,
}

/// Whether a string that was read has escapes. One without is canonical as it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Escapes {
    With,
    Without,
}

/// A reading position in one JSON text.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    text: &'a str,
    at: usize,
    scratch: &'a mut Scratch,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(text: &'a str, scratch: &'a mut Scratch) -> Self {
        scratch.names.clear();
        scratch.members.clear();
        Reader { text, at: 0, scratch }
    }

    /// Returns the next byte that is not white space, without taking it.
    pub(crate) fn peek(&mut self) -> Option<u8> {
        let rest = &self.text.as_bytes()[self.at..];
        let blank = |byte: &&u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        self.at += rest.iter().take_while(blank).count();
        self.text.as_bytes().get(self.at).copied()
    }

    /// Takes the next byte if it is `wanted`, white space skipped.
    pub(crate) fn take(&mut self, wanted: u8) -> bool {
        let found = self.peek() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    /// Takes the next byte, which must be `wanted`.
    pub(crate) fn expect(&mut self, wanted: u8, what: &'static str) -> Result<(), Syntax> {
        if self.take(wanted) { Ok(()) } else { Err(self.wrong(what)) }
    }

    /// Reads the end of the text.
    pub(crate) fn finish(&mut self) -> Result<(), Syntax> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.wrong(MORE)),
        }
    }

    /// Reads a member's name and its colon, and appends the name, unescaped, to `out`.
    pub(crate) fn name(&mut self, out: &mut String) -> Result<Escapes, Syntax> {
        if self.peek() != Some(b'"') {
            return Err(self.wrong("expected a name in quotes"));
        }
        let escapes = self.string(out, Form::Plain)?;
        self.expect(b':', "expected `:`")?;
        Ok(escapes)
    }

    /// Reads a value and appends its canonical text to `out`. `depth` counts the arrays and
    /// objects around it.
    pub(crate) fn value(&mut self, out: &mut String, depth: usize) -> Result<(), Syntax> {
        match self.peek() {
            Some(b'"') => self.string(out, Form::Quoted).map(|_| ()),
            Some(b'{') => self.object(out, depth + 1),
            Some(b'[') => self.array(out, depth + 1),
            Some(b'-' | b'0'..=b'9') => self.number(out),
            Some(b't') => self.word("true", out),
            Some(b'f') => self.word("false", out),
            Some(b'n') => self.word("null", out),
            Some(_) => Err(self.wrong("expected a value")),
            None => Err(self.wrong("the text ends where a value was expected")),
        }
    }

    fn wrong(&self, what: &'static str) -> Syntax {
        let byte = self.at + 1;
        Syntax { what, byte }
    }

    fn deeper(&self, depth: usize) -> Result<(), Syntax> {
        if depth > DEPTH_MAX {
            return Err(self.wrong("arrays and objects nested deeper than 127"));
        }
        Ok(())
    }

    fn word(&mut self, word: &'static str, out: &mut String) -> Result<(), Syntax> {
        if !self.text[self.at..].starts_with(word) {
            return Err(self.wrong("expected a value"));
        }
        self.at += word.len();
        out.push_str(word);
        Ok(())
    }

    fn number(&mut self, out: &mut String) -> Result<(), Syntax> {
        let start = self.at;
        self.at += usize::from(self.next() == Some(b'-'));
        if self.next() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.next() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.next(), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.next(), Some(b'+' | b'-')));
            self.digits()?;
        }
        // `01` and `1x` need no check here: what follows a value is checked where the value was asked for.
        out.push_str(&self.text[start..self.at]);
        Ok(())
    }

    fn next(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn digits(&mut self) -> Result<(), Syntax> {
        let rest = &self.text.as_bytes()[self.at..];
        let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        if count == 0 {
            return Err(self.wrong("expected a digit"));
        }
        Ok(())
    }

    fn array(&mut self, out: &mut String, depth: usize) -> Result<(), Syntax> {
        self.deeper(depth)?;
        self.at += 1;
        out.push('[');
        if !self.take(b']') {
            loop {
                self.value(out, depth)?;
                if !self.take(b',') {
                    break;
                }
                out.push(',');
            }
            self.expect(b']', "expected `,` or `]`")?;
        }
        out.push(']');
        Ok(())
    }

    fn object(&mut self, out: &mut String, depth: usize) -> Result<(), Syntax> {
        self.deeper(depth)?;
        self.at += 1;
        let (members, names, start) =
            (self.scratch.members.len(), self.scratch.names.len(), out.len());
        out.push('{');
        if !self.take(b'}') {
            loop {
                self.member(out, depth)?;
                if !self.take(b',') {
                    break;
                }
                out.push(',');
            }
            self.expect(b'}', "expected `,` or `}`")?;
        }
        out.push('}');
        self.scratch.sort(members, start, out);
        self.scratch.members.truncate(members);
        self.scratch.names.truncate(names);
        Ok(())
    }

    fn member(&mut self, out: &mut String, depth: usize) -> Result<(), Syntax> {
        let mut names = std::mem::take(&mut self.scratch.names);
        let name = names.len();
        let read = self.name(&mut names);
        let name = name..names.len();
        let text = out.len();
        if let Ok(Escapes::Without) = read {
            out.push('"');
            out.push_str(&names[name.clone()]);
            out.push('"');
        } else {
            quote(&names[name.clone()], out);
        }
        self.scratch.names = names;
        read?;
        out.push(':');
        self.value(out, depth)?;
        let text = text..out.len();
        self.scratch.members.push(Member { name, text });
        Ok(())
    }

    fn string(&mut self, out: &mut String, form: Form) -> Result<Escapes, Syntax> {
        self.at += 1;
        let mut escapes = Escapes::Without;
        if form == Form::Quoted {
            out.push('"');
        }
        loop {
            let start = self.at;
            self.at += plain(&self.text.as_bytes()[start..]);
            out.push_str(&self.text[start..self.at]);
            match self.next() {
                Some(b'"') => break,
                Some(b'\\') => {
                    escapes = Escapes::With;
                    match (self.escape()?, form) {
                        (char, Form::Quoted) => quote_char(char, out),
                        (char, Form::Plain) => out.push(char),
                    }
                }
                Some(_) => return Err(self.wrong("a control character in a string")),
                None => return Err(self.wrong("a string without its closing quote")),
            }
        }
        self.at += 1;
        if form == Form::Quoted {
            out.push('"');
        }
        Ok(escapes)
    }

    fn escape(&mut self) -> Result<char, Syntax> {
        self.at += 1;
        let char = match self.next() {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode(),
            _ => return Err(self.wrong("an escape that JSON does not know")),
        };
        self.at += 1;
        Ok(char)
    }

    fn unicode(&mut self) -> Result<char, Syntax> {
        const LONE: &str = "half of a surrogate pair";
        let first = self.hex()?;
        let code = match first {
            0xD800..0xDC00 if self.text[self.at..].starts_with("\\u") => {
                self.at += 1;
                match self.hex()? {
                    second @ 0xDC00..0xE000 => {
                        0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00)
                    }
                    _ => return Err(self.wrong(LONE)),
                }
            }
            first => first,
        };
        char::from_u32(code).ok_or_else(|| self.wrong(LONE))
    }

    /// Reads the `u` and the four digits behind it.
    fn hex(&mut self) -> Result<u32, Syntax> {
        self.at += 1;
        let digits = self.text.as_bytes().get(self.at..self.at + 4);
        let digits = digits.ok_or_else(|| self.wrong("expected four hexadecimal digits"))?;
        let mut code = 0;
        for digit in digits {
            let digit = char::from(*digit).to_digit(16);
            let digit = digit.ok_or_else(|| self.wrong("expected four hexadecimal digits"))?;
            code = code * 16 + digit;
        }
        self.at += 4;
        Ok(code)
    }
}

impl Scratch {
    /// Puts the members from number `first` on, whose object starts at `start` of `out` and ends
    /// it, in the order of their names, and keeps the last of equal names.
    fn sort(&mut self, first: usize, start: usize, out: &mut String) {
        let (names, members) = (&self.names, &mut self.members[first..]);
        let name = |member: &Member| &names.as_bytes()[member.name.clone()];
        if members.windows(2).all(|pair| name(&pair[0]) < name(&pair[1])) {
            return;
        }
        // Stable, so that the last of equal names in the text is the last of its run here.
        members.sort_by(|a, b| name(a).cmp(name(b)));
        self.sorted.clear();
        for (index, member) in members.iter().enumerate() {
            let next = members.get(index + 1);
            if next.is_some_and(|next| name(next) == name(member)) {
                continue;
            }
            let comma = if self.sorted.is_empty() { '{' } else { ',' };
            self.sorted.push(comma);
            self.sorted.push_str(&out[member.text.clone()]);
        }
        self.sorted.push('}');
        out.truncate(start);
        out.push_str(&self.sorted);
    }
}

/// Returns how many bytes a string goes on before a quote, a backslash or a control character, or ends.
/// Most of a feed is in strings: of long ones, as many bytes are looked at together as the compiler can at once.
fn plain(bytes: &[u8]) -> usize {
    const TOGETHER: usize = 16;
    let ends = |byte: u8| byte < 0x20 || byte == b'"' || byte == b'\\';
    let (blocks, _) = bytes.as_chunks::<TOGETHER>();
    let is_plain = |block: &[u8; TOGETHER]| !block.iter().fold(false, |any, b| any | ends(*b));
    let at = blocks.iter().take_while(|block| is_plain(block)).count() * TOGETHER;
    at + plain_words(&bytes[at..])
}

/// The same, eight at a time: for short ones.
fn plain_words(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    // The lowest high bit that is set is that of the first zero byte; only those above it may be wrong.
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word & HIGH;
    let mut at = 0;
    while let Some(eight) = bytes[at..].first_chunk::<8>() {
        let word = u64::from_le_bytes(*eight);
        let control = word.wrapping_sub(ONES * 0x20) & !word & HIGH;
        let ends = control
            | zeros(word ^ (ONES * u64::from(b'"')))
            | zeros(word ^ (ONES * u64::from(b'\\')));
        if ends != 0 {
            return at + ends.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let goes_on = |byte: &&u8| **byte >= 0x20 && **byte != b'"' && **byte != b'\\';
    at + bytes[at..].iter().take_while(goes_on).count()
}

/// Appends a string as canonical JSON, quotes included.
pub(crate) fn quote(text: &str, out: &mut String) {
    out.push('"');
    let mut rest = text;
    loop {
        let at = plain(rest.as_bytes());
        out.push_str(&rest[..at]);
        let Some(byte) = rest.as_bytes().get(at) else { break };
        quote_char(char::from(*byte), out);
        rest = &rest[at + 1..];
    }
    out.push('"');
}

fn quote_char(char: char, out: &mut String) {
    match char {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\u{8}' => out.push_str("\\b"),
        '\u{c}' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        control if control < ' ' => {
            let digit = |value: u32| char::from_digit(value, 16).expect("a hexadecimal digit");
            out.push_str("\\u00");
            out.push(digit(u32::from(control) >> 4));
            out.push(digit(u32::from(control) & 15));
        }
        other => out.push(other),
    }
}

#[cfg(test)]
#[path = "canonical_tests.rs"]
mod tests;
