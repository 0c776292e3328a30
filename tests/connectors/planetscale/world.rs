//! Owns the server of a random run: the model, the ledger and the weather behind one port, and the
//! tasks that answer calls. When something happens to the database is up to the test.

use std::ops::DerefMut;
use std::sync::{Arc, Mutex};

use h2::Reason;
use prost::Message;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;

use crate::planetscale::gateway::Sync;
use crate::planetscale::ledger::Ledger;
use crate::planetscale::model::Model;
use crate::planetscale::proto::{
    RpcError, SyncRequest, SyncResponse, VStreamRequest, VStreamResponse,
};
use crate::planetscale::server::{Call, Ending, Server, code};
use crate::planetscale::shard::Refused;
use crate::planetscale::vtgate::VStream;
use crate::random::Random;

pub const KEYSPACE: &str = "ks";
pub const TABLE: &str = "t";
pub const VSTREAM: &str = "/vtgateservice.Vitess/VStream";
pub const SYNC: &str = "/psdbconnect.v1alpha1.Connect/Sync";

/// An answer that is an error.
#[derive(Clone, Debug)]
pub struct Refusal {
    pub code: i32,
    pub text: String,
}

impl Refusal {
    /// The client has asked for what it must not: that is a fault of the client.
    pub fn fault(ledger: &mut Ledger, what: String) -> Refusal {
        ledger.fault(what.clone());
        Refusal { code: code::INVALID_ARGUMENT, text: what }
    }

    pub fn no_shard(keyspace: &str, shard: &str) -> Refusal {
        let text =
            format!("shard provided in VGTID, {shard}, not found in the {keyspace} keyspace");
        Refusal { code: code::FAILED_PRECONDITION, text }
    }

    pub fn journal() -> Refusal {
        let text = "not all journaling participants are in the stream: journal: id:7".into();
        Refusal { code: code::INTERNAL, text }
    }
}

/// Says why a stream cannot begin at a place, in MySQL's and Vitess's words.
pub fn refusal(refused: &Refused, ledger: &mut Ledger) -> Refusal {
    ledger.lose();
    match refused {
        Refused::Purged => Refusal {
            code: code::UNKNOWN,
            text: "target: ks.0.primary: vttablet: rpc error: code = Unknown desc = stream (at source \
                   tablet) error @ (including the GTID we failed to process) \
                   MySQL56/00000000-0000-11ee-8000-000000000001:1-99999: Cannot replicate because the \
                   source purged required binary logs. Replicate the missing transactions from \
                   elsewhere, or provision a new replica from backup. (errno 1236) (sqlstate HY000)"
                .into(),
        },
        Refused::Mismatch => Refusal {
            code: code::INVALID_ARGUMENT,
            text: "target: ks.0.primary: vttablet: rpc error: code = InvalidArgument desc = GTIDSet \
                   Mismatch: requested source position:00000000-0000-11ee-8000-000000000001:1-99999, \
                   current target vrep position: 00000000-0000-11ee-8000-000000000001:1-9"
                .into(),
        },
    }
}

/// How often what goes wrong.
#[derive(Clone, Debug)]
pub struct Weather {
    /// Nothing goes wrong any more.
    pub calm: bool,
    /// Streams end after less than so many responses; 0: they do not.
    pub responses_max: u64,
    /// The header that a client must send.
    pub authorization: Option<String>,
}

pub struct State {
    pub model: Model,
    pub ledger: Ledger,
    pub weather: Weather,
}

/// The database, and what is known of its clients.
pub struct World {
    state: Mutex<State>,
    random: Random,
    /// Moves when streams may have more to say.
    news: watch::Sender<u64>,
}

/// Some responses that belong together.
type Outs<M> = Vec<(M, Vec<(crate::planetscale::ledger::Place, crate::planetscale::ledger::Rows)>)>;

impl World {
    pub fn new(random: &Random, shards: usize, weather: Weather) -> Arc<World> {
        let model = Model::new(random, shards);
        let state = Mutex::new(State { model, ledger: Ledger::default(), weather });
        Arc::new(World { state, random: random.clone(), news: watch::Sender::new(0) })
    }

    fn quietly<R>(&self, act: impl FnOnce(&mut State) -> R) -> R {
        act(self.state.lock().expect("nobody panicked with it").deref_mut())
    }

    /// Does something with the state, and lets streams look at it.
    pub fn with<R>(&self, act: impl FnOnce(&mut State) -> R) -> R {
        let result = self.quietly(act);
        self.news.send_modify(|version| *version += 1);
        result
    }

    /// Looks at the state.
    pub fn look<R>(&self, look: impl FnOnce(&State) -> R) -> R {
        look(&self.state.lock().expect("nobody panicked with it"))
    }

    /// Serves on a port of its own, for as long as the runtime runs.
    pub async fn serve(self: &Arc<Self>) -> Server {
        let (server, mut calls): (Server, UnboundedReceiver<Call>) = Server::start().await;
        let world = Arc::clone(self);
        tokio::spawn(async move {
            while let Some(call) = calls.recv().await {
                tokio::spawn(Arc::clone(&world).answer(call));
            }
        });
        server
    }

    async fn answer(self: Arc<Self>, call: Call) {
        let wanted = self.look(|state| state.weather.authorization.clone());
        let sent = call.headers.get("authorization").and_then(|header| header.to_str().ok());
        if let Some(wanted) = wanted
            && sent != Some(&wanted)
        {
            self.with(|state| state.ledger.fault(format!("was shown {sent:?}, not {wanted}")));
            return call.end(Ending::status(code::UNAUTHENTICATED, "who is it?")).await;
        }
        match call.path.as_str() {
            VSTREAM => self.vstream(call).await,
            SYNC => self.sync(call).await,
            path => {
                self.with(|state| state.ledger.fault(format!("was asked for {path}")));
                call.end(Ending::status(code::UNIMPLEMENTED, "unknown method")).await;
            }
        }
    }

    async fn vstream(&self, call: Call) {
        let request = call.message::<VStreamRequest>();
        let begun = self.with(|state| {
            let State { model, ledger, .. } = state;
            VStream::begin(&request, model, ledger, &self.random)
        });
        let mut stream = match begun {
            Ok(stream) => stream,
            Err(refusal) => return self.refuse(call, refusal).await,
        };
        let mut journal = true;
        let next = |state: &mut State| -> Result<Option<Outs<VStreamResponse>>, Refusal> {
            let State { model, ledger, .. } = state;
            if let Some(event) =
                std::mem::take(&mut journal).then(|| stream.journal(model)).flatten()
            {
                return Ok(Some(vec![(VStreamResponse { events: vec![event] }, Vec::new())]));
            }
            let outs = stream.next(model, ledger)?;
            let write = |out: crate::planetscale::vtgate::Out| {
                (VStreamResponse { events: out.events }, out.resumable)
            };
            Ok(outs.map(|outs| outs.into_iter().map(write).collect()))
        };
        self.stream(call, next, |_| None).await;
    }

    async fn sync(&self, call: Call) {
        let request = call.message::<SyncRequest>();
        let begun = self.with(|state| {
            let State { model, ledger, .. } = state;
            Sync::begin(&request, model, ledger, &self.random)
        });
        let mut stream = match begun {
            Ok(stream) => stream,
            Err(refusal) if self.random.one_in(2) => {
                let error = RpcError { code: refusal.code, message: refusal.text };
                let mut call = call;
                let response = SyncResponse { error: Some(error), ..SyncResponse::default() };
                // An error means that the client has gone.
                let _ = call.send(&response).await;
                return call.end(Ending::status(code::OK, "")).await;
            }
            Err(refusal) => return self.refuse(call, refusal).await,
        };
        let next = |state: &mut State| -> Result<Option<Outs<SyncResponse>>, Refusal> {
            let State { model, ledger, .. } = state;
            let outs = stream.next(model, ledger)?;
            let write = |out: crate::planetscale::gateway::Out| {
                (out.response, out.resumable.into_iter().collect::<Vec<_>>())
            };
            Ok(outs.map(|outs| outs.into_iter().map(write).collect()))
        };
        // What a response with an error holds is void.
        let spoil = |response: SyncResponse| {
            let error = RpcError { code: code::UNAVAILABLE, message: "the tablet left".into() };
            Some(SyncResponse { error: Some(error), ..response })
        };
        self.stream(call, next, spoil).await;
    }

    async fn refuse(&self, call: Call, refusal: Refusal) {
        call.end(Ending::Status(refusal.code, refusal.text)).await;
    }

    /// Says what there is to say, until the client has gone or this stream's end has come.
    async fn stream<M: Message + Clone>(
        &self,
        mut call: Call,
        mut next: impl FnMut(&mut State) -> Result<Option<Outs<M>>, Refusal>,
        spoil: impl Fn(M) -> Option<M>,
    ) {
        let random = self.random.clone();
        let (term, responses_max) =
            self.look(|state| (state.model.term, state.weather.responses_max));
        let mut left = if responses_max == 0 { u64::MAX } else { random.below(responses_max) };
        let mut news = self.news.subscribe();
        if random.one_in(2) && call.begin().is_err() {
            return;
        }
        loop {
            news.mark_unchanged();
            let calm = self.look(|state| state.weather.calm);
            if calm {
                left = u64::MAX;
            }
            let outs = self.quietly(|state| match state.model.term == term {
                true => next(state),
                false => Err(Refusal { code: code::UNAVAILABLE, text: "no primary".into() }),
            });
            let outs = match outs {
                Ok(outs) => outs,
                Err(refusal) => return self.refuse(call, refusal).await,
            };
            let Some(outs) = outs else {
                if left == 0 {
                    return self.end::<M>(call, None).await;
                }
                tokio::select! {
                    _ = news.changed() => left -= u64::from(left != u64::MAX && random.one_in(4)),
                    () = call.abandoned() => return,
                }
                continue;
            };
            for (message, resumable) in outs {
                if left == 0 {
                    return self.end(call, spoil(message)).await;
                }
                left -= u64::from(left != u64::MAX);
                self.quietly(|state| {
                    for (place, rows) in resumable {
                        state.ledger.resumable(place, rows);
                    }
                });
                // Not often: a client takes too many small frames for an attack.
                let frame =
                    if random.one_in(10) { 1 + message.encoded_len() / 2 } else { usize::MAX };
                if call.send_in(&message, frame).await.is_err() {
                    return;
                }
            }
        }
    }

    /// Ends a stream in one way or another.
    async fn end<M: Message>(&self, mut call: Call, spoilt: Option<M>) {
        let random = &self.random;
        let text = |code| Ending::status(code, "context canceled");
        let ending = match random.below(16) {
            0 | 1 => Ending::status(code::OK, ""),
            2 => text(code::CANCELLED),
            3 => text(code::DEADLINE_EXCEEDED),
            4 => text(code::UNAVAILABLE),
            5 => text(code::INTERNAL),
            6 => text(code::RESOURCE_EXHAUSTED),
            7 => Ending::Reset(Reason::CANCEL),
            8 => Ending::Reset(Reason::NO_ERROR),
            9 => Ending::Reset(Reason::INTERNAL_ERROR),
            10 => Ending::NoTrailers,
            11 => Ending::HalfMessage,
            12 => Ending::GoAway,
            13 => Ending::LastCall,
            14 => Ending::Cut,
            _ if random.one_in(3) => Ending::Silence,
            _ => Ending::Cut,
        };
        let name = format!("{ending:?}");
        let spoilt = spoilt.filter(|_| random.one_in(4));
        self.with(|state| {
            state.ledger.count(if spoilt.is_some() { "error in band".into() } else { name });
        });
        if let Some(spoilt) = spoilt {
            // An error means that the client has gone.
            let _ = call.send(&spoilt).await;
            return call.end(Ending::status(code::OK, "")).await;
        }
        if random.one_in(2) {
            // What was sent has time to arrive.
            tokio::task::yield_now().await;
        }
        call.end(ending).await;
    }
}
