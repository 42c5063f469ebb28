// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytokenctl key`: replaces the cluster's key without losing jobs.
//!
//! An agent opens a credential with any private key that it has, by the id in the sealed text. So the nodes get the new private key first,
//! then the submit hosts get the new public key, and the old private key goes when no job needs it any more.

use std::fmt::Write as _;
use std::path::Path;

use mytoken::config::{FileTrust, Shared, is_missing};
use mytoken::private_files::Owner;

use crate::directories::open_or_make;
use crate::jobs::further_keys::{self, DIRECTORY, KEY, RETIRED};
use crate::jobs::keys::{self, PrivateKey, PublicKey};
use crate::jobs::settings::{ClusterSettings, JobsSettings};

/// The keys of this host.
pub struct Keys {
    cluster: ClusterSettings,
    /// Brokers have the private keys, not the nodes.
    has_brokers: bool,
    trust: FileTrust,
}

impl Keys {
    /// The keys that the configuration in `config` names.
    ///
    /// # Errors
    /// A sentence.
    pub fn of(config: &Path) -> Result<Self, String> {
        Self::of_with(config, FileTrust::current())
    }

    fn of_with(config: &Path, trust: FileTrust) -> Result<Self, String> {
        let shared = Shared::load(config, trust).map_err(|error| error.to_string())?;
        let jobs = JobsSettings::load(config, trust, &shared).map_err(|error| error.to_string())?;
        Ok(Self { has_brokers: jobs.broker.is_used(), cluster: jobs.cluster, trust })
    }

    /// Makes a key pair beside the one in use, and returns what to do with it.
    ///
    /// # Errors
    /// A sentence.
    pub fn make(&self, comment: &str) -> Result<String, String> {
        let (private_file, public_file) = (&self.cluster.private_key_file, &self.cluster.public_key_file);
        let old = PrivateKey::load(private_file, self.trust).map_err(|error| error.to_string())?;
        let (public, private) = keys::generate();
        let (me, id) = (Owner::current(), public.id());
        let of =
            |file: &Path| open_or_make(file.parent().unwrap_or(Path::new("/")), me).map_err(|error| error.to_string());
        let directory = of(private_file)?.make(DIRECTORY, me, 0o700).map_err(|error| error.to_string())?;
        let names = (format!("{id}{KEY}"), format!("{id}.pub"));
        directory
            .write_durably(&names.0, private.to_text().as_bytes(), me, 0o600)
            .and_then(|()| directory.remove(&format!("{id}{RETIRED}")).map(drop))
            .map_err(|error| error.to_string())?;
        let beside = of(public_file)?;
        beside
            .write_durably(&names.1, public.to_text(comment).as_bytes(), me, 0o644)
            .map_err(|error| error.to_string())?;
        let private = further_keys::directory(private_file).join(&names.0);
        let (holders, unit) = self.holders();
        Ok(format!(
            "key pair {id}; nothing is sealed to it yet\n\
             1. copy {} to all {holders} (root, mode 0600; the directory 0700), and there run: systemctl reload {unit}\n\
             2. then copy {} over {} on all hosts that submit or run jobs, and on brokers\n\
             3. when no job from before step 2 waits or runs, on all {holders}: mytokenctl key retire {}",
            private.display(),
            public_file.with_file_name(&names.1).display(),
            public_file.display(),
            old.id()
        ))
    }

    /// The hosts with the private keys, and the unit that reads them there.
    fn holders(&self) -> (&'static str, &'static str) {
        if self.has_brokers { ("brokers", "mytokend-broker") } else { ("nodes", "mytokend") }
    }

    /// The keys, one line for each file.
    #[must_use]
    pub fn list(&self) -> String {
        let mut lines = String::new();
        let mut line = |id: &str, text: String| {
            let _ = writeln!(lines, "{id}  {text}");
        };
        let (private_file, public_file) = (&self.cluster.private_key_file, &self.cluster.public_key_file);
        match PublicKey::load(public_file, self.trust) {
            Ok(key) => {
                line(
                    key.id(),
                    format!("public   {}: submissions on this host are sealed to it", public_file.display()),
                );
            }
            Err(error) => line("--------", format!("public   {error}")),
        }
        match PrivateKey::load(private_file, self.trust) {
            Ok(key) => line(key.id(), format!("private  {}", private_file.display())),
            Err(_) if is_missing(private_file) => {
                line(
                    "--------",
                    format!("private  there is no {}, as on a host without slurmd", private_file.display()),
                );
            }
            Err(error) => line("--------", format!("private  {error}")),
        }
        let further = further_keys::load(private_file, self.trust);
        further.keys.iter().for_each(|(path, key)| line(key.id(), format!("private  {}", path.display())));
        further.retired.iter().for_each(|id| line(id, "retired".to_owned()));
        further.problems.iter().for_each(|problem| line("--------", format!("private  {problem}")));
        lines
    }

    /// Removes the private key `id`, and returns what follows.
    ///
    /// # Errors
    /// A sentence, if the key is still needed or cannot be removed.
    pub fn retire(&self, id: &str) -> Result<String, String> {
        let (private_file, public_file) = (&self.cluster.private_key_file, &self.cluster.public_key_file);
        let public = PublicKey::load(public_file, self.trust).map_err(|error| error.to_string())?;
        if public.id() == id {
            return Err(format!(
                "submissions are sealed to it: {} is its public key; replace that first",
                public_file.display()
            ));
        }
        let current = PrivateKey::load(private_file, self.trust).map_err(|error| error.to_string())?;
        let further = further_keys::load(private_file, self.trust);
        let me = Owner::current();
        let parent = private_file.parent().unwrap_or(Path::new("/"));
        let keys = open_or_make(parent, me).map_err(|error| error.to_string())?;
        let directory = keys.make(DIRECTORY, me, 0o700).map_err(|error| error.to_string())?;
        let is_here = |wanted: &str| further.keys.iter().any(|(_, key)| key.id() == wanted);
        if !is_here(id) && current.id() != id {
            return Err(format!("this host has no private key {id}; mytokenctl key list shows those that it has"));
        }
        // Before the key goes: whoever meets a job of it can say why it cannot be opened.
        directory.write_durably(&format!("{id}{RETIRED}"), b"", me, 0o600).map_err(|error| error.to_string())?;
        if current.id() == id {
            if !is_here(public.id()) {
                let file = further_keys::directory(private_file).join(format!("{}{KEY}", public.id()));
                let _ = directory.remove(&format!("{id}{RETIRED}"));
                return Err(format!(
                    "this host lacks the key {} to which submissions are sealed: there is no {}; copy it first",
                    public.id(),
                    file.display()
                ));
            }
            let name = private_file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            directory.move_to(&format!("{}{KEY}", public.id()), &keys, name).map_err(|error| error.to_string())?;
        }
        directory.remove(&format!("{id}{KEY}")).map_err(|error| error.to_string())?;
        Ok(format!(
            "the private key {id} is removed from this host; jobs that are sealed to it get no further token here\n\
             now run: systemctl reload {}",
            self.holders().1
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::control::keygen::keygen;

    struct Site(tempfile::TempDir);

    impl Site {
        fn new() -> (Self, String) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().display();
            let jobs = format!(
                "[cluster]\nname = 'c'\npublic_key_file = '{path}/keys/cluster.pub'\nprivate_key_file = '{path}/keys/cluster.key'\n"
            );
            std::fs::write(dir.path().join("mytoken.toml"), "").unwrap();
            std::fs::write(dir.path().join("jobs.toml"), jobs).unwrap();
            let first = keygen(&dir.path().join("keys"), "").unwrap();
            (Self(dir), first)
        }

        fn keys(&self) -> Keys {
            Keys::of_with(self.0.path(), FileTrust::user(Owner::current().uid)).unwrap()
        }

        fn file(&self, name: &str) -> PathBuf {
            self.0.path().join("keys").join(name)
        }

        /// The ids of the private keys.
        fn private(&self) -> Vec<String> {
            let lines = self.keys().list();
            let private = lines.lines().filter(|line| line.contains("  private  "));
            private.map(|line| line.split(' ').next().unwrap().to_owned()).collect()
        }
    }

    #[test]
    fn with_brokers_they_alone_get_the_private_key() {
        let (site, first) = Site::new();
        assert!(site.keys().make("test").unwrap().contains("to all nodes (root"));
        let file = site.0.path().join("jobs.toml");
        let jobs = std::fs::read_to_string(&file).unwrap() + "[broker]\nnames = ['b1']\n";
        std::fs::write(&file, jobs).unwrap();
        let told = site.keys().make("test").unwrap();
        for words in
            ["to all brokers (root", "systemctl reload mytokend-broker\n", "on all brokers: mytokenctl key retire"]
        {
            assert!(told.contains(words), "{told}");
        }
        let new = told.strip_prefix("key pair ").unwrap()[..8].to_owned();
        std::fs::rename(site.file(&format!("{new}.pub")), site.file("cluster.pub")).unwrap();
        assert!(site.keys().retire(&first).unwrap().ends_with("systemctl reload mytokend-broker"));
    }

    #[test]
    fn a_key_is_replaced_without_a_time_in_which_one_is_missing() {
        let (site, first) = Site::new();
        let told = site.keys().make("test").unwrap();
        let second = told.strip_prefix("key pair ").unwrap()[..8].to_owned();
        assert!(told.ends_with(&format!("mytokenctl key retire {first}")), "{told}");
        assert_eq!(site.private(), [first.clone(), second.clone()]);
        for (id, reason) in
            [(first.as_str(), "submissions are sealed to it"), ("0123abcd", "this host has no private key 0123abcd")]
        {
            assert!(site.keys().retire(id).unwrap_err().contains(reason));
        }
        std::fs::rename(site.file(&format!("{second}.pub")), site.file("cluster.pub")).unwrap();
        assert!(site.keys().retire(&first).unwrap().ends_with("systemctl reload mytokend"));
        assert_eq!(site.private(), [second.as_str()], "the new key is at the place of the old one");
        assert!(site.keys().list().contains(&format!("{first}  retired")));
        // Once more, from the other state: the old key is in the directory.
        let third = site.keys().make("test").unwrap().strip_prefix("key pair ").unwrap()[..8].to_owned();
        std::fs::rename(site.file(&format!("{third}.pub")), site.file("cluster.pub")).unwrap();
        std::fs::remove_file(site.file(&format!("private.d/{third}.key"))).unwrap();
        let refused = site.keys().retire(&second).unwrap_err();
        assert!(refused.contains(&format!("this host lacks the key {third}")), "{refused}");
        assert_eq!(site.private(), [second.as_str()], "a node that lacks the new key keeps the old one");
        assert!(!site.keys().list().contains(&format!("{second}  retired")));
    }
}
