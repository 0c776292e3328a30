//! Owns how a row becomes JSON: the key an object of the key's columns, the value an object of all. It
//! does not own which rows there are, nor what they change.
//!
//! | column | JSON |
//! | --- | --- |
//! | integers, `YEAR` | a number, without leading zeros |
//! | `FLOAT`, `DOUBLE` | a number, written in one way: see `number` |
//! | `DECIMAL` | a string, written in one way |
//! | dates and times, text, `ENUM`, `SET` | a string |
//! | `BIT`, binary, `BLOB`, geometry, vectors | a string, base64 |
//! | `JSON` | as it is, canonical |
//! | NULL | `null` |

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::charset::Charset;
use super::columns::{Columns, Kind};
use super::failure::definite;
use super::number;
use super::proto::{Bitmap, Row, RowChange};
use crate::codec::canonical::{Reader, Scratch, quote};
use crate::codec::{DataError, partial};
use crate::source::Failure;

/// What a row says: its key, and its value or what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Read {
    pub(super) key: String,
    pub(super) value: Result<String, DataError>,
}

/// Reads the whole of a row.
pub(super) fn read(columns: &Columns, row: &Row, scratch: &mut Scratch) -> Result<Read, Failure> {
    read_new(columns, row, &[], scratch)
}

/// Reads the key of a row that may have no more than that.
pub(super) fn read_key(
    columns: &Columns,
    row: &Row,
    scratch: &mut Scratch,
) -> Result<String, Failure> {
    Ok(key(columns, &of(columns, row)?, scratch).0)
}

/// Returns the columns that the row after a change lacks, which would read as NULL: as `binlog_row_image=NOBLOB` leaves
/// them out, those of `TEXT` and `BLOB` types that an update did not change, or that an insert did not name.
///
/// # Errors
///
/// If it lacks others: nothing says of these what they have.
pub(super) fn unsent(
    columns: &Columns,
    change: &RowChange,
    place: &str,
) -> Result<Vec<usize>, Failure> {
    let bit = |bitmap: &Bitmap, at: usize| {
        bitmap.cols.get(at / 8).is_some_and(|b| b >> (at % 8) & 1 == 1)
    };
    let mut unsent = Vec::new();
    if let Some(data) = &change.data_columns {
        let is_of_all = usize::try_from(data.count).is_ok_and(|count| count == columns.len());
        unsent.extend(columns.all().iter().copied().filter(|at| !bit(data, *at)));
        let refused = match data.count != 0 && !is_of_all {
            true => Some("a row that says of other columns whether they were sent".to_string()),
            false => refused(columns, &unsent),
        };
        if let Some(what) = refused {
            let hint = "set binlog_row_image=FULL, or NOBLOB where the key is of columns of the \
                        primary key, and copy the table anew";
            return Err(definite(what, place, hint));
        }
    }
    if change.json_partial_values.as_ref().is_some_and(|json| json.cols.iter().any(|b| *b != 0)) {
        let what = "a row with only the changed part of a JSON column";
        let hint = "set binlog_row_value_options='' and copy the table anew";
        return Err(definite(what, place, hint));
    }
    Ok(unsent)
}

/// Says why a row may not lack these columns.
fn refused(columns: &Columns, unsent: &[usize]) -> Option<String> {
    let primary = |at: &usize| columns.primary().contains(at);
    let is_allowed = |at: &usize| columns.column(*at).is_long && !primary(at);
    if let Some(at) = unsent.iter().find(|at| !is_allowed(at) && !crate::mutant::on("minimal_rows"))
    {
        let name = &columns.column(*at).name;
        let what = if primary(at) { "is of its primary key" } else { "is no TEXT or BLOB" };
        return Some(format!("a row without the column {name:?}, which {what}"));
    }
    // The row before lacks such a column too.
    let outside = columns.key().iter().find(|at| !primary(at)).filter(|_| !unsent.is_empty())?;
    let name = &columns.column(*outside).name;
    Some(format!(
        "a row without some columns, and a key with {name:?}, which is not of its primary key"
    ))
}

/// Reads a row that is new, of which these columns were not sent: the statement did not name them.
pub(super) fn read_new(
    columns: &Columns,
    row: &Row,
    unsent: &[usize],
    scratch: &mut Scratch,
) -> Result<Read, Failure> {
    let mut cells = of(columns, row)?;
    unsent.iter().for_each(|at| cells[*at] = None);
    let needed = unsent.iter().map(|at| columns.column(*at)).find(|column| !column.is_nullable);
    let value = match needed {
        Some(column) => {
            Err(format!("column {:?} was not sent with a new row, and cannot be NULL", column.name))
        }
        None => object(columns, columns.all(), &cells, scratch),
    };
    Ok(with_key(columns, &cells, value, scratch))
}

/// Reads a row of which these columns were not sent: its value is the patch of the row before.
pub(super) fn read_partial(
    columns: &Columns,
    row: &Row,
    unsent: &[usize],
    scratch: &mut Scratch,
) -> Result<Read, Failure> {
    let cells = of(columns, row)?;
    let sent: Vec<usize> =
        columns.all().iter().copied().filter(|column| !unsent.contains(column)).collect();
    let names: Vec<&str> = unsent.iter().map(|at| &*columns.column(*at).name).collect();
    let value = object(columns, &sent, &cells, scratch);
    let value = value.map(|row| partial(&row, &names, scratch));
    Ok(with_key(columns, &cells, value, scratch))
}

/// Returns the error of a row that has another key than before, and lacks these columns: they are under the old key.
pub(super) fn moved(columns: &Columns, unsent: &[usize]) -> DataError {
    let name = unsent.first().map_or("", |at| &columns.column(*at).name);
    DataError(format!("column {name:?} was not sent, and the key has changed"))
}

fn with_key(
    columns: &Columns,
    cells: &[Option<&[u8]>],
    value: Result<String, String>,
    scratch: &mut Scratch,
) -> Read {
    match key(columns, cells, scratch) {
        (key, None) => Read { key, value: value.map_err(DataError) },
        (key, Some(what)) => Read { key, value: Err(DataError(what)) },
    }
}

fn of<'a>(columns: &Columns, row: &'a Row) -> Result<Vec<Option<&'a [u8]>>, Failure> {
    cells(row, columns.len()).ok_or_else(|| {
        let (got, wanted) = (row.lengths.len(), columns.len());
        let what = format!("a row of {got} values where {wanted} columns are described, or torn");
        definite(what, columns.table(), "set binlog_row_image=FULL, and turn on schema tracking")
    })
}

/// Returns what tells a row apart from others of its key; `None` if there are none, or nothing does.
pub(super) fn identity(
    columns: &Columns,
    row: &Row,
    scratch: &mut Scratch,
) -> Result<Option<String>, Failure> {
    if columns.row().is_empty() {
        return Ok(None);
    }
    // What cannot be read is not compared.
    Ok(object(columns, columns.row(), &of(columns, row)?, scratch).ok())
}

/// Takes a row apart; `None` if it does not have so many columns, or its lengths do not fit.
pub(super) fn cells(row: &Row, columns: usize) -> Option<Vec<Option<&[u8]>>> {
    if row.lengths.len() != columns {
        return None;
    }
    let mut rest = &row.values[..];
    let mut cells = Vec::with_capacity(columns);
    for &length in &row.lengths {
        if length == -1 {
            cells.push(None);
            continue;
        }
        let (cell, after) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        cells.push(Some(cell));
        rest = after;
    }
    rest.is_empty().then_some(cells)
}

/// A key that cannot be read is kept by its bytes, so that whatever comes for it later finds it.
fn key(
    columns: &Columns,
    cells: &[Option<&[u8]>],
    scratch: &mut Scratch,
) -> (String, Option<String>) {
    match object(columns, columns.key(), cells, scratch) {
        Ok(key) => (key, None),
        Err(what) => {
            let bytes = match columns.key() {
                [column] => cells[*column].unwrap_or_default().to_vec(),
                // Their lengths keep ("a", "bc") and ("ab", "c") apart.
                several => {
                    let mut bytes = Vec::new();
                    for cell in several.iter().map(|column| cells[*column]) {
                        let length = cell.map_or(u32::MAX, |cell| cell.len() as u32);
                        bytes.extend_from_slice(&length.to_le_bytes());
                        bytes.extend_from_slice(cell.unwrap_or_default());
                    }
                    bytes
                }
            };
            (format!("{{\"key_base64\":\"{}\"}}", STANDARD.encode(bytes)), Some(what))
        }
    }
}

fn object(
    columns: &Columns,
    which: &[usize],
    cells: &[Option<&[u8]>],
    scratch: &mut Scratch,
) -> Result<String, String> {
    let mut out = String::from("{");
    for (index, &column) in which.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        let column_is = columns.column(column);
        quote(&column_is.name, &mut out);
        out.push(':');
        match cells[column] {
            None => out.push_str("null"),
            Some(bytes) => cell(&column_is.kind, bytes, &mut out, scratch)
                .map_err(|what| format!("the column {:?} has {what}", column_is.name))?,
        }
    }
    out.push('}');
    Ok(out)
}

/// Appends the JSON of a value that is not NULL; otherwise says what it is instead.
fn cell(kind: &Kind, bytes: &[u8], out: &mut String, scratch: &mut Scratch) -> Result<(), String> {
    let text = || std::str::from_utf8(bytes).map_err(|_| "text that is not UTF-8".to_string());
    match kind {
        Kind::Null => out.push_str("null"),
        Kind::Bytes(least) => {
            out.push('"');
            if bytes.len() < *least {
                let mut padded = bytes.to_vec();
                padded.resize(*least, 0);
                STANDARD.encode_string(padded, out);
            } else {
                STANDARD.encode_string(bytes, out);
            }
            out.push('"');
        }
        Kind::Integer => number::integer(text()?, out).ok_or("an integer that is none")?,
        Kind::Float => number::float(text()?, out).ok_or("a number that JSON does not have")?,
        Kind::Double => number::double(text()?, out).ok_or("a number that JSON does not have")?,
        Kind::Decimal => {
            out.push('"');
            number::decimal(text()?, out).ok_or("a decimal that is none")?;
            out.push('"');
        }
        // The common one, without a copy.
        Kind::Text(Charset::Utf8) => quote(text()?, out),
        Kind::Text(charset) => {
            let none = || format!("text that is not {}", charset.name());
            quote(&charset.read(bytes).ok_or_else(none)?, out);
        }
        Kind::Enum(members) => quote(&members.one(bytes)?, out),
        Kind::Set(members) => quote(&members.several(bytes)?, out),
        Kind::Json => {
            let mut reader = Reader::new(text()?, scratch);
            let read = reader.value(out, 1).and_then(|()| reader.finish());
            read.map_err(|e| format!("JSON that is none: {} at byte {}", e.what, e.byte))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::columns::tests::{columns, field};
    use super::*;

    fn row(cells: &[Option<&[u8]>]) -> Row {
        Row {
            lengths: cells.iter().map(|cell| cell.map_or(-1, |cell| cell.len() as i64)).collect(),
            values: cells.iter().flatten().copied().flatten().copied().collect(),
        }
    }

    fn value(kind: i32, bytes: &[u8]) -> Result<String, String> {
        let columns = columns(&[field("k", 265, 2), field("v", kind, 0)]);
        let row = row(&[Some(b"1"), Some(bytes)]);
        let value = read(&columns, &row, &mut Scratch::default()).unwrap().value;
        let text = value.map_err(|DataError(what)| what)?;
        Ok(text.strip_prefix("{\"k\":1,\"v\":").unwrap().strip_suffix('}').unwrap().to_string())
    }

    #[test]
    fn a_row_is_a_key_and_a_value_with_sorted_members() {
        let columns = columns(&[
            field("z", 6165, 2),
            field("b", 10260, 0),
            field("id", 265, 3),
            field("a", 18, 0),
        ]);
        let row = row(&[Some("é\"".as_bytes()), None, Some(b"-7"), Some(b"1.50")]);
        let read = read(&columns, &row, &mut Scratch::default()).unwrap();
        assert_eq!(read.key, r#"{"id":-7,"z":"é\""}"#);
        assert_eq!(read.value.unwrap(), r#"{"a":"1.50","b":null,"id":-7,"z":"é\""}"#);
    }

    #[test]
    fn numbers_are_what_json_allows_and_written_in_one_way() {
        for (kind, text, expected) in [
            (265, "18446744073709551615", "18446744073709551615"),
            (778, "00042", "42"),
            (265, "-0", "0"),
            (785, "0000", "0"),
            (785, "2024", "2024"),
            (1036, "1.5E+00", "1.5"),
            (1036, "-0", "-0"),
            (1035, "007.50", "7.5"),
            (1035, "1.6777216E+07", "16777200"),
            (1036, "1e-7", "0.0000001"),
            (18, ".50", "\"0.50\""),
            (18, "0.50", "\"0.50\""),
            (2062, "0000-00-00", "\"0000-00-00\""),
        ] {
            assert_eq!(value(kind, text.as_bytes()).as_deref(), Ok(expected), "{kind} {text}");
        }
        for (kind, text) in [(265, "1.5"), (1036, "NaN"), (1035, "1e39"), (18, "1e5")] {
            assert!(value(kind, text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn bytes_are_base64_and_json_is_canonical() {
        assert_eq!(value(10260, b"\x00\xff").as_deref(), Ok("\"AP8=\""));
        assert_eq!(value(2073, b"\x05").as_deref(), Ok("\"BQ==\""));
        assert_eq!(value(10264, b"").as_deref(), Ok("\"\""));
        assert_eq!(
            value(2078, b" {\"b\": 1.0, \"a\":[ ], \"b\":2e0}").as_deref(),
            Ok(r#"{"a":[],"b":2e0}"#)
        );
        assert_eq!(value(2078, b"null").as_deref(), Ok("null"));
        let deep = "[".repeat(127) + &"]".repeat(127);
        assert!(value(2078, deep.as_bytes()).is_err());
    }

    #[test]
    fn a_value_that_cannot_be_read_is_an_error_and_its_key_stays() {
        let wrong = value(6165, b"\xff").unwrap_err();
        assert_eq!(wrong, "the column \"v\" has text that is not UTF-8");
        assert!(value(2078, b"{").unwrap_err().contains("JSON that is none"));
    }

    #[test]
    fn a_key_that_cannot_be_read_is_kept_by_its_bytes() {
        let one = columns(&[field("k", 6165, 2), field("v", 265, 0)]);
        let bad = row(&[Some(b"\xff"), Some(b"1")]);
        let put = read(&one, &bad, &mut Scratch::default()).unwrap();
        assert_eq!(put.key, r#"{"key_base64":"/w=="}"#);
        assert!(put.value.is_err());
        assert_eq!(read_key(&one, &bad, &mut Scratch::default()).unwrap(), put.key);
        let two = columns(&[field("k", 6165, 2), field("l", 6165, 2)]);
        let key = |a: &[u8], b: &[u8]| {
            read_key(&two, &row(&[Some(a), Some(b)]), &mut Scratch::default()).unwrap()
        };
        assert_ne!(key(b"\xff", b"bc"), key(b"\xffb", b"c"));
    }

    #[test]
    fn a_row_that_does_not_fit_is_definite() {
        let columns = columns(&[field("k", 265, 2), field("v", 265, 0)]);
        let whole = row(&[Some(b"1"), Some(b"22")]);
        let broken = |change: &dyn Fn(&mut Row)| {
            let mut row = whole.clone();
            change(&mut row);
            read(&columns, &row, &mut Scratch::default())
        };
        assert!(broken(&|_| {}).is_ok());
        for change in [
            &|row: &mut Row| row.lengths.push(0),
            &|row: &mut Row| row.lengths.truncate(1),
            &|row: &mut Row| row.lengths[1] = 3,
            &|row: &mut Row| row.lengths[1] = 1,
            &|row: &mut Row| row.lengths[1] = -2,
            &|row: &mut Row| row.lengths[1] = i64::MAX,
        ] as [&dyn Fn(&mut Row); 6]
        {
            let failure = broken(change).unwrap_err();
            assert!(matches!(failure, Failure::Definite(_)), "{failure:?}");
            assert!(failure.error().to_string().contains("binlog_row_image=FULL"));
        }
    }
}
