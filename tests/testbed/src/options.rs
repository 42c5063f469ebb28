// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a site can be made of.

use std::path::PathBuf;

use crate::{Release, Result};

/// What a site is made of.
#[derive(Debug, Clone)]
pub struct Options {
    /// Debian release of the root file system.
    pub release: Release,
    /// Number of Slurm nodes.
    pub nodes: u8,
    /// Install the product when it is built.
    pub product: bool,
    /// `PrologFlags` of slurm.conf, e.g. "Alloc,Contain"; empty: none.
    pub prolog_flags: &'static str,
    /// `LogLevel` of sshd.
    pub sshd_log_level: &'static str,
    /// A mytoken server and provider outside the site instead of the test server inside.
    pub foreign: Option<Foreign>,
}

/// Servers outside the site.
#[derive(Debug, Clone)]
pub struct Foreign {
    /// URL of the mytoken server.
    pub server: String,
    /// URL of the provider whose access tokens are accepted.
    pub issuer: String,
    /// Roots to verify them by, unless the distribution's.
    pub ca: Option<PathBuf>,
    /// A file with a mytoken of that server.
    pub mytoken_file: PathBuf,
}

impl Options {
    /// Four nodes of the default release with the product.
    ///
    /// # Errors
    /// When `TESTBED_ROOT` names no known release.
    pub fn new() -> Result<Self> {
        Ok(Self {
            release: Release::default_here()?,
            nodes: 4,
            product: true,
            prolog_flags: "",
            sshd_log_level: "VERBOSE",
            foreign: None,
        })
    }
}
