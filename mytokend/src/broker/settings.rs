// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where the brokers are, and what a broker needs.

use std::net::SocketAddr;
use std::path::PathBuf;

use mytoken::config::Mistake;
use serde::Deserialize;

/// Port of a broker whose name has none.
pub const PORT: u16 = 7512;

/// The settings of brokers, and of nodes that ask them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BrokerSettings {
    /// Names of the brokers, with a port if it is not [`PORT`]. Empty: direct mode, each node has the cluster's private key.
    pub names: Vec<String>,
    /// Certificate of the authority that has signed the certificates of brokers and nodes.
    pub ca_file: PathBuf,
    /// Its key, on brokers only.
    pub ca_key_file: PathBuf,
    /// Where a broker listens.
    pub listen: SocketAddr,
    /// Where a broker tells its metrics to Prometheus, without TLS.
    pub metrics: Option<SocketAddr>,
    /// Where a broker keeps which nodes are enrolled, and a node its key.
    pub state_dir: PathBuf,
    /// Brokers keep the sealed credentials of submissions, and jobs bring only handles.
    pub escrow: bool,
    /// Whether nodes enrol by MUNGE. Without it, each needs a one-time code.
    pub munge: bool,
    /// Whether a node that enrols by MUNGE must connect from an address of its name, then and later.
    pub check_address: bool,
    /// Whether a node that enrols by MUNGE may replace the key that it has had.
    pub replace_keys: bool,
    /// Certificates of an authority of the site, whose certificates nodes may have instead.
    pub site_ca_file: Option<PathBuf>,
    /// The DNS domain of the nodes in certificates of that authority.
    pub site_domain: Option<String>,
    /// On a node with a certificate of that authority: the file with it, and those above it.
    pub site_cert_file: Option<PathBuf>,
    /// The private key of this certificate.
    pub site_key_file: Option<PathBuf>,
}

impl Default for BrokerSettings {
    fn default() -> Self {
        Self {
            names: Vec::new(),
            ca_file: PathBuf::from("/etc/mytoken/keys/broker-ca.pem"),
            ca_key_file: PathBuf::from("/etc/mytoken/keys/broker-ca.key"),
            listen: SocketAddr::from(([0; 16], PORT)),
            metrics: None,
            state_dir: PathBuf::from("/var/lib/mytoken"),
            escrow: false,
            munge: true,
            check_address: true,
            replace_keys: false,
            site_ca_file: None,
            site_domain: None,
            site_cert_file: None,
            site_key_file: None,
        }
    }
}

impl BrokerSettings {
    /// Whether nodes ask brokers. If not, each node has the cluster's private key (direct mode).
    #[must_use]
    pub fn is_used(&self) -> bool {
        !self.names.is_empty()
    }

    /// The names, each with its port.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        self.names.iter().map(|name| if has_port(name) { name.clone() } else { format!("{name}:{PORT}") }).collect()
    }

    /// The names without ports: those in a broker's certificate.
    #[must_use]
    pub fn hosts(&self) -> Vec<String> {
        self.names.iter().map(|name| host(name).to_owned()).collect()
    }

    /// Checks what the types cannot express.
    ///
    /// # Errors
    /// [`Mistake`], a sentence that names the key.
    pub fn check(&self) -> Result<(), Mistake> {
        for name in &self.names {
            let port = name.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
            let host = host(name);
            if !is_host(host) || matches!(port, Some(Err(_) | Ok(0))) {
                let problem = format!("broker.names: \"{}\" is not a host's name, or name:port", name.escape_debug());
                return Err(Mistake::of_key("broker.names", problem));
            }
        }
        for (key, path) in [
            ("broker.ca_file", Some(&self.ca_file)),
            ("broker.ca_key_file", Some(&self.ca_key_file)),
            ("broker.state_dir", Some(&self.state_dir)),
            ("broker.site_ca_file", self.site_ca_file.as_ref()),
            ("broker.site_cert_file", self.site_cert_file.as_ref()),
            ("broker.site_key_file", self.site_key_file.as_ref()),
        ] {
            if path.is_some_and(|path| !path.is_absolute()) {
                return Err(Mistake::key_that(key, "is not an absolute path"));
            }
        }
        if self.escrow && !self.is_used() {
            return Err(Mistake::key_that("broker.escrow", "needs brokers: broker.names names none"));
        }
        if self.site_cert_file.is_some() != self.site_key_file.is_some() {
            let problem = "broker.site_cert_file and broker.site_key_file need each other";
            let key = if self.site_cert_file.is_some() { "broker.site_cert_file" } else { "broker.site_key_file" };
            return Err(Mistake::of_key(key, problem));
        }
        match (&self.site_ca_file, &self.site_domain) {
            (Some(_), None) => {
                let predicate = "needs broker.site_domain, the DNS domain of the nodes";
                Err(Mistake::key_that("broker.site_ca_file", predicate))
            }
            (None, Some(_)) => Err(Mistake::key_that("broker.site_domain", "needs broker.site_ca_file")),
            (_, Some(domain)) if !is_host(domain) => {
                let problem = format!("broker.site_domain: \"{}\" is not a DNS domain", domain.escape_debug());
                Err(Mistake::of_key("broker.site_domain", problem))
            }
            _ => Ok(()),
        }
    }
}

fn is_host(name: &str) -> bool {
    (1..=253).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte))
        && !name.starts_with(['-', '.'])
}

fn has_port(name: &str) -> bool {
    name.contains(':')
}

fn host(name: &str) -> &str {
    name.rsplit_once(':').map_or(name, |(host, _)| host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_has_a_name_and_a_port() {
        let of = |names: &[&str]| BrokerSettings {
            names: names.iter().map(ToString::to_string).collect(),
            ..BrokerSettings::default()
        };
        let two = of(&["broker1.cluster", "broker2:8443"]);
        assert_eq!(two.check(), Ok(()));
        assert_eq!(two.addresses(), ["broker1.cluster:7512", "broker2:8443"]);
        assert_eq!(two.hosts(), ["broker1.cluster", "broker2"]);
        for wrong in ["", "a:b", "a:0", "a:70000", "a b", "https://a", "-a", "a/b", ":1"] {
            assert!(of(&[wrong]).check().is_err(), "{wrong}");
        }
        let relative = BrokerSettings { state_dir: "x".into(), ..BrokerSettings::default() };
        assert!(relative.check().is_err_and(|fault| fault.problem.contains("broker.state_dir")));
        let site = |file: Option<&str>, domain: Option<&str>| BrokerSettings {
            site_ca_file: file.map(PathBuf::from),
            site_domain: domain.map(str::to_owned),
            ..BrokerSettings::default()
        };
        assert_eq!(site(Some("/etc/ca.pem"), Some("cluster.example.org")).check(), Ok(()));
        for (file, domain) in [
            (Some("/etc/ca.pem"), None),
            (None, Some("x.org")),
            (Some("ca.pem"), Some("x.org")),
            (Some("/c"), Some("x y")),
        ] {
            assert!(site(file, domain).check().is_err(), "{file:?} {domain:?}");
        }
        let without = BrokerSettings { escrow: true, ..BrokerSettings::default() };
        assert!(without.check().is_err_and(|fault| fault.problem.contains("broker.escrow")));
        let alone = BrokerSettings { site_key_file: Some("/etc/key.pem".into()), ..BrokerSettings::default() };
        assert!(alone.check().is_err_and(|fault| fault.problem.contains("broker.site_cert_file")));
    }
}
