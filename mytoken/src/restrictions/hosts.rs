// SPDX-License-Identifier: MIT OR Apache-2.0
//! Entries of `hosts`: addresses, networks, names, `*.domain`, `this`.

use std::net::IpAddr;

use ipnet::IpNet;

/// Whether everything that `entry` lets in is let in by `bound`.
pub(super) fn covers(bound: &str, entry: &str) -> bool {
    if bound == entry {
        return true;
    }
    match (network(bound), network(entry)) {
        (Some(bound), Some(entry)) => bound.contains(&entry),
        // The server replaced the word in a request by the requester's address.
        (None, Some(entry)) => bound.eq_ignore_ascii_case("this") && entry.prefix_len() == entry.max_prefix_len(),
        (Some(_), None) => false,
        (None, None) => bound.strip_prefix('*').is_some_and(|suffix| {
            let inner = entry.strip_prefix('*').unwrap_or(entry);
            suffix.len() > 1 && suffix.starts_with('.') && inner.len() > suffix.len() && inner.ends_with(suffix)
        }),
    }
}

/// As the server reads it: a network only when its host part is zero, else the single address before the slash.
fn network(entry: &str) -> Option<IpNet> {
    if let Ok(address) = entry.parse::<IpAddr>() {
        return Some(IpNet::from(address));
    }
    let net: IpNet = entry.parse().ok()?;
    Some(if net.addr() == net.network() { net } else { IpNet::from(net.addr()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        let table = [
            ("10.0.0.0/8", "10.1.0.0/16", true),
            ("10.0.0.0/8", "10.1.2.3", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.1.0.0/16", "10.0.0.0/8", false),
            ("10.0.0.0/8", "10.0.0.0/8", true),
            ("192.0.2.7/24", "192.0.2.7", true),
            ("192.0.2.7/24", "192.0.2.8", false), // a host part: a single address
            ("192.0.2.0/24", "192.0.2.7/16", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("2001:db8::/32", "2001:db8:1::/48", true),
            ("2001:db8::1", "2001:DB8::1", true),
            ("*.example.org", "a.example.org", true),
            ("*.example.org", "*.b.example.org", true),
            ("*.example.org", "example.org", false),
            ("*.example.org", "aexample.org", false),
            ("*.b.example.org", "*.example.org", false),
            ("a.example.org", "*.example.org", false),
            ("a.example.org", "b.example.org", false),
            ("*", "a.example.org", false),
            ("*.", "a.", false),
            ("this", "192.0.2.1", true),
            ("this", "192.0.2.0/24", false),
            ("this", "a.example.org", false),
            ("192.0.2.1", "this", false),
            ("*.example.org", "192.0.2.1", false),
        ];
        for (bound, entry, expected) in table {
            assert_eq!(covers(bound, entry), expected, "{bound} covers {entry}");
        }
    }
}
