// SPDX-License-Identifier: MIT OR Apache-2.0
//! HTTP clients: one sends requests over the network, the other calls handlers of this process.

use std::fs;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ureq::Agent;
use ureq::config::AutoHeaderValue;
use ureq::http;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

use crate::http::{Handler, Reply, Request, Response};

/// Sends requests to servers. A redirect is returned like any answer; the caller decides whether to follow it.
pub trait Fetch {
    /// Sends a request to a URL.
    ///
    /// # Errors
    /// The server did not answer.
    fn fetch(&self, method: &str, url: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Response, String>;
}

/// A client over the network. Proxies named in the environment are not used.
pub struct HttpClient(Agent);

/// Longer answers are cut off after this many bytes.
const ANSWER_LIMIT: u64 = 4 << 20;

impl HttpClient {
    /// A client that trusts the CAs of a PEM file. Without a file it trusts the public CAs.
    ///
    /// # Errors
    /// The file cannot be read or holds no certificate.
    pub fn new(ca: Option<&Path>) -> Result<Self, String> {
        let roots = match ca {
            Some(path) => read_roots(path).map_err(|reason| format!("{}: {reason}", path.display()))?,
            None => RootCerts::WebPki,
        };
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            // Send only the headers of the caller: some captures need requests without `Accept` or `User-Agent`.
            .accept(AutoHeaderValue::None)
            .accept_encoding(AutoHeaderValue::None)
            .user_agent(AutoHeaderValue::None)
            .timeout_global(Some(Duration::from_secs(60)))
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .build();
        Ok(Self(config.new_agent()))
    }
}

fn read_roots(path: &Path) -> Result<RootCerts, String> {
    let text = fs::read(path).map_err(|error| error.to_string())?;
    let mut roots = Vec::new();
    for item in parse_pem(&text) {
        if let PemItem::Certificate(certificate) = item.map_err(|error| error.to_string())? {
            roots.push(certificate);
        }
    }
    if roots.is_empty() { Err("contains no certificate".into()) } else { Ok(RootCerts::new_with_certs(&roots)) }
}

impl Fetch for HttpClient {
    fn fetch(&self, method: &str, url: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Response, String> {
        let mut request = http::Request::builder().method(method).uri(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = if body.is_empty() && method != "POST" {
            request.body(()).map_err(|error| error.to_string()).map(|request| self.0.run(request))?
        } else {
            request.body(body).map_err(|error| error.to_string()).map(|request| self.0.run(request))?
        };
        let mut answer = answer.map_err(|error| error.to_string())?;
        let mut content = Vec::new();
        answer
            .body_mut()
            .as_reader()
            .take(ANSWER_LIMIT)
            .read_to_end(&mut content)
            .map_err(|error| error.to_string())?;
        let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        Ok(Response {
            status: answer.status().as_u16(),
            headers: answer.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
            body: content,
        })
    }
}

/// Handlers of this process by their base URL, called without a socket.
#[derive(Default)]
pub struct InProcess(Vec<(String, Arc<dyn Handler>)>);

impl InProcess {
    /// Requests below this URL go to this handler.
    #[must_use]
    pub fn with(mut self, base: &str, handler: Arc<dyn Handler>) -> Self {
        self.0.push((base.trim_end_matches('/').to_owned(), handler));
        self
    }
}

impl Fetch for InProcess {
    fn fetch(&self, method: &str, url: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Response, String> {
        let below =
            |base: &str| url.strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']));
        let (_, handler) =
            self.0.iter().find(|(base, _)| below(base)).ok_or("no server of this process has this URL")?;
        let parsed = url::Url::parse(url).map_err(|error| error.to_string())?;
        let request = Request {
            method: method.to_owned(),
            path: parsed.path().to_owned(),
            query: parsed.query().map(str::to_owned),
            headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            body: body.to_vec(),
            peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
        };
        match handler.handle(&request) {
            Reply::Answer(response) => Ok(response),
            Reply::Close => Err("the connection was closed without an answer".into()),
            Reply::Late(response, pause) | Reply::Drip(response, pause) => {
                std::thread::sleep(pause);
                Ok(response)
            }
        }
    }
}
