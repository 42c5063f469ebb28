// SPDX-License-Identifier: MIT OR Apache-2.0
//! Starts the agent: configuration, keys, socket, signals.

use std::io::{self, Write as _};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mytoken::Deadline;
use mytoken::config::FileTrust;
use mytoken::private_files::{Lock, Owner};
use mytoken_wire::agent::{StatusQuery, ask};
use mytoken_wire::paths::AGENT_SOCKET_NAME;
use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::budget::Budgets;
use super::configuration::{Configuration, Found};
use super::listener::Listener;
use super::process::HostProcesses;
use super::runtime_dir::{AgentLock, BudgetFile, LockError, RuntimeDir};
use super::schedule::CountsWriter;
use super::service_manager::{NotificationFailures, ServiceManager};
use super::{Agent, Threads};
use crate::jobs::SealError;
use crate::log::{Level, Log};
use crate::privacy;

/// After this time, leases that could not be stored are stored again, and the log tells what it left out.
const LONGEST_TURN: Duration = Duration::from_secs(10);

/// How long an agent that runs may take to answer a check.
const ANSWER: Duration = Duration::from_secs(3);

/// The options of `mytokend agent`.
#[derive(Debug, Clone)]
pub struct AgentOptions {
    /// Directory of the configuration.
    pub config: PathBuf,
    /// Path of the socket. `None`: `agent.sock` in the runtime directory.
    pub socket: Option<PathBuf>,
    /// Overrides `agent.runtime_dir`.
    pub runtime_dir: Option<PathBuf>,
    /// Overrides `broker.state_dir`.
    pub state_dir: Option<PathBuf>,
    /// Name of this node in Slurm. `None`: the host's name without its domain.
    pub node: Option<String>,
    /// Log to standard error.
    pub stderr: bool,
}

/// Why the agent did not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum StartupError {
    /// Configuration or runtime directory.
    #[error(transparent)]
    Setup(#[from] mytoken::Error),
    /// The cluster's private key.
    #[error(transparent)]
    Key(#[from] SealError),
    /// The private key, or `jobs.toml`, was there at the start.
    #[error("{0} is gone; put it back, or restart the agent if this host shall serve sessions only")]
    Gone(
        /// Path of the file.
        String,
    ),
    /// The runtime directory is in use.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The socket cannot be made.
    #[error("cannot listen at {path}: {error}")]
    Listen {
        /// Its path.
        path: String,
        /// The system's error.
        error: io::Error,
    },
    /// A thread cannot be started.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    /// The connection to the brokers.
    #[error("{0}")]
    Broker(
        /// A sentence.
        String,
    ),
    /// Signals or the host's name.
    #[error(transparent)]
    System(#[from] Errno),
    /// The socket failed while the agent ran.
    #[error("the socket failed: {0}")]
    Socket(io::Error),
}

mytoken::impl_from_part_errors!(StartupError::Setup: mytoken::config::ConfigError, mytoken::private_files::FileError);

/// Runs the agent until SIGTERM or SIGINT.
///
/// # Errors
/// [`StartupError`], which is also logged.
pub fn run(options: &AgentOptions) -> Result<(), StartupError> {
    let log = || Arc::new(if options.stderr { Log::stderr("mytokend") } else { Log::open("mytokend") });
    match prepare(options, log()) {
        Ok(prepared) => prepared.serve(),
        Err(error) => {
            // The caller prints the error to standard error in any case.
            if !options.stderr {
                log().line(Level::Error, &error.to_string());
            }
            Err(error)
        }
    }
}

/// Reads configuration and keys as the agent does, and as an agent that runs would at a reload.
///
/// # Errors
/// [`StartupError`].
pub fn check(options: &AgentOptions) -> Result<(), StartupError> {
    privacy::protect();
    let log = Arc::new(Log::stderr("mytokend"));
    let found = Configuration::new(options.clone(), log, false)?.read(FileTrust::current())?;
    let Some(missing) = found.missing else { return Ok(()) };
    let socket = options.socket.clone().unwrap_or_else(|| found.runtime_dir.join(AGENT_SOCKET_NAME));
    match ask(&socket, &StatusQuery::default(), Deadline::after(ANSWER)) {
        Ok(status) if !status.keys.is_empty() => Err(StartupError::Gone(missing)),
        _ => Ok(()),
    }
}

/// An agent that is ready to serve.
struct Prepared {
    configuration: Configuration,
    agent: Arc<Agent>,
    listener: Listener,
    socket: PathBuf,
    runtime_dir: PathBuf,
    /// For `systemctl status`.
    status: String,
    _lock: Lock,
}

fn prepare(options: &AgentOptions, log: Arc<Log>) -> Result<Prepared, StartupError> {
    privacy::protect();
    // The message of a panic could contain a secret, so only its place is printed. The agent repeats the task.
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let _ = writeln!(io::stderr(), "mytokend: internal error at {place}");
    }));
    // Blocked before the first thread starts: all threads inherit the mask, and the signals arrive at the descriptor only.
    signals().thread_block()?;
    // Every file gets its mode explicitly. No other user may open it before that.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    let owner = Owner::current();
    let mut configuration = Configuration::new(options.clone(), Arc::clone(&log), true)?;
    let Found { configured, runtime_dir, scope, .. } = configuration.read(FileTrust::current())?;
    let node = configuration.node.clone();
    let clock = Arc::clone(&configuration.clock);
    let opened = RuntimeDir::open(&runtime_dir, owner)?;
    // Before the leases are read, and until this process ends.
    let AgentLock { lock, killed } = opened.lock()?;
    if let Some(pid) = killed {
        let text =
            format!("process {pid} was killed and cannot end, because a file system hangs; this agent takes its place");
        log.line(Level::Warning, &text);
    }
    keep_counts(&configuration.budgets, opened.budget_file()?, &log);
    let agent = Agent::new(node, configured, opened, clock, Box::new(HostProcesses), log)?;
    let socket = options.socket.clone().unwrap_or_else(|| runtime_dir.join(AGENT_SOCKET_NAME));
    let listener = Listener::bind_after(&socket, owner.uid, killed)
        .map_err(|error| StartupError::Listen { path: socket.display().to_string(), error })?;
    let status = format!("node {} serves {scope}", agent.node);
    agent.log.line(Level::Info, &format!("{status} at {}", socket.display()));
    Ok(Prepared { configuration, agent, listener, socket, runtime_dir, status, _lock: lock })
}

/// The signals to which the agent answers.
fn signals() -> SigSet {
    SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP])
}

/// Takes over the counts of requests of an earlier run, and keeps them for the next one.
pub(crate) fn keep_counts(budgets: &Budgets, file: BudgetFile, log: &Log) {
    let before = file.read().map_err(|error| error.to_string());
    let bytes = before.as_ref().ok().and_then(Option::as_ref);
    let restored = budgets.keep_in(Box::new(file), bytes.map(|bytes| bytes.as_slice()));
    let restored = before.as_ref().map(drop).map_err(Clone::clone).and(restored.map_err(|error| error.to_string()));
    if let Err(error) = restored {
        let text = format!(
            "the counts of the requests of the last run cannot be read: {error}; the next answer of the mytoken server tells what is left"
        );
        log.line(Level::Warning, &text);
    }
}

impl Prepared {
    fn serve(mut self) -> Result<(), StartupError> {
        let arrived = SignalFd::with_flags(&signals(), SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let agent = Arc::clone(&self.agent);
        let log_writer = agent.log.write_in_background().map_err(StartupError::Thread)?;
        let threads = Threads::start(&agent).map_err(StartupError::Thread)?;
        let manager = ServiceManager::from_environment();
        let mut failures = NotificationFailures::default();
        let mut log = |sent| {
            if let Some(line) = failures.line(sent) {
                agent.log.line(Level::Warning, &line);
            }
        };
        log(manager.ready(&self.status));
        let (budgets, mut told) = (Arc::clone(&self.configuration.budgets), None);
        let counts = CountsWriter::start(&budgets).map_err(StartupError::Thread)?;
        let longest = manager.interval().unwrap_or(LONGEST_TURN).min(LONGEST_TURN);
        let served = self.listener.serve(&agent, &arrived, Some(longest), |signalled| {
            if signalled {
                while let Ok(Some(signal)) = arrived.read_signal() {
                    if signal.ssi_signo != Signal::SIGHUP as u32 {
                        return ControlFlow::Break(());
                    }
                    log(manager.reloading());
                    reload(&agent, &mut self.configuration, &self.runtime_dir, &mut self.status);
                    log(manager.ready(&self.status));
                }
            }
            agent.store_again();
            let trouble = budgets.trouble();
            if let (Some(trouble), None) = (&trouble, &told) {
                let text = format!("the counts of requests cannot be kept for the next run: {trouble}");
                agent.log.line(Level::Error, &text);
            }
            told = trouble;
            agent.log.tell_left_out();
            log(manager.working(agent.schedule_overdue()));
            ControlFlow::Continue(())
        });
        log(manager.stopping());
        let _ = std::fs::remove_file(&self.socket);
        threads.stop();
        counts.stop();
        agent.log.stop_writing(log_writer);
        served.map_err(StartupError::Socket)
    }
}

/// Reads configuration and keys again. When they cannot be used, the agent goes on with those that it has.
fn reload(agent: &Agent, configuration: &mut Configuration, runtime_dir: &Path, status: &mut String) {
    match configuration.read(FileTrust::current()) {
        Ok(found) => {
            if found.runtime_dir != runtime_dir {
                let text = format!("runtime_dir stays {} until the agent is restarted", runtime_dir.display());
                agent.log.line(Level::Warning, &text);
            }
            agent.configure(found.configured);
            *status = format!("node {} serves {}", agent.node, found.scope);
            agent.log.line(Level::Info, &format!("reloaded: {status}"));
        }
        Err(error) => {
            *status = format!("goes on with the configuration before the last reload: {error}");
            agent.refuse_reload(&error.to_string());
            agent
                .log
                .line(Level::Error, &format!("not reloaded: {error}; the agent goes on with its old configuration"));
        }
    }
}

#[cfg(test)]
mod tests {
    use mytoken_wire::agent::{Answer, Request};

    use super::*;

    #[test]
    fn a_reload_that_was_refused_is_told_to_root_until_one_is_accepted() {
        let dir = tempfile::tempdir().unwrap();
        let (config, file, runtime_dir) =
            (dir.path().to_owned(), dir.path().join("mytoken.toml"), dir.path().join("run"));
        std::fs::write(&file, "").unwrap();
        let node = Some("n1".to_owned());
        let options = AgentOptions { config, socket: None, runtime_dir: None, state_dir: None, node, stderr: false };
        let (log, me) = (Arc::new(Log::stderr("test")), Owner::current());
        let mut configuration = Configuration::new(options, Arc::clone(&log), false).unwrap();
        let configured = configuration.read(FileTrust::user(me.uid)).unwrap().configured;
        let opened = RuntimeDir::open(&runtime_dir, me).unwrap();
        let clock = Arc::clone(&configuration.clock);
        let agent = Agent::new("n1".to_owned(), configured, opened, clock, Box::new(HostProcesses), log).unwrap();
        let told = |trusted: bool| match agent.answer(Request::Status(StatusQuery::default()), me.uid, trusted) {
            Answer::Status(status) => status.refused_reload,
            other => panic!("{other:?}"),
        };
        assert_eq!(told(true), None);
        std::fs::write(&file, "[http]\nproxi = ''").unwrap();
        reload(&agent, &mut configuration, &runtime_dir, &mut String::new());
        let refused = told(true).unwrap();
        assert!(refused.time > 0 && !refused.reason.is_empty(), "{refused:?}");
        assert_eq!(told(false), None, "users cannot mend it");
        std::fs::write(&file, "").unwrap();
        agent.configure(configuration.read(FileTrust::user(me.uid)).unwrap().configured);
        assert_eq!(told(true), None);
    }
}
