//! Owns the messages that are spoken with a server: the fields of the public definitions that this
//! source reads or sets, under their numbers. It does not own what they mean.
//!
//! Written by hand, so that nobody needs `protoc` to build. Fields that are left out are skipped when
//! they are received. Enumerations are `i32`: a number that a newer server invents is kept.

use prost::Message;

// --- vitessio/vitess proto/query.proto, package `query` ---

/// `query.Field`: a column. `flags` are `query.MySqlFlag`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Field {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(int32, tag = "2")]
    pub(super) r#type: i32,
    #[prost(string, tag = "3")]
    pub(super) table: String,
    #[prost(string, tag = "4")]
    pub(super) org_table: String,
    #[prost(string, tag = "5")]
    pub(super) database: String,
    #[prost(string, tag = "6")]
    pub(super) org_name: String,
    #[prost(uint32, tag = "7")]
    pub(super) column_length: u32,
    #[prost(uint32, tag = "8")]
    pub(super) charset: u32,
    #[prost(uint32, tag = "9")]
    pub(super) decimals: u32,
    #[prost(uint32, tag = "10")]
    pub(super) flags: u32,
    #[prost(string, tag = "11")]
    pub(super) column_type: String,
}

/// `query.MySqlFlag`: the column is part of the primary key.
pub(super) const PRI_KEY_FLAG: u32 = 2;
/// It is never NULL.
pub(super) const NOT_NULL_FLAG: u32 = 1;
/// It is unique by itself.
pub(super) const UNIQUE_KEY_FLAG: u32 = 4;

/// `query.Row`: the values one after the other; a length of -1 is NULL.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Row {
    #[prost(sint64, repeated, tag = "1")]
    pub(super) lengths: Vec<i64>,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) values: Vec<u8>,
}

/// `query.QueryResult`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct QueryResult {
    #[prost(message, repeated, tag = "1")]
    pub(super) fields: Vec<Field>,
    #[prost(message, repeated, tag = "4")]
    pub(super) rows: Vec<Row>,
}

/// `query.Type`, as far as a value's JSON depends on it.
pub(super) mod types {
    pub(in super::super) const NULL: i32 = 0;
    pub(in super::super) const DECIMAL: i32 = 18;
    pub(in super::super) const FLOAT32: i32 = 1035;
    pub(in super::super) const BIT: i32 = 2073;
    pub(in super::super) const ENUM: i32 = 2074;
    pub(in super::super) const SET: i32 = 2075;
    pub(in super::super) const GEOMETRY: i32 = 2077;
    pub(in super::super) const JSON: i32 = 2078;
    /// `TINYTEXT` to `LONGTEXT`, and `TINYBLOB` to `LONGBLOB`: those that MySQL calls `MYSQL_TYPE_BLOB`.
    pub(in super::super) const TEXT: i32 = 6163;
    pub(in super::super) const BLOB: i32 = 10260;
    pub(in super::super) const VECTOR: i32 = 2086;
    /// `query.Flag`: bits that every type of a family has.
    pub(in super::super) const IS_INTEGRAL: i32 = 256;
    pub(in super::super) const IS_FLOAT: i32 = 1024;
    pub(in super::super) const IS_TEXT: i32 = 4096;
    pub(in super::super) const IS_BINARY: i32 = 8192;
}

// --- vitessio/vitess proto/vtrpc.proto, package `vtrpc` ---

/// `vtrpc.CallerID`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct CallerId {
    #[prost(string, tag = "1")]
    pub(super) principal: String,
    #[prost(string, tag = "2")]
    pub(super) component: String,
}

/// `vtrpc.RPCError`: `code` has the numbers of gRPC, `legacy_code` those of `vtrpc.LegacyErrorCode`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct RpcError {
    #[prost(int32, tag = "1")]
    pub(super) legacy_code: i32,
    #[prost(string, tag = "2")]
    pub(super) message: String,
    #[prost(int32, tag = "3")]
    pub(super) code: i32,
}

// --- vitessio/vitess proto/binlogdata.proto, package `binlogdata` ---

/// `binlogdata.VEventType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(super) enum VEventType {
    Unknown = 0,
    Gtid = 1,
    Begin = 2,
    Commit = 3,
    Rollback = 4,
    Ddl = 5,
    Insert = 6,
    Replace = 7,
    Update = 8,
    Delete = 9,
    Set = 10,
    Other = 11,
    Row = 12,
    Field = 13,
    Heartbeat = 14,
    Vgtid = 15,
    Journal = 16,
    Version = 17,
    LastPk = 18,
    Savepoint = 19,
    CopyCompleted = 20,
}

/// `binlogdata.VEvent`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct VEvent {
    #[prost(enumeration = "VEventType", tag = "1")]
    pub(super) r#type: i32,
    /// Of a DDL: what was said.
    #[prost(string, tag = "4")]
    pub(super) statement: String,
    #[prost(message, optional, tag = "5")]
    pub(super) row_event: Option<RowEvent>,
    #[prost(message, optional, tag = "6")]
    pub(super) field_event: Option<FieldEvent>,
    #[prost(message, optional, tag = "7")]
    pub(super) vgtid: Option<VGtid>,
    #[prost(string, tag = "22")]
    pub(super) keyspace: String,
    #[prost(string, tag = "23")]
    pub(super) shard: String,
}

/// `binlogdata.RowEvent`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct RowEvent {
    #[prost(string, tag = "1")]
    pub(super) table_name: String,
    #[prost(message, repeated, tag = "2")]
    pub(super) row_changes: Vec<RowChange>,
    #[prost(string, tag = "3")]
    pub(super) keyspace: String,
    #[prost(string, tag = "4")]
    pub(super) shard: String,
}

/// `binlogdata.RowChange`: before only is a delete, after only an insert, both an update. A bit of
/// `data_columns` is set if the column is in the row after; one of `json_partial_values` if its JSON
/// is only what changed.
#[derive(Clone, PartialEq, Message)]
pub(super) struct RowChange {
    #[prost(message, optional, tag = "1")]
    pub(super) before: Option<Row>,
    #[prost(message, optional, tag = "2")]
    pub(super) after: Option<Row>,
    #[prost(message, optional, tag = "3")]
    pub(super) data_columns: Option<Bitmap>,
    #[prost(message, optional, tag = "4")]
    pub(super) json_partial_values: Option<Bitmap>,
}

/// `binlogdata.RowChange.Bitmap`: the lowest bit of the first byte comes first.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Bitmap {
    #[prost(int64, tag = "1")]
    pub(super) count: i64,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) cols: Vec<u8>,
}

/// `binlogdata.FieldEvent`. Before Vitess 20 `enum_set_string_values` is not there, and enums and sets
/// of the replication phase come as numbers.
#[derive(Clone, PartialEq, Message)]
pub(super) struct FieldEvent {
    #[prost(string, tag = "1")]
    pub(super) table_name: String,
    #[prost(message, repeated, tag = "2")]
    pub(super) fields: Vec<Field>,
    #[prost(string, tag = "3")]
    pub(super) keyspace: String,
    #[prost(string, tag = "4")]
    pub(super) shard: String,
    #[prost(bool, tag = "25")]
    pub(super) enum_set_string_values: bool,
}

/// `binlogdata.VGtid`: the positions of all shards of a stream.
#[derive(Clone, PartialEq, Message)]
pub(super) struct VGtid {
    #[prost(message, repeated, tag = "1")]
    pub(super) shard_gtids: Vec<ShardGtid>,
}

/// `binlogdata.ShardGtid`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ShardGtid {
    #[prost(string, tag = "1")]
    pub(super) keyspace: String,
    #[prost(string, tag = "2")]
    pub(super) shard: String,
    #[prost(string, tag = "3")]
    pub(super) gtid: String,
    #[prost(message, repeated, tag = "4")]
    pub(super) table_pks: Vec<TableLastPk>,
}

/// `binlogdata.TableLastPK`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct TableLastPk {
    #[prost(string, tag = "1")]
    pub(super) table_name: String,
    #[prost(message, optional, tag = "3")]
    pub(super) lastpk: Option<QueryResult>,
}

/// `binlogdata.Filter`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Filter {
    #[prost(message, repeated, tag = "1")]
    pub(super) rules: Vec<Rule>,
}

/// `binlogdata.Rule`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Rule {
    #[prost(string, tag = "1")]
    pub(super) r#match: String,
    #[prost(string, tag = "2")]
    pub(super) filter: String,
}

// --- vitessio/vitess proto/vtgate.proto, package `vtgate`; the tablet types are those of
// --- vitessio/vitess proto/topodata.proto: PRIMARY 1, REPLICA 2, RDONLY 3

/// `vtgate.VStreamFlags`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct VStreamFlags {
    #[prost(bool, tag = "1")]
    pub(super) minimize_skew: bool,
    #[prost(uint32, tag = "2")]
    pub(super) heartbeat_interval: u32,
    #[prost(bool, tag = "3")]
    pub(super) stop_on_reshard: bool,
    #[prost(string, tag = "4")]
    pub(super) cells: String,
}

/// `vtgate.VStreamRequest`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct VStreamRequest {
    #[prost(message, optional, tag = "1")]
    pub(super) caller_id: Option<CallerId>,
    #[prost(int32, tag = "2")]
    pub(super) tablet_type: i32,
    #[prost(message, optional, tag = "3")]
    pub(super) vgtid: Option<VGtid>,
    #[prost(message, optional, tag = "4")]
    pub(super) filter: Option<Filter>,
    #[prost(message, optional, tag = "5")]
    pub(super) flags: Option<VStreamFlags>,
}

/// `vtgate.VStreamResponse`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct VStreamResponse {
    #[prost(message, repeated, tag = "1")]
    pub(super) events: Vec<VEvent>,
}

// --- planetscale/psdb proto-src/psdbconnect/v1alpha1/connect.proto, package
// --- `psdbconnect.v1alpha1`; its tablet types are replica 0, primary 1, batch 2

/// `psdbconnect.v1alpha1.SyncRequest`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct SyncRequest {
    #[prost(string, tag = "1")]
    pub(super) table_name: String,
    #[prost(message, optional, tag = "2")]
    pub(super) cursor: Option<TableCursor>,
    #[prost(int32, tag = "3")]
    pub(super) tablet_type: i32,
    #[prost(bool, tag = "4")]
    pub(super) include_inserts: bool,
    #[prost(bool, tag = "5")]
    pub(super) include_updates: bool,
    #[prost(bool, tag = "6")]
    pub(super) include_deletes: bool,
    #[prost(string, repeated, tag = "7")]
    pub(super) columns: Vec<String>,
    #[prost(string, repeated, tag = "8")]
    pub(super) cells: Vec<String>,
}

/// `psdbconnect.v1alpha1.SyncResponse`: `result` are the inserts.
#[derive(Clone, PartialEq, Message)]
pub(super) struct SyncResponse {
    #[prost(message, repeated, tag = "1")]
    pub(super) result: Vec<QueryResult>,
    #[prost(message, optional, tag = "2")]
    pub(super) cursor: Option<TableCursor>,
    #[prost(message, optional, tag = "3")]
    pub(super) error: Option<RpcError>,
    #[prost(message, repeated, tag = "4")]
    pub(super) deletes: Vec<DeletedRow>,
    #[prost(message, repeated, tag = "5")]
    pub(super) updates: Vec<UpdatedRow>,
}

/// `psdbconnect.v1alpha1.DeletedRow`: only the primary keys.
#[derive(Clone, PartialEq, Message)]
pub(super) struct DeletedRow {
    #[prost(message, optional, tag = "1")]
    pub(super) result: Option<QueryResult>,
}

/// `psdbconnect.v1alpha1.UpdatedRow`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct UpdatedRow {
    #[prost(message, optional, tag = "1")]
    pub(super) before: Option<QueryResult>,
    #[prost(message, optional, tag = "2")]
    pub(super) after: Option<QueryResult>,
}

/// `psdbconnect.v1alpha1.TableCursor`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct TableCursor {
    #[prost(string, tag = "1")]
    pub(super) shard: String,
    #[prost(string, tag = "2")]
    pub(super) keyspace: String,
    #[prost(string, tag = "3")]
    pub(super) position: String,
    #[prost(message, optional, tag = "4")]
    pub(super) last_known_pk: Option<QueryResult>,
}
