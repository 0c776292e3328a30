//! Goal: every type of column that MySQL has becomes the JSON that is promised, in a copy as in a
//! stream, by both protocols. Method: one row with a column of each, against text written by hand.

use std::time::{Duration, Instant};

use differential_upsert::store::{Access, Root};

use crate::planetscale::client::{Client, Protocol, Setting, runtime};
use crate::planetscale::proto::{
    self, Field, QueryResult, RowChange, SyncRequest, SyncResponse, UpdatedRow, VStreamRequest,
    VStreamResponse, kind,
};
use crate::planetscale::rows::{PRIMARY, field};
use crate::planetscale::script::{
    Scene, begin, change, commit, completed, cursor, events, field_of, gtid, play, vgtid_of,
};
use crate::texts::texts;

const BINARY: u32 = 63;
const UTF8: u32 = 255;

/// Type, MySQL's text of it, charset, bytes on the wire, JSON.
type Case = (i32, &'static str, u32, &'static [u8], &'static str);

const CASES: &[Case] = &[
    (kind::INT8, "tinyint", BINARY, b"-128", "-128"),
    (kind::UINT8, "tinyint unsigned", BINARY, b"255", "255"),
    (kind::INT8, "tinyint(1)", BINARY, b"1", "1"),
    (kind::INT16, "smallint", BINARY, b"-32768", "-32768"),
    (kind::UINT16, "smallint unsigned", BINARY, b"65535", "65535"),
    (kind::INT24, "mediumint", BINARY, b"-8388608", "-8388608"),
    (kind::UINT24, "mediumint unsigned", BINARY, b"16777215", "16777215"),
    (kind::INT32, "int", BINARY, b"-2147483648", "-2147483648"),
    (kind::UINT32, "int unsigned", BINARY, b"4294967295", "4294967295"),
    (kind::UINT32, "int(5) unsigned zerofill", BINARY, b"00042", "42"),
    (kind::INT64, "bigint", BINARY, b"-9223372036854775808", "-9223372036854775808"),
    (kind::UINT64, "bigint unsigned", BINARY, b"18446744073709551615", "18446744073709551615"),
    (kind::INT64, "bigint", BINARY, b"9007199254740993", "9007199254740993"),
    (kind::FLOAT32, "float", BINARY, b"1.5", "1.5"),
    (kind::FLOAT64, "double", BINARY, b"-0.1", "-0.1"),
    (kind::FLOAT64, "double", BINARY, b"1e20", "1e20"),
    (
        kind::DECIMAL,
        "decimal(30,10)",
        BINARY,
        b"12345678901234567890.1234567890",
        "\"12345678901234567890.1234567890\"",
    ),
    (kind::DATE, "date", BINARY, b"2024-02-29", "\"2024-02-29\""),
    (kind::DATE, "date", BINARY, b"0000-00-00", "\"0000-00-00\""),
    (kind::TIME, "time", BINARY, b"-838:59:59", "\"-838:59:59\""),
    (
        kind::DATETIME,
        "datetime(6)",
        BINARY,
        b"2024-02-29 23:59:59.123456",
        "\"2024-02-29 23:59:59.123456\"",
    ),
    (kind::TIMESTAMP, "timestamp", BINARY, b"2038-01-19 03:14:07", "\"2038-01-19 03:14:07\""),
    (kind::YEAR, "year", BINARY, b"2024", "2024"),
    (kind::CHAR, "char(4)", UTF8, b"a\"b\\", "\"a\\\"b\\\\\""),
    (
        kind::VARCHAR,
        "varchar(9)",
        UTF8,
        "zw\u{f6}lf\u{1F980}".as_bytes(),
        "\"zw\u{f6}lf\u{1F980}\"",
    ),
    (kind::VARCHAR, "varchar(9)", UTF8, b"", "\"\""),
    (kind::TEXT, "text", UTF8, b"two\nlines", "\"two\\nlines\""),
    (kind::BINARY, "binary(3)", BINARY, b"\x00\xff\x10", "\"AP8Q\""),
    (kind::VARBINARY, "varbinary(3)", BINARY, b"ab", "\"YWI=\""),
    (kind::BLOB, "blob", BINARY, b"\xde\xad\xbe\xef", "\"3q2+7w==\""),
    (kind::BIT, "bit(10)", BINARY, b"\x02\x05", "\"AgU=\""),
    (kind::ENUM, "enum('small','large')", UTF8, b"large", "\"large\""),
    (kind::SET, "set('a','b','c')", UTF8, b"a,c", "\"a,c\""),
    (kind::SET, "set('a','b','c')", UTF8, b"", "\"\""),
    (kind::GEOMETRY, "point", BINARY, b"\x00\x00\x00\x00\x01", "\"AAAAAAE=\""),
    (
        kind::JSON,
        "json",
        UTF8,
        b"{\"b\": [1, 2.50, null], \"a\": \"x\"}",
        "{\"a\":\"x\",\"b\":[1,2.50,null]}",
    ),
    (kind::JSON, "json", UTF8, b"null", "null"),
];

fn fields() -> Vec<Field> {
    let cases = CASES.iter().enumerate();
    let each = cases.map(|(n, (kind, text, charset, _, _))| {
        field(&format!("c{n:02}"), *kind, *charset, text, 0)
    });
    [field("k", kind::UINT64, BINARY, "bigint unsigned", PRIMARY)].into_iter().chain(each).collect()
}

/// A row of these cases, or of NULLs.
fn row(key: &'static str, null: bool) -> proto::Row {
    let values = CASES.iter().map(|(_, _, _, bytes, _)| (!null).then_some(*bytes));
    proto::Row::of(&[Some(key.as_bytes())].into_iter().chain(values).collect::<Vec<_>>())
}

fn json(key: &str, null: bool) -> String {
    let cases = CASES.iter().enumerate();
    let member = |(n, case): (usize, &Case)| {
        let value = if null { "null" } else { case.4 };
        format!("\"c{n:02}\":{value},")
    };
    format!("{{{}\"k\":{key}}}", cases.map(member).collect::<String>())
}

/// Three rows: one copied, one copied and then updated to NULLs, one of NULLs and then updated.
fn expected() -> Vec<(String, String)> {
    let big = "18446744073709551615";
    let row = |key: &str, null| (format!("{{\"k\":{key}}}"), json(key, null));
    vec![row("1", false), row(big, false), row("2", true)]
}

fn check(
    protocol: Protocol,
    start: impl FnOnce(&tokio::runtime::Runtime) -> crate::planetscale::server::Server,
) {
    let (runtime, root) = (runtime(), Root::open("mem:", Access::Write).expect("memory"));
    let server = start(&runtime);
    let setting = Setting::new(protocol, &["-"]);
    let mut client = Client::start(&runtime, &root, &setting, server.address);
    let begun = Instant::now();
    let mut expected = expected();
    expected.sort();
    loop {
        client.step(&runtime);
        assert_eq!(client.error().map(|error| error.to_string()), None);
        let found: Vec<_> = texts(&runtime, &root).into_iter().collect();
        if found == expected {
            return client.stop(&runtime);
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{found:#?}\nis not\n{expected:#?}");
    }
}

#[test]
fn every_type_by_vstream() {
    let update = |before: proto::Row, after: proto::Row| {
        change(RowChange { before: Some(before), after: Some(after), data_columns: None })
    };
    let insert = |row| change(RowChange { after: Some(row), ..RowChange::default() });
    let pk = QueryResult {
        fields: vec![field("k", kind::UINT64, BINARY, "bigint unsigned", PRIMARY)],
        rows: vec![proto::Row::of(&[Some("2")])],
    };
    let copied = vec![
        begin(),
        field_of(fields()),
        insert(row("1", false)),
        insert(row("2", false)),
        vgtid_of(gtid(5), Some(pk)),
        commit(),
        begin(),
        vgtid_of(gtid(5), None),
        commit(),
        completed(),
    ];
    let streamed = vec![
        begin(),
        field_of(fields()),
        update(row("2", false), row("2", true)),
        insert(row("18446744073709551615", true)),
        update(row("18446744073709551615", true), row("18446744073709551615", false)),
        vgtid_of(gtid(6), None),
        commit(),
    ];
    check(Protocol::VStream, |runtime| {
        let scene = Scene::last(vec![events(copied), events(streamed)]);
        runtime.block_on(play::<VStreamRequest, VStreamResponse>(vec![scene])).0
    });
}

#[test]
fn every_type_by_sync() {
    let result = |row| QueryResult { fields: fields(), rows: vec![row] };
    let pk = QueryResult {
        fields: vec![field("k", kind::UINT64, BINARY, "bigint unsigned", PRIMARY)],
        rows: vec![proto::Row::of(&[Some("2")])],
    };
    let at = |count, pk| Some(cursor(gtid(count), pk));
    let bare = SyncResponse::default;
    let responses = vec![
        SyncResponse { cursor: at(5, None), ..bare() },
        SyncResponse {
            result: vec![result(row("1", false)), result(row("2", false))],
            cursor: at(5, Some(pk)),
            ..bare()
        },
        SyncResponse { cursor: at(5, None), ..bare() },
        SyncResponse {
            result: vec![result(row("18446744073709551615", false))],
            updates: vec![UpdatedRow {
                before: Some(result(row("2", false))),
                after: Some(result(row("2", true))),
            }],
            cursor: at(6, None),
            ..bare()
        },
    ];
    check(Protocol::Sync, |runtime| {
        let scene = Scene::last(responses);
        runtime.block_on(play::<SyncRequest, SyncResponse>(vec![scene])).0
    });
}
