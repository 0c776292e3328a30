//! Owns how the model's rows are written as MySQL's: columns, and values as text.

use crate::planetscale::model::{Key, Row};
use crate::planetscale::proto::{self, Field, QueryResult, kind};

/// MySQL's flags of a column of the primary key: not NULL, and of the key.
pub const PRIMARY: u32 = 1 | 2;

pub fn field(name: &str, kind: i32, charset: u32, column_type: &str, flags: u32) -> Field {
    Field {
        name: name.into(),
        r#type: kind,
        table: "t".into(),
        column_length: 255,
        charset,
        flags,
        column_type: column_type.into(),
    }
}

/// The first columns of the table.
pub fn fields(columns: usize) -> Vec<Field> {
    let mut all = vec![
        field("id", kind::INT64, 63, "bigint", PRIMARY),
        field("region", kind::CHAR, 255, "char(1)", PRIMARY),
        field("name", kind::TEXT, 255, "text", 0),
        field("n", kind::UINT64, 63, "bigint unsigned", 32),
        field("extra", kind::TEXT, 255, "text", 0),
    ];
    all.truncate(columns);
    all
}

pub fn row(row: &Row, columns: usize) -> proto::Row {
    proto::Row::of(&values(row, columns))
}

fn values(row: &Row, columns: usize) -> Vec<Option<String>> {
    let mut values = vec![
        Some(row.id.to_string()),
        Some(row.region.to_string()),
        row.name.clone(),
        Some(row.n.to_string()),
        row.extra.clone(),
    ];
    values.truncate(columns);
    values
}

/// The column that `binlog_row_image=NOBLOB` may leave out: a text that all rows have had from the start. Of one that was
/// added later, a client may not know the value.
const NAME: usize = 2;

/// A row without its name if that did not change or, where the row is new, was not named; and a bit for each column
/// that it has.
pub fn noblob(before: Option<&Row>, after: &Row, columns: usize) -> (proto::Row, u8) {
    let mut values = values(after, columns);
    let unsent = match before {
        Some(before) => before.name == after.name,
        None => after.name.is_none(),
    };
    if unsent {
        values[NAME] = None;
    }
    (proto::Row::of(&values), (1 << columns) - 1 - (u8::from(unsent) << NAME))
}

/// A result of one row.
pub fn result(one: &Row, columns: usize) -> QueryResult {
    QueryResult { fields: fields(columns), rows: vec![row(one, columns)] }
}

/// A key, as the one row of a result.
pub fn key((id, region): Key) -> QueryResult {
    let row = proto::Row::of(&[Some(id.to_string()), Some(region.to_string())]);
    QueryResult { fields: fields(2), rows: vec![row] }
}

/// Reads a key that a client sends back.
pub fn read_key(result: &QueryResult) -> Result<Key, String> {
    let wrong = || format!("a last key that was never sent: {result:?}");
    let names: Vec<&str> = result.fields.iter().map(|field| field.name.as_str()).collect();
    let [row] = &result.rows[..] else { return Err(wrong()) };
    let texts = row.texts();
    let (["id", "region"], [Some(id), Some(region)]) = (&names[..], &texts[..]) else {
        return Err(wrong());
    };
    Ok((id.parse().map_err(|_| wrong())?, region.parse().map_err(|_| wrong())?))
}
