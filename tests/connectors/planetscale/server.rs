//! Owns the wire: HTTP/2 on loopback with gRPC's frames on it, and every way in which a response can
//! end. What is answered is up to the taker of the [`Call`]s.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{BufMut, Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Request, Response};
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

/// gRPC's status codes, those in use here.
pub mod code {
    pub const OK: i32 = 0;
    pub const CANCELLED: i32 = 1;
    pub const UNKNOWN: i32 = 2;
    pub const INVALID_ARGUMENT: i32 = 3;
    pub const DEADLINE_EXCEEDED: i32 = 4;
    pub const NOT_FOUND: i32 = 5;
    pub const PERMISSION_DENIED: i32 = 7;
    pub const RESOURCE_EXHAUSTED: i32 = 8;
    pub const FAILED_PRECONDITION: i32 = 9;
    pub const ABORTED: i32 = 10;
    pub const UNIMPLEMENTED: i32 = 12;
    pub const INTERNAL: i32 = 13;
    pub const UNAVAILABLE: i32 = 14;
    pub const UNAUTHENTICATED: i32 = 16;
}

/// How an answer ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Trailers with a status; 0 says that all is well.
    Status(i32, String),
    /// RST_STREAM.
    Reset(Reason),
    /// The body ends, and no trailers come.
    NoTrailers,
    /// Half a message, then trailers that say that all is well.
    HalfMessage,
    /// GOAWAY, and the connection closes.
    GoAway,
    /// GOAWAY for what may begin later, and what runs is called off.
    LastCall,
    /// The connection is gone.
    Cut,
    /// Nothing ever comes again, not even headers if there were none.
    Silence,
}

impl Ending {
    pub fn status(code: i32, text: &str) -> Ending {
        Ending::Status(code, text.into())
    }
}

/// What a connection can be told from outside.
#[derive(Debug)]
enum Told {
    GoAway,
    LastCall,
    Cut,
}

/// The client has gone, or will not hear any more.
#[derive(Debug)]
pub struct Gone;

/// A listening server.
pub struct Server {
    pub address: SocketAddr,
    refuse: Arc<AtomicU64>,
}

impl Server {
    /// Listens on a port of its own; calls come through the channel.
    pub async fn start() -> (Server, UnboundedReceiver<Call>) {
        Server::start_with(None).await
    }

    /// The same, behind TLS.
    pub async fn start_with(tls: Option<Arc<ServerConfig>>) -> (Server, UnboundedReceiver<Call>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let refuse = Arc::new(AtomicU64::new(0));
        let (sender, calls) = unbounded_channel();
        let server = Server { address, refuse: refuse.clone() };
        let acceptor = tls.map(TlsAcceptor::from);
        tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { return };
                let less = |n: u64| n.checked_sub(1);
                if refuse.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok() {
                    continue;
                }
                stream.set_nodelay(true).expect("a socket");
                match acceptor.clone() {
                    None => drop(tokio::spawn(connection(stream, sender.clone()))),
                    Some(acceptor) => {
                        let sender = sender.clone();
                        tokio::spawn(async move {
                            // A client that does not trust this server goes away.
                            let Ok(stream) = acceptor.accept(stream).await else { return };
                            connection(stream, sender).await;
                        });
                    }
                }
            }
        });
        (server, calls)
    }

    /// Closes the next connections as soon as they are made.
    pub fn refuse(&self, count: u64) {
        self.refuse.store(count, Ordering::Relaxed);
    }
}

/// Serves one connection until it closes.
async fn connection(stream: impl AsyncRead + AsyncWrite + Unpin, calls: UnboundedSender<Call>) {
    // A client that goes away in the handshake concerns no test.
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    let (control, mut told) = unbounded_channel();
    loop {
        tokio::select! {
            biased;
            order = told.recv() => match order {
                // Dropping it closes the socket.
                Some(Told::Cut) | None => return,
                Some(Told::GoAway) => connection.abrupt_shutdown(Reason::NO_ERROR),
                Some(Told::LastCall) => connection.graceful_shutdown(),
            },
            call = connection.accept() => {
                let Some(Ok((request, respond))) = call else { return };
                let (calls, control) = (calls.clone(), control.clone());
                tokio::spawn(async move {
                    if let Some(call) = Call::read(request, respond, control).await {
                        // An error means that nobody takes calls any more.
                        let _ = calls.send(call);
                    }
                });
            }
        }
    }
}

/// One call: what was asked, and how to answer.
pub struct Call {
    pub path: String,
    pub headers: HeaderMap,
    /// The first message.
    pub request: Bytes,
    respond: SendResponse<Bytes>,
    body: Option<SendStream<Bytes>>,
    control: UnboundedSender<Told>,
}

impl Call {
    async fn read(
        request: Request<RecvStream>,
        respond: SendResponse<Bytes>,
        control: UnboundedSender<Told>,
    ) -> Option<Call> {
        let (head, mut body) = request.into_parts();
        let mut bytes = BytesMut::new();
        while let Some(chunk) = body.data().await {
            let chunk = chunk.ok()?;
            body.flow_control().release_capacity(chunk.len()).ok()?;
            bytes.put(chunk);
        }
        assert_eq!(head.method, http::Method::POST);
        assert_eq!(head.headers["te"], "trailers");
        let kind = head.headers["content-type"].to_str().expect("text");
        assert!(kind.starts_with("application/grpc"), "{kind}");
        assert!(bytes.len() >= 5 && bytes[0] == 0, "one message, not compressed: {bytes:?}");
        let length = u32::from_be_bytes(bytes[1..5].try_into().expect("4 bytes")) as usize;
        assert_eq!(bytes.len(), 5 + length, "a server stream is asked for with one message");
        let (path, request) = (head.uri.path().to_string(), bytes.split_off(5).freeze());
        Some(Call { path, headers: head.headers, request, respond, body: None, control })
    }

    /// Reads the message that was sent.
    pub fn message<M: Message + Default>(&self) -> M {
        M::decode(self.request.clone()).expect("a message of this type")
    }

    fn open(&mut self) -> Result<&mut SendStream<Bytes>, Gone> {
        if self.body.is_none() {
            let head = Response::builder().header("content-type", "application/grpc");
            let head = head.body(()).expect("a response");
            self.body = Some(self.respond.send_response(head, false).map_err(|_| Gone)?);
        }
        self.body.as_mut().ok_or(Gone)
    }

    /// Sends the headers, as a server does that has nothing to say yet.
    pub fn begin(&mut self) -> Result<(), Gone> {
        self.open().map(drop)
    }

    /// Sends a message, in DATA frames of at most so many bytes.
    pub async fn send_in(&mut self, message: &impl Message, frame: usize) -> Result<(), Gone> {
        let mut bytes = framed(message);
        let body = self.open()?;
        while !bytes.is_empty() {
            body.reserve_capacity(bytes.len().min(frame));
            let granted = poll_fn(|cx| body.poll_capacity(cx)).await;
            let Some(Ok(granted)) = granted else { return Err(Gone) };
            let part = bytes.split_to(granted.min(bytes.len()).min(frame));
            body.send_data(part, false).map_err(|_| Gone)?;
        }
        Ok(())
    }

    pub async fn send(&mut self, message: &impl Message) -> Result<(), Gone> {
        self.send_in(message, usize::MAX).await
    }

    /// Waits until the client does not want this answer any more.
    pub async fn abandoned(&mut self) {
        let _ = match &mut self.body {
            Some(body) => poll_fn(|cx| body.poll_reset(cx)).await,
            None => poll_fn(|cx| self.respond.poll_reset(cx)).await,
        };
    }

    /// Ends the answer. What was sent before may overtake nothing, but may be lost with the stream.
    pub async fn end(mut self, ending: Ending) {
        // An error means that the client was faster.
        let _ = self.try_end(ending).await;
    }

    async fn try_end(&mut self, ending: Ending) -> Result<(), Gone> {
        match ending {
            Ending::Status(code, text) if self.body.is_none() => {
                let head = Response::builder().header("content-type", "application/grpc");
                let head = head.header("grpc-status", code).header("grpc-message", encoded(&text));
                let head = head.body(()).expect("a response");
                self.respond.send_response(head, true).map_err(|_| Gone)?;
            }
            Ending::Status(code, text) => {
                self.open()?.send_trailers(trailers(code, &text)).map_err(|_| Gone)?;
            }
            Ending::Reset(reason) => match &mut self.body {
                Some(body) => body.send_reset(reason),
                None => self.respond.send_reset(reason),
            },
            Ending::NoTrailers => self.open()?.send_data(Bytes::new(), true).map_err(|_| Gone)?,
            Ending::HalfMessage => {
                let body = self.open()?;
                let half = Bytes::from_static(&[0, 0, 0, 0, 9, 10]);
                body.send_data(half, false).map_err(|_| Gone)?;
                body.send_trailers(trailers(0, "")).map_err(|_| Gone)?;
            }
            Ending::GoAway | Ending::LastCall | Ending::Cut => {
                let told = match ending {
                    Ending::GoAway => Told::GoAway,
                    Ending::LastCall => Told::LastCall,
                    _ => Told::Cut,
                };
                self.control.send(told).map_err(|_| Gone)?;
                match ending {
                    Ending::GoAway => self.abandoned().await,
                    Ending::LastCall => {
                        let trailers = trailers(code::UNAVAILABLE, "the server is going away");
                        self.open()?.send_trailers(trailers).map_err(|_| Gone)?;
                    }
                    _ => {}
                }
            }
            Ending::Silence => self.abandoned().await,
        }
        Ok(())
    }
}

/// A message with gRPC's five bytes before it.
fn framed(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut bytes = BytesMut::with_capacity(5 + length);
    bytes.put_u8(0);
    bytes.put_u32(length as u32);
    message.encode(&mut bytes).expect("a buffer grows");
    bytes.freeze()
}

fn trailers(code: i32, text: &str) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", code.into());
    if !text.is_empty() {
        trailers.insert("grpc-message", encoded(text));
    }
    trailers
}

/// Percent-encodes as gRPC does.
fn encoded(text: &str) -> HeaderValue {
    let one = |byte: u8| match byte {
        b' '..=b'~' if byte != b'%' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    let text: String = text.bytes().map(one).collect();
    HeaderValue::from_str(&text).expect("visible characters")
}
