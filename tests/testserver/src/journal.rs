// SPDX-License-Identifier: MIT OR Apache-2.0
//! The journal of a server: its requests, for assertions in tests. Secrets are kept as fingerprints only.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::form::decode;
use crate::http::{Handler, Reply, Request, Response};
use crate::locked;

/// Maximum number of entries. The oldest are deleted first, so that a server can run for days.
const MAX_ENTRIES: usize = 10_000;

/// Members of forms and queries whose values are shown. Values of all other members may be secrets.
const PUBLIC_MEMBERS: &[&str] = &[
    "audience",
    "client_id",
    "code_challenge_method",
    "decision",
    "grant_type",
    "prompt",
    "redirect_uri",
    "resource",
    "response_type",
    "scope",
    "token_type_hint",
    "username",
];

/// A handler that records its requests.
pub struct JournaledHandler {
    inner: Arc<dyn Handler>,
    entries: Mutex<VecDeque<Value>>,
}

impl JournaledHandler {
    /// Records the requests to this handler.
    #[must_use]
    pub fn of(inner: Arc<dyn Handler>) -> Self {
        Self { inner, entries: Mutex::default() }
    }

    /// The entries since the last [`clear`](Self::clear), oldest first: objects with `time` (Unix seconds), `method`,
    /// `path`, `query` and `form` (lists of values by key), `authorization` (scheme and fingerprint), `user_agent`,
    /// `peer`, `status` (null: closed without an answer), `milliseconds`.
    #[must_use]
    pub fn entries(&self) -> Vec<Value> {
        locked(&self.entries).iter().cloned().collect()
    }

    /// Deletes the entries.
    pub fn clear(&self) {
        locked(&self.entries).clear();
    }
}

impl Handler for JournaledHandler {
    fn handle(&self, request: &Request) -> Reply {
        let start = Instant::now();
        let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
        let reply = self.inner.handle(request);
        let status = match &reply {
            Reply::Answer(response) | Reply::Late(response, _) | Reply::Drip(response, _) => Some(response.status),
            Reply::Close => None,
        };
        let is_form = request
            .header("Content-Type")
            .is_some_and(|media_type| media_type.starts_with("application/x-www-form-urlencoded"));
        let entry = json!({
            "time": time,
            "method": request.method,
            "path": request.path,
            "query": request.query.as_ref().map(|query| without_secrets(query.as_bytes())),
            "form": is_form.then(|| without_secrets(&request.body)),
            "authorization": request.header("Authorization").map(authorization),
            "user_agent": request.header("User-Agent"),
            "peer": request.peer.to_string(),
            "status": status,
            "milliseconds": u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX),
        });
        let mut entries = locked(&self.entries);
        if entries.len() == MAX_ENTRIES {
            entries.pop_front();
        }
        entries.push_back(entry);
        reply
    }

    fn not_sent(&self, answer: &Response) {
        self.inner.not_sent(answer);
    }
}

/// Fingerprint of a secret: the first eight hexadecimal digits of its SHA-256, as everywhere in this project.
#[must_use]
pub fn fingerprint(secret: &str) -> String {
    let digits: String = Sha256::digest(secret).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("#{digits}")
}

/// Replaces values that may be secrets by fingerprints. `form` has lists of values: `{"key": ["value"]}`.
pub(crate) fn hide_secrets(form: &mut Map<String, Value>) {
    for (_, values) in form.iter_mut().filter(|(key, _)| !PUBLIC_MEMBERS.contains(&key.as_str())) {
        for value in values.as_array_mut().into_iter().flatten() {
            *value = fingerprint(value.as_str().unwrap_or_default()).into();
        }
    }
}

/// The members of a form or query, with fingerprints instead of secrets.
fn without_secrets(text: &[u8]) -> Value {
    let mut members: Map<String, Value> = Map::new();
    for (key, value) in decode(text) {
        if let Value::Array(list) = members.entry(key).or_insert_with(|| json!([])) {
            list.push(value.into());
        }
    }
    hide_secrets(&mut members);
    Value::Object(members)
}

fn authorization(header: &str) -> String {
    match header.split_once(' ') {
        Some((scheme, value)) => format!("{scheme} {}", fingerprint(value)),
        None => fingerprint(header),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct NoContent;

    impl Handler for NoContent {
        fn handle(&self, _: &Request) -> Reply {
            Reply::Answer(Response::empty(204))
        }
    }

    #[test]
    fn secrets_become_fingerprints() {
        let journal = JournaledHandler::of(Arc::new(NoContent));
        journal.handle(&Request {
            method: "POST".into(),
            path: "/token".into(),
            query: Some("code=SECRET1&scope=a+b".into()),
            headers: vec![
                ("authorization".into(), "Basic SECRET2".into()),
                ("content-type".into(), "application/x-www-form-urlencoded".into()),
            ],
            body: b"refresh_token=SECRET3&resource=a:b&resource=c:d&unknown=SECRET4".to_vec(),
            peer: std::net::Ipv4Addr::LOCALHOST.into(),
        });
        let entries = journal.entries();
        assert_eq!(entries[0]["form"]["resource"], json!(["a:b", "c:d"]));
        assert_eq!(entries[0]["form"]["refresh_token"], json!([fingerprint("SECRET3")]));
        assert_eq!(entries[0]["query"]["scope"], json!(["a b"]));
        assert_eq!(entries[0]["status"], 204);
        assert!(!json!(entries).to_string().contains("SECRET"));
        journal.clear();
        assert!(journal.entries().is_empty());
    }
}
