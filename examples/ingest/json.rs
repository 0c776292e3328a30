//! Owns the types of a key and of a value in a feed, and the bytes a shard keeps for them. It does
//! not own how text becomes canonical; that is `canonical`.

use crate::canonical;

/// Canonical JSON text. Equal iff the bytes are equal; ordered by bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Json(Box<str>);

/// What a key maps to: a value, or the error that stands in its place (`--on-error keep`).
///
/// A value is below every error, so at equal orders of one time the error wins: it is the same
/// choice on every replica, and it hides nothing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cell {
    Value(Json),
    Error(Box<str>),
}

impl Json {
    /// Wraps a text that is canonical already.
    pub fn canonical(text: &str) -> Json {
        Json(Box::from(text))
    }

    /// Returns the JSON string of a text.
    pub fn string(text: &str) -> Json {
        let mut out = String::with_capacity(text.len() + 2);
        canonical::quote(text, &mut out);
        Json(out.into_boxed_str())
    }

    /// Returns `{"key_base64": ..}`, the key of a line whose own key cannot be read.
    pub fn key_base64(line: &[u8]) -> Json {
        use base64::Engine as _;
        let line = base64::engine::general_purpose::STANDARD.encode(line);
        Json(format!("{{\"key_base64\":\"{line}\"}}").into_boxed_str())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns what a shard stores for this as a key.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl Cell {
    /// Returns the text of the value or of the error.
    pub fn text(&self) -> &str {
        match self {
            Cell::Value(json) => json.as_str(),
            Cell::Error(what) => what,
        }
    }

    /// Returns what a shard stores for this as a value: a tag (0 value, 1 error) and the text.
    pub fn to_bytes(&self) -> Vec<u8> {
        let tag = u8::from(matches!(self, Cell::Error(_)));
        let text = self.text();
        let mut bytes = Vec::with_capacity(1 + text.len());
        bytes.push(tag);
        bytes.extend_from_slice(text.as_bytes());
        bytes
    }
}
