//! Owns the columns of a table as a stream describes them: what kinds they are, and which are the key.
//! It does not own the rows.

use super::charset::{self, Charset};
use super::failure::definite;
use super::members::Members;
use super::proto::{Field, NOT_NULL_FLAG, PRI_KEY_FLAG, UNIQUE_KEY_FLAG, types};
use crate::source::Failure;

/// The columns of a table, which every row after them has.
#[derive(Clone, Debug)]
pub(super) struct Columns {
    table: String,
    columns: Vec<Column>,
    /// Indexes of all columns, by name.
    all: Vec<usize>,
    /// Indexes of the key's columns, by name.
    key: Vec<usize>,
    /// Indexes of the primary key's columns, by name.
    primary: Vec<usize>,
    /// The same; none if the key is known to be unique.
    row: Vec<usize>,
}

#[derive(Clone, Debug)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) kind: Kind,
    /// It is a `TEXT` or a `BLOB`.
    pub(super) is_long: bool,
    pub(super) is_nullable: bool,
}

/// What the JSON of a column is.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    Null,
    Integer,
    Float,
    Double,
    Decimal,
    Text(Charset),
    /// At least so many: a server may leave out the zeros at the end of a `BINARY`.
    Bytes(usize),
    Json,
    Enum(Members),
    Set(Members),
}

/// Which columns are the key: what the user says, else what the table's columns say.
#[derive(Clone, Debug, Default)]
pub(super) struct KeyColumns {
    named: Vec<String>,
    learned: Option<Vec<String>>,
}

impl KeyColumns {
    pub(super) fn new(named: Vec<String>) -> Self {
        KeyColumns { named, learned: None }
    }

    /// Takes in a description of a table's columns, or of those of its key.
    pub(super) fn columns(
        &mut self,
        table: &str,
        fields: &[Field],
        enums_named: bool,
    ) -> Result<Columns, Failure> {
        if let Some(field) = fields.iter().find(|field| field.name.starts_with('@')) {
            let what = format!("a column {:?}, which stands for a name that is lost", field.name);
            let hint = "turn on schema tracking (--track_schema_versions) and copy the table anew";
            return Err(definite(what, table, hint));
        }
        if fields.is_empty() {
            let hint = "see whether the table is there";
            return Err(definite("a description of no columns", table, hint));
        }
        let column = |field| Column::new(field, enums_named, table);
        let columns = fields.iter().map(column).collect::<Result<_, _>>()?;
        let mut all: Vec<usize> = (0..fields.len()).collect();
        all.sort_by(|a, b| fields[*a].name.as_bytes().cmp(fields[*b].name.as_bytes()));
        if let Some(pair) = all.windows(2).find(|pair| fields[pair[0]].name == fields[pair[1]].name)
        {
            let what = format!("two columns of the name {:?}", fields[pair[0]].name);
            return Err(definite(what, table, "see whether the table is there"));
        }
        let mut key = Vec::new();
        for name in self.names(table, fields)? {
            // Names of columns do not tell upper and lower case apart.
            let same = |field: &Field| field.name.to_lowercase() == name.to_lowercase();
            let exact = fields.iter().position(|field| field.name == name);
            key.push(exact.or_else(|| fields.iter().position(same)).ok_or_else(|| {
                let what = format!("no key column {name:?} in what the server sends");
                definite(what, table, "name columns of the table's primary key with key=")
            })?);
        }
        key.sort_by_key(|column| all.iter().position(|index| index == column));
        key.dedup();
        let marked = |flag: u32| move |column: &usize| fields[*column].flags & flag == flag;
        let primary: Vec<usize> = all.iter().copied().filter(marked(PRI_KEY_FLAG)).collect();
        let whole = primary.iter().all(|column| key.contains(column));
        let mut row = primary.clone();
        if whole || key.iter().any(marked(UNIQUE_KEY_FLAG | NOT_NULL_FLAG)) {
            row.clear();
        }
        Ok(Columns { table: table.to_string(), columns, all, key, primary, row })
    }

    fn names(&mut self, table: &str, fields: &[Field]) -> Result<Vec<String>, Failure> {
        if !self.named.is_empty() {
            return Ok(self.named.clone());
        }
        let marked = fields.iter().filter(|field| field.flags & PRI_KEY_FLAG != 0);
        let mut marked: Vec<String> = marked.map(|field| field.name.clone()).collect();
        // A key is these columns, in whatever order they stand in a table, a key or a delete.
        marked.sort();
        let hint = "name the key columns with key=COLUMN,COLUMN";
        match (&self.learned, marked.is_empty()) {
            (None, true) => Err(definite("no column is marked as primary key", table, hint)),
            (Some(learned), true) => Ok(learned.clone()),
            (Some(learned), false) if *learned != marked => {
                let what = format!("the primary key was {learned:?} and is {marked:?}");
                Err(definite(what, table, "copy the table into a new shard"))
            }
            _ => {
                self.learned = Some(marked.clone());
                Ok(marked)
            }
        }
    }
}

impl Columns {
    pub(super) fn table(&self) -> &str {
        &self.table
    }

    pub(super) fn len(&self) -> usize {
        self.columns.len()
    }

    pub(super) fn column(&self, index: usize) -> &Column {
        &self.columns[index]
    }

    pub(super) fn all(&self) -> &[usize] {
        &self.all
    }

    pub(super) fn key(&self) -> &[usize] {
        &self.key
    }

    /// Returns the columns that are marked as the primary key.
    pub(super) fn primary(&self) -> &[usize] {
        &self.primary
    }

    /// Returns the columns that tell rows apart which have one key; empty if such rows do not exist, or
    /// nothing tells them apart.
    pub(super) fn row(&self) -> &[usize] {
        &self.row
    }
}

impl Column {
    fn new(field: &Field, enums_named: bool, table: &str) -> Result<Column, Failure> {
        let column_type = field.column_type.to_ascii_lowercase();
        let is = |kind: &str| column_type.starts_with(kind);
        let charset = || {
            Charset::of(field.charset).map_err(|name| {
                let what = format!(
                    "the column {:?} has the character set {name} (collation {}), which is not read",
                    field.name, field.charset
                );
                definite(what, table, "convert the column to utf8mb4")
            })
        };
        // The type of a text with a collation of bytes is that of bytes; so is that of an ENUM.
        let is_bytes = field.r#type & types::IS_BINARY != 0;
        let is_text = is_bytes && !matches!(field.charset, 0 | charset::BINARY);
        let members =
            |numbers| charset().map(|charset| Members::new(&field.column_type, charset, numbers));
        let kind = match field.r#type {
            types::NULL => Kind::Null,
            types::JSON => Kind::Json,
            types::ENUM => Kind::Enum(members(!enums_named)?),
            types::SET => Kind::Set(members(!enums_named)?),
            types::BIT | types::GEOMETRY | types::VECTOR => Kind::Bytes(0),
            _ if is_bytes && is("enum(") => Kind::Enum(members(true)?),
            _ if is_bytes && is("set(") => Kind::Set(members(true)?),
            _ if is_bytes && !is_text => Kind::Bytes(padded_to(&column_type)),
            kind if kind & types::IS_INTEGRAL != 0 => Kind::Integer,
            types::FLOAT32 => Kind::Float,
            kind if kind & types::IS_FLOAT != 0 => Kind::Double,
            types::DECIMAL => Kind::Decimal,
            kind if is_text || kind & types::IS_TEXT != 0 => Kind::Text(charset()?),
            // Dates and times.
            _ => Kind::Text(Charset::Utf8),
        };
        let is_long = matches!(field.r#type, types::TEXT | types::BLOB);
        let is_nullable = field.flags & NOT_NULL_FLAG == 0;
        Ok(Column { name: field.name.clone(), kind, is_long, is_nullable })
    }
}

/// Returns how many bytes each value of `binary(9)` has. The binary log leaves out zeros at the end
/// (vitess go/mysql/binlog/rbr.go, `CellValue`, which puts them back only where it knows the type).
fn padded_to(column_type: &str) -> usize {
    let length = column_type.strip_prefix("binary(").and_then(|rest| rest.strip_suffix(')'));
    length.and_then(|length| length.parse().ok()).filter(|length| *length <= 255).unwrap_or(0)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn field(name: &str, kind: i32, flags: u32) -> Field {
        Field { name: name.to_string(), r#type: kind, flags, ..Field::default() }
    }

    pub(in super::super) fn columns(fields: &[Field]) -> Columns {
        KeyColumns::default().columns("ks/t", fields, true).unwrap()
    }

    fn key(columns: &Columns) -> Vec<&str> {
        columns.key().iter().map(|column| &*columns.column(*column).name).collect()
    }

    #[test]
    fn the_key_is_what_is_named_else_what_is_marked() {
        let fields = [field("b", 265, 2), field("a", 265, 0), field("c", 265, 3)];
        assert_eq!(key(&columns(&fields)), ["b", "c"]);
        let mut named = KeyColumns::new(vec!["c".to_string(), "A".to_string()]);
        assert_eq!(key(&named.columns("ks/t", &fields, true).unwrap()), ["a", "c"]);
        let mut other = KeyColumns::new(vec!["d".to_string()]);
        assert!(matches!(other.columns("ks/t", &fields, true), Err(Failure::Definite(_))));
    }

    #[test]
    fn a_key_once_learned_stays_and_a_changed_one_is_definite() {
        let mut key_columns = KeyColumns::default();
        let plain = [field("a", 265, 0), field("b", 265, 0)];
        assert!(key_columns.columns("ks/t", &plain, true).is_err(), "none is marked");
        let marked = [field("a", 265, 2), field("b", 265, 0)];
        assert_eq!(key(&key_columns.columns("ks/t", &marked, true).unwrap()), ["a"]);
        assert_eq!(key(&key_columns.columns("ks/t", &plain, true).unwrap()), ["a"]);
        let other = [field("a", 265, 0), field("b", 265, 2)];
        assert!(key_columns.columns("ks/t", &other, true).is_err());
    }

    /// A table has them as they were added, a delete of PlanetScale's as the key has them.
    #[test]
    fn a_key_is_its_columns_in_whatever_order_they_come() {
        let mut key_columns = KeyColumns::default();
        let (z, a) = (field("z", 265, 2), field("a", 265, 2));
        for fields in [[z.clone(), a.clone()], [a, z]] {
            assert_eq!(key(&key_columns.columns("ks/t", &fields, true).unwrap()), ["a", "z"]);
        }
    }

    #[test]
    fn a_key_that_may_not_be_unique_is_told_apart_by_the_primary_key() {
        let row = |fields: &[Field]| {
            let columns = KeyColumns::new(vec!["k".to_string()]).columns("ks/t", fields, true);
            columns.unwrap().row().to_vec()
        };
        assert_eq!(row(&[field("k", 265, 0), field("id", 265, 3)]), [1]);
        assert_eq!(row(&[field("k", 265, 4), field("id", 265, 3)]), [1], "NULL is not unique");
        assert_eq!(row(&[field("k", 265, 5), field("id", 265, 3)]), [0; 0]);
        assert_eq!(row(&[field("k", 265, 3), field("id", 265, 0)]), [0; 0]);
        assert_eq!(row(&[field("k", 265, 3), field("id", 265, 3)]), [1, 0]);
        assert_eq!(row(&[field("k", 265, 0), field("id", 265, 0)]), [0; 0], "none is marked");
    }

    #[test]
    fn what_is_text_the_collation_says_and_a_character_set_that_is_not_read_is_named() {
        let kind = |kind, charset, column_type: &str| {
            let field =
                Field { charset, column_type: column_type.to_string(), ..field("c", kind, 2) };
            columns(&[field]).column(0).kind.clone()
        };
        const VARBINARY: i32 = 10262;
        const BINARY: i32 = 10264;
        assert!(matches!(kind(VARBINARY, 63, "varbinary(9)"), Kind::Bytes(0)));
        assert!(matches!(kind(VARBINARY, 0, ""), Kind::Bytes(0)), "nothing is said");
        assert!(matches!(kind(BINARY, 63, "binary(9)"), Kind::Bytes(9)));
        assert!(matches!(kind(VARBINARY, 46, "varchar(9)"), Kind::Text(Charset::Utf8)));
        assert!(matches!(kind(BINARY, 47, "char(9)"), Kind::Text(Charset::Latin1)));
        assert!(matches!(kind(6165, 8, "varchar(9)"), Kind::Text(Charset::Latin1)));
        assert!(matches!(kind(BINARY, 46, "enum('a')"), Kind::Enum(_)));
        assert!(matches!(kind(BINARY, 46, "SET('a')"), Kind::Set(_)));
        assert!(matches!(kind(2062, 63, "datetime"), Kind::Text(Charset::Utf8)));
        let field = Field { charset: 51, ..field("c", 6165, 2) };
        let failure = KeyColumns::default().columns("ks/t", &[field], true).unwrap_err();
        let text = failure.error().to_string();
        assert!(text.contains("\"c\"") && text.contains("cp1251"), "{text}");
    }

    #[test]
    fn lost_names_and_no_columns_are_definite_and_say_so() {
        let lost = KeyColumns::default().columns("ks/t", &[field("@1", 265, 2)], true).unwrap_err();
        assert!(lost.error().to_string().contains("schema tracking"), "{lost:?}");
        assert!(KeyColumns::default().columns("ks/t", &[], true).is_err());
        let twice = [field("a", 265, 2), field("a", 265, 0)];
        assert!(KeyColumns::default().columns("ks/t", &twice, true).is_err());
    }
}
