// SPDX-License-Identifier: MIT OR Apache-2.0
//! `testserver browser`: plays a user's browser. It opens the link of a login, consents, logs in at the provider and
//! follows the redirect back. It knows only the pages of this test server.

use std::path::PathBuf;
use std::process::ExitCode;

use url::Url;

use crate::client::{Fetch, HttpClient};
use crate::form::encode;
use crate::http::Response;

/// Arguments of `testserver browser`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The link: a consent page, or an authorization request to the provider.
    url: String,
    /// Name of the user who logs in.
    #[arg(long, value_name = "NAME")]
    user: String,
    /// PEM file of the CA that issued the servers' certificates.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Decline on the first page that asks.
    #[arg(long)]
    decline: bool,
    /// Print only the URL of the mytoken server's /redirect and do not open it.
    #[arg(long, conflicts_with = "decline")]
    until_redirect: bool,
}

/// Logs the user in and prints each request.
///
/// # Errors
/// The reason why the login was not completed.
pub fn run(options: &Options) -> Result<ExitCode, String> {
    let network = HttpClient::new(options.ca.as_deref())?;
    if options.until_redirect {
        println!("{}", Visit::new(&network, &mut |_| ()).redirect(&options.url, &options.user)?);
        return Ok(ExitCode::SUCCESS);
    }
    let mut report = |line: &str| println!("{line}");
    let mut visit = Visit::new(&network, &mut report);
    visit.decline = options.decline;
    let end = visit.open(&options.url, &options.user)?;
    let succeeded = options.decline || (end.status < 400 && end.header("Location").is_some());
    Ok(if succeeded { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Maximum number of pages of one login. More means a redirect loop.
const MAX_PAGES: usize = 10;

/// One user's login, page by page.
pub struct Visit<'a> {
    fetch: &'a dyn Fetch,
    report: &'a mut dyn FnMut(&str),
    /// Decline on the first page that asks.
    pub decline: bool,
}

enum NextStep {
    Get(String),
    End(Response),
}

/// How the login ended.
enum End {
    /// The URL of `/redirect`, not opened yet.
    Redirect(String),
    /// The answer of the consent page when the user declined.
    Declined(Response),
}

impl<'a> Visit<'a> {
    /// A visit that reports each request, without secrets.
    pub fn new(fetch: &'a dyn Fetch, report: &'a mut dyn FnMut(&str)) -> Self {
        Self { fetch, report, decline: false }
    }

    /// Opens a link and completes the login. Returns the answer of the client's redirect URI, which is the mytoken
    /// server's `/redirect`.
    ///
    /// # Errors
    /// A server does not answer, or a page is unknown.
    pub fn open(&mut self, url: &str, user: &str) -> Result<Response, String> {
        match self.log_in_by_pages(url, user)? {
            End::Redirect(url) => self.get(&url),
            End::Declined(answer) => Ok(answer),
        }
    }

    /// Like [`Visit::open`], but stops before the redirect URI and returns it.
    ///
    /// # Errors
    /// As [`Visit::open`], and when the user declined.
    pub fn redirect(&mut self, url: &str, user: &str) -> Result<String, String> {
        match self.log_in_by_pages(url, user)? {
            End::Redirect(url) => Ok(url),
            End::Declined(_) => Err("the user declined".into()),
        }
    }

    fn log_in_by_pages(&mut self, url: &str, user: &str) -> Result<End, String> {
        let mut url = url.to_owned();
        let mut logged_in = false;
        for _ in 0..MAX_PAGES {
            // The provider for guests has no login page.
            if logged_in || Url::parse(&url).is_ok_and(|url| url.path().ends_with("/redirect")) {
                return Ok(End::Redirect(url));
            }
            let page = self.get(&url)?;
            let next = if let Some(location) = page.header("Location") {
                NextStep::Get(resolve(&url, location)?)
            } else if let Some(approval) = attribute(&page, "data-approval=\"") {
                self.consent(&url, &approval)?
            } else if let Some(request) = attribute(&page, "name=\"request\" value=\"") {
                logged_in = true;
                self.log_in(&url, &request, user)?
            } else {
                return Err(format!("{} answers {}: the page is unknown", redacted(&url), page.status));
            };
            match next {
                NextStep::Get(next) => url = next,
                NextStep::End(answer) => return Ok(End::Declined(answer)),
            }
        }
        Err("too many redirects during the login".into())
    }

    fn consent(&mut self, url: &str, approval: &str) -> Result<NextStep, String> {
        let headers = [("Content-Type", "application/json"), ("Accept", "application/json")];
        let answer = if self.decline {
            self.send("POST", url, &[("Accept", "application/json")], b"")?
        } else {
            self.send("POST", url, &headers, approval.as_bytes())?
        };
        let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        match body.get("authorization_uri").and_then(|uri| uri.as_str()) {
            Some(uri) => Ok(NextStep::Get(uri.to_owned())),
            None if self.decline && answer.status < 400 => Ok(NextStep::End(answer)),
            None => Err(format!("the consent page answers with status {}", answer.status)),
        }
    }

    fn log_in(&mut self, url: &str, request: &str, user: &str) -> Result<NextStep, String> {
        let decision = if self.decline { "decline" } else { "accept" };
        let form = [("request", request), ("username", user), ("decision", decision)]
            .map(|(key, value)| (key.to_owned(), value.to_owned()));
        let headers = [("Content-Type", "application/x-www-form-urlencoded"), ("Accept", "text/html")];
        let answer = self.send("POST", url, &headers, encode(&form).as_bytes())?;
        match answer.header("Location") {
            Some(location) => Ok(NextStep::Get(resolve(url, location)?)),
            None => Err(format!("the provider answers the login with status {}", answer.status)),
        }
    }

    fn get(&mut self, url: &str) -> Result<Response, String> {
        self.send("GET", url, &[("Accept", "text/html")], b"")
    }

    fn send(&mut self, method: &str, url: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Response, String> {
        let mut all = vec![("User-Agent", "browser/1.0")];
        all.extend(headers);
        let answer = self
            .fetch
            .fetch(method, url, &all, body)
            .map_err(|reason| format!("{} does not answer: {reason}", redacted(url)))?;
        (self.report)(&format!("{method} {} {}", redacted(url), answer.status));
        Ok(answer)
    }
}

/// A URL for logs, without the query and without the code of a consent page.
fn redacted(url: &str) -> String {
    let Ok(url) = Url::parse(url) else { return "an invalid URL".into() };
    let path = match url.path().split_once("/c/") {
        Some((before, _)) => format!("{before}/c/..."),
        None => url.path().to_owned(),
    };
    format!("{}{path}", url.origin().ascii_serialization())
}

fn resolve(base: &str, location: &str) -> Result<String, String> {
    Url::parse(base)
        .and_then(|base| base.join(location))
        .map(String::from)
        .map_err(|error| format!("{} redirects to an invalid URL: {error}", redacted(base)))
}

/// The unescaped value of an HTML attribute. `start` is the text up to the quotation mark before the value.
fn attribute(page: &Response, start: &str) -> Option<String> {
    let html = std::str::from_utf8(&page.body).ok()?;
    let (value, _) = html.split_once(start)?.1.split_once('"')?;
    let plain = value.replace("&quot;", "\"").replace("&#34;", "\"").replace("&#39;", "'").replace("&lt;", "<");
    Some(plain.replace("&gt;", ">").replace("&amp;", "&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redacted_urls_have_no_secrets() {
        assert_eq!(redacted("https://mt.test:8443/c/AbCdEfGh"), "https://mt.test:8443/c/...");
        assert_eq!(redacted("https://mt.test/redirect?code=s3cret&state=x"), "https://mt.test/redirect");
        assert_eq!(redacted("::"), "an invalid URL");
    }

    #[test]
    fn attributes_are_unescaped_once() {
        let page = Response::typed(200, "text/html", r#"<pre data-approval="{&quot;a&quot;:&quot;&amp;lt;&quot;}">"#);
        assert_eq!(attribute(&page, "data-approval=\"").unwrap(), r#"{"a":"&lt;"}"#);
        assert_eq!(attribute(&page, "name=\"request\" value=\""), None);
    }
}
