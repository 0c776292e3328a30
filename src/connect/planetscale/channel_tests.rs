//! Goal: a connection is known by what it says, and is not asked more often than servers bear. Method: a
//! paused clock.

use std::future::{pending, ready};
use std::sync::atomic::AtomicU64;

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tonic::codegen::Service;
use tonic::codegen::http::Uri;

use super::*;

#[tokio::test(start_paused = true)]
async fn silence_is_noticed_though_the_wait_is_given_up_again_and_again() {
    let begin = Instant::now();
    let mut silence = Silence::new(Some(Duration::from_secs(30)));
    let mut waits = 0;
    loop {
        waits += 1;
        assert!(waits < 100, "never noticed");
        let wait = silence.wait(pending::<Result<(), Failure>>(), "ks/t");
        if let Ok(heard) = timeout(Duration::from_secs(7), wait).await {
            assert!(matches!(heard, Err(Failure::Transient(_))));
            break;
        }
    }
    assert_eq!(begin.elapsed(), Duration::from_secs(30));
}

#[tokio::test(start_paused = true)]
async fn who_does_not_listen_is_not_in_silence() {
    let mut silence = Silence::new(Some(Duration::from_secs(30)));
    tokio::time::advance(Duration::from_secs(300)).await;
    assert_eq!(silence.wait(ready(Ok(1)), "ks/t").await.unwrap(), 1);
    tokio::time::advance(Duration::from_secs(300)).await;
    let begin = Instant::now();
    assert!(silence.wait(pending::<Result<(), Failure>>(), "ks/t").await.is_err());
    assert_eq!(begin.elapsed(), Duration::from_secs(30));
    let mut endless = Silence::new(Some(Duration::MAX));
    assert_eq!(endless.wait(ready(Ok(2)), "ks/t").await.unwrap(), 2);
}

#[test]
fn a_password_is_never_shown() {
    for (auth, secret) in [("basic", STANDARD.encode("me:secret")), ("static", "secret".into())] {
        let url = format!("planetscale://h:1/k/t?tls=off&auth={auth}");
        let address = Address::parse(&url).unwrap();
        let server = Server::new(&address, Some(("me", "secret"))).unwrap();
        let shown = format!("{server:?}");
        assert!(!shown.contains(&secret) && !shown.contains("secret"), "{shown}");
    }
    assert!(Server::new(&Address::parse("planetscale://h:1/k/t").unwrap(), None).is_ok());
}

/// Counts the PING frames of a client that are no answers (RFC 9113, 6.7).
async fn count_pings(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    count: Arc<AtomicU64>,
) {
    const PREFACE: usize = 24;
    const PING: u8 = 6;
    const ACK: u8 = 1;
    let mut preface = [0; PREFACE];
    if from.read_exact(&mut preface).await.is_err() || to.write_all(&preface).await.is_err() {
        return;
    }
    loop {
        let mut head = [0; 9];
        if from.read_exact(&mut head).await.is_err() {
            return;
        }
        let mut body = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        if from.read_exact(&mut body).await.is_err() {
            return;
        }
        if head[3] == PING && head[4] & ACK == 0 {
            count.fetch_add(1, Ordering::Relaxed);
        }
        if to.write_all(&head).await.is_err() || to.write_all(&body).await.is_err() {
            return;
        }
    }
}

/// Connects to a server that takes calls and answers none, and counts the pings that it gets.
#[derive(Clone)]
struct Silent(Arc<AtomicU64>);

impl Service<Uri> for Silent {
    type Response = TokioIo<tokio::io::DuplexStream>;
    type Error = std::io::Error;
    type Future = std::future::Ready<Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let (client, outer) = tokio::io::duplex(1 << 16);
        let (inner, server) = tokio::io::duplex(1 << 16);
        let (from_client, mut to_client) = tokio::io::split(outer);
        let (mut from_server, to_server) = tokio::io::split(inner);
        tokio::spawn(count_pings(from_client, to_server, Arc::clone(&self.0)));
        tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
        tokio::spawn(async move {
            let mut connection = h2::server::handshake(server).await.unwrap();
            let mut calls = Vec::new();
            while let Some(Ok(call)) = connection.accept().await {
                calls.push(call);
            }
        });
        ready(Ok(TokioIo::new(client)))
    }
}

/// A gateway that has nothing to say for half an hour: grpc-go takes a client that pings it more than
/// every five minutes for an attacker, and says GOAWAY "too_many_pings" at the third time
/// (internal/transport/http2_server.go, `handlePing`).
#[tokio::test(start_paused = true)]
async fn a_silent_server_is_pinged_every_five_minutes_at_most() {
    let address = Address::parse("planetscale://h:1/k/t?tls=off").unwrap();
    let server = Server::new(&address, None).unwrap();
    let silent = Silent(Arc::default());
    let channel = server.endpoint.connect_with_connector(silent.clone()).await.unwrap();
    let mut call: Call<()> = server.call(&channel, "/silent", ());
    let response = std::future::poll_fn(|context| call.poll_response(context, "ks/t"));
    assert!(timeout(Duration::from_secs(1800), response).await.is_err(), "it is silent");
    let pings = silent.0.load(Ordering::Relaxed);
    assert!((1..=6).contains(&pings), "{pings} pings");
}
