// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytokenctl broker-ca`: the authority that signs the certificates of brokers and nodes.

use std::path::{Path, PathBuf};

use mytoken::config::FileTrust;
use mytoken::private_files::Owner;

use crate::broker::identity::authority::{Authority, CERTIFICATE, KEY};
use crate::broker::settings::BrokerSettings;
use crate::directories::open_or_make;
use crate::jobs::settings::JobsSettings;

/// The authority that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// Its private key.
    pub key: PathBuf,
    /// Its certificate.
    pub certificate: PathBuf,
    /// What jobs.toml must say for these two files. Empty: it does.
    pub missing: Vec<String>,
}

/// Makes the authority of the cluster in jobs.toml below `config`: two files in `dir`, by default in the directory of `broker.ca_key_file`.
/// Missing directories are made as by keygen. `now` is Unix seconds.
///
/// # Errors
/// A sentence.
pub fn make(config: &Path, trust: FileTrust, dir: Option<&Path>, now: u64) -> Result<Made, String> {
    let jobs = JobsSettings::load_alone(config, trust).map_err(|error| error.to_string())?;
    let dir = dir.or_else(|| jobs.broker.ca_key_file.parent()).unwrap_or(Path::new("/"));
    let directory = open_or_make(dir, Owner::current()).map_err(|error| error.to_string())?;
    Authority::create(&directory, &jobs.cluster.name, now).map_err(|error| error.to_string())?;
    let (key, certificate) = (dir.join(KEY), dir.join(CERTIFICATE));
    let missing = missing(&jobs.broker, &key, &certificate);
    Ok(Made { key, certificate, missing })
}

fn missing(settings: &BrokerSettings, key: &Path, certificate: &Path) -> Vec<String> {
    [("ca_key_file", &settings.ca_key_file, key), ("ca_file", &settings.ca_file, certificate)]
        .into_iter()
        .filter(|(_, configured, made)| configured != made)
        .map(|(name, _, made)| format!("{name} = \"{}\"", made.display()))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn config(broker: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let jobs =
            format!("[cluster]\nname = 'hpc'\n[broker]\n{}", broker.replace("DIR", &dir.path().display().to_string()));
        std::fs::write(dir.path().join("mytoken.toml"), "").unwrap();
        std::fs::write(dir.path().join("jobs.toml"), jobs).unwrap();
        dir
    }

    fn made(config: &Path, dir: Option<&Path>) -> Result<Made, String> {
        make(config, FileTrust::user(Owner::current().uid), dir, NOW)
    }

    #[test]
    fn an_authority_is_made_once_where_jobs_toml_has_it() {
        let config = config("ca_key_file = 'DIR/new/keys/broker-ca.key'\nca_file = 'DIR/new/keys/broker-ca.pem'\n");
        let keys = config.path().join("new/keys");
        let made_now = made(config.path(), None).unwrap();
        assert_eq!((&made_now.key, &made_now.missing), (&keys.join(KEY), &Vec::new()));
        let mode = |name: &str| std::fs::metadata(keys.join(name)).unwrap().permissions().mode() & 0o7777;
        assert_eq!([".", KEY, CERTIFICATE].map(mode), [0o755, 0o600, 0o644]);
        let trust = FileTrust::user(Owner::current().uid);
        assert!(Authority::load(&made_now.key, &made_now.certificate, trust).is_ok());
        assert!(made(config.path(), None).unwrap_err().contains("there is an authority already"));
    }

    #[test]
    fn files_that_jobs_toml_does_not_name_are_told() {
        let config = config("ca_key_file = 'DIR/private/ca.key'\nca_file = 'DIR/ca.pem'\n");
        let text = |name: &str| config.path().join(name).display().to_string();
        let expected = |dir: &str| {
            [
                format!("ca_key_file = \"{}\"", text(&format!("{dir}/broker-ca.key"))),
                format!("ca_file = \"{}\"", text(&format!("{dir}/broker-ca.pem"))),
            ]
        };
        assert_eq!(made(config.path(), None).unwrap().missing, expected("private"));
        assert_eq!(made(config.path(), Some(&config.path().join("other"))).unwrap().missing, expected("other"));
        assert!(made(config.path(), Some(Path::new("other"))).unwrap_err().contains("absolute"));
        std::fs::remove_file(config.path().join("jobs.toml")).unwrap();
        assert!(made(config.path(), None).unwrap_err().contains("jobs.toml"));
    }
}
