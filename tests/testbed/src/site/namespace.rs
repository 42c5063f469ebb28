// SPDX-License-Identifier: MIT OR Apache-2.0
//! The namespaces of a site, with `testbed init` as their first process.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::WithContext;
use crate::site::emulation::USER_NAMESPACE;
use crate::site::plan::{Network, Plan, STATE_DIR};
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
    /// Ids inside and on the host of daemons whose namespaces were entered.
    daemons: Mutex<BTreeMap<u32, u32>>,
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
            Some(init) => Ok(Self { unshare, lifeline, init, daemons: Mutex::default() }),
            None => Err(setup_failure(unshare)),
        }
    }

    /// `nsenter` for a command that will run inside, as root and with this process's environment. More of its options, `--` and the
    /// command can follow.
    #[must_use]
    pub fn enter(&self) -> Command {
        enter(self.init)
    }

    /// The same in the namespaces of a daemon of the site.
    ///
    /// # Errors
    /// When the daemon does not run.
    pub fn enter_with(&self, daemon: &str) -> Result<Command> {
        let file = format!("/proc/{}/root{STATE_DIR}/pid/{daemon}", self.init);
        let text = fs::read_to_string(&file).with_context(|| format!("looking for {daemon}"))?;
        let inside =
            text.trim().parse().map_err(|_| Error::Refused(format!("{file} holds no process id: {text:?}")))?;
        let mut known = self.daemons.lock().unwrap_or_else(PoisonError::into_inner);
        let found = known.get(&inside).copied().or_else(|| self.outside(inside));
        let outside = found.ok_or_else(|| Error::Refused(format!("{daemon} does not run")))?;
        known.insert(inside, outside);
        Ok(enter(outside))
    }

    /// The id on the host of a process inside.
    fn outside(&self, inside: u32) -> Option<u32> {
        let namespace = |process: u32| fs::read_link(format!("/proc/{process}/ns/pid")).ok();
        let of_site = namespace(self.init)?;
        let ids = fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        ids.filter(|id: &u32| namespace(*id).is_some_and(|found| found == of_site)).find(|id| {
            let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
            let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
            ids.and_then(|ids| ids.split_whitespace().last()?.parse().ok()) == Some(inside)
        })
    }

    /// The process id, on the host, of the first process inside.
    #[must_use]
    pub fn init_pid(&self) -> u32 {
        self.init
    }
}

fn enter(process: u32) -> Command {
    let mut command = Command::new("nsenter");
    command.args(["--all", "--target", &process.to_string()]);
    command
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
