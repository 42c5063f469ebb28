// SPDX-License-Identifier: MIT OR Apache-2.0
//! Addresses of clients. The site's servers count per client address. A story that needs another address makes one:
//!
//! ```no_run
//! # fn example(site: &testbed::Site) -> testbed::Result<()> {
//! let home = site.new_client()?; // a new IPv4 address
//! let office = site.client_at("2001:db8:1::7".parse().unwrap())?; // this one
//! site.sh("alice", &format!("ssh -i .ssh/site_key {} true", home.destination()))?.ok()?;
//! site.sh("alice", &format!("mytoken-ssh ssh {} true", office.destination()))?.ok()?;
//! # Ok(())
//! # }
//! ```
//!
//! A program that sets no source address has the site's own, [`Network::address`]; on a node it has the node's,
//! [`node`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::Ordering;

use crate::site::plan::Network;
use crate::{Error, Result, Site};

/// The site's own IPv6 address. The first IPv6 client adds it.
pub const SITE_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10);

/// The address of node number `number`, counted from 1.
#[must_use]
pub fn node(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, number.saturating_add(10))
}

/// The address of the host of broker number `number`, counted from 1.
#[must_use]
pub fn broker(number: u8) -> Ipv4Addr {
    node(number.saturating_add(BROKERS))
}

/// After this number of nodes, the brokers' hosts are counted.
pub(crate) const BROKERS: u8 = 30;

/// A client address for ssh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientAddress {
    address: IpAddr,
}

impl ClientAddress {
    /// The address, as sshd and PAM see it.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Options and destination of an ssh to the site from this address: `-b ADDRESS ... testbed`.
    #[must_use]
    pub fn destination(&self) -> String {
        self.destination_of("testbed")
    }

    /// The same to `host`, written as for ssh, e.g. `alice@testbed`.
    #[must_use]
    pub fn destination_of(&self, host: &str) -> String {
        match self.address {
            IpAddr::V4(address) => format!("-b {address} {host}"),
            IpAddr::V6(address) => format!("-b {address} -o HostName={SITE_V6} -o HostKeyAlias=testbed {host}"),
        }
    }
}

impl Site {
    /// A client with an IPv4 address that no other client of this site has: 198.51.100.1, .2, ...
    ///
    /// # Errors
    /// After 254 of them, and as [`Site::client_at`].
    pub fn new_client(&self) -> Result<ClientAddress> {
        let number = self.clients().fetch_add(1, Ordering::Relaxed) + 1;
        let last = u8::try_from(number).ok().filter(|last| *last < 255);
        let last = last.ok_or_else(|| Error::Refused("there are no more addresses for clients".into()))?;
        self.client_at(Ipv4Addr::new(198, 51, 100, last).into())
    }

    /// A client with this IPv4 or IPv6 address. The site itself must not use the address.
    ///
    /// # Errors
    /// In the caller's network, and for IPv6 on a machine without it.
    pub fn client_at(&self, address: IpAddr) -> Result<ClientAddress> {
        if self.network() == Network::Callers {
            return Err(Error::Refused("in the caller's network all clients have one address".into()));
        }
        let add = match address {
            IpAddr::V4(address) => format!("ip address replace {address}/32 dev site0"),
            // Without `nodad` an address cannot be used in its first second.
            IpAddr::V6(address) => format!(
                "ip address replace {SITE_V6}/64 dev site0 nodad && ip address replace {address}/128 dev site0 nodad"
            ),
        };
        self.sh("root", &add)?.ok()?;
        Ok(ClientAddress { address })
    }
}
