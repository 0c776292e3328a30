//! Owns the lines of Canal's flat messages: rows of a table, many to a line. Pure.
//!
//! ```text
//! {"data":[{"id":"1","n":"2"}],"database":"d","es":1600161208000,"id":3,"isDdl":false,"mysqlType":{"id":"int"},"old":[{"n":"1"}],"pkNames":["id"],"sql":"","sqlType":{"id":4},"table":"t","ts":1600161208100,"type":"UPDATE"}
//! ```
//!
//! Rows are of type `INSERT`, `UPDATE` and `DELETE`, and `TRUNCATE` empties the table; any other line, as a statement
//! (`isDdl`, `QUERY`), says nothing of a row. The value is each element of `data`, in which Canal writes all columns as
//! strings; the key is what `--key` names of it, else what `pkNames` names. An update that changes the key, as
//! `old` says, deletes the old one. All rows of a line are one unit, in their order; if one of them is
//! bad, all of the line is. The order is that of the lines; `es` and `ts`, in milliseconds, say nothing.

use super::said::{Origin, Said};
use super::tools::{Tools, plain};
use crate::codec::Json;
use crate::connect::lines::row::Bad;
use crate::connect::lines::shape::key_of;
use crate::source::Change;

const HINT: &str = "hand over flat messages, which Canal writes with canal.mq.flatMessage = true";

/// Returns what a line says.
pub(super) fn line(line: &[u8], tools: &mut Tools) -> Result<Said, Bad> {
    if tools.object(line)?.is_none() {
        return Ok(Said::Nothing);
    }
    let is = tools.line.get("type").and_then(plain);
    let is = is.ok_or_else(|| Bad::new("a line without a \"type\"", HINT))?;
    if !matches!(&*is, "INSERT" | "UPDATE" | "DELETE" | "TRUNCATE") {
        return Ok(Said::Message);
    }
    let named = ["database", "table"].map(|name| tools.line.get(name).and_then(plain));
    let [Some(database), Some(table)] = named else {
        return Err(Bad::new("rows without their \"database\" and \"table\"", HINT));
    };
    let changes = match &*is {
        "TRUNCATE" => vec![Change::Reset],
        _ => rows(tools, &is)?,
    };
    match changes.is_empty() {
        true => Ok(Said::Message),
        false => Ok(Said::Rows(changes, Origin::Table(format!("{database}.{table}")))),
    }
}

fn rows(tools: &mut Tools, is: &str) -> Result<Vec<Change<Json, Json>>, Bad> {
    if !tools.line.get("data").is_some_and(|data| data.starts_with('[')) {
        return Err(Bad::new("rows whose \"data\" is not an array", HINT));
    }
    let columns = match tools.shaper.key() {
        [] => tools.names("pkNames"),
        named => named.to_vec(),
    };
    if columns.is_empty() {
        let hint = "name the columns with --key: the table has no primary key";
        return Err(Bad::new("rows that do not say their key", hint));
    }
    let (data, old) = (tools.array("data"), tools.array("old"));
    let mut changes = Vec::with_capacity(data.len());
    for (index, row) in data.iter().enumerate() {
        if !tools.read_data(row) {
            return Err(Bad::new("a row that is not an object", HINT));
        }
        let key = key_of(&columns, |name| tools.data.get(name))?;
        if is == "DELETE" {
            changes.push(Change::Delete(key));
            continue;
        }
        let before = old.get(index).filter(|_| is == "UPDATE");
        tools.read_old(before.map_or("null", String::as_str));
        if columns.iter().any(|name| tools.old.get(name).is_some()) {
            let of = |name: &str| tools.old.get(name).or_else(|| tools.data.get(name));
            let old_key = key_of(&columns, of)?;
            if old_key != key {
                changes.push(Change::Delete(old_key));
            }
        }
        changes.push(Change::Put(key, Ok(Json::from_canonical(row))));
    }
    Ok(changes)
}
