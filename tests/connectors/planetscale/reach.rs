//! Goal: what is wrong with an address is said at once, with what to change; and a server is reached in
//! each of the ways that an address can name. Method: servers that know neither the shard, the table nor
//! the client, in the words of Vitess, of rustls and of the resolver.

use std::sync::Arc;
use std::time::{Duration, Instant};

use differential_upsert::store::{Access, Root};
use prost::Message;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_rustls::rustls::ServerConfig;

use crate::planetscale::client::{Client, Protocol, Setting, contents, runtime};
use crate::planetscale::proto::{
    Event, EventType, ShardGtid, VGtid, VStreamRequest, VStreamResponse,
};
use crate::planetscale::script::{
    Scene, begin, commit, completed, events, field, gtid, insert, play, row, vgtid,
};
use crate::planetscale::server::{Call, Ending, Server, code};
use crate::planetscale::world::KEYSPACE;
use crate::tls::pem;

/// Runs until the client fails, or has a row.
fn run(runtime: &Runtime, setting: &Setting, server: &Server) -> Result<(), String> {
    let root = Root::open("mem:", Access::Write).unwrap();
    let mut client = Client::start(runtime, &root, setting, server.address);
    let begun = Instant::now();
    loop {
        client.step(runtime);
        let error = client.error().map(|error| error.to_string());
        if error.is_some() || !contents(runtime, &root).is_empty() {
            client.stop(runtime);
            return error.map_or(Ok(()), Err);
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", client.health.report());
    }
}

fn setting(query: &str) -> Setting {
    // Definite, so that nothing is tried twice.
    let query = query.to_string();
    Setting { query, ..Setting::new(Protocol::VStream, &["-"]) }
}

fn says(result: Result<(), String>, words: &[&str]) {
    let error = result.expect_err("an error");
    assert!(words.iter().all(|word| error.contains(word)), "{words:?}: {error}");
}

fn copy() -> VStreamResponse {
    let rows = vec![begin(), field(), insert(&row(1, 0)), vgtid(5, Some((1, 'a'))), commit()];
    events([rows, vec![begin(), vgtid(5, None), commit(), completed()]].concat())
}

/// Answers the first call with a row, the others not.
fn answer(runtime: &Runtime, mut calls: UnboundedReceiver<Call>) {
    runtime.spawn(async move {
        let mut call = calls.recv().await.expect("a call");
        let _ = call.send(&copy()).await;
        call.abandoned().await;
    });
}

/// vitess go/vt/vtgate/vstream_manager.go, `keyspaceHasBeenResharded`; uvstreamer.go, `buildTablePlan`.
#[test]
fn a_wrong_name_is_definite_in_the_words_of_vitess() {
    let runtime = runtime();
    for (code, text, word) in [
        (
            code::FAILED_PRECONDITION,
            "error starting stream from shard GTID keyspace:\"ks\" shard:\"0\": failed to determine if \
             keyspace ks has been resharded: shard provided in VGTID, 0, not found in the ks keyspace",
            "shard=",
        ),
        (
            code::UNKNOWN,
            "error in vstream for ks/- on tablet zone1-0000000100: target: ks.-.primary: vttablet: rpc \
             error: code = Unknown desc = table t is not present in the database",
            "table's name",
        ),
        (
            code::UNKNOWN,
            "vttablet: rpc error: code = Unknown desc = stream needs a position or a table to copy",
            "table's name",
        ),
        (
            code::UNAVAILABLE,
            "failed to resolve vstream parameters: failed to get shards in keyspace ks: keyspace ks fetch \
             error: node doesn't exist: /vitess/zone1/keyspaces/ks/SrvKeyspace",
            "keyspace",
        ),
    ] {
        let scene = Scene::new(vec![], Ending::status(code, text));
        let (server, requests) =
            runtime.block_on(play::<VStreamRequest, VStreamResponse>(vec![scene]));
        says(run(&runtime, &setting("tls=off"), &server), &[text, word]);
        assert_eq!(requests.lock().unwrap().len(), 1, "{text}: asked again");
    }
}

/// A VTGate before Vitess 19 looks for a tablet of any shard for 90 s, sends heartbeats, and then says
/// CANCELED "context has expired" (vitess go/vt/discovery/tablet_picker.go, `PickForStreaming`). Where
/// nothing comes, it is asked which shards there are: of all, it says so in the first VGTID.
#[test]
fn a_wrong_name_is_found_out_where_vitess_says_nothing() {
    let runtime = runtime();
    let serve = |shards: &'static [&'static str], refusal: Option<Ending>| {
        let (server, mut calls) = runtime.block_on(Server::start());
        runtime.spawn(async move {
            while let Some(mut call) = calls.recv().await {
                let refusal = refusal.clone();
                tokio::spawn(async move {
                    let request: VStreamRequest = call.message();
                    let asked = &request.vgtid.expect("a VGTID").shard_gtids[0];
                    let beat = VStreamResponse { events: vec![Event::new(EventType::Heartbeat)] };
                    let _ = call.send(&beat).await;
                    if asked.shard.is_empty() {
                        if let Some(refusal) = refusal {
                            return call.end(refusal).await;
                        }
                        let entry = |shard: &&str| ShardGtid {
                            keyspace: KEYSPACE.into(),
                            shard: shard.to_string(),
                            gtid: gtid(5),
                            ..ShardGtid::default()
                        };
                        let shard_gtids = shards.iter().map(entry).collect();
                        let vgtid = Event {
                            keyspace: KEYSPACE.into(),
                            shard: shards[0].into(),
                            vgtid: Some(VGtid { shard_gtids }),
                            ..Event::new(EventType::Vgtid)
                        };
                        let _ = call.send(&events(vec![vgtid])).await;
                    }
                    call.abandoned().await;
                });
            }
        });
        server
    };
    let server = serve(&["-80", "80-"], None);
    says(run(&runtime, &setting("tls=off"), &server), &["-80", "80-", "not \"-\"", "shard="]);
    let text = "keyspace ks fetch error: node doesn't exist: keyspaces/ks";
    let server = serve(&[], Some(Ending::status(code::UNAVAILABLE, text)));
    says(run(&runtime, &setting("tls=off"), &server), &[text, "names of the keyspace"]);
}

/// Reserved for names that are never there (RFC 6761).
#[test]
fn a_host_that_nobody_knows_is_definite() {
    let runtime = runtime();
    let (server, _calls) = runtime.block_on(Server::start());
    let authority = Some("no-such-host.invalid:443".to_string());
    let setting = Setting { authority, ..setting("tls=off") };
    says(
        run(&runtime, &setting, &server),
        &["dns error", "no-such-host.invalid", "check the host"],
    );
}

fn tls(wants_client: bool) -> Arc<ServerConfig> {
    let mut config = crate::tls::tls(wants_client);
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

#[test]
fn a_server_is_trusted_for_who_signed_it_and_a_client_too() {
    let runtime = runtime();
    let ca = format!("ca={}", pem("ca.pem"));
    let client = format!("cert={}&key_file={}", pem("client.pem"), pem("client.key.pem"));
    for (wants_client, query, words) in [
        (false, "tls=on".to_string(), &["UnknownIssuer", "ca=FILE"][..]),
        (false, ca.clone(), &[]),
        (true, ca.clone(), &["CertificateRequired", "cert=FILE"]),
        (true, format!("{ca}&{client}"), &[]),
    ] {
        let (server, calls) = runtime.block_on(Server::start_with(Some(tls(wants_client))));
        answer(&runtime, calls);
        let authority = Some(format!("localhost:{}", server.address.port()));
        let setting = Setting { authority, ..setting(&query) };
        match words {
            [] => assert_eq!(run(&runtime, &setting, &server), Ok(()), "{query}"),
            words => says(run(&runtime, &setting, &server), words),
        }
    }
    // A server that speaks no TLS.
    let (server, _calls) = runtime.block_on(Server::start());
    says(run(&runtime, &setting(&ca), &server), &["tls=off"]);
}

#[test]
fn user_and_password_are_sent_as_the_server_wants_them() {
    let runtime = runtime();
    for (query, expected) in [
        ("tls=off", [Some("Basic bWU6c2VjcmV0"), None, None]),
        ("tls=off&auth=static", [None, Some("me"), Some("secret")]),
    ] {
        let (server, mut calls) = runtime.block_on(Server::start());
        let (sender, headers) = std::sync::mpsc::channel();
        runtime.spawn(async move {
            let mut call = calls.recv().await.expect("a call");
            sender.send(call.headers.clone()).expect("somebody waits");
            let _ = call.send(&copy()).await;
            call.abandoned().await;
        });
        let password = Some(("me".to_string(), "secret".to_string()));
        let setting = Setting { password, ..setting(query) };
        assert_eq!(run(&runtime, &setting, &server), Ok(()));
        let headers = headers.recv().expect("a call");
        let names = ["authorization", "username", "password"];
        let found = names.map(|name| headers.get(name).map(|value| value.to_str().expect("text")));
        assert_eq!(found, expected, "{query}");
    }
}

#[test]
fn tablets_and_cells_are_those_of_the_address() {
    let runtime = runtime();
    for (query, tablet, cells) in [
        ("tls=off", 1, ""),
        ("tls=off&tablet=replica&cells=a,b", 2, "a,b"),
        ("tls=off&tablet=rdonly", 3, ""),
    ] {
        let (server, requests) = runtime
            .block_on(play::<VStreamRequest, VStreamResponse>(vec![Scene::last(vec![copy()])]));
        assert_eq!(run(&runtime, &setting(query), &server), Ok(()));
        let request = requests.lock().unwrap()[0].clone();
        assert_eq!(request.tablet_type, tablet, "{query}");
        assert_eq!(request.flags.expect("flags").cells, cells, "{query}");
        assert!(request.filter.is_some_and(|filter| filter.encoded_len() > 0));
    }
}
