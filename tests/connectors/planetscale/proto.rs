//! Owns the messages of both protocols as this server writes and reads them, typed by hand from the
//! public definitions (vitess `proto/{vtgate,binlogdata,query,vtrpc}.proto`, psdb
//! `psdbconnect/v1alpha1/connect.proto`). Nothing of it is shared with the connector, so a wrong
//! number on either side shows.

use prost::{Enumeration, Message};

/// `query.Type`, those that a column can have.
pub mod kind {
    pub const INT8: i32 = 257;
    pub const UINT8: i32 = 770;
    pub const INT16: i32 = 259;
    pub const UINT16: i32 = 772;
    pub const INT24: i32 = 261;
    pub const UINT24: i32 = 774;
    pub const INT32: i32 = 263;
    pub const UINT32: i32 = 776;
    pub const INT64: i32 = 265;
    pub const UINT64: i32 = 778;
    pub const FLOAT32: i32 = 1035;
    pub const FLOAT64: i32 = 1036;
    pub const TIMESTAMP: i32 = 2061;
    pub const DATE: i32 = 2062;
    pub const TIME: i32 = 2063;
    pub const DATETIME: i32 = 2064;
    pub const YEAR: i32 = 785;
    pub const DECIMAL: i32 = 18;
    pub const TEXT: i32 = 6163;
    pub const BLOB: i32 = 10260;
    pub const VARCHAR: i32 = 6165;
    pub const VARBINARY: i32 = 10262;
    pub const CHAR: i32 = 6167;
    pub const BINARY: i32 = 10264;
    pub const BIT: i32 = 2073;
    pub const ENUM: i32 = 2074;
    pub const SET: i32 = 2075;
    pub const GEOMETRY: i32 = 2077;
    pub const JSON: i32 = 2078;
}

/// `query.Field`.
#[derive(Clone, PartialEq, Message)]
pub struct Field {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(int32, tag = "2")]
    pub r#type: i32,
    #[prost(string, tag = "3")]
    pub table: String,
    #[prost(uint32, tag = "7")]
    pub column_length: u32,
    #[prost(uint32, tag = "8")]
    pub charset: u32,
    #[prost(uint32, tag = "10")]
    pub flags: u32,
    #[prost(string, tag = "11")]
    pub column_type: String,
}

/// `query.Row`: the lengths of the values (-1: NULL), and the values without anything between.
#[derive(Clone, PartialEq, Message)]
pub struct Row {
    #[prost(sint64, repeated, tag = "1")]
    pub lengths: Vec<i64>,
    #[prost(bytes = "vec", tag = "2")]
    pub values: Vec<u8>,
}

impl Row {
    pub fn of<V: AsRef<[u8]>>(values: &[Option<V>]) -> Row {
        let mut row = Row::default();
        for value in values {
            let Some(value) = value else {
                row.lengths.push(-1);
                continue;
            };
            row.lengths.push(value.as_ref().len() as i64);
            row.values.extend_from_slice(value.as_ref());
        }
        row
    }

    /// The values, as text.
    pub fn texts(&self) -> Vec<Option<String>> {
        let mut rest = &self.values[..];
        let text = |length: &i64| {
            let (value, after) = rest.split_at(usize::try_from(*length).ok()?);
            rest = after;
            Some(String::from_utf8(value.to_vec()).expect("a key of text"))
        };
        self.lengths.iter().map(text).collect()
    }
}

/// `query.QueryResult`.
#[derive(Clone, PartialEq, Message)]
pub struct QueryResult {
    #[prost(message, repeated, tag = "1")]
    pub fields: Vec<Field>,
    #[prost(message, repeated, tag = "4")]
    pub rows: Vec<Row>,
}

/// `vtrpc.RPCError`.
#[derive(Clone, PartialEq, Message)]
pub struct RpcError {
    #[prost(string, tag = "2")]
    pub message: String,
    #[prost(int32, tag = "3")]
    pub code: i32,
}

/// `binlogdata.VEventType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum EventType {
    Unknown = 0,
    Begin = 2,
    Commit = 3,
    Ddl = 5,
    Other = 11,
    Row = 12,
    Field = 13,
    Heartbeat = 14,
    Vgtid = 15,
    Journal = 16,
    Version = 17,
    CopyCompleted = 20,
}

/// `binlogdata.RowChange.Bitmap`.
#[derive(Clone, PartialEq, Message)]
pub struct Bitmap {
    #[prost(int64, tag = "1")]
    pub count: i64,
    #[prost(bytes = "vec", tag = "2")]
    pub cols: Vec<u8>,
}

/// `binlogdata.RowChange`.
#[derive(Clone, PartialEq, Message)]
pub struct RowChange {
    #[prost(message, optional, tag = "1")]
    pub before: Option<Row>,
    #[prost(message, optional, tag = "2")]
    pub after: Option<Row>,
    #[prost(message, optional, tag = "3")]
    pub data_columns: Option<Bitmap>,
}

/// `binlogdata.RowEvent`.
#[derive(Clone, PartialEq, Message)]
pub struct RowEvent {
    #[prost(string, tag = "1")]
    pub table_name: String,
    #[prost(message, repeated, tag = "2")]
    pub row_changes: Vec<RowChange>,
    #[prost(string, tag = "3")]
    pub keyspace: String,
    #[prost(string, tag = "4")]
    pub shard: String,
}

/// `binlogdata.FieldEvent`.
#[derive(Clone, PartialEq, Message)]
pub struct FieldEvent {
    #[prost(string, tag = "1")]
    pub table_name: String,
    #[prost(message, repeated, tag = "2")]
    pub fields: Vec<Field>,
    #[prost(string, tag = "3")]
    pub keyspace: String,
    #[prost(string, tag = "4")]
    pub shard: String,
}

/// `binlogdata.TableLastPK`.
#[derive(Clone, PartialEq, Message)]
pub struct TableLastPk {
    #[prost(string, tag = "1")]
    pub table_name: String,
    #[prost(message, optional, tag = "3")]
    pub lastpk: Option<QueryResult>,
}

/// `binlogdata.ShardGtid`.
#[derive(Clone, PartialEq, Message)]
pub struct ShardGtid {
    #[prost(string, tag = "1")]
    pub keyspace: String,
    #[prost(string, tag = "2")]
    pub shard: String,
    #[prost(string, tag = "3")]
    pub gtid: String,
    #[prost(message, repeated, tag = "4")]
    pub table_p_ks: Vec<TableLastPk>,
}

/// `binlogdata.VGtid`.
#[derive(Clone, PartialEq, Message)]
pub struct VGtid {
    #[prost(message, repeated, tag = "1")]
    pub shard_gtids: Vec<ShardGtid>,
}

/// `binlogdata.KeyspaceShard`.
#[derive(Clone, PartialEq, Message)]
pub struct KeyspaceShard {
    #[prost(string, tag = "1")]
    pub keyspace: String,
    #[prost(string, tag = "2")]
    pub shard: String,
}

/// `binlogdata.Journal`.
#[derive(Clone, PartialEq, Message)]
pub struct Journal {
    #[prost(int64, tag = "1")]
    pub id: i64,
    /// 1: shards.
    #[prost(int32, tag = "2")]
    pub migration_type: i32,
    #[prost(message, repeated, tag = "5")]
    pub shard_gtids: Vec<ShardGtid>,
    #[prost(message, repeated, tag = "6")]
    pub participants: Vec<KeyspaceShard>,
}

/// `binlogdata.VEvent`.
#[derive(Clone, PartialEq, Message)]
pub struct Event {
    #[prost(enumeration = "EventType", tag = "1")]
    pub r#type: i32,
    #[prost(int64, tag = "2")]
    pub timestamp: i64,
    #[prost(string, tag = "4")]
    pub statement: String,
    #[prost(message, optional, tag = "5")]
    pub row_event: Option<RowEvent>,
    #[prost(message, optional, tag = "6")]
    pub field_event: Option<FieldEvent>,
    #[prost(message, optional, tag = "7")]
    pub vgtid: Option<VGtid>,
    #[prost(message, optional, tag = "8")]
    pub journal: Option<Journal>,
    #[prost(int64, tag = "20")]
    pub current_time: i64,
    #[prost(string, tag = "22")]
    pub keyspace: String,
    #[prost(string, tag = "23")]
    pub shard: String,
}

impl Event {
    pub fn new(kind: EventType) -> Event {
        Event { r#type: kind as i32, ..Event::default() }
    }
}

/// `binlogdata.Rule`.
#[derive(Clone, PartialEq, Message)]
pub struct Rule {
    #[prost(string, tag = "1")]
    pub r#match: String,
    #[prost(string, tag = "2")]
    pub filter: String,
}

/// `binlogdata.Filter`.
#[derive(Clone, PartialEq, Message)]
pub struct Filter {
    #[prost(message, repeated, tag = "1")]
    pub rules: Vec<Rule>,
}

/// `vtgate.VStreamFlags`.
#[derive(Clone, PartialEq, Message)]
pub struct VStreamFlags {
    #[prost(bool, tag = "1")]
    pub minimize_skew: bool,
    #[prost(uint32, tag = "2")]
    pub heartbeat_interval: u32,
    #[prost(bool, tag = "3")]
    pub stop_on_reshard: bool,
    #[prost(string, tag = "4")]
    pub cells: String,
    #[prost(bool, tag = "8")]
    pub include_reshard_journal_events: bool,
    #[prost(bool, tag = "10")]
    pub exclude_keyspace_from_table_name: bool,
}

/// `vtgate.VStreamRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct VStreamRequest {
    /// `topodata.TabletType`: 1 primary, 2 replica, 3 read-only.
    #[prost(int32, tag = "2")]
    pub tablet_type: i32,
    #[prost(message, optional, tag = "3")]
    pub vgtid: Option<VGtid>,
    #[prost(message, optional, tag = "4")]
    pub filter: Option<Filter>,
    #[prost(message, optional, tag = "5")]
    pub flags: Option<VStreamFlags>,
}

/// `vtgate.VStreamResponse`.
#[derive(Clone, PartialEq, Message)]
pub struct VStreamResponse {
    #[prost(message, repeated, tag = "1")]
    pub events: Vec<Event>,
}

/// `psdbconnect.v1alpha1.TableCursor`.
#[derive(Clone, PartialEq, Message)]
pub struct TableCursor {
    #[prost(string, tag = "1")]
    pub shard: String,
    #[prost(string, tag = "2")]
    pub keyspace: String,
    #[prost(string, tag = "3")]
    pub position: String,
    #[prost(message, optional, tag = "4")]
    pub last_known_pk: Option<QueryResult>,
}

/// `psdbconnect.v1alpha1.SyncRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct SyncRequest {
    #[prost(string, tag = "1")]
    pub table_name: String,
    #[prost(message, optional, tag = "2")]
    pub cursor: Option<TableCursor>,
    /// 0 replica, 1 primary, 2 batch.
    #[prost(int32, tag = "3")]
    pub tablet_type: i32,
    #[prost(bool, tag = "4")]
    pub include_inserts: bool,
    #[prost(bool, tag = "5")]
    pub include_updates: bool,
    #[prost(bool, tag = "6")]
    pub include_deletes: bool,
    #[prost(string, repeated, tag = "7")]
    pub columns: Vec<String>,
    #[prost(string, repeated, tag = "8")]
    pub cells: Vec<String>,
}

/// `psdbconnect.v1alpha1.DeletedRow`: the key columns alone.
#[derive(Clone, PartialEq, Message)]
pub struct DeletedRow {
    #[prost(message, optional, tag = "1")]
    pub result: Option<QueryResult>,
}

/// `psdbconnect.v1alpha1.UpdatedRow`.
#[derive(Clone, PartialEq, Message)]
pub struct UpdatedRow {
    #[prost(message, optional, tag = "1")]
    pub before: Option<QueryResult>,
    #[prost(message, optional, tag = "2")]
    pub after: Option<QueryResult>,
}

/// `psdbconnect.v1alpha1.SyncResponse`.
#[derive(Clone, PartialEq, Message)]
pub struct SyncResponse {
    #[prost(message, repeated, tag = "1")]
    pub result: Vec<QueryResult>,
    #[prost(message, optional, tag = "2")]
    pub cursor: Option<TableCursor>,
    #[prost(message, optional, tag = "3")]
    pub error: Option<RpcError>,
    #[prost(message, repeated, tag = "4")]
    pub deletes: Vec<DeletedRow>,
    #[prost(message, repeated, tag = "5")]
    pub updates: Vec<UpdatedRow>,
}
