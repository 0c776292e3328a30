//! Owns MongoDB's documents in Debezium's messages, where `after` and `patch` are strings with JSON in them.
//! It does not own what a message does. Pure.

use super::unread::Unread;
use crate::codec::canonical::{Reader, Scratch};
use crate::codec::object::Object;

const HINT: &str =
    "run the connector with capture.mode=change_streams_update_full, and take a new snapshot";

/// Returns the canonical text of the document that a string has in it; `None` if it has none.
pub(super) fn document(string: &str, scratch: &mut Scratch) -> Option<String> {
    let text: String = string.starts_with('"').then(|| serde_json::from_str(string).ok())??;
    let mut out = String::with_capacity(text.len());
    let mut reader = Reader::new(&text, scratch);
    let is_object = reader.peek() == Some(b'{');
    reader.value(&mut out, 0).and_then(|()| reader.finish()).ok()?;
    is_object.then_some(out)
}

/// Returns the document that a message without `after` leaves, if its `patch` says all of it; `None` without a
/// `patch`.
///
/// # Errors
///
/// If the message says only what has changed.
pub(super) fn patched(message: &Object, scratch: &mut Scratch) -> Result<Option<String>, Unread> {
    let partial = || Err(Unread::new("an update that does not say all of its document", HINT));
    let Some(patch) = message.get("patch").filter(|patch| *patch != "null") else {
        return match message.get("updateDescription") {
            None | Some("null") => Ok(None),
            Some(_) => partial(),
        };
    };
    let Some(document) = document(patch, scratch) else { return partial() };
    let mut members = Object::default();
    members.read(&document, scratch);
    // An operator, such as `$set`.
    match members.iter().any(|(name, _)| name.starts_with('$')) {
        true => partial(),
        false => Ok(Some(document)),
    }
}
