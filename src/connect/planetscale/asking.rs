//! Owns the request to a VTGate, `vtgateservice.Vitess/VStream`: what is asked, for which shards, and how it
//! is to be answered. It does not own what comes back; that is `vstream`.

use tonic::transport::Channel;

use super::asked::Asked;
use super::channel::Call;
use super::proto::{
    CallerId, Filter, Rule, ShardGtid, VGtid, VStreamFlags, VStreamRequest, VStreamResponse,
};

const PATH: &str = "/vtgateservice.Vitess/VStream";

/// Asks for what happens from now on in all shards that serve: it begins with where they are.
pub(super) fn ask_current(asked: &Asked, channel: &Channel) -> Call<VStreamResponse> {
    // Without a name it stands for all that serve. An old shard, asked by its name, would say where it
    // came to its end, and the stream goes on past that.
    let entry = ShardGtid {
        keyspace: asked.address.keyspace.clone(),
        shard: String::new(),
        gtid: "current".to_string(),
        table_pks: Vec::new(),
    };
    ask(asked, channel, vec![entry])
}

/// Asks for what happens in some shards, each from where it says.
pub(super) fn ask(
    asked: &Asked,
    channel: &Channel,
    shard_gtids: Vec<ShardGtid>,
) -> Call<VStreamResponse> {
    asked.server.call(channel, PATH, request(asked, shard_gtids))
}

fn request(asked: &Asked, shard_gtids: Vec<ShardGtid>) -> VStreamRequest {
    let table = &asked.address.table;
    let select = format!("select * from `{}`", table.replace('`', "``"));
    VStreamRequest {
        caller_id: Some(CallerId {
            principal: asked.user.clone().unwrap_or_default(),
            component: "differential-upsert".to_string(),
        }),
        tablet_type: asked.tablet.topodata(),
        vgtid: Some(VGtid { shard_gtids }),
        filter: Some(Filter { rules: vec![Rule { r#match: table.clone(), filter: select }] }),
        flags: Some(VStreamFlags {
            // Shards are independent of each other here, and to align them ends streams with errors.
            minimize_skew: false,
            heartbeat_interval: asked.heartbeat_seconds(),
            // VTGate goes on with the new shards by itself.
            stop_on_reshard: false,
            cells: asked.cells.join(","),
        }),
    }
}
