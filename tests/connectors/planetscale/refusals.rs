//! Goal: what cannot be understood, or would lose something if it were, stops the run with an error
//! that names what to change; nothing of it is durable, and nothing is asked for twice.
//! Method: one script for each such thing; the shard must stay as it was, and the error must say so.

use std::time::{Duration, Instant};

use differential_upsert::store::{Access, Root};

use crate::planetscale::client::{Client, Protocol, Setting, runtime};
use crate::planetscale::proto::{
    self, Bitmap, Event, QueryResult, RowChange, RpcError, SyncRequest, SyncResponse,
    VStreamRequest, VStreamResponse, kind,
};
use crate::planetscale::rows::{self, PRIMARY};
use crate::planetscale::script::{
    Scene, begin, change, commit, completed, cursor, events, field, field_of, gtid, insert, play,
    row, synced, vgtid, vgtid_of,
};
use crate::planetscale::server::{Ending, Server, code};
use crate::texts::texts;

/// Runs until the error, which must hold all these words. Returns how often the server was asked.
fn fails(protocol: Protocol, server: &Server, words: &[&str], what: &str) {
    let (runtime, root) = (RUNTIME.with(|r| r.clone()), Root::open("mem:", Access::Write).unwrap());
    let setting = Setting::new(protocol, &["-"]);
    let mut client = Client::start(&runtime, &root, &setting, server.address);
    let begun = Instant::now();
    let error = loop {
        client.step(&runtime);
        if let Some(error) = client.error() {
            break error.to_string();
        }
        let late = begun.elapsed() > Duration::from_secs(20);
        assert!(!late, "{what}: no error, and the shard has {:?}", texts(&runtime, &root));
    };
    for word in words {
        assert!(error.contains(word), "{what}: {error:?} does not say {word:?}");
    }
    client.stop(&runtime);
    let rows = texts(&runtime, &root);
    assert!(rows.keys().all(|key| key.contains("\"id\":1,")), "{what}: {rows:?}");
}

thread_local! {
    static RUNTIME: std::rc::Rc<tokio::runtime::Runtime> = std::rc::Rc::new(runtime());
}

/// A copy of row 1, complete, and then this.
fn after_a_copy(more: Vec<Event>) -> Vec<VStreamResponse> {
    let copy = vec![
        begin(),
        field(),
        insert(&row(1, 0)),
        vgtid(5, Some((1, 'a'))),
        commit(),
        begin(),
        vgtid(5, None),
        commit(),
        completed(),
    ];
    vec![events(copy), events(more)]
}

fn vstream(scenes: Vec<Scene<VStreamResponse>>, words: &[&str], what: &str) {
    let runtime = RUNTIME.with(|r| r.clone());
    let (server, requests) = runtime.block_on(play::<VStreamRequest, _>(scenes));
    fails(Protocol::VStream, &server, words, what);
    assert_eq!(requests.lock().unwrap().len(), 1, "{what}: asked again");
}

fn sync(scenes: Vec<Scene<SyncResponse>>, words: &[&str], what: &str) {
    let runtime = RUNTIME.with(|r| r.clone());
    let (server, requests) = runtime.block_on(play::<SyncRequest, _>(scenes));
    fails(Protocol::Sync, &server, words, what);
    assert_eq!(requests.lock().unwrap().len(), 1, "{what}: asked again");
}

#[test]
fn what_a_vstream_must_not_say_stops_the_run() {
    let update = |data_columns| {
        let image = |n| Some(rows::row(&row(1, n), 4));
        change(RowChange { before: image(0), after: image(1), data_columns })
    };
    let bitmap = |cols: u8| Some(Bitmap { count: 4, cols: vec![cols] });
    let renamed = |at: usize| {
        let mut fields = rows::fields(4);
        fields.iter_mut().skip(at).enumerate().for_each(|(n, f)| f.name = format!("@{}", n + 1));
        field_of(fields)
    };
    let short = change(RowChange { after: Some(rows::row(&row(2, 0), 3)), ..RowChange::default() });
    let long = change(RowChange { after: Some(rows::row(&row(2, 0), 5)), ..RowChange::default() });
    let torn = change(RowChange {
        after: Some(proto::Row { lengths: vec![9, 1, -1, 1], values: b"2a0".to_vec() }),
        ..RowChange::default()
    });
    let end = || [vgtid(6, None), commit()];
    let fieldless = |mut pk: QueryResult| {
        pk.fields.clear();
        pk
    };
    let cases: Vec<(&str, Vec<Event>, &[&str])> = vec![
        (
            "an update without its key",
            [vec![begin(), field(), update(bitmap(0b1110))], end().into()].concat(),
            &["binlog_row_image", "FULL"],
        ),
        (
            "columns without names",
            [vec![begin(), renamed(0), insert(&row(2, 0))], end().into()].concat(),
            &["@1", "track_schema_versions"],
        ),
        (
            "a column without name",
            [vec![begin(), renamed(3), insert(&row(2, 0))], end().into()].concat(),
            &["@1"],
        ),
        ("too few values", [vec![begin(), field(), short], end().into()].concat(), &["columns"]),
        ("too many values", [vec![begin(), field(), long], end().into()].concat(), &["columns"]),
        ("a torn row", [vec![begin(), field(), torn], end().into()].concat(), &["columns"]),
        (
            "no key columns",
            [vec![begin(), field_of(rows::fields(5)[2..].to_vec())], end().into()].concat(),
            &["key"],
        ),
    ];
    for (what, more, words) in cases {
        vstream(vec![Scene::last(after_a_copy(more))], words, what);
    }
    // Rows first of all, before any description of the columns.
    let bare = vec![events([vec![begin(), insert(&row(2, 0))], end().into()].concat())];
    vstream(vec![Scene::last(bare)], &["columns", "never described"], "no FIELD");
    let last = fieldless(rows::key((2, 'a')));
    let copy = vec![begin(), field(), insert(&row(2, 0)), vgtid_of(gtid(5), Some(last)), commit()];
    vstream(
        vec![Scene::last(vec![events(copy)])],
        &["resume", "Vitess"],
        "a last key without columns",
    );
    // The stream goes on without our shard.
    let mut elsewhere = vgtid(6, None);
    for shard in &mut elsewhere.vgtid.as_mut().unwrap().shard_gtids {
        shard.shard = "80-".into();
    }
    let gone = vec![begin(), elsewhere, commit()];
    vstream(vec![Scene::last(after_a_copy(gone))], &["shard"], "a stream without our shard");
    let whole = [vec![begin(), field(), update(bitmap(0b1111)), vgtid(6, None)]].concat();
    let whole = Scene::new(
        after_a_copy([whole, vec![commit()]].concat()),
        Ending::status(code::UNAUTHENTICATED, "who is it?"),
    );
    vstream(vec![whole], &["password"], "an image of all columns is fine, the password is not");
}

#[test]
fn what_a_sync_must_not_say_stops_the_run() {
    let copied = || {
        vec![
            synced(&[], Some((5, None))),
            synced(&[row(1, 0)], Some((5, Some((1, 'a'))))),
            synced(&[], Some((5, None))),
        ]
    };
    let with = |result| SyncResponse { result: vec![result], ..synced(&[], Some((6, None))) };
    let mut unnamed = rows::result(&row(2, 0), 4);
    unnamed.fields[2].name = "@3".into();
    let short = QueryResult { fields: rows::fields(4), rows: vec![rows::row(&row(2, 0), 3)] };
    let mut keyless = rows::result(&row(2, 0), 4);
    keyless.fields.drain(..2);
    keyless.rows[0] = proto::Row::of(&[Some("x"), Some("1")]);
    let last = QueryResult { fields: vec![], ..rows::key((2, 'a')) };
    let pk = SyncResponse { cursor: Some(cursor(gtid(5), Some(last))), ..SyncResponse::default() };
    let mut other = synced(&[], Some((6, None)));
    other.cursor.as_mut().unwrap().shard = "80-".into();
    let cases: Vec<(&str, Vec<SyncResponse>, &[&str])> = vec![
        ("a column without name", [copied(), vec![with(unnamed)]].concat(), &["@3"]),
        ("too few values", [copied(), vec![with(short)]].concat(), &["columns"]),
        ("no key columns", [copied(), vec![with(keyless)]].concat(), &["key"]),
        ("a last key without columns", vec![synced(&[], Some((5, None))), pk], &["resume"]),
        ("another shard's cursor", [copied(), vec![other]].concat(), &["shard"]),
    ];
    for (what, responses, words) in cases {
        sync(vec![Scene::last(responses)], words, what);
    }
    let mut bare = rows::result(&row(2, 0), 4);
    bare.fields.clear();
    sync(vec![Scene::last(vec![with(bare)])], &["never described"], "no columns at all");
}

#[test]
fn a_definite_status_stops_the_run_in_band_and_out_of_band() {
    let cases = [
        (code::UNAUTHENTICATED, "who is it?", "password"),
        (code::PERMISSION_DENIED, "no SELECT", "user"),
        (code::NOT_FOUND, "no table t", "table"),
        (code::INVALID_ARGUMENT, "no such thing", "keyspace"),
        (code::UNIMPLEMENTED, "unknown method", "protocol"),
        (
            code::FAILED_PRECONDITION,
            "failed to build table replication plan for t: column n not found in table t",
            "column",
        ),
    ];
    for (code, text, word) in cases {
        let what = format!("status {code}");
        let ending = Ending::status(code, text);
        vstream(vec![Scene::new(vec![], ending.clone())], &[text, word], &what);
        sync(vec![Scene::new(vec![], ending)], &[text, word], &what);
        let error = RpcError { code, message: text.into() };
        let response = SyncResponse { error: Some(error), ..synced(&[row(2, 0)], Some((6, None))) };
        sync(vec![Scene::last(vec![response])], &[text, word], &what);
    }
}

/// A value that no JSON can be made of is that key's error, and the cursor passes it.
#[test]
fn a_value_that_cannot_be_read_is_its_keys_error_until_it_is_replaced() {
    let runtime = RUNTIME.with(|r| r.clone());
    let root = Root::open("mem:", Access::Write).unwrap();
    let field_of_text = || {
        let fields = vec![
            rows::field("id", kind::INT64, 63, "bigint", PRIMARY),
            rows::field("name", kind::VARCHAR, 255, "varchar(9)", 0),
        ];
        field_of(fields)
    };
    let put = |id: &[u8], name: &[u8]| {
        let row = proto::Row::of(&[Some(id), Some(name)]);
        change(RowChange { after: Some(row), ..RowChange::default() })
    };
    let pk = QueryResult {
        fields: vec![rows::field("id", kind::INT64, 63, "bigint", PRIMARY)],
        rows: vec![proto::Row::of(&[Some("2")])],
    };
    let copy = vec![
        begin(),
        field_of_text(),
        put(b"1", b"\xff"),
        put(b"2", b"fine"),
        vgtid_of(gtid(5), Some(pk)),
        commit(),
        begin(),
        vgtid_of(gtid(5), None),
        commit(),
        completed(),
    ];
    let mend = vec![begin(), field_of_text(), put(b"1", b"mended"), vgtid(6, None), commit()];
    let (server, requests) = runtime.block_on(play::<VStreamRequest, _>(vec![
        Scene::new(vec![events(copy)], Ending::status(code::UNAVAILABLE, "later")),
        Scene::last(vec![events(mend)]),
    ]));
    let setting = Setting::new(Protocol::VStream, &["-"]);
    let mut client = Client::start(&runtime, &root, &setting, server.address);
    let (begun, mut seen) = (Instant::now(), Vec::new());
    while seen.last().map(String::as_str) != Some(r#"{"id":1,"name":"mended"}"#) {
        client.step(&runtime);
        assert_eq!(client.error().map(|error| error.to_string()), None);
        if let Some(value) = texts(&runtime, &root).remove(r#"{"id":1}"#)
            && seen.last() != Some(&value)
        {
            seen.push(value);
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{seen:?}");
    }
    assert_eq!(seen.len(), 2, "{seen:?}");
    assert!(seen[0].starts_with("error: ") && seen[0].contains("name"), "{seen:?}");
    let given = crate::planetscale::script::place_of(&requests.lock().unwrap()[1]);
    assert_eq!(given, (gtid(5), None), "the cursor has passed it");
    client.stop(&runtime);
}
