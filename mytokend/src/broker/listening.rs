// SPDX-License-Identifier: MIT OR Apache-2.0
//! The broker's port, and room for the connections of all nodes.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::{TcpListener, TcpSocket};

use super::settings::BrokerSettings;
use crate::log::{Level, Log};

/// Connections that wait to be accepted: all nodes may connect at once. The kernel's own limit is `net.core.somaxconn`.
const BACKLOG: u32 = 16_384;

/// Descriptors that the broker wants: one for each node, and some for files and mytoken servers.
const DESCRIPTORS: u64 = 32_768;

/// A connection that says nothing is asked after this time, in seconds, whether its host is still there,
const KEEPALIVE: u32 = 60;

/// then after this time each,
const KEEPALIVE_AGAIN: u32 = 15;

/// and is closed after so many questions without an answer.
const KEEPALIVE_QUESTIONS: u32 = 4;

/// It is also closed when its host has not confirmed an answer for as long, in milliseconds.
const UNCONFIRMED: u32 = (KEEPALIVE + KEEPALIVE_AGAIN * KEEPALIVE_QUESTIONS) * 1000;

/// Where a running broker listens. A reload does not change it.
#[derive(Clone, Copy)]
pub(super) struct Addresses {
    /// For nodes, as the settings say.
    pub(super) listen: SocketAddr,
    /// For nodes, as the system says.
    pub(super) bound: SocketAddr,
    /// For Prometheus.
    pub(super) metrics: Option<SocketAddr>,
}

impl Addresses {
    /// Tells which settings that were read now need a restart.
    pub(super) fn tell_changes(&self, settings: &BrokerSettings, log: &Log) {
        let Self { listen, bound, metrics } = self;
        if settings.listen != *listen {
            log.line(Level::Warning, &format!("the broker listens at {bound} until it is restarted"));
        }
        if settings.metrics != *metrics {
            let text = match metrics {
                Some(address) => format!("the metrics are told at {address} until the broker is restarted"),
                None => "there are no metrics until the broker is restarted".to_owned(),
            };
            log.line(Level::Warning, &text);
        }
    }
}

/// Listens at this address. `[::]`, the default, is IPv4 and IPv6; on a host without IPv6, it is IPv4.
///
/// # Errors
/// The system's.
pub(super) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    if let Some(other) = without_ipv6(address, socket.as_ref().err()) {
        return listen(other);
    }
    let socket = socket?;
    // A broker that starts again must not wait for the connections of the one before.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// A host that loses its power or its network says nothing, and its connection would keep its place for ever: the kernel closes it within
/// minutes.
///
/// # Errors
/// The system's.
pub(super) fn keep_alive(stream: &impl AsFd) -> nix::Result<()> {
    setsockopt(stream, sockopt::KeepAlive, &true)?;
    setsockopt(stream, sockopt::TcpKeepIdle, &KEEPALIVE)?;
    setsockopt(stream, sockopt::TcpKeepInterval, &KEEPALIVE_AGAIN)?;
    setsockopt(stream, sockopt::TcpKeepCount, &KEEPALIVE_QUESTIONS)?;
    setsockopt(stream, sockopt::TcpUserTimeout, &UNCONFIRMED)
}

/// The address to take instead, if this one was meant for all and the host has no IPv6.
fn without_ipv6(address: SocketAddr, error: Option<&io::Error>) -> Option<SocketAddr> {
    let lacks = error?.raw_os_error() == Some(Errno::EAFNOSUPPORT as i32);
    let all = address.is_ipv6() && address.ip().is_unspecified();
    (lacks && all).then(|| SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), address.port()))
}

/// One descriptor for each connection: the usual soft limit is 1,024.
pub(super) fn raise_descriptors(log: &Log) {
    let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    if hard < DESCRIPTORS {
        let text = format!("this process may open {hard} files; a broker for 10,000 nodes needs {DESCRIPTORS}");
        log.line(Level::Warning, &text);
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::socket::getsockopt;

    use super::*;

    #[test]
    fn a_host_that_says_nothing_is_asked_whether_it_is_there() {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let _node = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        keep_alive(&accepted).unwrap();
        assert!(getsockopt(&accepted, sockopt::KeepAlive).unwrap());
        assert_eq!(getsockopt(&accepted, sockopt::TcpKeepIdle), Ok(60));
        assert_eq!(getsockopt(&accepted, sockopt::TcpUserTimeout), Ok(120_000));
    }

    #[test]
    fn a_host_without_ipv6_has_a_broker_too() {
        let lacks = io::Error::from_raw_os_error(Errno::EAFNOSUPPORT as i32);
        let all: SocketAddr = "[::]:7512".parse().unwrap();
        assert_eq!(without_ipv6(all, Some(&lacks)), Some("0.0.0.0:7512".parse().unwrap()));
        assert_eq!(without_ipv6("[::1]:7512".parse().unwrap(), Some(&lacks)), None, "somebody chose this one");
        assert_eq!(without_ipv6(all, Some(&io::ErrorKind::AddrInUse.into())), None);
        assert_eq!(without_ipv6(all, None), None);
    }
}
