// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether the requests of a whole cluster fit into the request limit of a mytoken server.

use std::collections::BTreeSet;
use std::net::{IpAddr, UdpSocket};

use mytoken::config::{ServerSettings, Shared};
use mytoken::http::RequestLimit;
use mytoken_login::LoginSettings;

use super::servers::{curl, uses};
use super::{Findings, kinds};
use crate::jobs::settings::JobsSettings;

/// What a server said about the requests that it accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ServerLimit {
    /// Its name in `mytoken.toml`.
    pub name: String,
    /// Its URL.
    pub url: String,
    /// How many requests it accepts from one address in its period. It does not tell the period.
    pub requests: u64,
}

/// From how many addresses a server sees the nodes, and how this is known.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Addresses {
    count: u64,
    known_by: &'static str,
}

impl Findings {
    /// Compares the number of nodes with the limits of the servers that make the tokens of jobs.
    pub(super) fn request_limits(
        &mut self,
        shared: &Shared,
        login: Option<&LoginSettings>,
        jobs: &JobsSettings,
        limits: &[ServerLimit],
        nodes: u64,
    ) {
        for limit in limits.iter().filter(|limit| jobs.profile.iter().any(|profile| profile.server == limit.name)) {
            let Some(addresses) = addresses(shared, jobs, limit, route(&limit.url)) else { continue };
            let login =
                login.filter(|login| shared.servers.iter().any(|one| one.name == limit.name && uses(login, one)));
            let refused = login.map_or(0, |login| login.budget.per_host as u64);
            if let Some(text) = too_many(limit, &addresses, nodes, refused) {
                let show =
                    curl(shared, &format!("{}/.well-known/mytoken-configuration", limit.url.trim_end_matches('/')));
                let fix = format!(
                    "{show} -o /dev/null 2>&1 | grep -i ratelimit   # ask the server's operator to exempt these addresses, or to raise the limit"
                );
                self.add_fixed(kinds::SERVER_LIMIT_CLUSTER, text, fix);
            }
        }
    }
}

/// The sentence, when one job on all nodes is more than the server accepts. Each node requests its own access token: one request when
/// the job starts, and one for each renewal.
fn too_many(limit: &ServerLimit, addresses: &Addresses, nodes: u64, refused: u64) -> Option<String> {
    let accepted = limit.requests.saturating_mul(addresses.count);
    if nodes.saturating_add(refused) <= accepted {
        return None;
    }
    let plural = if addresses.count == 1 { "" } else { "es" };
    let logins =
        if refused == 0 { String::new() } else { format!("; refused logins on one host may send {refused} more") };
    Some(format!(
        "{} accepts {} requests from one address in its period, and sees {nodes} nodes at {} address{plural} ({}): a job on all nodes sends {nodes} at its start, and as many at each renewal{logins}",
        limit.url, limit.requests, addresses.count, addresses.known_by
    ))
}

/// The usual period of a mytoken server's limit in seconds: it tells the limit, and not the period.
const USUAL_PERIOD: u64 = 300;

/// The sentence, when the configuration permits this host more requests than the server says that it accepts. `told`: from its answer.
pub(super) fn set_too_high(named: &ServerSettings, told: RequestLimit) -> Option<String> {
    let set = u64::from(named.request_limit?);
    let period = named.request_period.as_secs();
    // What is left of the server's period is a part of it.
    let servers = told.reset.map_or(0, |reset| reset.as_secs()).max(USUAL_PERIOD);
    let permitted = match set {
        0 => "any number of requests (request_limit = 0)".to_owned(),
        // Those of a longer period can all come within one of the server's.
        _ if set.saturating_mul(servers.max(period)) > told.requests.saturating_mul(period) => {
            format!("{set} requests in {period} s (request_limit)")
        }
        _ => return None,
    };
    Some(format!(
        "mytoken.toml permits this host {permitted}, and {} says that it accepts {} from one address in its period, taken as {servers} s",
        named.url, told.requests
    ))
}

/// From how many addresses the server sees the nodes, where that can be known. `route`: this host's address towards the server, and the
/// server's.
fn addresses(
    shared: &Shared,
    jobs: &JobsSettings,
    limit: &ServerLimit,
    route: Option<(IpAddr, IpAddr)>,
) -> Option<Addresses> {
    if !shared.http.proxy.is_empty() {
        return Some(Addresses { count: 1, known_by: "the proxy of mytoken.toml" });
    }
    let hosts = jobs.profile.iter().filter(|profile| profile.server == limit.name).map(|profile| &profile.hosts);
    // A profile without hosts says nothing, and a network does not tell how many addresses of it are in use.
    let listed: Option<BTreeSet<IpAddr>> = hosts
        .flat_map(|hosts| if hosts.is_empty() { vec![None] } else { hosts.iter().map(|host| single(host)).collect() })
        .collect();
    if let Some(listed) = listed.filter(|listed| !listed.is_empty()) {
        return Some(Addresses { count: listed.len() as u64, known_by: "hosts of jobs.toml" });
    }
    let (here, server) = route?;
    (is_private(here) && !is_private(server))
        .then_some(Addresses { count: 1, known_by: "address translation: this host's is private, the server's is not" })
}

/// The address, if this is one and no larger network.
fn single(host: &str) -> Option<IpAddr> {
    let (address, bits) = host.split_once('/').map_or((host, None), |(address, bits)| (address, Some(bits)));
    let address: IpAddr = address.parse().ok()?;
    let whole = if address.is_ipv4() { "32" } else { "128" };
    bits.is_none_or(|bits| bits == whole).then_some(address)
}

/// This host's address on the way to the server, and the server's. Nothing is sent: connecting a datagram socket only chooses the route.
fn route(url: &str) -> Option<(IpAddr, IpAddr)> {
    let host = url.split("//").nth(1)?.split('/').next()?;
    let target = if host.rsplit(':').next().is_some_and(|port| port.parse::<u16>().is_ok()) {
        host.to_owned()
    } else {
        format!("{host}:443")
    };
    ["0.0.0.0:0", "[::]:0"].iter().find_map(|any| {
        let socket = UdpSocket::bind(any).ok()?;
        socket.connect(&target).ok()?;
        Some((socket.local_addr().ok()?.ip(), socket.peer_addr().ok()?.ip()))
    })
}

/// Whether an address is not routed on the Internet: RFC 1918, RFC 6598, RFC 4193 and loopback.
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let [first, second, ..] = address.octets();
            address.is_private() || address.is_loopback() || (first == 100 && second & 0xc0 == 64)
        }
        IpAddr::V6(address) => address.is_loopback() || address.octets()[0] & 0xfe == 0xfc,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit() -> ServerLimit {
        ServerLimit { name: "t".into(), url: "https://mt.example.org".into(), requests: 100 }
    }

    /// Addresses from which the server sees nodes, given the proxy, the hosts of each profile and the two ends of the route.
    fn seen(proxy: &str, hosts: &[&[&str]], here: &str, server: &str) -> Option<u64> {
        let shared = toml::from_str(&format!("[http]\nproxy = '{proxy}'\n")).unwrap();
        let profile = |(number, hosts): (usize, &&[&str])| {
            format!("[[profile]]\nname = 'p{number}'\nserver = 't'\nscope = 's'\naudience = 'a'\nhosts = {hosts:?}\n")
        };
        let profiles: String = hosts.iter().enumerate().map(profile).collect();
        let jobs = toml::from_str(&format!("[cluster]\nname = 'c'\n{profiles}")).unwrap();
        let route = Some((here.parse().unwrap(), server.parse().unwrap()));
        addresses(&shared, &jobs, &limit(), route).map(|addresses| addresses.count)
    }

    #[test]
    fn a_configured_limit_is_compared_with_what_the_server_tells() {
        for (set, requests, reset, wanted) in [
            ("", 100, Some(7), None),
            ("request_limit = 100", 100, Some(7), None),
            ("request_limit = 50", 100, None, None),
            (
                "request_limit = 101",
                100,
                None,
                Some("101 requests in 300 s (request_limit), and https://mt.example.org says that it accepts 100"),
            ),
            ("request_limit = 30\nrequest_period = '60s'", 100, Some(7), Some("30 requests in 60 s")),
            ("request_limit = 20\nrequest_period = '60s'", 100, Some(7), None),
            ("request_limit = 100\nrequest_period = '10m'", 100, Some(7), None),
            ("request_limit = 201\nrequest_period = '10m'", 100, Some(7), Some("201 requests in 600 s")),
            // A server with a long period.
            ("request_limit = 100", 100, Some(3000), Some("taken as 3000 s")),
            ("request_limit = 11", 100, Some(3600), Some("11 requests in 300 s")),
            ("request_limit = 8", 100, Some(3600), None),
            ("request_limit = 0", 100, None, Some("any number of requests (request_limit = 0)")),
        ] {
            let named = format!("name = 't'\nurl = 'https://mt.example.org'\n{set}");
            let told = RequestLimit { requests, left: 1, reset: reset.map(std::time::Duration::from_secs) };
            let found = set_too_high(&toml::from_str(&named).unwrap(), told);
            match wanted {
                Some(wanted) => assert!(found.as_ref().is_some_and(|text| text.contains(wanted)), "{set}: {found:?}"),
                None => assert_eq!(found, None, "{set}"),
            }
        }
    }

    #[test]
    fn addresses_are_counted_only_where_they_are_known() {
        let (public, server) = ("192.0.2.7", "203.0.113.9");
        for (proxy, hosts, here, server, expected) in [
            ("", &[&[][..]][..], public, server, None),
            ("http://proxy:3128", &[&[]], public, server, Some(1)),
            ("", &[&["192.0.2.1", "192.0.2.2/32"]], public, server, Some(2)),
            ("", &[&["192.0.2.1"], &["192.0.2.1", "2001:db8::1/128"]], public, server, Some(2)),
            // Not known: any address, and networks.
            ("", &[&["192.0.2.1"], &[]], public, server, None),
            ("", &[&["192.0.2.0/24"]], public, server, None),
            // Behind address translation, and a server in the same private network.
            ("", &[&[]], "10.0.0.7", server, Some(1)),
            ("", &[&[]], "100.64.0.7", server, Some(1)),
            ("", &[&[]], "fd00::7", "2001:db8::9", Some(1)),
            ("", &[&[]], "10.0.0.7", "192.168.1.1", None),
            ("", &[&[]], "100.128.0.7", server, None),
        ] {
            assert_eq!(seen(proxy, hosts, here, server), expected, "{proxy} {hosts:?} {here} {server}");
        }
    }

    #[test]
    fn a_job_on_all_nodes_must_fit_into_the_limit() {
        let addresses = |count| Addresses { count, known_by: "the proxy of mytoken.toml" };
        assert_eq!(too_many(&limit(), &addresses(1), 100, 0), None);
        assert_eq!(too_many(&limit(), &addresses(1), 40, 60), None);
        assert_eq!(too_many(&limit(), &addresses(4), 400, 0), None);
        assert_eq!(
            too_many(&limit(), &addresses(1), 400, 60).unwrap(),
            "https://mt.example.org accepts 100 requests from one address in its period, and sees 400 nodes at 1 address \
             (the proxy of mytoken.toml): a job on all nodes sends 400 at its start, and as many at each renewal; refused \
             logins on one host may send 60 more"
        );
        assert!(too_many(&limit(), &addresses(1), 41, 60).is_some());
        assert!(too_many(&limit(), &addresses(3), 301, 0).is_some_and(|text| text.contains("at 3 addresses")));
    }

    #[test]
    fn the_route_is_found_without_a_request() {
        let loopback: IpAddr = "127.0.0.1".parse().unwrap();
        assert_eq!(route("http://127.0.0.1:9/x"), Some((loopback, loopback)));
        assert_eq!(route("nonsense"), None);
    }
}
