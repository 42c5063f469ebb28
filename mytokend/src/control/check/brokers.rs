// SPDX-License-Identifier: MIT OR Apache-2.0
//! The findings of `mytokenctl check` about brokers: the authority's files on a broker, the enrolment of a node, and whether brokers answer.

mod enrolment;
mod escrow;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mytoken::config::FileTrust;
use mytoken::private_files::Owner;
use mytoken::time_format::utc_minute;
use mytoken::{Clock as _, Deadline, SystemClock};
use nix::unistd::gethostname;
use rustls::ClientConfig;
use rustls_pki_types::CertificateDer;

use super::configuration::{exists, word};
use super::{Findings, kinds_broker as kinds, running};
use crate::agent::process;
use crate::broker::client::ClientError;
use crate::broker::identity::NodeName;
use crate::broker::identity::authority::{Authority, read_certificates};
use crate::broker::identity::enrol_client::EnrolClient;
use crate::broker::identity::munge::SystemResolver;
use crate::broker::identity::node_files::client_config;
use crate::broker::settings::BrokerSettings;
use crate::broker::startup::RUNTIME_DIR;
use crate::broker::status::BrokerStatus;
use crate::control::broker_status::{self, NoStatus};
use crate::jobs::further_keys;
use crate::jobs::settings::JobsSettings;

/// Time limit for one broker, and for one question to the resolver.
const BROKER: Duration = Duration::from_secs(5);

/// Seconds of a day.
const DAY: u64 = 86_400;

/// An authority's certificate that ends within this time is told, in seconds.
const AUTHORITY_LEFT: u64 = 90 * DAY;

/// Most nodes of a cluster without brokers.
pub(super) const MOST_DIRECT: u64 = 16;

/// What is seen of this host.
struct Seen {
    /// One of the names of brokers is this host's name.
    has_name: bool,
    /// One of the names of brokers leads to an address of this host.
    has_address: bool,
    /// Whether slurmd runs here.
    slurmd: bool,
    /// Its name in Slurm.
    node: Option<NodeName>,
    /// Whether root checks. Others read no key.
    root: bool,
    /// Whether systemd runs services here.
    systemd: bool,
    /// Unix seconds.
    now: u64,
}

/// What this host can ask.
trait Network {
    fn addresses(&self, host: &str) -> io::Result<Vec<IpAddr>>;
    fn is_known_at(&self, broker: &str, tls: ClientConfig) -> Result<bool, ClientError>;
    /// The status of the broker on this host.
    fn status(&self) -> Result<BrokerStatus, NoStatus>;
}

struct ThisNetwork;

impl Network for ThisNetwork {
    fn addresses(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        SystemResolver { deadline: BROKER }.lookup(host)
    }

    fn is_known_at(&self, broker: &str, tls: ClientConfig) -> Result<bool, ClientError> {
        EnrolClient::is_known_at(broker, tls, Deadline::after(BROKER))
    }

    fn status(&self) -> Result<BrokerStatus, NoStatus> {
        broker_status::ask(Path::new(RUNTIME_DIR))
    }
}

/// How a node shows brokers who it is.
enum Shown {
    /// With a certificate.
    Certificate(ClientConfig),
    /// Not at all.
    Nothing(ClientConfig),
}

impl Findings {
    /// Checks brokers and enrolment, if brokers are named. A host that is neither a broker nor a node has nothing to do with them.
    pub(super) fn brokers(&mut self, jobs: &JobsSettings, trust: FileTrust) {
        if !jobs.broker.is_used() {
            return;
        }
        let name = gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let hosts = jobs.broker.hosts();
        // Asked only where it decides: resolvers can be slow.
        let has_key = exists(&jobs.broker.ca_key_file);
        let is_own =
            |host: &String| ThisNetwork.addresses(host).is_ok_and(|found| found.into_iter().any(is_of_this_host));
        let seen = Seen {
            has_name: hosts.iter().any(|host| is_name(host, &name)),
            has_address: has_key && hosts.iter().any(is_own),
            slurmd: !process::named("slurmd").is_empty(),
            node: NodeName::of_this_host().ok(),
            root: Owner::current().uid == 0,
            systemd: running::has_systemd(),
            now: SystemClock.now(),
        };
        self.brokers_seen(jobs, &seen, trust, &ThisNetwork);
    }

    fn brokers_seen(&mut self, jobs: &JobsSettings, seen: &Seen, trust: FileTrust, network: &dyn Network) {
        let settings = &jobs.broker;
        let before = self.problems().count();
        let has_key = exists(&settings.ca_key_file);
        let is_broker = seen.has_name || (has_key && seen.has_address);
        if has_key && !is_broker {
            let key = settings.ca_key_file.display();
            let text = format!(
                "{key} is the key of the brokers' authority, and broker.names does not name this host: whoever has it can pass for any node"
            );
            let fix = format!(
                "mv {} /root/   # delete it there if a broker has it; or add this host to broker.names",
                word(&key.to_string())
            );
            self.add_fixed(kinds::AUTHORITY_ELSEWHERE, text, fix);
        }
        if is_broker {
            self.broker_files(jobs, seen, trust);
            // Only root can ask it.
            if seen.root {
                self.running_broker(jobs, &network.status(), seen.systemd, trust);
                if settings.escrow {
                    self.escrow_directory(settings);
                }
            }
        } else {
            for key in further_keys::all_files(&jobs.cluster.private_key_file) {
                let text = format!("{} opens the credentials of all jobs, and only brokers need it", key.display());
                let key = word(&key.to_string_lossy());
                // It may be the only copy.
                let fix = format!(
                    "mv {key} /root/   # delete it there when each broker's `mytokenctl broker status` has its id"
                );
                self.add_fixed(kinds::KEY_ON_NODE, text, fix);
            }
        }
        if !is_broker && !seen.slurmd {
            return self.other_host(settings, seen, trust, network);
        }
        let Some(authority) = self.authority_certificates(settings, trust, is_broker) else { return };
        let shown = if is_broker && !seen.slurmd {
            client_config(&authority, None, Arc::new(SystemClock)).ok().map(Shown::Nothing)
        } else {
            self.enrolment(settings, seen, &authority, trust)
        };
        let Some(shown) = shown else { return };
        let answered = self.each_broker(settings, &shown, network);
        if self.problems().count() == before {
            let role = if is_broker { "this host is a broker" } else { "this node is enrolled" };
            self.ok(PART, format!("{role}, {} of {} brokers answer", answered, settings.names.len()));
        }
    }

    /// The authority's files and the cluster's key on a broker.
    fn broker_files(&mut self, jobs: &JobsSettings, seen: &Seen, trust: FileTrust) {
        let (key, certificate) = (&jobs.broker.ca_key_file, &jobs.broker.ca_file);
        let private = jobs.cluster.private_key_file.display();
        if !exists(&jobs.cluster.private_key_file) {
            let text = format!("this host is a broker, and there is no {private}: no job gets a token from it");
            let fix =
                format!("scp -p HOST:{private} {private}   # HOST: another broker, or where mytokenctl keygen ran");
            self.add_fixed(kinds::WITHOUT_KEY, text, fix);
        }
        if !seen.root {
            return;
        }
        match Authority::load(key, certificate, trust) {
            Err(error) if !exists(key) && !exists(certificate) => self.add_kind(kinds::AUTHORITY, error.to_string()),
            Err(error) => {
                let file = if exists(key) && !exists(certificate) { certificate } else { key };
                self.add_fixed(kinds::AUTHORITY, error.to_string(), name_files(&[file, certificate]));
            }
            Ok(authority) if authority.ends() < seen.now.saturating_add(AUTHORITY_LEFT) => {
                let text = format!(
                    "the certificate of the brokers' authority ends {}: after that no node reaches a broker",
                    utc_minute(authority.ends())
                );
                self.add_kind(kinds::AUTHORITY_ENDS, text);
            }
            Ok(_) => {}
        }
    }

    /// What brokers are trusted by.
    fn authority_certificates(
        &mut self,
        settings: &BrokerSettings,
        trust: FileTrust,
        is_broker: bool,
    ) -> Option<Vec<CertificateDer<'static>>> {
        let file = &settings.ca_file;
        match read_certificates(file, trust) {
            Ok(certificates) => return Some(certificates),
            // On a broker this is told with its key.
            Err(_) if is_broker => {}
            Err(error) if exists(file) => self.add_fixed(kinds::CA_FILE, error.to_string(), name_files(&[file])),
            Err(error) => {
                let path = word(&file.to_string_lossy());
                self.add_fixed(kinds::CA_FILE, error.to_string(), format!("scp -p BROKER:{path} {path}"));
            }
        }
        None
    }

    /// Asks each broker. Returns how many answer.
    fn each_broker(&mut self, settings: &BrokerSettings, shown: &Shown, network: &dyn Network) -> usize {
        let (mut away, mut unknown, mut answered, mut known) = (Vec::new(), Vec::new(), 0, 0);
        for (host, broker) in settings.hosts().iter().zip(settings.addresses()) {
            match network.addresses(host).map(|found| found.len()) {
                Ok(1..) => {}
                Ok(0) => {
                    self.broker_name(host, "it has no address");
                    continue;
                }
                Err(error) => {
                    self.broker_name(host, &error.to_string());
                    continue;
                }
            }
            let (Shown::Certificate(tls) | Shown::Nothing(tls)) = shown;
            match network.is_known_at(&broker, tls.clone()) {
                Ok(true) => known += 1,
                Ok(false) => unknown.push(broker),
                // It answers. What is wrong there is told there.
                Err(ClientError::Refused { .. }) => answered += 1,
                Err(ClientError::Unreachable { reason, .. }) => {
                    let text = format!("no safe connection to the broker {broker}: {reason}");
                    away.push((broker, text));
                }
                Err(error) => away.push((broker, error.to_string())),
            }
        }
        answered += known + unknown.len();
        let kind = if answered == 0 { kinds::ALL_UNREACHABLE } else { kinds::UNREACHABLE };
        for (broker, text) in away {
            let fix = format!(
                "openssl s_client -connect {broker} </dev/null   # does mytokend broker run there, and may this host connect?"
            );
            self.add_fixed(kind, text, fix);
        }
        if matches!(shown, Shown::Certificate(_)) {
            for broker in unknown {
                let text = format!("the broker {broker} does not know this node, which has a certificate");
                match known {
                    0 => self.add_kind(kinds::NOT_ENROLLED, text),
                    // By MUNGE, the agent enrols when it needs this broker.
                    _ if settings.munge => {}
                    _ => self.add_kind(kinds::UNKNOWN_NODE, text),
                }
            }
        }
        answered
    }

    fn broker_name(&mut self, host: &str, reason: &str) {
        let text = format!("the broker {host} of jobs.toml cannot be looked up: {reason}");
        self.add_fixed(kinds::NAME, text, format!("getent ahosts {}", word(host)));
    }

    /// Checks that a cluster without brokers is small. `nodes`: how many it has.
    pub(super) fn direct_mode(&mut self, settings: &BrokerSettings, nodes: u64) {
        if settings.is_used() || nodes <= MOST_DIRECT {
            return;
        }
        let text = format!(
            "the cluster has {nodes} nodes and no broker: each node has the cluster's private key, and sends requests of its own; without brokers \
             it should have at most {MOST_DIRECT}"
        );
        self.add_kind(kinds::DIRECT_MODE, text);
    }
}

const PART: &str = "brokers";

/// Shows who may change files.
fn name_files(files: &[&Path]) -> String {
    let words: Vec<String> = files.iter().map(|file| word(&file.to_string_lossy())).collect();
    format!("namei -l {}", words.join(" "))
}

/// Whether `name`, the host's own name, is that of a broker. Hosts have it with or without their domain.
fn is_name(broker: &str, name: &str) -> bool {
    let label = |name: &str| name.split('.').next().unwrap_or_default().to_ascii_lowercase();
    let whole = broker.contains('.') && name.contains('.');
    let is_address = broker.parse::<IpAddr>().is_ok();
    !name.is_empty()
        && if whole || is_address { broker.eq_ignore_ascii_case(name) } else { label(broker) == label(name) }
}

/// Whether an address is this host's: only then can a socket have it.
fn is_of_this_host(address: IpAddr) -> bool {
    UdpSocket::bind(SocketAddr::new(address, 0)).is_ok()
}
