// SPDX-License-Identifier: MIT OR Apache-2.0
//! The namespaces of a site, with `testbed init` as their first process.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use crate::error::WithContext;
use crate::site::emulation::USER_NAMESPACE;
use crate::site::plan::{Network, Plan};
use crate::site::{host, paths};
use crate::{Error, Result};

/// How long the kernel may take to remove a site.
const TEARDOWN: Duration = Duration::from_secs(10);

/// The namespaces of a running site. Dropping this value kills everything inside and waits for the end.
#[derive(Debug)]
pub struct Namespace {
    /// `unshare`, the parent of the first process inside.
    unshare: Child,
    /// The site runs while this pipe is open. The kernel closes it when this process ends in any way.
    lifeline: Option<ChildStdin>,
    /// The id on the host of the first process inside.
    init: u32,
}

impl Namespace {
    /// Makes the namespaces and runs `testbed init` in them.
    ///
    /// # Errors
    /// When a namespace, a mount or the installation of the product failed, with the message of `testbed init`.
    pub fn create(plan: &Plan) -> Result<Self> {
        let plan_text =
            serde_json::to_string(plan).map_err(std::io::Error::from).with_context(|| "writing the plan".into())?;
        let mut command = Command::new("unshare");
        if plan.emulated {
            let [program, arguments @ ..] = USER_NAMESPACE;
            command = Command::new(program);
            command.args(arguments).arg("unshare");
        }
        command.args(host::NAMESPACES);
        if plan.network == Network::Own {
            command.arg("--net");
        }
        let mut unshare = command
            .args(["--fork", "--kill-child"])
            .arg(paths::testbed_program()?)
            .args(["init", &plan_text])
            // In its own process group it does not get Ctrl-C. Ctrl-C ends this process, and the closed pipe the site.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| "starting unshare".into())?;
        let lifeline = unshare.stdin.take();
        let mut line = String::new();
        if let Some(stdout) = unshare.stdout.take() {
            BufReader::new(stdout).read_line(&mut line).with_context(|| "waiting for the namespace".into())?;
        }
        match line.strip_prefix("ready ").and_then(|pid| pid.trim().parse().ok()) {
            Some(init) => Ok(Self { unshare, lifeline, init }),
            None => Err(setup_failure(unshare)),
        }
    }

    /// A command that will run inside, as root and with this process's environment.
    #[must_use]
    pub fn enter(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--all", "--target", &self.init.to_string(), "--"]);
        command
    }

    /// The process id, on the host, of the first process inside.
    #[must_use]
    pub fn init_pid(&self) -> u32 {
        self.init
    }
}

fn setup_failure(mut unshare: Child) -> Error {
    let mut reason = String::new();
    if let Some(stderr) = unshare.stderr.as_mut() {
        // The process has closed its standard output, so it will end soon.
        let _ = stderr.read_to_string(&mut reason);
    }
    let _ = unshare.kill();
    let _ = unshare.wait();
    Error::Refused(reason.trim().to_owned())
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        let end = Instant::now() + TEARDOWN;
        while Instant::now() < end {
            match self.unshare.try_wait() {
                Ok(None) => std::thread::sleep(Duration::from_millis(2)),
                _ => return,
            }
        }
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
    }
}
