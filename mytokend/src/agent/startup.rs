// SPDX-License-Identifier: MIT OR Apache-2.0
//! Starts the agent: configuration, keys, socket, signals.

use std::fs;
use std::io::{self, Write as _};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mytoken::config::{FileTrust, Shared};
use mytoken::private_files::{Lock, Owner};
use mytoken::{Deadline, ScheduleClock, SystemClock};
use mytoken_wire::agent::{StatusQuery, ask};
use mytoken_wire::paths::AGENT_SOCKET_NAME;
use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::budget::Budgets;
use super::direct::{ClusterKeys, DirectMode, NoClusterKey};
use super::listener::Listener;
use super::runtime_dir::{LockError, RuntimeDir};
use super::schedule::CountsWriter;
use super::service_manager::{NotificationFailures, ServiceManager};
use super::slurm::Squeue;
use super::{Agent, Configured, Intervals, Threads};
use crate::jobs::SealError;
use crate::jobs::agent_settings::AgentSettings;
use crate::jobs::keys::PrivateKey;
use crate::jobs::settings::{ClusterSettings, JobsSettings};
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
    let log = || if options.stderr { Log::stderr("mytokend") } else { Log::open("mytokend") };
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
    let found = Configuration::new(options.clone()).read(FileTrust::current())?;
    let Some(missing) = found.missing else { return Ok(()) };
    let socket = options.socket.clone().unwrap_or_else(|| found.runtime_dir.join(AGENT_SOCKET_NAME));
    match ask(&socket, &StatusQuery::default(), Deadline::after(ANSWER)) {
        Ok(status) if !status.keys.is_empty() => Err(StartupError::Gone(missing)),
        _ => Ok(()),
    }
}

/// Where the configuration is, and the keys that it has had.
struct Configuration {
    options: AgentOptions,
    clock: Arc<dyn ScheduleClock>,
    budgets: Arc<Budgets>,
    /// All private keys since the start, the current one last.
    keys: Vec<Arc<PrivateKey>>,
}

/// What the configuration says.
struct Found {
    configured: Configured,
    runtime_dir: PathBuf,
    /// What the agent serves, in words.
    scope: String,
    /// The file without which it serves sessions only.
    missing: Option<String>,
}

impl Configuration {
    fn new(options: AgentOptions) -> Self {
        let clock: Arc<dyn ScheduleClock> = Arc::new(SystemClock);
        Self { options, budgets: Arc::new(Budgets::new(Arc::clone(&clock))), clock, keys: Vec::new() }
    }

    fn read(&mut self, trust: FileTrust) -> Result<Found, StartupError> {
        let shared = Shared::load(&self.options.config, trust)?;
        let (settings, keys) = match jobs_settings(&shared, &self.options.config, trust)? {
            Some(settings) => (settings.agent, self.keys(&settings.cluster, trust)?),
            None if self.keys.is_empty() => (AgentSettings::default(), Err(NoClusterKey::NoJobsToml)),
            // Without it running jobs would lose their tokens.
            None => return Err(StartupError::Gone(self.options.config.join("jobs.toml").display().to_string())),
        };
        let missing = keys.as_ref().err().map(|why| match why {
            NoClusterKey::NoJobsToml => self.options.config.join("jobs.toml").display().to_string(),
            NoClusterKey::NoKeyFile(path) => path.clone(),
        });
        let scope = match &keys {
            Err(why) => format!("sessions only: {why}"),
            Ok(ClusterKeys { earlier, .. }) if earlier.is_empty() => "jobs and sessions".to_owned(),
            Ok(ClusterKeys { earlier, .. }) => {
                let ids: Vec<&str> = earlier.iter().map(|key| key.id()).collect();
                format!("jobs and sessions, until a restart also jobs of the replaced key {}", ids.join(", "))
            }
        };
        let intervals = Intervals {
            start_deadline: settings.start_deadline.get(),
            request_deadline: settings.request_deadline.get(),
            ..Intervals::default()
        };
        let service =
            Box::new(DirectMode::new(&shared, keys, Arc::clone(&self.clock))?.with_budgets(&self.budgets, &shared)?);
        let controller = Box::new(Squeue::new(settings.squeue));
        let runtime_dir = self.options.runtime_dir.clone().unwrap_or(settings.runtime_dir);
        Ok(Found { configured: Configured { intervals, service, controller }, runtime_dir, scope, missing })
    }

    /// The cluster's private keys. A login host has `jobs.toml` for its submissions, but no private key. Any other problem with the
    /// key is that of a node, and the agent does not start, or goes on with what it has.
    fn keys(
        &mut self,
        cluster: &ClusterSettings,
        trust: FileTrust,
    ) -> Result<Result<ClusterKeys, NoClusterKey>, StartupError> {
        let file = &cluster.private_key_file;
        if is_missing(file) {
            let path = file.display().to_string();
            return if self.keys.is_empty() {
                Ok(Err(NoClusterKey::NoKeyFile(path)))
            } else {
                Err(StartupError::Gone(path))
            };
        }
        let current = Arc::new(PrivateKey::load(file, trust)?);
        self.keys.retain(|key| key.id() != current.id());
        let earlier = self.keys.clone();
        self.keys.push(Arc::clone(&current));
        Ok(Ok(ClusterKeys { cluster: cluster.name.clone(), current, earlier }))
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

fn prepare(options: &AgentOptions, log: Log) -> Result<Prepared, StartupError> {
    privacy::protect();
    // The message of a panic could contain a secret, so only its place is printed. The agent repeats the task.
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let _ = writeln!(io::stderr(), "mytokend: internal error at {place}");
    }));
    // Every file gets its mode explicitly. No other user may open it before that.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    let owner = Owner::current();
    let mut configuration = Configuration::new(options.clone());
    let Found { configured, runtime_dir, scope, .. } = configuration.read(FileTrust::current())?;
    let node = options.node.clone().map_or_else(host_name, Ok)?;
    let clock = Arc::clone(&configuration.clock);
    let opened = RuntimeDir::open(&runtime_dir, owner)?;
    // Before the leases are read, and until this process ends.
    let lock = opened.lock()?;
    keep_counts(&configuration.budgets, &opened, &log)?;
    let agent = Agent::new(node, configured, opened, clock, log)?;
    let socket = options.socket.clone().unwrap_or_else(|| runtime_dir.join(AGENT_SOCKET_NAME));
    let listener = Listener::bind(&socket, owner.uid)
        .map_err(|error| StartupError::Listen { path: socket.display().to_string(), error })?;
    let status = format!("node {} serves {scope}", agent.node);
    agent.log.line(Level::Info, &format!("{status} at {}", socket.display()));
    Ok(Prepared { configuration, agent, listener, socket, runtime_dir, status, _lock: lock })
}

/// Takes over the counts of requests of an earlier run, and keeps them for the next one.
fn keep_counts(budgets: &Budgets, runtime_dir: &RuntimeDir, log: &Log) -> Result<(), StartupError> {
    let file = runtime_dir.budget_file()?;
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
    Ok(())
}

impl Prepared {
    fn serve(mut self) -> Result<(), StartupError> {
        let mut signals = SigSet::empty();
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
            signals.add(signal);
        }
        // Blocked before the first thread starts: all threads inherit the mask, and the signals arrive at the descriptor only.
        signals.thread_block()?;
        let arrived = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
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
        let _ = fs::remove_file(&self.socket);
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
            agent
                .log
                .line(Level::Error, &format!("not reloaded: {error}; the agent goes on with its old configuration"));
        }
    }
}

/// `jobs.toml`. A host without Slurm has none, and its agent serves login sessions.
fn jobs_settings(shared: &Shared, dir: &Path, trust: FileTrust) -> Result<Option<JobsSettings>, mytoken::Error> {
    if is_missing(&dir.join("jobs.toml")) {
        return Ok(None);
    }
    JobsSettings::load(dir, trust, shared).map(Some)
}

/// Whether there is no file at `path`, not even a symbolic link.
fn is_missing(path: &Path) -> bool {
    matches!(fs::symlink_metadata(path), Err(error) if error.kind() == io::ErrorKind::NotFound)
}

fn host_name() -> Result<String, Errno> {
    let name = nix::unistd::gethostname()?;
    let name = name.to_string_lossy();
    Ok(name.split('.').next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::keygen::keygen;

    const JOBS: &str =
        "[cluster]\nname = 'c'\npublic_key_file = 'DIR/keys/cluster.pub'\nprivate_key_file = 'DIR/keys/cluster.key'\n";

    #[test]
    fn a_reload_tells_which_keys_are_opened_and_which_files_are_gone() {
        let dir = tempfile::tempdir().unwrap();
        let (jobs, keys) = (dir.path().join("jobs.toml"), dir.path().join("keys"));
        let trust = FileTrust::user(Owner::current().uid);
        let (config, socket, runtime_dir, node) = (dir.path().to_owned(), None, None, None);
        let options = AgentOptions { config, socket, runtime_dir, node, stderr: false };
        let mut configuration = Configuration::new(options);
        let mut read = || configuration.read(trust).map(|found| found.scope).map_err(|error| error.to_string());
        fs::write(dir.path().join("mytoken.toml"), "").unwrap();
        assert_eq!(read(), Ok("sessions only: there is no jobs.toml".to_owned()));
        fs::write(&jobs, JOBS.replace("DIR", &dir.path().display().to_string())).unwrap();
        let first = keygen(&keys, "").unwrap();
        assert_eq!(read(), Ok("jobs and sessions".to_owned()));
        fs::rename(&keys, dir.path().join("earlier")).unwrap();
        keygen(&keys, "").unwrap();
        let both = format!("jobs and sessions, until a restart also jobs of the replaced key {first}");
        assert_eq!(read(), Ok(both.clone()));
        for gone in [&jobs, &keys.join("cluster.key")] {
            let aside = dir.path().join("aside");
            fs::rename(gone, &aside).unwrap();
            let told = read().unwrap_err();
            assert!(told.starts_with(&format!("{} is gone; put it back", gone.display())), "{told}");
            fs::rename(&aside, gone).unwrap();
            assert_eq!(read(), Ok(both.clone()));
        }
    }
}
