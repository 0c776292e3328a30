//! Owns the connection to a server and one call on it, whose responses are a stream. It does not own
//! what is said.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::Stream;
use tokio::time::{Instant, timeout, timeout_at};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Status, Streaming};
use tonic_prost::ProstCodec;

use super::failure::{chain, of_connect, of_status, transient};
use super::url::{Address, Auth};
use crate::error::{Error, ErrorKind};
use crate::source::Failure;

/// To reach the server at all may take this long.
const CONNECT_MAX: Duration = Duration::from_secs(20);
/// A connection is asked this often whether it is alive, and must answer in the time after it. A server
/// of gRPC closes one that asks more often than every five minutes while it has nothing to say (grpc-go,
/// `keepalive.EnforcementPolicy.MinTime`).
const PING_EVERY: Duration = Duration::from_secs(305);
const PONG_MAX: Duration = Duration::from_secs(20);
/// A dead peer is noticed by the operating system: after a minute of silence, and some more tries.
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);
const TCP_KEEPALIVE_EVERY: Duration = Duration::from_secs(10);
const TCP_KEEPALIVE_TRIES: u32 = 3;

/// How a server is reached.
#[derive(Clone, Debug)]
pub(super) struct Server {
    endpoint: Endpoint,
    /// Names and values. Marked as sensitive, so that they are never shown.
    login: Vec<(&'static str, MetadataValue<Ascii>)>,
    pub(super) message_bytes_max: usize,
    /// It has been connected to, in this process.
    reached: Arc<AtomicBool>,
}

impl Server {
    /// Connects to nothing yet.
    ///
    /// # Errors
    ///
    /// `Invalid` for an authority that is none, a name or password that no header can hold, and files of
    /// certificates that are not there or not PEM.
    pub(super) fn new(address: &Address, login: Option<(&str, &str)>) -> Result<Server, Error> {
        let (authority, tls) = (&*address.authority, address.tls);
        let wrong = |e: tonic::transport::Error| {
            Error::new(ErrorKind::Invalid, format!("no address of a server: {}", chain(&e)))
                .at(authority)
                .hint("write HOST:PORT")
        };
        let scheme = if tls { "https" } else { "http" };
        let mut endpoint = Endpoint::from_shared(format!("{scheme}://{authority}"))
            .map_err(wrong)?
            .connect_timeout(CONNECT_MAX)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PONG_MAX)
            .tcp_keepalive(Some(TCP_KEEPALIVE))
            .tcp_keepalive_interval(Some(TCP_KEEPALIVE_EVERY))
            .tcp_keepalive_retries(Some(TCP_KEEPALIVE_TRIES));
        if tls {
            let certificates = |e: tonic::transport::Error| {
                Error::new(ErrorKind::Invalid, format!("no certificates: {}", chain(&e)))
                    .at(authority)
                    .hint("ca=, cert= and key_file= name files of PEM")
            };
            endpoint = endpoint.tls_config(tls_of(address)?).map_err(certificates)?;
        }
        let mut sent = Vec::new();
        if let Some((user, password)) = login {
            let basic = || format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
            let all = match address.auth {
                Auth::Basic => vec![("authorization", basic())],
                Auth::Static => vec![("username", user.into()), ("password", password.into())],
            };
            for (name, value) in all {
                let value = value.parse::<MetadataValue<Ascii>>();
                let mut value = value.map_err(|_| {
                    Error::new(ErrorKind::Invalid, "a user or password that cannot be sent")
                        .hint("check PLANETSCALE_USER and PLANETSCALE_PASSWORD")
                })?;
                value.set_sensitive(true);
                sent.push((name, value));
            }
        }
        let (login, reached) = (sent, Arc::default());
        Ok(Server { endpoint, login, message_bytes_max: 256 << 20, reached })
    }

    pub(super) async fn connect(&self, place: &str) -> Result<Channel, Failure> {
        let at = self.endpoint.uri();
        match timeout(CONNECT_MAX, self.endpoint.connect()).await {
            Ok(Ok(channel)) => {
                self.reached.store(true, Ordering::Relaxed);
                Ok(channel)
            }
            Ok(Err(e)) => {
                let what = format!("cannot connect to {at}: {}", chain(&e));
                Err(of_connect(what, self.reached.load(Ordering::Relaxed), place))
            }
            Err(_) => {
                let seconds = CONNECT_MAX.as_secs();
                Err(transient(format!("cannot connect to {at} in {seconds} s"), place))
            }
        }
    }

    /// Begins a call. Nothing is waited for: some servers send not even their headers before there is
    /// something to say.
    pub(super) fn call<Req, Res>(
        &self,
        channel: &Channel,
        path: &'static str,
        request: Req,
    ) -> Call<Res>
    where
        Req: prost::Message + Send + Sync + 'static,
        Res: prost::Message + Default + Send + Sync + 'static,
    {
        let grpc = Grpc::new(channel.clone());
        let mut grpc = grpc.max_decoding_message_size(self.message_bytes_max);
        let mut request = Request::new(request);
        for (name, value) in &self.login {
            request.metadata_mut().insert(*name, value.clone());
        }
        Call::Opening(Box::pin(async move {
            let unready = |e| Status::unavailable(format!("the connection is lost: {}", chain(&e)));
            grpc.ready().await.map_err(unready)?;
            let codec = ProstCodec::<Req, Res>::default();
            let path = PathAndQuery::from_static(path);
            Ok(grpc.server_streaming(request, path, codec).await?.into_inner())
        }))
    }
}

/// Returns the certificates to trust, and our own.
fn tls_of(address: &Address) -> Result<ClientTlsConfig, Error> {
    let read = |name: &str, path: &String| {
        std::fs::read(path).map_err(|e| {
            let what = format!("cannot read {name}={path}: {e}");
            Error::new(ErrorKind::Invalid, what).hint("name a file of PEM")
        })
    };
    let mut tls = ClientTlsConfig::new();
    tls = match &address.ca {
        // It alone, and not what else the system trusts.
        Some(path) => tls.ca_certificate(Certificate::from_pem(read("ca", path)?)),
        None => tls.with_native_roots(),
    };
    if let (Some(cert), Some(key)) = (&address.cert, &address.key_file) {
        tls = tls.identity(Identity::from_pem(read("cert", cert)?, read("key_file", key)?));
    }
    Ok(tls)
}

type Opening<Res> = Pin<Box<dyn Future<Output = Result<Streaming<Res>, Status>> + Send>>;

/// A call and its responses. To drop what waits for one loses none.
pub(super) enum Call<Res> {
    Opening(Opening<Res>),
    Open(Box<Streaming<Res>>),
}

impl<Res> fmt::Debug for Call<Res> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Call::Opening(_) => "Call::Opening",
            Call::Open(_) => "Call::Open",
        })
    }
}

impl<Res> Call<Res> {
    /// Returns the next response; `None` if the server ended the call, and said that all is well.
    pub(super) fn poll_response(
        &mut self,
        context: &mut Context<'_>,
        place: &str,
    ) -> Poll<Result<Option<Res>, Failure>> {
        loop {
            let response = match self {
                Call::Opening(opening) => match opening.as_mut().poll(context) {
                    Poll::Ready(Ok(streaming)) => {
                        *self = Call::Open(Box::new(streaming));
                        continue;
                    }
                    Poll::Ready(Err(status)) => Err(status),
                    Poll::Pending => return Poll::Pending,
                },
                Call::Open(streaming) => match Pin::new(&mut **streaming).poll_next(context) {
                    Poll::Ready(response) => response.transpose(),
                    Poll::Pending => return Poll::Pending,
                },
            };
            return Poll::Ready(response.map_err(|status| of_status(status, place)));
        }
    }
}

/// How long nothing has come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Silence {
    max: Option<Duration>,
    since: Instant,
}

/// So much past the end of the time, nobody was listening.
const AWAY: Duration = Duration::from_secs(1);

impl Silence {
    pub(super) fn new(max: Option<Duration>) -> Self {
        Silence { max, since: Instant::now() }
    }

    /// Waits for something, but not longer than silence may last. To drop this and call it again does
    /// not start the time anew.
    pub(super) async fn wait<T>(
        &mut self,
        something: impl Future<Output = Result<T, Failure>>,
        place: &str,
    ) -> Result<T, Failure> {
        let ends = |since: Instant, max: Option<Duration>| since.checked_add(max?);
        let now = Instant::now();
        let over = ends(self.since, self.max).and_then(|end| end.checked_add(AWAY));
        if over.is_some_and(|over| over < now) {
            // It was not the server that was silent: nobody asked for what it had to say.
            self.since = now;
        }
        let heard = match ends(self.since, self.max) {
            Some(end) => timeout_at(end, something).await.unwrap_or_else(|_| {
                let what =
                    format!("the server has been silent for {:?}", self.max.unwrap_or_default());
                Err(transient(what, place))
            }),
            None => something.await,
        };
        self.since = Instant::now();
        heard
    }
}

#[cfg(test)]
#[path = "channel_tests.rs"]
mod tests;
