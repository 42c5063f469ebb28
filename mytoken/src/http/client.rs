// SPDX-License-Identifier: MIT OR Apache-2.0
//! The HTTP client of one operation, built on reqwest's blocking client.
#![cfg_attr(fuzzing, allow(dead_code, unused_imports))]

use std::fmt;
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use reqwest::blocking::{Body, Client, RequestBuilder, Response};
use reqwest::header::{
    ACCEPT, AGE, AUTHORIZATION, CONTENT_TYPE, DATE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER,
};
use reqwest::{NoProxy, Proxy};
use serde::Serialize;
use url::Url;
use zeroize::Zeroizing;

use super::HttpError;
use super::answer::{AnswerHead, RequestLimit, Traffic, retry_after};
use super::cause::root_cause;
use super::certificate::CertificateFault;
use super::proxy::proxy_url;
use super::resolver::{Lookups, Resolver};
use super::server_clock::ServerClock;
use super::{HttpAnswer, HttpSettings, Roots, roots};
use crate::InputError;
use crate::urls::UrlError;
use crate::{Deadline, ScheduleClock, Secret, SystemClock, urls};

/// Room for the body of a request, in bytes. A buffer that grows would leave copies of tokens in freed memory.
const BODY: usize = 8 * 1024;

/// The client. Dropping it joins its threads and closes its sockets. Only the thread of a name lookup that hangs in the system's resolver
/// is detached, because the lookup cannot be interrupted and must not delay a login.
pub struct HttpClient {
    client: Client,
    loopback_http: bool,
    /// Scheme, host and port of the configured proxy.
    proxy: Option<String>,
    traffic: Mutex<Traffic>,
    /// Must be dropped after the client, whose runtime waits for the lookups.
    lookups: Lookups,
}

impl HttpClient {
    /// Makes a client; loads the trusted certificates.
    ///
    /// # Errors
    /// [`HttpError::Roots`] or [`HttpError::Settings`] if the settings cannot be used.
    pub fn new(settings: &HttpSettings) -> Result<Self, HttpError> {
        Self::with_resolver(settings, Resolver::system())
    }

    fn with_resolver(settings: &HttpSettings, resolver: Resolver) -> Result<Self, HttpError> {
        let wrong = |reason: String| HttpError::Settings { reason };
        let mut builder = Client::builder()
            .tls_backend_preconfigured(roots::tls(&settings.roots)?)
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(settings.connect_timeout)
            .timeout(None)
            .pool_max_idle_per_host(1)
            .dns_resolver(Arc::new(resolver.clone()))
            .user_agent(&settings.user_agent);
        let proxy = settings.proxy.as_deref().map(proxy_url).transpose().map_err(wrong)?;
        match &proxy {
            Some(proxy) => {
                let proxy = Proxy::all(proxy.as_str()).map_err(|_| wrong("the proxy cannot be used".to_owned()))?;
                builder = builder.proxy(proxy.no_proxy(NoProxy::from_string("localhost,127.0.0.0/8,::1")));
            }
            None if settings.roots == Roots::UserTool => {}
            None => builder = builder.no_proxy(),
        }
        let client = builder.build().map_err(|error| wrong(root_cause(&error)))?;
        Ok(Self {
            client,
            loopback_http: settings.loopback_http,
            proxy: proxy.as_ref().map(urls::origin),
            traffic: Mutex::default(),
            lookups: Lookups(resolver),
        })
    }

    /// Whether the name servers have not answered a request's look-up yet. If the request was too late, its server has got nothing of it.
    #[must_use]
    pub fn looks_up_name(&self) -> bool {
        self.lookups.are_running()
    }

    /// Sends `GET url`, with `bearer` as `Authorization: Bearer` if given. The body may have at most `limit` bytes.
    ///
    /// # Errors
    /// [`UrlError`] before anything is sent, then [`HttpError::Unreachable`], [`HttpError::TooLate`] or [`HttpError::TooLarge`]. An answer
    /// with any status is an [`HttpAnswer`], not an error.
    pub fn get(
        &self,
        url: &str,
        bearer: Option<&Secret>,
        deadline: Deadline,
        limit: usize,
    ) -> Result<HttpAnswer, HttpError> {
        let url = self.check_url(url)?;
        let request = self.client.get(url.clone());
        self.send(&url, with_bearer(request, bearer)?, deadline, limit)
    }

    /// Sends `POST url` with `body` as JSON.
    ///
    /// # Errors
    /// As [`HttpClient::get`].
    pub fn post_json<T: Serialize + ?Sized>(
        &self,
        url: &str,
        body: &T,
        deadline: Deadline,
        limit: usize,
    ) -> Result<HttpAnswer, HttpError> {
        let url = self.check_url(url)?;
        let mut text = Vec::with_capacity(BODY);
        serde_json::to_writer(&mut text, body)
            .map_err(|error| HttpError::Input(InputError::InvalidRequest { reason: error.to_string() }))?;
        let request = self.client.post(url.clone()).header(CONTENT_TYPE, "application/json").body(wiped(text));
        self.send(&url, request, deadline, limit)
    }

    /// Sends `POST url` with `fields` as a form, and with `basic` (client id, secret) as HTTP Basic credentials if given. Both are encoded as
    /// RFC 6749 2.3.1 says, because a client id can be a URL, with a colon in it.
    ///
    /// # Errors
    /// As [`HttpClient::get`].
    pub fn post_form(
        &self,
        url: &str,
        fields: &[(&str, &str)],
        basic: Option<(&str, &Secret)>,
        deadline: Deadline,
        limit: usize,
    ) -> Result<HttpAnswer, HttpError> {
        let url = self.check_url(url)?;
        let body = url::form_urlencoded::Serializer::new(String::with_capacity(BODY)).extend_pairs(fields).finish();
        let mut request =
            self.client.post(url.clone()).header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(wiped(body));
        if let Some((id, secret)) = basic {
            let encoded = |text: &str| -> Zeroizing<String> {
                Zeroizing::new(url::form_urlencoded::byte_serialize(text.as_bytes()).collect())
            };
            request = request.basic_auth(encoded(id).as_str(), Some(encoded(secret.expose()).as_str()));
        }
        self.send(&url, request, deadline, limit)
    }

    /// Whether plain http to this machine is accepted.
    #[must_use]
    pub fn loopback_http(&self) -> bool {
        self.loopback_http
    }

    /// What was sent so far.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        *self.traffic.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, limit: Option<RequestLimit>) {
        let mut traffic = self.traffic.lock().unwrap_or_else(PoisonError::into_inner);
        *traffic = Traffic { sent: traffic.sent.saturating_add(1), limit: limit.or(traffic.limit) };
    }

    /// Parses a URL and checks that secrets may be sent to it.
    fn check_url(&self, url: &str) -> Result<Url, HttpError> {
        let parsed = urls::parse_url(url).map_err(|error| UrlError {
            url: mytoken_wire::printable(url.split(['?', '#', '@']).next().unwrap_or_default(), 200),
            reason: error.to_string(),
        })?;
        if !parsed.username().is_empty() || parsed.password().is_some() {
            return Err(HttpError::Url(UrlError {
                url: urls::origin(&parsed),
                reason: "it must not contain a user or password".to_owned(),
            }));
        }
        urls::check_scheme(&parsed, self.loopback_http)?;
        Ok(parsed)
    }

    /// Returns the answers that a fuzz target prepared.
    #[cfg(fuzzing)]
    fn send(&self, url: &Url, _: RequestBuilder, _: Deadline, limit: usize) -> Result<HttpAnswer, HttpError> {
        super::canned::next(&urls::origin(url), limit)
    }

    #[cfg(not(fuzzing))]
    fn send(
        &self,
        url: &Url,
        request: RequestBuilder,
        deadline: Deadline,
        limit: usize,
    ) -> Result<HttpAnswer, HttpError> {
        let late = || HttpError::TooLate { host: urls::origin(url) };
        let left = deadline.remaining().ok_or_else(late)?;
        // reqwest applies this timeout to the whole request, including the body, and to each read.
        let sent = SystemClock.elapsed();
        let response = request
            .header(ACCEPT, "application/json")
            .timeout(left)
            .send()
            .inspect_err(|error| {
                if !error.is_connect() {
                    self.count(None);
                }
            })
            .map_err(|error| self.send_error(url, &error, deadline))?;
        let headers = response.headers();
        let date = header(headers, &DATE).and_then(|text| httpdate::parse_http_date(text).ok());
        // A cache keeps the `Date` of the answer that it stored, and adds its age (RFC 9111 5.1).
        let own_date = date.filter(|_| !headers.contains_key(AGE));
        let clock = own_date.and_then(|date| ServerClock::measure(date, sent, SystemClock.elapsed()));
        let answer = HttpAnswer {
            status: response.status().as_u16(),
            content_type: header(headers, &CONTENT_TYPE)
                .map(|text| text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()),
            retry_after: header(headers, &RETRY_AFTER).and_then(|text| retry_after(text, date)),
            head: AnswerHead { date, clock, request_limit: request_limit(headers) },
            body: Zeroizing::new(Vec::new()),
        };
        self.count(answer.head.request_limit);
        let body = read(url, response, deadline, limit)?;
        Ok(HttpAnswer { body, ..answer })
    }

    fn send_error(&self, url: &Url, error: &reqwest::Error, deadline: Deadline) -> HttpError {
        let host = urls::origin(url);
        if deadline.remaining().is_none() {
            return HttpError::TooLate { host };
        }
        if let Some(fault) = CertificateFault::of(error).filter(|_| error.is_connect()) {
            return HttpError::Certificate { host, fault };
        }
        let reason = if error.is_timeout() { "the connection timed out".to_owned() } else { root_cause(error) };
        match self.proxy.as_ref().filter(|_| error.is_connect() && !urls::is_loopback(url)) {
            // The only connection was the one to the proxy.
            Some(proxy) => HttpError::Proxy { proxy: proxy.clone(), host, reason },
            None => HttpError::Unreachable { host, reason, sent: !error.is_connect() },
        }
    }
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient").field("loopback_http", &self.loopback_http).finish_non_exhaustive()
    }
}

/// A body that is wiped when the client has sent it: it may hold a token.
fn wiped(body: impl Into<Vec<u8>>) -> Body {
    Bytes::from_owner(Zeroizing::new(body.into())).into()
}

/// Reads at most `limit` bytes until `deadline`. The buffer has its full size from the start: a growing buffer would leave copies of tokens
/// in freed memory.
fn read(url: &Url, mut response: Response, deadline: Deadline, limit: usize) -> Result<Zeroizing<Vec<u8>>, HttpError> {
    let too_large = || HttpError::TooLarge { host: urls::origin(url), limit };
    if response.content_length().is_some_and(|length| usize::try_from(length).map_or(true, |length| length > limit)) {
        return Err(too_large());
    }
    let mut body = Zeroizing::new(Vec::with_capacity(limit));
    let mut chunk = Zeroizing::new([0_u8; 8 * 1024]);
    loop {
        if deadline.remaining().is_none() {
            return Err(HttpError::TooLate { host: urls::origin(url) });
        }
        let count = match response.read(&mut *chunk) {
            Ok(0) => return Ok(body),
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(read_error(url, &error, deadline)),
        };
        if body.len() + count > limit {
            return Err(too_large());
        }
        body.extend_from_slice(chunk.get(..count).unwrap_or_default());
    }
}

fn with_bearer(request: RequestBuilder, bearer: Option<&Secret>) -> Result<RequestBuilder, HttpError> {
    let Some(token) = bearer else { return Ok(request) };
    let text = Zeroizing::new(format!("Bearer {}", token.expose()));
    let mut value = HeaderValue::from_str(&text).map_err(|_| {
        HttpError::Input(InputError::Malformed {
            what: "the token".to_owned(),
            reason: "it holds characters that no token has".to_owned(),
        })
    })?;
    value.set_sensitive(true);
    Ok(request.header(AUTHORIZATION, value))
}

fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn request_limit(headers: &HeaderMap) -> Option<RequestLimit> {
    let number = |name| header(headers, &HeaderName::from_static(name)).and_then(|text| text.trim().parse().ok());
    let (requests, left) = (number("x-ratelimit-limit")?, number("x-ratelimit-remaining")?);
    Some(RequestLimit { requests, left, reset: number("x-ratelimit-reset").map(Duration::from_secs) })
}

fn read_error(url: &Url, error: &std::io::Error, deadline: Deadline) -> HttpError {
    let host = urls::origin(url);
    if deadline.remaining().is_none() || error.kind() == std::io::ErrorKind::TimedOut {
        return HttpError::TooLate { host };
    }
    HttpError::Unreachable { host, reason: "the connection was lost during the answer".to_owned(), sent: true }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::thread;
    use std::time::Instant;

    use super::*;

    fn settings(roots: &tempfile::NamedTempFile) -> HttpSettings {
        HttpSettings { roots: Roots::File(roots.path().into()), ..HttpSettings::default() }
    }

    fn roots() -> tempfile::NamedTempFile {
        let key = rcgen::KeyPair::generate().unwrap();
        let ca = rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(ca.pem().as_bytes()).unwrap();
        file
    }

    #[test]
    fn a_hanging_name_lookup_ends_at_the_deadline() {
        let dead = Resolver::with_lookup(|_| {
            thread::sleep(Duration::from_secs(30));
            Ok(Vec::new())
        });
        let begun = Instant::now();
        let client = HttpClient::with_resolver(&settings(&roots()), dead).unwrap();
        let error =
            client.get("https://mt.example.org/", None, Deadline::after(Duration::from_millis(300)), 64).unwrap_err();
        assert!(client.looks_up_name());
        drop(client);
        assert!(matches!(error, HttpError::TooLate { .. }), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    }

    #[test]
    fn an_unknown_host_name_is_reported() {
        let empty = Resolver::with_lookup(|_| Err(std::io::Error::other("failed to lookup address information")));
        let client = HttpClient::with_resolver(&settings(&roots()), empty).unwrap();
        let error =
            client.get("https://mt.example.org/", None, Deadline::after(Duration::from_secs(9)), 64).unwrap_err();
        assert!(
            matches!(&error, HttpError::Unreachable { reason, sent: false, .. } if reason.contains("lookup address")),
            "{error:?}"
        );
        assert!(!client.looks_up_name());
    }
}
