//! Owns how rows of a shard are printed, and in which order. It does not own reading them. Pure.

use base64::Engine as _;
use differential_upsert::codec::{Json, split_collection};
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
        let quoted = Json::string(name);
        let inner = quoted.as_str().strip_prefix('"')?.strip_suffix('"')?;
        (self != Form::Opaque).then(|| Form::Collection(inner.to_string()))
    }

    /// Puts the rows of a snapshot in the order they are printed in, and returns the line of each that is shown:
    /// `{"key":..,"value":..}` or `{"key":..,"error":".."}`.
    ///
    /// # Errors
    ///
    /// `Corrupt` if a row is not there exactly once, or its bytes are not a shard's.
    pub(crate) fn snapshot(
        self,
        mut rows: Vec<Update>,
    ) -> impl Iterator<Item = Result<String, Error>> {
        rows.sort_by(|((a, _), _, _), ((b, _), _, _)| a.as_bytes().cmp(b.as_bytes()));
        let mut last: Option<Update> = None;
        rows.into_iter().filter_map(move |row| {
            let ((key, value), time, count) = &row;
            let again = last.as_ref().is_some_and(|((last, _), _, _)| last == key);
            if *count != 1 || again {
                return Some(Err(not_once(*time)));
            }
            let line = self.line(key.as_bytes(), value.as_bytes(), "}");
            last = Some(row);
            line
        })
    }

    /// Puts updates in the order they are printed in: by time, then key, a retraction before an
    /// insertion.
    pub(crate) fn sort(updates: &mut [Update]) {
        updates.sort_by(|((a, _), a_time, a_diff), ((b, _), b_time, b_diff)| {
            (a_time, a.as_bytes(), a_diff).cmp(&(b_time, b.as_bytes(), b_diff))
        });
    }

    /// Returns the line of an update, if it is shown: `{"key":..,"value":..,"time":..,"diff":..}`.
    ///
    /// # Errors
    ///
    /// `Corrupt` if its bytes are not a shard's.
    pub(crate) fn update(&self, update: &Update) -> Option<Result<String, Error>> {
        let ((key, value), time, diff) = update;
        let end = format!(",\"time\":{time},\"diff\":{diff}}}");
        self.line(key.as_bytes(), value.as_bytes(), &end)
    }

    /// Returns the line of a row, if it is shown.
    fn line(&self, key: &[u8], value: &[u8], end: &str) -> Option<Result<String, Error>> {
        let key = match self {
            Form::Collection(name) => {
                let of = std::str::from_utf8(key).ok().and_then(split_collection);
                of.filter(|(of, _)| of == name)?.1.as_bytes()
            }
            Form::Json | Form::Opaque => key,
        };
        let mut line = String::from("{");
        let row = self.row(key, value, &mut line);
        line.push_str(end);
        Some(row.map(|()| line))
    }

    fn row(&self, key: &[u8], value: &[u8], line: &mut String) -> Result<(), Error> {
        line.push_str("\"key\":");
        self.datum(key, line)?;
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
