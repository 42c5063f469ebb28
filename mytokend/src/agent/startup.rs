// SPDX-License-Identifier: MIT OR Apache-2.0
//! Starts the agent: configuration, keys, socket, signals.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mytoken::config::{FileTrust, Shared};
use mytoken::private_files::Owner;
use mytoken::{ScheduleClock, SystemClock};
use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::direct::{ClusterKey, DirectMode, NoClusterKey};
use super::listener::Listener;
use super::runtime_dir::RuntimeDir;
use super::slurm::Squeue;
use super::{Agent, Intervals, Threads};
use crate::jobs::SealError;
use crate::jobs::keys::PrivateKey;
use crate::jobs::settings::{AgentSettings, ClusterSettings, JobsSettings};
use crate::log::{Level, Log};
use crate::privacy;

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
        Ok((agent, listener, socket)) => serve(&agent, &listener, &socket),
        Err(error) => {
            // The caller prints the error to standard error in any case.
            if !options.stderr {
                log().line(Level::Error, &error.to_string());
            }
            Err(error)
        }
    }
}

fn prepare(options: &AgentOptions, log: Log) -> Result<(Arc<Agent>, Listener, PathBuf), StartupError> {
    privacy::protect();
    // The message of a panic could contain a secret, so only its place is printed. The agent repeats the task.
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let _ = writeln!(io::stderr(), "mytokend: internal error at {place}");
    }));
    // Every file gets its mode explicitly. No other user may open it before that.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    let owner = Owner::current();
    let trust = FileTrust::current();
    let shared = Shared::load(&options.config, trust)?;
    let (settings, key) = match jobs_settings(&shared, &options.config, trust)? {
        Some(settings) => (settings.agent, cluster_key(&settings.cluster, trust)?),
        None => (AgentSettings::default(), Err(NoClusterKey::NoJobsToml)),
    };
    let scope = key.as_ref().map_or_else(|why| format!("sessions only: {why}"), |_| "jobs and sessions".to_owned());
    let intervals = Intervals {
        start_deadline: settings.start_deadline.get(),
        request_deadline: settings.request_deadline.get(),
        ..Intervals::default()
    };
    let runtime = options.runtime_dir.clone().unwrap_or(settings.runtime_dir);
    let runtime_dir = RuntimeDir::open(&runtime, owner)?;
    let clock: Arc<dyn ScheduleClock> = Arc::new(SystemClock);
    let service = DirectMode::new(&shared, key, Arc::clone(&clock))?;
    let squeue = Squeue::new(settings.squeue);
    let node = options.node.clone().map_or_else(host_name, Ok)?;
    let agent = Agent::new(node, intervals, Box::new(service), Box::new(squeue), runtime_dir, clock, log)?;
    let socket = options.socket.clone().unwrap_or_else(|| runtime.join("agent.sock"));
    let listener = Listener::bind(&socket, owner.uid)
        .map_err(|error| StartupError::Listen { path: socket.display().to_string(), error })?;
    agent.log.line(Level::Info, &format!("node {} serves {scope} at {}", agent.node, socket.display()));
    Ok((agent, listener, socket))
}

fn serve(agent: &Arc<Agent>, listener: &Listener, socket: &Path) -> Result<(), StartupError> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    // Blocked before the first thread starts: all threads inherit the mask, and the signals arrive at the descriptor only.
    let mut blocked = signals;
    blocked.add(Signal::SIGHUP);
    blocked.thread_block()?;
    let stop = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    let threads = Threads::start(agent).map_err(StartupError::Thread)?;
    let served = listener.serve(agent, &stop);
    let _ = fs::remove_file(socket);
    threads.stop();
    agent.log.line(Level::Info, "stopped; the leases are stored for the next start");
    served.map_err(StartupError::Socket)
}

/// The cluster's private key. A login host has `jobs.toml` for its submissions, but no private key file. With any other problem of the
/// key the agent does not start.
fn cluster_key(cluster: &ClusterSettings, trust: FileTrust) -> Result<Result<ClusterKey, NoClusterKey>, SealError> {
    let file = &cluster.private_key_file;
    if is_missing(file) {
        return Ok(Err(NoClusterKey::NoKeyFile(file.display().to_string())));
    }
    let key = PrivateKey::load(file, trust)?;
    Ok(Ok(ClusterKey { cluster: cluster.name.clone(), key }))
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
