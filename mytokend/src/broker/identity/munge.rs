// SPDX-License-Identifier: MIT OR Apache-2.0
//! A node proves by MUNGE who it is: a credential of root on its host, for one request of one node in one cluster.
//!
//! A MUNGE credential can be decoded once by each munged, within five minutes, by anybody. What it encodes binds it to the request: whoever
//! steals or replays it can enrol nobody else's key with it. The address in it is told by the munged that made it, which root on any host
//! of the cluster can replace (SLURM-91). So it does not identify a node without the address of the connection.

mod output;
mod payload;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use mytoken::Deadline;

use super::node_name::NodeName;
use crate::agent::slurm;
use crate::program::{self, ProgramError, ProgramOutcome};

pub use output::{Decoded, NotDecoded, parse};
pub use payload::payload;

/// Longest credential in bytes. Ours have about 450.
pub const LONGEST: usize = 4096;

/// Longest output of munge and unmunge in bytes.
const OUTPUT: usize = 16 * 1024;

/// Most addresses of a node that are compared.
const ADDRESSES: usize = 64;

/// The programs `munge` and `unmunge`.
#[derive(Debug, Clone)]
pub struct Munge {
    munge: PathBuf,
    unmunge: PathBuf,
    deadline: Duration,
}

/// Whether the address of the connection must belong to the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionAddress {
    /// It must.
    Checked,
    /// Nodes connect through address translation. Then root on one node can enrol as another that is not enrolled, and who has a copy of a
    /// node's certificate and key can use it anywhere.
    Ignored,
}

/// The addresses of a node.
pub trait NodeAddresses: Send + Sync {
    /// The addresses to which the name of the node, or its `NodeAddr` in slurm.conf, resolves.
    ///
    /// # Errors
    /// The resolver's.
    fn addresses(&self, node: &NodeName) -> io::Result<Vec<IpAddr>>;
}

/// The system's resolver, which cannot be interrupted: with dead name servers a thread of its own waits for it.
#[derive(Debug, Clone, Copy)]
pub struct SystemResolver {
    /// How long a caller waits.
    pub deadline: Duration,
}

impl SystemResolver {
    /// The addresses of a host.
    ///
    /// # Errors
    /// The resolver's, or that it does not answer in time.
    pub fn lookup(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let (answer, answered) = mpsc::channel();
        let name = host.to_owned();
        std::thread::Builder::new().name("resolve".to_owned()).spawn(move || {
            let found = (name.as_str(), 0).to_socket_addrs();
            let _ = answer.send(found.map(|found| found.map(|address| address.ip()).take(ADDRESSES).collect()));
        })?;
        answered.recv_timeout(self.deadline).unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl NodeAddresses for SystemResolver {
    fn addresses(&self, node: &NodeName) -> io::Result<Vec<IpAddr>> {
        self.lookup(node.as_str())
    }
}

/// Why MUNGE does not prove who a node is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MungeRefusal {
    /// The text is not a credential.
    #[error("this is not a MUNGE credential")]
    Malformed,
    /// MUNGE refuses it.
    #[error(transparent)]
    NotDecoded(#[from] NotDecoded),
    /// unmunge prints an error.
    #[error("MUNGE does not accept the credential: {reason}")]
    Invalid {
        /// Its words.
        reason: String,
    },
    /// It was made by another user.
    #[error("the MUNGE credential was made by user {uid}, not by root")]
    NotRoot {
        /// The user.
        uid: u32,
    },
    /// It was made for something else.
    #[error("the MUNGE credential was not made for this request of the node {node} in the cluster {cluster}")]
    OtherPayload {
        /// The node.
        node: NodeName,
        /// The broker's cluster.
        cluster: String,
    },
    /// It was made on another host.
    #[error("the MUNGE credential was made at {address}, which is not an address of the node {node}")]
    OtherHost {
        /// The address.
        address: IpAddr,
        /// The node.
        node: NodeName,
    },
    /// munged does not know the address of its host, and the address of the connection is not checked.
    #[error(
        "munged on the node {node} does not tell an address of its host ({address}); start it with --origin and the address to which the node's name resolves"
    )]
    NoHost {
        /// What it tells.
        address: IpAddr,
        /// The node.
        node: NodeName,
    },
    /// The connection comes from another host.
    #[error(
        "the connection comes from {address}, which is not an address of the node {node}; if nodes connect through address translation, see check_address in jobs.toml"
    )]
    OtherConnection {
        /// The address.
        address: IpAddr,
        /// The node.
        node: NodeName,
    },
}

/// Why MUNGE cannot be asked. Nobody was refused; a later attempt may succeed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MungeUnavailable {
    /// There is no such program.
    #[error("there is no {0} on this host; is MUNGE installed?")]
    Missing(&'static str),
    /// It has no outcome.
    #[error("{0} {1}")]
    Program(&'static str, ProgramError),
    /// munged is not running, or refuses to work.
    #[error("{0} failed: {1}")]
    Failed(&'static str, String),
    /// The name of the node cannot be resolved.
    #[error("the addresses of the node {node} cannot be looked up: {reason}")]
    Resolver {
        /// The node.
        node: NodeName,
        /// The resolver's words.
        reason: String,
    },
}

/// What was asked and by whom.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// The broker's cluster.
    pub cluster: &'a str,
    /// The node that the sender wants to be.
    pub node: &'a NodeName,
    /// SHA-256 of its certificate request.
    pub request: [u8; 32],
    /// The address of its connection.
    pub connection: IpAddr,
    /// Whether that is checked.
    pub check: ConnectionAddress,
}

impl Munge {
    /// The programs at the usual paths: a daemon of root must not take a program from `PATH`.
    ///
    /// # Errors
    /// [`MungeUnavailable::Missing`].
    pub fn usual() -> Result<Self, MungeUnavailable> {
        let find = |name| slurm::command(name, None).ok_or(MungeUnavailable::Missing(name));
        Ok(Self::at(find("munge")?, find("unmunge")?, Duration::from_secs(5)))
    }

    /// Programs at these paths, each of which may take this long.
    #[must_use]
    pub fn at(munge: PathBuf, unmunge: PathBuf, deadline: Duration) -> Self {
        Self { munge, unmunge, deadline }
    }

    /// A credential of the calling user for a request of this host.
    ///
    /// # Errors
    /// [`MungeUnavailable`].
    pub fn encode(&self, cluster: &str, node: &NodeName, request: &[u8; 32]) -> Result<String, MungeUnavailable> {
        let text = payload(cluster, node, request);
        // From standard input: other users of the host see arguments.
        let mut command = Command::new(&self.munge);
        let outcome = self.run("munge", command.arg("--input=-"), text.as_bytes())?;
        let credential = outcome.output.trim();
        if outcome.success && is_credential(credential) {
            return Ok(credential.to_owned());
        }
        Err(failed("munge", &outcome))
    }

    /// Verifies that the sender of a claim is root on the node, and returns the address at which the credential was made.
    ///
    /// # Errors
    /// The inner ones: [`MungeRefusal`]. The outer ones: [`MungeUnavailable`].
    pub fn verify(
        &self,
        credential: &str,
        claim: &Claim<'_>,
        resolver: &dyn NodeAddresses,
    ) -> Result<Result<IpAddr, MungeRefusal>, MungeUnavailable> {
        if !is_credential(credential) {
            return Ok(Err(MungeRefusal::Malformed));
        }
        let mut command = Command::new(&self.unmunge);
        // Numeric: a slow name server must not delay it, and whoever answers for an address must not choose what is parsed.
        command.args(["--input=-", "--numeric", "--keys=STATUS,ENCODE_HOST,UID,LENGTH"]);
        let outcome = self.run("unmunge", &mut command, credential.as_bytes())?;
        let decoded = match parse(&outcome.output, outcome.success) {
            Ok(decoded) => decoded,
            Err(NotDecoded::NoAnswer) if is_unavailable(&outcome) => return Err(failed("unmunge", &outcome)),
            Err(NotDecoded::NoAnswer) => {
                return Ok(Err(MungeRefusal::Invalid { reason: mytoken_wire::printable(outcome.first_error(), 200) }));
            }
            Err(refused) => return Ok(Err(refused.into())),
        };
        if let Err(refused) = decide_content(&decoded, claim) {
            return Ok(Err(refused));
        }
        let unknown = |reason: String| MungeUnavailable::Resolver { node: claim.node.clone(), reason };
        let addresses = resolver.addresses(claim.node).map_err(|error| unknown(error.to_string()))?;
        Ok(decide_address(decoded.host, claim, &addresses).map(|()| decoded.host))
    }

    fn run(&self, name: &'static str, command: &mut Command, input: &[u8]) -> Result<ProgramOutcome, MungeUnavailable> {
        program::run_with_input(command, input, Deadline::after(self.deadline), OUTPUT)
            .map_err(|error| MungeUnavailable::Program(name, error))
    }
}

/// Whether user and content of a credential are those of the claim.
///
/// # Errors
/// [`MungeRefusal::NotRoot`], [`MungeRefusal::OtherPayload`].
pub fn decide_content(decoded: &Decoded, claim: &Claim<'_>) -> Result<(), MungeRefusal> {
    if decoded.uid != 0 {
        return Err(MungeRefusal::NotRoot { uid: decoded.uid });
    }
    if decoded.payload != payload(claim.cluster, claim.node, &claim.request) {
        let (node, cluster) = (claim.node.clone(), mytoken_wire::printable(claim.cluster, 64));
        return Err(MungeRefusal::OtherPayload { node, cluster });
    }
    Ok(())
}

/// Whether a credential made at `host` and its connection come from the node, which has these addresses.
///
/// # Errors
/// [`MungeRefusal::OtherHost`], [`MungeRefusal::NoHost`], [`MungeRefusal::OtherConnection`].
pub fn decide_address(host: IpAddr, claim: &Claim<'_>, addresses: &[IpAddr]) -> Result<(), MungeRefusal> {
    let node = || claim.node.clone();
    let is_node = |address: IpAddr| addresses.iter().any(|own| own.to_canonical() == address.to_canonical());
    // SLURM-91: munged has no address if the name of its host does not resolve. On Debian, /etc/hosts has 127.0.1.1 for it.
    let untold = host.is_unspecified() || host.is_loopback();
    if !untold && !is_node(host) {
        return Err(MungeRefusal::OtherHost { address: host, node: node() });
    }
    match claim.check {
        ConnectionAddress::Checked if is_node(claim.connection) => Ok(()),
        ConnectionAddress::Checked => {
            Err(MungeRefusal::OtherConnection { address: claim.connection.to_canonical(), node: node() })
        }
        ConnectionAddress::Ignored if untold && !is_node(host) => {
            Err(MungeRefusal::NoHost { address: host, node: node() })
        }
        ConnectionAddress::Ignored => Ok(()),
    }
}

/// Whether a text looks like a credential. Nothing else is given to unmunge.
fn is_credential(text: &str) -> bool {
    let inner = text.strip_prefix("MUNGE:").and_then(|text| text.strip_suffix(':'));
    text.len() <= LONGEST
        && inner.is_some_and(|inner| {
            !inner.is_empty()
                && inner.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'='))
        })
}

/// Whether unmunge did not reach munged, or failed itself. The exit status is a `munge_err_t` of munge.h: `SNAFU`, `NO_MEMORY`, `SOCKET`, `TIMEOUT`.
fn is_unavailable(outcome: &ProgramOutcome) -> bool {
    matches!(outcome.status, None | Some(1 | 5 | 6 | 7))
}

fn failed(name: &'static str, outcome: &ProgramOutcome) -> MungeUnavailable {
    MungeUnavailable::Failed(name, mytoken_wire::printable(&outcome.reason(), 200))
}
