// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a site can be made of.

use std::path::PathBuf;

use crate::{Error, Release, Result};

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
    /// Lines for sshd's configuration; they come first, and the first of a keyword counts. Otherwise sshd is as Debian ships it, with
    /// the product's `sshd.conf`.
    pub sshd_config: &'static str,
    /// Whether sshd shuts out an address with several refusals, as it does by itself since OpenSSH 9.8 (SSH-12). A
    /// story that has many refusals from one address and is about something else says no.
    pub penalties: bool,
    /// Requests per client address that the test server's mytoken server answers, the original's default (MT-07); empty: all. A story
    /// that needs more says so.
    pub request_limit: &'static str,
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

/// Variables by which a person or `testbed test` tells stories what sites to make.
const RELEASE: &str = "TESTBED_ROOT";
const SERVER: &str = "TESTBED_SERVER";
const ISSUER: &str = "TESTBED_ISSUER";
const CA_FILE: &str = "TESTBED_CA";
const MYTOKEN_FILE: &str = "TESTBED_MYTOKEN_FILE";

impl Options {
    /// Four nodes with the product, of the release and with the foreign server that the environment names:
    /// `TESTBED_ROOT`, and `TESTBED_SERVER`, `TESTBED_ISSUER`, `TESTBED_MYTOKEN_FILE`, `TESTBED_CA`.
    ///
    /// # Errors
    /// When `TESTBED_ROOT` names no known release, or only some of the others are there.
    pub fn new() -> Result<Self> {
        let release = match env(RELEASE) {
            Some(chosen) => chosen.parse()?,
            None => Release::of_this_host(),
        };
        Ok(Self {
            release,
            nodes: 4,
            product: true,
            prolog_flags: "",
            sshd_log_level: "VERBOSE",
            sshd_config: "",
            penalties: true,
            request_limit: "100/300s",
            foreign: Foreign::new(env(SERVER), env(ISSUER), env(MYTOKEN_FILE), env(CA_FILE))?,
        })
    }

    /// The environment that makes [`Options::new`] choose the same release and server.
    #[must_use]
    pub fn as_environment(&self) -> Vec<(&'static str, String)> {
        let mut variables = vec![(RELEASE, self.release.name().to_owned())];
        if let Some(foreign) = &self.foreign {
            variables.extend([(SERVER, foreign.server.clone()), (ISSUER, foreign.issuer.clone())]);
            variables.push((MYTOKEN_FILE, foreign.mytoken_file.display().to_string()));
            variables.extend(foreign.ca.iter().map(|ca| (CA_FILE, ca.display().to_string())));
        }
        variables
    }
}

impl Foreign {
    /// A foreign server when all of it is there, none when nothing is.
    ///
    /// # Errors
    /// When something is missing.
    pub fn new(
        server: Option<String>,
        issuer: Option<String>,
        mytoken_file: Option<String>,
        ca: Option<String>,
    ) -> Result<Option<Self>> {
        match (server, issuer, mytoken_file) {
            (None, None, None) => Ok(None),
            (Some(server), Some(issuer), Some(mytoken_file)) => {
                // Stories run in another directory than the person who names the files.
                let absolute = |path: String| std::path::absolute(&path).unwrap_or(PathBuf::from(path));
                let (mytoken_file, ca) = (absolute(mytoken_file), ca.map(absolute));
                Ok(Some(Self { server, issuer, ca, mytoken_file }))
            }
            _ => Err(Error::Refused(
                "a foreign mytoken server needs its URL, its provider's URL (issuer) and a file with a mytoken".into(),
            )),
        }
    }
}

fn env(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
