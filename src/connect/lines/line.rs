//! Owns one line of a JSON-lines feed: from its bytes to a row, a closing, a blank, or what is bad
//! about it. It does not own what lines mean together (times that decrease, members that come and
//! go); that is `times`. Pure: no I/O, no state but reused buffers.

use std::ops::Range;

pub(super) use super::row::{Bad, Row};
use super::salvage;
use super::shape::{Shape, Shaper};
use super::strange;
use crate::codec::Json;
use crate::codec::canonical::{MORE, Reader, Scratch, Syntax};

/// A line may be this long, its line break, a CR before that and the feed's BOM not counted.
pub(super) const LINE_BYTES_MAX: usize = 16 << 20;

/// The greatest `ts`: the time after it must still be a time.
pub(super) const TS_MAX: u64 = u64::MAX - 1;

/// What a good line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Nothing; it only has a number.
    Blank,
    /// A change of one key.
    Row(Row),
    /// No row with a `ts` below this will come.
    Closed(u64),
}

/// Reads lines, one after the other, with the same buffers.
#[derive(Debug, Default)]
pub(super) struct LineParser {
    scratch: Scratch,
    members: Members,
    shaper: Shaper,
}

/// The members of the line being read, as canonical text.
#[derive(Debug, Default)]
struct Members {
    names: String,
    ranges: Vec<Range<usize>>,
    /// One text for each name of [`NAMES`], then one for all others.
    texts: [String; NAMES.len() + 1],
    found: [bool; NAMES.len() + 1],
}

const NAMES: [&str; 5] = ["key", "value", "ts", "offset", "closed"];
const KEY: usize = 0;
const VALUE: usize = 1;
const TS: usize = 2;
const OFFSET: usize = 3;
const CLOSED: usize = 4;

impl LineParser {
    /// Reads lines whose values have this shape.
    pub(super) fn new(shape: Shape) -> LineParser {
        LineParser { shaper: Shaper::new(shape), ..LineParser::default() }
    }

    /// Reads a line without its line break.
    pub(super) fn parse(&mut self, line: &[u8]) -> Result<Line, Bad> {
        self.read(line).map_err(|bad| match bad.key {
            Some(_) => bad,
            None => self.salvaged(bad.looks(line), line),
        })
    }

    fn read(&mut self, line: &[u8]) -> Result<Line, Bad> {
        let mut reader = Reader::new(utf8(line)?, &mut self.scratch);
        match reader.peek() {
            None => return Ok(Line::Blank),
            Some(b'{') => self.members.read(&mut reader).map_err(not_json)?,
            Some(_) => {
                let mut ignored = String::new();
                let read = reader.value(&mut ignored, 0);
                read.and_then(|()| reader.finish()).map_err(not_json)?;
                return Err(Bad::new("a line that is not an object", SHAPE));
            }
        }
        let has_own_key = self.shaper.key().is_empty();
        let line = self.members.line(has_own_key).and_then(|line| match line {
            Line::Row(row) => {
                let (key, value) = self.shaper.row(Some(row.key), row.value)?;
                Ok(Line::Row(Row { key, value, ..row }))
            }
            line => Ok(line),
        });
        line.map_err(|bad| {
            let key = match has_own_key {
                true => self.members.once(KEY).map(Json::from_canonical),
                false => self.members.once(VALUE).and_then(|value| self.shaper.key_in(value)),
            };
            Bad { key, offset: self.members.once(OFFSET).and_then(whole), ..bad }
        })
    }

    /// Adds what can be read of a line that is not JSON. A row that is known has the error: under
    /// another key it would leave the row with a value that is not its own any more.
    fn salvaged(&mut self, bad: Bad, line: &[u8]) -> Bad {
        let mut once = |slot: usize| salvage::once(line, NAMES[slot], &mut self.scratch);
        let key = match self.shaper.key() {
            [] => once(KEY).map(|text| Json::from_canonical(&text)),
            _ => once(VALUE).and_then(|text| self.shaper.key_in(&text)),
        };
        let offset = key.is_some().then(|| once(OFFSET)).flatten();
        Bad { key, offset: bad.offset.or_else(|| whole(&offset?)), ..bad }
    }
}

/// What to do about a line that is not JSON, in whatever way.
pub(super) const REPAIR: &str = "repair or remove the line";

const ADD: &str = "add it (a delete has \"value\": null) or remove the line";
const BARE: &str =
    "if the line is the value, name the members that are its key: --format bare --key FIELD";
const SHAPE: &str = r#"write {"key": K, "value": V, "ts": T} or {"closed": N}"#;
const TS_WHAT: &str = "\"ts\" is not a whole number from 0 to 18446744073709551614";

/// Returns a line as text.
pub(super) fn utf8(line: &[u8]) -> Result<&str, Bad> {
    std::str::from_utf8(line).map_err(|e| {
        let what = format!("not UTF-8 (byte {} of the line)", e.valid_up_to() + 1);
        Bad::new(what, "write the feed as UTF-8")
    })
}

/// What is bad about a line whose text is not JSON.
pub(super) fn not_json(Syntax { what, byte }: Syntax) -> Bad {
    let hint = match what {
        MORE => "write one object per line: jq -c . FILE | ingest - ..",
        _ => REPAIR,
    };
    Bad::new(format!("not JSON: {what} (byte {byte} of the line)"), hint)
}

impl Members {
    fn read(&mut self, reader: &mut Reader<'_>) -> Result<(), Syntax> {
        self.names.clear();
        self.ranges.clear();
        self.found = Default::default();
        reader.expect(b'{', "expected `{`")?;
        if !reader.take(b'}') {
            loop {
                self.member(reader)?;
                if !reader.take(b',') {
                    break;
                }
            }
            reader.expect(b'}', "expected `,` or `}`")?;
        }
        reader.finish()
    }

    fn member(&mut self, reader: &mut Reader<'_>) -> Result<(), Syntax> {
        let start = self.names.len();
        reader.name(&mut self.names)?;
        let name = &self.names[start..];
        let slot = NAMES.iter().position(|known| *known == name);
        let slot = slot.unwrap_or(NAMES.len());
        self.ranges.push(start..self.names.len());
        self.texts[slot].clear();
        self.found[slot] = true;
        reader.value(&mut self.texts[slot], 1)
    }

    /// Returns what they say: a row has its key among them, or in its value.
    fn line(&mut self, has_own_key: bool) -> Result<Line, Bad> {
        if let Some(name) = self.duplicate() {
            let what = format!("two members named {}", Json::string(name).as_str());
            return Err(Bad::new(what, "keep one of them"));
        }
        // A row may have other members, and one of those may be called "closed".
        if self.found[CLOSED] && !self.found[KEY] && !self.found[VALUE] {
            let what = "\"closed\" is not a whole number from 0 to 18446744073709551615";
            let closed = whole(&self.texts[CLOSED]);
            return closed.map(Line::Closed).ok_or_else(|| {
                Bad::new(what, "write the first time that is still open, as a number")
            });
        }
        for name in [KEY, VALUE] {
            if !self.found[name] && (has_own_key || name == VALUE) {
                let hint = self.of_another().unwrap_or(ADD);
                return Err(Bad::new(format!("missing \"{}\"", NAMES[name]), hint));
            }
        }
        let ts = self.number(TS, TS_MAX, TS_WHAT)?;
        let what = "\"offset\" is not a whole number from 0 to 18446744073709551615";
        let offset = self.number(OFFSET, u64::MAX, what)?;
        let value = &self.texts[VALUE];
        Ok(Line::Row(Row {
            key: Json::from_canonical(if has_own_key { &self.texts[KEY] } else { "null" }),
            value: (value != "null").then(|| Json::from_canonical(value)),
            ts,
            offset,
        }))
    }

    /// Returns how a line without a value is read, if that is known.
    fn of_another(&self) -> Option<&'static str> {
        if self.found[VALUE] || self.ranges.is_empty() {
            return None;
        }
        let has = |name: &str| self.ranges.iter().any(|range| self.names[range.clone()] == *name);
        strange::of_members(has).or((!self.found[KEY]).then_some(BARE))
    }

    /// Returns a name that stands in the line twice. O(members * log members).
    fn duplicate(&mut self) -> Option<&str> {
        let names = &self.names;
        let name = |range: &Range<usize>| &names[range.clone()];
        self.ranges.sort_unstable_by(|a, b| name(a).cmp(name(b)));
        let mut pairs = self.ranges.windows(2);
        let twice = pairs.find(|pair| name(&pair[0]) == name(&pair[1]))?;
        Some(name(&twice[0]))
    }

    /// Returns the text of a known member if the line has it exactly once.
    fn once(&self, slot: usize) -> Option<&str> {
        let named = |range: &&Range<usize>| self.names[(*range).clone()] == *NAMES[slot];
        (self.ranges.iter().filter(named).count() == 1).then(|| self.texts[slot].as_str())
    }

    fn number(&self, slot: usize, max: u64, what: &'static str) -> Result<Option<u64>, Bad> {
        if !self.found[slot] {
            return Ok(None);
        }
        match whole(&self.texts[slot]) {
            Some(number) if number <= max => Ok(Some(number)),
            _ => Err(Bad::new(what, "write it as digits, without sign, point or quotes")),
        }
    }
}

/// Returns `{"key_base64": ..}`, the key of a line whose own key cannot be read.
pub(super) fn key_base64(line: &[u8]) -> Json {
    use base64::Engine as _;
    let line = base64::engine::general_purpose::STANDARD.encode(line);
    Json::from_canonical(&format!("{{\"key_base64\":\"{line}\"}}"))
}

/// Returns the number that a canonical text is, if it is a whole one in range and written plainly.
fn whole(text: &str) -> Option<u64> {
    // `parse` takes a leading `+`, but no JSON number starts with one; a string starts with `"`.
    text.parse().ok()
}
