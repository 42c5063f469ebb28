// SPDX-License-Identifier: MIT OR Apache-2.0
//! The request limit (MT-07).

use std::collections::HashMap;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Mutex;

use crate::http::Response;
use crate::locked;
use crate::mytoken::answer::plain;
use crate::mytoken::model::hosts;

/// How many requests an address may send.
#[derive(Debug, Clone)]
pub struct Limit {
    /// Requests per window.
    pub requests: u64,
    /// Seconds of a window.
    pub window: i64,
    /// Addresses and networks without a limit.
    pub exempt: Vec<String>,
}

/// The networks that the original exempts by default.
pub const LOOPBACK: [&str; 2] = ["127.0.0.0/8", "::1"];

/// Reads `100/300s`: requests per seconds, without exempt addresses.
impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("\"{text}\" is not a limit; write requests per seconds, e.g. 100/300s");
        let (requests, window) = text.split_once('/').ok_or_else(wrong)?;
        let (requests, window) = (requests.parse(), window.strip_suffix('s').ok_or_else(wrong)?.parse());
        match (requests, window) {
            (Ok(requests), Ok(window)) if requests > 0 && window > 0 => {
                Ok(Self { requests, window, exempt: Vec::new() })
            }
            _ => Err(wrong()),
        }
    }
}

/// The window of each address: its start and its number of requests.
#[derive(Default)]
pub(crate) struct Limiter(Mutex<HashMap<IpAddr, (i64, u64)>>);

/// Whether a request is within the limit.
pub(crate) enum Admission {
    /// Within the limit. These headers are added to its answer.
    Pass(Vec<(String, String)>),
    /// Over the limit. This is its answer.
    Refused(Response),
}

impl Limiter {
    pub(crate) fn admit(&self, limit: Option<&Limit>, peer: IpAddr, now: i64) -> Admission {
        let Some(limit) = limit.filter(|limit| !hosts::admits(&limit.exempt, peer)) else {
            return Admission::Pass(Vec::new());
        };
        let mut windows = locked(&self.0);
        let (start, seen) = windows.entry(peer).or_insert((now, 0));
        if now >= *start + limit.window {
            (*start, *seen) = (now, 0);
        }
        *seen += 1;
        let reset = (*start + limit.window - now).max(1).to_string();
        if *seen > limit.requests {
            return Admission::Refused(plain(429, "Too Many Requests").with("Retry-After", reset));
        }
        let header = |name: &str, value: String| (format!("X-RateLimit-{name}"), value);
        Admission::Pass(vec![
            header("Limit", limit.requests.to_string()),
            header("Remaining", (limit.requests - *seen).to_string()),
            header("Reset", reset),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_window_admits_the_limit_and_no_more() {
        let limit = Limit { requests: 2, window: 6, exempt: vec!["192.0.2.0/24".into()] };
        let limiter = Limiter::default();
        let passes =
            |peer: &str, now| matches!(limiter.admit(Some(&limit), peer.parse().unwrap(), now), Admission::Pass(_));
        assert!(passes("127.0.0.1", 0) && passes("127.0.0.1", 1) && !passes("127.0.0.1", 5));
        assert!(passes("127.0.0.2", 5) && passes("127.0.0.1", 6));
        assert!((0..9).all(|now| passes("192.0.2.9", now)));
    }

    #[test]
    fn limits_are_read_as_requests_per_seconds() {
        let read = |text: &str| text.parse::<Limit>().map(|limit| (limit.requests, limit.window));
        assert_eq!(read("100/300s"), Ok((100, 300)));
        for wrong in ["100", "100/300", "0/300s", "100/0s", "/300s", "100/-1s", "100/5m", ""] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
