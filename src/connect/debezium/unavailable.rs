//! Owns what Debezium writes for a column whose value it was not sent: an unchanged TOAST value of
//! PostgreSQL, or a LOB of another database. It does not own what is done about it.
//!
//! The placeholder takes the shape of its column's type. It is that of `unavailable.value.placeholder`
//! as it is by default. A `boolean[]` of 28 times true, which new versions write, is not told apart
//! from such a value.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::codec::canonical::Scratch;
use crate::codec::object::{Object, elements};

const TEXT: &str = "__debezium_unavailable_value";

/// As a string of JSON: text; bytes as base64 and as hexadecimal digits; an element of a `uuid[]`; an
/// hstore as JSON; a geometry and a geography.
const STRINGS: [&str; 7] = [
    r#""__debezium_unavailable_value""#,
    r#""X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ==""#,
    r#""5f5f646562657a69756d5f756e617661696c61626c655f76616c7565""#,
    r#""b68a35a7-17ad-35b3-af2a-ae46edb4545a""#,
    r#""{\"__debezium_unavailable_value\":\"__debezium_unavailable_value\"}""#,
    r#""AQEAACDmEAAAAAAA/IPXl8EAAAD8g9eXwQ==""#,
    r#""AQEAACDmEAAADCHn/f9/ZkAYQs77/39WQA==""#,
];

/// How these begin, and arrays of other types: a row without any of them is looked at no further.
const SIGNS: [&str; 9] = [
    TEXT,
    "X19kZWJleml1",
    "5f5f646562657a69756d",
    "b68a35a7-17ad-35b3",
    "AQEAACDmEAAA",
    "[95",
    "[\"95",
    "[\"Xw==",
    "[{\"scale\":0,\"value\":\"Xw==",
];

/// Returns the names of the columns of a row that hold the placeholder, at whatever depth; "" if the value
/// is not an object and holds it itself. O(bytes).
pub(super) fn columns(row: &str, scratch: &mut Scratch) -> Vec<String> {
    if !SIGNS.iter().any(|sign| row.contains(sign)) {
        return Vec::new();
    }
    let mut object = Object::default();
    if !object.read(row, scratch) {
        return Vec::from_iter(holds(row, scratch).then(String::new));
    }
    let found = object.iter().filter(|(_, value)| holds(value, scratch));
    found.map(|(name, _)| name.to_string()).collect()
}

fn holds(value: &str, scratch: &mut Scratch) -> bool {
    match value.as_bytes().first() {
        Some(b'"') => STRINGS.contains(&value),
        Some(b'{') => {
            let mut object = Object::default();
            object.read(value, scratch);
            object.iter().any(|(_, value)| holds(value, scratch))
        }
        Some(b'[') => {
            let elements = elements(value, scratch);
            // Of other types it is one element for each byte.
            let mut is = TEXT.bytes().zip(&elements);
            let is_bytes = elements.len() == TEXT.len()
                && is.all(|(wanted, element)| byte(element, scratch) == Some(wanted));
            is_bytes || elements.iter().any(|element| holds(element, scratch))
        }
        _ => false,
    }
}

/// Returns the byte that an element of an array is: a number, as such or in quotes, or a decimal's.
fn byte(element: &str, scratch: &mut Scratch) -> Option<u8> {
    let text = element.trim_matches('"');
    let number = text.parse::<f64>().ok().filter(|n| n.fract() == 0.0 && (0.0..256.0).contains(n));
    if let Some(number) = number {
        return Some(number as u8);
    }
    if element.starts_with('{') {
        let mut decimal = Object::default();
        decimal.read(element, scratch);
        return byte(decimal.get("value").filter(|_| decimal.get("scale") == Some("0"))?, scratch);
    }
    match STANDARD.decode(text).ok()?[..] {
        [byte] => Some(byte),
        _ => None,
    }
}
