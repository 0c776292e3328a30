//! Owns the unions of Avro's JSON encoding, as a console consumer prints them: a value of a union stands
//! in an object of one member, which names its type. It does not own where in a message they stand.
//!
//! The text alone says which objects these are: one member, named as a type that the value can be of.
//! Types of Avro have a dot in their full name, as Kafka Connect writes them. So a column that is a map
//! (not null, else it is a union itself) of one entry, named `string`, `long` or `a.b`, whose value fits,
//! would be taken for one; a struct of Debezium has two fields at least.

use crate::codec::canonical::{Scratch, quote};
use crate::codec::object::{Object, elements};

/// Appends a canonical text to `out` with the value of each union in place of the union.
pub(super) fn plain(text: &str, scratch: &mut Scratch, out: &mut String) {
    match text.as_bytes().first() {
        Some(b'{') => {
            let mut object = Object::default();
            object.read(text, scratch);
            if let Some((_, value)) = object.only().filter(|(name, value)| is_of(name, value)) {
                return plain(value, scratch, out);
            }
            for (index, (name, value)) in object.iter().enumerate() {
                out.push(if index == 0 { '{' } else { ',' });
                quote(name, out);
                out.push(':');
                plain(value, scratch, out);
            }
            out.push_str(if object.iter().len() == 0 { "{}" } else { "}" });
        }
        Some(b'[') => {
            out.push('[');
            for (index, element) in elements(text, scratch).iter().enumerate() {
                out.push_str(if index == 0 { "" } else { "," });
                plain(element, scratch, out);
            }
            out.push(']');
        }
        _ => out.push_str(text),
    }
}

/// Returns whether a value can be of the type that the name is.
fn is_of(name: &str, value: &str) -> bool {
    let first = value.as_bytes().first().copied().unwrap_or_default();
    let number = first == b'-' || first.is_ascii_digit();
    match name {
        "string" | "bytes" => first == b'"',
        "int" | "long" | "float" | "double" => number,
        "boolean" => matches!(value, "true" | "false"),
        "array" => first == b'[',
        "map" => first == b'{',
        // A record, an enum, a fixed.
        _ => name.contains('.') && matches!(first, b'{' | b'"'),
    }
}
