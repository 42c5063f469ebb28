// SPDX-License-Identifier: MIT OR Apache-2.0
//! Entries of `hosts`: addresses, networks, names, `*.domain`, `this`.

use std::net::IpAddr;

use ipnet::IpNet;

/// Whether `bound` admits every address that `entry` admits.
pub(super) fn covers(bound: &str, entry: &str) -> bool {
    if bound == entry {
        return true;
    }
    match (network(bound), network(entry)) {
        (Some(bound), Some(entry)) => bound.contains(&entry),
        // The server replaces `this` in a request by the requester's address.
        (None, Some(entry)) => bound.eq_ignore_ascii_case("this") && entry.prefix_len() == entry.max_prefix_len(),
        (Some(_), None) => false,
        (None, None) => bound.strip_prefix('*').is_some_and(|suffix| {
            let inner = entry.strip_prefix('*').unwrap_or(entry);
            suffix.len() > 1 && suffix.starts_with('.') && inner.len() > suffix.len() && inner.ends_with(suffix)
        }),
    }
}

/// An entry as the server reads it, with Go's `net.ParseCIDR`, `net.ParseIP` and `IP.To4` (MT-21).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostEntry {
    /// An address, or a network whose host part is zero. An IPv4 address in IPv6 form (`::ffff:192.0.2.1`) is IPv4.
    Network(IpNet),
    /// A network whose host part is not zero. The server admits only the address before the slash.
    Address(IpAddr),
    /// A name. Also the unspecified address, and so `0.0.0.0/0` and `::/0`: the server reads them as names, which match no address.
    Name,
}

/// Reads an entry as the server does.
#[must_use]
pub fn read(entry: &str) -> HostEntry {
    let (address, length) = match entry.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (entry, None),
    };
    // Like Go, this accepts no zone and no leading zeros.
    let Ok(written) = address.parse::<IpAddr>() else { return HostEntry::Name };
    let canonical = written.to_canonical();
    let (width, bits) = match written {
        IpAddr::V4(v4) => (32, u128::from(v4.to_bits()) << 96),
        IpAddr::V6(v6) => (128, v6.to_bits()),
    };
    let length = match length.map(number) {
        None => width,
        Some(Some(length)) if length <= width => length,
        Some(_) => return HostEntry::Name,
    };
    if canonical.is_unspecified() {
        return HostEntry::Name;
    }
    if bits.checked_shl(length).unwrap_or(0) != 0 {
        return HostEntry::Address(canonical);
    }
    // The first 96 bits of an IPv4 address in IPv6 form are not all zero, so a shorter network cannot have a zero host part.
    let length = if written.is_ipv6() && canonical.is_ipv4() { length.saturating_sub(96) } else { length };
    u8::try_from(length)
        .ok()
        .and_then(|length| IpNet::new(canonical, length).ok())
        .map_or(HostEntry::Name, HostEntry::Network)
}

/// Reads decimal digits. Like Go, this accepts leading zeros here.
fn number(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn network(entry: &str) -> Option<IpNet> {
    match read(entry) {
        HostEntry::Network(network) => Some(network),
        HostEntry::Address(address) => Some(IpNet::from(address)),
        HostEntry::Name => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_covers_the_addresses_and_names_within_it() {
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
            ("::/0", "::ffff:10.1.2.3", false), // IPv4 to the server
            ("::/1", "2001:db8::1", false),
            ("::/0", "2001:db8::1", false),
            ("0.0.0.0/0", "10.1.2.3", false), // a name to the server, which matches no address
            ("0.0.0.0/0", "0.0.0.0/0", true),
            ("10.0.0.0/8", "0.0.0.0", false),
            ("10.0.0.0/8", "::ffff:10.1.2.3", true),
            ("10.0.0.0/8", "::ffff:10.1.0.0/112", true),
            ("10.0.0.0/9", "::ffff:10.0.0.0/104", false),
            ("::ffff:10.0.0.0/104", "10.1.2.3", true),
            ("::ffff:10.0.0.0/104", "10.0.0.0/7", false),
            ("::ffc0:0:0/90", "::ffff:10.1.2.3", false), // its bits are within, but it is IPv4
            ("10.0.0.0/08", "10.1.2.3", true),
            ("10.0.0.0/+8", "10.1.2.3", false),
            ("this", "::ffff:10.1.2.3", true),
            ("this", "0.0.0.0", false),
        ];
        for (bound, entry, expected) in table {
            assert_eq!(covers(bound, entry), expected, "{bound} covers {entry}");
        }
    }

    /// Those of seven addresses that Go 1.26 admits by each entry; `-`: Go reads the entry as a name.
    #[test]
    fn an_entry_is_read_as_go_reads_it() {
        let addresses = ["10.1.2.3", "10.200.0.1", "11.0.0.1", "192.0.2.1", "2001:db8::1", "::10.1.2.3", "::ffc0:1:2"];
        let table = [
            ("10.1.2.3", "10.1.2.3"),
            ("::ffff:10.1.2.3", "10.1.2.3"),
            ("::ffff:a01:203", "10.1.2.3"),
            ("10.0.0.0/8", "10.1.2.3 10.200.0.1"),
            ("::ffff:10.0.0.0/104", "10.1.2.3 10.200.0.1"),
            ("::ffff:10.0.0.0/103", "10.1.2.3 10.200.0.1 11.0.0.1"),
            ("::ffff:10.1.2.3/104", "10.1.2.3"),
            ("::ffff:10.1.2.3/128", "10.1.2.3"),
            ("::/0", "-"),
            ("::/96", "-"),
            ("0.0.0.0/0", "-"),
            ("0.0.0.0/8", "-"),
            ("0.0.0.0", "-"),
            ("::", "-"),
            ("::ffff:0.0.0.0/96", "-"),
            ("::ffff:0:0/95", "-"),
            ("::ffc0:0:0/90", "::ffc0:1:2"),
            ("::fffe:0:0/95", ""),
            ("8000::/1", ""),
            ("2001:db8::/32", "2001:db8::1"),
            ("2001:db8::1/32", "2001:db8::1"),
            ("::10.1.2.3", "::10.1.2.3"),
            ("64:ff9b::a01:203", ""),
            ("10.1.2.3/08", "10.1.2.3"),
            ("10.0.0.0/08", "10.1.2.3 10.200.0.1"),
            ("10.0.0.0/0000000000008", "10.1.2.3 10.200.0.1"),
            ("10.0.0.0/+8", "-"),
            ("10.0.0.0/33", "-"),
            ("10.0.0.0/", "-"),
            ("10.0.0.0/8/8", "-"),
            ("10.0.0.0/99999999999999999999", "-"),
            ("010.1.2.3", "-"),
            ("10.1.2", "-"),
            (" 10.1.2.3", "-"),
            ("fe80::1%eth0", "-"),
            ("128.0.0.0/1", "192.0.2.1"),
            ("10.1.2.3/0", "10.1.2.3"),
        ];
        for (entry, expected) in table {
            let seen = network(entry).map_or_else(
                || "-".to_owned(),
                |network| {
                    let inside = |address: &&&str| network.contains(&address.parse::<IpAddr>().unwrap());
                    addresses.iter().filter(inside).copied().collect::<Vec<_>>().join(" ")
                },
            );
            assert_eq!(seen, expected, "{entry}");
        }
    }
}
