//! Owns what is asked of PlanetScale, `psdbconnect.v1alpha1.Connect/Sync`: one stream per shard. It does
//! not own what the answers mean; that is `unit`.

use std::future::poll_fn;
use std::task::{Context, Poll};

use tonic::transport::Channel;

use super::asked::Asked;
use super::channel::{Call, Silence};
use super::failure::{definite, of_response, transient};
use super::gtid::Gtid;
use super::position::VStreamPosition;
use super::proto::{SyncRequest, SyncResponse, TableCursor};
use super::unit::Units;
use crate::source::{Event, Failure, Partition};

const PATH: &str = "/psdbconnect.v1alpha1.Connect/Sync";

/// The streams of all shards.
#[derive(Debug)]
pub(super) struct Streams {
    streams: Vec<Stream>,
    /// The stream to look at first: the one after that of the last response, so that none is left out.
    turn: usize,
    /// The shard whose stream has failed.
    failed: Option<Partition>,
    silence: Silence,
    place: String,
}

#[derive(Debug)]
struct Stream {
    shard: Partition,
    call: Call<SyncResponse>,
    units: Units,
    place: String,
}

impl Streams {
    pub(super) fn begin(
        asked: &Asked,
        channel: &Channel,
        places: &[(Partition, Option<VStreamPosition>)],
    ) -> Streams {
        let streams = places.iter().map(|(shard, at)| {
            // Both, or what has changed since of the rows that are copied already would be lost.
            let position = at.as_ref().map_or("", VStreamPosition::gtid);
            let mut cursor = cursor(asked, shard, position);
            cursor.last_known_pk = at.as_ref().and_then(VStreamPosition::resume_pk);
            let (keyspace, table) = (&asked.address.keyspace, &asked.address.table);
            let key = asked.address.key.clone();
            let units = Units::new(keyspace, table, key, shard.clone(), at.clone());
            let call = asked.server.call(channel, PATH, request(asked, cursor));
            Stream { shard: shard.clone(), call, place: units.place(), units }
        });
        Streams {
            streams: streams.collect(),
            turn: 0,
            failed: None,
            silence: Silence::new(asked.silence_max()),
            place: asked.place(),
        }
    }

    /// Returns the shard whose stream has failed.
    pub(super) fn failed(&self) -> Option<&Partition> {
        self.failed.as_ref()
    }

    /// Returns the next events of some shard; `None` at the end of any stream.
    pub(super) async fn next(
        &mut self,
    ) -> Result<Option<Vec<Event<String, String, VStreamPosition>>>, Failure> {
        loop {
            let (streams, turn, failed) = (&mut self.streams, &mut self.turn, &mut self.failed);
            let response = poll_fn(|context| poll_any(streams, turn, failed, context));
            let Some((at, response)) = self.silence.wait(response, &self.place).await? else {
                return Ok(None);
            };
            let Stream { units, shard, .. } = &mut self.streams[at];
            let events = units.take(response).inspect_err(|_| self.failed = Some(shard.clone()))?;
            if !events.is_empty() {
                return Ok(Some(events));
            }
        }
    }
}

fn poll_any(
    streams: &mut [Stream],
    turn: &mut usize,
    failed: &mut Option<Partition>,
    context: &mut Context<'_>,
) -> Poll<Result<Option<(usize, SyncResponse)>, Failure>> {
    for step in 0..streams.len() {
        let at = (*turn + step) % streams.len();
        let Stream { call, place, shard, .. } = &mut streams[at];
        if let Poll::Ready(response) = call.poll_response(context, place) {
            *turn = at + 1;
            *failed = response.is_err().then(|| shard.clone());
            return Poll::Ready(response.map(|response| response.map(|response| (at, response))));
        }
    }
    Poll::Pending
}

/// Asks the shards where they are now.
pub(super) async fn current(
    asked: &Asked,
    channel: &Channel,
) -> Result<Vec<(Partition, VStreamPosition)>, Failure> {
    let shards = asked.address.shards.iter().map(|name| Partition::from(&**name));
    let asks: Vec<_> = shards.map(|shard| current_of(asked, channel, shard)).collect();
    futures::future::try_join_all(asks).await
}

async fn current_of(
    asked: &Asked,
    channel: &Channel,
    shard: Partition,
) -> Result<(Partition, VStreamPosition), Failure> {
    let place = asked.place();
    let request = request(asked, cursor(asked, &shard, "current"));
    let mut call: Call<SyncResponse> = asked.server.call(channel, PATH, request);
    while let Some(response) = poll_fn(|context| call.poll_response(context, &place)).await? {
        if let Some(failure) = response.error.and_then(|error| of_response(&error, &place)) {
            return Err(failure);
        }
        let position = response.cursor.map(|cursor| cursor.position);
        let Some(position) = position.filter(|at| !matches!(&**at, "" | "current")) else {
            continue;
        };
        let hint = "the source must run MySQL with gtid_mode=ON";
        let gtid = Gtid::parse(&position).map_err(|what| definite(what, &place, hint))?;
        return Ok((shard, VStreamPosition::streaming(gtid)));
    }
    Err(transient(format!("the shard {shard} did not say where it is"), &place))
}

fn cursor(asked: &Asked, shard: &Partition, position: &str) -> TableCursor {
    TableCursor {
        shard: shard.to_string(),
        keyspace: asked.address.keyspace.clone(),
        position: position.to_string(),
        last_known_pk: None,
    }
}

fn request(asked: &Asked, cursor: TableCursor) -> SyncRequest {
    SyncRequest {
        table_name: asked.address.table.clone(),
        cursor: Some(cursor),
        tablet_type: asked.tablet.psdbconnect(),
        include_inserts: true,
        include_updates: true,
        include_deletes: true,
        columns: Vec::new(),
        cells: asked.cells.clone(),
    }
}
