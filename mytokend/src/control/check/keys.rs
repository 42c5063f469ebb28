// SPDX-License-Identifier: MIT OR Apache-2.0
//! Findings about the cluster's keys, and about the directories for the keys of issuers.

use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use mytoken::Error;
use mytoken::cache::DiskCache;
use mytoken::config::{ConfigError, FileTrust};
use mytoken::private_files::{FileError, Owner};

use super::Findings;
use super::configuration::{dangling, exists, word};
use super::kinds::{self, Kind};
use crate::control::keygen::PUBLIC;
use crate::jobs::SealError;
use crate::jobs::further_keys::{self, Problem};
use crate::jobs::keys::{PrivateKey, PublicKey};
use crate::jobs::settings::{ClusterSettings, JobsSettings};

/// Where `mytokenctl keygen` makes keys without `--dir`.
const KEYS: &str = "/etc/mytoken/keys";

/// The command that keeps a copy of a file beside it. A copy that is there already is kept, too: the file may be the only one with this
/// key, and jobs in the queue may need it.
pub(super) fn keep(file: &Path) -> String {
    let file = file.to_string_lossy();
    let (copy, file) = (word(&format!("{file}.before")), word(&file));
    format!("{{ test ! -e {file} || cp -p --backup=numbered {file} {copy}; }}")
}

/// The command that takes a file of another host, and keeps the one that is here.
pub(super) fn fetch(host: &str, file: &Path) -> String {
    let path = word(&file.to_string_lossy());
    format!("{} && scp -p {host}:{path} {path}", keep(file))
}

/// The commands that copy both keys from HOST.
pub(super) fn copy_pair(cluster: &ClusterSettings) -> String {
    [&cluster.private_key_file, &cluster.public_key_file].map(|file| fetch("HOST", file)).join(" && ")
}

/// The command for a host that has no key. What the host is cannot be seen: a new pair on a further host of a cluster would seal
/// credentials that no node can open.
fn first_key(jobs: &JobsSettings) -> String {
    let file = &jobs.cluster.public_key_file;
    let directory = file.parent().unwrap_or(Path::new("/"));
    let (path, place) = (word(&file.to_string_lossy()), word(&directory.to_string_lossy()));
    // keygen has fixed names for the two files.
    let keygen = if file.file_name() == Some(OsStr::new(PUBLIC)) && directory != Path::new(KEYS) {
        format!("mytokenctl keygen --dir {place}")
    } else {
        "mytokenctl keygen".to_owned()
    };
    let (host, first) =
        if jobs.broker.is_used() { ("a broker", "the first broker") } else { ("one of this cluster", "one node") };
    format!(
        "mkdir -p -m 0755 {place} && scp -p HOST:{path} {path}   # HOST: {host} that has it. Only a new cluster has no key yet: then, on {first}: {keygen}"
    )
}

impl Findings {
    /// Checks the key pair of the cluster. Only nodes have the private key.
    pub(super) fn keys(&mut self, jobs: &JobsSettings, trust: FileTrust) {
        let (public_file, private_file) = (&jobs.cluster.public_key_file, &jobs.cluster.private_key_file);
        let brokers = jobs.broker.is_used();
        let owner = if brokers { "another broker, only if this host is one" } else { "one with the right key" };
        let public = match PublicKey::load(public_file, trust) {
            Ok(public) => {
                self.host.public_key = Some(public.id().to_owned());
                self.ok("public key", format!("{} ({})", public.id(), public_file.display()));
                Some(public)
            }
            Err(error) if !exists(public_file) && !exists(private_file) => {
                self.add_fixed(kinds::PUBLIC_KEY, error.to_string(), first_key(jobs));
                None
            }
            Err(error @ SealError::NotPublic) => {
                self.private_as_public(&error, public_file);
                None
            }
            Err(error) => self.unusable_key(kinds::PUBLIC_KEY, &error, public_file, "one with the right key"),
        };
        if !exists(private_file) {
            let without = if brokers { "that is not a broker" } else { "without slurmd" };
            let text = format!("{} does not exist; correct on a host {without}", private_file.display());
            return self.ok("private key", text);
        }
        if Owner::current().uid != 0 && std::fs::metadata(private_file).is_ok_and(|meta| meta.uid() == 0) {
            return self.ok("private key", "only root can check it");
        }
        let further = further_keys::load(private_file, trust);
        // A link to nothing above all keys is told of those that must be there.
        let is_told = |path: &Path| !path.is_symlink() && dangling(path).is_some();
        for problem in further.problems.iter().filter(|problem| !is_told(&problem.path)) {
            self.unusable_further_key(problem, owner);
        }
        for (path, key) in &further.keys {
            self.ok("private key", format!("{} ({})", key.id(), path.display()));
        }
        self.unread_keys(&further_keys::directory(private_file));
        let opens = |public: &PublicKey| further.keys.iter().any(|(_, key)| key.id() == public.id());
        match (PrivateKey::load(private_file, trust), public) {
            (Err(error), _) => drop(self.unusable_key::<()>(kinds::PRIVATE_KEY, &error, private_file, owner)),
            (Ok(private), Some(public)) if private.id() != public.id() && !opens(&public) => {
                let text = format!("{} does not belong to the public key {}", private.id(), public.id());
                let fix = if brokers {
                    let public = fetch("HOST", public_file);
                    format!(
                        "{public}   # HOST: a broker. Only if this host is one, copy {} in the same way",
                        word(&private_file.to_string_lossy())
                    )
                } else {
                    format!("{}   # HOST: where mytokenctl keygen ran", copy_pair(&jobs.cluster))
                };
                self.add_fixed(kinds::KEY_PAIR, text, fix);
            }
            (Ok(private), _) => self.ok("private key", format!("{} ({})", private.id(), private_file.display())),
        }
    }

    /// Adds that a private key is where each user must be able to read the public one. The command closes it first: a copy of it is kept.
    fn private_as_public(&mut self, error: &SealError, file: &Path) {
        let is_open = file.metadata().is_ok_and(|meta| meta.mode() & 0o077 != 0);
        let (exposed, then) = if is_open {
            (
                "; others than root could read it, and whoever has it opens the credentials of all jobs: replace the cluster's keys",
                ", then: mytokenctl key new",
            )
        } else {
            ("", "")
        };
        let text = format!("{}: {error}{exposed}", file.display());
        let fix = format!(
            "chmod 600 {} && {}   # HOST: one with the right key{then}",
            word(&file.to_string_lossy()),
            fetch("HOST", file)
        );
        self.add_fixed(kinds::PUBLIC_KEY, text, fix);
    }

    fn unusable_further_key(&mut self, problem: &Problem, owner: &str) {
        let path = &problem.path;
        match &problem.right_name {
            Some(name) => {
                let (path, right) = (word(&path.to_string_lossy()), word(&path.with_file_name(name).to_string_lossy()));
                let fix = if exists(&problem.path.with_file_name(name)) {
                    format!("cmp {path} {right} && rm {path}   # a copy of it")
                } else {
                    format!("mv -nT {path} {right}")
                };
                self.add_fixed(kinds::PRIVATE_KEY, problem.to_string(), fix);
            }
            None if path.is_dir() || path.is_symlink() => {
                let fix = dangling(path).unwrap_or_else(|| format!("ls -la {}", word(&path.to_string_lossy())));
                self.add_fixed(kinds::PRIVATE_KEY, problem.to_string(), fix);
            }
            None => drop(self.unusable_key::<()>(kinds::PRIVATE_KEY, &problem.error, path, owner)),
        }
    }

    /// `owner`: which hosts have the right file.
    fn unusable_key<T>(&mut self, kind: Kind, error: &SealError, path: &Path, owner: &str) -> Option<T> {
        let text = error.to_string();
        match error {
            SealError::File(file @ Error::Config(ConfigError::Unsafe { .. } | ConfigError::Unreadable { .. }))
                if exists(path) =>
            {
                self.add_file_error(kind, file, &text);
            }
            _ => {
                let fix = format!(
                    "{}   # HOST: {owner}. If no host has it, move both keys away and run mytokenctl keygen: jobs in the queue lose their tokens",
                    fetch("HOST", path)
                );
                self.add_fixed(kind, text, fix);
            }
        }
        None
    }

    /// Checks the directories for what logins keep. `told`: directories of the agent that have a finding.
    pub(super) fn cache(&mut self, cache: &DiskCache, told: &[PathBuf]) {
        let errors = cache.check();
        let kind = if errors.len() > 1 { kinds::CACHE } else { kinds::CACHE_PARTLY };
        // The cache of this host is in the usual directory of the agent, too.
        let is_told = |error: &&FileError| matches!(error, FileError::Unusable { path, .. } if told.iter().any(|told| told == Path::new(path)));
        for error in errors.iter().filter(|error| !is_told(error)) {
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
    use crate::programs;

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

    fn fix(dir: &Path) -> String {
        let me = FileTrust::user(Owner::current().uid);
        let jobs = JobsSettings::load(dir, me, &Shared::load(dir, me).unwrap()).unwrap();
        let mut findings = Findings::default();
        findings.keys(&jobs, me);
        findings.problems().filter_map(|finding| finding.fix.clone()).collect::<Vec<_>>().join("\n")
    }

    /// It must not be opened to users, nor a copy of it, and one that was open is worth nothing.
    #[test]
    fn a_private_key_in_the_place_of_the_public_one_is_closed_first() {
        use std::os::unix::fs::PermissionsExt;
        let dir = site(true);
        let [private, public] = ["cluster.key", "cluster.pub"].map(|name| dir.path().join("keys").join(name));
        std::fs::copy(&private, &public).unwrap();
        let me = FileTrust::user(Owner::current().uid);
        for (mode, exposed) in [(0o600, false), (0o644, true), (0o640, true)] {
            std::fs::set_permissions(&public, std::fs::Permissions::from_mode(mode)).unwrap();
            let jobs = JobsSettings::load(dir.path(), me, &Shared::load(dir.path(), me).unwrap()).unwrap();
            let mut findings = Findings::default();
            findings.keys(&jobs, me);
            let found: Vec<_> = findings.problems().collect();
            assert_eq!((found.len(), found[0].id.as_deref()), (1, Some("public-key")), "{found:?}");
            assert_eq!(found[0].text.contains("replace the cluster's keys"), exposed, "{found:?}");
            let fix = found[0].fix.as_deref().unwrap();
            assert!(fix.starts_with(&format!("chmod 600 {} && {{ test ! -e ", public.display())), "{fix}");
            assert_eq!(fix.ends_with("then: mytokenctl key new"), exposed, "{fix}");
        }
    }

    /// On a further host of a cluster, a new pair would be one that no node has.
    #[test]
    fn a_missing_key_is_copied_and_keygen_is_for_a_new_cluster_alone() {
        let empty = site(false);
        let keys = empty.path().join("keys");
        let public = keys.join("cluster.pub");
        let (keys, public) = (keys.display(), public.display());
        let command =
            format!("mkdir -p -m 0755 {keys} && scp -p HOST:{public} {public}   # HOST: one of this cluster ");
        let told = fix(empty.path());
        assert!(told.starts_with(&command) && told.ends_with(&format!("mytokenctl keygen --dir {keys}")), "{told}");
        // With brokers, nodes and submit hosts never get the private key.
        let settings = std::fs::read_to_string(empty.path().join("jobs.toml")).unwrap();
        let with_brokers = format!("{settings}[broker]\nnames = ['b1']\n");
        std::fs::write(empty.path().join("jobs.toml"), &with_brokers).unwrap();
        let told = fix(empty.path());
        assert!(told.contains("# HOST: a broker ") && told.contains("on the first broker: mytokenctl"), "{told}");
        assert!(!told.contains("cluster.key"), "{told}");
        for (file, empty) in [("cluster.pub", false), ("cluster.pub", true), ("cluster.key", true)] {
            let dir = site(true);
            let path = dir.path().join("keys").join(file);
            if empty {
                std::fs::File::options().write(true).truncate(true).open(&path).unwrap();
            } else {
                std::fs::remove_file(&path).unwrap();
            }
            let told = fix(dir.path());
            assert!(told.starts_with(&fetch("HOST", &path)), "{told}");
        }
    }

    #[test]
    fn the_command_for_a_further_key_is_for_its_file() {
        let (dir, other) = (site(true), site(true));
        let further = dir.path().join("keys/private.d");
        std::fs::create_dir(&further).unwrap();
        let damaged = further.join("0123abcd.key");
        let put = |text: &[u8]| {
            use std::os::unix::fs::PermissionsExt;
            std::fs::write(&damaged, text).unwrap();
            std::fs::set_permissions(&damaged, std::fs::Permissions::from_mode(0o600)).unwrap();
        };
        for text in [&b"damaged"[..], b"\xff\xff"] {
            put(text);
            let told = fix(dir.path());
            assert!(told.starts_with(&fetch("HOST", &damaged)), "{told}");
        }
        let key = std::fs::read(other.path().join("keys/cluster.key")).unwrap();
        put(&key);
        let told = fix(dir.path());
        assert!(told.starts_with(&format!("mv -nT {} ", damaged.display())), "{told}");
        assert!(std::process::Command::new("sh").args(["-c", &told]).status().unwrap().success());
        assert_eq!(ids(dir.path()), Vec::<String>::new());
        // A copy of it.
        put(&key);
        let told = fix(dir.path());
        assert!(told.starts_with(&format!("cmp {} ", damaged.display())), "{told}");
        assert!(std::process::Command::new("sh").args(["-c", &told]).status().unwrap().success());
        assert_eq!(ids(dir.path()), Vec::<String>::new());
        std::fs::rename(&further, dir.path().join("moved")).unwrap();
        std::os::unix::fs::symlink("gone", &further).unwrap();
        let told = fix(dir.path());
        let (link, target) = (further.display(), dir.path().join("keys/gone"));
        assert!(told.starts_with(&format!("namei -l {link}   # put back {}; ", target.display())), "{told}");
        // A link to nothing above both keys: a new pair there is no command that works.
        std::fs::rename(dir.path().join("keys"), dir.path().join("other")).unwrap();
        std::os::unix::fs::symlink("gone", dir.path().join("keys")).unwrap();
        assert_eq!(ids(dir.path()), ["public-key", "private-key"]);
        let told = fix(dir.path());
        assert!(told.lines().all(|line| line.starts_with("namei -l ")), "{told}");
    }

    /// What is replaced may be the only key that opens the credentials in the queue.
    #[test]
    fn no_key_is_lost_by_the_command_that_replaces_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        programs::write(path("scp"), "#!/bin/sh\ncp \"${2#HOST:}.there\" \"$3\"\n").unwrap();
        std::fs::write(path("a key"), "old").unwrap();
        std::fs::write(path("a key.there"), "new").unwrap();
        let search = format!("{}:/usr/bin:/bin", dir.path().display());
        for _ in 0..2 {
            let command = fetch("HOST", &path("a key"));
            let ran = std::process::Command::new("sh").args(["-c", &command]).env("PATH", &search).output().unwrap();
            assert!(ran.status.success(), "{command} {ran:?}");
        }
        let text = |name: &str| std::fs::read_to_string(path(name)).unwrap();
        assert_eq!((text("a key").as_str(), text("a key.before.~1~").as_str()), ("new", "old"));
    }

    #[test]
    fn a_cache_that_cannot_be_written_is_found() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        let broken = DiskCache::new(&dir.path().join("file/var"), Owner::current());
        for (second, level) in [("run/cache", Severity::Warning), ("file/run/cache", Severity::Error)] {
            let mut findings = Findings::default();
            findings.cache(&broken.clone().or(&dir.path().join(second)), &[]);
            assert_eq!(findings.findings[0].level, level, "{findings:?}");
        }
        // Of two that cannot be used, one is told already: the other one is no smaller fault for that.
        std::fs::write(dir.path().join("other"), "").unwrap();
        let both = broken.clone().or(&dir.path().join("other/run/cache"));
        let told: Vec<String> = both.check().iter().map(ToString::to_string).collect();
        let FileError::Unusable { path, .. } = &both.check()[1] else { panic!("{told:?}") };
        let mut findings = Findings::default();
        findings.cache(&both, &[path.into()]);
        let [left] = &findings.findings[..] else { panic!("{findings:?}") };
        assert_eq!((left.level, &left.text), (Severity::Error, &told[0]));
        let mut findings = Findings::default();
        findings.cache(&DiskCache::new(&dir.path().join("cache"), Owner::current()), &[]);
        assert!(findings.findings.is_empty(), "{findings:?}");
    }
}
