//! Owns the types of a key and of a value in a feed, and the bytes a shard keeps for them. It does
//! not own how text becomes canonical; that is `canonical`.

use differential_upsert::codec::Codec;
use differential_upsert::{DataError, Error, ErrorKind};
use serde::{Deserialize, Serialize};

use crate::canonical;

/// Canonical JSON text. Equal iff the bytes are equal; ordered by bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Json(Box<str>);

/// What a key maps to: a value, or the error that stands in its place (`--on-error keep`).
pub type Cell = Result<Json, DataError>;

/// A key or a value is stored as its text.
#[derive(Clone, Copy, Debug)]
pub struct JsonText;

impl Codec<Json> for JsonText {
    const ID: &'static str = "json-text";

    fn encode(value: &Json, into: &mut Vec<u8>) -> Result<(), Error> {
        into.extend_from_slice(value.0.as_bytes());
        Ok(())
    }

    fn decode(bytes: &[u8]) -> Result<Json, Error> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Json(Box::from(text))),
            Err(e) => Err(Error::new(ErrorKind::Corrupt, "stored JSON is not UTF-8").because(e)),
        }
    }

    fn fingerprint() -> String {
        "json".to_string()
    }
}

impl Json {
    /// Wraps a text that is canonical already.
    pub(crate) fn canonical(text: &str) -> Json {
        Json(Box::from(text))
    }

    /// Returns the JSON string of a text.
    pub(crate) fn string(text: &str) -> Json {
        let mut out = String::with_capacity(text.len() + 2);
        canonical::quote(text, &mut out);
        Json(out.into_boxed_str())
    }

    /// Returns `{"key_base64": ..}`, the key of a line whose own key cannot be read.
    pub(crate) fn key_base64(line: &[u8]) -> Json {
        use base64::Engine as _;
        let line = base64::engine::general_purpose::STANDARD.encode(line);
        Json(format!("{{\"key_base64\":\"{line}\"}}").into_boxed_str())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}
