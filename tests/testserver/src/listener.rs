// SPDX-License-Identifier: MIT OR Apache-2.0
//! Serves a [`Handler`] over HTTP/1.1, with or without TLS. As the handler says, it also closes connections without an
//! answer, delays answers, and sends them one byte at a time.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use http_body_util::channel::Channel;
use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_LENGTH, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::http::{Handler, Reply, Request, Response};
use crate::locked;
use crate::tls::TlsConfig;

/// Larger requests are answered with 413.
const BODY_LIMIT: usize = 4 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ListenerState {
    Up,
    Outage,
    Stopped,
}

/// A running listener. It stops when this is dropped.
#[derive(Debug)]
pub struct Listening {
    address: SocketAddr,
    state: watch::Sender<ListenerState>,
    reached: Arc<ReachedState>,
}

/// The state that the listener has reached.
#[derive(Debug)]
struct ReachedState {
    state: Mutex<ListenerState>,
    changed: Condvar,
}

impl ReachedState {
    fn set(&self, state: ListenerState) {
        *locked(&self.state) = state;
        self.changed.notify_all();
    }

    fn wait(&self, wanted: ListenerState) {
        let waiting = self.changed.wait_timeout_while(locked(&self.state), STATE_TIMEOUT, |state| *state != wanted);
        drop(waiting);
    }
}

/// Maximum time that a caller waits for a change of the listener's state.
const STATE_TIMEOUT: Duration = Duration::from_secs(2);

impl Listening {
    /// The address that it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Starts or ends an outage, which closes the port and all connections. Returns when the listener has done so.
    pub fn set_outage(&self, on: bool) {
        let state = if on { ListenerState::Outage } else { ListenerState::Up };
        self.state.send_replace(state);
        self.reached.wait(state);
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.state.send_replace(ListenerState::Stopped);
    }
}

/// Listens on an address; port 0 takes a free one. Each request runs on its own thread.
///
/// # Errors
/// It cannot listen on the address.
pub fn spawn(address: SocketAddr, tls: Option<TlsConfig>, handler: Arc<dyn Handler>) -> io::Result<Listening> {
    spawn_on(std::net::TcpListener::bind(address)?, tls, handler)
}

/// Listens on a socket.
///
/// # Errors
/// It cannot listen there.
pub fn spawn_on(
    socket: std::net::TcpListener,
    tls: Option<TlsConfig>,
    handler: Arc<dyn Handler>,
) -> io::Result<Listening> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    socket.set_nonblocking(true)?;
    let address = socket.local_addr()?;
    let socket = {
        let _inside = runtime.enter();
        TcpListener::from_std(socket)?
    };
    let (state, watched) = watch::channel(ListenerState::Up);
    let reached = Arc::new(ReachedState { state: Mutex::new(ListenerState::Up), changed: Condvar::new() });
    let setup = ConnectionSetup { tls: tls.map(TlsAcceptor::from), handler };
    let reported = Arc::clone(&reached);
    std::thread::Builder::new().name(format!("listener {}", address.port())).spawn(move || {
        runtime.block_on(listen(socket, address, watched, setup, &reported));
        // Handlers that sleep in a fault must not keep the process alive.
        runtime.shutdown_background();
    })?;
    Ok(Listening { address, state, reached })
}

/// What each connection needs.
#[derive(Clone)]
struct ConnectionSetup {
    tls: Option<TlsAcceptor>,
    handler: Arc<dyn Handler>,
}

async fn listen(
    first: TcpListener,
    address: SocketAddr,
    mut state: watch::Receiver<ListenerState>,
    setup: ConnectionSetup,
    reached: &ReachedState,
) {
    let mut socket = Some(first);
    // Dropping the set closes the connections.
    let mut connections = JoinSet::new();
    loop {
        let now = *state.borrow_and_update();
        match (now, &socket) {
            (ListenerState::Stopped, _) => return,
            (ListenerState::Outage, _) => {
                // The kernel refuses connections once the socket is closed.
                socket = None;
                connections.shutdown().await;
                reached.set(ListenerState::Outage);
                if state.changed().await.is_err() {
                    return;
                }
            }
            (ListenerState::Up, None) => match TcpListener::bind(address).await {
                Ok(bound) => {
                    socket = Some(bound);
                    reached.set(ListenerState::Up);
                }
                Err(error) => {
                    eprintln!("testserver: cannot listen on {address} again: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            (ListenerState::Up, Some(listening)) => tokio::select! {
                accepted = listening.accept() => match accepted {
                    Ok((stream, peer)) => {
                        while connections.try_join_next().is_some() {}
                        connections.spawn(connection(stream, peer, setup.clone()));
                    }
                    // Most likely out of file descriptors: try again when connections have closed.
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                },
                _ = state.changed() => {}
            },
        }
    }
}

async fn connection(stream: TcpStream, peer: SocketAddr, setup: ConnectionSetup) {
    // Otherwise each byte of a dripping answer would wait for the client's acknowledgement.
    let _ = stream.set_nodelay(true);
    match &setup.tls {
        Some(acceptor) => {
            if let Ok(stream) = acceptor.accept(stream).await {
                serve_http(TokioIo::new(stream), peer, &setup.handler).await;
            }
        }
        None => serve_http(TokioIo::new(stream), peer, &setup.handler).await,
    }
}

async fn serve_http<S>(stream: S, peer: SocketAddr, handler: &Arc<dyn Handler>)
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin,
{
    let service = service_fn(|request| answer(request, peer, Arc::clone(handler)));
    // Errors come from the client or from a fault that a test set: nothing to report.
    let _ = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(60))
        .serve_connection(stream, service)
        .await;
}

type ResponseBody = Either<Full<Bytes>, Channel<Bytes, Infallible>>;

/// A request that gets no answer; hyper closes the connection for it.
#[derive(Debug, thiserror::Error)]
#[error("closed on purpose")]
struct Closed;

async fn answer(
    request: hyper::Request<Incoming>,
    peer: SocketAddr,
    handler: Arc<dyn Handler>,
) -> Result<hyper::Response<ResponseBody>, Closed> {
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, BODY_LIMIT).collect().await else {
        return Ok(complete(Response::typed(413, "text/plain", "the request is too large\n")));
    };
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let request = Request {
        method: head.method.to_string(),
        path: head.uri.path().to_owned(),
        query: head.uri.query().map(str::to_owned),
        headers: head.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
        body: body.to_bytes().to_vec(),
        peer: peer.ip().to_canonical(),
    };
    let unsent = tokio::task::spawn_blocking(move || Unsent { reply: Some(handler.handle(&request)), handler }).await;
    let Ok(unsent) = unsent else {
        return Ok(complete(Response::typed(500, "text/plain", "the handler panicked\n")));
    };
    if let Some(Reply::Late(_, pause)) = unsent.reply {
        tokio::time::sleep(pause).await;
    }
    match unsent.send() {
        Some(Reply::Answer(response) | Reply::Late(response, _)) => Ok(complete(response)),
        Some(Reply::Drip(response, pause)) => Ok(dripping(response, pause)),
        Some(Reply::Close) | None => Err(Closed),
    }
}

/// A reply on its way. The connection owns it, whose end drops it.
struct Unsent {
    reply: Option<Reply>,
    handler: Arc<dyn Handler>,
}

impl Unsent {
    fn send(mut self) -> Option<Reply> {
        self.reply.take()
    }
}

impl Drop for Unsent {
    fn drop(&mut self) {
        if let Some(Reply::Answer(answer) | Reply::Late(answer, _) | Reply::Drip(answer, _)) = &self.reply {
            self.handler.not_sent(answer);
        }
    }
}

fn complete(response: Response) -> hyper::Response<ResponseBody> {
    let (head, body) = split(response);
    head.map(|()| Either::Left(Full::new(body)))
}

fn dripping(response: Response, pause: Duration) -> hyper::Response<ResponseBody> {
    let (mut head, body) = split(response);
    head.headers_mut().insert(CONTENT_LENGTH, body.len().into());
    let (mut sender, channel) = Channel::new(1);
    tokio::spawn(async move {
        for byte in body {
            if sender.send_data(Bytes::from(vec![byte])).await.is_err() {
                return;
            }
            tokio::time::sleep(pause).await;
        }
    });
    head.map(|()| Either::Right(channel))
}

fn split(response: Response) -> (hyper::Response<()>, Bytes) {
    let mut head = hyper::Response::new(());
    // An invalid status or header is a bug of this server; 501 shows it to the client.
    *head.status_mut() = hyper::StatusCode::from_u16(response.status).unwrap_or(hyper::StatusCode::NOT_IMPLEMENTED);
    for (name, value) in &response.headers {
        match (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
            (Ok(name), Ok(value)) => drop(head.headers_mut().append(name, value)),
            _ => *head.status_mut() = hyper::StatusCode::NOT_IMPLEMENTED,
        }
    }
    (head, response.body.into())
}
