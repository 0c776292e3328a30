//! Owns the HTTP face of `ingest`: `/health`, `/metrics`, a live page at `/` and `POST /promote`. It
//! does not own what they show, nor what promoting does.
//!
//! It runs on the I/O runtime, beside the workers: a request reads cells and never waits for one.

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use differential_upsert::health::{Health, HealthReport, HealthState, Role};
use differential_upsert::io::Io;
use differential_upsert::pipeline::metrics::{CONTENT_TYPE, Metrics};
use differential_upsert::{Error, ErrorKind, shard};

/// Nothing that a request has to say is longer.
const BODY_BYTES_MAX: u64 = 4096;

/// What `POST /promote` does. It returns at once and may be called any number of times.
pub(crate) type Promote = Box<dyn Fn() + Send + Sync>;

/// What the pages show, once there is a pipeline; cheap to clone.
#[derive(Clone)]
pub(crate) struct Face(Arc<Shown>);

struct Shown {
    /// What is so before there is a pipeline.
    before: Mutex<HealthReport>,
    pipeline: Mutex<Option<(Health, Metrics)>>,
    promote: Promote,
}

impl Face {
    pub(crate) fn new(promote: Promote) -> Face {
        let opening = HealthReport {
            role: Role::Writer,
            state: HealthState::Hydrating,
            input: 0,
            upper: 0,
            output: 0,
            behind: 0,
            since: 0,
            why: Some("the shard is being opened".to_string()),
        };
        Face(Arc::new(Shown { before: Mutex::new(opening), pipeline: Mutex::default(), promote }))
    }

    /// Shows, until there is a pipeline, that the feed has nothing to do yet.
    pub(crate) fn wait_for_feed(&self, is_standby: bool, state: &shard::State) {
        let mut before = self.0.before.lock().unwrap_or_else(PoisonError::into_inner);
        *before = HealthReport {
            role: if is_standby { Role::Standby } else { Role::Writer },
            state: HealthState::Idle,
            input: state.upper,
            upper: state.upper,
            output: state.upper,
            behind: 0,
            since: state.since,
            why: Some("the feed has no row yet".to_string()),
        };
    }

    /// Shows a pipeline from now on, instead of the one before.
    pub(crate) fn show(&self, health: Health, metrics: Metrics) {
        let mut pipeline = self.0.pipeline.lock().unwrap_or_else(PoisonError::into_inner);
        *pipeline = Some((health, metrics));
    }

    fn shown(&self) -> Option<(Health, Metrics)> {
        self.0.pipeline.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn report(&self) -> HealthReport {
        let before = || self.0.before.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.shown().map_or_else(before, |(health, _)| health.report())
    }
}

/// Listens on an address, says so on stderr, and answers until the process ends.
///
/// # Errors
///
/// `Unavailable` if the address cannot be had.
pub(crate) fn serve(address: SocketAddr, face: Face, io: &Io) -> Result<(), Error> {
    let refused = |e: std::io::Error| {
        Error::new(ErrorKind::Unavailable, format!("cannot listen: {e}"))
            .at(address.to_string())
            .hint("give --http another address")
    };
    let listener = TcpListener::bind(address).map_err(refused)?;
    listener.set_nonblocking(true).map_err(refused)?;
    let bound = listener.local_addr().map_err(refused)?;
    let listener =
        io.block_on(async { tokio::net::TcpListener::from_std(listener) }).map_err(refused)?;
    eprintln!("http://{bound}/");
    let routes = Router::new()
        .route("/", get(page))
        .route("/health", get(health))
        .route("/metrics", get(metrics))
        .route("/promote", post(promote))
        .with_state(face);
    // It accepts for ever; errors of single connections are theirs.
    io.spawn(async move { axum::serve(listener, routes).await });
    Ok(())
}

fn status(state: HealthState) -> StatusCode {
    match state.is_trouble() {
        true => StatusCode::SERVICE_UNAVAILABLE,
        false => StatusCode::OK,
    }
}

async fn health(State(face): State<Face>) -> Response {
    let report = face.report();
    match serde_json::to_string(&report) {
        Ok(json) => {
            let head = [(header::CONTENT_TYPE, "application/json")];
            (status(report.state), head, json + "\n").into_response()
        }
        Err(e) => (StatusCode::INTERNAL_SERVER_ERROR, e.to_string()).into_response(),
    }
}

async fn metrics(State(face): State<Face>) -> Response {
    let text = face.shown().map(|(_, metrics)| metrics.text()).unwrap_or_default();
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response()
}

async fn promote(State(face): State<Face>, headers: HeaderMap) -> Response {
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
    (face.0.promote)();
    let head = [(header::CONTENT_TYPE, "application/json")];
    (head, "{\"promoted\":true}\n").into_response()
}

async fn page(State(face): State<Face>) -> Response {
    let report = face.report();
    let row = |name: &str, value: u64| format!("<tr><th>{name}<td>{value}\n");
    let rows: String = [
        row("input", report.input),
        row("upper", report.upper),
        row("output", report.output),
        row("behind", report.behind),
        row("since", report.since),
    ]
    .concat();
    let (role, state) = (report.role.name(), report.state.name());
    let trouble = if report.state.is_trouble() { " class=trouble" } else { "" };
    let why = escaped(report.why.as_deref().unwrap_or_default());
    let html = format!(
        "<!doctype html>\n<html lang=en>\n<meta charset=utf-8>\n<meta http-equiv=refresh \
         content=1>\n<title>{state} {upper} - differential-upsert</title>\n<style>\n\
         body {{ font: 16px system-ui, sans-serif; margin: 2em; max-width: 50em }}\n\
         th {{ text-align: left; padding-right: 2em }}\n\
         td {{ text-align: right; font-variant-numeric: tabular-nums }}\n\
         .trouble {{ color: #b00020 }}\n</style>\n<h1{trouble}>{state}</h1>\n\
         <p>{role}</p>\n<table>\n{rows}</table>\n<p>{why}</p>\n\
         <p><a href=/health>health</a> <a href=/metrics>metrics</a></p>\n</html>\n",
        upper = report.upper,
    );
    let policy = "default-src 'none'; style-src 'unsafe-inline'";
    let head = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (head, html).into_response()
}

/// An error may quote a row.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
