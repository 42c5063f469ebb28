// SPDX-License-Identifier: MIT OR Apache-2.0
//! The broker's connections: HTTP/1.1 over TLS, one connection for each node. Who has no node's certificate can do nothing but enrol.

mod answer;
mod refused_certificates;

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::Broker;
use super::answers::NO_SLURMCTLD;
use super::entrance::{Entrance, EntranceWork};
use super::identity::attempts::network_name;
use super::identity::enrolment::RefusalKind;
use super::identity::{NodeName, Peer};
use super::listening::keep_alive;
use super::messages::{
    BODY_LIMIT, END_PATH, ENROL_PATH, EndRequest, EnrolRequest, FORGET_PATH, ForgetRequest, JOBS_PATH, JobsRequest,
    KEEP_PATH, KEPT_PATH, KeepRequest, KeptRequest, PERMIT_PATH, PermitRequest, RENEW_PATH, REPLACE_PATH,
    REPLACED_PATH, RenewRequest, ReplaceRequest, ReplacedRequest, START_PATH, StartRequest, TOKEN_PATH, TokenOutcome,
    TokenRequest,
};
use super::node_connections::{Activity, MOST as MOST_CONNECTIONS, MOST_OF_NODE, NoPlace, NodeConnections, NodePlace};
use super::status::Reason;
use super::strangers::{Crowd, MOST, MOST_OF_ALL, MOST_OF_NETWORK, Rush, Stranger, Strangers};
use super::told::StrangerLines;
use crate::log::Level;
use answer::{Answer, parse};
use refused_certificates::certificate_fault;

/// Most connections: those of nodes, the others, and some that have lost their place and have not ended yet.
const ROOM: usize = MOST_CONNECTIONS + MOST_OF_ALL + 1_000;

/// Time limit of a handshake, and of each request of somebody without a node's certificate.
const STRANGER: Duration = Duration::from_secs(10);

/// Time limit for the body of a request.
const BODY: Duration = Duration::from_secs(10);

/// A node's connection without requests is closed after this time, or after up to twice that. Agents connect again when they need it.
const NODE_IDLE: Duration = Duration::from_secs(3 * 3600);

/// Pause after a failed accept: the process has no descriptor left.
const PAUSE: Duration = Duration::from_millis(200);

/// Pause while all places are taken by connections that have just begun.
const RUSH: Duration = Duration::from_millis(10);

/// What all connections share.
struct Shared {
    broker: Arc<Broker>,
    entrance: watch::Receiver<Arc<Entrance>>,
    work: EntranceWork,
    strangers: Arc<Strangers>,
    lines: StrangerLines,
    nodes: Arc<NodeConnections>,
}

impl Shared {
    /// The entrance as it is now: a reload replaces it.
    fn entrance(&self) -> Arc<Entrance> {
        Arc::clone(&self.entrance.borrow())
    }

    /// Logs once an hour that connections of nodes are closed without an answer.
    fn tell(&self, text: &str) {
        if self.broker.told.is_new(text, self.broker.clock.elapsed()) {
            self.broker.log.line(Level::Warning, text);
        }
    }

    /// The same of others.
    fn tell_of_strangers(&self, text: &str) {
        self.lines.tell(&self.broker.log, Level::Warning, text, self.broker.clock.elapsed());
    }

    /// A place for a connection that has shown no certificate yet. While many nodes connect at once, it waits, and no other one is accepted.
    async fn stranger(&self, address: IpAddr) -> Option<Stranger> {
        let (stranger, crowd) = loop {
            match self.strangers.admit(address, self.broker.clock.elapsed(), rand::random()) {
                Ok(admitted) => break admitted,
                Err(Rush) => tokio::time::sleep(RUSH).await,
            }
        };
        let Some(crowd) = crowd else { return stranger };
        let text = match crowd {
            Crowd::All => {
                format!("connections are closed or refused: {MOST_OF_ALL} have shown no node's certificate yet")
            }
            Crowd::Address | Crowd::Network => {
                let address = network_name(address);
                let most = if crowd == Crowd::Address { MOST } else { MOST_OF_NETWORK };
                format!(
                    "{address}: connections are closed or refused: {most} of this address have shown no node's certificate yet"
                )
            }
        };
        self.tell_of_strangers(&text);
        stranger
    }

    /// A place for a connection of this node.
    fn place_of(&self, node: &NodeName) -> Option<NodePlace> {
        let text = match self.nodes.admit(node) {
            Ok(place) => return Some(place),
            Err(NoPlace::All) => format!("connections are refused: {MOST_CONNECTIONS} are open"),
            Err(NoPlace::Node) => format!("node {node}: connections are refused: {MOST_OF_NODE} are open"),
        };
        self.tell(&text);
        None
    }
}

/// What serves connections, in several threads at once.
pub(super) struct Server {
    shared: Arc<Shared>,
    room: Arc<Semaphore>,
}

impl Server {
    pub(super) fn new(broker: Arc<Broker>, entrance: watch::Receiver<Arc<Entrance>>) -> Arc<Self> {
        let (strangers, lines, nodes) = (Arc::default(), StrangerLines::default(), Arc::default());
        let shared = Arc::new(Shared { broker, entrance, work: EntranceWork::default(), strangers, lines, nodes });
        Arc::new(Self { shared, room: Arc::new(Semaphore::new(ROOM)) })
    }

    /// Accepts connections and serves them until `stop` changes. Their number is limited.
    pub(super) async fn accept(&self, listener: &TcpListener, mut stop: watch::Receiver<()>) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = stop.changed() => break,
            };
            let Ok((stream, address)) = accepted else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            let Some(stranger) = self.shared.stranger(address.ip()).await else { continue };
            let Ok(place) = Arc::clone(&self.room).try_acquire_owned() else {
                self.shared.tell_of_strangers(&format!("connections are refused: {ROOM} are open"));
                continue;
            };
            let (shared, stop) = (Arc::clone(&self.shared), stop.clone());
            tokio::spawn(async move {
                let _place = place;
                connection(shared, stream, address.ip(), stranger, stop).await;
            });
        }
    }

    /// Waits until the connections that are open have their answers. The time is limited.
    pub(super) async fn finish(&self) {
        let all = u32::try_from(ROOM).unwrap_or(u32::MAX);
        let _ = timeout(STRANGER, self.room.acquire_many(all)).await;
    }
}

async fn connection(
    shared: Arc<Shared>,
    stream: TcpStream,
    address: IpAddr,
    stranger: Stranger,
    mut stop: watch::Receiver<()>,
) {
    let _ = stream.set_nodelay(true);
    // Without it the connection is served all the same.
    let _ = keep_alive(&stream);
    let entrance = shared.entrance();
    let acceptor = TlsAcceptor::from(entrance.tls().config());
    let accepted = tokio::select! {
        accepted = timeout(STRANGER, acceptor.accept(stream)) => accepted,
        () = stranger.lost() => return,
    };
    let stream = match accepted {
        Ok(Ok(stream)) => stream,
        Ok(Err(failed)) => {
            if let Some(fault) = certificate_fault(&failed) {
                let text = format!("{}: a certificate was refused: {fault}", network_name(address));
                shared.tell_of_strangers(&text);
                shared.broker.counts.unauthorized(Reason::Certificate);
            }
            return;
        }
        Err(_) => return,
    };
    let Ok(peer) = entrance.peer(stream.get_ref().1, address) else {
        shared.broker.counts.unauthorized(Reason::Certificate);
        return;
    };
    drop(entrance);
    let (caller, _place) = match peer {
        Some(peer) => {
            drop(stranger);
            let Some(place) = shared.place_of(&peer.node) else { return };
            (Caller::Node(Arc::new(peer)), Some(place))
        }
        None => (Caller::Stranger(stranger), None),
    };
    let caller = Arc::new(caller);
    let broker = Arc::clone(&shared.broker);
    let _connected = matches!(*caller, Caller::Node(..)).then(|| broker.counts.connection());
    let own = Arc::clone(&caller);
    let activity = Arc::new(Activity::default());
    let counted = Arc::clone(&activity);
    let service = service_fn(move |request| {
        let (shared, caller, running) = (Arc::clone(&shared), Arc::clone(&own), counted.begin());
        async move {
            let _running = running;
            let Answer { status, body } = answer(&shared, &caller, address, request).await;
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
    if let Caller::Stranger(stranger) = &*caller {
        tokio::select! {
            _ = timeout(STRANGER, served.as_mut()) => {}
            () = stranger.lost() => {}
        }
        return;
    }
    tokio::select! {
        _ = served.as_mut() => return,
        _ = stop.changed() => {}
        () = activity.idle(NODE_IDLE) => {}
    }
    served.as_mut().graceful_shutdown();
    let _ = timeout(STRANGER, served).await;
}

/// Who is at the other end of a connection.
enum Caller {
    /// A node with its certificate.
    Node(Arc<Peer>),
    /// Somebody who can do nothing but enrol.
    Stranger(Stranger),
}

async fn answer(shared: &Shared, caller: &Caller, address: IpAddr, request: Request<Incoming>) -> Answer {
    let path = request.uri().path().to_owned();
    if request.method() != Method::POST {
        return Answer::fault(StatusCode::METHOD_NOT_ALLOWED, "each request is a POST");
    }
    let entrance = shared.entrance();
    if path != ENROL_PATH {
        let Caller::Node(peer) = caller else {
            let text = format!("{}: a request was refused: the connection has no certificate", network_name(address));
            shared.tell_of_strangers(&text);
            shared.broker.counts.unauthorized(Reason::NoCertificate);
            return Answer::fault(StatusCode::FORBIDDEN, "this connection has no certificate of an enrolled node");
        };
        // At each request: the node may have been removed.
        shared.work.look(&entrance).await;
        if !entrance.is_admitted(peer) {
            if let Err(refusal) = shared.work.admit(&entrance, peer).await {
                if refusal.kind() == RefusalKind::Refused {
                    shared.broker.counts.unauthorized(Reason::NotEnrolled);
                }
                return Answer::refusal(&refusal);
            }
        }
        if let Err(refusal) = shared.work.check_address(&entrance, peer, address, &path).await {
            shared.broker.counts.unauthorized(Reason::OtherAddress);
            return Answer::refusal(&refusal);
        }
    }
    let body = timeout(BODY, Limited::new(request.into_body(), BODY_LIMIT).collect()).await;
    let Ok(Ok(body)) = body else {
        return Answer::fault(StatusCode::BAD_REQUEST, "the body is too long, or did not come in time");
    };
    let answered = respond(shared, &entrance, caller, address, &path, &body.to_bytes()).await;
    answered.unwrap_or_else(|refused| refused)
}

/// Answers a request of a node that may make it.
async fn respond(
    shared: &Shared,
    entrance: &Arc<Entrance>,
    caller: &Caller,
    address: IpAddr,
    path: &str,
    body: &[u8],
) -> Result<Answer, Answer> {
    use Caller::Node;
    match (path, caller) {
        (ENROL_PATH, _) => {
            let _served = if let Caller::Stranger(stranger) = caller { Some(stranger.serve()) } else { None };
            let enrolled = shared.work.enrol(entrance, parse::<EnrolRequest>(body)?, address).await;
            shared.broker.counts.enrolment(enrolled.is_ok());
            enrolled.map(|enrolled| Answer::json(&enrolled)).map_err(|refusal| Answer::refusal(&refusal))
        }
        (RENEW_PATH, Node(peer)) => {
            let renewed = shared.work.renew(entrance, peer, parse::<RenewRequest>(body)?).await;
            shared.broker.counts.enrolment(renewed.is_ok());
            renewed.map(|renewed| Answer::json(&renewed)).map_err(|refusal| Answer::refusal(&refusal))
        }
        (TOKEN_PATH, Node(peer)) => {
            match shared.broker.token(peer.node.as_str(), &parse::<TokenRequest>(body)?).await {
                Ok(answer) => {
                    shared.broker.counts.told(&answer.outcome);
                    Ok(Answer::json(&answer))
                }
                Err(reason) => {
                    shared.broker.counts.told(&TokenOutcome::Later { reason: reason.clone(), wait: None });
                    Err(Answer::unavailable(&reason))
                }
            }
        }
        (END_PATH, Node(peer)) => {
            let ended = shared.broker.end(peer.node.as_str(), &parse::<EndRequest>(body)?).await;
            ended.map(|ended| Answer::json(&ended)).map_err(|reason| Answer::unavailable(&reason))
        }
        (JOBS_PATH, Node(..)) => {
            let jobs = shared.broker.jobs(parse::<JobsRequest>(body)?.uid).await;
            jobs.map(|jobs| Answer::json(&jobs)).ok_or_else(|| Answer::unavailable(NO_SLURMCTLD))
        }
        (PERMIT_PATH, Node(peer)) => {
            Ok(Answer::json(&shared.broker.permit(peer.node.as_str(), &parse::<PermitRequest>(body)?)))
        }
        (KEEP_PATH, Node(peer)) => {
            Ok(Answer::json(&shared.broker.keep(peer.node.as_str(), &parse::<KeepRequest>(body)?).await))
        }
        (KEPT_PATH, Node(..)) => {
            let kept = shared.broker.kept(&parse::<KeptRequest>(body)?).await;
            kept.map(|kept| Answer::json(&kept)).map_err(|reason| Answer::unavailable(&reason))
        }
        (REPLACE_PATH, Node(peer)) => {
            Ok(Answer::json(&shared.broker.replace(peer.node.as_str(), &parse::<ReplaceRequest>(body)?).await))
        }
        (REPLACED_PATH, Node(peer)) => {
            let found = shared.broker.replaced(peer.node.as_str(), &parse::<ReplacedRequest>(body)?).await;
            found.map(|found| Answer::json(&found)).map_err(|reason| Answer::unavailable(&reason))
        }
        (FORGET_PATH, Node(peer)) => {
            Ok(Answer::json(&shared.broker.forget(peer.node.as_str(), &parse::<ForgetRequest>(body)?)))
        }
        (START_PATH, Node(peer)) => {
            let start = shared.broker.start(peer.node.as_str(), parse::<StartRequest>(body)?.job).await;
            start.map(|start| Answer::json(&start)).map_err(|reason| Answer::unavailable(&reason))
        }
        _ => Err(Answer::fault(
            StatusCode::NOT_FOUND,
            "this broker does not know the request; it may be of an older version",
        )),
    }
}
