//! Owns what the catalog says of tables, and the questions for their rows, in SQL. It does not own what is made of the
//! answers.

use bytes::Bytes;

use super::address::{Address, Name};
use super::changes::Followed;
use super::failure::{definite, transient};
use super::pgoutput::{Cell, Column};
use super::position::Lineage;
use super::question::{Piece, Place, Unplaced};
use super::rows::{Columns, Key, Row};
use super::session::{Session, Texts, cell, literal, name};
use super::slot::mark;
use super::snapshot::Snapshot;
use crate::codec::canonical::Scratch;
use crate::codec::collection_name;
use crate::source::Failure;

/// What the catalog says of a table.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub(super) followed: Followed,
    /// The key's columns, in its order: their names, types and collations.
    key: Vec<KeyColumn>,
    /// The names of the columns that the publication sends.
    sent: Vec<String>,
    columns: Columns,
    /// Which rows it sends.
    filter: Option<String>,
    place: String,
    quoted: String,
    /// Whether it is made of others.
    is_root: bool,
    /// Its columns, to notice that they are others.
    signature: String,
}

#[derive(Clone, Debug)]
struct KeyColumn {
    name: String,
    kind: String,
    collation: Option<String>,
}

impl Table {
    /// Asks what the tables are.
    ///
    /// # Errors
    ///
    /// Definite if one cannot be followed: it, its key or its publication is missing.
    pub(super) async fn look_all(
        session: &mut Session,
        address: &Address,
    ) -> Result<Vec<Table>, Failure> {
        let mut tables = Vec::new();
        for index in 0..address.tables.len() {
            tables.push(Table::look(session, address, index).await?);
        }
        Ok(tables)
    }

    async fn look(
        session: &mut Session,
        address: &Address,
        index: usize,
    ) -> Result<Table, Failure> {
        let named = &address.tables[index];
        let place = &*format!("{}/{named}", address.database);
        let (schema, table) = (literal(&named.schema), literal(&named.name));
        let found = session
            .ask(&format!(
                "SELECT c.oid, c.relkind, c.relreplident, current_setting('server_version_num') FROM pg_class c \
                 JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = {schema} AND c.relname = {table} \
                 AND c.relkind IN ('r', 'p')"
            ))
            .await?;
        let Some(found) = found.first() else {
            return Err(definite(
                "there is no such table",
                place,
                "check its name, as SCHEMA.TABLE",
            ));
        };
        let oid: u32 =
            cell(found, 0).parse().map_err(|_| transient("a table without an oid", place))?;
        let (is_root, identity) = (cell(found, 1) == "p", cell(found, 2).to_string());
        let version: u32 = cell(found, 3).parse().unwrap_or(0);
        let (lists, filter) =
            publication(session, &address.publication, named, version, is_root, place).await?;
        let key = key(session, oid, &identity, place).await?;
        let columns = session
            .ask(&format!(
                "SELECT attname, atttypid FROM pg_attribute WHERE attrelid = {oid} AND attnum > 0 \
                 AND NOT attisdropped AND attgenerated = '' ORDER BY attnum"
            ))
            .await?;
        let column = |row: &Texts| {
            let kind = cell(row, 1).parse().unwrap_or(0);
            Column { name: cell(row, 0).to_string(), kind }
        };
        let is_sent =
            |column: &Column| lists.as_ref().is_none_or(|lists| lists.contains(&column.name));
        let columns: Vec<Column> = columns.iter().map(column).filter(is_sent).collect();
        let sent = columns.iter().map(|column| name(&column.name)).collect();
        let quoted = format!("{}.{}", name(&named.schema), name(&named.name));
        let collection = (address.tables.len() > 1).then(|| collection_name(&named.to_string()));
        let followed = Followed {
            oid,
            schema: named.schema.clone(),
            name: named.name.clone(),
            key: key.iter().map(|column| column.name.clone()).collect(),
            collection,
        };
        let signature = session.ask(&format!("SELECT {}", signature(oid))).await?;
        let signature = signature.first().map_or(String::new(), |row| cell(row, 0).to_string());
        let place = place.to_string();
        let columns = Columns::new(columns, &followed.key).ok_or_else(|| {
            let hint = "publish all columns of the key";
            definite("the publication leaves out a column of the key", &place, hint)
        })?;
        let columns = columns.of(index, followed.collection.as_deref());
        Ok(Table { followed, key, sent, columns, filter, place, quoted, is_root, signature })
    }

    /// Returns what tells it from others of its name.
    pub(super) fn lineage(&self) -> Lineage {
        Lineage::new(self.followed.oid, &self.followed.key)
    }

    /// Reads the next rows after a key, in the order of keys, as of one snapshot.
    pub(super) async fn after(
        &self,
        session: &mut Session,
        key: Option<&[String]>,
        rows_max: usize,
    ) -> Result<Piece, Failure> {
        let names = self.names();
        let beyond = key.map(|key| format!("({names}) > ({})", self.key_of(key)));
        let order = format!("ORDER BY {names} LIMIT {rows_max}");
        self.read(session, beyond, &order).await
    }

    /// Reads the rows of some keys, as of one snapshot.
    pub(super) async fn rows_of(
        &self,
        session: &mut Session,
        keys: &[Key],
    ) -> Result<Piece, Failure> {
        let keys: Vec<String> =
            keys.iter().map(|key| format!("({})", self.key_of(&key.texts))).collect();
        let which = format!("({}) IN ({})", self.names(), keys.join(", "));
        self.read(session, Some(which), "").await
    }

    async fn read(
        &self,
        session: &mut Session,
        which: Option<String>,
        order: &str,
    ) -> Result<Piece, Failure> {
        let conditions: Vec<String> =
            self.filter.iter().map(|filter| format!("({filter})")).chain(which).collect();
        let wanted = match conditions.is_empty() {
            true => String::new(),
            false => format!("WHERE {}", conditions.join(" AND ")),
        };
        // In one question: nothing is left open if the answer is not waited for. The lock comes before the snapshot: what
        // makes the table anew under a lock of its own leaves it empty for snapshots of before.
        let only = if self.is_root { "" } else { "ONLY " };
        let answer = session
            .rows(&format!(
                "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; LOCK TABLE {only}{table} IN ACCESS SHARE MODE; \
                 SELECT pg_current_snapshot()::text, {}::regclass::oid::text, {}; \
                 SELECT {} FROM {only}{table} {wanted} {order}; COMMIT",
                literal(&self.quoted),
                signature(self.followed.oid),
                self.sent.join(", "),
                table = self.quoted,
            ))
            .await?;
        let mut answer = answer.into_iter();
        let text = |cell: Option<Bytes>| {
            cell.map(|text| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default()
        };
        let first: Vec<String> = answer.next().into_iter().flatten().map(text).collect();
        let [snapshot, oid, signature] = &first[..] else {
            return Err(transient("an answer without its snapshot", &self.place));
        };
        if *oid != self.followed.oid.to_string() || *signature != self.signature {
            // The next connection looks at it as it is now.
            return Err(transient("the table or its columns are others now", &self.place));
        }
        let snapshot = Snapshot::parse(snapshot)
            .ok_or_else(|| transient("a snapshot that is none", &self.place))?;
        // After the snapshot: what it sees lies before the mark.
        let high = mark(session, &self.place).await?;
        let mut scratch = Scratch::default();
        let (mut rows, mut bytes) = (Vec::with_capacity(answer.len()), 0);
        for row in answer {
            let texts = row.iter().map(Option::as_deref);
            let cells: Vec<Cell<'_>> =
                texts.map(|text| text.map_or(Cell::Null, Cell::Text)).collect();
            bytes += row.iter().flatten().map(Bytes::len).sum::<usize>();
            let key = self.columns.key(&cells, &mut scratch).ok_or_else(|| {
                definite("a row without its key", &self.place, "check the table's key")
            })?;
            let (Row::Whole(value) | Row::Partial(value)) = self.columns.row(&cells, &mut scratch);
            rows.push((key, value));
        }
        Ok(Piece { snapshot, rows, high, bytes })
    }

    /// Asks where keys are. In the order of keys, which is the server's alone.
    pub(super) async fn places(
        &self,
        session: &mut Session,
        asked: &Unplaced<'_>,
    ) -> Result<Vec<Place>, Failure> {
        let row = |(n, key): (usize, &Key)| format!("({n}, {})", self.key_of(&key.texts));
        let rows: Vec<String> = asked.keys.iter().enumerate().map(row).collect();
        let columns: Vec<String> = (0..self.key.len()).map(|at| format!("k{at}")).collect();
        let collated = self.key.iter().zip(&columns).map(|(column, k)| match &column.collation {
            Some(collation) => format!("{k} COLLATE {collation}"),
            None => k.clone(),
        });
        let collated = collated.collect::<Vec<_>>().join(", ");
        let within = |last: Option<&[String]>| match last {
            Some(last) => format!("({collated}) <= ({})", self.key_of(last)),
            None => "false".to_string(),
        };
        let answer = session
            .ask(&format!(
                "SELECT {}, {} FROM (VALUES {}) v(n, {}) ORDER BY n",
                within(asked.copied),
                within(asked.piece),
                rows.join(", "),
                columns.join(", "),
            ))
            .await?;
        let place = |row: &Texts| Place {
            is_copied: cell(row, 0) == "t",
            is_in_piece: cell(row, 1) == "t",
        };
        match answer.len() == asked.keys.len() {
            true => Ok(answer.iter().map(place).collect()),
            false => Err(transient("an answer of other length than its question", &self.place)),
        }
    }

    fn names(&self) -> String {
        let names: Vec<String> = self.key.iter().map(|column| name(&column.name)).collect();
        names.join(", ")
    }

    /// Returns a key's texts as values of their types.
    fn key_of(&self, texts: &[String]) -> String {
        let typed = texts.iter().zip(&self.key);
        let typed: Vec<String> =
            typed.map(|(text, column)| format!("{}::{}", literal(text), column.kind)).collect();
        typed.join(", ")
    }
}

/// Checks that the names of tables still name them. Rows of one that has another's name now are not taken for that one's:
/// the next connection says what that means.
pub(super) async fn check_names(
    session: &mut Session,
    tables: &[Table],
    place: &str,
) -> Result<(), Failure> {
    let named = |table: &Table| format!("to_regclass({})::oid::text", literal(&table.quoted));
    let named: Vec<String> = tables.iter().map(named).collect();
    let answer = session.ask(&format!("SELECT {}", named.join(", "))).await?;
    let oids = answer.first().into_iter().flatten();
    match tables
        .iter()
        .zip(oids)
        .find(|(table, oid)| oid.as_deref() != Some(&*table.followed.oid.to_string()))
    {
        Some((table, _)) => Err(transient("the table has another name now", &table.place)),
        None if answer.first().is_some_and(|oids| oids.len() == tables.len()) => Ok(()),
        None => Err(transient("an answer of other length than its question", place)),
    }
}

/// Checks what the publication sends of a table, and returns which columns and which rows.
async fn publication(
    session: &mut Session,
    publication: &str,
    table: &Name,
    version: u32,
    is_root: bool,
    place: &str,
) -> Result<(Option<Vec<String>>, Option<String>), Failure> {
    let create = format!(
        "CREATE PUBLICATION {} FOR TABLE {}.{}",
        name(publication),
        name(&table.schema),
        name(&table.name)
    );
    let publication = literal(publication);
    let all = session
        .ask(&format!(
            "SELECT pubinsert AND pubupdate AND pubdelete AND pubtruncate, pubviaroot FROM pg_publication \
             WHERE pubname = {publication}"
        ))
        .await?;
    let Some(all) = all.first() else {
        return Err(definite("there is no such publication", place, &create));
    };
    if cell(all, 0) != "t" {
        let hint = "publish insert, update, delete and truncate";
        return Err(definite("the publication leaves out kinds of changes", place, hint));
    }
    if is_root && cell(all, 1) != "t" {
        let hint = "set publish_via_partition_root = true";
        return Err(definite("the publication sends a partitioned table in parts", place, hint));
    }
    // Lists of columns and filters of rows came with version 15.
    let filter = if version >= 150_000 { "rowfilter" } else { "NULL" };
    let (schema, table) = (literal(&table.schema), literal(&table.name));
    let listed = session
        .ask(&format!(
            "SELECT {filter} FROM pg_publication_tables WHERE pubname = {publication} \
             AND schemaname = {schema} AND tablename = {table}"
        ))
        .await?;
    let Some(listed) = listed.first() else {
        let hint = format!("ALTER PUBLICATION .. ADD TABLE, or {create}");
        return Err(definite("the publication does not have the table", place, &hint));
    };
    let columns = match version >= 150_000 {
        false => None,
        true => {
            let names = session
                .ask(&format!(
                    "SELECT unnest(attnames)::text FROM pg_publication_tables WHERE pubname = {publication} \
                     AND schemaname = {schema} AND tablename = {table}"
                ))
                .await?;
            Some(names.iter().map(|row| cell(row, 0).to_string()).collect())
        }
    };
    Ok((columns, listed.first().cloned().flatten()))
}

/// Returns the columns that tell rows apart: those of the replica identity.
async fn key(
    session: &mut Session,
    oid: u32,
    identity: &str,
    place: &str,
) -> Result<Vec<KeyColumn>, Failure> {
    let which = match identity {
        "i" => "indisreplident",
        "d" | "f" => "indisprimary",
        _ => {
            let hint = "ALTER TABLE .. REPLICA IDENTITY DEFAULT";
            return Err(definite("the table has no replica identity", place, hint));
        }
    };
    let rows = session
        .ask(&format!(
            "SELECT a.attname, format_type(a.atttypid, a.atttypmod), \
             (SELECT quote_ident(n.nspname) || '.' || quote_ident(c.collname) FROM pg_collation c \
              JOIN pg_namespace n ON n.oid = c.collnamespace WHERE c.oid = a.attcollation), \
             (SELECT coalesce(b.typtype, t.typtype) = 'e' OR coalesce(b.typnamespace, t.typnamespace) = \
              'pg_catalog'::regnamespace FROM pg_type t LEFT JOIN pg_type b ON b.oid = nullif(t.typbasetype, 0) \
              WHERE t.oid = a.atttypid) \
             FROM pg_index i CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY k(attnum, n) \
             JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum \
             WHERE i.indrelid = {oid} AND i.{which} AND k.n <= i.indnkeyatts ORDER BY k.n"
        ))
        .await?;
    if rows.is_empty() {
        let hint = "give it a primary key, or a replica identity by a unique index";
        return Err(definite("the table has no key", place, hint));
    }
    if let Some(row) = rows.iter().find(|row| cell(row, 3) != "t") {
        // Its operators may be others than those of its order.
        let what = format!("the key's column {:?} is of an extension's type", cell(row, 0));
        return Err(definite(&what, place, "use a key of PostgreSQL's own types"));
    }
    let column = |row: &Texts| KeyColumn {
        name: cell(row, 0).to_string(),
        kind: cell(row, 1).to_string(),
        collation: row.get(2).cloned().flatten(),
    };
    Ok(rows.iter().map(column).collect())
}

/// What tells a table's columns from those that it had, as SQL.
fn signature(oid: u32) -> String {
    format!(
        "(SELECT string_agg(attname || ':' || atttypid || ':' || atttypmod, ',' ORDER BY attnum) FROM pg_attribute \
         WHERE attrelid = {oid} AND attnum > 0 AND NOT attisdropped)"
    )
}
