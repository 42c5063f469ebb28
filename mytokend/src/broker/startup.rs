// SPDX-License-Identifier: MIT OR Apache-2.0
//! Starts the broker: configuration, keys, register, connections, signals.

mod error;
mod state;

use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mytoken::config::{FileTrust, Shared};
use mytoken::private_files::{Lock, Owner};
use mytoken::{Deadline, ScheduleClock, SystemClock};
use tokio::net::UnixListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use super::connection_threads::ConnectionThreads;
use super::entrance::{Entrance, EntranceMemory};
use super::identity::attempts::Attempts;
use super::identity::authority::{Authority, read_certificates};
use super::identity::enrolment::Enrolments;
use super::identity::munge::{ConnectionAddress, Munge, SystemResolver};
use super::identity::{BrokerTls, Repin, SiteAuthority};
use super::listening::{Addresses, listen, raise_descriptors};
use super::metrics_port::{self, Source};
use super::revoked::MarksFile;
use super::server::Server;
use super::settings::BrokerSettings;
use super::signals::Signals;
use super::slurmctld::SlurmCommands;
use super::{Broker, Threads, status as status_socket};
use crate::agent::budget::Budgets;
use crate::agent::cluster_keys::ClusterKeys;
use crate::agent::direct::DirectMode;
use crate::agent::runtime_dir::{BudgetFile, lock_directory};
use crate::agent::server_clocks::ServerClocks;
use crate::agent::service_manager::{NotificationFailures, ServiceManager};
use crate::agent::{CountsWriter, startup::keep_counts};
use crate::directories::open_private;
use crate::jobs::keys::PrivateKey;
use crate::jobs::settings::JobsSettings;
use crate::log::{Level, Log};
use crate::privacy;

pub use error::BrokerStartupError;

/// Where the broker keeps the counts of requests, which a restart must not forget and a reboot may.
pub const RUNTIME_DIR: &str = "/run/mytoken-broker";

/// How long the resolver may take for the addresses of a node.
const RESOLVER: Duration = Duration::from_secs(5);

/// Between two looks at the counts, the log and the watchdog.
const LONGEST_TURN: Duration = Duration::from_secs(10);

/// The options of `mytokend broker`.
#[derive(Debug, Clone)]
pub struct BrokerOptions {
    /// Directory of the configuration.
    pub config: PathBuf,
    /// Overrides `broker.listen`.
    pub listen: Option<SocketAddr>,
    /// Overrides `broker.state_dir`.
    pub state_dir: Option<PathBuf>,
    /// Where the counts of requests are kept.
    pub runtime_dir: PathBuf,
    /// Log to standard error.
    pub stderr: bool,
}

/// Runs the broker until SIGTERM or SIGINT.
///
/// # Errors
/// [`BrokerStartupError`], which is also logged.
pub fn run(options: &BrokerOptions) -> Result<(), BrokerStartupError> {
    let log = || {
        let log = if options.stderr { Log::stderr("mytokend") } else { Log::open("mytokend") };
        Arc::new(log.limiting_root())
    };
    match prepare(options, &log()) {
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

/// Reads configuration and keys as the broker does.
///
/// # Errors
/// [`BrokerStartupError`].
pub fn check(options: &BrokerOptions) -> Result<(), BrokerStartupError> {
    privacy::protect();
    let log = Arc::new(Log::stderr("mytokend"));
    let mut configuration = Configuration::new(options.clone(), log);
    let read = configuration.read()?;
    configuration.entrance(&read, Deadline::after(state::PATIENCE)).map(drop)
}

/// Where the configuration is, and what it has been.
struct Configuration {
    options: BrokerOptions,
    /// Who may write the files.
    trust: FileTrust,
    clock: Arc<dyn ScheduleClock>,
    budgets: Arc<Budgets>,
    clocks: Arc<ServerClocks>,
    log: Arc<Log>,
    /// All private keys since the start, the current one last.
    keys: Vec<Arc<PrivateKey>>,
    /// Attempts of addresses outlive a reload.
    attempts: Attempts,
    of_entrance: Arc<EntranceMemory>,
}

/// What the configuration says.
struct Read {
    shared: Shared,
    jobs: JobsSettings,
    service: Arc<DirectMode>,
}

impl Read {
    fn settings(&self) -> &BrokerSettings {
        &self.jobs.broker
    }
}

impl Configuration {
    fn new(options: BrokerOptions, log: Arc<Log>) -> Self {
        let clock: Arc<dyn ScheduleClock> = Arc::new(SystemClock);
        let budgets = Arc::new(Budgets::new(Arc::clone(&clock)).assuming());
        let (clocks, of_entrance, attempts) = (Arc::default(), Arc::default(), Attempts::default());
        let trust = FileTrust::current();
        Self { options, trust, clock, budgets, clocks, log, keys: Vec::new(), attempts, of_entrance }
    }

    fn read(&mut self) -> Result<Read, BrokerStartupError> {
        let trust = self.trust;
        let shared = Shared::load(&self.options.config, trust)?;
        let mut jobs = JobsSettings::load(&self.options.config, trust, &shared)?;
        if !jobs.broker.is_used() {
            return Err(BrokerStartupError::NoNames);
        }
        if let Some(listen) = self.options.listen {
            jobs.broker.listen = listen;
        }
        if let Some(state_dir) = &self.options.state_dir {
            jobs.broker.state_dir.clone_from(state_dir);
        }
        let keys = ClusterKeys::read(&jobs.cluster, trust, &mut self.keys)?;
        for problem in &keys.problems {
            self.log.line(Level::Error, &format!("a further key of the cluster is not used: {problem}"));
        }
        let service = DirectMode::new(&shared, Ok(keys), Arc::clone(&self.clock))?.with(&self.budgets, &self.clocks);
        Ok(Read { shared, jobs, service: Arc::new(service) })
    }

    fn entrance(&self, read: &Read, deadline: Deadline) -> Result<Arc<Entrance>, BrokerStartupError> {
        let (settings, trust) = (read.settings(), self.trust);
        let authority = Arc::new(Authority::load(&settings.ca_key_file, &settings.ca_file, trust)?);
        let clock = &self.clock;
        let (register, codes) = state::of_nodes(&settings.state_dir, clock, deadline)?;
        for unreadable in register.list().unreadable {
            self.log.line(Level::Error, &format!("the register of nodes: {unreadable}"));
        }
        let site = match (&settings.site_ca_file, &settings.site_domain) {
            (Some(file), Some(domain)) => {
                Some(SiteAuthority { certificates: read_certificates(file, trust)?, domain: domain.clone() })
            }
            _ => None,
        };
        let tls = BrokerTls::new(Arc::clone(&authority), settings.hosts(), site, Arc::new(SystemClock))?;
        let enrolments = Enrolments {
            authority,
            register: Arc::new(register),
            cluster: read.jobs.cluster.name.clone(),
            munge: if settings.munge { Some(Munge::usual()?) } else { None },
            resolver: Arc::new(SystemResolver { deadline: RESOLVER }),
            check: if settings.check_address { ConnectionAddress::Checked } else { ConnectionAddress::Ignored },
            repin: if settings.replace_keys { Repin::Allowed } else { Repin::Refused },
            codes,
            attempts: self.attempts.clone(),
            clock: Arc::clone(clock),
        };
        let entrance = Entrance::new(tls, enrolments, Arc::clone(clock), Arc::clone(&self.log));
        Ok(Arc::new(entrance.with(&self.of_entrance)))
    }
}

/// A broker that is ready to serve.
struct Prepared {
    configuration: Configuration,
    broker: Arc<Broker>,
    entrance: watch::Sender<Arc<Entrance>>,
    runtime: Runtime,
    listener: TcpListener,
    addresses: Addresses,
    status_listener: UnixListener,
    signals: Signals,
    /// For `systemctl status`.
    status: String,
    _lock: Lock,
}

fn prepare(options: &BrokerOptions, log: &Arc<Log>) -> Result<Prepared, BrokerStartupError> {
    privacy::protect();
    // The message of a panic could contain a secret, so only its place is printed.
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let _ = writeln!(io::stderr(), "mytokend: internal error at {place}");
    }));
    // Every file gets its mode explicitly. No other user may open it before that.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    let mut configuration = Configuration::new(options.clone(), Arc::clone(log));
    let read = configuration.read()?;
    configuration.budgets.configure(&read.shared)?;
    let owner = Owner::current();
    let runtime_dir = open_private(&options.runtime_dir, owner)?;
    let lock = lock_directory(&runtime_dir, "broker")?;
    keep_counts(&configuration.budgets, BudgetFile::new(runtime_dir, owner), log);
    let deadline = Deadline::after(state::PATIENCE);
    let entrance = configuration.entrance(&read, deadline)?;
    raise_descriptors(log);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(BrokerStartupError::System)?;
    let (listener, status_listener, signals) = {
        let _inside = runtime.enter();
        let signals = Signals::catch().map_err(BrokerStartupError::System)?;
        let address = read.settings().listen;
        let listener = listen(address).and_then(tokio::net::TcpListener::into_std);
        let listener = listener.map_err(|error| BrokerStartupError::Listen { address, error })?;
        let status_listener = status_socket::listen(&options.runtime_dir).map_err(BrokerStartupError::System)?;
        (listener, status_listener, signals)
    };
    let controller = Box::new(SlurmCommands::new(read.jobs.agent.squeue.clone()));
    let broker = Broker::new(read.service, controller, Arc::clone(&configuration.clock), Arc::clone(log));
    broker.configured(Ok(()));
    broker.keep_revocations(MarksFile::new(open_private(&options.runtime_dir, owner)?, owner));
    let (own, settings) = (Arc::clone(&broker), read.jobs.broker.clone());
    state::read(&read.jobs.broker.state_dir, deadline, move || own.open_stores(&settings))?;
    let bound = listener.local_addr().map_err(BrokerStartupError::System)?;
    let addresses = Addresses { listen: read.jobs.broker.listen, bound, metrics: read.jobs.broker.metrics };
    let status = status(&read.jobs.cluster.name, bound, &entrance);
    log.line(Level::Info, &status);
    let entrance = watch::channel(entrance).0;
    Ok(Prepared {
        configuration,
        broker,
        entrance,
        runtime,
        listener,
        addresses,
        status_listener,
        signals,
        status,
        _lock: lock,
    })
}

fn status(cluster: &str, address: SocketAddr, entrance: &Entrance) -> String {
    let nodes = entrance.enrolments().register.list().entries.len();
    format!("broker of the cluster {cluster} at {address}; {nodes} nodes are enrolled")
}

impl Prepared {
    fn serve(self) -> Result<(), BrokerStartupError> {
        let Self {
            mut configuration,
            broker,
            entrance,
            runtime,
            listener,
            addresses,
            status_listener,
            signals,
            mut status,
            _lock,
        } = self;
        let log = Arc::clone(&configuration.log);
        // From here on, a log that hangs must hold up no node.
        let log_writer = log.write_in_background().map_err(BrokerStartupError::System)?;
        let threads = Threads::start(&broker).map_err(BrokerStartupError::System)?;
        let counts = CountsWriter::start(&configuration.budgets).map_err(BrokerStartupError::System)?;
        let manager = ServiceManager::from_environment();
        let mut failures = NotificationFailures::default();
        let mut note = |sent| {
            if let Some(line) = failures.line(sent) {
                log.line(Level::Warning, &line);
            }
        };
        note(manager.ready(&status));
        let (stop, stopped) = watch::channel(());
        let server = Server::new(Arc::clone(&broker), entrance.subscribe());
        let connections = ConnectionThreads::start(&server, &listener, &stopped).map_err(BrokerStartupError::System)?;
        drop(listener);
        runtime.block_on(async {
            let (to_tell, budgets) = (Arc::clone(&broker), Arc::clone(&configuration.budgets));
            if let Some(address) = addresses.metrics {
                let (broker, budgets) = (Arc::clone(&to_tell), Arc::clone(&budgets));
                metrics_port::start(address, Source { broker, entrance: entrance.subscribe(), budgets }, &log);
            }
            tokio::spawn(status_socket::serve(status_listener, to_tell, entrance.subscribe(), budgets));
            let mut turn = tokio::time::interval(manager.interval().unwrap_or(LONGEST_TURN).min(LONGEST_TURN));
            let mut told = None;
            loop {
                tokio::select! {
                    () = signals.end.recv() => break,
                    () = signals.interrupt.recv() => break,
                    () = signals.reload.recv() => {
                        note(manager.reloading());
                        reload(&mut configuration, &broker, &entrance, addresses, &mut status);
                        note(manager.ready(&status));
                    }
                    _ = turn.tick() => {
                        let trouble = configuration.budgets.trouble();
                        if let (Some(trouble), None) = (&trouble, &told) {
                            let text = format!("the counts of requests cannot be kept for the next run: {trouble}");
                            log.line(Level::Error, &text);
                        }
                        told = trouble;
                        broker.tell_unkept_revocations();
                        log.tell_left_out();
                        broker.probe();
                        note(manager.working(Duration::ZERO));
                    }
                }
            }
            note(manager.stopping());
        });
        drop(stop);
        connections.wait();
        runtime.shutdown_timeout(Duration::from_secs(1));
        threads.stop();
        counts.stop();
        log.line(Level::Info, "the broker has stopped");
        log.stop_writing(log_writer);
        Ok(())
    }
}

/// Reads configuration, keys and register again. When they cannot be used, the broker goes on with those that it has.
fn reload(
    configuration: &mut Configuration,
    broker: &Broker,
    entrance: &watch::Sender<Arc<Entrance>>,
    addresses: Addresses,
    text: &mut String,
) {
    let log = Arc::clone(&configuration.log);
    let deadline = Deadline::after(state::PATIENCE);
    let read = configuration.read().and_then(|read| {
        let new = configuration.entrance(&read, deadline)?;
        // Not before: what was read may be refused.
        configuration.budgets.configure(&read.shared)?;
        Ok((new, read))
    });
    match read {
        Ok((new, read)) => {
            addresses.tell_changes(read.settings(), &log);
            *text = status(&read.jobs.cluster.name, addresses.bound, &new);
            broker.configure(read.service);
            broker.reload_escrow(&read.jobs.broker);
            broker.configured(Ok(()));
            entrance.send_replace(new);
            log.line(Level::Info, &format!("reloaded: {text}"));
        }
        Err(error) => {
            *text = format!("goes on with the configuration before the last reload: {error}");
            let line = format!("not reloaded: {error}; the broker goes on with its old configuration");
            log.line(Level::Error, &line);
            broker.configured(Err(error.to_string()));
        }
    }
}

#[cfg(test)]
mod tests;
