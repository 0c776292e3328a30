//! Goal: a value has one text, whichever message brings it: a row that was copied is deleted by the key that the
//! binary log has for it, and is what was promised. Method: a row of a key of each kind, in MySQL's bytes
//! for a query, then in those of Vitess for the binary log.
//!
//! The two texts of numbers: vitess go/mysql/binlog/rbr.go, `CellValue`; its `TypeNewDecimal` trims the
//! zeros in front of the point. Both phases send texts as they are stored: rowstreamer.go sets names to
//! binary. A collation of bytes makes the type that of bytes: go/sqltypes/type.go, `modifyType`. A name of
//! an ENUM, which is sent in place of its number, is UTF-8: vstreamer.go, `mapEnumAndSetColumns`.

use std::time::{Duration, Instant};

use differential_upsert::store::{Access, Root};

use crate::planetscale::client::{Client, Protocol, Setting, runtime};
use crate::planetscale::proto::{
    DeletedRow, Field, QueryResult, Row, RowChange, SyncRequest, SyncResponse, VStreamRequest,
    VStreamResponse, kind,
};
use crate::planetscale::rows::{PRIMARY, field};
use crate::planetscale::script::{
    Scene, begin, change, commit, completed, cursor, events, field_of, gtid, play, vgtid_of,
};
use crate::planetscale::server::Server;
use crate::texts::texts;

const BINARY: u32 = 63;
const LATIN1: u32 = 8;

/// Type, MySQL's text of it, collation, bytes in a copy, bytes in the log, JSON.
type Case = (i32, &'static str, u32, &'static [u8], &'static [u8], &'static str);

const CASES: &[Case] = &[
    (kind::DECIMAL, "decimal(4,2)", BINARY, b"0.50", b".50", "\"0.50\""),
    (kind::DECIMAL, "decimal(4,2)", BINARY, b"-0.05", b"-.05", "\"-0.05\""),
    (kind::DECIMAL, "decimal(5,0)", BINARY, b"0", b"", "\"0\""),
    (kind::DECIMAL, "decimal(6,2) unsigned zerofill", BINARY, b"0007.00", b"7.00", "\"7.00\""),
    (kind::FLOAT64, "double", BINARY, b"0.1", b"1E-01", "0.1"),
    (kind::FLOAT64, "double(5,2)", BINARY, b"0.50", b"5E-01", "0.5"),
    (kind::FLOAT64, "double", BINARY, b"1e20", b"1E+20", "1e20"),
    (kind::FLOAT32, "float", BINARY, b"16777200", b"1.6777216E+07", "16777200"),
    (kind::FLOAT32, "float", BINARY, b"0.333333", b"3.3333334E-01", "0.333333"),
    (kind::VARCHAR, "varchar(9)", LATIN1, b"zw\xf6lf \x80", b"zw\xf6lf \x80", "\"zwölf €\""),
    (kind::VARCHAR, "varchar(9)", 35, b"\0z\0\xf6", b"\0z\0\xf6", "\"zö\""),
    (kind::TEXT, "text", 54, b"\xd8\x3e\xdd\x80", b"\xd8\x3e\xdd\x80", "\"\u{1F980}\""),
    (kind::VARCHAR, "varchar(9)", 60, b"\0\x01\xf9\x80", b"\0\x01\xf9\x80", "\"\u{1F980}\""),
    // Texts with a collation of bytes: utf8mb4_bin, latin1_bin.
    (kind::VARBINARY, "varchar(9)", 46, b"Ab", b"Ab", "\"Ab\""),
    (kind::BINARY, "char(9)", 47, b"\xe9", b"\xe9", "\"é\""),
    (kind::BLOB, "text", 46, b"Ab", b"Ab", "\"Ab\""),
    (kind::BINARY, "enum('small','large')", 46, b"large", b"2", "\"large\""),
    (kind::BINARY, "set('a','b','c')", 46, b"a,c", b"5", "\"a,c\""),
    (
        kind::ENUM,
        "enum('klein','größer')",
        LATIN1,
        b"gr\xf6\xdfer",
        "größer".as_bytes(),
        "\"größer\"",
    ),
    (kind::BINARY, "binary(3)", BINARY, b"a\0\0", b"a", "\"YQAA\""),
    (kind::VARBINARY, "varbinary(3)", BINARY, b"ab", b"ab", "\"YWI=\""),
];

fn fields(case: &Case) -> Vec<Field> {
    let (kind, column_type, charset, ..) = case;
    vec![
        field("k", *kind, *charset, column_type, PRIMARY),
        field("n", kind::INT64, BINARY, "bigint", 0),
    ]
}

fn row(key: &'static [u8], n: &'static [u8]) -> Row {
    Row::of(&[Some(key), Some(n)])
}

/// It tells that what came before it has come.
fn end() -> Row {
    Row::of(&[None, Some("9")])
}

/// The last key, as rowstreamer.go sends it: names and types alone.
fn last(case: &Case) -> QueryResult {
    let (mut fields, key) = (fields(case)[..1].to_vec(), Row::of(&[Some(case.3)]));
    fields.iter_mut().for_each(|field| (field.charset, field.flags) = (0, 0));
    fields.iter_mut().for_each(|field| field.column_type.clear());
    QueryResult { fields, rows: vec![key] }
}

/// Runs until the shard has these rows.
fn ends_with(protocol: Protocol, server: &Server, wanted: &[(String, String)], case: &Case) {
    let (runtime, root) = (RUNTIME.with(|r| r.clone()), Root::open("mem:", Access::Write).unwrap());
    let setting = Setting::new(protocol, &["-"]);
    let mut client = Client::start(&runtime, &root, &setting, server.address);
    let begun = Instant::now();
    loop {
        client.step(&runtime);
        assert_eq!(client.error().map(|error| error.to_string()), None, "{case:?}");
        let found: Vec<_> = texts(&runtime, &root).into_iter().collect();
        if found == wanted {
            return client.stop(&runtime);
        }
        assert!(begun.elapsed() < Duration::from_secs(5), "{case:?}: {found:?}");
    }
}

thread_local! {
    static RUNTIME: std::rc::Rc<tokio::runtime::Runtime> = std::rc::Rc::new(runtime());
}

fn shown(json: &str, n: u64) -> (String, String) {
    (format!("{{\"k\":{json}}}"), format!("{{\"k\":{json},\"n\":{n}}}"))
}

#[test]
fn a_row_that_was_copied_is_changed_and_goes_by_the_key_that_the_log_has() {
    for case in CASES {
        let (copied, logged, json) = (case.3, case.4, case.5);
        let copy = vec![
            begin(),
            field_of(fields(case)),
            change(RowChange { after: Some(row(copied, b"1")), ..RowChange::default() }),
            vgtid_of(gtid(5), Some(last(case))),
            commit(),
            begin(),
            vgtid_of(gtid(5), None),
            commit(),
            completed(),
        ];
        let one = |before: Option<Row>, after: Option<Row>| {
            change(RowChange { before, after, data_columns: None })
        };
        let update = vec![one(Some(row(logged, b"1")), Some(row(logged, b"2")))];
        let delete = vec![one(Some(row(logged, b"1")), None), one(None, Some(end()))];
        for (changes, wanted) in [(update, shown(json, 2)), (delete, shown("null", 9))] {
            let mut transaction = vec![begin(), field_of(fields(case))];
            transaction.extend(changes);
            transaction.extend([vgtid_of(gtid(6), None), commit()]);
            let scene = Scene::last(vec![events(copy.clone()), events(transaction)]);
            let runtime = RUNTIME.with(|r| r.clone());
            let server = runtime.block_on(play::<VStreamRequest, VStreamResponse>(vec![scene])).0;
            ends_with(Protocol::VStream, &server, &[wanted], case);
        }
    }
}

#[test]
fn it_is_so_by_sync_too() {
    for case in CASES {
        let of = |row| QueryResult { fields: fields(case), rows: vec![row] };
        let key = Row::of(&[Some(case.4)]);
        let key = QueryResult { fields: fields(case)[..1].to_vec(), rows: vec![key] };
        let at = |count, pk| Some(cursor(gtid(count), pk));
        let bare = SyncResponse::default;
        let mut responses = vec![
            SyncResponse { cursor: at(5, None), ..bare() },
            SyncResponse {
                result: vec![of(row(case.3, b"1"))],
                cursor: at(5, Some(last(case))),
                ..bare()
            },
            SyncResponse { cursor: at(5, None), ..bare() },
        ];
        let delete = SyncResponse {
            deletes: vec![DeletedRow { result: Some(key) }],
            result: vec![of(end())],
            cursor: at(6, None),
            ..bare()
        };
        for wanted in [shown(case.5, 1), shown("null", 9)] {
            let scene = Scene::last(responses.clone());
            let runtime = RUNTIME.with(|r| r.clone());
            let server = runtime.block_on(play::<SyncRequest, SyncResponse>(vec![scene])).0;
            ends_with(Protocol::Sync, &server, &[wanted], case);
            responses.push(delete.clone());
        }
    }
}
