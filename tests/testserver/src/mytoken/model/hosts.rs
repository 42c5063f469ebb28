// SPDX-License-Identifier: MIT OR Apache-2.0
//! Client addresses in restrictions (MT-21). Host names are not looked up: the test server has no resolver,
//! so a host name allows no address.

use std::net::IpAddr;

/// Parses an address or a network. If the host part of the network is not zero, only the address before the slash
/// counts, as in the original.
fn parse_network(entry: &str) -> Option<(IpAddr, u32)> {
    let Some((address, length)) = entry.split_once('/') else {
        let address: IpAddr = entry.parse().ok()?;
        return Some((address, bits(address)));
    };
    let address: IpAddr = address.parse().ok()?;
    let length: u32 = length.parse().ok()?;
    if length > bits(address) {
        return None;
    }
    if prefix(address, length) == number(address) { Some((address, length)) } else { Some((address, bits(address))) }
}

fn bits(address: IpAddr) -> u32 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

fn prefix(address: IpAddr, length: u32) -> u128 {
    let host_bits = bits(address) - length;
    number(address).checked_shr(host_bits).unwrap_or(0).checked_shl(host_bits).unwrap_or(0)
}

fn contains((network, length): (IpAddr, u32), address: IpAddr) -> bool {
    network.is_ipv4() == address.is_ipv4() && prefix(address, length) == prefix(network, length)
}

/// Whether one of the entries includes the address of the client.
#[must_use]
pub fn admits(entries: &[String], peer: IpAddr) -> bool {
    let peer = peer.to_canonical();
    entries.iter().filter_map(|entry| parse_network(entry)).any(|network| contains(network, peer))
}

/// Whether every wanted entry lies within one of the parent's.
#[must_use]
pub fn within(wanted: &[String], parent: &[String]) -> bool {
    wanted.iter().all(|entry| {
        parent.iter().any(|bound| match (parse_network(entry), parse_network(bound)) {
            (Some(inner), Some(outer)) => inner.1 >= outer.1 && contains(outer, inner.0),
            _ => {
                entry == bound
                    || bound.strip_prefix('*').is_some_and(|suffix| suffix.starts_with('.') && entry.ends_with(suffix))
            }
        })
    })
}

/// Replaces `this` by the address of the client. This is done only when a token is created.
pub fn resolve_this(entries: &mut [String], peer: IpAddr) {
    for entry in entries.iter_mut().filter(|entry| entry.eq_ignore_ascii_case("this")) {
        *entry = peer.to_canonical().to_string();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[&str]) -> Vec<String> {
        entries.iter().map(|entry| (*entry).to_owned()).collect()
    }

    #[test]
    fn a_network_without_host_part_admits_all_its_addresses() {
        for (entry, peer, expected) in [
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.0/8", "127.0.0.1", true),
            ("127.0.0.9/8", "127.0.0.1", false),
            ("127.0.0.9/8", "127.0.0.9", true),
            ("0.0.0.0/0", "192.0.2.7", true),
            ("192.0.2.0/24", "127.0.0.1", false),
            ("2001:db8::/32", "2001:db8::1", true),
            ("host.example.org", "127.0.0.1", false),
            ("this", "127.0.0.1", false),
        ] {
            assert_eq!(admits(&list(&[entry]), peer.parse().unwrap()), expected, "{entry} {peer}");
        }
    }

    #[test]
    fn entries_lie_within_wider_networks_and_wildcards() {
        for (wanted, parent, expected) in [
            ("10.1.0.0/16", "10.0.0.0/8", true),
            ("10.0.0.0/8", "10.1.0.0/16", false),
            ("10.1.2.3", "10.0.0.0/8", true),
            ("a.example.org", "*.example.org", true),
            ("example.org", "*.example.org", false),
        ] {
            assert_eq!(within(&list(&[wanted]), &list(&[parent])), expected, "{wanted} in {parent}");
        }
    }
}
