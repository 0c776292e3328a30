//! Goal: the server itself tells the truth, or nothing that is tested against it means anything.
//! Method: the simplest client there is, which shares nothing with the connector: it never stops
//! and never resumes, applies what comes in the order in which it comes, and must end with the table.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use serde_json::{Map, Value};

use crate::planetscale::model::Row;
use crate::planetscale::proto::{
    self, EventType, Field, Filter, QueryResult, Rule, ShardGtid, SyncRequest, SyncResponse,
    TableCursor, VGtid, VStreamRequest, VStreamResponse,
};
use crate::planetscale::world::{KEYSPACE, SYNC, TABLE, VSTREAM, Weather, World};
use crate::random::{Random, for_seeds};

type Table = BTreeMap<String, Value>;

/// Asks, and folds the responses until no more come and the fold is the table.
async fn follow<M: Message + Default>(
    world: &World,
    port: std::net::SocketAddr,
    path: &str,
    request: impl Message,
    done: impl Fn(&World) -> bool,
    mut fold: impl FnMut(M),
) {
    let stream = tokio::net::TcpStream::connect(port).await.unwrap();
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    let driver = tokio::spawn(connection);
    let head = http::Request::post(format!("http://localhost{path}"));
    let head = head.header("te", "trailers").header("content-type", "application/grpc");
    let (response, mut body) = client.send_request(head.body(()).unwrap(), false).unwrap();
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(request.encoded_len() as u32);
    request.encode(&mut framed).unwrap();
    body.send_data(framed.freeze(), true).unwrap();
    let mut body = response.await.unwrap().into_body();
    let mut unread = BytesMut::new();
    loop {
        // Nothing more within some rounds of the runtime: all that there is has come.
        let mut chunk: Option<Option<Result<Bytes, _>>> = None;
        for _ in 0..1000 {
            tokio::select! {
                biased;
                some = body.data() => {
                    chunk = Some(some);
                    break;
                }
                () = tokio::task::yield_now() => {}
            }
        }
        let Some(chunk) = chunk else {
            if done(world) {
                break;
            }
            world.with(|state| state.model.tick());
            continue;
        };
        let chunk = chunk.expect("it does not end").expect("it does not fail");
        body.flow_control().release_capacity(chunk.len()).unwrap();
        unread.put(chunk);
        while unread.len() >= 5 {
            let length = u32::from_be_bytes(unread[1..5].try_into().unwrap()) as usize;
            if unread.len() < 5 + length {
                break;
            }
            let message = unread.split_to(5 + length).split_off(5);
            fold(M::decode(message).unwrap());
        }
    }
    driver.abort();
}

fn value(fields: &[Field], row: &proto::Row) -> (String, Value) {
    assert_eq!(fields.len(), row.lengths.len(), "as many values as fields");
    let mut value = Map::new();
    for (field, text) in fields.iter().zip(row.texts()) {
        let json = match (field.name.as_str(), text) {
            ("id" | "n", Some(text)) => serde_json::from_str(&text).unwrap(),
            ("extra", None) => continue,
            (_, text) => text.map_or(Value::Null, Value::String),
        };
        value.insert(field.name.clone(), json);
    }
    let key = format!("{} {}", value["id"], value["region"]);
    (key, Value::Object(value))
}

/// Puts the columns that were not sent back into a row.
fn keep(value: &mut Value, before: Option<&Value>, fields: &[Field], sent: u8) {
    let row = value.as_object_mut().unwrap();
    for (_, field) in fields.iter().enumerate().filter(|(at, _)| sent >> at & 1 == 0) {
        row.remove(&field.name);
        let kept = before.expect("an update of a row that is there").get(&field.name);
        row.extend(kept.map(|kept| (field.name.clone(), kept.clone())));
    }
}

fn expected(world: &World) -> Table {
    let json = |row: Row| {
        let value = row.json();
        (format!("{} {}", value["id"], value["region"]), value)
    };
    world.look(|state| state.model.table().into_values().map(json).collect())
}

fn vstream_request(shards: &[String]) -> VStreamRequest {
    let gtid = |shard: &String| ShardGtid {
        keyspace: KEYSPACE.into(),
        shard: shard.clone(),
        ..ShardGtid::default()
    };
    let rule = Rule { r#match: TABLE.into(), filter: format!("select * from {TABLE}") };
    VStreamRequest {
        tablet_type: 1,
        vgtid: Some(VGtid { shard_gtids: shards.iter().map(gtid).collect() }),
        filter: Some(Filter { rules: vec![rule] }),
        flags: None,
    }
}

fn quiet() -> Weather {
    Weather { calm: true, responses_max: 0, authorization: None }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn a_client_that_is_never_cut_off_ends_with_the_table_by_vstream() {
    for_seeds("PLANETSCALE", 100, |seed| {
        let random = Random::new(seed);
        let shards = 1 + seed as usize % 2;
        let world = World::new(&random, shards, quiet());
        (0..20).for_each(|_| world.with(|state| state.model.transact()));
        runtime().block_on(async {
            let server = world.serve().await;
            let (mut table, mut fields) = (Table::new(), BTreeMap::new());
            let (mut left, mut responses) = (30, 0);
            let request = vstream_request(&world.look(|state| state.model.serving()));
            let done = {
                let last = std::cell::Cell::new(0);
                move |_: &World| last.replace(last.get() + 1) > 3
            };
            let fold = |response: VStreamResponse| {
                responses += 1;
                for event in response.events {
                    if event.r#type == EventType::Field as i32 {
                        // Each shard comes to a change of columns at a time of its own.
                        fields.insert(event.shard, event.field_event.unwrap().fields);
                    } else if let Some(event) = event.row_event {
                        assert_eq!(event.table_name, "ks.t");
                        let fields = &fields[&event.shard];
                        for change in event.row_changes {
                            let removed = |before| table.remove(&value(fields, &before).0);
                            let is_new = change.before.is_none();
                            let before = change.before.and_then(removed);
                            if let Some(after) = change.after {
                                let (key, mut value) = value(fields, &after);
                                // What an insert does not name is NULL, and reads so.
                                if let Some(sent) = change.data_columns.filter(|_| !is_new) {
                                    keep(&mut value, before.as_ref(), fields, sent.cols[0]);
                                }
                                table.insert(key, value);
                            }
                        }
                    }
                }
                if left > 0 {
                    left -= 1;
                    world.with(|state| state.model.transact());
                    if left == 10 && seed % 3 == 0 {
                        world.with(|state| state.model.reshard([2, 1][shards - 1]));
                    }
                }
            };
            follow(&world, server.address, VSTREAM, request, done, fold).await;
            assert_eq!(table, expected(&world), "seed {seed}, {responses} responses");
        });
        world.look(|state| assert_eq!(state.ledger.faults, [""; 0], "seed {seed}"));
    });
}

#[test]
fn a_client_that_is_never_cut_off_ends_with_the_table_by_sync() {
    for_seeds("PLANETSCALE", 100, |seed| {
        let random = Random::new(seed);
        let world = World::new(&random, 1 + seed as usize % 2, quiet());
        (0..20).for_each(|_| world.with(|state| state.model.transact()));
        runtime().block_on(async {
            let server = world.serve().await;
            let (mut table, mut left) = (Table::new(), 30);
            for shard in world.look(|state| state.model.serving()) {
                let request = SyncRequest {
                    table_name: TABLE.into(),
                    cursor: Some(TableCursor {
                        shard,
                        keyspace: KEYSPACE.into(),
                        ..TableCursor::default()
                    }),
                    tablet_type: 1,
                    include_inserts: true,
                    include_updates: true,
                    include_deletes: true,
                    ..SyncRequest::default()
                };
                let done = {
                    let last = std::cell::Cell::new(0);
                    move |_: &World| last.replace(last.get() + 1) > 3
                };
                let fold = |response: SyncResponse| {
                    let first = |result: &QueryResult| value(&result.fields, &result.rows[0]);
                    for deleted in response.deletes {
                        table.remove(&first(&deleted.result.unwrap()).0);
                    }
                    for result in response.result {
                        for row in &result.rows {
                            let (key, value) = value(&result.fields, row);
                            table.insert(key, value);
                        }
                    }
                    for updated in response.updates {
                        table.remove(&first(&updated.before.unwrap()).0);
                        let (key, value) = first(&updated.after.unwrap());
                        table.insert(key, value);
                    }
                    if left > 0 && response.error.is_none() {
                        left -= 1;
                        world.with(|state| {
                            let shards = state.model.serving();
                            state.model.write(&shards[0], 2);
                        });
                    }
                };
                follow(&world, server.address, SYNC, request, done, fold).await;
                left = 0;
            }
            assert_eq!(table, expected(&world), "seed {seed}");
        });
        world.look(|state| assert_eq!(state.ledger.faults, [""; 0], "seed {seed}"));
    });
}
