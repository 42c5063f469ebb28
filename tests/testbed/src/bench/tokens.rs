// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tokens of alice for the bench, in her home directory, and the product's requests, sent by curl.

use serde_json::{Value, json};

use super::timing::Step;
use crate::drive::people;
use crate::site::servers::{AUDIENCE, CA, MYTOKEN_SERVER, PROVIDER};
use crate::{Error, Result, Site};

/// A mytoken with the right to make sub-tokens.
pub(super) const MYTOKEN: &str = "/home/alice/bench/mytoken";
/// An equal mytoken as a short token.
pub(super) const SHORT_TOKEN: &str = "/home/alice/bench/short";
/// An access token.
pub(super) const ACCESS_TOKEN: &str = "/home/alice/bench/access";

const SCOPE: &str = "openid profile storage.read";

/// curl's configuration for the request of a submission, which creates one sub-token.
const CREATE: &str = "/home/alice/bench/create.curl";
/// curl's configuration for the request of a login, which gets one access token.
const EXCHANGE: &str = "/home/alice/bench/exchange.curl";

/// The same after the request for the server's discovery document.
const DISCOVERY_AND_EXCHANGE: &str = "/home/alice/bench/discovery-and-exchange.curl";

/// curl's configuration for the question about an access token at userinfo.
const USERINFO: &str = "/home/alice/bench/userinfo.curl";
/// The same at introspection.
const INTROSPECTION: &str = "/home/alice/bench/introspection.curl";

/// Requests of one kind in a journal of the test server.
#[derive(Debug, Clone, Copy)]
pub(super) struct Requests {
    service: &'static str,
    member: &'static str,
    value: &'static str,
}

/// New sub-tokens.
pub(super) const CREATIONS: Requests = Requests { service: "mytoken", member: "endpoint", value: "mytoken" };
/// Exchanges of mytokens for access tokens.
pub(super) const EXCHANGES: Requests = Requests { service: "mytoken", member: "endpoint", value: "access_token" };
/// Questions about an access token at userinfo.
pub(super) const USERINFOS: Requests = Requests { service: "provider", member: "path", value: "/userinfo" };
/// The same at introspection.
pub(super) const INTROSPECTIONS: Requests = Requests { service: "provider", member: "path", value: "/introspect" };

/// Gets the tokens and writes the files.
pub(super) fn prepare(site: &Site) -> Result<()> {
    site.sh("alice", "mkdir -m 700 bench")?.ok()?;
    let mytoken = create_mytoken(site, "token")?;
    let short = create_mytoken(site, "short_token")?;
    write(site, MYTOKEN, &mytoken)?;
    write(site, SHORT_TOKEN, &short)?;

    let discovery = format!("curl -sSf --cacert {CA} {MYTOKEN_SERVER}/.well-known/mytoken-configuration");
    let discovery: Value = serde_json::from_str(&site.sh("alice", &discovery)?.ok()?.stdout).unwrap_or_default();
    let create = json!({
        "grant_type": "mytoken", "mytoken": mytoken, "name": "testbed:bench", "response_type": "token", "capabilities": ["AT"],
        "restrictions": [{"exp": now(site)? + 9 * 86_400, "scope": "storage.read", "audience": [AUDIENCE]}],
    });
    let exchange =
        json!({"grant_type": "mytoken", "mytoken": short, "scope": SCOPE, "audience": AUDIENCE, "comment": "bench"});
    write_post(site, CREATE, member(&discovery, "mytoken_endpoint")?, &create)?;
    write_post(site, EXCHANGE, member(&discovery, "access_token_endpoint")?, &exchange)?;

    let discovery = config(&format!("{MYTOKEN_SERVER}/.well-known/mytoken-configuration"));
    write(site, DISCOVERY_AND_EXCHANGE, &format!("{discovery}next\n{}", site.read(EXCHANGE)?))?;

    let answer = site.sh("alice", &format!("curl -o - -K {EXCHANGE}"))?.ok()?.stdout;
    let answer: Value = serde_json::from_str(&answer).unwrap_or_default();
    write(site, ACCESS_TOKEN, member(&answer, "access_token")?)
}

/// The HTTPS request of a submission, by curl.
pub(super) fn curl_create() -> Step {
    Step::new("curl -K").arg(CREATE)
}

/// The same after discovery, in one connection.
pub(super) fn curl_discovery_and_exchange() -> Step {
    Step::new("curl -K").arg(DISCOVERY_AND_EXCHANGE)
}

/// The HTTPS request of a login, by curl.
pub(super) fn curl_exchange() -> Step {
    Step::new("curl -K").arg(EXCHANGE)
}

/// Writes the questions about the access token of alice that a login asks the provider, the second one as this client.
pub(super) fn prepare_questions(site: &Site, client: &str, secret: &str) -> Result<()> {
    let discovery = format!("curl -sSf --cacert {CA} {PROVIDER}/.well-known/openid-configuration");
    let discovery: Value = serde_json::from_str(&site.sh("alice", &discovery)?.ok()?.stdout).unwrap_or_default();
    let token = site.read(ACCESS_TOKEN)?;
    let userinfo = config(member(&discovery, "userinfo_endpoint")?);
    write(site, USERINFO, &format!("{userinfo}header = \"Authorization: Bearer {token}\"\n"))?;
    let introspection = config(member(&discovery, "introspection_endpoint")?);
    let form = format!("user = \"{client}:{secret}\"\ndata = \"token={token}&token_type_hint=access_token\"\n");
    write(site, INTROSPECTION, &format!("{introspection}{form}"))
}

/// The question at userinfo, by curl.
pub(super) fn curl_userinfo() -> Step {
    Step::new("curl -K").arg(USERINFO)
}

/// The question at introspection, by curl.
pub(super) fn curl_introspection() -> Step {
    Step::new("curl -K").arg(INTROSPECTION)
}

/// Number of requests of this kind so far.
fn count(site: &Site, kind: Requests) -> Result<usize> {
    let journal = people::control(site, &format!("/journal?service={}", kind.service), None)?;
    let journal: Vec<Value> = serde_json::from_str(&journal).unwrap_or_default();
    Ok(journal.iter().filter(|entry| entry.get(kind.member).and_then(Value::as_str) == Some(kind.value)).count())
}

/// Runs `work` and checks that it caused this number of requests of this kind. Otherwise the comparison is invalid.
pub(super) fn check_requests<T>(
    site: &Site,
    kind: Requests,
    expected: usize,
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let before = count(site, kind)?;
    let result = work()?;
    match count(site, kind)?.saturating_sub(before) {
        found if found == expected => Ok(result),
        found => Err(Error::Refused(format!("{found} requests to {} instead of {expected}", kind.value))),
    }
}

fn create_mytoken(site: &Site, response_type: &str) -> Result<String> {
    let request = json!({
        "user": "alice", "capabilities": ["AT", "create_mytoken"], "response_type": response_type,
        "restrictions": [{"exp": now(site)? + 30 * 86_400, "scope": SCOPE, "audience": [AUDIENCE]}],
    });
    let answer = people::control(site, "/mytoken/first-token", Some(&request.to_string()))?;
    let answer: Value = serde_json::from_str(&answer).unwrap_or_default();
    member(&answer, "mytoken").map(str::to_owned)
}

/// Writes a configuration of curl for a POST, so that no secret is in curl's arguments.
fn write_post(site: &Site, path: &str, url: &str, body: &Value) -> Result<()> {
    let body_file = format!("{path}.json");
    write(site, &body_file, &body.to_string())?;
    let config = config(url);
    let post = format!("header = \"Content-Type: application/json\"\ndata = \"@{body_file}\"\n");
    write(site, path, &format!("{config}{post}"))
}

/// What curl's configurations have in common.
fn config(url: &str) -> String {
    format!(
        "url = \"{url}\"\nsilent\nshow-error\nfail\nnoproxy = \"*\"\ncacert = \"{CA}\"\noutput = \"/dev/null\"\n\
         header = \"Accept: application/json\"\n"
    )
}

fn write(site: &Site, path: &str, text: &str) -> Result<()> {
    site.script("alice", &format!("umask 077; cat >{path}")).stdin(text).run()?.ok().map(drop)
}

fn now(site: &Site) -> Result<u64> {
    let output = site.sh("alice", "date +%s")?.ok()?.stdout;
    output.trim().parse().map_err(|_| Error::Refused(format!("`date` printed \"{output}\"")))
}

fn member<'v>(answer: &'v Value, name: &str) -> Result<&'v str> {
    // The message does not contain the answer, which may contain a token.
    answer.get(name).and_then(Value::as_str).ok_or_else(|| Error::Refused(format!("the server's answer lacks {name}")))
}
