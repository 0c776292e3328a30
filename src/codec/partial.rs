//! Owns rows of which some columns were not sent, since they did not change: how such a row is written as a patch, and
//! what it makes of the row before. It does not own which feeds leave columns out.
//!
//! ```text
//! {"row": {the columns that were sent}, "unsent": [the names of the others]}
//! ```
//!
//! The others are named, and not only left out: a column that neither names is one that the table has no more.

use std::collections::BTreeMap;

use super::canonical::{Scratch, quote};
use super::object::{Object, elements};
use super::stored::DataError;

/// Returns the patch of a row, the canonical text of an object, of which these columns were not sent. A member of one
/// of their names is left out: it is not the column's value. Of another text, it is a patch that comes to an error.
pub(crate) fn partial(row: &str, unsent: &[impl AsRef<str>], scratch: &mut Scratch) -> String {
    let mut object = Object::default();
    let is_row = object.read(row, scratch);
    let names: std::collections::BTreeSet<&str> = unsent.iter().map(AsRef::as_ref).collect();
    let mut out = String::with_capacity(row.len() + 32);
    out.push_str("{\"row\":");
    match is_row {
        true => write(object.iter().filter(|(name, _)| !names.contains(name)), &mut out),
        false => out.push_str(row),
    }
    out.push_str(",\"unsent\":[");
    for (index, name) in names.iter().enumerate() {
        out.push_str(if index == 0 { "" } else { "," });
        quote(name, &mut out);
    }
    out.push_str("]}");
    out
}

/// Names [`keep_unsent`] and [`Json::keep_unsent`](super::Json::keep_unsent) for
/// [`Shard::with_fold`](crate::Shard::with_fold). What they come to is stored, the texts of errors too, so that never
/// changes without another name here.
pub const KEEP_UNSENT: &str = "keep-unsent-1";

/// The fold of rows that are JSON objects, as canonical text: columns that were not sent keep what the row before has. For
/// [`Shard::with_fold`](crate::Shard::with_fold) where values are such texts; of [`Json`](super::Json) it is
/// [`Json::keep_unsent`](super::Json::keep_unsent).
///
/// # Errors
///
/// If the row before is not an object, or lacks a column that was not sent: it may have it under a name from before the
/// column was renamed. And if the patch is not one of such a row. This is the key's error then.
///
/// ```
/// use differential_upsert::codec::keep_unsent;
/// let prior = r#"{"doc":"long","gone":0,"n":1}"#.to_string();
/// let patch = r#"{"row":{"n":2},"unsent":["doc"]}"#.to_string();
/// assert_eq!(keep_unsent(prior, patch).unwrap(), r#"{"doc":"long","n":2}"#);
/// ```
pub fn keep_unsent(prior: String, patch: String) -> Result<String, DataError> {
    let (mut scratch, mut before) = (Scratch::default(), Object::default());
    let (mut whole, mut row) = (Object::default(), Object::default());
    let is_patch = whole.read(&patch, &mut scratch)
        && whole.get("row").is_some_and(|text| row.read(text, &mut scratch));
    let unsent = whole.get("unsent").filter(|_| is_patch);
    let unsent = unsent.and_then(|text| names(text, &mut scratch));
    let unsent = unsent.ok_or_else(|| no_patch(&patch))?;
    let is_row = before.read(&prior, &mut scratch);
    let mut columns: BTreeMap<String, &str> =
        row.iter().map(|(name, text)| (name.to_string(), text)).collect();
    for quoted in unsent {
        let kept = before.iter().find(|(name, _)| quotes(name, &quoted));
        let Some((name, text)) = kept else {
            if is_row && crate::mutant::on("unsent_left_out") {
                continue;
            }
            let why = match is_row {
                true => "the row before does not have it",
                false => "the value before is not a row",
            };
            return Err(DataError(format!("column {quoted} was not sent, and {why}")));
        };
        columns.insert(name.to_string(), text);
    }
    let mut out = String::with_capacity(prior.len().max(patch.len()));
    write(columns.iter().map(|(name, text)| (name.as_str(), *text)), &mut out);
    Ok(out)
}

/// Returns the strings of an array, in quotes; none if it is not an array of strings.
fn names(text: &str, scratch: &mut Scratch) -> Option<Vec<String>> {
    let names = text.starts_with('[').then(|| elements(text, scratch))?;
    names.iter().all(|name| name.starts_with('"')).then_some(names)
}

fn no_patch(patch: &str) -> DataError {
    let mut what = format!("a patch that is not one: {patch}");
    if what.len() > ERROR_BYTES_MAX {
        let ends = (0..=ERROR_BYTES_MAX - 2).rev();
        what.truncate(ends.into_iter().find(|end| what.is_char_boundary(*end)).unwrap_or(0));
        what.push_str("..");
    }
    DataError(what)
}

/// Bytes of an error that shows a patch.
const ERROR_BYTES_MAX: usize = 200;

fn quotes(name: &str, quoted: &str) -> bool {
    let mut out = String::with_capacity(quoted.len());
    quote(name, &mut out);
    out == quoted
}

/// Appends an object of these members, which are in order.
fn write<'a>(members: impl Iterator<Item = (&'a str, &'a str)>, out: &mut String) {
    out.push('{');
    for (index, (name, text)) in members.enumerate() {
        out.push_str(if index == 0 { "" } else { "," });
        quote(name, out);
        out.push(':');
        out.push_str(text);
    }
    out.push('}');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patched(prior: &str, row: &str, unsent: &[&str]) -> Result<String, String> {
        let patch = partial(row, unsent, &mut Scratch::default());
        keep_unsent(prior.to_string(), patch).map_err(|DataError(what)| what)
    }

    #[test]
    fn what_was_not_sent_is_kept_and_nothing_else() {
        let prior = r#"{"a":1,"do\"c":{"x":[1,2]},"gone":3}"#;
        let row = r#"{"a":2,"do\"c":"placeholder","new":null}"#;
        let expected = r#"{"a":2,"do\"c":{"x":[1,2]},"new":null}"#;
        assert_eq!(patched(prior, row, &["do\"c"]).unwrap(), expected);
        assert_eq!(patched(prior, row, &[]).unwrap(), row);
        assert_eq!(patched(prior, "{}", &["gone", "a"]).unwrap(), r#"{"a":1,"gone":3}"#);
        // It may have been renamed.
        let error = patched(r#"{"a":1,"b":3}"#, r#"{"a":2}"#, &["c"]).unwrap_err();
        assert_eq!(error, "column \"c\" was not sent, and the row before does not have it");
    }

    #[test]
    fn what_is_no_row_and_what_is_no_patch_is_an_error() {
        for prior in ["[1]", "7", "null"] {
            let error = patched(prior, "{}", &["a"]).unwrap_err();
            assert_eq!(error, "column \"a\" was not sent, and the value before is not a row");
        }
        let odd = [
            "{}",
            "7",
            r#"{"row":1,"unsent":[]}"#,
            r#"{"row":{}}"#,
            r#"{"row":{},"unsent":"a"}"#,
            r#"{"row":{},"unsent":{"a":1}}"#,
            r#"{"row":{},"unsent":["a",1]}"#,
        ];
        for patch in odd {
            let error = keep_unsent("{}".to_string(), patch.to_string()).unwrap_err();
            assert!(error.0.contains("not one") && error.0.contains(patch), "{error}");
        }
        let error = patched("{}", "[1]", &["a"]).unwrap_err();
        assert!(error.contains(r#"not one: {"row":[1],"unsent":["a"]}"#), "{error}");
        // What is stored of it is short, and text.
        for fill in ["a", "\u{e9}", "\u{20ac}", "\u{1f600}"] {
            let error = keep_unsent("{}".to_string(), format!("\"{}\"", fill.repeat(300)));
            let DataError(error) = error.unwrap_err();
            assert!((195..=200).contains(&error.len()) && error.ends_with(".."), "{error}");
        }
    }
}
