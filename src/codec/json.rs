//! Owns JSON text as a key or a value, and the bytes a shard keeps for it. It does not own how text
//! becomes canonical; that is `canonical`.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Codec, DataError, canonical, keep_unsent, partial};
use crate::error::{Error, ErrorKind};

/// Canonical JSON text: a key or a value that is any JSON. Equal iff the bytes are equal; ordered by
/// bytes.
///
/// Canonical is: members sorted by the bytes of their names, the last of equal names kept, no white space,
/// strings with the fewest escapes, numbers exactly as written. So `1` and `1.0` differ, and a number of
/// forty digits stays what it is. Arrays and objects are at most 127 deep.
///
/// # Examples
///
/// ```
/// use differential_upsert::codec::Json;
///
/// let fruit = Json::parse(r#" {"pears": 1.0, "apples": "\u0033"} "#)?;
/// assert_eq!(fruit.as_str(), r#"{"apples":"3","pears":1.0}"#);
/// assert_eq!(Json::string("a \"b\"").as_str(), r#""a \"b\"""#);
/// assert!(Json::parse("{'apples': 3}").is_err());
/// # Ok::<(), differential_upsert::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Json(Box<str>);

/// Stores a [`Json`] as its text: the codec of `Shard<Json, Json, JsonText>`.
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
    /// Reads a JSON text and makes it canonical. O(bytes), and O(members log members) for objects that are
    /// not in order.
    ///
    /// # Errors
    ///
    /// `Invalid` if it is not one JSON text, with the byte that is wrong, from 1.
    pub fn parse(text: &str) -> Result<Json, Error> {
        let (mut scratch, mut out) = (canonical::Scratch::default(), String::new());
        let mut reader = canonical::Reader::new(text, &mut scratch);
        let read = reader.value(&mut out, 0).and_then(|()| reader.finish());
        read.map_err(|canonical::Syntax { what, byte }| {
            Error::new(ErrorKind::Invalid, format!("not JSON: {what}"))
                .at(format!("byte {byte}"))
                .hint("correct the text")
        })?;
        Ok(Json(out.into_boxed_str()))
    }

    /// Wraps a text that is canonical already, which is not checked: of another one, equal keys would be
    /// two. Use [`parse`](Json::parse) where that is not certain.
    pub fn from_canonical(text: &str) -> Json {
        Json(Box::from(text))
    }

    /// Returns the JSON string of a text: in quotes, with escapes.
    pub fn string(text: &str) -> Json {
        let mut out = String::with_capacity(text.len() + 2);
        canonical::quote(text, &mut out);
        Json(out.into_boxed_str())
    }

    /// Returns the patch of a row, an object, of which these columns were not sent, since they did not change. What it has
    /// of their names is left out. Of a value that is not an object, it is a patch that
    /// [`keep_unsent`](Json::keep_unsent) makes an error of.
    pub fn partial(&self, unsent: &[impl AsRef<str>]) -> Json {
        Json(partial(&self.0, unsent, &mut canonical::Scratch::default()).into_boxed_str())
    }

    /// The fold of rows that are objects, by the name of [`KEEP_UNSENT`](super::KEEP_UNSENT): columns that were not sent keep
    /// what the row before has.
    ///
    /// # Errors
    ///
    /// As [`keep_unsent`](super::keep_unsent): this is the key's error then.
    ///
    /// ```
    /// use differential_upsert::Shard;
    /// use differential_upsert::codec::{Json, JsonText, KEEP_UNSENT};
    /// let shard = Shard::<Json, Json, JsonText>::open("mem:")?;
    /// let shard = shard.with_fold(KEEP_UNSENT, Json::keep_unsent);
    /// let [prior, row] = [r#"{"doc":"long","n":1}"#, r#"{"n":2}"#].map(Json::from_canonical);
    /// let after = Json::keep_unsent(prior, row.partial(&["doc"])).unwrap();
    /// assert_eq!(after.as_str(), r#"{"doc":"long","n":2}"#);
    /// # Ok::<(), differential_upsert::Error>(())
    /// ```
    pub fn keep_unsent(prior: Json, patch: Json) -> Result<Json, DataError> {
        let row = keep_unsent(prior.0.into_string(), patch.0.into_string())?;
        Ok(Json(row.into_boxed_str()))
    }

    /// Returns the [collection](super::collection()) that this is the key of; `""` if it is of none. For
    /// [`Shard::with_collections`](crate::Shard::with_collections), under the name [`COLLECTIONS`](super::COLLECTIONS).
    pub fn collection(&self) -> &str {
        super::collection(&self.0)
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Its text, as in errors that name a key.
impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
