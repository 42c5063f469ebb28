// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the configuration files say to the agent: which keys it has, or which brokers it asks.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mytoken::config::{FileTrust, Shared, is_missing};
use mytoken::{ScheduleClock, SystemClock};
use nix::errno::Errno;

use super::broker_connection::BrokerConnection;
use super::brokered::{BrokerMemory, BrokerMode, BrokerPermits, BrokeredJobs};
use super::budget::Budgets;
use super::cluster_keys::{ClusterKeys, NoClusterKey};
use super::credential_service::CredentialService;
use super::direct::DirectMode;
use super::server_clocks::ServerClocks;
use super::slurm::{Controller, Squeue};
use super::startup::{AgentOptions, StartupError};
use super::{Configured, Intervals};
use crate::broker::identity::authority::read_certificates;
use crate::broker::identity::{NodeName, StateDir};
use crate::jobs::agent_settings::AgentSettings;
use crate::jobs::keys::PrivateKey;
use crate::jobs::settings::{ClusterSettings, JobsSettings};
use crate::log::Log;

/// Where the configuration is, and the keys that it has had.
pub(super) struct Configuration {
    pub(super) options: AgentOptions,
    pub(super) clock: Arc<dyn ScheduleClock>,
    pub(super) budgets: Arc<Budgets>,
    clocks: Arc<ServerClocks>,
    /// What brokers have told.
    told_by_brokers: Arc<BrokerMemory>,
    /// All private keys since the start, the current one last.
    pub(super) keys: Vec<Arc<PrivateKey>>,
    /// Name of this node in Slurm.
    pub(super) node: String,
    pub(super) log: Arc<Log>,
    /// Whether to connect to brokers: a check of the configuration does not.
    pub(super) connect: bool,
    /// The jobs of this node get their tokens from brokers.
    asks_brokers: bool,
}

/// What the configuration says.
pub(super) struct Found {
    pub(super) configured: Configured,
    pub(super) runtime_dir: PathBuf,
    /// What the agent serves, in words.
    pub(super) scope: String,
    /// The file without which it serves sessions only.
    pub(super) missing: Option<String>,
}

impl Configuration {
    pub(super) fn new(options: AgentOptions, log: Arc<Log>, connect: bool) -> Result<Self, StartupError> {
        let clock: Arc<dyn ScheduleClock> = Arc::new(SystemClock);
        let node = options.node.clone().map_or_else(host_name, Ok)?;
        let budgets = Arc::new(Budgets::new(Arc::clone(&clock)));
        let (clocks, told_by_brokers, keys) = (Arc::default(), Arc::default(), Vec::new());
        Ok(Self { options, budgets, clocks, told_by_brokers, clock, keys, node, log, connect, asks_brokers: false })
    }

    pub(super) fn read(&mut self, trust: FileTrust) -> Result<Found, StartupError> {
        let shared = Shared::load(&self.options.config, trust)?;
        let jobs = jobs_settings(&shared, &self.options.config, trust)?;
        let brokered = jobs.as_ref().filter(|jobs| jobs.broker.is_used());
        if let Some(jobs) = brokered.filter(|jobs| !is_absent(&jobs.broker.ca_file)) {
            let found = self.brokered(&shared, jobs, trust)?;
            self.asks_brokers = true;
            return Ok(found);
        }
        let (settings, keys) = match jobs {
            // Sessions must not suffer from it.
            Some(settings) if settings.broker.is_used() => {
                let file = settings.broker.ca_file.display().to_string();
                if self.has_jobs() {
                    return Err(StartupError::Gone(file));
                }
                (settings.agent, Err(NoClusterKey::NoKeyFile(file)))
            }
            Some(settings) => (settings.agent, self.keys(&settings.cluster, trust)?),
            None if !self.has_jobs() => (AgentSettings::default(), Err(NoClusterKey::NoJobsToml)),
            // Without it running jobs would lose their tokens.
            None => return Err(StartupError::Gone(self.options.config.join("jobs.toml").display().to_string())),
        };
        let missing = keys.as_ref().err().map(|why| match why {
            NoClusterKey::NoJobsToml => self.options.config.join("jobs.toml").display().to_string(),
            NoClusterKey::NoKeyFile(path) => path.clone(),
            NoClusterKey::Brokers => String::new(),
        });
        let scope = match &keys {
            Err(why) => format!("sessions only: {why}"),
            Ok(keys) => keys.scope(),
        };
        let intervals = intervals(&settings);
        let direct = DirectMode::new(&shared, keys, Arc::clone(&self.clock))?;
        let service = Box::new(direct.with(&self.budgets, &self.clocks));
        let controller = Box::new(Squeue::new(settings.squeue));
        let runtime_dir = self.options.runtime_dir.clone().unwrap_or(settings.runtime_dir);
        // Not before: what was read may be refused.
        self.budgets.configure(&shared)?;
        self.budgets.set_site(None);
        self.asks_brokers = false;
        Ok(Found { configured: Configured { intervals, service, controller }, runtime_dir, scope, missing })
    }

    /// Whether this node has served jobs so far: with keys, or through brokers.
    fn has_jobs(&self) -> bool {
        self.asks_brokers || !self.keys.is_empty()
    }

    /// Broker mode: the cluster's private key is not read, even if it is here.
    fn brokered(&self, shared: &Shared, jobs: &JobsSettings, trust: FileTrust) -> Result<Found, StartupError> {
        let mut settings = jobs.broker.clone();
        if let Some(state_dir) = &self.options.state_dir {
            settings.state_dir.clone_from(state_dir);
        }
        let node = self.node.parse::<NodeName>().map_err(|error| StartupError::Broker(error.to_string()))?;
        let scope = format!("jobs, through the brokers {}, and sessions", settings.names.join(" and "));
        let authority = read_certificates(&settings.ca_file, trust);
        authority.map_err(|error| StartupError::Broker(error.to_string()))?;
        let direct = DirectMode::new(shared, Err(NoClusterKey::Brokers), Arc::clone(&self.clock))?;
        let direct = direct.with(&self.budgets, &self.clocks);
        let squeue = Squeue::new(jobs.agent.squeue.clone());
        let (service, controller): (Box<dyn CredentialService>, Box<dyn Controller>) = if self.connect {
            let files = StateDir::open_or_make(&settings.state_dir)?.node_files(node);
            let cluster = jobs.cluster.name.clone();
            let connection = BrokerConnection::start(settings, cluster, files, trust, Arc::clone(&self.log));
            let connection = Arc::new(connection.map_err(StartupError::Broker)?);
            // Not before: what was read may be refused.
            self.budgets.configure(shared)?;
            self.budgets.set_site(Some(Arc::new(BrokerPermits(Arc::clone(&connection)))));
            let jobs = BrokeredJobs { connection: Arc::clone(&connection), squeue };
            (Box::new(BrokerMode::new(direct, connection, Arc::clone(&self.told_by_brokers))), Box::new(jobs))
        } else {
            (Box::new(direct), Box::new(squeue))
        };
        let runtime_dir = self.options.runtime_dir.clone().unwrap_or_else(|| jobs.agent.runtime_dir.clone());
        let configured = Configured { intervals: intervals(&jobs.agent), service, controller };
        Ok(Found { configured, runtime_dir, scope, missing: None })
    }

    /// The cluster's private keys. A login host has `jobs.toml` for its submissions, but no private key. Any other problem with the
    /// key is that of a node, and the agent does not start, or goes on with what it has.
    fn keys(
        &mut self,
        cluster: &ClusterSettings,
        trust: FileTrust,
    ) -> Result<Result<ClusterKeys, NoClusterKey>, StartupError> {
        let file = &cluster.private_key_file;
        if is_absent(file) {
            let path = file.display().to_string();
            return if !self.has_jobs() {
                Ok(Err(NoClusterKey::NoKeyFile(path)))
            } else {
                Err(StartupError::Gone(path))
            };
        }
        Ok(Ok(ClusterKeys::read(cluster, trust, &mut self.keys)?))
    }
}

fn intervals(settings: &AgentSettings) -> Intervals {
    Intervals {
        start_deadline: settings.start_deadline.get(),
        request_deadline: settings.request_deadline.get(),
        ..Intervals::default()
    }
}

/// `jobs.toml`. A host without Slurm has none, and its agent serves login sessions.
fn jobs_settings(shared: &Shared, dir: &Path, trust: FileTrust) -> Result<Option<JobsSettings>, mytoken::Error> {
    if is_missing(&dir.join("jobs.toml")) {
        return Ok(None);
    }
    JobsSettings::load(dir, trust, shared).map(Some)
}

fn host_name() -> Result<String, Errno> {
    let name = nix::unistd::gethostname()?;
    let name = name.to_string_lossy();
    Ok(name.split('.').next().unwrap_or_default().to_owned())
}

/// Whether there is no file at `path`, not even a link. A directory above it may be away: sessions do not suffer from that.
fn is_absent(path: &Path) -> bool {
    path.symlink_metadata().is_err_and(|error| error.kind() == ErrorKind::NotFound)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use mytoken::private_files::Owner;

    use crate::broker::identity::Authority;
    use crate::control::keygen::keygen;

    const JOBS: &str =
        "[cluster]\nname = 'c'\npublic_key_file = 'DIR/keys/cluster.pub'\nprivate_key_file = 'DIR/keys/cluster.key'\n";

    #[test]
    fn without_the_authority_of_the_brokers_sessions_are_served() {
        let dir = tempfile::tempdir().unwrap();
        let trust = FileTrust::user(Owner::current().uid);
        fs::write(dir.path().join("mytoken.toml"), "").unwrap();
        let brokers = format!("{JOBS}[broker]\nnames = ['b1']\nca_file = 'DIR/ca.pem'\n");
        fs::write(dir.path().join("jobs.toml"), brokers.replace("DIR", &dir.path().display().to_string())).unwrap();
        let config = dir.path().to_owned();
        let options =
            AgentOptions { config, socket: None, runtime_dir: None, state_dir: None, node: None, stderr: false };
        let mut configuration = Configuration::new(options, Arc::new(Log::stderr("test")), false).unwrap();
        let found = configuration.read(trust).unwrap();
        let ca = dir.path().join("ca.pem").display().to_string();
        assert_eq!((found.scope, found.missing), (format!("sessions only: there is no {ca}"), Some(ca.clone())));
        fs::write(&ca, "not a certificate").unwrap();
        let wrong = configuration.read(trust).map(|found| found.scope).unwrap_err().to_string();
        assert!(wrong.starts_with(&ca), "{wrong}");
        // Nor must they suffer from a share that is not mounted.
        let away = dir.path().join("share/ca.pem").display().to_string();
        std::os::unix::fs::symlink("/nonexistent", dir.path().join("share")).unwrap();
        let text = fs::read_to_string(dir.path().join("jobs.toml")).unwrap();
        fs::write(dir.path().join("jobs.toml"), text.replace(&ca, &away)).unwrap();
        assert_eq!(configuration.read(trust).unwrap().missing, Some(away));
    }

    #[test]
    fn a_reload_does_not_take_the_brokers_from_running_jobs() {
        let dir = tempfile::tempdir().unwrap();
        let trust = FileTrust::user(Owner::current().uid);
        let at = |name: &str| dir.path().join(name);
        let directory = mytoken::private_files::Directory::open(dir.path()).unwrap();
        Authority::create(&directory, "c", SystemClock.unix_millis() / 1000).unwrap();
        fs::write(at("mytoken.toml"), "").unwrap();
        let of = |text: &str| text.replace("DIR", &dir.path().display().to_string());
        let brokers = of(&format!("{JOBS}[broker]\nnames = ['b1']\nca_file = 'DIR/broker-ca.pem'\n"));
        fs::write(at("jobs.toml"), &brokers).unwrap();
        let config = dir.path().to_owned();
        let options =
            AgentOptions { config, socket: None, runtime_dir: None, state_dir: None, node: None, stderr: false };
        let mut configuration = Configuration::new(options, Arc::new(Log::stderr("test")), false).unwrap();
        let mut read = || configuration.read(trust).map(|found| found.scope).map_err(|error| error.to_string());
        assert_eq!(read(), Ok("jobs, through the brokers b1, and sessions".to_owned()));
        for gone in ["broker-ca.pem", "jobs.toml"] {
            fs::rename(at(gone), at("aside")).unwrap();
            let told = read().unwrap_err();
            assert!(told.starts_with(&format!("{} is gone; put it back", at(gone).display())), "{told}");
            fs::rename(at("aside"), at(gone)).unwrap();
        }
        // Without brokers, and without the key of direct mode.
        fs::write(at("jobs.toml"), of(JOBS)).unwrap();
        let told = read().unwrap_err();
        assert!(told.starts_with(&format!("{} is gone", at("keys/cluster.key").display())), "{told}");
        keygen(&at("keys"), "").unwrap();
        assert_eq!(read(), Ok("jobs and sessions".to_owned()));
        fs::write(at("jobs.toml"), &brokers).unwrap();
        assert_eq!(read(), Ok("jobs, through the brokers b1, and sessions".to_owned()));
    }

    #[test]
    fn a_reload_keeps_what_servers_and_brokers_have_told_and_a_refused_one_changes_no_limit() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let trust = FileTrust::user(Owner::current().uid);
        let limited = |limit: u32| {
            let server = "[[server]]\nname = 'm'\nurl = 'https://mytoken.example.org'\n";
            fs::write(at("mytoken.toml"), format!("{server}request_limit = {limit}\n")).unwrap();
        };
        limited(100);
        let (config, state_dir) = (dir.path().to_owned(), Some(at("state")));
        let options = AgentOptions { config, socket: None, runtime_dir: None, state_dir, node: None, stderr: false };
        let mut configuration = Configuration::new(options, Arc::new(Log::stderr("test")), true).unwrap();
        configuration.read(trust).unwrap();
        let (now, day) = (SystemClock.elapsed(), std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000));
        let clock = mytoken::http::ServerClock::measure(day, now, now).unwrap();
        configuration.clocks.note("https://mytoken.example.org", clock);
        let at_server = configuration.read(trust).unwrap().configured.service.server_time("m");
        assert!(at_server.is_some_and(|time| time.abs_diff(1_700_000_000) < 60), "{at_server:?}");

        let directory = mytoken::private_files::Directory::open(dir.path()).unwrap();
        Authority::create(&directory, "c", SystemClock.unix_millis() / 1000).unwrap();
        let brokers = format!("{JOBS}[broker]\nnames = ['localhost']\nmunge = false\nca_file = 'DIR/broker-ca.pem'\n");
        fs::write(at("jobs.toml"), brokers.replace("DIR", &dir.path().display().to_string())).unwrap();
        for _ in 0..2 {
            let found = configuration.read(trust).unwrap();
            assert_eq!(Arc::strong_count(&configuration.told_by_brokers), 2, "{} has it", found.scope);
            assert!(found.configured.service.server_time("m").is_some());
        }
        let limit = |configuration: &Configuration| configuration.budgets.status(None).remove(0).requests;
        assert_eq!(limit(&configuration), 100);
        limited(50);
        configuration.options.state_dir = Some(at("jobs.toml"));
        assert!(configuration.read(trust).is_err());
        assert_eq!(limit(&configuration), 100, "of the old configuration");
        configuration.options.state_dir = Some(at("state"));
        configuration.read(trust).unwrap();
        assert_eq!(limit(&configuration), 50);
    }

    #[test]
    fn a_reload_tells_which_keys_are_opened_and_which_files_are_gone() {
        let dir = tempfile::tempdir().unwrap();
        let (jobs, keys) = (dir.path().join("jobs.toml"), dir.path().join("keys"));
        let trust = FileTrust::user(Owner::current().uid);
        let config = dir.path().to_owned();
        let options =
            AgentOptions { config, socket: None, runtime_dir: None, state_dir: None, node: None, stderr: false };
        let log = Arc::new(Log::stderr("test"));
        let mut configuration = Configuration::new(options, log, false).unwrap();
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
