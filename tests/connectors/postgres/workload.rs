//! Owns what clients do to tables, at random, and what the tables have. It does not own the server.

use crate::postgres::client::Contents;
use crate::postgres::server::Server;
use crate::random::Random;

/// Tables whose key is two columns, one of them a text with an order of its own, and one column that is stored apart.
pub const MAKE: &str = "CREATE TABLE t (a int, b text COLLATE \"C\", n bigint, doc text, note text, PRIMARY KEY (a, b)); \
     ALTER TABLE t ALTER doc SET STORAGE EXTERNAL; CREATE TABLE u (LIKE t INCLUDING ALL); \
     CREATE PUBLICATION p FOR TABLE t, u; CREATE TABLE other (x int)";

/// All of them.
pub const TABLES: [&str; 2] = ["t", "u"];

/// Texts of keys.
const NAMES: [&str; 6] = ["a", "B", "zz", "é", "q'uote", "ä b"];

/// The statements of one transaction, as SQL.
pub fn statements(random: &Random, keys: u64) -> String {
    let count = match random.below(10) {
        0 => 40 + random.below(200),
        _ => 1 + random.below(4),
    };
    let mut sql = Vec::new();
    for _ in 0..count {
        if random.one_in(12) {
            sql.push("SAVEPOINT p;".to_string());
        }
        sql.push(statement(random, keys) + ";");
        if random.one_in(20) {
            sql.push("ROLLBACK TO p;".to_string());
        }
    }
    sql.join("\n")
}

fn key(random: &Random, keys: u64) -> (u64, String) {
    (random.below(keys), random.pick(&NAMES).replace('\'', "''"))
}

fn statement(random: &Random, keys: u64) -> String {
    // Also of one that is not followed.
    let t = random.pick(&TABLES);
    let ((a, b), n) = (key(random, keys), random.below(1_000_000));
    // More than a page holds, so that it is stored apart.
    let doc = format!("repeat(md5('{n}'), {})", if random.one_in(3) { 120 } else { 1 });
    let one = format!("WHERE a = {a} AND b = '{b}'");
    match random.below(40) {
        0 if random.one_in(2) => format!("TRUNCATE {}", TABLES.join(", ")),
        0 => format!("TRUNCATE {t}"),
        1 | 2 => format!("UPDATE {t} SET n = n + 1, note = 'all {n}' WHERE a % 5 = {}", n % 5),
        3 => format!("DELETE FROM {t} WHERE a % 7 = {}", n % 7),
        4..=6 => {
            // The key moves, and what is stored apart is not sent.
            let (to, name) = key(random, keys);
            format!("UPDATE {t} SET a = {to}, b = '{name}' {one}")
        }
        7..=12 => format!("DELETE FROM {t} {one}"),
        13..=18 => format!("UPDATE {t} SET n = {n} {one}"),
        19..=21 => format!("UPDATE {t} SET doc = NULL, note = NULL {one}"),
        22 => format!("INSERT INTO other VALUES ({n})"),
        23 => format!(
            "INSERT INTO {t} SELECT g, 'x' || g % 3, {n}, {doc}, NULL FROM generate_series({a}, {a} + 30) g \
             ON CONFLICT DO NOTHING"
        ),
        _ => format!(
            "INSERT INTO {t} VALUES ({a}, '{b}', {n}, {doc}, 'n{n}') \
             ON CONFLICT (a, b) DO UPDATE SET n = EXCLUDED.n, note = EXCLUDED.note"
        ),
    }
}

/// Reads tables in one snapshot, as the shard should have them.
pub fn contents(server: &Server, tables: &[&str]) -> Contents {
    let json = |column: &str| format!("coalesce(to_json({column})::text, 'null')");
    let (b, doc, n, note) = (json("b"), json("doc"), json("n"), json("note"));
    let rows = |table: &&str| {
        let (before, after) = match tables.len() {
            1 => (String::new(), ""),
            _ => (format!("[\"public.{table}\","), "]"),
        };
        format!(
            "SELECT '{before}{{\"a\":' || a || ',\"b\":' || {b} || '}}{after}' || chr(1) || '{{\"a\":' || a || \
             ',\"b\":' || {b} || ',\"doc\":' || {doc} || ',\"n\":' || {n} || ',\"note\":' || {note} || '}}' FROM {table}"
        )
    };
    let all: Vec<String> = tables.iter().map(rows).collect();
    let row = |row: String| {
        let (key, value) = row.split_once('\u{1}').expect("a key and a value");
        (key.to_string(), value.to_string())
    };
    server.ask(&all.join(" UNION ALL ")).into_iter().map(row).collect()
}

/// Reads the first of them.
pub fn table(server: &Server) -> Contents {
    contents(server, &TABLES[..1])
}
