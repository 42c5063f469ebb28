// SPDX-License-Identifier: MIT OR Apache-2.0
//! Findings about the cluster's keys, and about the directories for the keys of issuers.

use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use mytoken::Error;
use mytoken::cache::DiskCache;
use mytoken::config::{ConfigError, FileTrust};
use mytoken::private_files::Owner;

use super::Findings;
use super::configuration::{exists, word};
use super::kinds::{self, Kind};
use crate::control::keygen::PUBLIC;
use crate::jobs::SealError;
use crate::jobs::further_keys;
use crate::jobs::keys::{PrivateKey, PublicKey};
use crate::jobs::settings::{ClusterSettings, JobsSettings};

/// Where `mytokenctl keygen` makes keys without `--dir`.
const KEYS: &str = "/etc/mytoken/keys";

/// The commands that copy both keys from HOST.
pub(super) fn copy_pair(cluster: &ClusterSettings) -> String {
    let files = [&cluster.public_key_file, &cluster.private_key_file].map(|file| word(&file.to_string_lossy()));
    files.map(|file| format!("scp -p HOST:{file} {file}")).join(" && ")
}

impl Findings {
    /// Checks the key pair of the cluster. Only nodes have the private key.
    pub(super) fn keys(&mut self, jobs: &JobsSettings, trust: FileTrust) {
        let (public_file, private_file) = (&jobs.cluster.public_key_file, &jobs.cluster.private_key_file);
        let public = match PublicKey::load(public_file, trust) {
            Ok(public) => {
                self.host.public_key = Some(public.id().to_owned());
                self.ok("public key", format!("{} ({})", public.id(), public_file.display()));
                Some(public)
            }
            // keygen makes a pair where there is none.
            Err(error) if !exists(public_file) && !exists(private_file) => {
                let directory = public_file.parent().unwrap_or(Path::new("/"));
                // keygen has fixed names for the two files.
                let fix = if public_file.file_name() == Some(OsStr::new(PUBLIC)) && directory != Path::new(KEYS) {
                    let directory = word(&directory.to_string_lossy());
                    kinds::PUBLIC_KEY.fix.replacen("keygen", &format!("keygen --dir {directory}"), 1)
                } else {
                    kinds::PUBLIC_KEY.fix.to_owned()
                };
                self.add_fixed(kinds::PUBLIC_KEY, error.to_string(), fix);
                None
            }
            Err(error) => self.unusable_key(kinds::PUBLIC_KEY, &error, public_file),
        };
        if !exists(private_file) {
            let without = if jobs.broker.is_used() { "that is not a broker" } else { "without slurmd" };
            let text = format!("{} does not exist; correct on a host {without}", private_file.display());
            return self.ok("private key", text);
        }
        if Owner::current().uid != 0 && std::fs::metadata(private_file).is_ok_and(|meta| meta.uid() == 0) {
            return self.ok("private key", "only root can check it");
        }
        let further = further_keys::load(private_file, trust);
        for problem in &further.problems {
            self.unusable_key::<()>(kinds::PRIVATE_KEY, problem, &further_keys::directory(private_file));
        }
        for (path, key) in &further.keys {
            self.ok("private key", format!("{} ({})", key.id(), path.display()));
        }
        let opens = |public: &PublicKey| further.keys.iter().any(|(_, key)| key.id() == public.id());
        match (PrivateKey::load(private_file, trust), public) {
            (Err(error), _) => drop(self.unusable_key::<()>(kinds::PRIVATE_KEY, &error, private_file)),
            (Ok(private), Some(public)) if private.id() != public.id() && !opens(&public) => {
                let text = format!("{} does not belong to the public key {}", private.id(), public.id());
                let fix = format!("{}   # HOST: where mytokenctl keygen ran", copy_pair(&jobs.cluster));
                self.add_fixed(kinds::KEY_PAIR, text, fix);
            }
            (Ok(private), _) => self.ok("private key", format!("{} ({})", private.id(), private_file.display())),
        }
    }

    fn unusable_key<T>(&mut self, kind: Kind, error: &SealError, path: &Path) -> Option<T> {
        let text = error.to_string();
        match error {
            SealError::File(file @ Error::Config(ConfigError::Unsafe { .. } | ConfigError::Unreadable { .. }))
                if exists(path) =>
            {
                self.add_file_error(kind, file, &text);
            }
            _ => {
                let path = word(&path.to_string_lossy());
                let fix = format!(
                    "scp -p HOST:{path} {path}   # HOST: one with the right key. If there is none, move both keys away and run mytokenctl keygen: jobs in the queue lose their tokens"
                );
                self.add_fixed(kind, text, fix);
            }
        }
        None
    }

    /// Checks the directories for what logins keep.
    pub(super) fn cache(&mut self, cache: &DiskCache) {
        let errors = cache.check();
        let kind = if errors.len() > 1 { kinds::CACHE } else { kinds::CACHE_PARTLY };
        for error in errors {
            self.add_kind(kind, error.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use mytoken::config::Shared;

    use super::*;
    use crate::control::check::Severity;
    use crate::control::keygen::keygen;

    fn site(keys: bool) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().display();
        let jobs = format!(
            "[cluster]\nname = 'c'\npublic_key_file = '{path}/keys/cluster.pub'\nprivate_key_file = '{path}/keys/cluster.key'\n"
        );
        std::fs::write(dir.path().join("mytoken.toml"), "").unwrap();
        std::fs::write(dir.path().join("jobs.toml"), jobs).unwrap();
        if keys {
            keygen(&dir.path().join("keys"), "").unwrap();
        }
        dir
    }

    fn ids(dir: &Path) -> Vec<String> {
        let me = FileTrust::user(Owner::current().uid);
        let jobs = JobsSettings::load(dir, me, &Shared::load(dir, me).unwrap()).unwrap();
        let mut findings = Findings::default();
        findings.keys(&jobs, me);
        findings.problems().map(|finding| finding.id.clone().unwrap()).collect()
    }

    #[test]
    fn keys_that_are_missing_open_to_others_or_of_different_pairs_are_found() {
        use std::os::unix::fs::PermissionsExt;
        let (dir, other) = (site(true), site(true));
        assert_eq!(ids(dir.path()), Vec::<String>::new());
        let key = dir.path().join("keys/cluster.key");
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(ids(dir.path()), ["private-key"]);
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::copy(other.path().join("keys/cluster.pub"), dir.path().join("keys/cluster.pub")).unwrap();
        assert_eq!(ids(dir.path()), ["keys-differ"]);
        // The key of submissions may be one of several.
        let me = FileTrust::user(Owner::current().uid);
        let id = PublicKey::load(&dir.path().join("keys/cluster.pub"), me).unwrap().id().to_owned();
        std::fs::create_dir(dir.path().join("keys/private.d")).unwrap();
        let further = dir.path().join(format!("keys/private.d/{id}.key"));
        std::fs::copy(other.path().join("keys/cluster.key"), &further).unwrap();
        assert_eq!(ids(dir.path()), Vec::<String>::new());
        std::fs::set_permissions(&further, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(ids(dir.path()), ["private-key", "keys-differ"]);
        assert_eq!(ids(site(false).path()), ["public-key"]);
    }

    /// `mytokenctl keygen` replaces no key.
    #[test]
    fn keygen_is_the_command_only_where_there_is_no_key() {
        let fix = |dir: &Path| {
            let me = FileTrust::user(Owner::current().uid);
            let jobs = JobsSettings::load(dir, me, &Shared::load(dir, me).unwrap()).unwrap();
            let mut findings = Findings::default();
            findings.keys(&jobs, me);
            findings.problems().filter_map(|finding| finding.fix.clone()).collect::<Vec<_>>().join("\n")
        };
        let empty = site(false);
        let keys = empty.path().join("keys");
        assert!(fix(empty.path()).starts_with(&format!("mytokenctl keygen --dir {}   # ", keys.display())));
        for (file, empty) in [("cluster.pub", false), ("cluster.pub", true), ("cluster.key", true)] {
            let dir = site(true);
            let path = dir.path().join("keys").join(file);
            if empty {
                std::fs::File::options().write(true).truncate(true).open(&path).unwrap();
            } else {
                std::fs::remove_file(&path).unwrap();
            }
            assert!(fix(dir.path()).starts_with(&format!("scp -p HOST:{} ", path.display())), "{}", fix(dir.path()));
        }
    }

    #[test]
    fn a_cache_that_cannot_be_written_is_found() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        let broken = DiskCache::new(&dir.path().join("file/var"), Owner::current());
        for (second, level) in [("run/cache", Severity::Warning), ("file/run/cache", Severity::Error)] {
            let mut findings = Findings::default();
            findings.cache(&broken.clone().or(&dir.path().join(second)));
            assert_eq!(findings.findings[0].level, level, "{findings:?}");
        }
        let mut findings = Findings::default();
        findings.cache(&DiskCache::new(&dir.path().join("cache"), Owner::current()));
        assert!(findings.findings.is_empty(), "{findings:?}");
    }
}
