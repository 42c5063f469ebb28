// SPDX-License-Identifier: MIT OR Apache-2.0
//! The plan of a site, which `namespace` on the host passes to `init`, the first process of the site.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The host's name inside a site.
pub const HOST_NAME: &str = "testbed";

/// Names of the servers of a site; all have the address of the site.
pub const SERVER_NAMES: &[&str] = &["mytoken.testbed", "op.testbed", "se.testbed"];

/// Files of the testbed itself inside a site: process ids, logs, the namespaces of the nodes.
pub const STATE_DIR: &str = "/run/testbed";

/// Path of the `testbed` program inside a site.
pub const TESTBED_INSIDE: &str = "/usr/local/bin/testbed";

/// Path of the unchanged root file system inside a site that can hold a second machine.
pub const ROOT_INSIDE: &str = "/run/testbed/root";

/// Directory with programs of an earlier commit inside a site that has them ([`crate::site::earlier`]).
pub const EARLIER_INSIDE: &str = "/run/testbed/earlier";

/// Path of the test server's program inside a site.
pub const TESTSERVER_INSIDE: &str = "/usr/local/bin/testserver";

/// Name of the daemon that holds the namespaces of a node.
#[must_use]
pub fn node_holder(node: &str) -> String {
    format!("node.{node}")
}

/// The network of a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// A network of its own with one address from TEST-NET-1. With only a loopback interface `getaddrinfo` resolves no
    /// name (`AI_ADDRCONFIG`), and Slurm repeats "Unable to resolve" (SLURM-30).
    Own,
    /// The caller's network, for a mytoken server that runs elsewhere. Services listen on loopback only.
    Callers,
}

impl Network {
    /// The site's address.
    #[must_use]
    pub fn address(self) -> Ipv4Addr {
        match self {
            Self::Own => Ipv4Addr::new(192, 0, 2, 10),
            Self::Callers => Ipv4Addr::LOCALHOST,
        }
    }
}

/// The plan that `testbed init` builds.
#[derive(Debug, Serialize, Deserialize)]
pub struct Plan {
    /// The cached root file system, which is only read.
    pub root: PathBuf,
    /// A directory with files that hide those of the root; also only read.
    pub layer: Option<PathBuf>,
    /// An empty directory of the host to mount on. The mount is only visible inside.
    pub mount_point: PathBuf,
    /// The network of the site.
    pub network: Network,
    /// Files and directories of the host that are visible inside, read-only: path on the host, path inside.
    pub binds: Vec<(PathBuf, PathBuf)>,
    /// Whether to create the users of a site.
    pub users: bool,
    /// Whether programs for arm64 run in this site, in a user namespace of its own.
    pub emulated: bool,
    /// How this site installs the product; `None` if it does not.
    pub install: Option<Installation>,
}

/// How a site installs the product.
#[derive(Debug, Serialize, Deserialize)]
pub enum Installation {
    /// By `make install`.
    Make {
        /// The repository.
        repository: PathBuf,
        /// The cargo profile of the build.
        profile: String,
    },
    /// By dpkg, from Debian packages.
    Packages {
        /// The packages, on the host.
        files: Vec<PathBuf>,
        /// A directory on the host that gets a copy of everything that the installation changed: a layer for other sites.
        layer: Option<PathBuf>,
    },
}
