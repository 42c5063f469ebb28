// SPDX-License-Identifier: MIT OR Apache-2.0
//! `jobs.toml`: cluster, submission, agent, profiles.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use mytoken::Error;
use mytoken::config::{Duration, FileTrust, Mistake, Shared, read};
use mytoken_wire::ProfileName;
use mytoken_wire::paths::AGENT_SOCKET_NAME;
use mytoken_wire::profile::RULE;
use serde::Deserialize;

use super::agent_settings::AgentSettings;
use super::defaults::{self, DefaultSettings};
use super::profile::ProfileSettings;
use super::sealed;
use crate::broker::settings::BrokerSettings;

/// The content of `jobs.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobsSettings {
    /// The cluster.
    pub cluster: ClusterSettings,
    /// Settings of `sbatch`, `srun` and `salloc`.
    #[serde(default)]
    pub submit: SubmitSettings,
    /// Settings of the agent on each node.
    #[serde(default)]
    pub agent: AgentSettings,
    /// The brokers.
    #[serde(default)]
    pub broker: BrokerSettings,
    /// The profiles.
    #[serde(default)]
    pub profile: Vec<ProfileSettings>,
    /// What submissions get that name no profile. The first that matches counts.
    #[serde(default)]
    pub default: Vec<DefaultSettings>,
}

/// `[cluster]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterSettings {
    /// Name of the cluster. A credential that was sealed for another cluster is refused.
    pub name: String,
    /// Public key that job credentials are sealed to.
    #[serde(default = "ClusterSettings::public_key_file")]
    pub public_key_file: PathBuf,
    /// The private key, on nodes only.
    #[serde(default = "ClusterSettings::private_key_file")]
    pub private_key_file: PathBuf,
    /// Slurm's default partition, for `[[default]]`. `None`: a submission without `--partition` matches no table with one.
    #[serde(default)]
    pub default_partition: Option<String>,
    /// Longest wait of a job in the queue.
    #[serde(default = "ClusterSettings::max_pending")]
    pub max_pending: Duration,
    /// Longest run time of a job.
    #[serde(default = "ClusterSettings::max_wall")]
    pub max_wall: Duration,
}

impl ClusterSettings {
    /// Longest wait and run time of a job, in seconds.
    #[must_use]
    pub fn longest(&self) -> u64 {
        self.max_pending.as_secs().saturating_add(self.max_wall.as_secs())
    }

    fn public_key_file() -> PathBuf {
        PathBuf::from("/etc/mytoken/keys/cluster.pub")
    }

    fn private_key_file() -> PathBuf {
        PathBuf::from("/etc/mytoken/keys/cluster.key")
    }

    const fn max_pending() -> Duration {
        Duration::seconds(7 * 86_400)
    }

    const fn max_wall() -> Duration {
        Duration::seconds(2 * 86_400)
    }
}

/// `[submit]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SubmitSettings {
    /// Time limit of `mytoken-submit`.
    pub deadline: Duration,
    /// For how long submissions in a loop share a credential. Zero: never.
    pub share_for: Duration,
}

/// Longest path of a socket in bytes (unix(7)).
const SOCKET_PATH: usize = 107;

/// Longest `submit.share_for` in seconds. A shared credential ends with the last job of all its submissions.
const LONGEST_SHARE: u64 = 600;

impl Default for SubmitSettings {
    fn default() -> Self {
        Self { deadline: Duration::seconds(10), share_for: Duration::seconds(60) }
    }
}

/// The profile of `--mytoken` without a name.
pub const DEFAULT: &str = "default";

impl JobsSettings {
    /// Reads `DIR/jobs.toml` and its drop-ins and checks that the names in it exist in `shared`.
    ///
    /// # Errors
    /// The variants of [`Error`] that begin with `Config`.
    pub fn load(dir: &Path, trust: FileTrust, shared: &Shared) -> Result<Self, Error> {
        let jobs: Self = read(dir, "jobs", trust)?;
        let servers: Vec<&str> = shared.servers.iter().map(|server| server.name.as_str()).collect();
        jobs.check(&servers).map_err(|mistake| mistake.into_error(dir, "jobs", trust))?;
        let used = |name: &str| jobs.profile.iter().any(|profile| profile.server == name);
        for (index, server) in shared.servers.iter().enumerate().filter(|(_, server)| used(&server.name)) {
            sealed::check_text(server.url.as_str()).map_err(|fault| {
                let problem = format!("the url of the server \"{}\" {fault}; no node accepts it", server.name);
                Mistake::of_entry("server", index, &["url"], problem).into_error(dir, "mytoken", trust)
            })?;
        }
        Ok(jobs)
    }

    /// Reads `DIR/jobs.toml` and its drop-ins alone: the values are not checked, and may not be used.
    ///
    /// # Errors
    /// The variants of [`Error`] that begin with `Config`.
    pub fn unchecked(dir: &Path, trust: FileTrust) -> Result<Self, Error> {
        Ok(read(dir, "jobs", trust)?)
    }

    /// Reads both configuration files below `dir`.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_alone(dir: &Path, trust: FileTrust) -> Result<Self, Error> {
        Self::load(dir, trust, &Shared::load(dir, trust)?)
    }

    /// The profile called `name`.
    #[must_use]
    pub fn profile(&self, name: &str) -> Option<&ProfileSettings> {
        self.profile.iter().find(|profile| profile.name == name)
    }

    /// Checks what the types cannot express. `servers` are the names in `mytoken.toml`.
    ///
    /// # Errors
    /// [`Mistake`], a sentence that names the key.
    pub fn check(&self, servers: &[&str]) -> Result<(), Mistake> {
        // MT-23: the child's name is "<cluster>:<32 hex>", and the server fails with 500 on more than 89 characters.
        if !is_name(&self.cluster.name, 40) {
            return Err(Mistake::key_that("cluster.name", "must be 1 to 40 letters, digits, \"-\", \"_\", \".\""));
        }
        for (key, duration) in [
            ("submit.deadline", self.submit.deadline),
            ("agent.start_deadline", self.agent.start_deadline),
            ("agent.request_deadline", self.agent.request_deadline),
            ("cluster.max_wall", self.cluster.max_wall),
        ] {
            if duration.as_secs() == 0 {
                return Err(Mistake::key_that(key, "is zero"));
            }
        }
        if self.submit.share_for.as_secs() > LONGEST_SHARE {
            return Err(Mistake::key_that("submit.share_for", "is longer than 10m"));
        }
        for (key, path) in [
            ("cluster.public_key_file", Some(&self.cluster.public_key_file)),
            ("cluster.private_key_file", Some(&self.cluster.private_key_file)),
            ("agent.runtime_dir", Some(&self.agent.runtime_dir)),
            ("agent.squeue", self.agent.squeue.as_ref()),
        ] {
            if path.is_some_and(|path| !path.is_absolute()) {
                return Err(Mistake::key_that(key, "is not an absolute path"));
            }
        }
        if self.agent.runtime_dir.join(AGENT_SOCKET_NAME).as_os_str().len() > SOCKET_PATH {
            let predicate = "is too long: the path of a socket has at most 107 bytes";
            return Err(Mistake::key_that("agent.runtime_dir", predicate));
        }
        self.broker.check()?;
        let mut seen = HashSet::new();
        for (index, profile) in self.profile.iter().enumerate() {
            let of = |keys, problem| Err(Mistake::of_entry("profile", index, keys, problem));
            let name = &profile.name;
            if ProfileName::parse(name).is_none() {
                return of(&["name"], format!("a profile's name is {RULE}, not \"{}\"", name.escape_debug()));
            }
            if !seen.insert(name) {
                return of(&["name"], format!("there are two profiles called \"{name}\""));
            }
            if let Err((keys, fault)) = profile.check(servers, &self.cluster) {
                return of(keys, format!("profile \"{name}\": {fault}"));
            }
        }
        defaults::check(&self.default, |name| self.profile(name).is_some())
            .map_err(|(index, problem)| Mistake::of_entry("default", index, &[], problem))
    }
}

fn is_name(name: &str, longest: usize) -> bool {
    (1..=longest).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        && !name.starts_with(['-', '.'])
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use proptest::prelude::*;

    use super::super::keys::{PrivateKey, PublicKey, generate};
    use super::super::sealed::JobCredential;
    use super::*;

    static KEYS: OnceLock<(PublicKey, PrivateKey)> = OnceLock::new();

    const DOCUMENTED: &str = r#"
        [cluster]
        name = "testbed"
        public_key_file = "/etc/mytoken/keys/cluster.pub"
        private_key_file = "/etc/mytoken/keys/cluster.key"
        max_pending = "7d"
        max_wall = "2d"
        [submit]
        deadline = "10s"
        share_for = "60s"
        [agent]
        runtime_dir = "/run/mytoken"
        start_deadline = "2s"
        request_deadline = "30s"
        [broker]
        names = []
        ca_file = "/etc/mytoken/keys/broker-ca.pem"
        ca_key_file = "/etc/mytoken/keys/broker-ca.key"
        listen = "[::]:7512"
        state_dir = "/var/lib/mytoken"
        munge = true
        check_address = true
        replace_keys = false
        [[profile]]
        name = "default"
        server = "testbed"
        scope = "storage.read"
        audience = "https://testbed"
        hosts = []
        windows = []
        start_windows = [ ]
        tools = []
        files = []
    "#;
    const SHORT: &str = r#"
        [cluster]
        name = "testbed"
        [[profile]]
        name = "default"
        server = "testbed"
        scope = "storage.read"
        audience = "https://testbed"
    "#;

    #[test]
    fn the_documented_values_are_the_defaults() {
        let documented: JobsSettings = toml::from_str(DOCUMENTED).unwrap();
        assert_eq!(documented, toml::from_str(SHORT).unwrap());
        documented.check(&["testbed"]).unwrap();
    }

    #[test]
    fn unknown_keys_are_errors() {
        for (section, key) in
            [("[submit]", "dedline"), ("[agent]", "runtimedir"), ("[cluster]", "nam"), ("[[profile]]", "scopes")]
        {
            let text = DOCUMENTED.replace(section, &format!("{section}\n{key} = \"1s\""));
            assert!(toml::from_str::<JobsSettings>(&text).unwrap_err().message().contains(key), "{key}");
        }
    }

    #[test]
    fn values_that_would_fail_later_are_refused() {
        let file = |scope: &str, audience: &str| {
            format!("{{ name = \"ce\", scope = \"{scope}\", audience = \"{audience}\" }}, ")
        };
        let five = ["1", "2", "3", "4", "5"].map(|name| file("a", "x").replace("\"ce\"", &format!("\"{name}\"")));
        for (old, new, word) in [
            ("name = \"testbed\"", "name = \"../x\"", "cluster.name"),
            ("name = \"default\"", "name = \"required\"", "required"),
            ("name = \"default\"", "name = \"_x\"", "begins with a letter or digit"),
            ("server = \"testbed\"", "server = \"other\"", "other"),
            ("scope = \"storage.read\"", "scope = \"a  b\"", "single blanks"),
            ("audience = \"https://testbed\"", "audience = \"\"", "audience"),
            (
                "scope = \"storage.read\"",
                &format!("scope = \"{}\"", "a".repeat(1025)),
                "scope has more than 1024 bytes",
            ),
            ("scope = \"storage.read\"", "scope = \"a\\tb\"", "scope has control characters"),
            (
                "audience = \"https://testbed\"",
                &format!("audience = \"{}\"", "a".repeat(1025)),
                "audience has more than",
            ),
            ("audience = \"https://testbed\"", "audience = \"a\\u007f\"", "audience has control characters"),
            ("hosts = []", "hosts = [\"10.0.0.0/+24\"]", "neither"),
            ("hosts = []", "hosts = [\"10.0.0.0/\"]", "neither"),
            ("hosts = []", "hosts = [\"login.example.org\"]", "reverse zone"),
            ("hosts = []", "hosts = [\"192.0.2.7/24\"]", "single address"),
            ("hosts = []", "hosts = [\"192.0.2.0/33\"]", "neither"),
            ("hosts = []", "hosts = [\"0.0.0.0/0\"]", "write []"),
            ("hosts = []", "hosts = [\"::/0\"]", "write []"),
            ("hosts = []", &format!("hosts = [{}]", "\"2001:db8:1:2::/64\", ".repeat(300)), "at most 3072 fit"),
            ("hosts = []", "max_lifetime = \"0s\"", "max_lifetime is zero"),
            ("hosts = []", "usages = 0", "usages is zero"),
            ("windows = []", "windows = [{ from = \"2h\", until = \"2h\" }]", "later than"),
            ("windows = []", "windows = [{ until = \"2h\" }, { from = \"9d\", until = \"10d\" }]", "has ended"),
            ("windows = []", &format!("windows = [{}]", "{ until = \"2h\" }, ".repeat(9)), "there are 9"),
            ("start_windows = [ ]", "start_windows = [{ from = \"2h\", until = \"1h\" }]", "start_windows: \"until\""),
            ("start_windows = [ ]", "start_windows = [{ from = \"2d\", until = \"3d\" }]", "the longest job"),
            ("windows = []", "max_lifetime = \"1h\"\nwindows = [{ from = \"1h\", until = \"2h\" }]", "has ended"),
            ("files = []", "[[default]]\npartition = \"gpu\"\nmytoken = \"other\"", "no profile \"other\""),
            ("files = []", &format!("files = [{}]", file("a b", "x").repeat(2)), "two have the name \"ce\""),
            ("files = []", &format!("files = [{}]", file("a", "x y")), "files: \"ce\": audience must be"),
            ("files = []", &format!("files = [{}]", five.concat()), "there are 5; at most 4"),
            ("files = []", &format!("files = [{}]", file(&"a".repeat(1025), "x")), "\"ce\": scope has more than 1024"),
            ("runtime_dir = \"/run/mytoken\"", "runtime_dir = \"run\"", "runtime_dir is not an absolute"),
            (
                "runtime_dir = \"/run/mytoken\"",
                &format!("runtime_dir = \"/{}\"", "r".repeat(100)),
                "runtime_dir is too long",
            ),
            ("/etc/mytoken/keys/cluster.pub", "cluster.pub", "public_key_file is not an absolute"),
            ("/etc/mytoken/keys/cluster.key", "cluster.key", "private_key_file is not an absolute"),
            ("start_deadline = \"2s\"", "start_deadline = \"0s\"", "start_deadline"),
            ("share_for = \"60s\"", "share_for = \"11m\"", "share_for"),
        ] {
            let text = DOCUMENTED.replace(old, new);
            assert_ne!(text, DOCUMENTED, "{old}");
            let settings: JobsSettings = toml::from_str(&text).unwrap();
            let fault = settings.check(&["testbed"]).unwrap_err().problem;
            assert!(fault.contains(word), "{new}: {fault}");
        }
        for host in ["192.0.2.7", "192.0.2.0/24", "128.0.0.0/1", "192.0.2.1/32", "2001:db8::/32", "2001:db8::1"] {
            assert_eq!(super::super::profile::check_network(host), Ok(()), "{host}");
        }
    }

    #[test]
    fn a_server_that_is_not_in_mytoken_toml_is_refused() {
        let load = |jobs: &str| {
            let dir = tempfile::tempdir().unwrap();
            let shared = "[[server]]\nname = 's'\nurl = 'https://mytoken.testbed:8443'";
            std::fs::write(dir.path().join("mytoken.toml"), shared).unwrap();
            std::fs::write(dir.path().join("jobs.toml"), jobs).unwrap();
            let me = FileTrust::user(nix::unistd::geteuid().as_raw());
            JobsSettings::load(dir.path(), me, &Shared::load(dir.path(), me).unwrap())
                .map_err(|error| error.to_string())
        };
        let jobs =
            "[cluster]\nname = 'c'\n[[profile]]\nname = 'default'\nserver = 's'\nscope = 'a'\naudience = 'https://x'";
        assert!(load(jobs).is_ok());
        assert!(load(&jobs.replace("'s'", "'elsewhere'")).is_err_and(|problem| problem.contains("\"elsewhere\"")));
        assert!(load("this is not TOML").is_err());
    }

    #[test]
    fn a_mistake_in_a_drop_in_is_told_of_the_drop_in() {
        const PROFILE: &str = "[[profile]]\nname = 'p'\nserver = 's'\nscope = 'a'\naudience = 'https://x'\n";
        let shared = "[[server]]\nname = 's'\nurl = 'https://mytoken.testbed:8443'\n";
        for (text, line) in [
            (PROFILE.replace("'p'", "'default'"), 3),
            (PROFILE.replace("'s'", "'nope'"), 4),
            (PROFILE.replace("'a'", "'a  b'"), 5),
            (PROFILE.replace("'https://x'", "''"), 6),
            (format!("{PROFILE}usages = 0\n"), 7),
            (format!("{PROFILE}hosts = ['x']\n"), 7),
            (format!("{PROFILE}windows = [{{ from = '2h', until = '2h' }}]\n"), 7),
            ("[cluster]\nname = '-x'\n".to_owned(), 3),
            ("agent.runtime_dir = 'run'\n".to_owned(), 2),
            ("[agent]\nsqueue = 'squeue'\n".to_owned(), 3),
            ("[submit]\n\nshare_for = '11m'\n".to_owned(), 4),
            ("[broker]\nnames = ['-']\n".to_owned(), 3),
            ("[broker]\nescrow = true\n".to_owned(), 3),
            ("[broker]\nsite_cert_file = '/x'\n".to_owned(), 3),
            ("[broker]\nsite_domain = 'x'\n".to_owned(), 3),
            ("[[default]]\nmytoken = 'nope'\n".to_owned(), 2),
        ] {
            let dir = tempfile::tempdir().unwrap();
            std::fs::create_dir(dir.path().join("jobs.d")).unwrap();
            let main = format!("[cluster]\nname = 'c'\n{}", PROFILE.replace("'p'", "'default'"));
            let text = format!("\n{text}");
            for (path, text) in [("mytoken.toml", shared), ("jobs.toml", &main), ("jobs.d/z.toml", &text)] {
                std::fs::write(dir.path().join(path), text).unwrap();
            }
            let me = FileTrust::user(nix::unistd::geteuid().as_raw());
            let error = JobsSettings::load_alone(dir.path(), me).unwrap_err().to_string();
            let place = dir.path().join("jobs.d/z.toml");
            assert!(error.starts_with(&format!("{}:{line}: ", place.display())), "{text}: {error}");
        }
        // The URL of a server is not of jobs.toml.
        let dir = tempfile::tempdir().unwrap();
        let long = shared.replace("8443", &format!("8443/{}", "a".repeat(1025)));
        std::fs::write(dir.path().join("mytoken.toml"), long).unwrap();
        std::fs::write(dir.path().join("jobs.toml"), format!("[cluster]\nname = 'c'\n{PROFILE}")).unwrap();
        let me = FileTrust::user(nix::unistd::geteuid().as_raw());
        let error = JobsSettings::load_alone(dir.path(), me).unwrap_err().to_string();
        assert!(error.contains("mytoken.toml:3: the url of the server \"s\" has more than"), "{error}");
    }

    proptest! {
        #[test]
        fn what_the_check_accepts_is_opened_on_a_node(
            scope in r"[a-z:/ \t\x00\x7f\u{e4}\u{85}]{0,20}|a{1020,1028}",
            audience in r"[a-z:/ \n\u{e4}\u{85}]{0,20}|b{1020,1028}",
            name in r"[a-z\-_.]{1,70}",
        ) {
            let mut settings: JobsSettings = toml::from_str(DOCUMENTED).unwrap();
            settings.profile[0].scope = scope.clone();
            settings.profile[0].audience = audience.clone();
            settings.cluster.name = name.clone();
            settings.profile[0].name = name.clone();
            let accepted = settings.check(&["testbed"]).is_ok();
            let (public, private) = KEYS.get_or_init(generate);
            let credential =
                JobCredential { cluster: name.clone(), profile: name, scope, audience, ..sealed::sample() };
            let opened = sealed::seal(&credential, public).and_then(|text| sealed::open(&text, private));
            prop_assert!(!accepted || opened.is_ok_and(|opened| opened == credential));
        }
    }
}
