// SPDX-License-Identifier: MIT OR Apache-2.0
//! Faults that a test can set. A fault can be limited to an endpoint, to a number of requests, and to a random share of
//! the requests: `{"endpoint": "access_token", "times": 1, "percent": 10}`.
//!
//! | Name | Arguments | What happens |
//! |---|---|---|
//! | `latency` | `ms` | the answer comes late |
//! | `drip` | `ms` | the body comes one byte at a time, with this pause after each byte |
//! | `429` | `retry_after`? | too many requests, in plain text |
//! | `500-html` | | an error page |
//! | `empty-access-token` | | 200 with an empty access token; the use is counted and the token rotated |
//! | `drop-after-commit` | | the request is carried out, then the connection is closed without an answer |
//! | `outage` | | the connection is closed at once |
//! | `clock-skew` | `seconds` | the server's clock is ahead by this, for all endpoints until `clear` |
//! | `broader-child` | | a child gets all capabilities and restrictions of its parent |
//! | `gigantic-body` | `bytes`? | 200 with a body of this length, by default 64 MiB |
//! | `redirect-308` | `location`? | a redirect, by default to another host |
//! | `clear` | | ends all faults |

use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::http::{Reply, Request, Response};
use crate::locked;
use crate::mytoken::answer::{html, plain};
use crate::mytoken::paths;

/// A century, in seconds.
const MAX_SKEW: i64 = 3_155_760_000;

#[derive(Debug, Clone, PartialEq, Eq)]
enum FaultKind {
    Latency(Duration),
    Drip(Duration),
    TooMany(Option<u64>),
    ErrorPage,
    EmptyAccessToken,
    DropAfterCommit,
    Outage,
    BroaderChild,
    GiganticBody(usize),
    Redirect(Option<String>),
}

#[derive(Debug)]
struct Fault {
    kind: FaultKind,
    endpoint: Option<String>,
    left: Option<u64>,
    /// The share of requests that it hits.
    percent: Option<f64>,
}

/// The faults that are set.
#[derive(Default)]
pub(crate) struct ServerFaults {
    set: Mutex<Vec<Fault>>,
    skew: AtomicI64,
}

/// The faults that apply to one request.
pub(crate) struct ActiveFaults(Vec<FaultKind>);

impl ServerFaults {
    pub(crate) fn skew(&self) -> i64 {
        self.skew.load(Ordering::Relaxed)
    }

    pub(crate) fn set(&self, name: &str, args: &Value) -> Result<(), String> {
        let number = |key: &str| args.get(key).and_then(Value::as_u64);
        let pause = || number("ms").map(Duration::from_millis).ok_or_else(|| format!("{name} needs the member ms"));
        let kind = match name {
            "clear" => {
                self.skew.store(0, Ordering::Relaxed);
                locked(&self.set).clear();
                return Ok(());
            }
            "clock-skew" => {
                let seconds = args
                    .get("seconds")
                    .and_then(Value::as_i64)
                    .filter(|seconds| (-MAX_SKEW..=MAX_SKEW).contains(seconds))
                    .ok_or("clock-skew needs the member seconds, at most a century")?;
                self.skew.store(seconds, Ordering::Relaxed);
                return Ok(());
            }
            "latency" => FaultKind::Latency(pause()?),
            "drip" => FaultKind::Drip(pause()?),
            "429" => FaultKind::TooMany(number("retry_after")),
            "500-html" => FaultKind::ErrorPage,
            "empty-access-token" => FaultKind::EmptyAccessToken,
            "drop-after-commit" => FaultKind::DropAfterCommit,
            "outage" => FaultKind::Outage,
            "broader-child" => FaultKind::BroaderChild,
            "gigantic-body" => {
                let bytes = number("bytes").unwrap_or(64 << 20);
                FaultKind::GiganticBody(usize::try_from(bytes).map_err(|error| error.to_string())?)
            }
            "redirect-308" => FaultKind::Redirect(args.get("location").and_then(Value::as_str).map(str::to_owned)),
            _ => return Err(format!("unknown fault {name}")),
        };
        let endpoint = args.get("endpoint").and_then(Value::as_str).map(str::to_owned);
        if let Some(unknown) = endpoint.as_ref().filter(|name| !paths::is_endpoint(name)) {
            return Err(format!("unknown endpoint {unknown}"));
        }
        let percent = args.get("percent").map(|share| {
            let share = share.as_f64().filter(|share| (0.0..=100.0).contains(share));
            share.ok_or_else(|| format!("{name}: percent is a number from 0 to 100"))
        });
        let fault = Fault { kind, endpoint, left: number("times"), percent: percent.transpose()? };
        locked(&self.set).push(fault);
        Ok(())
    }

    /// Takes the faults for a request to this endpoint. The request counts for each of them.
    pub(crate) fn take_for(&self, endpoint: &str) -> ActiveFaults {
        let mut set = locked(&self.set);
        let mut faults = Vec::new();
        for fault in set.iter_mut() {
            // Requests to other endpoints must not use up a fault that has no effect there.
            let has_effect = match fault.kind {
                FaultKind::EmptyAccessToken => endpoint == "access_token",
                FaultKind::BroaderChild => endpoint == "mytoken",
                _ => true,
            };
            let selected = fault.endpoint.as_ref().is_none_or(|name| name == endpoint);
            let hits = || fault.percent.is_none_or(|percent| rand::random::<f64>() * 100.0 < percent);
            if has_effect && selected && fault.left != Some(0) && hits() {
                fault.left = fault.left.map(|left| left - 1);
                faults.push(fault.kind.clone());
            }
        }
        set.retain(|fault| fault.left != Some(0));
        ActiveFaults(faults)
    }
}

impl ActiveFaults {
    /// The answer that a fault sends instead of the server's, if one does.
    pub(crate) fn replacement(&self, request: &Request) -> Option<Reply> {
        self.0.iter().find_map(|kind| {
            Some(match kind {
                FaultKind::Outage => Reply::Close,
                FaultKind::TooMany(after) => {
                    let answer = plain(429, "Too Many Requests");
                    Reply::Answer(match after {
                        Some(seconds) => answer.with("Retry-After", seconds.to_string()),
                        None => answer,
                    })
                }
                FaultKind::ErrorPage => Reply::Answer(html(500, "Internal Server Error", "Something broke.")),
                FaultKind::GiganticBody(length) => {
                    let mut body = b"{\"filler\":\"".to_vec();
                    body.resize(length.saturating_sub(2), b'x');
                    body.extend_from_slice(b"\"}");
                    Reply::Answer(Response::typed(200, "application/json", body))
                }
                FaultKind::Redirect(location) => {
                    let location =
                        location.clone().unwrap_or_else(|| format!("https://elsewhere.example.org{}", request.path));
                    Reply::Answer(Response::empty(308).with("Location", location))
                }
                _ => return None,
            })
        })
    }

    pub(crate) fn empties_access_token(&self) -> bool {
        self.0.contains(&FaultKind::EmptyAccessToken)
    }

    pub(crate) fn broadens_child(&self) -> bool {
        self.0.contains(&FaultKind::BroaderChild)
    }

    /// How the server's answer is sent: late, slowly or not at all if a fault says so.
    pub(crate) fn deliver(&self, answer: Response) -> Reply {
        if self.0.contains(&FaultKind::DropAfterCommit) {
            return Reply::Close;
        }
        for kind in &self.0 {
            match kind {
                FaultKind::Drip(pause) => return Reply::Drip(answer, *pause),
                FaultKind::Latency(pause) => return Reply::Late(answer, *pause),
                _ => {}
            }
        }
        Reply::Answer(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_fault_counts_only_requests_to_its_endpoint() {
        let faults = ServerFaults::default();
        faults.set("empty-access-token", &json!({"times": 1})).unwrap();
        assert!(!faults.take_for("mytoken").empties_access_token());
        assert!(faults.take_for("access_token").empties_access_token());
        assert!(!faults.take_for("access_token").empties_access_token());
        faults.set("drop-after-commit", &json!({"endpoint": "revocation"})).unwrap();
        for _ in 0..2 {
            let dropped = faults.take_for("revocation").deliver(Response::empty(204));
            assert!(matches!(dropped, Reply::Close));
        }
        assert!(matches!(faults.take_for("mytoken").deliver(Response::empty(204)), Reply::Answer(_)));
        faults.set("clear", &json!({})).unwrap();
        assert!(matches!(faults.take_for("revocation").deliver(Response::empty(204)), Reply::Answer(_)));
    }

    #[test]
    fn a_fault_hits_its_share_of_the_requests() {
        let hits = |percent: u32| {
            let faults = ServerFaults::default();
            faults.set("outage", &json!({"percent": percent})).unwrap();
            (0..1000).filter(|_| !faults.take_for("mytoken").0.is_empty()).count()
        };
        assert_eq!((hits(0), hits(100)), (0, 1000));
        assert!((50..200).contains(&hits(10)));
    }

    #[test]
    fn unknown_faults_and_endpoints_are_refused() {
        let faults = ServerFaults::default();
        assert!(faults.set("earthquake", &json!({})).is_err());
        assert!(faults.set("latency", &json!({})).is_err());
        assert!(faults.set("outage", &json!({"endpoint": "kitchen"})).is_err());
        assert!(faults.set("outage", &json!({"percent": 101})).is_err());
    }
}
