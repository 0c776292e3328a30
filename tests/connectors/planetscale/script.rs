//! Owns servers that play a script: for each call the responses that it gets, and how it ends.

use std::sync::{Arc, Mutex};

use prost::Message;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::planetscale::model::{Key, Row};
use crate::planetscale::proto::{
    Event, EventType, FieldEvent, QueryResult, RowChange, RowEvent, ShardGtid, SyncRequest,
    SyncResponse, TableCursor, TableLastPk, VGtid, VStreamRequest, VStreamResponse,
};
use crate::planetscale::rows;
use crate::planetscale::server::{Call, Ending, Server};
use crate::planetscale::world::{KEYSPACE, TABLE};

/// What one call gets.
#[derive(Clone, Debug)]
pub struct Scene<M> {
    pub responses: Vec<M>,
    pub ending: Ending,
}

impl<M> Scene<M> {
    pub fn new(responses: Vec<M>, ending: Ending) -> Scene<M> {
        Scene { responses, ending }
    }

    /// Nothing comes after it.
    pub fn last(responses: Vec<M>) -> Scene<M> {
        Scene { responses, ending: Ending::Silence }
    }
}

/// The requests that came, in order.
pub type Requests<R> = Arc<Mutex<Vec<R>>>;

/// Plays scenes, one a call. A call after the last gets the last again if it asks for the same: the
/// client had no patience. Else it gets silence.
pub async fn play<R, M>(scenes: Vec<Scene<M>>) -> (Server, Requests<R>)
where
    R: Message + Default + PartialEq + 'static,
    M: Message + Clone + 'static,
{
    let (server, mut calls): (Server, UnboundedReceiver<Call>) = Server::start().await;
    let requests = Requests::<R>::default();
    let seen = Arc::clone(&requests);
    let mut scenes = scenes.into_iter();
    let mut last = None;
    tokio::spawn(async move {
        while let Some(mut call) = calls.recv().await {
            let same = seen.lock().expect("no panic").last() == Some(&call.message::<R>());
            seen.lock().expect("no panic").push(call.message::<R>());
            let again = last.clone().filter(|_| same).unwrap_or(Scene::last(Vec::new()));
            let scene = scenes.next().unwrap_or(again);
            last = Some(scene.clone());
            tokio::spawn(async move {
                for response in scene.responses {
                    if call.send(&response).await.is_err() {
                        return;
                    }
                }
                // What was sent has time to arrive: a reset may overtake it.
                for _ in 0..50 {
                    tokio::task::yield_now().await;
                }
                call.end(scene.ending).await;
            });
        }
    });
    (server, requests)
}

pub const SERVER: &str = "11111111-0000-11ee-8000-000000000001";

/// The GTIDs of the first transactions.
pub fn gtid(count: u64) -> String {
    format!("MySQL56/{SERVER}:1-{count}")
}

pub fn row(id: i64, n: u64) -> Row {
    Row { id, region: 'a', name: None, n, extra: None }
}

fn event(kind: EventType) -> Event {
    Event { keyspace: KEYSPACE.into(), shard: "-".into(), ..Event::new(kind) }
}

pub fn begin() -> Event {
    event(EventType::Begin)
}

pub fn commit() -> Event {
    event(EventType::Commit)
}

pub fn completed() -> Event {
    event(EventType::CopyCompleted)
}

/// A FIELD event of any columns.
pub fn field_of(fields: Vec<crate::planetscale::proto::Field>) -> Event {
    let (table_name, keyspace) = (format!("{KEYSPACE}.{TABLE}"), KEYSPACE.to_string());
    let field = FieldEvent { table_name, fields, keyspace, shard: "-".into() };
    Event { field_event: Some(field), ..event(EventType::Field) }
}

pub fn field() -> Event {
    field_of(rows::fields(4))
}

/// A ROW event of any change.
pub fn change(change: RowChange) -> Event {
    let (table_name, keyspace) = (format!("{KEYSPACE}.{TABLE}"), KEYSPACE.to_string());
    let row = RowEvent { table_name, row_changes: vec![change], keyspace, shard: "-".into() };
    Event { row_event: Some(row), ..event(EventType::Row) }
}

pub fn insert(row: &Row) -> Event {
    change(RowChange { after: Some(rows::row(row, 4)), ..RowChange::default() })
}

/// A VGTID, of the one shard.
pub fn vgtid(count: u64, pk: Option<Key>) -> Event {
    vgtid_of(gtid(count), pk.map(rows::key))
}

pub fn vgtid_of(gtid: String, lastpk: Option<QueryResult>) -> Event {
    let last = |lastpk| TableLastPk { table_name: TABLE.into(), lastpk: Some(lastpk) };
    let shard = ShardGtid {
        keyspace: KEYSPACE.into(),
        shard: "-".into(),
        gtid,
        table_p_ks: lastpk.map(last).into_iter().collect(),
    };
    Event { vgtid: Some(VGtid { shard_gtids: vec![shard] }), ..event(EventType::Vgtid) }
}

pub fn events(events: Vec<Event>) -> VStreamResponse {
    VStreamResponse { events }
}

/// The one shard's place in a request, the last key as `id`.
pub fn place_of(request: &VStreamRequest) -> (String, Option<Key>) {
    let shards = &request.vgtid.as_ref().expect("a VGTID").shard_gtids;
    let [shard] = &shards[..] else { panic!("one shard: {shards:?}") };
    let pk = shard.table_p_ks.first().and_then(|pk| pk.lastpk.as_ref());
    (shard.gtid.clone(), pk.map(|pk| rows::read_key(pk).expect("a key")))
}

pub fn cursor(position: String, pk: Option<QueryResult>) -> TableCursor {
    TableCursor { shard: "-".into(), keyspace: KEYSPACE.into(), position, last_known_pk: pk }
}

/// A response with inserts, and a cursor.
pub fn synced(inserts: &[Row], at: Option<(u64, Option<Key>)>) -> SyncResponse {
    SyncResponse {
        result: inserts.iter().map(|row| rows::result(row, 4)).collect(),
        cursor: at.map(|(count, pk)| cursor(gtid(count), pk.map(rows::key))),
        ..SyncResponse::default()
    }
}

/// A request's place, the last key as `id`.
pub fn place_of_sync(request: &SyncRequest) -> (String, Option<Key>) {
    let cursor = request.cursor.as_ref().expect("a cursor");
    let pk = cursor.last_known_pk.as_ref().map(|pk| rows::read_key(pk).expect("a key"));
    (cursor.position.clone(), pk)
}
