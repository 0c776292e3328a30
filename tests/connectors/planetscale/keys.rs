//! Goal: a key has one row, whatever is said of it: a row that moves to another shard of the database
//! stays; `key=` of columns that are not unique is refused; the columns of a key may come in any order; and
//! no order of keys is presumed that is not MySQL's. Method: scripts of responses.

use std::time::{Duration, Instant};

use differential_upsert::store::{Access, Root};
use prost::Message;

use crate::planetscale::client::{Client, Protocol, Setting, runtime};
use crate::planetscale::proto::{
    self, DeletedRow, Event, Field, QueryResult, RowChange, ShardGtid, SyncRequest, SyncResponse,
    VStreamRequest, VStreamResponse, kind,
};
use crate::planetscale::rows::{self, PRIMARY, field};
use crate::planetscale::script::{
    Scene, begin, change, commit, completed, cursor, events, field as fields, field_of, gtid,
    insert, play, row, synced, vgtid, vgtid_of,
};
use crate::texts::texts;

thread_local! {
    static RUNTIME: std::rc::Rc<tokio::runtime::Runtime> = std::rc::Rc::new(runtime());
}

/// Plays one call to a client, until its shard has this, or it fails.
fn run<R, M>(
    setting: &Setting,
    responses: Vec<M>,
    done: impl Fn(&[String]) -> bool,
) -> Result<Vec<String>, String>
where
    R: Message + Default + PartialEq + 'static,
    M: Message + Clone + 'static,
{
    let (runtime, root) = (RUNTIME.with(|r| r.clone()), Root::open("mem:", Access::Write).unwrap());
    let (server, _) = runtime.block_on(play::<R, M>(vec![Scene::last(responses)]));
    let mut client = Client::start(&runtime, &root, setting, server.address);
    let begun = Instant::now();
    loop {
        client.step(&runtime);
        if let Some(error) = client.error() {
            client.stop(&runtime);
            return Err(error.to_string());
        }
        let found: Vec<String> = texts(&runtime, &root).into_values().collect();
        if done(&found) {
            client.stop(&runtime);
            return Ok(found);
        }
        assert!(begun.elapsed() < Duration::from_secs(5), "{found:?}");
    }
}

fn has(wanted: &'static str) -> impl Fn(&[String]) -> bool {
    move |found| found.iter().any(|value| value.contains(wanted))
}

/// Events of one of two shards, the other one at its sixth transaction.
fn of(shard: &str, events: Vec<Event>) -> VStreamResponse {
    let other = if shard == "-80" { "80-" } else { "-80" };
    let of = |mut event: Event| {
        event.shard = shard.into();
        if let Some(fields) = &mut event.field_event {
            fields.shard = shard.into();
        }
        if let Some(rows) = &mut event.row_event {
            rows.shard = shard.into();
        }
        if let Some(vgtid) = &mut event.vgtid {
            vgtid.shard_gtids[0].shard = shard.into();
            let (keyspace, shard) = (vgtid.shard_gtids[0].keyspace.clone(), other.to_string());
            let other = ShardGtid { keyspace, shard, gtid: gtid(5), ..ShardGtid::default() };
            vgtid.shard_gtids.push(other);
        }
        event
    };
    VStreamResponse { events: events.into_iter().map(of).collect() }
}

/// An insert in one shard and a delete in the other are one move; streams have no order between them.
#[test]
fn a_row_that_moves_to_another_shard_stays_whichever_comes_first() {
    let copied = |rows: Vec<Event>| {
        let last = (!rows.is_empty()).then_some((1, 'a'));
        let ends = [vgtid(5, last), commit(), begin(), vgtid(5, None), commit(), completed()];
        [vec![begin(), fields()], rows, ends.into()].concat()
    };
    let delete = RowChange { before: Some(rows::row(&row(1, 0), 4)), ..RowChange::default() };
    let gone =
        || of("-80", vec![begin(), fields(), change(delete.clone()), vgtid(6, None), commit()]);
    let come = || of("80-", vec![begin(), fields(), insert(&row(1, 7)), vgtid(6, None), commit()]);
    let last = || of("80-", vec![begin(), insert(&row(9, 9)), vgtid(7, None), commit()]);
    for (first, second) in [(gone(), come()), (come(), gone())] {
        let responses = vec![
            of("-80", copied(vec![insert(&row(1, 0))])),
            of("80-", copied(Vec::new())),
            first,
            second,
            last(),
        ];
        let setting = Setting::new(Protocol::VStream, &["-80", "80-"]);
        let found = run::<VStreamRequest, _>(&setting, responses, has("\"id\":9")).unwrap();
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("\"n\":7"), "{found:?}");
    }
}

fn named(protocol: Protocol, key: &str) -> Setting {
    Setting { key: vec![key.into()], ..Setting::new(protocol, &["-"]) }
}

#[test]
fn a_key_that_two_rows_have_is_refused() {
    let says = |error: String| {
        let words = ["two rows", r#"{"region":"a"}"#, "unique", "key="];
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    };
    let copy =
        vec![begin(), fields(), insert(&row(1, 0)), insert(&row(2, 0)), vgtid(5, Some((2, 'a')))];
    let copy = events([copy, vec![commit()]].concat());
    let setting = named(Protocol::VStream, "region");
    says(run::<VStreamRequest, _>(&setting, vec![copy], |_| false).unwrap_err());
    let synced = vec![
        synced(&[], Some((5, None))),
        synced(&[row(1, 0)], Some((5, Some((1, 'a'))))),
        synced(&[row(2, 0)], Some((5, Some((2, 'a'))))),
    ];
    let setting = named(Protocol::Sync, "region");
    says(run::<SyncRequest, _>(&setting, synced, |_| false).unwrap_err());
}

/// Catching up in a copy, Vitess sends rows again that were copied, and rows that will be
/// (vitess go/vt/vttablet/tabletserver/vstreamer/uvstreamer.go, `shouldSendEventForTable`).
#[test]
fn one_row_that_comes_twice_is_no_other() {
    let image = |id, n| Some(rows::row(&row(id, n), 4));
    let update = |id, from, to| {
        change(RowChange { before: image(id, from), after: image(id, to), data_columns: None })
    };
    let delete = |id, n| change(RowChange { before: image(id, n), ..RowChange::default() });
    let transaction = |changes: Vec<Event>, at, pk: Option<i64>| {
        let end = vec![vgtid(at, pk.map(|id| (id, 'a'))), commit()];
        events([vec![begin(), fields()], changes, end].concat())
    };
    // Of `n`, each value is of one row at a time, and goes from row to row.
    let responses = vec![
        transaction(vec![insert(&row(1, 10))], 5, Some(1)),
        transaction(vec![update(1, 10, 11), insert(&row(3, 10))], 6, Some(1)),
        transaction(vec![insert(&row(1, 11))], 6, Some(1)),
        transaction(vec![insert(&row(3, 10))], 6, Some(3)),
        events(vec![begin(), vgtid(6, None), commit(), completed()]),
        transaction(vec![delete(3, 10), insert(&row(4, 10))], 7, None),
        transaction(vec![delete(4, 10), update(1, 11, 10), insert(&row(5, 99))], 8, None),
    ];
    let found = run::<VStreamRequest, _>(&named(Protocol::VStream, "n"), responses, has("99"));
    assert_eq!(found.unwrap().len(), 2);
}

/// A table has its columns in the order in which they were added, a key and a delete in the key's.
#[test]
fn the_columns_of_a_key_come_in_any_order() {
    let (z, a) = (
        field("z", kind::INT64, 63, "bigint", PRIMARY),
        field("a", kind::INT64, 63, "bigint", PRIMARY),
    );
    let result = |fields: [&Field; 2], values: [&str; 2]| QueryResult {
        fields: fields.into_iter().cloned().collect(),
        rows: vec![proto::Row::of(&values.map(Some))],
    };
    let (table, key) = ([&z, &a], [&a, &z]);
    let bare = SyncResponse::default;
    let responses = vec![
        SyncResponse { cursor: Some(cursor(gtid(5), None)), ..bare() },
        SyncResponse {
            result: vec![result(table, ["1", "2"])],
            cursor: Some(cursor(gtid(5), Some(result(key, ["2", "1"])))),
            ..bare()
        },
        SyncResponse { cursor: Some(cursor(gtid(5), None)), ..bare() },
        SyncResponse {
            deletes: vec![DeletedRow { result: Some(result(key, ["2", "1"])) }],
            result: vec![result(table, ["9", "9"])],
            cursor: Some(cursor(gtid(6), None)),
            ..bare()
        },
    ];
    let setting = Setting::new(Protocol::Sync, &["-"]);
    let found = run::<SyncRequest, _>(&setting, responses, has("9")).unwrap();
    assert_eq!(found, [r#"{"a":9,"z":9}"#]);
    // ALTER TABLE t MODIFY a BIGINT FIRST.
    let of = |fields: [&Field; 2], values: [&str; 2], at, pk| {
        let row =
            RowChange { after: Some(proto::Row::of(&values.map(Some))), ..RowChange::default() };
        let fields = field_of(fields.into_iter().cloned().collect());
        events(vec![begin(), fields, change(row), vgtid_of(gtid(at), pk), commit()])
    };
    let responses = vec![
        of(table, ["1", "2"], 5, Some(result(key, ["2", "1"]))),
        events(vec![completed()]),
        of(key, ["2", "9"], 6, None),
    ];
    let setting = Setting::new(Protocol::VStream, &["-"]);
    let found = run::<VStreamRequest, _>(&setting, responses, has("9")).unwrap();
    assert_eq!(found, [r#"{"a":2,"z":1}"#, r#"{"a":2,"z":9}"#]);
}

/// The order of an ENUM is that of its members, that of a text with a collation of bytes is not quite that
/// of its bytes; the type of both is that of bytes, and a last key says no more (vitess
/// go/vt/vttablet/tabletserver/vstreamer/rowstreamer.go, `pkfields`; go/sqltypes/type.go, `modifyType`).
#[test]
fn a_copy_goes_on_in_whatever_order_mysql_has() {
    let cases = [
        (kind::BINARY, "enum('small','large')", 46, ["small", "large"]),
        (kind::ENUM, "enum('small','large')", 255, ["small", "large"]),
        // With PAD SPACE, as a space follows: less than "a" alone.
        (kind::VARBINARY, "varchar(9)", 46, ["a\t", "a"]),
        (kind::VARCHAR, "varchar(9)", 255, ["a", "B"]),
    ];
    for (kind, column_type, charset, keys) in cases {
        let mut columns = vec![field("k", kind, charset, column_type, PRIMARY)];
        let batch = |key: &str, at| {
            let mut fields = columns.clone();
            fields.iter_mut().for_each(|field| (field.charset, field.flags) = (0, 0));
            let row = proto::Row::of(&[Some(key)]);
            let pk = QueryResult { fields, rows: vec![row.clone()] };
            let row = change(RowChange { after: Some(row), ..RowChange::default() });
            events(vec![
                begin(),
                field_of(columns.clone()),
                row,
                vgtid_of(gtid(at), Some(pk)),
                commit(),
            ])
        };
        let mut responses: Vec<VStreamResponse> = keys.iter().map(|key| batch(key, 5)).collect();
        responses.push(events(vec![completed()]));
        let setting = Setting::new(Protocol::VStream, &["-"]);
        let found = run::<VStreamRequest, _>(&setting, responses, |found| found.len() == 2);
        assert!(found.is_ok(), "{column_type}: {found:?}");
        columns.clear();
    }
}
