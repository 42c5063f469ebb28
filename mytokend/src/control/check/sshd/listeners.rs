// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where sshd listens: the ends of connections on this host, for `Match LocalAddress`, `LocalPort` and `RDomain`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::super::host::Host;
use super::Effective;

/// An address and port of this host at which sshd accepts connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listener {
    pub address: IpAddr,
    pub port: u16,
    /// The routing domain.
    pub domain: Option<String>,
}

impl Listener {
    /// Its part of an argument of `sshd -T -C`.
    pub(super) fn end(&self) -> String {
        let domain = self.domain.as_deref().map(|domain| format!(",rdomain={domain}")).unwrap_or_default();
        format!("laddr={},lport={}{domain}", self.address, self.port)
    }

    /// All of them. First the loopback address at sshd's first port, from where logins of this host come.
    pub(super) fn of(sshd: &Effective, host: &dyn Host) -> Vec<Self> {
        let first = sshd.get("port").and_then(|port| port.parse().ok()).unwrap_or(22);
        let mut listeners = vec![Self { address: Ipv4Addr::LOCALHOST.into(), port: first, domain: None }];
        let own = host.addresses();
        for value in sshd.all("listenaddress") {
            let mut words = value.split(' ');
            let Some(Ok(listened)) = words.next().map(str::parse::<SocketAddr>) else { continue };
            let domain = words.skip_while(|word| *word != "rdomain").nth(1);
            // An unspecified address stands for all of its family.
            let all = listened.ip().is_unspecified();
            let of_family = own.iter().filter(|own| all && own.is_ipv4() == listened.is_ipv4()).copied();
            for address in of_family.chain((!all).then_some(listened.ip())) {
                listeners.push(Self { address, port: listened.port(), domain: domain.map(str::to_owned) });
            }
        }
        listeners
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::Site;
    use super::*;

    #[test]
    fn each_address_at_which_sshd_listens_is_known() {
        let shown = |text: &str| -> Vec<String> {
            let listeners = Listener::of(&Effective::parse(text), &Site::of(&[]));
            listeners.iter().map(Listener::end).collect()
        };
        // The addresses of the tests' host are 10.9.0.5 and 2001:db8::5.
        assert_eq!(shown(""), ["laddr=127.0.0.1,lport=22"]);
        assert_eq!(
            shown("port 2222\nport 22\nlistenaddress [::]:2222\nlistenaddress 0.0.0.0:22\n"),
            ["laddr=127.0.0.1,lport=2222", "laddr=2001:db8::5,lport=2222", "laddr=10.9.0.5,lport=22"]
        );
        assert_eq!(
            shown(
                "port 22\nlistenaddress 192.0.2.7:22 rdomain vrf-a\nlistenaddress nonsense\nlistenaddress [fe80::1%eth0]:22"
            ),
            ["laddr=127.0.0.1,lport=22", "laddr=192.0.2.7,lport=22,rdomain=vrf-a"]
        );
    }
}
