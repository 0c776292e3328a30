//! Owns what a change of a row comes to: the delete of the key before, if the row has another now, and the put or the
//! patch of the row after. It does not own how rows are read, nor the transactions that they are in.

use super::columns::Columns;
use super::proto::RowChange;
use super::rows;
use super::unique::Unique;
use crate::codec::canonical::Scratch;
use crate::source::{Change, Failure};

/// Returns the changes, in their order; `unique` is told which rows go and come.
pub(super) fn changes(
    columns: &Columns,
    change: &RowChange,
    unique: &mut Unique,
    place: &str,
    scratch: &mut Scratch,
) -> Result<impl Iterator<Item = Change<String, String>> + use<>, Failure> {
    let unsent = rows::unsent(columns, change, place)?;
    let before = change.before.as_ref();
    let before = before.map(|row| rows::read_key(columns, row, scratch)).transpose()?;
    let after = change.after.as_ref();
    let is_patch = before.is_some() && !unsent.is_empty();
    let after = after.map(|row| match is_patch {
        false => rows::read_new(columns, row, &unsent, scratch),
        true => rows::read_partial(columns, row, &unsent, scratch),
    });
    let after = after.transpose()?;
    let mut id = |row: &Option<_>| match row {
        Some(row) => rows::identity(columns, row, scratch),
        None => Ok(None),
    };
    if let (Some(id), Some(key)) = (id(&change.before)?, &before) {
        unique.goes(key, &id);
    }
    if let (Some(id), Some(row)) = (id(&change.after)?, &after) {
        unique.comes(&row.key, &id, place)?;
    }
    let moved = before.filter(|key| after.as_ref().is_none_or(|row| row.key != *key));
    let delete = moved.map(Change::Delete);
    let put = after.map(|row| match row.value {
        // What it would be a patch of is under another key.
        Ok(_) if is_patch && delete.is_some() => {
            Change::Put(row.key, Err(rows::moved(columns, &unsent)))
        }
        Ok(patch) if is_patch => Change::Patch(row.key, patch),
        value => Change::Put(row.key, value),
    });
    Ok(delete.into_iter().chain(put))
}
