//! Owns what is asked of a VTGate, `vtgateservice.Vitess/VStream`: one stream for all shards. It does
//! not own what the answers mean; that is `phase`.

use std::future::poll_fn;

use tonic::transport::Channel;

use super::Asked;
use super::channel::{Call, Silence};
use super::failure::{definite, transient};
use super::gtid::Gtid;
use super::phase::Phases;
use super::position::VStreamPosition;
use super::proto::{
    CallerId, Filter, Rule, ShardGtid, TableLastPk, VGtid, VStreamFlags, VStreamRequest,
    VStreamResponse,
};
use crate::source::{Event, Failure, Partition};

const PATH: &str = "/vtgateservice.Vitess/VStream";

/// A stream, and what has come of it.
#[derive(Debug)]
pub(super) struct VStream {
    call: Call<VStreamResponse>,
    phases: Phases,
    silence: Silence,
    place: String,
}

impl VStream {
    pub(super) fn begin(
        asked: &Asked,
        channel: &Channel,
        places: &[(Partition, Option<VStreamPosition>)],
    ) -> VStream {
        let address = &asked.address;
        let entries = places.iter().map(|(shard, at)| {
            // Both, or what has changed since of the rows that are copied already would be lost.
            let lastpk = at.as_ref().and_then(VStreamPosition::resume_pk);
            let pk = lastpk.map(|lastpk| TableLastPk {
                table_name: address.table.clone(),
                lastpk: Some(lastpk),
            });
            ShardGtid {
                keyspace: address.keyspace.clone(),
                shard: shard.to_string(),
                gtid: at.as_ref().map_or_else(String::new, |at| at.gtid().to_string()),
                table_pks: pk.into_iter().collect(),
            }
        });
        let request = request(asked, entries.collect());
        VStream {
            call: asked.server.call(channel, PATH, request),
            phases: Phases::new(&address.keyspace, &address.table, address.key.clone(), places),
            silence: Silence::new(asked.silence_max()),
            place: asked.place(),
        }
    }

    /// Returns the shards there are now.
    pub(super) fn shards(&self) -> impl Iterator<Item = &Partition> {
        self.phases.members()
    }

    /// Returns the next events; `None` at the end of the stream.
    pub(super) async fn next(
        &mut self,
    ) -> Result<Option<Vec<Event<String, String, VStreamPosition>>>, Failure> {
        loop {
            let (call, place) = (&mut self.call, &self.place);
            let response = poll_fn(|context| call.poll_response(context, place));
            let Some(response) = self.silence.wait(response, place).await? else {
                return Ok(None);
            };
            let events = self.phases.take(response.events)?;
            if !events.is_empty() {
                return Ok(Some(events));
            }
        }
    }
}

/// Asks a shard where it is now.
pub(super) async fn current(
    asked: &Asked,
    channel: &Channel,
    shard: &Partition,
) -> Result<VStreamPosition, Failure> {
    let (place, keyspace) = (asked.place(), &asked.address.keyspace);
    let entry = ShardGtid {
        keyspace: keyspace.clone(),
        shard: shard.to_string(),
        gtid: "current".to_string(),
        table_pks: Vec::new(),
    };
    let request = request(asked, vec![entry]);
    let mut call: Call<VStreamResponse> = asked.server.call(channel, PATH, request);
    while let Some(response) = poll_fn(|context| call.poll_response(context, &place)).await? {
        let vgtids = response.events.into_iter().filter_map(|event| event.vgtid);
        let ours = |entry: &ShardGtid| entry.keyspace == *keyspace && entry.shard == **shard;
        let mut entries = vgtids.flat_map(|vgtid| vgtid.shard_gtids).filter(ours);
        let Some(entry) = entries.find(|entry| !matches!(&*entry.gtid, "" | "current")) else {
            continue;
        };
        let hint = "the source must run MySQL with gtid_mode=ON";
        let gtid = Gtid::parse(&entry.gtid).map_err(|what| definite(what, &place, hint))?;
        return Ok(VStreamPosition::streaming(gtid));
    }
    Err(transient(format!("the shard {shard} did not say where it is"), &place))
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
