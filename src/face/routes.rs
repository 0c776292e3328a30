//! Owns the routes, and the server that answers them. It does not own what they show; that is `shown`, and `events` what
//! a page is kept up by.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::events::{Events, events};
use super::page::page;
use super::shown::Face;
use super::site::foreign;
use crate::error::{Error, ErrorKind};
use crate::health::HealthState;
use crate::pipeline::metrics::CONTENT_TYPE;

/// Nothing that a request has to say is longer.
const BODY_BYTES_MAX: u64 = 4096;

/// What every request sees.
#[derive(Clone, Debug)]
struct Site {
    face: Face,
    events: Events,
}

/// A server that answers until it is stopped, or its runtime ends; dropping this does not stop it.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    answering: JoinHandle<()>,
    /// Makes what pages are kept up by.
    looking: JoinHandle<()>,
}

impl Server {
    /// Returns the address that it listens on, with the port that a port of 0 was given.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts no more connections, and keeps no page up any more. A connection that is open is answered as long as it
    /// stays.
    pub fn stop(self) {
        self.answering.abort();
        self.looking.abort();
    }
}

/// Listens on an address and answers on this runtime: see the [module](crate::face) for the routes. Port 0
/// takes a free port.
///
/// # Errors
///
/// `Unavailable` if the address cannot be had.
///
/// # Panics
///
/// Outside of a tokio runtime with I/O; [`Io::block_on`](crate::io::Io::block_on) brings one.
pub async fn serve(address: SocketAddr, face: Face) -> Result<Server, Error> {
    let refused = |e: std::io::Error| {
        Error::new(ErrorKind::Unavailable, format!("cannot listen: {e}"))
            .at(address.to_string())
            .hint("choose another address, or port 0 for a free port")
    };
    let listener = TcpListener::bind(address).await.map_err(refused)?;
    let bound = listener.local_addr().map_err(refused)?;
    let (events, looking) = Events::new(face.clone());
    let looking = tokio::spawn(looking);
    let routes = Router::new()
        .route("/", get(show))
        .route("/events", get(follow))
        .route("/health", get(health))
        .route("/metrics", get(metrics))
        .route("/promote", post(promote))
        .with_state(Site { face, events });
    let answering = tokio::spawn(async move {
        // It accepts for ever; errors of single connections are theirs.
        let _ = axum::serve(listener, routes).await;
    });
    Ok(Server { address: bound, answering, looking })
}

fn status(state: HealthState) -> StatusCode {
    match state.is_trouble() {
        true => StatusCode::SERVICE_UNAVAILABLE,
        false => StatusCode::OK,
    }
}

async fn health(State(Site { face, .. }): State<Site>) -> Response {
    let report = face.report();
    match serde_json::to_string(&report) {
        Ok(json) => {
            let head = [(header::CONTENT_TYPE, "application/json")];
            (status(report.state), head, json + "\n").into_response()
        }
        Err(e) => (StatusCode::INTERNAL_SERVER_ERROR, e.to_string()).into_response(),
    }
}

async fn metrics(State(Site { face, .. }): State<Site>) -> Response {
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], face.metrics()).into_response()
}

async fn promote(State(Site { face, .. }): State<Site>, headers: HeaderMap) -> Response {
    let foreign = foreign(&headers, &face.hosts());
    if let Some(why) = foreign.filter(|_| !crate::mutant::on("promotes_for_any_site")) {
        let hint = "ask by an address or localhost, or tell the program the name: Face::answer_to, ingest --http-host";
        return (StatusCode::FORBIDDEN, format!("POST /promote is refused: {why}; {hint}\n"))
            .into_response();
    }
    let text = |name| headers.get(name).and_then(|value: &header::HeaderValue| value.to_str().ok());
    // A page of another site cannot send this type without asking first.
    let kind = text(header::CONTENT_TYPE).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/json") {
        let what = "POST /promote needs Content-Type: application/json\n";
        return (StatusCode::UNSUPPORTED_MEDIA_TYPE, what).into_response();
    }
    // The body says nothing, and is never read: a connection that goes on sending is closed.
    let length = text(header::CONTENT_LENGTH).and_then(|length| length.parse().ok());
    if length.is_some_and(|length: u64| length > BODY_BYTES_MAX) {
        return (StatusCode::PAYLOAD_TOO_LARGE, "POST /promote takes no body\n").into_response();
    }
    face.promote();
    let head = [(header::CONTENT_TYPE, "application/json")];
    (head, "{\"promoted\":true}\n").into_response()
}

async fn follow(State(site): State<Site>) -> Response {
    events(&site.face, &site.events)
}

async fn show() -> Response {
    let (html, policy) = page();
    let head = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, policy.as_str()),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (head, html).into_response()
}
