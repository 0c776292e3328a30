//! Owns how rows of a shard are printed, and in which order. It does not own reading them. Pure.

use std::cmp::Ordering;
use std::fmt::Write as _;

use base64::Engine as _;
use differential_upsert::codec::{Json, collection, collection_name};
use differential_upsert::shard::Update;
use differential_upsert::{Encoded, Error, ErrorKind};

use crate::changes::Changed;

/// The codec whose keys and values are JSON text as they are.
pub(crate) const JSON_TEXT: &str = "json-text";

/// Tag of a stored value.
const VALUE: u8 = 0;
/// Tag of a stored error, whose bytes are its text.
const ERROR: u8 = 1;
/// Tag of a stored value of a later shape.
const SHAPED: u8 = 2;

/// How stored keys and values are shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// They are JSON.
    Json,
    /// They are JSON, and those of one collection are shown, which is named as keys have it between quotes.
    Collection(String),
    /// They are bytes that only their own program understands: `{"base64":".."}`.
    Opaque,
}

impl Form {
    /// Returns the form of what a codec wrote.
    pub(crate) fn of_codec(codec: &str) -> Form {
        if codec == JSON_TEXT { Form::Json } else { Form::Opaque }
    }

    /// Returns the form that shows one collection; none if keys are not JSON.
    pub(crate) fn of_collection(self, name: &str) -> Option<Form> {
        (self != Form::Opaque).then(|| Form::Collection(collection_name(name)))
    }

    /// Returns the line of a row of a collection: `{"key":..,"value":..}` or `{"key":..,"error":".."}`.
    ///
    /// # Errors
    ///
    /// `Corrupt` if its bytes are not a shard's.
    pub(crate) fn snapshot(&self, ((key, value), ..): &Update) -> Result<String, Error> {
        let mut line = String::from("{");
        self.row(key.as_bytes(), value.as_bytes(), &mut line)?;
        line.push('}');
        Ok(line)
    }

    /// Whether a row is shown.
    pub(crate) fn shows(&self, ((key, _), _, _): &Update) -> bool {
        match self {
            Form::Collection(name) => {
                std::str::from_utf8(key.as_bytes()).is_ok_and(|key| collection(key) == name)
            }
            Form::Json | Form::Opaque => true,
        }
    }

    /// Compares the places of two rows that are shown: by time, then key as it is shown, a retraction before an insertion.
    pub(crate) fn order(
        &self,
        ((a, _), a_time, a_diff): &Update,
        ((b, _), b_time, b_diff): &Update,
    ) -> Ordering {
        let (a, b) = (self.shown(a.as_bytes()), self.shown(b.as_bytes()));
        (a_time, a, a_diff).cmp(&(b_time, b, b_diff))
    }

    /// Puts rows that are shown in the order they are printed in; equal ones stay as they are.
    pub(crate) fn sort(&self, rows: &mut [Update]) {
        rows.sort_by(|a, b| self.order(a, b));
    }

    /// Returns what is shown of a key.
    fn shown<'a>(&self, key: &'a [u8]) -> &'a [u8] {
        match self {
            // Behind `["NAME",`, and before `]`.
            Form::Collection(name) => key.get(name.len() + 4..key.len() - 1).unwrap_or(key),
            Form::Json | Form::Opaque => key,
        }
    }

    /// Returns the line of an update: `{"key":..,"value":..,"time":..,"diff":..}`.
    ///
    /// # Errors
    ///
    /// `Corrupt` if its bytes are not a shard's.
    pub(crate) fn update(&self, ((key, value), time, diff): &Update) -> Result<String, Error> {
        let mut line = String::from("{");
        self.row(key.as_bytes(), value.as_bytes(), &mut line)?;
        // Writing to a string cannot fail.
        let _ = write!(line, ",\"time\":{time},\"diff\":{diff}}}");
        Ok(line)
    }

    /// Returns what a key had and has: `{"key":..,"before":..,"after":..}`, where nothing is null and an error is in
    /// `before_error` or `after_error` instead.
    ///
    /// # Errors
    ///
    /// `Corrupt` if its bytes are not a shard's.
    pub(crate) fn difference(&self, changed: &Changed) -> Result<String, Error> {
        let mut line = String::from("{");
        self.key_and_change(changed, &mut line)?;
        line.push('}');
        Ok(line)
    }

    /// As [`difference`](Form::difference), with what it is and when:
    /// `{"op":..,"key":..,"before":..,"after":..,"time":..}`.
    pub(crate) fn change(&self, changed: &Changed) -> Result<String, Error> {
        let mut line = format!("{{\"op\":\"{}\",", changed.op());
        self.key_and_change(changed, &mut line)?;
        let _ = write!(line, ",\"time\":{}}}", changed.time);
        Ok(line)
    }

    fn key_and_change(&self, changed: &Changed, line: &mut String) -> Result<(), Error> {
        line.push_str("\"key\":");
        self.datum(self.shown(changed.key.as_bytes()), line)?;
        for (name, value) in [("before", &changed.before), ("after", &changed.after)] {
            match value {
                Some(value) => {
                    self.value([name, &format!("{name}_error")], value.as_bytes(), line)?
                }
                None => {
                    let _ = write!(line, ",\"{name}\":null");
                }
            }
        }
        Ok(())
    }

    fn row(&self, key: &[u8], value: &[u8], line: &mut String) -> Result<(), Error> {
        line.push_str("\"key\":");
        self.datum(self.shown(key), line)?;
        self.value(["value", "error"], value, line)
    }

    /// Writes a stored value as a member, which has another name for an error.
    fn value(
        &self,
        [name, error]: [&str; 2],
        value: &[u8],
        line: &mut String,
    ) -> Result<(), Error> {
        match stored(value)? {
            Ok(value) => {
                let _ = write!(line, ",\"{name}\":");
                self.shaped(value, line)
            }
            Err(text) => {
                let _ = write!(line, ",\"{error}\":{}", serde_json::Value::from(text));
                Ok(())
            }
        }
    }

    /// Returns the text of what is shown of a key.
    ///
    /// # Errors
    ///
    /// `Corrupt` if its bytes are not a shard's.
    pub(crate) fn key_text(&self, key: &Encoded) -> Result<String, Error> {
        let mut text = String::new();
        self.datum(self.shown(key.as_bytes()), &mut text)?;
        Ok(text)
    }

    /// Returns the text of a stored value, or of a stored error.
    ///
    /// # Errors
    ///
    /// `Corrupt` if its bytes are not a shard's.
    pub(crate) fn value_text(&self, value: &Encoded) -> Result<Result<String, String>, Error> {
        let mut text = String::new();
        match stored(value.as_bytes())? {
            Ok(value) => self.shaped(value, &mut text).map(|()| Ok(text)),
            Err(error) => Ok(Err(error.to_string())),
        }
    }

    /// Reads a key as it is shown.
    ///
    /// # Errors
    ///
    /// `Invalid` if it is something else.
    pub(crate) fn read_key(&self, text: &str) -> Result<Encoded, Error> {
        let json = Json::parse(text).map_err(|e| {
            let what = format!("the key {text} is {}", e.what());
            Error::new(ErrorKind::Invalid, what)
                .at("KEY")
                .hint("write it as `shard errors` does, a string in its quotes: '\"k\"'")
        })?;
        if *self != Form::Opaque {
            return Ok(Encoded::from_bytes(json.as_str().as_bytes().to_vec()));
        }
        let base64 = serde_json::from_str::<serde_json::Value>(json.as_str()).ok();
        let base64 = base64.and_then(|key| Some(key.get("base64")?.as_str()?.to_string()));
        let bytes =
            base64.and_then(|base64| base64::engine::general_purpose::STANDARD.decode(base64).ok());
        bytes.map(Encoded::from_bytes).ok_or_else(|| {
            Error::new(ErrorKind::Invalid, "the keys are bytes, and this is none")
                .at("KEY")
                .hint("write it as `shard errors` does: '{\"base64\":\"..\"}'")
        })
    }

    /// Writes a value; one that is opaque with the number of its shape, but for the first one.
    fn shaped(&self, (shape, value): (u16, &[u8]), line: &mut String) -> Result<(), Error> {
        self.datum(value, line)?;
        if *self == Form::Opaque && shape > 0 {
            line.pop();
            let _ = write!(line, ",\"shape\":{shape}}}");
        }
        Ok(())
    }

    fn datum(&self, bytes: &[u8], line: &mut String) -> Result<(), Error> {
        match self {
            Form::Json | Form::Collection(_) => line.push_str(utf8(bytes)?),
            Form::Opaque => {
                line.push_str("{\"base64\":\"");
                base64::engine::general_purpose::STANDARD.encode_string(bytes, line);
                line.push_str("\"}");
            }
        }
        Ok(())
    }
}

/// Passes on the rows of a collection, which come in their order.
///
/// # Errors
///
/// `Corrupt` if a key does not have exactly one value.
pub(crate) fn one_each(
    rows: impl Iterator<Item = Result<Update, Error>>,
) -> impl Iterator<Item = Result<Update, Error>> {
    let mut last: Option<Encoded> = None;
    rows.map(move |row| {
        let row = row?;
        let ((key, _), time, count) = &row;
        let again = last.replace(key.clone()).is_some_and(|last| last == *key);
        if *count == 1 && !again { Ok(row) } else { Err(not_once(*time)) }
    })
}

/// Whether a row is an error.
pub(crate) fn is_error(((_, value), ..): &Update) -> bool {
    value.as_bytes().first() == Some(&ERROR)
}

/// Returns the bytes of a stored value and the number of its shape, or the text of a stored error.
fn stored(value: &[u8]) -> Result<Result<(u16, &[u8]), &str>, Error> {
    match value.split_first() {
        Some((&VALUE, value)) => Ok(Ok((0, value))),
        Some((&SHAPED, [low, high, value @ ..])) => {
            Ok(Ok((u16::from_le_bytes([*low, *high]), value)))
        }
        Some((&ERROR, text)) => utf8(text).map(Err),
        _ => Err(damaged("a stored value without a known tag")),
    }
}

fn utf8(bytes: &[u8]) -> Result<&str, Error> {
    std::str::from_utf8(bytes).map_err(|_| damaged("stored JSON that is not UTF-8"))
}

/// The error of a key that has several values, or none to take back.
pub(crate) fn not_once(time: u64) -> Error {
    damaged(&format!("a key that does not have exactly one value as of {time}"))
}

fn damaged(what: &str) -> Error {
    Error::new(ErrorKind::Corrupt, what).hint("run shard verify, and restore it from a copy")
}
