// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytokend agent`: from the command line to the running agent.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mytoken::config::{FileTrust, Shared};
use mytoken::files::Owner;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::direct::{ClusterKey, Direct};
use super::listener::Listener;
use super::places::Places;
use super::slurm::Squeue;
use super::{Agent, Threads, Times};
use crate::jobs::keys::PrivateKey;
use crate::jobs::settings::{Agent as Section, Cluster, Settings};
use crate::log::{Level, Log};
use crate::privacy;

/// What the command line says.
#[derive(Debug, Clone)]
pub struct Options {
    /// Directory of the configuration.
    pub config: PathBuf,
    /// The socket; `None`: `agent.sock` in the runtime directory.
    pub socket: Option<PathBuf>,
    /// In place of `agent.runtime_dir`.
    pub runtime_dir: Option<PathBuf>,
    /// Name of this node in Slurm; `None`: the host's name without its domain.
    pub node: Option<String>,
    /// Log to the standard error output.
    pub stderr: bool,
}

/// Runs the agent until SIGTERM or SIGINT.
///
/// # Errors
/// A sentence for the administrator: nothing was started, or the socket failed.
pub fn run(options: &Options) -> Result<(), String> {
    let log = || if options.stderr { Log::stderr("mytokend") } else { Log::open("mytokend") };
    match prepare(options, log()) {
        Ok((agent, listener, socket)) => serve(&agent, &listener, &socket),
        // The caller tells it on the standard error output.
        Err(error) if options.stderr => Err(error),
        Err(error) => {
            log().line(Level::Error, &error);
            Err(error)
        }
    }
}

fn prepare(options: &Options, log: Log) -> Result<(Arc<Agent>, Listener, PathBuf), String> {
    privacy::protect();
    // A panic's text could hold anything. Where it happened is enough; the work is tried again.
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let _ = writeln!(std::io::stderr(), "mytokend: internal error at {place}");
    }));
    // The socket and everything else gets its mode explicitly; until then it is for nobody else.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    let me = Owner::current();
    let text = |error: mytoken::Error| error.to_string();
    let trust = FileTrust::current();
    let shared = Shared::load(&options.config, trust).map_err(text)?;
    let settings = jobs_settings(&shared, &options.config, trust)?;
    let (section, cluster) = match settings {
        Some(settings) => (settings.agent, cluster_key(&settings.cluster, trust)?),
        None => (Section::default(), Err("there is no jobs.toml".to_owned())),
    };
    let scope = cluster.as_ref().map_or_else(|why| format!("sessions only: {why}"), |_| "jobs and sessions".to_owned());
    let times =
        Times { start: section.start_deadline.get(), request: section.request_deadline.get(), ..Times::default() };
    let runtime = options.runtime_dir.clone().unwrap_or(section.runtime_dir);
    let places = Places::open(&runtime, me).map_err(text)?;
    let authority = Direct::new(&shared, cluster).map_err(text)?;
    let squeue = Squeue::find(section.squeue);
    let node = options.node.clone().map_or_else(host, Ok)?;
    let agent = Agent::new(node, times, Box::new(authority), Box::new(squeue), places, log).map_err(text)?;
    let socket = options.socket.clone().unwrap_or_else(|| runtime.join("agent.sock"));
    let listener =
        Listener::bind(&socket, me.uid).map_err(|error| format!("cannot listen at {}: {error}", socket.display()))?;
    agent.log.line(Level::Info, &format!("node {} serves {scope} at {}", agent.node, socket.display()));
    Ok((agent, listener, socket))
}

fn serve(agent: &Arc<Agent>, listener: &Listener, socket: &Path) -> Result<(), String> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    // Blocked before the first thread starts, so that all threads inherit it and only the descriptor hears them.
    let mut blocked = signals;
    blocked.add(Signal::SIGHUP);
    blocked.thread_block().map_err(|errno| errno.to_string())?;
    let stop = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .map_err(|errno| errno.to_string())?;
    let threads = Threads::start(agent).map_err(|error| format!("cannot start a thread: {error}"))?;
    let served = listener.serve(agent, &stop);
    let _ = fs::remove_file(socket);
    threads.stop();
    agent.log.line(Level::Info, "ends; the state stays for the next start");
    served.map_err(|error| format!("the socket failed: {error}"))
}

/// The cluster's private key. A login host has `jobs.toml` for its submissions, but not this key; any other trouble with it is one of a
/// node, and there the agent does not start without.
fn cluster_key(cluster: &Cluster, trust: FileTrust) -> Result<Result<ClusterKey, String>, String> {
    let file = &cluster.private_key_file;
    match fs::symlink_metadata(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Ok(Err(format!("there is no {}", file.display())))
        }
        _ => {
            let key = PrivateKey::load(file, trust).map_err(|error| error.to_string())?;
            Ok(Ok(ClusterKey { name: cluster.name.clone(), key }))
        }
    }
}

/// A host without Slurm has no `jobs.toml`, and its agent serves login sessions.
fn jobs_settings(shared: &Shared, dir: &Path, trust: FileTrust) -> Result<Option<Settings>, String> {
    match fs::symlink_metadata(dir.join("jobs.toml")) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        _ => Settings::load(dir, trust, shared).map(Some).map_err(|error| error.to_string()),
    }
}

fn host() -> Result<String, String> {
    let name = nix::unistd::gethostname().map_err(|errno| errno.to_string())?;
    let name = name.to_string_lossy();
    Ok(name.split('.').next().unwrap_or_default().to_owned())
}
