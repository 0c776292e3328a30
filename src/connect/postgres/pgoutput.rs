//! Owns the messages of PostgreSQL's `pgoutput` plugin, as bytes. It does not own what they mean for a table.
//!
//! PostgreSQL's documentation has them under "Logical Replication Message Formats"; those that begin and end a
//! transaction are read by the transport.

/// What a message says that this program looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message<'a> {
    /// The columns of a table, before its first row and whenever they have changed.
    Relation(Relation),
    Insert {
        table: u32,
        new: Tuple<'a>,
    },
    /// `old` is there if the key changed, or the table's replica identity is `FULL`.
    Update {
        table: u32,
        old: Option<Old<'a>>,
        new: Tuple<'a>,
    },
    Delete {
        table: u32,
        old: Old<'a>,
    },
    Truncate {
        tables: Vec<u32>,
    },
    /// Types, origins and messages of others.
    Other,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Relation {
    pub(super) table: u32,
    pub(super) schema: String,
    pub(super) name: String,
    pub(super) columns: Vec<Column>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    /// The oid of its type.
    pub(super) kind: u32,
}

/// What is said of a row before its change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Old<'a> {
    /// Its key; the other columns are null.
    Key(Tuple<'a>),
    Row(Tuple<'a>),
}

/// A row's columns.
pub(super) type Tuple<'a> = Vec<Cell<'a>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cell<'a> {
    Null,
    /// It has not changed, and is stored apart.
    Unsent,
    Text(&'a [u8]),
}

/// Reads a message; otherwise says what is wrong with it.
pub(super) fn read(bytes: &[u8]) -> Result<Message<'_>, &'static str> {
    let mut reader = Reader(bytes);
    let message = match reader.byte()? {
        b'R' => Message::Relation(reader.relation()?),
        b'I' => {
            let table = reader.word()?;
            reader.expect(b'N')?;
            Message::Insert { table, new: reader.tuple()? }
        }
        b'U' => {
            let table = reader.word()?;
            let old = match reader.byte()? {
                b'K' => Some(Old::Key(reader.tuple()?)),
                b'O' => Some(Old::Row(reader.tuple()?)),
                b'N' => None,
                _ => return Err("an update of a kind that is unknown"),
            };
            if old.is_some() {
                reader.expect(b'N')?;
            }
            Message::Update { table, old, new: reader.tuple()? }
        }
        b'D' => {
            let table = reader.word()?;
            let old = match reader.byte()? {
                b'K' => Old::Key(reader.tuple()?),
                b'O' => Old::Row(reader.tuple()?),
                _ => return Err("a delete of a kind that is unknown"),
            };
            Message::Delete { table, old }
        }
        b'T' => {
            let count = reader.word()?;
            reader.byte()?;
            Message::Truncate {
                tables: (0..count).map(|_| reader.word()).collect::<Result<_, _>>()?,
            }
        }
        b'Y' | b'O' | b'M' => return Ok(Message::Other),
        _ => return Err("a message of a kind that is unknown"),
    };
    match reader.0 {
        [] => Ok(message),
        _ => Err("a message with more bytes than it has"),
    }
}

struct Reader<'a>(&'a [u8]);

const SHORT: &str = "a message that ends too early";

impl<'a> Reader<'a> {
    fn chunk<const N: usize>(&mut self) -> Result<[u8; N], &'static str> {
        let (chunk, rest) = self.0.split_first_chunk().ok_or(SHORT)?;
        self.0 = rest;
        Ok(*chunk)
    }

    fn byte(&mut self) -> Result<u8, &'static str> {
        self.chunk().map(|[byte]| byte)
    }

    fn expect(&mut self, wanted: u8) -> Result<(), &'static str> {
        if self.byte()? == wanted { Ok(()) } else { Err("a row that is not where it should be") }
    }

    fn short(&mut self) -> Result<u16, &'static str> {
        self.chunk().map(u16::from_be_bytes)
    }

    fn word(&mut self) -> Result<u32, &'static str> {
        self.chunk().map(u32::from_be_bytes)
    }

    fn text(&mut self) -> Result<String, &'static str> {
        let end = self.0.iter().position(|byte| *byte == 0).ok_or(SHORT)?;
        let (text, rest) = self.0.split_at(end);
        self.0 = &rest[1..];
        String::from_utf8(text.to_vec()).map_err(|_| "a name that is not UTF-8")
    }

    fn relation(&mut self) -> Result<Relation, &'static str> {
        let (table, schema, name) = (self.word()?, self.text()?, self.text()?);
        // The kind of its replica identity: the catalog is asked.
        self.byte()?;
        let columns = (0..self.short()?).map(|_| {
            self.byte()?;
            let (name, kind) = (self.text()?, self.word()?);
            self.word()?;
            Ok(Column { name, kind })
        });
        let columns = columns.collect::<Result<_, &'static str>>()?;
        // What the catalog's own schema is written as.
        let schema = if schema.is_empty() { "pg_catalog".to_string() } else { schema };
        Ok(Relation { table, schema, name, columns })
    }

    fn tuple(&mut self) -> Result<Tuple<'a>, &'static str> {
        (0..self.short()?).map(|_| self.cell()).collect()
    }

    fn cell(&mut self) -> Result<Cell<'a>, &'static str> {
        match self.byte()? {
            b'n' => Ok(Cell::Null),
            b'u' => Ok(Cell::Unsent),
            b't' => {
                let length = self.word()? as usize;
                let (text, rest) = self.0.split_at_checked(length).ok_or(SHORT)?;
                self.0 = rest;
                Ok(Cell::Text(text))
            }
            _ => Err("a column of a kind that is unknown"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::written::row;
    use super::*;

    fn all() -> Vec<(Vec<u8>, Message<'static>)> {
        let head = |kind: u8, rest: &[u8]| [&[kind, 0, 0, 64, 1][..], rest].concat();
        let (key, row) = (row(&["1", "null"]), row(&["2", "-"]));
        let cells = |id: &'static str, other| vec![Cell::Text(id.as_bytes()), other];
        let relation = [
            &b"public\0t\0d\0\x02\x01id\0\0\0\0\x17\xff\xff\xff\xff"[..],
            b"\0doc\0\0\0\0\x19\xff\xff\xff\xff",
        ];
        let column = |name: &str, kind| Column { name: name.into(), kind };
        let (schema, name) = ("public".to_string(), "t".to_string());
        let columns = vec![column("id", 23), column("doc", 25)];
        let table = 16_385;
        vec![
            (
                head(b'R', &relation.concat()),
                Message::Relation(Relation { table, schema, name, columns }),
            ),
            (
                head(b'I', &[b"N", &row[..]].concat()),
                Message::Insert { table, new: cells("2", Cell::Unsent) },
            ),
            (
                head(b'U', &[b"N", &row[..]].concat()),
                Message::Update { table, old: None, new: cells("2", Cell::Unsent) },
            ),
            (
                head(b'U', &[b"K", &key[..], b"N", &row].concat()),
                Message::Update {
                    table,
                    old: Some(Old::Key(cells("1", Cell::Null))),
                    new: cells("2", Cell::Unsent),
                },
            ),
            (
                head(b'D', &[b"O", &key[..]].concat()),
                Message::Delete { table, old: Old::Row(cells("1", Cell::Null)) },
            ),
            (
                b"T\0\0\0\x02\x01\0\0\x40\x01\0\0\0\x07".to_vec(),
                Message::Truncate { tables: vec![table, 7] },
            ),
        ]
    }

    #[test]
    fn messages_are_read_and_no_part_of_one_is() {
        for (mut bytes, message) in all() {
            assert_eq!(read(&bytes), Ok(message));
            for cut in 0..bytes.len() {
                assert!(read(&bytes[..cut]).is_err(), "{bytes:?} cut at {cut}");
            }
            bytes.push(0);
            assert!(read(&bytes).is_err());
        }
        assert_eq!(read(b"Y"), Ok(Message::Other));
        assert!(read(b"?").is_err());
    }
}
