// SPDX-License-Identifier: MIT OR Apache-2.0
//! The broker's connections: HTTP/1.1 over TLS, one connection for each node. Who has no node's certificate can do nothing but enrol.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls_pki_types::CertificateDer;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::Broker;
use super::messages::{BODY_LIMIT, END_PATH, ENROL_PATH, EndRequest, JOBS_PATH, JobsRequest, TOKEN_PATH, TokenRequest};

/// Most connections.
const MOST_CONNECTIONS: usize = 20_000;

/// Most connections of one address that have no node's certificate, and that are in their handshake. All nodes of a cluster that reconnect
/// may share an address.
const MOST_STRANGERS: usize = 64;

/// Time limit of a handshake, and of each request of somebody without a node's certificate.
const STRANGER: Duration = Duration::from_secs(10);

/// Time limit for the body of a request.
const BODY: Duration = Duration::from_secs(10);

/// Pause after a failed accept: the process has no descriptor left.
const PAUSE: Duration = Duration::from_millis(200);

/// Who is who.
pub trait Peers: Send + Sync {
    /// The name of the node with this certificate, which an authority of the broker has signed. `None`: the node was removed, or the
    /// certificate is not a node's.
    fn node_of(&self, certificate: &CertificateDer<'_>) -> Option<String>;

    /// Answers a request to enrol: a status and a JSON body.
    fn enrol(&self, address: SocketAddr, body: &[u8]) -> (u16, Vec<u8>);
}

/// What all connections share.
struct Shared {
    broker: Arc<Broker>,
    peers: Arc<dyn Peers>,
    strangers: Mutex<HashMap<IpAddr, usize>>,
}

/// Serves connections until `stop` changes. Connections that have no request are closed then.
pub async fn serve(
    broker: Arc<Broker>,
    peers: Arc<dyn Peers>,
    listener: TcpListener,
    acceptor: TlsAcceptor,
    mut stop: watch::Receiver<()>,
) {
    let shared = Arc::new(Shared { broker, peers, strangers: Mutex::default() });
    let room = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.changed() => return,
        };
        let Ok((stream, address)) = accepted else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let Ok(place) = Arc::clone(&room).try_acquire_owned() else { continue };
        let Some(stranger) = Stranger::admit(&shared, address.ip()) else { continue };
        let (shared, acceptor, stop) = (Arc::clone(&shared), acceptor.clone(), stop.clone());
        tokio::spawn(async move {
            let _place = place;
            connection(shared, acceptor, stream, address, stranger, stop).await;
        });
    }
}

/// A connection that has shown no node's certificate so far.
struct Stranger {
    shared: Arc<Shared>,
    address: IpAddr,
}

impl Stranger {
    fn admit(shared: &Arc<Shared>, address: IpAddr) -> Option<Self> {
        let mut strangers = shared.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        let count = strangers.entry(address).or_default();
        if *count >= MOST_STRANGERS {
            return None;
        }
        *count += 1;
        drop(strangers);
        Some(Self { shared: Arc::clone(shared), address })
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let mut strangers = self.shared.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = strangers.get_mut(&self.address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                strangers.remove(&self.address);
            }
        }
    }
}

async fn connection(
    shared: Arc<Shared>,
    acceptor: TlsAcceptor,
    stream: TcpStream,
    address: SocketAddr,
    stranger: Stranger,
    mut stop: watch::Receiver<()>,
) {
    let _ = stream.set_nodelay(true);
    let Ok(Ok(stream)) = timeout(STRANGER, acceptor.accept(stream)).await else { return };
    let certificate =
        stream.get_ref().1.peer_certificates().and_then(<[_]>::first).map(|found| found.clone().into_owned());
    let certificate = Arc::new(certificate);
    let is_node = certificate.as_ref().as_ref().is_some_and(|found| shared.peers.node_of(found).is_some());
    let stranger = (!is_node).then_some(stranger);
    let service = service_fn(move |request| {
        let (shared, certificate) = (Arc::clone(&shared), Arc::clone(&certificate));
        async move {
            let (status, body) = answer(&shared, certificate.as_ref().as_ref(), address, request).await;
            let mut response = Response::new(Full::new(Bytes::from(body)));
            *response.status_mut() = status;
            response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
            Ok::<_, Infallible>(response)
        }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(None::<Duration>);
    let served = http.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(served);
    if stranger.is_some() {
        let _ = timeout(STRANGER, served).await;
        return;
    }
    tokio::select! {
        _ = served.as_mut() => {}
        _ = stop.changed() => {
            served.as_mut().graceful_shutdown();
            let _ = timeout(STRANGER, served).await;
        }
    }
}

async fn answer(
    shared: &Shared,
    certificate: Option<&CertificateDer<'_>>,
    address: SocketAddr,
    request: Request<Incoming>,
) -> (StatusCode, Vec<u8>) {
    let path = request.uri().path().to_owned();
    if request.method() != Method::POST {
        return fault(StatusCode::METHOD_NOT_ALLOWED, "each request is a POST");
    }
    // At each request: the node may have been removed.
    let node = certificate.and_then(|found| shared.peers.node_of(found));
    if node.is_none() && path != ENROL_PATH {
        return fault(StatusCode::FORBIDDEN, "this is not an enrolled node");
    }
    let body = timeout(BODY, Limited::new(request.into_body(), BODY_LIMIT).collect()).await;
    let Ok(Ok(body)) = body else {
        return fault(StatusCode::BAD_REQUEST, "the body is too long, or did not come in time");
    };
    let body = body.to_bytes();
    let Some(node) = node else {
        let (status, body) = shared.peers.enrol(address, &body);
        return (StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), body);
    };
    match path.as_str() {
        TOKEN_PATH => match parse::<TokenRequest>(&body) {
            Ok(asked) => json(&shared.broker.token(&node, &asked).await),
            Err(wrong) => wrong,
        },
        END_PATH => match parse::<EndRequest>(&body) {
            Ok(ended) => json(&shared.broker.end(&node, &ended)),
            Err(wrong) => wrong,
        },
        JOBS_PATH => match parse::<JobsRequest>(&body) {
            Ok(asked) => match shared.broker.jobs(asked.uid).await {
                Some(jobs) => json(&jobs),
                None => fault(StatusCode::SERVICE_UNAVAILABLE, "slurmctld does not answer the broker"),
            },
            Err(wrong) => wrong,
        },
        ENROL_PATH => {
            let (status, body) = shared.peers.enrol(address, &body);
            (StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), body)
        }
        _ => fault(StatusCode::NOT_FOUND, "this broker does not know the request; it may be of an older version"),
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, (StatusCode, Vec<u8>)> {
    // serde's message could quote a value of the sealed text.
    serde_json::from_slice(body).map_err(|_| fault(StatusCode::BAD_REQUEST, "the request has another form"))
}

fn json<T: Serialize>(answer: &T) -> (StatusCode, Vec<u8>) {
    serde_json::to_vec(answer)
        .map_or_else(|_| fault(StatusCode::INTERNAL_SERVER_ERROR, "internal error"), |body| (StatusCode::OK, body))
}

fn fault(status: StatusCode, reason: &str) -> (StatusCode, Vec<u8>) {
    (status, serde_json::json!({ "error": reason }).to_string().into_bytes())
}
