//! Owns the lines of Maxwell's daemon: one row of a table. Pure.
//!
//! ```text
//! {"database":"d","table":"t","type":"update","ts":1449786341,"xid":940786,"commit":true,"data":{"id":1,"n":2},"old":{"n":1}}
//! ```
//!
//! Rows are of type `insert`, `update`, `delete` and `bootstrap-insert`; any other line, as the beginning and end
//! of a bootstrap and a change of a schema, says nothing of a row. The value is `data`. The key is what `--key`
//! names of it, else what `primary_key_columns` names, else `primary_key`, which Maxwell prints with
//! `output_primary_key_columns` and `output_primary_keys`. An update that changes the key, as `old` says, deletes the
//! old one. The order is that of the lines; `ts`, in seconds, and `xid` say nothing.

use super::said::{Origin, Said};
use super::tools::{Tools, plain};
use crate::codec::Json;
use crate::connect::lines::row::Bad;
use crate::connect::lines::shape::key_of;
use crate::source::Change;

const HINT: &str = "hand over what Maxwell writes with producer=stdout or producer=file";
const KEY_HINT: &str =
    "name the columns with --key, or run Maxwell with output_primary_key_columns=true";

/// Returns what a line says.
pub(super) fn line(line: &[u8], tools: &mut Tools) -> Result<Said, Bad> {
    if tools.object(line)?.is_none() {
        return Ok(Said::Nothing);
    }
    let is = tools.line.get("type").and_then(plain);
    let is = is.ok_or_else(|| Bad::new("a line without a \"type\"", HINT))?;
    if !matches!(&*is, "insert" | "update" | "delete" | "bootstrap-insert") {
        return Ok(Said::Message);
    }
    let named = ["database", "table"].map(|name| tools.line.get(name).and_then(plain));
    let [Some(database), Some(table)] = named else {
        return Err(Bad::new("a row without its \"database\" and \"table\"", HINT));
    };
    let data = tools.line.get("data").unwrap_or("null").to_string();
    if !tools.read_data(&data) {
        return Err(Bad::new("a row whose \"data\" is not an object", HINT));
    }
    let old = tools.line.get("old").filter(|_| is == "update").unwrap_or("null").to_string();
    tools.read_old(&old);
    let (key, old_key) = keys(tools)?;
    let mut changes = Vec::with_capacity(1);
    if let Some(old_key) = old_key.filter(|old_key| *old_key != key) {
        changes.push(Change::Delete(old_key));
    }
    changes.push(match &*is {
        "delete" => Change::Delete(key),
        _ => Change::Put(key, Ok(Json::from_canonical(&data))),
    });
    Ok(Said::Rows(changes, Origin::Table(format!("{database}.{table}"))))
}

/// Returns the key of the row, and the one it had if that may be another.
fn keys(tools: &mut Tools) -> Result<(Json, Option<Json>), Bad> {
    let columns = match tools.shaper.key() {
        [] => tools.names("primary_key_columns"),
        named => named.to_vec(),
    };
    if columns.is_empty() {
        return by_values(tools);
    }
    let key = key_of(&columns, |name| tools.data.get(name))?;
    let moved = columns.iter().any(|name| tools.old.get(name).is_some());
    let old_key = moved
        .then(|| key_of(&columns, |name| tools.old.get(name).or_else(|| tools.data.get(name))));
    Ok((key, old_key.transpose()?))
}

/// Returns the key of a row of which only the key's values are known: they do not say which columns they are.
fn by_values(tools: &mut Tools) -> Result<(Json, Option<Json>), Bad> {
    let values = tools.array("primary_key");
    let key = match &values[..] {
        [] => return Err(Bad::new("a row that does not say its key", KEY_HINT)),
        values if values.iter().any(|value| value == "null") => {
            return Err(Bad::new("a row whose key is null", KEY_HINT));
        }
        [one] => Json::from_canonical(one),
        _ => Json::from_canonical(&format!("[{}]", values.join(","))),
    };
    // A changed column that has a value of the key may be one of it.
    let changed = tools.old.iter().filter_map(|(name, _)| tools.data.get(name));
    if changed.into_iter().any(|now| values.iter().any(|value| value == now)) {
        let what = "an update that may have changed the key: it does not say which columns that is";
        return Err(Bad { key: Some(key), ..Bad::new(what, KEY_HINT) });
    }
    Ok((key, None))
}
