//! Owns what is asked of a VTGate, `vtgateservice.Vitess/VStream`: one stream for all shards. It does
//! not own what the answers mean; that is `phase`.

use std::future::poll_fn;

use tonic::transport::Channel;

use super::asked::Asked;
use super::asking::{ask, ask_current};
use super::channel::{Call, Silence};
use super::doubt::Doubt;
use super::failure::{definite, transient};
use super::gtid::Gtid;
use super::phase::Phases;
use super::position::VStreamPosition;
use super::proto::{ShardGtid, TableLastPk, VEventType, VStreamResponse};
use super::ranges::overlaps;
use super::url::Address;
use crate::source::{Event, Failure, Partition};

/// A stream, and what has come of it.
#[derive(Debug)]
pub(super) struct VStream {
    call: Call<VStreamResponse>,
    phases: Phases,
    silence: Silence,
    doubt: Doubt,
    place: String,
}

impl VStream {
    pub(super) fn begin(
        asked: &Asked,
        channel: &Channel,
        places: &[(Partition, Option<VStreamPosition>)],
        heard: bool,
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
        let mut doubt = Doubt::new(asked, channel, places);
        if heard {
            doubt.settle();
        }
        VStream {
            doubt,
            call: ask(asked, channel, entries.collect()),
            phases: Phases::new(&address.keyspace, &address.table, address.key.clone(), places),
            silence: Silence::new(asked.silence_max()),
            place: asked.place(),
        }
    }

    /// Returns the next events; `None` at the end of the stream.
    pub(super) async fn next(
        &mut self,
    ) -> Result<Option<Vec<Event<String, String, VStreamPosition>>>, Failure> {
        loop {
            let (call, place) = (&mut self.call, &self.place);
            let response = poll_fn(|context| call.poll_response(context, place));
            let response = tokio::select! {
                biased;
                response = self.silence.wait(response, place) => response?,
                failure = self.doubt.proof() => return Err(failure),
            };
            let Some(response) = response else { return Ok(None) };
            if response.events.iter().any(|event| event.r#type() != VEventType::Heartbeat) {
                self.doubt.settle();
            }
            let events = self.phases.take(response.events)?;
            if !events.is_empty() {
                return Ok(Some(events));
            }
        }
    }
}

/// Asks where the shards are now that serve what was named: others than those, after a reshard.
pub(super) async fn current(
    asked: &Asked,
    channel: &Channel,
) -> Result<Vec<(Partition, VStreamPosition)>, Failure> {
    let (place, Address { keyspace, shards: named, .. }) = (asked.place(), &asked.address);
    let mut call = ask_current(asked, channel);
    while let Some(response) = poll_fn(|context| call.poll_response(context, &place)).await? {
        for vgtid in response.events.into_iter().filter_map(|event| event.vgtid) {
            let entries = vgtid.shard_gtids.iter().filter(|entry| entry.keyspace == *keyspace);
            let ours: Vec<_> = entries.filter(|entry| overlaps(named, &entry.shard)).collect();
            let unknown = |entry: &&ShardGtid| matches!(&*entry.gtid, "" | "current");
            if ours.is_empty() || ours.iter().any(unknown) {
                // Each shard says it in a VGTID of its own.
                continue;
            }
            let hint = "the source must run MySQL with gtid_mode=ON";
            let position = |entry: &ShardGtid| {
                let gtid = Gtid::parse(&entry.gtid).map_err(|what| definite(what, &place, hint))?;
                Ok((Partition::from(&*entry.shard), VStreamPosition::streaming(gtid)))
            };
            return ours.into_iter().map(position).collect();
        }
    }
    Err(transient("the shards did not say where they are", &place))
}
