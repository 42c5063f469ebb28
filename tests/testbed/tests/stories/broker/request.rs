// SPDX-License-Identifier: MIT OR Apache-2.0
//! Requests to a broker that no agent would send.

use serde_json::Value;
use testbed::{Result, Site};

/// Sends a request to the broker b1 from `node`, with the node's key and certificate in the directory `identity`. Returns status and body.
pub fn ask(site: &Site, node: &str, identity: Option<&str>, path: &str, body: &Value) -> Result<(String, String)> {
    let own = identity.map_or_else(String::new, |of| format!("--cert {of}/node.pem --key {of}/node.key"));
    let script = format!(
        "curl -s --max-time 20 --cacert /etc/mytoken/keys/broker-ca.pem {own} -w '\\n%{{http_code}}' -d @- https://b1:7512{path}"
    );
    let outcome = site.script("root", &script).on(node).stdin(body.to_string()).run()?;
    let (body, status) = outcome.stdout.rsplit_once('\n').unwrap_or_default();
    Ok((status.to_owned(), body.to_owned()))
}
