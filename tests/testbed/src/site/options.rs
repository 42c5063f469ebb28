// SPDX-License-Identifier: MIT OR Apache-2.0
//! Options of a site.

use std::path::PathBuf;

use crate::site::controls::Controls;
use crate::site::earlier::Earlier;
use crate::{Error, Release, Result};

/// Options of a site.
#[derive(Debug, Clone)]
pub struct Options {
    /// Debian release of the root file system.
    pub release: Release,
    /// Whether the root has systemd, for stories that boot it ([`crate::drive::machine`]).
    pub systemd: bool,
    /// Whether the site can hold a second machine, with files of its own ([`crate::drive::cluster`]).
    pub second_machine: bool,
    /// Whether the root has Python too, for the stories of the Ansible role and of motley_cue.
    pub python: bool,
    /// Whether the root has Node, for the stories of npm's oidc-provider.
    pub node: bool,
    /// Whether the root of a story that boots systemd also has fail2ban.
    pub fail2ban: bool,
    /// Whether the root has `pam_slurm_adopt`.
    pub slurm_adopt: bool,
    /// Whether the root has the data clients and storage servers of Debian, and slurmrestd.
    pub data_clients: bool,
    /// Whether the root has other ssh clients than OpenSSH's.
    pub ssh_clients: bool,
    /// Whether the root has slurmdbd and its database ([`crate::site::services::accounting`]).
    pub accounting: bool,
    /// Whether sshd, Slurm and the product are programs for arm64, which qemu-user runs. See [`crate::can_emulate`].
    pub emulated: bool,
    /// Number of Slurm nodes.
    pub nodes: u8,
    /// Number of brokers, each on a host of its own. With none, each node has the cluster's private key.
    pub brokers: u8,
    /// Which hosts have the programs of an earlier commit when the site starts. `None`: no host.
    pub earlier: Option<Earlier>,
    /// Install the product when it is built.
    pub product: bool,
    /// `PrologFlags` of slurm.conf, e.g. "Alloc,Contain"; empty for none.
    pub prolog_flags: &'static str,
    /// `LogLevel` of sshd.
    pub sshd_log_level: &'static str,
    /// Lines at the beginning of sshd's configuration. They have precedence, because sshd uses the first value of a
    /// keyword. The rest is as in Debian, with the product's `sshd.conf`.
    pub sshd_config: &'static str,
    /// Whether sshd has the product's example of a PAM stack instead of Debian's own.
    pub example_stack: bool,
    /// Whether sshd blocks an address after several refusals, the default since OpenSSH 9.8 (SSH-12). A story that
    /// needs many refusals from one address disables this.
    pub penalties: bool,
    /// Request limit of the mytoken server per client address. The default is that of the real server (MT-07); empty
    /// means no limit. A story that needs more requests changes it.
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
    /// Root certificates of both servers; the distribution's if absent.
    pub ca: Option<PathBuf>,
    /// A file with a mytoken of that server.
    pub mytoken_file: PathBuf,
    /// Commands that stand for the test server's control API.
    pub controls: Controls,
}

/// Environment variables with options of stories. `testbed test` or a person sets them.
const RELEASE: &str = "TESTBED_ROOT";
const BROKERS: &str = "TESTBED_BROKERS";
const SERVER: &str = "TESTBED_SERVER";
const ISSUER: &str = "TESTBED_ISSUER";
const CA_FILE: &str = "TESTBED_CA";
const MYTOKEN_FILE: &str = "TESTBED_MYTOKEN_FILE";
const LONG: &str = "TESTBED_LONG";

impl Options {
    /// Four nodes with the product. Release and foreign server are read from the environment:
    /// `TESTBED_ROOT`, `TESTBED_BROKERS`, and `TESTBED_SERVER`, `TESTBED_ISSUER`, `TESTBED_MYTOKEN_FILE`, `TESTBED_CA`, and the
    /// commands of [`Need`](crate::Need).
    ///
    /// # Errors
    /// When `TESTBED_ROOT` is not a known release, or some of the other variables are missing.
    pub fn new() -> Result<Self> {
        let release = match env(RELEASE) {
            Some(chosen) => chosen.parse()?,
            None => Release::of_this_host(),
        };
        Ok(Self {
            release,
            systemd: false,
            second_machine: false,
            python: false,
            node: false,
            fail2ban: false,
            slurm_adopt: false,
            data_clients: false,
            ssh_clients: false,
            accounting: false,
            emulated: false,
            nodes: 4,
            brokers: env(BROKERS).and_then(|number| number.parse().ok()).unwrap_or(0),
            earlier: None,
            product: true,
            prolog_flags: "",
            sshd_log_level: "VERBOSE",
            sshd_config: "",
            example_stack: true,
            penalties: true,
            request_limit: "100/300s",
            foreign: Foreign::new(env(SERVER), env(ISSUER), env(MYTOKEN_FILE), env(CA_FILE))?
                .map(|foreign| foreign.with(Controls::new(|need| env(need.variable())))),
        })
    }

    /// Whether a story that has a long form plays that one: with `TESTBED_LONG=1`.
    #[must_use]
    pub fn is_long() -> bool {
        env(LONG).is_some()
    }

    /// The environment that makes [`Options::new`] choose the same release and server.
    #[must_use]
    pub fn as_environment(&self) -> Vec<(&'static str, String)> {
        let mut variables = vec![(RELEASE, self.release.name().to_owned()), (BROKERS, self.brokers.to_string())];
        if let Some(foreign) = &self.foreign {
            variables.extend([(SERVER, foreign.server.clone()), (ISSUER, foreign.issuer.clone())]);
            variables.push((MYTOKEN_FILE, foreign.mytoken_file.display().to_string()));
            variables.extend(foreign.controls.as_environment());
            variables.extend(foreign.ca.iter().map(|ca| (CA_FILE, ca.display().to_string())));
        }
        variables
    }
}

impl Foreign {
    /// The same server with these commands.
    #[must_use]
    pub fn with(self, controls: Controls) -> Self {
        Self { controls, ..self }
    }

    /// A foreign server if all parts are given, `None` if no part is.
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
                // Stories run in another directory than the caller.
                let absolute = |path: String| std::path::absolute(&path).unwrap_or(PathBuf::from(path));
                let (mytoken_file, ca) = (absolute(mytoken_file), ca.map(absolute));
                Ok(Some(Self { server, issuer, ca, mytoken_file, controls: Controls::default() }))
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
