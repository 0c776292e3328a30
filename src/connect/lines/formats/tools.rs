//! Owns what formats read lines with: a line as an object, a text as JSON, and the buffers. It does not own
//! any format.

use crate::codec::Json;
use crate::codec::canonical::{Reader, Scratch};
use crate::codec::object::{Object, elements};
use crate::connect::lines::line::{not_json, utf8};
use crate::connect::lines::row::Bad;
use crate::connect::lines::salvage;
use crate::connect::lines::shape::{Shape, Shaper};

/// What a feed's lines are read with, one after the other.
#[derive(Debug, Default)]
pub(in crate::connect::lines) struct Tools {
    /// The members of the line.
    pub(super) line: Object,
    /// Those of a value in it, and of the value before.
    pub(super) data: Object,
    pub(super) old: Object,
    pub(super) shaper: Shaper,
    scratch: Scratch,
    text: String,
}

impl Tools {
    pub(in crate::connect::lines) fn new(shape: Shape) -> Tools {
        Tools { shaper: Shaper::new(shape), ..Tools::default() }
    }

    /// Reads a line that is an object into `line`, and returns its canonical text; `None` if it is blank.
    pub(super) fn object(&mut self, line: &[u8]) -> Result<Option<&str>, Bad> {
        self.text.clear();
        let text = utf8(line)?;
        let mut reader = Reader::new(text, &mut self.scratch);
        let Some(first) = reader.peek() else { return Ok(None) };
        let read = reader.value(&mut self.text, 0).and_then(|()| reader.finish());
        read.map_err(|syntax| not_json(syntax).looks(line))?;
        if first != b'{' {
            let hint = "say what the lines are with --format";
            return Err(Bad::new("a line that is not an object", hint).looks(line));
        }
        self.line.read(&self.text, &mut self.scratch);
        Ok(Some(&self.text))
    }

    /// Returns the canonical text of a member that a line has exactly once, though the line is not JSON.
    pub(super) fn salvaged(&mut self, line: &[u8], name: &str) -> Option<String> {
        salvage::once(line, name, &mut self.scratch)
    }

    /// Reads a canonical text into `data`, and returns whether it is an object.
    pub(super) fn read_data(&mut self, text: &str) -> bool {
        self.data.read(text, &mut self.scratch)
    }

    /// Reads a canonical text into `old`: one that is not an object has zero members.
    pub(super) fn read_old(&mut self, text: &str) {
        self.old.read(text, &mut self.scratch);
    }

    /// Returns the elements of a member of the line that is an array; else empty.
    pub(super) fn array(&mut self, name: &str) -> Vec<String> {
        let text = self.line.get(name).filter(|text| text.starts_with('['));
        text.map(|text| elements(text, &mut self.scratch)).unwrap_or_default()
    }

    /// Returns the strings of a member of the line that is an array of them.
    pub(super) fn names(&mut self, name: &str) -> Vec<String> {
        self.array(name).iter().filter_map(|text| plain(text)).collect()
    }

    /// Returns what a text of a message is: JSON if it is that, else a string.
    pub(super) fn json(&mut self, text: &str) -> Json {
        let mut out = String::with_capacity(text.len());
        let mut reader = Reader::new(text, &mut self.scratch);
        match reader.value(&mut out, 0).and_then(|()| reader.finish()) {
            Ok(()) => Json::from_canonical(&out),
            Err(_) => Json::string(text),
        }
    }

    /// Returns what a member is: of a string what its text is, and anything else as it stands.
    pub(super) fn inside(&mut self, member: &str) -> Json {
        match plain(member) {
            Some(text) => self.json(&text),
            None => Json::from_canonical(member),
        }
    }
}

/// Returns the text that a canonical string stands for; `None` if it is not a string's.
pub(super) fn plain(text: &str) -> Option<String> {
    text.starts_with('"').then(|| serde_json::from_str(text).ok()).flatten()
}
