// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tokens of alice for the bench, in her files, and the product's requests as curl makes them.

use serde_json::{Value, json};

use super::laps::Step;
use crate::drive::people;
use crate::site::servers::{AUDIENCE, CA, MYTOKEN_SERVER};
use crate::{Error, Result, Site};

/// A mytoken with the right to make sub-tokens.
pub(super) const MYTOKEN: &str = "/home/alice/bench/mytoken";
/// The same as a short token.
pub(super) const SHORT_TOKEN: &str = "/home/alice/bench/short";
/// An access token.
pub(super) const ACCESS_TOKEN: &str = "/home/alice/bench/access";

const SCOPE: &str = "openid profile storage.read";

/// curl's configuration for the request of a submission: one sub-token.
const CREATE: &str = "/home/alice/bench/create.curl";
/// curl's configuration for the request of a login: one access token.
const EXCHANGE: &str = "/home/alice/bench/exchange.curl";

/// Gets the tokens and writes the files.
pub(super) fn prepare(site: &Site) -> Result<()> {
    site.sh("alice", "mkdir -m 700 bench")?.ok()?;
    let mytoken = first(site, "token")?;
    let short = first(site, "short_token")?;
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
    post(site, CREATE, member(&discovery, "mytoken_endpoint")?, &create)?;
    post(site, EXCHANGE, member(&discovery, "access_token_endpoint")?, &exchange)?;

    let answer = site.sh("alice", &format!("curl -o - -K {EXCHANGE}"))?.ok()?.stdout;
    let answer: Value = serde_json::from_str(&answer).unwrap_or_default();
    write(site, ACCESS_TOKEN, member(&answer, "access_token")?)
}

/// The HTTPS request of a submission, by curl.
pub(super) fn curl_create() -> Step {
    Step::new("curl -K").arg(CREATE)
}

/// The HTTPS request of a login, by curl.
pub(super) fn curl_exchange() -> Step {
    Step::new("curl -K").arg(EXCHANGE)
}

/// Number of requests to an endpoint of the mytoken server, from its journal.
fn requests(site: &Site, endpoint: &str) -> Result<usize> {
    let journal: Vec<Value> =
        serde_json::from_str(&people::control(site, "/journal?service=mytoken", None)?).unwrap_or_default();
    Ok(journal.iter().filter(|entry| entry.get("endpoint").and_then(Value::as_str) == Some(endpoint)).count())
}

/// Runs `work` and checks that it sent this number of requests to the endpoint; otherwise the comparison means nothing.
pub(super) fn asking<T>(site: &Site, endpoint: &str, often: usize, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let before = requests(site, endpoint)?;
    let done = work()?;
    match requests(site, endpoint)? - before {
        seen if seen == often => Ok(done),
        seen => Err(Error::Refused(format!("{seen} requests to {endpoint} where {often} were to be compared"))),
    }
}

fn first(site: &Site, response_type: &str) -> Result<String> {
    let order = json!({
        "user": "alice", "capabilities": ["AT", "create_mytoken"], "response_type": response_type,
        "restrictions": [{"exp": now(site)? + 30 * 86_400, "scope": SCOPE, "audience": [AUDIENCE]}],
    });
    let answer = people::control(site, "/mytoken/first-token", Some(&order.to_string()))?;
    let answer: Value = serde_json::from_str(&answer).unwrap_or_default();
    member(&answer, "mytoken").map(str::to_owned)
}

/// A POST as a configuration of curl, so that no secret is in its arguments.
fn post(site: &Site, path: &str, url: &str, body: &Value) -> Result<()> {
    let body_file = format!("{path}.json");
    write(site, &body_file, &body.to_string())?;
    let config = format!(
        "url = \"{url}\"\nsilent\nshow-error\nfail\nnoproxy = \"*\"\ncacert = \"{CA}\"\noutput = \"/dev/null\"\n\
         header = \"Content-Type: application/json\"\nheader = \"Accept: application/json\"\ndata = \"@{body_file}\"\n"
    );
    write(site, path, &config)
}

fn write(site: &Site, path: &str, text: &str) -> Result<()> {
    site.script("alice", &format!("umask 077; cat >{path}")).stdin(text).run()?.ok().map(drop)
}

fn now(site: &Site) -> Result<u64> {
    let said = site.sh("alice", "date +%s")?.ok()?.stdout;
    said.trim().parse().map_err(|_| Error::Refused(format!("what time is \"{said}\"?")))
}

fn member<'v>(answer: &'v Value, name: &str) -> Result<&'v str> {
    // The answer may contain a token, so it is not shown.
    answer.get(name).and_then(Value::as_str).ok_or_else(|| Error::Refused(format!("the server's answer lacks {name}")))
}
