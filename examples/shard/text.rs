//! Owns how rows of a shard are printed, and in which order. It does not own reading them. Pure.

use std::cmp::Ordering;
use std::fmt::Write as _;

use base64::Engine as _;
use differential_upsert::codec::{collection, collection_name};
use differential_upsert::shard::Update;
use differential_upsert::{Error, ErrorKind};

/// The codec whose keys and values are JSON text as they are.
pub(crate) const JSON_TEXT: &str = "json-text";

/// Tag of a stored value.
const VALUE: u8 = 0;
/// Tag of a stored error, whose bytes are its text.
const ERROR: u8 = 1;

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

    /// Returns the lines of a snapshot, whose rows come in their order: `{"key":..,"value":..}` or `{"key":..,"error":".."}`.
    ///
    /// # Errors
    ///
    /// `Corrupt` if a row is not there exactly once, or its bytes are not a shard's.
    pub(crate) fn snapshot(
        &self,
        rows: impl Iterator<Item = Result<Update, Error>>,
    ) -> impl Iterator<Item = Result<String, Error>> {
        let mut last: Option<Update> = None;
        rows.map(move |row| {
            let row = row?;
            let ((key, value), time, count) = &row;
            let again = last.as_ref().is_some_and(|((last, _), _, _)| last == key);
            if *count != 1 || again {
                return Err(not_once(*time));
            }
            let mut line = String::from("{");
            self.row(key.as_bytes(), value.as_bytes(), &mut line)?;
            line.push('}');
            last = Some(row);
            Ok(line)
        })
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

    fn row(&self, key: &[u8], value: &[u8], line: &mut String) -> Result<(), Error> {
        line.push_str("\"key\":");
        self.datum(self.shown(key), line)?;
        match value.split_first() {
            Some((&VALUE, value)) => {
                line.push_str(",\"value\":");
                self.datum(value, line)
            }
            Some((&ERROR, text)) => {
                line.push_str(",\"error\":");
                line.push_str(&serde_json::Value::from(utf8(text)?).to_string());
                Ok(())
            }
            _ => Err(damaged("a stored value without a known tag")),
        }
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

fn utf8(bytes: &[u8]) -> Result<&str, Error> {
    std::str::from_utf8(bytes).map_err(|_| damaged("stored JSON that is not UTF-8"))
}

fn not_once(time: u64) -> Error {
    damaged(&format!("a key that does not have exactly one value as of {time}"))
}

fn damaged(what: &str) -> Error {
    Error::new(ErrorKind::Corrupt, what).hint("run shard verify, and restore it from a copy")
}
