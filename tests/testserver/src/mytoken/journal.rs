// SPDX-License-Identifier: MIT OR Apache-2.0
//! The journal of the mytoken server: its requests, for assertions in tests. It contains no secrets: no queries, no
//! bodies, no codes of paths.

use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::http::Request;
use crate::locked;
use crate::mytoken::body;

/// Requests in the order of their answers.
#[derive(Default)]
pub(crate) struct Journal(Mutex<Vec<Value>>);

impl Journal {
    /// Records a request; the status is `None` for a closed connection.
    pub(crate) fn record(&self, request: &Request, endpoint: &str, status: Option<u16>) {
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
            "status": status,
        });
        locked(&self.0).push(entry);
    }

    pub(crate) fn entries(&self) -> Vec<Value> {
        locked(&self.0).clone()
    }

    pub(crate) fn clear(&self) {
        locked(&self.0).clear();
    }
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

    #[test]
    fn a_secret_in_the_wrong_member_is_not_recorded() {
        let request = |body: &str| Request {
            method: "POST".into(),
            path: "/".into(),
            query: None,
            headers: Vec::new(),
            body: body.into(),
            peer: std::net::Ipv4Addr::LOCALHOST.into(),
        };
        assert_eq!(keyword_member(&request(r#"{"grant_type":"mytoken"}"#), "grant_type").as_deref(), Some("mytoken"));
        assert_eq!(
            keyword_member(&request("grant_type=refresh_token&x=1"), "grant_type").as_deref(),
            Some("refresh_token")
        );
        assert_eq!(keyword_member(&request(r#"{"grant_type":"GkRbXpQm"}"#), "grant_type"), None);
    }
}
