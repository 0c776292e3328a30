//! Owns keys of named collections, as canonical JSON: `[NAME,KEY]`. It does not own which feeds have several collections.

use super::canonical::quote;

/// Names [`collection`] and [`Json::collection`](super::Json::collection) for
/// [`Shard::with_collections`](crate::Shard::with_collections). Which keys a reset deletes follows from them, so that never
/// changes without another name here.
pub const COLLECTIONS: &str = "pairs-1";

/// Returns the name of a collection as it stands in keys, between the quotes: so it is named everywhere, in a
/// [reset of it](crate::Command::ResetOf), too.
///
/// ```
/// use differential_upsert::codec::collection_name;
/// assert_eq!(collection_name("public.orders"), "public.orders");
/// assert_eq!(collection_name("public.\"Odd\""), r#"public.\"Odd\""#);
/// ```
pub fn collection_name(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    quote(text, &mut out);
    out.pop();
    out.split_off(1)
}

/// Returns the key of a collection, whose [name](collection_name) stands as in keys.
#[cfg(any(test, feature = "postgres-source"))]
pub(crate) fn in_collection(name: &str, key: &str) -> String {
    format!("[\"{name}\",{key}]")
}

/// Returns the collection that a key in canonical JSON is of, by its [name](collection_name): a pair of a string and
/// another value is a key of a collection, and all others are of none, `""`.
///
/// ```
/// use differential_upsert::codec::collection;
/// assert_eq!(collection(r#"["public.orders",{"id":7}]"#), "public.orders");
/// assert_eq!(collection(r#"{"id":7}"#), "");
/// assert_eq!(collection(r#"["a",1,2]"#), "");
/// ```
pub fn collection(key: &str) -> &str {
    split_collection(key).map_or("", |(name, _)| name)
}

/// Returns the [collection](collection) that a key in canonical JSON is of, and the key within it.
///
/// ```
/// use differential_upsert::codec::split_collection;
/// let key = r#"["public.orders",{"id":7}]"#;
/// assert_eq!(split_collection(key), Some(("public.orders", r#"{"id":7}"#)));
/// assert_eq!(split_collection("7"), None);
/// ```
pub fn split_collection(key: &str) -> Option<(&str, &str)> {
    let rest = key.strip_prefix("[\"")?.strip_suffix(']')?;
    let end = end_of_string(rest.as_bytes())?;
    let inner = rest[end + 1..].strip_prefix(',')?;
    is_one(inner.as_bytes()).then_some((&rest[..end], inner))
}

/// Returns where the quote is that ends a string.
fn end_of_string(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match bytes.get(at)? {
            b'"' => return Some(at),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// Whether elements of an array are one: a comma stands inside of brackets and strings alone.
fn is_one(mut bytes: &[u8]) -> bool {
    let mut depth = 0usize;
    while let [first, rest @ ..] = bytes {
        bytes = rest;
        match first {
            b'"' => match end_of_string(rest) {
                Some(end) => bytes = &rest[end + 1..],
                None => return false,
            },
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => return false,
            _ => {}
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_a_collection_is_a_pair_with_its_name() {
        for called in ["a", "public.orders", "a\"b", "a\\", "é,]", "\n", ""] {
            let name = called;
            for key in ["1", "\"x,y\"", "{\"a\":[1,2],\"b\":\",\"}", "[1,2]", "\"\\\"],\""] {
                let name = collection_name(name);
                let whole = in_collection(&name, key);
                assert_eq!(split_collection(&whole), Some((&*name, key)), "{whole}");
                assert_eq!(serde_json::from_str::<serde_json::Value>(&whole).unwrap()[0], called);
            }
        }
    }

    #[test]
    fn every_other_key_is_of_none() {
        for key in
            ["1", "\"a\"", "{}", "[]", "[1,2]", "[\"a\"]", "[\"a\",1,2]", "[\"a", "[\"a\\\"", ""]
        {
            assert_eq!(split_collection(key), None, "{key}");
        }
    }
}
