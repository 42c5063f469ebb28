// SPDX-License-Identifier: MIT OR Apache-2.0
//! Commands inside a site.

use std::io::Write;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use crate::error::WithContext;
use crate::site::namespace::Namespace;
use crate::site::plan::node_holder;
use crate::site::users;
use crate::{Error, Result};

const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A command to run inside a site. Arguments and environment are visible to all users; pass a secret through
/// [`SiteCommand::stdin`].
#[derive(Debug)]
#[must_use]
pub struct SiteCommand<'site> {
    namespace: &'site Namespace,
    user: String,
    argv: Vec<String>,
    node: Option<String>,
    environment: Vec<(String, String)>,
    stdin: Option<Vec<u8>>,
    timeout: Duration,
}

/// How a command ended, and its output.
#[derive(Debug, Clone)]
pub struct CommandOutcome {
    /// The command as a person would type it.
    pub command: String,
    /// Exit status: 124 after a time-out, 128 + n after signal n.
    pub code: i32,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl CommandOutcome {
    /// Whether the command ended with status 0.
    #[must_use]
    pub fn success(&self) -> bool {
        self.code == 0
    }

    /// This outcome when the command succeeded.
    ///
    /// # Errors
    /// [`Error::Failed`] with its output when it did not.
    pub fn ok(self) -> Result<Self> {
        if self.success() {
            return Ok(self);
        }
        Err(Error::Failed {
            command: self.command,
            status: if self.code == 124 { "a time-out".into() } else { format!("status {}", self.code) },
            stdout: self.stdout,
            stderr: self.stderr,
        })
    }

    /// The lines of standard output.
    #[must_use]
    pub fn lines(&self) -> Vec<&str> {
        self.stdout.lines().collect()
    }
}

impl<'site> SiteCommand<'site> {
    pub(crate) fn new(namespace: &'site Namespace, user: &str, argv: Vec<String>) -> Self {
        Self {
            namespace,
            user: user.to_owned(),
            argv,
            node: None,
            environment: Vec::new(),
            stdin: None,
            timeout: Duration::from_secs(60),
        }
    }

    /// A bash script.
    pub(crate) fn script(namespace: &'site Namespace, user: &str, script: &str) -> Self {
        Self::new(namespace, user, ["bash", "-c", script].map(str::to_owned).into())
    }

    /// Runs it on node `name` ("n2"), which has its own `/run/mytoken` and address.
    pub fn on(mut self, name: &str) -> Self {
        self.node = Some(name.to_owned());
        self
    }

    /// Adds a variable to the environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets its standard input; the default is `/dev/null`.
    pub fn stdin(mut self, content: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(content.into());
        self
    }

    /// Ends the command after this time (default 60 s) by SIGTERM, then by SIGKILL.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Runs the command to its end.
    ///
    /// # Errors
    /// When it could not be started. A failure of the command is not an error here, see [`CommandOutcome::ok`].
    pub fn run(self) -> Result<CommandOutcome> {
        let name = self.description();
        let stdin = self.stdin.clone();
        let mut child = self.spawn()?;
        let writer = child.stdin.take().map(|mut pipe| {
            let content = stdin.unwrap_or_default();
            // A command may end without reading all of its input.
            std::thread::spawn(move || drop(pipe.write_all(&content)))
        });
        let output = child.wait_with_output().with_context(|| format!("running `{name}`"))?;
        if let Some(writer) = writer {
            drop(writer.join());
        }
        Ok(outcome(name, &output))
    }

    /// Starts the command and leaves it running. Its standard streams are pipes (standard input only when
    /// [`SiteCommand::stdin`] was called).
    ///
    /// # Errors
    /// When it could not be started.
    pub fn spawn(self) -> Result<Child> {
        let stdin = if self.stdin.is_some() { Stdio::piped() } else { Stdio::null() };
        let name = self.description();
        let limit = ["--kill-after=5".to_owned(), self.timeout.as_secs_f64().to_string()];
        let [kill_after, seconds] = limit;
        self.prepare(&["timeout".to_owned(), kill_after, seconds])?
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting `{name}`"))
    }

    /// A command with this process's own standard streams and no time limit, for interactive use.
    ///
    /// # Errors
    /// When its node is gone.
    pub fn interactive(self) -> Result<Command> {
        self.prepare(&[])
    }

    /// The command as text for messages.
    fn description(&self) -> String {
        let place = self.node.as_deref().map(|node| format!("@{node}")).unwrap_or_default();
        format!("{}{place}: {}", self.user, self.argv.join(" "))
    }

    /// Each program on the way to the command costs a millisecond, and stories run dozens of commands per second.
    fn prepare(&self, wrapper: &[String]) -> Result<Command> {
        let home = users::home(&self.user);
        let mut command = match &self.node {
            Some(node) => self.namespace.enter_with(&node_holder(node))?,
            None => self.namespace.enter(),
        };
        command.arg(format!("--wdns={}", home.display())).arg("--");
        if self.user != "root" {
            let (uid, gid) = (format!("--reuid={}", self.user), format!("--regid={}", self.user));
            command.args(["setpriv", &uid, &gid, "--init-groups", "--"]);
        }
        command
            .env_clear()
            .env("HOME", &home)
            .env("USER", &self.user)
            .env("LOGNAME", &self.user)
            .env("PATH", SEARCH_PATH)
            .env("SHELL", "/bin/bash")
            .env("LANG", "C.UTF-8")
            .env("TERM", std::env::var_os("TERM").unwrap_or_else(|| "dumb".into()))
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.args(wrapper).args(&self.argv);
        Ok(command)
    }
}

fn outcome(command: String, output: &Output) -> CommandOutcome {
    use std::os::unix::process::ExitStatusExt;
    let code = output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap_or_default());
    CommandOutcome {
        command,
        code,
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Waits until a spawned command ends and collects its output.
///
/// # Errors
/// When the pipes cannot be read.
pub fn finish(child: Child) -> Result<CommandOutcome> {
    let output = child.wait_with_output().with_context(|| "waiting for a command".into())?;
    Ok(outcome("a command started before".into(), &output))
}
