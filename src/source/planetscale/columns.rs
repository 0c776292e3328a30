//! Owns the columns of a table as a stream describes them: what kinds they are, and which are the key.
//! It does not own the rows.

use super::failure::definite;
use super::proto::{Field, PRI_KEY_FLAG, types};
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
}

#[derive(Clone, Debug)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) kind: Kind,
}

/// What the JSON of a column is.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    Null,
    Integer,
    Float,
    Text,
    Bytes,
    Json,
    Enum(Members),
    Set(Members),
}

/// The members of an `ENUM` or `SET`. A server may send numbers in their place.
#[derive(Clone, Debug)]
pub(super) enum Members {
    /// Names are sent.
    Named,
    /// Names or numbers are sent; these are the names, none if they are not known.
    Either(Vec<String>),
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
        let columns = fields.iter().map(|field| Column::new(field, enums_named)).collect();
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
        Ok(Columns { table: table.to_string(), columns, all, key })
    }

    fn names(&mut self, table: &str, fields: &[Field]) -> Result<Vec<String>, Failure> {
        if !self.named.is_empty() {
            return Ok(self.named.clone());
        }
        let marked = fields.iter().filter(|field| field.flags & PRI_KEY_FLAG != 0);
        let marked: Vec<String> = marked.map(|field| field.name.clone()).collect();
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
}

impl Column {
    fn new(field: &Field, enums_named: bool) -> Column {
        let members = || match enums_named {
            true => Members::Named,
            false => Members::Either(member_names(&field.column_type)),
        };
        let kind = match field.r#type {
            types::NULL => Kind::Null,
            types::JSON => Kind::Json,
            types::ENUM => Kind::Enum(members()),
            types::SET => Kind::Set(members()),
            types::BIT | types::GEOMETRY | types::VECTOR => Kind::Bytes,
            kind if kind & types::IS_BINARY != 0 => Kind::Bytes,
            kind if kind & types::IS_INTEGRAL != 0 => Kind::Integer,
            kind if kind & types::IS_FLOAT != 0 => Kind::Float,
            _ => Kind::Text,
        };
        Column { name: field.name.clone(), kind }
    }
}

impl Members {
    /// Returns the name of an `ENUM`'s value; otherwise says why it cannot be told.
    pub(super) fn one<'a>(&'a self, text: &'a str) -> Result<&'a str, String> {
        let Some(names) = self.if_number(text)? else { return Ok(text) };
        match text.parse::<usize>() {
            // MySQL's value for what was no member.
            Ok(0) => Ok(""),
            Ok(number) if number <= names.len() => Ok(&names[number - 1]),
            _ => Err(format!("the number {text} of a member that is not there")),
        }
    }

    /// Returns the names of a `SET`'s value, with commas; otherwise says why they cannot be told.
    pub(super) fn several(&self, text: &str) -> Result<String, String> {
        let Some(names) = self.if_number(text)? else { return Ok(text.to_string()) };
        let none = || format!("the number {text} of members that are not there");
        let bits = text.parse::<u64>().map_err(|_| none())?;
        if names.len() < 64 && bits >> names.len() != 0 {
            return Err(none());
        }
        let bit = |(at, _): &(usize, &String)| at < &64 && bits & (1 << at) != 0;
        let names: Vec<&str> =
            names.iter().enumerate().filter(bit).map(|(_, name)| &**name).collect();
        Ok(names.join(","))
    }

    /// Returns the names to look a number up in, or `None` if the text is the name.
    fn if_number(&self, text: &str) -> Result<Option<&[String]>, String> {
        let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let Members::Either(names) = self else { return Ok(None) };
        if !number(text) {
            return Ok(None);
        }
        if names.is_empty() || names.iter().any(|name| number(name)) {
            // Guessing would give one row two values, depending on who sent it.
            return Err(format!("{text}, which may be a member's name or number"));
        }
        Ok(Some(names))
    }
}

/// Reads the names out of `enum('a','it''s')`; none if it is anything else.
fn member_names(column_type: &str) -> Vec<String> {
    let inner = column_type.find('(').zip(column_type.rfind(')'));
    let Some((open, close)) = inner.filter(|(open, close)| open < close) else { return Vec::new() };
    let (mut names, mut rest) = (Vec::new(), column_type[open + 1..close].trim_start());
    while let Some(after) = rest.strip_prefix('\'') {
        let (mut name, mut at) = (String::new(), after);
        loop {
            let Some(quote) = at.find('\'') else { return Vec::new() };
            name.push_str(&at[..quote]);
            at = &at[quote + 1..];
            let Some(doubled) = at.strip_prefix('\'') else { break };
            name.push('\'');
            at = doubled;
        }
        names.push(name);
        rest = at.trim_start().strip_prefix(',').unwrap_or(at).trim_start();
    }
    names
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

    #[test]
    fn lost_names_and_no_columns_are_definite_and_say_so() {
        let lost = KeyColumns::default().columns("ks/t", &[field("@1", 265, 2)], true).unwrap_err();
        assert!(lost.error().to_string().contains("schema tracking"), "{lost:?}");
        assert!(KeyColumns::default().columns("ks/t", &[], true).is_err());
        let twice = [field("a", 265, 2), field("a", 265, 0)];
        assert!(KeyColumns::default().columns("ks/t", &twice, true).is_err());
    }

    #[test]
    fn numbers_of_members_become_their_names() {
        let names = member_names("enum('a','it''s', 'x,y')");
        assert_eq!(names, ["a", "it's", "x,y"]);
        let either = Members::Either(names);
        assert_eq!(either.one("2"), Ok("it's"));
        assert_eq!(either.one("0"), Ok(""));
        assert_eq!(either.one("a"), Ok("a"));
        assert!(either.one("4").is_err());
        assert_eq!(either.several("5").as_deref(), Ok("a,x,y"));
        assert_eq!(either.several("0").as_deref(), Ok(""));
        assert_eq!(either.several("a,it's").as_deref(), Ok("a,it's"));
        assert!(either.several("8").is_err());
        assert_eq!(Members::Named.one("2"), Ok("2"));
        assert!(Members::Either(member_names("enum('1','2')")).one("2").is_err());
        assert!(Members::Either(Vec::new()).several("2").is_err());
        for odd in ["", "enum", "enum(", "enum)", ")(", "enum('", "enum('a", "enum('a'b", "enum(é)"]
        {
            let _ = member_names(odd);
        }
    }
}
