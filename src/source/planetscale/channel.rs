//! Owns the connection to a server and one call on it, whose responses are a stream. It does not own
//! what is said.

use std::error::Error as StdError;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::Stream;
use tokio::time::{Instant, timeout, timeout_at};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Status, Streaming};
use tonic_prost::ProstCodec;

use super::failure::{of_status, transient};
use crate::error::{Error, ErrorKind};
use crate::source::Failure;

/// To reach the server at all may take this long.
const CONNECT_MAX: Duration = Duration::from_secs(20);
/// A connection is asked this often whether it is alive, and must answer in the time after it.
const PING_EVERY: Duration = Duration::from_secs(10);
const PONG_MAX: Duration = Duration::from_secs(20);

/// How a server is reached.
#[derive(Clone, Debug)]
pub(super) struct Server {
    endpoint: Endpoint,
    /// Marked as sensitive, so that it is never shown.
    authorization: Option<MetadataValue<Ascii>>,
    pub(super) message_bytes_max: usize,
}

impl Server {
    /// Connects to nothing yet.
    ///
    /// # Errors
    ///
    /// `Invalid` for an authority that is none, or a name or password that no header can hold.
    pub(super) fn new(
        authority: &str,
        tls: bool,
        login: Option<(&str, &str)>,
    ) -> Result<Server, Error> {
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
            .keep_alive_while_idle(true);
        if tls {
            let roots = ClientTlsConfig::new().with_native_roots();
            endpoint = endpoint.tls_config(roots).map_err(wrong)?;
        }
        let mut authorization = None;
        if let Some((user, password)) = login {
            let basic = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
            let value = basic.parse::<MetadataValue<Ascii>>();
            let mut value = value.map_err(|_| {
                Error::new(ErrorKind::Invalid, "a user or password that cannot be sent")
                    .hint("check PLANETSCALE_USER and PLANETSCALE_PASSWORD")
            })?;
            value.set_sensitive(true);
            authorization = Some(value);
        }
        Ok(Server { endpoint, authorization, message_bytes_max: 256 << 20 })
    }

    pub(super) async fn connect(&self, place: &str) -> Result<Channel, Failure> {
        let at = self.endpoint.uri();
        match timeout(CONNECT_MAX, self.endpoint.connect()).await {
            Ok(Ok(channel)) => Ok(channel),
            Ok(Err(e)) => Err(transient(format!("cannot connect to {at}: {}", chain(&e)), place)),
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
        if let Some(authorization) = &self.authorization {
            request.metadata_mut().insert("authorization", authorization.clone());
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

/// Returns an error and what caused it, as one text: tonic's own says "transport error" alone.
fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
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
mod tests {
    use std::future::{pending, ready};

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
        let server = Server::new("h:1", false, Some(("me", "secret"))).unwrap();
        let shown = format!("{server:?}");
        assert!(
            !shown.contains(&STANDARD.encode("me:secret")) && !shown.contains("secret"),
            "{shown}"
        );
        assert!(Server::new("h:1", true, None).is_ok());
    }
}
