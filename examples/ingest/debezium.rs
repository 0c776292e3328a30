//! Owns Debezium's envelopes: what change of a key a row's value stands for. It does not own lines, nor
//! any other format. Pure.
//!
//! Kafka Connect writes keys and values as `{"schema": .., "payload": ..}` when it is told to; both
//! ways are read. Partial rows are not put together: `after` is the whole value.

use std::ops::Range;

use differential_upsert::source::Change;

use crate::canonical::{Reader, Scratch, Syntax};
use crate::json::Json;
use crate::jsonl::Bad;

const HINT: &str =
    r#"write {"op": "c", "r" or "u", "after": V}, {"op": "d"}, {"op": "t"}, or null for a delete"#;

/// An `op` that is longer than this is not repeated in a message.
const OP_BYTES_MAX: usize = 40;

/// Reads envelopes, one after the other, with the same buffers.
#[derive(Debug, Default)]
pub(crate) struct Envelopes {
    object: Object,
    scratch: Scratch,
}

/// The members of an object, their names plain and their values canonical.
#[derive(Debug, Default)]
struct Object {
    names: String,
    texts: String,
    members: Vec<(Range<usize>, Range<usize>)>,
}

impl Envelopes {
    /// Returns what a row whose value is an envelope, or null, does to its key.
    pub(crate) fn change(
        &mut self,
        key: Json,
        value: Option<Json>,
    ) -> Result<Change<Json, Json>, Bad> {
        let key = self.key(key);
        let Some(value) = value else { return Ok(Change::Delete(key)) };
        let is_object = self.object.read(value.as_str(), &mut self.scratch);
        let is_object = match self.object.payload().map(str::to_string) {
            Some(payload) if payload == "null" => return Ok(Change::Delete(key)),
            Some(payload) => self.object.read(&payload, &mut self.scratch),
            None => is_object,
        };
        let bad = |what: String| Bad { key: Some(key.clone()), ..Bad::new(what, HINT) };
        if !is_object {
            return Err(bad("an envelope that is not an object".to_string()));
        }
        let op = self.object.get("op").ok_or_else(|| bad("an envelope without \"op\"".into()))?;
        match op {
            "\"d\"" => return Ok(Change::Delete(key)),
            "\"t\"" => return Ok(Change::Reset),
            "\"c\"" | "\"r\"" | "\"u\"" => {}
            _ if op.len() > OP_BYTES_MAX => {
                return Err(bad("\"op\" is none of c, r, u, d, t".to_string()));
            }
            _ => return Err(bad(format!("\"op\" is {op}, none of c, r, u, d, t"))),
        }
        match self.object.get("after") {
            None => Err(bad(format!("\"op\" is {op}, and there is no \"after\""))),
            Some("null") => Err(bad(format!("\"op\" is {op}, and \"after\" is null"))),
            Some(after) => Ok(Change::Put(key, Ok(Json::canonical(after)))),
        }
    }

    /// Returns a row's key: what is inside, if it is wrapped.
    pub(crate) fn key(&mut self, key: Json) -> Json {
        self.object.read(key.as_str(), &mut self.scratch);
        self.object.payload().map(Json::canonical).unwrap_or(key)
    }
}

impl Object {
    /// Reads a canonical text, and returns whether it is an object's; if not, there are no members.
    fn read(&mut self, text: &str, scratch: &mut Scratch) -> bool {
        self.names.clear();
        self.texts.clear();
        self.members.clear();
        let read = self.members(&mut Reader::new(text, scratch));
        if read.is_err() {
            self.members.clear();
        }
        read.is_ok()
    }

    fn members(&mut self, reader: &mut Reader<'_>) -> Result<(), Syntax> {
        reader.expect(b'{', "expected `{`")?;
        while !reader.take(b'}') {
            let (name, text) = (self.names.len(), self.texts.len());
            reader.name(&mut self.names)?;
            // It was read before, deeper inside its line.
            reader.value(&mut self.texts, 0)?;
            self.members.push((name..self.names.len(), text..self.texts.len()));
            reader.take(b',');
        }
        Ok(())
    }

    fn get(&self, name: &str) -> Option<&str> {
        let (_, text) = self.members.iter().find(|(at, _)| self.names[at.clone()] == *name)?;
        Some(&self.texts[text.clone()])
    }

    /// Returns what is wrapped, if this is an object of a schema and a payload.
    fn payload(&self) -> Option<&str> {
        self.get("schema").filter(|_| self.members.len() == 2)?;
        self.get("payload")
    }
}
