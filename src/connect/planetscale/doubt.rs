//! Owns the doubt whether the shards that were asked for are there. It does not own the stream.
//!
//! A VTGate before Vitess 19 says nothing of a keyspace or shard that is not there: it looks for a tablet
//! for a minute and a half, and sends heartbeats meanwhile. So if nothing else has come for a second, and
//! never has in this process, it is asked which shards there are. It is asked beside the stream, once;
//! it is believed only where it proves something.

use std::future::{pending, poll_fn};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tonic::transport::Channel;

use super::asked::Asked;
use super::asking::ask_current;
use super::channel::Call;
use super::failure::missing;
use super::position::VStreamPosition;
use super::proto::VStreamResponse;
use super::ranges::overlaps;
use crate::source::{Failure, Partition};

const PATIENCE: Duration = Duration::from_secs(1);

/// Whether the shards are there.
#[derive(Debug)]
pub(super) struct Doubt {
    state: State,
    keyspace: String,
    place: String,
    /// The shards that were asked for, and whether from their start.
    shards: Vec<(Partition, bool)>,
}

#[derive(Debug)]
enum State {
    Waits {
        until: Instant,
        question: Call<VStreamResponse>,
    },
    Asks(Call<VStreamResponse>),
    /// Nothing is in doubt, or nothing is proven.
    Settled,
}

impl Doubt {
    pub(super) fn new(
        asked: &Asked,
        channel: &Channel,
        places: &[(Partition, Option<VStreamPosition>)],
    ) -> Doubt {
        // Nothing is sent before it is polled.
        let question = ask_current(asked, channel);
        Doubt {
            state: State::Waits { until: Instant::now() + PATIENCE, question },
            keyspace: asked.address.keyspace.clone(),
            place: asked.place(),
            shards: places.iter().map(|(name, at)| (name.clone(), at.is_none())).collect(),
        }
    }

    pub(super) fn settle(&mut self) {
        self.state = State::Settled;
    }

    /// Returns once it is certain that there is nothing to wait for. To drop this and call it again is
    /// well.
    pub(super) async fn proof(&mut self) -> Failure {
        loop {
            match &mut self.state {
                State::Waits { until, .. } => {
                    sleep_until(*until).await;
                    let state = std::mem::replace(&mut self.state, State::Settled);
                    if let State::Waits { question, .. } = state {
                        self.state = State::Asks(question);
                    }
                }
                State::Asks(call) => {
                    let place = &self.place;
                    let response = poll_fn(|context| call.poll_response(context, place)).await;
                    let failure = match response {
                        Ok(Some(response)) => match self.names(&response) {
                            Some(names) => self.absent(&names),
                            // A heartbeat.
                            None => continue,
                        },
                        Err(failure @ Failure::Definite(_)) => Some(failure),
                        Ok(None) | Err(_) => None,
                    };
                    self.settle();
                    if let Some(failure) = failure {
                        return failure;
                    }
                }
                State::Settled => pending().await,
            }
        }
    }

    /// Returns the shards of the keyspace, if it says any.
    fn names(&self, response: &VStreamResponse) -> Option<Vec<String>> {
        let vgtid = response.events.iter().find_map(|event| event.vgtid.as_ref())?;
        let ours = vgtid.shard_gtids.iter().filter(|entry| entry.keyspace == self.keyspace);
        let names: Vec<String> = ours.map(|entry| entry.shard.clone()).collect();
        (!names.is_empty()).then_some(names)
    }

    fn absent(&self, names: &[String]) -> Option<Failure> {
        let is_there = |(name, start): &&(Partition, bool)| {
            // Where a stream goes on, an old shard leads to the new ones that have its rows.
            names.iter().any(|other| **other == **name) || (!start && overlaps(names, name))
        };
        let (absent, _) = self.shards.iter().find(|shard| !is_there(shard))?;
        let what =
            format!("the keyspace {} has the shards {names:?}, and not {absent:?}", self.keyspace);
        Some(missing(what, &self.place, "name the shards with shard="))
    }
}
