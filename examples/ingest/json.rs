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
///
/// A stored value is below every stored error, so at equal orders of one time the error wins: the
/// same choice on every replica, and one that hides nothing.
pub(crate) type Cell = Result<Json, DataError>;

/// The codec of a shard of JSON: keys and values are stored as their canonical text.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct JsonText;

impl Codec<Json> for JsonText {
    const ID: &'static str = "json-text";

    fn encode(value: &Json, into: &mut Vec<u8>) -> Result<(), Error> {
        into.extend_from_slice(value.as_str().as_bytes());
        Ok(())
    }

    fn decode(bytes: &[u8]) -> Result<Json, Error> {
        let wrong = |e| Error::new(ErrorKind::Corrupt, "stored JSON is not UTF-8").because(e);
        std::str::from_utf8(bytes).map(Json::canonical).map_err(wrong)
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
