// SPDX-License-Identifier: MIT OR Apache-2.0
//! `Match` blocks for addresses, names of hosts, this host's own end, and people: what sshd would do for a login there.

use std::net::IpAddr;

use ipnet::IpNet;

use super::super::host::Host;
use super::access;
use super::files::Block;
use super::listeners::Listener;

/// What stands for `*` and `?` in a pattern.
const FILLERS: [&str; 3] = ["1", "2", "7"];

/// Whose logins count.
#[derive(Debug, Clone, Copy)]
pub(super) enum Whose<'a> {
    /// Those of this account. sshd was asked for it from this host.
    One(&'a str),
    /// Everybody's, of whom the accounts of the map files are known: sshd is asked for each of them elsewhere.
    Mapped,
    /// Everybody's. Which accounts templates and mappers open is not known.
    Anybody,
}

impl Whose<'_> {
    /// An account to which a block about people alone applies, if it is about more than single accounts.
    fn one_of(self, block: &Block, host: &dyn Host) -> Option<String> {
        if !matches!(self, Self::Anybody) {
            return None;
        }
        match (block.get("user"), block.get("group")) {
            (Some(list), None) => {
                let general = list.split(',').any(|entry| entry.trim() == "*");
                filled("*").filter(|name| general && in_list(list, |entry| access::matches(entry, name)))
            }
            (None, Some(list)) => list.split(',').find_map(|group| host.member(group.trim())),
            _ => None,
        }
    }
}

/// The argument of `sshd -T -C` for a login to which the block applies, and its port here; `None` where no such login is known. `resolves`: whether sshd looks up the names of hosts (`UseDNS`).
pub(super) fn connection(
    block: &Block,
    whose: Whose<'_>,
    resolves: bool,
    listeners: &[Listener],
    host: &dyn Host,
) -> Option<(String, u16)> {
    let is_local = ["localaddress", "localport", "rdomain"].iter().any(|name| block.get(name).is_some());
    let user = if let Whose::One(user) = whose { Some(user) } else { None };
    let (by_address, by_name) = (block.get("address"), block.get("host"));
    let (address, name) = match (by_address, by_name) {
        (None, None) if !is_local => {
            let person = whose.one_of(block, host)?;
            let listener = listeners.first()?;
            return Some((format!("user={person},host=192.0.2.1,addr=192.0.2.1,{}", listener.end()), listener.port));
        }
        (None, None) => (None, None),
        (Some(list), None) => (Some(address_in(list)?), None),
        // Without UseDNS the name of a host is its address.
        (None, Some(list)) if !resolves => (Some(address_in(list)?), None),
        (None, Some(list)) => (Some(IpAddr::from([192, 0, 2, 1])), Some(filled(list)?)),
        (Some(list), Some(names)) if resolves => (Some(address_in(list)?), Some(filled(names)?)),
        (Some(_), Some(_)) => return None,
    };
    let from = match (address, user) {
        (Some(address), _) => format!("host={},addr={address},", name.unwrap_or_else(|| address.to_string())),
        // From this host, as where no block is asked for.
        (None, Some(_)) => "host=localhost,addr=127.0.0.1,".to_owned(),
        (None, None) => String::new(),
    };
    let user = match (user, block.get("user"), block.get("group")) {
        (Some(user), _, _) => Some(user.to_owned()),
        (None, Some(list), _) => Some(filled(list)?),
        (None, None, Some(list)) => Some(list.split(',').find_map(|group| host.member(group.trim()))?),
        (None, None, None) => None,
    };
    let user = user.map(|user| format!("user={user},")).unwrap_or_default();
    let listener = listeners.iter().find(|listener| applies(block, listener))?;
    Some((format!("{user}{from}{}", listener.end()), listener.port))
}

/// Whether the block's criteria about this host's end of a connection hold for one that sshd accepts here.
fn applies(block: &Block, listener: &Listener) -> bool {
    let port = block
        .get("localport")
        .is_none_or(|port| port == listener.port.to_string() || (port, listener.port) == ("ssh", 22));
    let address = block.get("localaddress").is_none_or(|list| in_list(list, |entry| covers(entry, listener.address)));
    let domain = listener.domain.as_deref();
    let domain = block
        .get("rdomain")
        .is_none_or(|list| domain.is_some_and(|domain| in_list(list, |entry| access::matches(entry, domain))));
    port && address && domain
}

/// Whether an entry of the list matches, and none with `!`.
fn in_list(list: &str, matches: impl Fn(&str) -> bool) -> bool {
    let mut entries = list.split(',').map(str::trim);
    let without = entries.clone().filter_map(|entry| entry.strip_prefix('!')).any(&matches);
    !without && entries.any(|entry| !entry.starts_with('!') && matches(entry))
}

/// A name that the first entry without `!` and an address matches.
fn filled(list: &str) -> Option<String> {
    let entry = list.split(',').map(str::trim).find(|entry| !entry.starts_with('!') && !entry.is_empty())?;
    Some(entry.replace(['*', '?'], "x"))
}

/// An address of the list that no entry with `!` takes out.
fn address_in(list: &str) -> Option<IpAddr> {
    let entries = list.split(',').map(str::trim).filter(|entry| !entry.starts_with('!'));
    entries.flat_map(candidates).find(|address| in_list(list, |entry| covers(entry, *address)))
}

/// An origin that a word of access.conf(5) may be about: an address of a network, or a name.
pub(in super::super) fn origin_in(word: &str) -> Option<String> {
    // pam_access takes a netmask in place of a length.
    if let Some((address, _)) = word.split_once('/').filter(|(_, mask)| mask.contains(['.', ':'])) {
        return Some(address.parse::<IpAddr>().ok()?.to_string());
    }
    // `10.1.` is the begin of an address, `.example.org` the end of a name.
    let network = if word.ends_with('.') { format!("{word}*") } else { word.to_owned() };
    if let Some(address) = candidates(&network).first() {
        return Some(address.to_string());
    }
    let name = |byte: u8| byte.is_ascii_alphanumeric() || b".-".contains(&byte);
    let is_name = word.contains('.') && word.bytes().all(name) && word.bytes().any(|byte| byte.is_ascii_alphabetic());
    is_name.then(|| if word.starts_with('.') { format!("x{word}") } else { word.to_owned() })
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
        Err(_) => access::matches(entry, &address.to_string()),
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
    fn an_origin_of_a_word_of_pam_access_is_found() {
        for (word, origin) in [
            ("10.0.0.0/8", Some("10.0.0.1")),
            ("192.0.2.7", Some("192.0.2.7")),
            ("10.1.", Some("10.1.1.1")),
            ("2001:db8::/32", Some("2001:db8::1")),
            (".example.org", Some("x.example.org")),
            ("login1.example.org", Some("login1.example.org")),
            ("10.0.0.0/255.0.0.0", Some("10.0.0.0")),
            ("ALL", None),
            ("LOCAL", None),
            ("EXCEPT", None),
            ("tty1", None),
            ("@netgroup", None),
            ("$(reboot).x", None),
        ] {
            assert_eq!(origin_in(word).as_deref(), origin, "{word}");
        }
    }

    #[test]
    fn a_block_about_people_is_asked_for_if_it_can_be_about_anybody() {
        let listeners = [Listener { address: [127, 0, 0, 1].into(), port: 22, domain: None }];
        for (criteria, account) in [
            (&[("user", "*")][..], Some("x")),
            (&[("user", "*,!root")], Some("x")),
            (&[("user", "*,!x*")], None),
            (&[("user", "b*")], None),
            // It is about some people only.
            (&[("user", "x*")], None),
            (&[("user", "root,backup")], None),
            (&[("group", "wheel,hpc")], Some("carol")),
            (&[("group", "users")], None),
            (&[("user", "*"), ("group", "hpc")], None),
        ] {
            let block = criteria.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            let block = Block { place: String::new(), criteria: block };
            let asked =
                |whose| connection(&block, whose, false, &listeners, &Site::of(&[])).map(|(argument, _)| argument);
            let expected =
                account.map(|name| format!("user={name},host=192.0.2.1,addr=192.0.2.1,laddr=127.0.0.1,lport=22"));
            assert_eq!(asked(Whose::Anybody), expected, "{criteria:?}");
            assert_eq!((asked(Whose::Mapped), asked(Whose::One("x"))), (None, None), "{criteria:?}");
        }
    }

    #[test]
    fn a_login_to_which_the_block_applies_is_asked_for() {
        let listeners = [
            Listener { address: [127, 0, 0, 1].into(), port: 22, domain: None },
            Listener { address: [10, 9, 0, 5].into(), port: 2222, domain: Some("vrf-a".into()) },
        ];
        let asked = |criteria: &[(&str, &str)], user: Option<&'static str>, resolves| {
            let criteria = criteria.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            let block = Block { place: String::new(), criteria };
            connection(&block, user.map_or(Whose::Mapped, Whose::One), resolves, &listeners, &Site::of(&[]))
                .map(|(connection, _)| connection)
        };
        let plain = |text: &str| Some(format!("{text},laddr=127.0.0.1,lport=22"));
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
        let second = "laddr=10.9.0.5,lport=2222,rdomain=vrf-a";
        for (criteria, expected) in [
            (&[("localport", "2222")][..], Some(second.to_owned())),
            (&[("localport", "ssh")], Some("laddr=127.0.0.1,lport=22".to_owned())),
            (&[("localport", "2022")], None),
            (&[("localaddress", "10.0.0.0/8,!10.8.0.0/16")], Some(second.to_owned())),
            (&[("localaddress", "10.*,!10.9.*")], None),
            (&[("localaddress", "10.0.0.0/8"), ("localport", "22")], None),
            (&[("rdomain", "vrf-*")], Some(second.to_owned())),
            (&[("rdomain", "*,!vrf-a")], None),
            (&[("localport", "2222"), network], Some(format!("host=10.0.0.1,addr=10.0.0.1,{second}"))),
            (&[("localport", "2222"), ("user", "bob")], Some(format!("user=bob,{second}"))),
        ] {
            assert_eq!(asked(criteria, None, false), expected, "{criteria:?}");
        }
        let alice = format!("user=alice,host=localhost,addr=127.0.0.1,{second}");
        assert_eq!(asked(&[("localport", "2222")], Some("alice"), false), Some(alice));
    }
}
