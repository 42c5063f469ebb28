// SPDX-License-Identifier: MIT OR Apache-2.0
//! `Match` blocks for addresses and names of hosts: what sshd would do for a login from there.

use std::net::IpAddr;

use ipnet::IpNet;

use super::super::host::Host;
use super::files::Block;

/// What stands for `*` and `?` in a pattern.
const FILLERS: [&str; 3] = ["1", "2", "7"];

/// Where a login comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    /// The argument of `sshd -T -C`, without the port.
    pub connection: String,
    /// For a person.
    pub address: IpAddr,
}

/// A login to which the block applies; `None` for blocks without address and host, and where none is known. `resolves`: whether sshd
/// looks up the names of hosts (`UseDNS`).
pub(super) fn origin(block: &Block, user: Option<&str>, resolves: bool, host: &dyn Host) -> Option<Origin> {
    let (by_address, by_name) = (block.get("address"), block.get("host"));
    let (address, name) = match (by_address, by_name) {
        (None, None) => return None,
        (Some(list), None) => (address_in(list)?, None),
        // Without UseDNS the name of a host is its address.
        (None, Some(list)) if !resolves => (address_in(list)?, None),
        (None, Some(list)) => (IpAddr::from([192, 0, 2, 1]), Some(filled(list)?)),
        (Some(list), Some(names)) if resolves => (address_in(list)?, Some(filled(names)?)),
        (Some(_), Some(_)) => return None,
    };
    let user = match (user, block.get("user"), block.get("group")) {
        (Some(user), _, _) => Some(user.to_owned()),
        (None, Some(list), _) => Some(filled(list)?),
        (None, None, Some(list)) => Some(list.split(',').find_map(|group| host.member(group.trim()))?),
        (None, None, None) => None,
    };
    let user = user.map(|user| format!("user={user},")).unwrap_or_default();
    let name = name.unwrap_or_else(|| address.to_string());
    Some(Origin { connection: format!("{user}host={name},addr={address},laddr=127.0.0.1,"), address })
}

/// A name that the first entry without `!` and an address matches.
fn filled(list: &str) -> Option<String> {
    let entry = list.split(',').map(str::trim).find(|entry| !entry.starts_with('!') && !entry.is_empty())?;
    Some(entry.replace(['*', '?'], "x"))
}

/// An address of the list that no entry with `!` takes out.
fn address_in(list: &str) -> Option<IpAddr> {
    let entries = || list.split(',').map(str::trim);
    let without: Vec<&str> = entries().filter_map(|entry| entry.strip_prefix('!')).collect();
    let free = |address: &IpAddr| !without.iter().any(|entry| covers(entry, *address));
    entries().filter(|entry| !entry.starts_with('!')).flat_map(candidates).find(free)
}

/// Some addresses of an entry: one for each bit that its network leaves open.
fn candidates(entry: &str) -> Vec<IpAddr> {
    if let Ok(network) = entry.parse::<IpNet>() {
        let longer = (network.prefix_len()..network.max_prefix_len()).rev();
        let second = |length: u8| Some(network.subnets(length.saturating_add(1)).ok()?.nth(1)?.addr());
        return longer.filter_map(second).chain([network.network()]).collect();
    }
    // `10.1.*` means the rest of the address, too.
    let missing = 3_usize.saturating_sub(entry.matches('.').count());
    let rest = if entry.ends_with('*') && !entry.contains(':') { ".1".repeat(missing) } else { String::new() };
    FILLERS.iter().filter_map(|filler| (entry.replace(['*', '?'], filler) + &rest).parse().ok()).collect()
}

fn covers(entry: &str, address: IpAddr) -> bool {
    match entry.parse::<IpNet>() {
        Ok(network) => network.contains(&address),
        Err(_) => super::access::matches(entry, &address.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::Site;
    use super::*;

    #[test]
    fn an_address_of_a_list_is_found() {
        for (list, address) in [
            ("10.0.0.0/8", Some("10.0.0.1")),
            ("192.0.2.7", Some("192.0.2.7")),
            ("192.0.2.7/32", Some("192.0.2.7")),
            ("192.168.*.*", Some("192.168.1.1")),
            ("10.1.*", Some("10.1.1.1")),
            ("*", Some("1.1.1.1")),
            ("*,!1.*", Some("2.1.1.1")),
            ("!10.1.0.0/16, 10.0.0.0/8", Some("10.0.0.1")),
            ("10.0.0.0/8,!10.0.0.0/9", Some("10.128.0.0")),
            ("10.0.0.0/30,!10.0.0.0/30,192.0.2.1", Some("192.0.2.1")),
            ("2001:db8::/32", Some("2001:db8::1")),
            ("fe80::/10,!fe80::/16", Some("fe81::")),
            ("!10.0.0.0/8", None),
            ("login.example.org", None),
            ("", None),
        ] {
            assert_eq!(address_in(list).map(|address| address.to_string()).as_deref(), address, "{list}");
        }
    }

    #[test]
    fn a_login_to_which_the_block_applies_is_asked_for() {
        let asked = |criteria: &[(&str, &str)], user, resolves| {
            let criteria = criteria.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            let block = Block { place: String::new(), criteria };
            origin(&block, user, resolves, &Site::of(&[])).map(|origin| origin.connection)
        };
        let plain = |text: &str| Some(format!("{text},laddr=127.0.0.1,"));
        let network = ("address", "10.0.0.0/8");
        assert_eq!(asked(&[network], None, false), plain("host=10.0.0.1,addr=10.0.0.1"));
        assert_eq!(asked(&[network], Some("bob"), false), plain("user=bob,host=10.0.0.1,addr=10.0.0.1"));
        let of_user = [("user", "!root,al*"), network];
        assert_eq!(asked(&of_user, None, false), plain("user=alx,host=10.0.0.1,addr=10.0.0.1"));
        assert_eq!(
            asked(&[("group", "nosuch,hpc"), network], None, false),
            plain("user=carol,host=10.0.0.1,addr=10.0.0.1")
        );
        let name = ("host", "*.example.org");
        assert_eq!(asked(&[name], None, true), plain("host=x.example.org,addr=192.0.2.1"));
        assert_eq!(asked(&[name], None, false), None, "without UseDNS no login has a name");
        assert_eq!(asked(&[("host", "10.1.*")], None, false), plain("host=10.1.1.1,addr=10.1.1.1"));
        assert_eq!(asked(&[name, network], None, true), plain("host=x.example.org,addr=10.0.0.1"));
        assert_eq!(asked(&[("user", "alice")], None, true), None);
    }
}
