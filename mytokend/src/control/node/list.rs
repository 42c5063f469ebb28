// SPDX-License-Identifier: MIT OR Apache-2.0
//! The enrolled nodes, for a terminal and as JSON.

use std::fmt::Write as _;
use std::net::IpAddr;

use mytoken::time_format::TimeFormat;
use serde::Serialize;

use crate::broker::identity::{NodeEntry, NodeList, Proof};

/// What `--json` prints. Names and words never change their meaning.
#[derive(Debug, Serialize)]
pub struct Report<'a> {
    nodes: Vec<Entry<'a>>,
    unreadable: &'a [String],
}

#[derive(Debug, Serialize)]
struct Entry<'a> {
    node: &'a str,
    blocked: bool,
    /// When it was enrolled or blocked, Unix seconds.
    since: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    proof: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate_until: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
}

impl<'a> Report<'a> {
    /// The report of a list.
    #[must_use]
    pub fn of(list: &'a NodeList) -> Self {
        Self { nodes: list.entries.iter().map(Entry::of).collect(), unreadable: &list.unreadable }
    }
}

impl<'a> Entry<'a> {
    fn of(entry: &'a NodeEntry) -> Self {
        let (proof, address) = match &entry.proof {
            None => (None, None),
            Some(Proof::Munge { address }) => (Some("munge"), Some(*address)),
            Some(Proof::Code) => (Some("code"), None),
            Some(Proof::Site) => (Some("site"), None),
        };
        Self {
            node: entry.node.as_str(),
            blocked: entry.is_blocked(),
            since: entry.enrolled,
            proof,
            address,
            certificate_until: entry.key.map(|_| entry.certificate_ends),
            key: entry.key.map(|key| key.to_string()),
        }
    }
}

/// The nodes for a terminal. What cannot be read is not among them.
#[must_use]
pub fn render(list: &NodeList, times: TimeFormat) -> String {
    if list.entries.is_empty() {
        return "no node is enrolled at this broker\n".to_owned();
    }
    let longest = list.entries.iter().map(|entry| entry.node.as_str().len()).max().unwrap_or_default().max(4);
    let mut text = String::new();
    let mut line = |node: &str, since: &str, until: &str, proof: &str| {
        let _ = writeln!(text, "{node:<longest$}  {since:<20}  {until:<20}  {proof}");
    };
    line("NODE", "SINCE", "CERTIFICATE UNTIL", "PROOF");
    for entry in &list.entries {
        let since = times.minutes(entry.enrolled);
        match &entry.proof {
            Some(proof) => {
                line(entry.node.as_str(), &since, &times.minutes(entry.certificate_ends), &proof.to_string());
            }
            None => line(entry.node.as_str(), &since, "-", "blocked"),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::identity::KeyHash;

    #[test]
    fn the_list_has_a_line_for_each_node_and_json_has_the_same() {
        let entry = |node: &str, proof: Option<Proof>| NodeEntry {
            node: node.parse().unwrap(),
            key: proof.as_ref().map(|_| KeyHash([0x1f; 32])),
            enrolled: 1_800_000_000,
            certificate_ends: if proof.is_some() { 1_831_536_000 } else { 0 },
            proof,
            address: None,
        };
        let munge = Proof::Munge { address: "10.0.0.1".parse().unwrap() };
        let entries = vec![entry("node-0001", Some(munge)), entry("n2", None)];
        let list = NodeList { entries, unreadable: vec!["/x: damaged".to_owned()] };
        assert_eq!(
            render(&list, TimeFormat::utc(1_800_000_060)),
            "NODE       SINCE                 CERTIFICATE UNTIL     PROOF\n\
             node-0001  08:00                 2028-01-15 08:00      MUNGE from 10.0.0.1\n\
             n2         08:00                 -                     blocked\n"
        );
        let json = serde_json::to_value(Report::of(&list)).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "nodes": [
                    {
                        "node": "node-0001", "blocked": false, "since": 1_800_000_000, "proof": "munge", "address": "10.0.0.1",
                        "certificate_until": 1_831_536_000, "key": "1f".repeat(32)
                    },
                    { "node": "n2", "blocked": true, "since": 1_800_000_000 }
                ],
                "unreadable": ["/x: damaged"]
            })
        );
        assert!(render(&NodeList::default(), TimeFormat::utc(0)).contains("no node is enrolled"));
    }
}
