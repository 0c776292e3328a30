//! Owns what of a value is its row's key, and which member of it says that the row is gone: `--key` and
//! `--deleted-field`. It does not own where values come from. Pure.

use super::row::Bad;
use crate::codec::Json;
use crate::codec::canonical::{Scratch, quote};
use crate::codec::object::Object;

/// What a feed's values have in them beside the value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Shape {
    /// The members that are the key; empty if the key comes otherwise.
    pub(super) key: Vec<String>,
    /// The member that says that a row is deleted, if there is one.
    pub(super) deleted: Option<String>,
}

/// Takes a shape out of values, one after the other, with the same buffers.
#[derive(Debug, Default)]
pub(super) struct Shaper {
    shape: Shape,
    object: Object,
    scratch: Scratch,
}

const KEY_HINT: &str = "name members that every value has with --key";

impl Shaper {
    pub(super) fn new(shape: Shape) -> Shaper {
        Shaper { shape, ..Shaper::default() }
    }

    /// Returns the members that are the key.
    pub(super) fn key(&self) -> &[String] {
        &self.shape.key
    }

    /// Returns the key of a row whose value is this text, if its members say it.
    pub(super) fn key_in(&mut self, value: &str) -> Option<Json> {
        self.object.read(value, &mut self.scratch).then_some(())?;
        key_of(&self.shape.key, |name| self.object.get(name)).ok()
    }

    /// Returns the key and the value of a row: `key` is what the line has of one.
    pub(super) fn row(
        &mut self,
        key: Option<Json>,
        value: Option<Json>,
    ) -> Result<(Json, Option<Json>), Bad> {
        if self.shape == Shape::default() {
            return Ok((key.ok_or_else(keyless)?, value));
        }
        let text = value.as_ref().map_or("null", Json::as_str);
        let is_object = self.object.read(text, &mut self.scratch);
        let key = match (&self.shape.key[..], is_object) {
            ([], _) => key.ok_or_else(keyless)?,
            (_, false) => {
                let hint =
                    "leave out what has no row, or take the key from the line: without --key";
                return Err(Bad::new(
                    "a value that is not an object, so that --key finds no key",
                    hint,
                ));
            }
            (names, true) => key_of(names, |name| self.object.get(name))?,
        };
        let Some(deleted) = self.shape.deleted.as_deref().filter(|_| is_object) else {
            return Ok((key, value));
        };
        match self.object.get(deleted) {
            None => Ok((key, value)),
            Some("true" | "\"true\"") => Ok((key, None)),
            Some("false" | "\"false\"" | "null") => {
                let rest = self.object.iter().filter(|(name, _)| *name != deleted);
                Ok((key, Some(object(rest))))
            }
            Some(_) => {
                let what = format!("{} is neither true nor false", Json::string(deleted));
                let hint = "name the member that says it with --deleted-field";
                Err(Bad { key: Some(key), ..Bad::new(what, hint) })
            }
        }
    }
}

fn keyless() -> Bad {
    Bad::new("a row without a key", KEY_HINT)
}

/// Returns the key that members are: of one its value, of several an array.
pub(super) fn key_of<'a>(
    names: &[String],
    member: impl Fn(&str) -> Option<&'a str>,
) -> Result<Json, Bad> {
    let mut texts = Vec::with_capacity(names.len());
    for name in names {
        // Rows without one would all be one row.
        texts.push(member(name).filter(|text| *text != "null").ok_or_else(|| {
            let what = format!("a value without {}, which is its key", Json::string(name));
            Bad::new(what, KEY_HINT)
        })?);
    }
    match texts[..] {
        [one] => Ok(Json::from_canonical(one)),
        [] => Err(keyless()),
        _ => Ok(Json::from_canonical(&format!("[{}]", texts.join(",")))),
    }
}

/// Returns the object of these members, which are in order.
fn object<'a>(members: impl Iterator<Item = (&'a str, &'a str)>) -> Json {
    let mut out = String::from("{");
    for (index, (name, text)) in members.enumerate() {
        out.push_str(if index == 0 { "" } else { "," });
        quote(name, &mut out);
        out.push(':');
        out.push_str(text);
    }
    out.push('}');
    Json::from_canonical(&out)
}
