// SPDX-License-Identifier: MIT OR Apache-2.0
//! The journal of the mytoken server: its requests, for assertions in tests. It contains no secrets: no queries, no
//! bodies, no codes of paths. A mytoken is shown by its fingerprint, the begin of its SHA-256 in hexadecimal digits.

use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::http::{Reply, Request, Response};
use crate::locked;
use crate::mytoken::body;

/// The header field with the name of an answer.
pub(crate) const REQUEST_ID: &str = "X-Request-ID";

/// Requests in the order of their answers.
#[derive(Default)]
pub(crate) struct Journal(Mutex<Vec<Value>>);

impl Journal {
    /// Records a request. The status is null for a closed connection. `token` is the mytoken of the request, `made` the
    /// mytoken of the answer, `mom_id` that of the answer. `late_ms`: so much later than the request was carried out the answer is sent.
    /// `sent`: it was sent, or still waits to be.
    pub(crate) fn record(&self, request: &Request, endpoint: &str, reply: &Reply) {
        let answer = match reply {
            Reply::Close => None,
            Reply::Answer(answer) | Reply::Drip(answer, _) | Reply::Late(answer, _) => Some(answer),
        };
        let asked: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let answered: Value = answer.and_then(|answer| serde_json::from_slice(&answer.body).ok()).unwrap_or_default();
        let text = |from: &Value, member: &str| from.get(member).and_then(Value::as_str).map(str::to_owned);
        let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |elapsed| elapsed.as_secs_f64());
        let path = if endpoint == "consent" { "/c/*" } else { &request.path };
        let entry = json!({
            "time": time,
            "peer": request.peer.to_canonical(),
            "method": request.method,
            "path": path,
            "endpoint": endpoint,
            "grant_type": keyword_member(request, "grant_type"),
            "action": keyword_member(request, "action"),
            "status": answer.map(|answer| answer.status),
            "late_ms": late_ms(reply),
            "sent": answer.is_some(),
            "id": answer.and_then(|answer| answer.header(REQUEST_ID)),
            "token": text(&asked, "mytoken").or_else(|| text(&asked, "token")).as_deref().map(fingerprint),
            "made": text(&answered, "mytoken").as_deref().map(fingerprint),
            "mom_id": text(&answered, "mom_id"),
        });
        locked(&self.0).push(entry);
    }

    /// Records that an answer was not sent.
    pub(crate) fn mark_unsent(&self, answer: &Response) {
        let Some(id) = answer.header(REQUEST_ID) else { return };
        let mut entries = locked(&self.0);
        if let Some(entry) = entries.iter_mut().rev().find(|entry| entry.get("id").is_some_and(|found| found == id)) {
            entry["sent"] = false.into();
        }
    }

    pub(crate) fn entries(&self) -> Vec<Value> {
        locked(&self.0).clone()
    }

    pub(crate) fn clear(&self) {
        locked(&self.0).clear();
    }
}

/// Milliseconds between the end of the request and its answer.
fn late_ms(reply: &Reply) -> u64 {
    let pause = if let Reply::Late(_, pause) = reply { *pause } else { Duration::ZERO };
    u64::try_from(pause.as_millis()).unwrap_or(u64::MAX)
}

/// The begin of its SHA-256.
fn fingerprint(token: &str) -> String {
    Sha256::digest(token).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// The value of a member like `grant_type` if it looks like a keyword. Any other text could be a secret in the wrong
/// member.
fn keyword_member(request: &Request, name: &str) -> Option<String> {
    let found = body::query(request, name).or_else(|| match serde_json::from_slice::<Value>(&request.body) {
        Ok(members) => members.get(name).and_then(Value::as_str).map(str::to_owned),
        Err(_) => {
            url::form_urlencoded::parse(&request.body).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
        }
    })?;
    (found.len() < 32 && found.chars().all(|c| c.is_ascii_lowercase() || c == '_')).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(body: &str) -> Request {
        Request {
            method: "POST".into(),
            path: "/".into(),
            query: None,
            headers: Vec::new(),
            body: body.into(),
            peer: std::net::Ipv4Addr::LOCALHOST.into(),
        }
    }

    #[test]
    fn a_mytoken_is_shown_by_its_fingerprint() {
        let journal = Journal::default();
        let request = request(r#"{"mytoken":"secret-parent"}"#);
        let answer = Response::json(200, &json!({"mytoken": "secret-child", "mom_id": "m1"}));
        journal.record(&request, "mytoken", &Reply::Answer(answer.clone()));
        journal.record(&request, "mytoken", &Reply::Late(answer, Duration::from_secs(45)));
        let entries = Value::from(journal.entries());
        let shown = |member: &str| entries.pointer(&format!("/0/{member}")).cloned();
        assert_eq!(shown("token"), Some(fingerprint("secret-parent").into()));
        assert_eq!(shown("made"), Some(fingerprint("secret-child").into()));
        assert_eq!((shown("mom_id"), shown("status")), (Some("m1".into()), Some(200.into())));
        assert!(!entries.to_string().contains("secret"), "{entries}");
        let late = |number: usize| entries.pointer(&format!("/{number}/late_ms")).and_then(Value::as_u64);
        assert_eq!((late(0), late(1)), (Some(0), Some(45_000)));
        assert_eq!(shown("sent"), Some(true.into()));
    }

    #[test]
    fn an_answer_that_was_not_sent_is_marked() {
        let journal = Journal::default();
        let request = request("");
        let answer = |id: &str| Response::empty(204).with(REQUEST_ID, id);
        for id in ["one", "two", "three"] {
            journal.record(&request, "revocation", &Reply::Answer(answer(id)));
        }
        journal.record(&request, "revocation", &Reply::Close);
        journal.mark_unsent(&answer("two"));
        journal.mark_unsent(&Response::empty(204));
        let sent: Vec<Value> = journal.entries().iter().map(|entry| entry["sent"].clone()).collect();
        assert_eq!(sent, [true, false, true, false]);
    }

    #[test]
    fn a_secret_in_the_wrong_member_is_not_recorded() {
        assert_eq!(keyword_member(&request(r#"{"grant_type":"mytoken"}"#), "grant_type").as_deref(), Some("mytoken"));
        assert_eq!(
            keyword_member(&request("grant_type=refresh_token&x=1"), "grant_type").as_deref(),
            Some("refresh_token")
        );
        assert_eq!(keyword_member(&request(r#"{"grant_type":"GkRbXpQm"}"#), "grant_type"), None);
    }
}
