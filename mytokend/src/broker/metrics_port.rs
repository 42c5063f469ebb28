// SPDX-License-Identifier: MIT OR Apache-2.0
//! The port at which a broker tells its metrics: `GET /metrics`, HTTP/1.1 without TLS. Nothing there can be changed.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, Semaphore, watch};
use tokio::time::timeout;

use super::Broker;
use super::entrance::Entrance;
use super::metrics::{MEDIA_TYPE, text};
use crate::agent::budget::Budgets;
use crate::log::{Level, Log};

/// Most connections. Prometheus has one.
const MOST_CONNECTIONS: usize = 16;

/// Time limit of a connection, which serves one request.
const LIMIT: Duration = Duration::from_secs(10);

/// Pause after a failed accept: the process has no descriptor left.
const PAUSE: Duration = Duration::from_millis(200);

/// What the metrics are made of.
pub(super) struct Source {
    pub(super) broker: Arc<Broker>,
    pub(super) entrance: watch::Receiver<Arc<Entrance>>,
    pub(super) budgets: Arc<Budgets>,
}

/// Serves `address` in the runtime of the caller. A port that is taken is told in the log: nodes must get their tokens.
pub(super) fn start(address: SocketAddr, source: Source, log: &Log) {
    match listen(address) {
        Ok(listener) => {
            log.line(Level::Info, &format!("the metrics are at {address}, path /metrics"));
            tokio::spawn(serve(listener, Arc::new(Page { source, turn: Mutex::new(()) })));
        }
        Err(error) => log.line(Level::Error, &format!("there are no metrics at broker.metrics, {address}: {error}")),
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

struct Page {
    source: Source,
    /// One answer at a time: each reads the files of the register.
    turn: Mutex<()>,
}

async fn serve(listener: TcpListener, page: Arc<Page>) {
    let room = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let Ok(place) = Arc::clone(&room).try_acquire_owned() else { continue };
        let page = Arc::clone(&page);
        tokio::spawn(async move {
            let _place = place;
            let _ = timeout(LIMIT, connection(page, stream)).await;
        });
    }
}

async fn connection(page: Arc<Page>, stream: TcpStream) {
    let service = service_fn(move |request: Request<Incoming>| {
        let page = Arc::clone(&page);
        async move { Ok::<_, Infallible>(answer(&page, request.method(), request.uri().path()).await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(LIMIT).keep_alive(false);
    let _ = http.serve_connection(TokioIo::new(stream), service).await;
}

/// What is not a reading of the metrics.
fn refusal(method: &Method, path: &str) -> Option<Response<Full<Bytes>>> {
    if path != "/metrics" {
        return Some(plain(StatusCode::NOT_FOUND, "the metrics are at /metrics\n"));
    }
    if matches!(*method, Method::GET | Method::HEAD) {
        return None;
    }
    let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "the metrics can be read only\n");
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    Some(response)
}

async fn answer(page: &Page, method: &Method, path: &str) -> Response<Full<Bytes>> {
    if let Some(refusal) = refusal(method, path) {
        return refusal;
    }
    let _turn = page.turn.lock().await;
    let Source { broker, entrance, budgets } = &page.source;
    let (broker, budgets, entrance) = (Arc::clone(broker), Arc::clone(budgets), Arc::clone(&entrance.borrow()));
    let written =
        tokio::task::spawn_blocking(move || text(&broker.status(&entrance, &budgets), env!("CARGO_PKG_VERSION")));
    match written.await {
        Ok(Ok(text)) => with_type(StatusCode::OK, text, MEDIA_TYPE),
        _ => plain(StatusCode::INTERNAL_SERVER_ERROR, "internal error\n"),
    }
}

fn plain(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    with_type(status, text.to_owned(), "text/plain; charset=utf-8")
}

fn with_type(status: StatusCode, text: String, media_type: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_the_metrics_is_served_and_nothing_can_be_changed() {
        let status = |method, path| refusal(&method, path).map(|response| response.status().as_u16());
        for (method, path, expected) in [
            (Method::GET, "/metrics", None),
            (Method::HEAD, "/metrics", None),
            (Method::POST, "/metrics", Some(405)),
            (Method::DELETE, "/metrics", Some(405)),
            (Method::GET, "/", Some(404)),
            (Method::GET, "/metrics/", Some(404)),
            (Method::POST, "/v1/token", Some(404)),
        ] {
            assert_eq!(status(method.clone(), path), expected, "{method} {path}");
        }
    }
}
