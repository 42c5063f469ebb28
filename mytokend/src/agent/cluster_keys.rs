// SPDX-License-Identifier: MIT OR Apache-2.0
//! The cluster's private keys of this node. A job credential is opened with the key to which it is sealed.

use std::collections::BTreeSet;
use std::sync::Arc;

use mytoken::config::FileTrust;

use crate::jobs::SealError;
use crate::jobs::further_keys::{self, FurtherKeys};
use crate::jobs::keys::PrivateKey;
use crate::jobs::sealed::{self, JobCredential};
use crate::jobs::settings::ClusterSettings;

/// The private keys of a cluster.
pub struct ClusterKeys {
    /// Name of the cluster.
    pub cluster: String,
    /// The key on disk.
    pub current: Arc<PrivateKey>,
    /// The further keys on disk.
    pub further: Vec<Arc<PrivateKey>>,
    /// Keys that were replaced on disk since this process began: running jobs were sealed to them.
    pub earlier: Vec<Arc<PrivateKey>>,
    /// The ids of keys that were retired.
    pub retired: BTreeSet<String>,
    /// Why further keys on disk are not used.
    pub problems: Vec<String>,
}

impl ClusterKeys {
    /// Reads the keys on disk. `known` are all keys since the start of this process.
    ///
    /// # Errors
    /// When the current key cannot be used. A further key that cannot be used costs its own jobs only.
    pub fn read(
        cluster: &ClusterSettings,
        trust: FileTrust,
        known: &mut Vec<Arc<PrivateKey>>,
    ) -> Result<Self, SealError> {
        let current = Arc::new(PrivateKey::load(&cluster.private_key_file, trust)?);
        let FurtherKeys { keys, retired, problems } = further_keys::load(&cluster.private_key_file, trust);
        let others = keys.into_iter().filter(|(_, key)| key.id() != current.id());
        let further: Vec<Arc<PrivateKey>> = others.map(|(_, key)| Arc::new(key)).collect();
        let is_on_disk = |id: &str| current.id() == id || further.iter().any(|key| key.id() == id);
        known.retain(|key| !is_on_disk(key.id()) && !retired.contains(key.id()));
        let earlier = known.clone();
        known.extend(further.iter().chain([&current]).cloned());
        let problems = problems.iter().map(ToString::to_string).collect();
        Ok(Self { cluster: cluster.name.clone(), current, further, earlier, retired, problems })
    }

    /// Those of a node with one key.
    #[must_use]
    pub fn single(cluster: String, current: Arc<PrivateKey>) -> Self {
        let (further, earlier, problems) = (Vec::new(), Vec::new(), Vec::new());
        Self { cluster, current, further, earlier, retired: BTreeSet::new(), problems }
    }

    /// The key to which `text` was sealed; the current one when it is none of them, which then says so.
    fn of(&self, text: &str) -> &PrivateKey {
        let mut others = self.further.iter().chain(&self.earlier);
        let found = others.find(|key| sealed::key_id(text).is_ok_and(|id| id == key.id()));
        found.unwrap_or(&self.current)
    }

    /// Opens a sealed text.
    pub(super) fn open(&self, text: &str) -> Result<JobCredential, OpenError> {
        match sealed::open(text, self.of(text)) {
            Err(SealError::OtherKey { sealed, .. }) if self.retired.contains(&sealed) => {
                Err(OpenError::Retired(sealed))
            }
            opened => Ok(opened?),
        }
    }

    /// What is opened, in words.
    #[must_use]
    pub fn scope(&self) -> String {
        let ids = |keys: &[Arc<PrivateKey>]| keys.iter().map(|key| key.id()).collect::<Vec<_>>().join(", ");
        let mut text = "jobs and sessions".to_owned();
        if !self.further.is_empty() {
            text += &format!(", also jobs of the key {}", ids(&self.further));
        }
        if !self.earlier.is_empty() {
            text += &format!(", until a restart also jobs of the replaced key {}", ids(&self.earlier));
        }
        if !self.problems.is_empty() {
            text += &format!("; not used: {}", self.problems.join("; "));
        }
        text
    }
}

/// Why this host has no cluster key. It then serves login sessions only.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoClusterKey {
    /// There is no `jobs.toml`.
    #[error("there is no jobs.toml")]
    NoJobsToml,
    /// `jobs.toml` names a private key file that does not exist, as on a login host.
    #[error("there is no {0}")]
    NoKeyFile(
        /// Path of the file.
        String,
    ),
    /// Brokers have the key.
    #[error("brokers do it")]
    Brokers,
}

/// Why a sealed text cannot be opened here.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error("this host cannot open job credentials: {0}")]
    NoKey(NoClusterKey),
    #[error("the job credential is sealed to the key {0}, which was retired; submit the job again")]
    Retired(String),
    #[error(transparent)]
    Sealed(#[from] SealError),
}

impl OpenError {
    /// Whether no host can open the text: it is damaged. Otherwise a host with its key can.
    pub(super) fn is_final(&self) -> bool {
        matches!(self, Self::Sealed(SealError::Invalid { .. }))
    }

    /// Whether the administrator has retired its key.
    pub(super) fn has_retired_key(&self) -> bool {
        matches!(self, Self::Retired(_))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use mytoken::private_files::Owner;

    use super::*;
    use crate::jobs::keys;

    #[test]
    fn a_key_on_disk_outlives_a_restart_and_a_retired_one_is_forgotten_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("cluster.key");
        let further = further_keys::directory(&file);
        fs::create_dir(&further).unwrap();
        let ((_, first), (_, second)) = (keys::generate(), keys::generate());
        let put = |path: &std::path::Path, text: &str| {
            fs::write(path, text).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
        };
        let public_key_file = dir.path().join("cluster.pub");
        let mut settings: ClusterSettings = toml::from_str("name = 'c'").unwrap();
        (settings.private_key_file, settings.public_key_file) = (file.clone(), public_key_file);
        let trust = FileTrust::user(Owner::current().uid);
        let read = |known: &mut Vec<Arc<PrivateKey>>| ClusterKeys::read(&settings, trust, known).unwrap().scope();
        let (mut running, kept) = (Vec::new(), further.join(format!("{}.key", first.id())));
        put(&file, &first.to_text());
        assert_eq!(read(&mut running), "jobs and sessions");
        put(&file, &second.to_text());
        let memory = format!("jobs and sessions, until a restart also jobs of the replaced key {}", first.id());
        assert_eq!(read(&mut running), memory);
        put(&kept, &first.to_text());
        put(&further.join("0123abcd.key"), "");
        let disk = format!("jobs and sessions, also jobs of the key {}", first.id());
        for known in [&mut running, &mut Vec::new()] {
            let told = read(known);
            assert!(told.starts_with(&format!("{disk}; not used: ")) && told.contains("0123abcd.key"), "{told}");
        }
        fs::remove_file(further.join("0123abcd.key")).unwrap();
        assert_eq!(read(&mut running), disk);
        fs::remove_file(&kept).unwrap();
        assert_eq!(read(&mut running), memory);
        put(&further.join(format!("{}.retired", first.id())), "");
        assert_eq!(read(&mut running), "jobs and sessions");
    }
}
