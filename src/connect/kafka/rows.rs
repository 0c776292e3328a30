//! Owns what a message says: which change of which key, or what is bad about it. It does not own where
//! messages come from. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::codec::Json;
use crate::codec::canonical::{Reader, Scratch, Syntax};
use crate::connect::debezium::{Envelopes, OnUnavailable, Unread};
use crate::source::Change;

/// What the bytes of a key are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum KeyFormat {
    /// JSON.
    #[default]
    Json,
    /// UTF-8, which becomes a string.
    String,
    /// Anything, which becomes a string of base64.
    Bytes,
}

/// What the bytes of a value are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum ValueFormat {
    /// JSON; null deletes.
    #[default]
    Json,
    /// UTF-8, which becomes a string.
    String,
    /// Anything, which becomes a string of base64.
    Bytes,
    /// A Debezium envelope as JSON.
    Debezium,
}

impl KeyFormat {
    pub(super) fn name(self) -> &'static str {
        match self {
            KeyFormat::Json => "json",
            KeyFormat::String => "string",
            KeyFormat::Bytes => "bytes",
        }
    }
}

impl ValueFormat {
    pub(super) fn name(self) -> &'static str {
        match self {
            ValueFormat::Json => "json",
            ValueFormat::String => "string",
            ValueFormat::Bytes => "bytes",
            ValueFormat::Debezium => "debezium",
        }
    }
}

/// What a message says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Says {
    Change(Change<Json, Json>),
    /// It changes no row.
    Nothing,
    Bad(Bad),
}

/// What is bad about a message, what to do, and the key that has the error.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Bad {
    pub(super) what: String,
    pub(super) hint: &'static str,
    pub(super) key: Json,
}

/// Reads messages, one after the other, with the same buffers.
#[derive(Debug)]
pub(super) struct Rows {
    key: KeyFormat,
    value: ValueFormat,
    envelopes: Envelopes,
    scratch: Scratch,
    out: String,
}

const HINT: &str = "correct what writes it, or say what the bytes are with key= and value=";

impl Rows {
    pub(super) fn new(key: KeyFormat, value: ValueFormat, on_unavailable: OnUnavailable) -> Rows {
        let (envelopes, scratch) = (Envelopes::new(on_unavailable), Scratch::default());
        Rows { key, value, envelopes, scratch, out: String::new() }
    }

    /// Returns what a message says.
    pub(super) fn read(&mut self, key: Option<&[u8]>, value: Option<&[u8]>) -> Says {
        let named = match key {
            Some(key) => match self.key {
                KeyFormat::Json => self.json(key),
                KeyFormat::String => string(key),
                KeyFormat::Bytes => Ok(base64(key)),
            },
            // Debezium's own messages may have none, and say of what they are.
            None if self.value == ValueFormat::Debezium => Ok(Json::from_canonical("null")),
            None => {
                let what = "a message without a key".to_string();
                return Says::Bad(Bad {
                    what,
                    hint: "give every message a key",
                    key: by_bytes(key),
                });
            }
        };
        let named = match (named, value) {
            (Ok(named), _) => named,
            // The message that is gone then was kept under it.
            (Err(_), None) => return Says::Change(Change::Delete(by_bytes(key))),
            (Err(what), Some(_)) => {
                let what = format!("a key that is {what}");
                return Says::Bad(Bad { what, hint: HINT, key: by_bytes(key) });
            }
        };
        let read = match (self.value, value) {
            (ValueFormat::Debezium, value) => return self.envelope(named, value, key),
            (_, None) => return Says::Change(Change::Delete(named)),
            (ValueFormat::Json, Some(value)) => self.json(value),
            (ValueFormat::String, Some(value)) => string(value),
            (ValueFormat::Bytes, Some(value)) => Ok(base64(value)),
        };
        match read {
            Ok(value) if self.value == ValueFormat::Json && value.as_str() == "null" => {
                Says::Change(Change::Delete(named))
            }
            Ok(value) => Says::Change(Change::Put(named, Ok(value))),
            Err(what) => {
                Says::Bad(Bad { what: format!("a value that is {what}"), hint: HINT, key: named })
            }
        }
    }

    fn envelope(&mut self, named: Json, value: Option<&[u8]>, key: Option<&[u8]>) -> Says {
        let value = match value.map(|value| self.json(value)).transpose() {
            Ok(value) => value,
            Err(what) => {
                let what = format!("a value that is {what}");
                return Says::Bad(Bad { what, hint: HINT, key: self.envelopes.key(named) });
            }
        };
        match self.envelopes.message(named, value).change {
            Ok(Some(change)) => Says::Change(change),
            Ok(None) => Says::Nothing,
            Err(Unread { what, hint, key: named }) => {
                Says::Bad(Bad { what, hint, key: named.unwrap_or_else(|| by_bytes(key)) })
            }
        }
    }

    fn json(&mut self, bytes: &[u8]) -> Result<Json, String> {
        let text = utf8(bytes)?;
        self.out.clear();
        let mut reader = Reader::new(text, &mut self.scratch);
        let read = reader.value(&mut self.out, 0).and_then(|()| reader.finish());
        read.map_err(|Syntax { what, byte }| format!("not JSON: {what} (byte {byte})"))?;
        Ok(Json::from_canonical(&self.out))
    }
}

fn utf8(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes).map_err(|e| format!("not UTF-8 (byte {})", e.valid_up_to() + 1))
}

fn string(bytes: &[u8]) -> Result<Json, String> {
    utf8(bytes).map(Json::string)
}

fn base64(bytes: &[u8]) -> Json {
    Json::from_canonical(&format!("\"{}\"", STANDARD.encode(bytes)))
}

/// Returns the key of a message whose own cannot be read.
fn by_bytes(key: Option<&[u8]>) -> Json {
    Json::from_canonical(&match key {
        Some(key) => format!("{{\"key_base64\":\"{}\"}}", STANDARD.encode(key)),
        None => "{\"key_base64\":null}".to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Json {
        Json::from_canonical(text)
    }

    fn put(key: &str, value: &str) -> Says {
        Says::Change(Change::Put(json(key), Ok(json(value))))
    }

    fn read(key: KeyFormat, value: ValueFormat, k: Option<&str>, v: Option<&str>) -> Says {
        Rows::new(key, value, OnUnavailable::Keep).read(k.map(str::as_bytes), v.map(str::as_bytes))
    }

    #[test]
    fn keys_and_values_are_what_the_address_says() {
        use KeyFormat as K;
        use ValueFormat as V;
        let text = Some(r#"{"b":1, "a":"x"}"#);
        assert_eq!(
            read(K::Json, V::Json, text, text),
            put(r#"{"a":"x","b":1}"#, r#"{"a":"x","b":1}"#)
        );
        assert_eq!(read(K::String, V::String, Some("a\"b"), Some("")), put(r#""a\"b""#, r#""""#));
        assert_eq!(read(K::Bytes, V::Bytes, Some("ab"), Some("c")), put(r#""YWI=""#, r#""Yw==""#));
        assert_eq!(read(K::String, V::Json, Some("k"), Some("1.50")), put(r#""k""#, "1.50"));
    }

    #[test]
    fn a_tombstone_deletes_and_so_does_a_null_of_json() {
        let gone = Says::Change(Change::Delete(json("1")));
        for value in
            [ValueFormat::Json, ValueFormat::String, ValueFormat::Bytes, ValueFormat::Debezium]
        {
            assert_eq!(read(KeyFormat::Json, value, Some("1"), None), gone, "{value:?}");
        }
        assert_eq!(read(KeyFormat::Json, ValueFormat::Json, Some("1"), Some(" null ")), gone);
        let text = read(KeyFormat::Json, ValueFormat::String, Some("1"), Some("null"));
        assert_eq!(text, put("1", "\"null\""));
    }

    #[test]
    fn debezium_is_read_as_lines_have_it() {
        let read = |key, value| read(KeyFormat::Json, ValueFormat::Debezium, key, value);
        let key = Some(r#"{"schema":null,"payload":{"id":1}}"#);
        let created = Some(r#"{"schema":null,"payload":{"op":"c","after":{"id":1}}}"#);
        assert_eq!(read(key, created), put(r#"{"id":1}"#, r#"{"id":1}"#));
        let gone = Says::Change(Change::Delete(json(r#"{"id":1}"#)));
        assert_eq!(read(key, Some(r#"{"op":"d","before":{"id":1}}"#)), gone);
        assert_eq!(read(key, None), gone);
        assert_eq!(read(Some("1"), Some(r#"{"op":"t"}"#)), Says::Change(Change::Reset));
        let beat = read(Some(r#"{"serverName":"s"}"#), Some(r#"{"ts_ms":1}"#));
        assert_eq!(beat, Says::Nothing);
        for (key, value) in
            [(None, created), (Some("1"), Some("{\"op\":\"x\"}")), (Some("1"), Some("{"))]
        {
            assert!(matches!(read(key, value), Says::Bad(_)), "{key:?} {value:?}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_the_error_of_a_key() {
        let bad = |says: Says| match says {
            Says::Bad(bad) => (bad.what, bad.key.as_str().to_string()),
            other => panic!("{other:?}"),
        };
        let (json, text) = (KeyFormat::Json, KeyFormat::String);
        let (what, key) = bad(read(json, ValueFormat::Json, Some("1"), Some("{")));
        assert!(what.starts_with("a value that is not JSON"), "{what}");
        assert_eq!(key, "1");
        let (what, key) = bad(read(json, ValueFormat::Json, Some("x"), Some("1")));
        assert!(what.starts_with("a key that is not JSON"), "{what}");
        assert_eq!(key, r#"{"key_base64":"eA=="}"#);
        assert_eq!(bad(read(text, ValueFormat::Json, None, Some("1"))).1, r#"{"key_base64":null}"#);
        let says = Rows::new(text, ValueFormat::String, OnUnavailable::Keep)
            .read(Some(b"k"), Some(&[b'a', 0xff]));
        assert!(bad(says).0.contains("not UTF-8 (byte 2)"));
        // And its tombstone takes the error away.
        let gone =
            Rows::new(text, ValueFormat::Json, OnUnavailable::Keep).read(Some(&[0xff]), None);
        let key = Json::from_canonical(r#"{"key_base64":"/w=="}"#);
        assert_eq!(gone, Says::Change(Change::Delete(key)));
    }
}
