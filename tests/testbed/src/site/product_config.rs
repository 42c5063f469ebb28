// SPDX-License-Identifier: MIT OR Apache-2.0
//! The product's configuration for a site: one server, one provider, one rule, one profile.

use crate::site::servers::{AUDIENCE, CA, MYTOKEN_SERVER, PROVIDER};
use crate::{Result, Site};

/// Where a site with brokers has its private keys. Nodes have an empty directory there.
const PRIVATE: &str = "/etc/mytoken/private";

/// Shell commands that hide the private keys from a node.
pub(crate) fn hide_private_keys() -> String {
    format!("mkdir -p {PRIVATE}; mount -t tmpfs -o mode=700 tmpfs {PRIVATE};")
}

/// Writes `/etc/mytoken/*.toml`, the cluster's key pair, and the brokers' authority.
pub(crate) fn write(site: &Site) -> Result<()> {
    site.write("/etc/mytoken/mytoken.toml", &shared(site), "0644")?;
    site.write("/etc/mytoken/login.toml", &login(), "0644")?;
    site.write("/etc/mytoken/jobs.toml", &jobs(site), "0644")?;
    site.sh("root", "mytokenctl keygen")?.ok()?;
    if site.brokers().is_empty() {
        return Ok(());
    }
    let keys = format!(
        "set -e; chmod 700 {PRIVATE}; mytokenctl broker-ca --dir /etc/mytoken/keys; cd /etc/mytoken/keys; mv cluster.key broker-ca.key {PRIVATE}/"
    );
    site.sh("root", &keys)?.ok().map(drop)
}

fn shared(site: &Site) -> String {
    let (server, issuer, ca) = match &site.options().foreign {
        None => (MYTOKEN_SERVER, PROVIDER, true),
        Some(foreign) => (foreign.server.as_str(), foreign.issuer.as_str(), foreign.ca.is_some()),
    };
    let ca_file = if ca { format!("ca_file = \"{CA}\"\n") } else { String::new() };
    let loopback = [server, issuer].iter().any(|url| url.starts_with("http:"));
    format!(
        r#"[http]
{ca_file}allow_loopback_http = {loopback}

[[server]]
name = "testbed"
url = "{server}"

[[issuer]]
name = "op"
url = "{issuer}"
audiences = ["{AUDIENCE}"]
"#
    )
}

fn login() -> String {
    format!(
        r#"services = ["sshd"]
deadline = "10s"
fail_delay = "1s"

[exchange]
server = "testbed"
scope = "openid profile storage.read"
audience = "{AUDIENCE}"

[[rule]]
name = "hpc"
issuer = "op"
template = "{{preferred_username}}"
"#
    )
}

fn jobs(site: &Site) -> String {
    let (mut key, mut broker) = (String::new(), String::new());
    if !site.brokers().is_empty() {
        key = format!("private_key_file = \"{PRIVATE}/cluster.key\"\n");
        broker = format!("[broker]\nnames = {:?}\nca_key_file = \"{PRIVATE}/broker-ca.key\"\n", site.brokers());
    }
    format!(
        r#"[cluster]
name = "testbed"
{key}
{broker}
[submit]
# Stories count sub-tokens. Those about loops switch it on.
share_for = "0s"

[[profile]]
name = "default"
server = "testbed"
scope = "storage.read"
audience = "{AUDIENCE}"
"#
    )
}
