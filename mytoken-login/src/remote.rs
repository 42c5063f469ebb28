// SPDX-License-Identifier: MIT OR Apache-2.0
//! The address that a login comes from. All addresses of one subscriber count as one.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use serde::{Deserialize, Serialize};

/// Longest name of a remote host, in bytes. The rest is cut.
const NAME_LIMIT: usize = 64;

/// Where a login comes from: an IPv4 address, the /64 prefix of an IPv6 address (one subscriber has at least that), or a name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Remote(String);

impl Remote {
    /// From `SSH_CONNECTION` of the PAM environment (client address, port, server address, port), which sshd sets in every phase and
    /// no client can choose (SSH-07). Without it from `PAM_RHOST`, which is a name with `UseDNS yes`.
    #[must_use]
    pub fn of(ssh_connection: Option<&str>, rhost: Option<&str>) -> Self {
        let peer = ssh_connection.and_then(|text| text.split_ascii_whitespace().next());
        match (peer.and_then(address), rhost.map(|text| (text, address(text)))) {
            (Some(address), _) | (None, Some((_, Some(address)))) => Self::prefix(address),
            (None, Some((name, None))) if !name.is_empty() => Self::named(name),
            _ => Self("local".to_owned()),
        }
    }

    fn prefix(address: IpAddr) -> Self {
        match address.to_canonical() {
            // All of 127.0.0.0/8 is this host: a local user can take any address of it.
            address if address.is_loopback() => Self("loopback".to_owned()),
            IpAddr::V4(address) => Self(address.to_string()),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Self(format!("{}/64", Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0)))
            }
        }
    }

    fn named(name: &str) -> Self {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':');
        Self(
            name.bytes()
                .take(NAME_LIMIT)
                .map(|byte| if plain(byte) { char::from(byte.to_ascii_lowercase()) } else { '?' })
                .collect(),
        )
    }

    /// Its text, for files and screens.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Parses an address, with or without a zone (`fe80::1%eth0`).
fn address(text: &str) -> Option<IpAddr> {
    text.split('%').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_subscriber_is_one_remote() {
        let table: &[(Option<&str>, Option<&str>, &str)] = &[
            (Some("192.0.2.7 51234 198.51.100.1 22"), Some("192.0.2.7"), "192.0.2.7"),
            (Some("192.0.2.7 51234 198.51.100.1 22"), Some("chosen.by.dns.example"), "192.0.2.7"),
            (Some("2001:db8:1:2:3:4:5:6 51234 2001:db8::1 22"), None, "2001:db8:1:2::/64"),
            (Some("2001:db8:1:2:ffff::1 1 ::1 22"), None, "2001:db8:1:2::/64"),
            (Some("::ffff:192.0.2.7 1 ::1 22"), None, "192.0.2.7"),
            (Some("127.0.0.77 1 127.0.0.1 22"), None, "loopback"),
            (Some("::1 1 ::1 22"), None, "loopback"),
            (Some("fe80::1%eth0 1 fe80::2%eth0 22"), None, "fe80::/64"),
            (None, Some("192.0.2.7"), "192.0.2.7"),
            (None, Some("Pc7.Example.ORG"), "pc7.example.org"),
            (Some("UNKNOWN 65535 UNKNOWN 65535"), Some("a b\n\u{fc}"), "a?b???"),
            (Some(""), Some(""), "local"),
            (None, None, "local"),
        ];
        for (connection, rhost, expected) in table {
            assert_eq!(Remote::of(*connection, *rhost).as_str(), *expected, "{connection:?} {rhost:?}");
        }
        assert_eq!(Remote::of(None, Some(&"x".repeat(5_000))).as_str().len(), NAME_LIMIT);
    }
}
