//! Goal: a value has one text, whether it comes by the copy or by the stream. Method: one row of each type, there before
//! the copy and again after it.

use differential_upsert::source::OnPositionLost;

use crate::postgres::client::{Client, Place};
use crate::postgres::server::Server;

/// A type, a value of it, and its JSON.
const TYPES: [(&str, &str, &str); 45] = [
    ("smallint", "-7", "-7"),
    ("integer", "2147483647", "2147483647"),
    ("bigint", "-9223372036854775808", "-9223372036854775808"),
    ("numeric", "1.50", r#""1.50""#),
    ("numeric(8,3)", "1.5", r#""1.500""#),
    ("numeric", "'NaN'", r#""NaN""#),
    ("numeric", "'infinity'", r#""Infinity""#),
    ("real", "0.1", "0.1"),
    ("double precision", "1e300", "1e+300"),
    ("double precision", "'NaN'", r#""NaN""#),
    ("double precision", "'-infinity'", r#""-Infinity""#),
    ("boolean", "true", "true"),
    ("text", "'a \"b\" é'", r#""a \"b\" é""#),
    ("varchar(9)", "'x'", r#""x""#),
    ("char(3)", "'x'", r#""x  ""#),
    ("\"char\"", "'c'", r#""c""#),
    ("name", "'n'", r#""n""#),
    ("bytea", "'\\x00ff'", r#""\\x00ff""#),
    ("date", "'2026-11-28'", r#""2026-11-28""#),
    ("date", "'infinity'", r#""infinity""#),
    ("time", "'12:34:56.789'", r#""12:34:56.789""#),
    ("timetz", "'12:34:56+02'", r#""12:34:56+02""#),
    ("timestamp", "'2026-11-28 01:02:03.5'", r#""2026-11-28 01:02:03.5""#),
    ("timestamptz", "'2026-11-28 01:02:03.5+02'", r#""2026-11-27 23:02:03.5+00""#),
    ("interval", "'1 year 2 days 03:04:05'", r#""1 year 2 days 03:04:05""#),
    ("json", "'{\"b\": 1.0, \"a\": [null]}'", r#"{"a":[null],"b":1.0}"#),
    ("jsonb", "'{\"b\": 1.0, \"a\": [null]}'", r#"{"a":[null],"b":1.0}"#),
    ("uuid", "'b68a35a7-17ad-35b3-af2a-ae46edb4545a'", r#""b68a35a7-17ad-35b3-af2a-ae46edb4545a""#),
    ("inet", "'10.0.0.1/8'", r#""10.0.0.1/8""#),
    ("cidr", "'10.0.0.0/8'", r#""10.0.0.0/8""#),
    ("macaddr", "'08:00:2b:01:02:03'", r#""08:00:2b:01:02:03""#),
    ("bit(3)", "'101'", r#""101""#),
    ("varbit", "'10'", r#""10""#),
    ("money", "'12.34'", r#""$12.34""#),
    ("xml", "'<a/>'", r#""<a/>""#),
    ("point", "'(1,2)'", r#""(1,2)""#),
    ("polygon", "'((0,0),(1,1),(2,0))'", r#""((0,0),(1,1),(2,0))""#),
    ("int4range", "'[1,5)'", r#""[1,5)""#),
    ("tsvector", "'a b'", r#""'a' 'b'""#),
    ("oid", "4294967295", "4294967295"),
    ("pg_lsn", "'16/B374D848'", r#""16/B374D848""#),
    ("regclass", "'pg_class'", r#""pg_class""#),
    ("int[]", "'{1,NULL,3}'", r#""{1,NULL,3}""#),
    ("text[]", "'{\"a,b\",\"c\"}'", r#""{\"a,b\",c}""#),
    ("bytea[]", "array['\\x00'::bytea]", r#""{\"\\\\x00\"}""#),
];

#[test]
fn a_value_has_one_text() {
    let server = Server::start();
    server.ask(
        "CREATE TYPE mood AS ENUM ('sad', 'glad'); CREATE DOMAIN small AS int CHECK (VALUE < 10)",
    );
    let own = [
        ("mood", "'glad'", r#""glad""#),
        ("small", "7", r#""7""#),
        ("mood[]", "'{sad}'", r#""{sad}""#),
    ];
    let all: Vec<_> = TYPES.into_iter().chain(own).collect();
    let columns: Vec<String> =
        all.iter().enumerate().map(|(n, (kind, ..))| format!("c{n:02} {kind}")).collect();
    let values: Vec<&str> = all.iter().map(|(_, value, _)| *value).collect();
    server.ask(&format!(
        "CREATE TABLE t (id int PRIMARY KEY, {}, g int GENERATED ALWAYS AS (id * 2) STORED); CREATE PUBLICATION p FOR TABLE t",
        columns.join(", ")
    ));
    let insert =
        |id: u32| server.ask(&format!("INSERT INTO t VALUES ({id}, {})", values.join(", ")));
    insert(1);
    server.ask("INSERT INTO t (id) VALUES (2)");
    let place = Place::new();
    let mut client = Client::start(&place, &server, "public.t", OnPositionLost::Fail);
    client.until(&place, "the copy", |contents| contents.len() == 2);
    insert(3);
    server.ask("INSERT INTO t (id) VALUES (4)");
    client.until(&place, "the stream", |contents| contents.len() == 4);
    client.stop();
    let texts: Vec<String> =
        all.iter().enumerate().map(|(n, (.., json))| format!("\"c{n:02}\":{json}")).collect();
    let nulls: Vec<String> = (0..all.len()).map(|n| format!("\"c{n:02}\":null")).collect();
    let contents = place.contents();
    for (id, columns) in [(1, &texts), (2, &nulls), (3, &texts), (4, &nulls)] {
        let found = &contents[&format!("{{\"id\":{id}}}")];
        let expected = format!("{{{},\"id\":{id}}}", columns.join(","));
        assert_eq!(*found, expected, "row {id}");
    }
}
