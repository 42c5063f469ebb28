// SPDX-License-Identifier: MIT OR Apache-2.0
//! An HTTP server with one thread. Each test sets its answers, good or bad.
#![allow(dead_code, missing_docs, reason = "each test file uses its part")]

pub mod mytoken_server;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;

#[derive(Debug, Clone, Default)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Close the connection without an answer.
    pub hang_up: bool,
    /// Wait for this time before the answer.
    pub silence: Duration,
    /// Pause between the bytes of head and body.
    pub drip: Option<Duration>,
    /// Send this `Content-Length` instead of the body's. The inner `None`: chunked, without a length.
    pub length: Option<Option<usize>>,
}

impl Reply {
    pub fn new(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        let headers = vec![("Content-Type".to_owned(), content_type.to_owned())];
        Self { status, headers, body: body.into(), hang_up: false, silence: Duration::ZERO, drip: None, length: None }
    }

    pub fn json(status: u16, body: &Value) -> Self {
        Self::new(status, "application/json", body.to_string())
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn hang_up() -> Self {
        Self { hang_up: true, ..Self::new(200, "text/plain", "") }
    }
}

type Handler = Box<dyn FnMut(&Request) -> Reply + Send>;

pub struct Fake {
    pub address: SocketAddr,
    pub scheme: &'static str,
    requests: Arc<Mutex<Vec<Request>>>,
    connections: Arc<Mutex<usize>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Fake {
    pub fn plain(handler: impl FnMut(&Request) -> Reply + Send + 'static) -> Self {
        Self::start(Box::new(handler), None)
    }

    pub fn tls(config: ServerConfig, handler: impl FnMut(&Request) -> Reply + Send + 'static) -> Self {
        Self::start(Box::new(handler), Some(Arc::new(config)))
    }

    fn start(mut handler: Handler, tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(Mutex::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let scheme = if tls.is_some() { "https" } else { "http" };
        let (seen, count, stopped) = (Arc::clone(&requests), Arc::clone(&connections), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                *count.lock().unwrap() += 1;
                let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
                let _ = match &tls {
                    None => serve(stream, &mut handler, &seen, &stopped),
                    Some(config) => ServerConnection::new(Arc::clone(config))
                        .map_err(std::io::Error::other)
                        .and_then(|tls| serve(StreamOwned::new(tls, stream), &mut handler, &seen, &stopped)),
                };
            }
        });
        Self { address, scheme, requests, connections, stop, thread: Some(thread) }
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.address)
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    pub fn connections(&self) -> usize {
        *self.connections.lock().unwrap()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(
    mut stream: impl Read + Write,
    handler: &mut Handler,
    seen: &Mutex<Vec<Request>>,
    stopped: &AtomicBool,
) -> std::io::Result<()> {
    let request = read(&mut stream)?;
    // Recorded before the answer, so that a test that has the answer finds the request.
    seen.lock().unwrap().push(request.clone());
    let reply = handler(&request);
    if reply.hang_up {
        return Ok(());
    }
    // Elapsed time: on a busy machine a sleep takes longer than it says.
    let begun = Instant::now();
    while begun.elapsed() < reply.silence && !stopped.load(Ordering::SeqCst) {
        thread::sleep(Duration::from_millis(20));
    }
    let mut head = format!("HTTP/1.1 {} X\r\nConnection: close\r\n", reply.status);
    let mut body = reply.body.clone();
    match reply.length {
        None if reply.status != 204 => head.push_str(&format!("Content-Length: {}\r\n", body.len())),
        None => {}
        Some(Some(length)) => head.push_str(&format!("Content-Length: {length}\r\n")),
        Some(None) => {
            head.push_str("Transfer-Encoding: chunked\r\n");
            body = [format!("{:x}\r\n", body.len()).as_bytes(), &body, b"\r\n0\r\n\r\n"].concat();
        }
    }
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let bytes = [head.as_bytes(), b"\r\n", &body].concat();
    match reply.drip {
        None => stream.write_all(&bytes)?,
        Some(pause) => {
            for byte in bytes {
                if stopped.load(Ordering::SeqCst) {
                    break;
                }
                stream.write_all(&[byte])?;
                stream.flush()?;
                thread::sleep(pause);
            }
        }
    }
    stream.flush()
}

fn read(stream: &mut impl Read) -> std::io::Result<Request> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|part| part == b"\r\n\r\n") {
            break end;
        }
        let count = stream.read(&mut chunk)?;
        if count == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(&chunk[..count]);
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.lines();
    let mut first = lines.next().unwrap_or_default().split(' ');
    let mut request = Request {
        method: first.next().unwrap_or_default().to_owned(),
        path: first.next().unwrap_or_default().to_owned(),
        headers: lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect(),
        body: bytes[end + 4..].to_vec(),
    };
    let length: usize = request.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    while request.body.len() < length {
        let count = stream.read(&mut chunk)?;
        if count == 0 {
            break;
        }
        request.body.extend_from_slice(&chunk[..count]);
    }
    Ok(request)
}

/// A new certificate authority as PEM, and a TLS configuration with its certificate for `host`.
pub fn authority(host: &str, expired: bool) -> (String, ServerConfig) {
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_certificate = ca.self_signed(&ca_key).unwrap();
    let issuer = rcgen::Issuer::new(ca, ca_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec![host.to_owned()]).unwrap();
    if expired {
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    }
    let certificate = params.signed_by(&key, &issuer).unwrap();
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private)
        .unwrap();
    (ca_certificate.pem(), config)
}
