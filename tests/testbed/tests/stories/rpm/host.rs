// SPDX-License-Identifier: MIT OR Apache-2.0
//! A host without services on which rpm can install the packages.

use std::process::Output;

use testbed::site::namespace::Namespace;
use testbed::site::paths;
use testbed::site::plan::{Network, Plan};
use testbed::site::root::{Recipe, Root};
use testbed::{Error, Result, can_hold_a_site, skip};

use super::{built, run};

/// The root file system with an overlay on top, as the root directory of a shell.
pub struct Host {
    namespace: Namespace,
    /// Its lock prevents a replacement of the files below.
    _root: Root,
}

impl Host {
    /// A fresh host with the packages in /packages; `None` after the test was recorded as skipped.
    pub fn with_packages() -> Result<Option<Self>> {
        if built(&[])?.is_none() {
            return Ok(None);
        }
        match can_hold_a_site() {
            Err(error @ Error::Impossible(_)) => return skip(&error.to_string()).map(|()| None),
            other => other?,
        }
        let root = Root::open(&Recipe::rpm())?;
        let plan = Plan {
            root: root.directory().to_owned(),
            layer: None,
            mount_point: paths::mount_point()?,
            network: Network::Callers,
            binds: vec![(paths::rpm_packages(), "/packages".into())],
            users: false,
            emulated: false,
            install: None,
        };
        Ok(Some(Self { namespace: Namespace::create(&plan)?, _root: root }))
    }

    /// Runs a script of the shell as root.
    pub fn sh(&self, script: &str) -> Result<Output> {
        let mut command = self.namespace.enter();
        command.args(["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "HOME=/root", "sh", "-c", script]);
        run(&mut command)
    }

    /// The standard output of a script that must succeed.
    pub fn output(&self, script: &str) -> Result<String> {
        let output = self.sh(script)?;
        assert!(output.status.success(), "{script}: {output:?}");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The standard error of a script that must fail.
    pub fn failure(&self, script: &str) -> Result<String> {
        let output = self.sh(script)?;
        assert!(!output.status.success(), "{script} succeeded: {output:?}");
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}
