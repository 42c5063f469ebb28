// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mytoken.toml`: the settings that every program of the suite needs, such as servers, issuers, TLS and proxy.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{ConfigError, Duration, FileTrust, IssuerSettings, Mistake, read};
use crate::http::{HttpSettings, Roots};
use crate::urls::{IssuerUrl, ServerUrl};

/// Default directory of the configuration.
pub const DIRECTORY: &str = mytoken_wire::paths::CONFIGURATION;

/// The content of `mytoken.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shared {
    /// The HTTP client.
    #[serde(default)]
    pub http: HttpSection,
    /// Mytoken servers.
    #[serde(default, rename = "server")]
    pub servers: Vec<ServerSettings>,
    /// OpenID providers whose access tokens are accepted.
    #[serde(default, rename = "issuer")]
    pub issuers: Vec<IssuerSettings>,
}

/// `[http]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpSection {
    /// PEM file of trusted certificates; absent: the distribution's bundle.
    pub ca_file: Option<PathBuf>,
    /// URL of an HTTP proxy; empty: none. The environment is ignored.
    pub proxy: String,
    /// Whether plain http to this machine is accepted.
    pub allow_loopback_http: bool,
    /// Time limit for making one connection, within the deadline of the operation.
    pub connect_timeout: Duration,
}

impl Default for HttpSection {
    fn default() -> Self {
        Self { ca_file: None, proxy: String::new(), allow_loopback_http: false, connect_timeout: Duration::seconds(3) }
    }
}

/// `[[server]]`: a mytoken server.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerSettings {
    /// Short name, for `login.toml` and `jobs.toml`.
    pub name: String,
    /// The server's URL, exactly as its discovery document gives it (except for one trailing slash).
    pub url: String,
    /// Requests that this host may send in `request_period`. Zero: any number. `None`: what the server says in its answers.
    #[serde(default)]
    pub request_limit: Option<u32>,
    /// The period of `request_limit`.
    #[serde(default = "ServerSettings::request_period")]
    pub request_period: Duration,
}

impl ServerSettings {
    /// Largest `request_limit`: each request of a period is remembered.
    pub const MOST_REQUESTS: u32 = 10_000;

    const fn request_period() -> Duration {
        Duration::seconds(300)
    }

    /// The key that has a mistake, and a sentence.
    fn check(&self) -> Result<(), (&'static [&'static str], String)> {
        if self.request_limit.is_some_and(|limit| limit > Self::MOST_REQUESTS) {
            let most = Self::MOST_REQUESTS;
            let problem =
                format!("request_limit of the server \"{}\" can be at most {most}; 0 means any number", self.name);
            return Err((&["request_limit"], problem));
        }
        if !(1..=86_400).contains(&self.request_period.as_secs()) {
            let problem = format!("request_period of the server \"{}\" must be between \"1s\" and \"1d\"", self.name);
            return Err((&["request_period"], problem));
        }
        Ok(())
    }
}

impl Shared {
    /// Reads `DIR/mytoken.toml` and its drop-ins.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(dir: &Path, trust: FileTrust) -> Result<Self, ConfigError> {
        let shared: Self = read(dir, "mytoken", trust)?;
        // Whoever can write this file decides which servers are trusted.
        if let Some(file) = &shared.http.ca_file {
            trust.check_file(file)?;
        }
        shared.check().map_err(|mistake| mistake.into_error(dir, "mytoken", trust))?;
        Ok(shared)
    }

    /// Checks what the types cannot express.
    fn check(&self) -> Result<(), Mistake> {
        let servers = self.servers.iter().map(|server| server.name.as_str());
        let issuers = self.issuers.iter().map(|issuer| issuer.name.as_str());
        for (list, names) in [("server", servers.collect::<Vec<_>>()), ("issuer", issuers.collect())] {
            let mut seen = HashSet::new();
            if let Some((index, name)) = names.iter().enumerate().find(|(_, name)| !seen.insert(**name)) {
                return Err(Mistake::of_entry(list, index, &["name"], format!("the name \"{name}\" is used twice")));
            }
        }
        for (index, server) in self.servers.iter().enumerate() {
            let of = |keys, problem: String| Mistake::of_entry("server", index, keys, problem);
            self.server_url(&server.name).map_err(|error| of(&["url"], error.to_string()))?;
            server.check().map_err(|(key, problem)| of(key, problem))?;
        }
        for (index, issuer) in self.issuers.iter().enumerate() {
            let of = |keys, problem: String| Mistake::of_entry("issuer", index, keys, problem);
            IssuerUrl::parse(&issuer.url, self.http.allow_loopback_http)
                .map_err(|error| of(&["url"], error.to_string()))?;
            issuer.validate().map_err(|error| of(error.keys(), error.to_string()))?;
        }
        Ok(())
    }

    /// The settings of the HTTP client.
    #[must_use]
    pub fn http_settings(&self) -> HttpSettings {
        HttpSettings {
            roots: self.http.ca_file.clone().map_or(Roots::Distribution, Roots::File),
            proxy: Some(self.http.proxy.clone()).filter(|proxy| !proxy.is_empty()),
            loopback_http: self.http.allow_loopback_http,
            connect_timeout: self.http.connect_timeout.get(),
            ..HttpSettings::default()
        }
    }

    /// The URL of the server of this name.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] if there is none, [`ConfigError::Url`] if its URL must not be used.
    pub fn server_url(&self, name: &str) -> Result<ServerUrl, ConfigError> {
        let server = self.server(name).ok_or_else(|| ConfigError::Invalid {
            place: "mytoken.toml".to_owned(),
            problem: format!("there is no [[server]] \"{name}\""),
        })?;
        Ok(ServerUrl::parse(&server.url, self.http.allow_loopback_http)?)
    }

    /// The server of this name.
    #[must_use]
    pub fn server(&self, name: &str) -> Option<&ServerSettings> {
        self.servers.iter().find(|server| server.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARED: &str = r#"
        [[server]]
        name = "testbed"
        url = "https://mytoken.testbed:8443"
        [[issuer]]
        name = "op"
        url = "https://op.testbed:8444"
        audiences = ["https://testbed"]
    "#;

    fn config_dir(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        dir
    }

    fn me() -> FileTrust {
        FileTrust::user(nix::unistd::geteuid().as_raw())
    }

    #[test]
    fn plain_http_needs_a_loopback_address_and_permission() {
        let error = |url: &str, http: &str| {
            let text = format!("[http]\n{http}\n{}", SHARED.replace("https://mytoken.testbed:8443", url));
            Shared::load(config_dir(&[("mytoken.toml", &text)]).path(), me()).err().map(|error| error.to_string())
        };
        assert_eq!(error("http://127.0.0.1:8000", "allow_loopback_http = true"), None);
        assert!(error("http://127.0.0.1:8000", "").unwrap().contains("allow_loopback_http"));
        assert!(error("http://mytoken.testbed", "allow_loopback_http = true").is_some());
    }

    #[test]
    fn a_request_limit_is_within_its_range() {
        let read = |keys: &str| {
            let text = SHARED.replace("8443\"", &format!("8443\"\n{keys}"));
            let read = Shared::load(config_dir(&[("mytoken.toml", &text)]).path(), me());
            read.map(|shared| (shared.servers[0].request_limit, shared.servers[0].request_period.as_secs()))
                .map_err(|error| error.to_string())
        };
        assert_eq!(read(""), Ok((None, 300)));
        assert_eq!(read("request_limit = 25\nrequest_period = \"1m\""), Ok((Some(25), 60)));
        assert_eq!(read("request_limit = 0"), Ok((Some(0), 300)));
        assert!(read("request_limit = 10001").unwrap_err().contains("at most 10000"));
        assert!(read("request_period = \"0s\"").unwrap_err().contains("request_period"));
    }

    #[test]
    fn certificates_that_others_can_replace_are_refused() {
        use std::os::unix::fs::PermissionsExt;
        let dir = config_dir(&[("ca.pem", "x")]);
        let ca = dir.path().join("ca.pem");
        let text = format!("[http]\nca_file = \"{}\"\n{SHARED}", ca.display());
        std::fs::write(dir.path().join("mytoken.toml"), text).unwrap();
        assert!(Shared::load(dir.path(), me()).is_ok());
        std::fs::set_permissions(&ca, std::fs::Permissions::from_mode(0o666)).unwrap();
        assert!(matches!(Shared::load(dir.path(), me()), Err(ConfigError::Unsafe { .. })));
    }

    #[test]
    fn a_mistake_in_a_drop_in_is_told_of_the_drop_in() {
        const OTHER: &str = "[[issuer]]\nname = 'b'\nurl = 'https://b.example.org'\naudiences = ['x']\n";
        for (text, line) in [
            (OTHER.replace("audiences = ['x']\n", ""), 2),
            (OTHER.replace("https:", "http:"), 4),
            (OTHER.replace("'b'", "'op'"), 3),
            (OTHER.replace("['x']", "[]"), 5),
            (OTHER.replace("url = 'https://b.example.org'\n", ""), 2),
            (format!("{OTHER}algorithms = []\n"), 6),
            (format!("{OTHER}accept_typ = []\n"), 6),
            (format!("{OTHER}endpoint_hosts = ['https://x']\n"), 6),
            (format!("{OTHER}validation = []\n"), 6),
            (format!("{OTHER}validation = ['introspection']\n"), 6),
            ("[[server]]\nname = 'testbed'\nurl = 'https://b.example.org'\n".to_owned(), 3),
            ("[[server]]\nname = 'b'\nurl = 'http://b.example.org'\n".to_owned(), 4),
            ("[[server]]\nname = 'b'\nurl = 'https://b.org'\nrequest_limit = 10001\n".to_owned(), 5),
            ("[[server]]\nname = 'b'\nurl = 'https://b.org'\nrequest_period = '0s'\n".to_owned(), 5),
        ] {
            let dir = config_dir(&[("mytoken.toml", SHARED)]);
            std::fs::create_dir(dir.path().join("mytoken.d")).unwrap();
            let drop_in = dir.path().join("mytoken.d/z.toml");
            std::fs::write(&drop_in, format!("\n{text}")).unwrap();
            let error = Shared::load(dir.path(), me()).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{}:{line}: ", drop_in.display())), "{text}: {error}");
        }
    }

    #[test]
    fn an_issuer_without_audiences_needs_require_audience_false() {
        let without = SHARED.replace("audiences = [\"https://testbed\"]", "");
        let dir = config_dir(&[("mytoken.toml", &without)]);
        assert!(Shared::load(dir.path(), me()).unwrap_err().to_string().contains("require_audience = false"));
        let written = without.replace("name = \"op\"", "name = \"op\"\nrequire_audience = false");
        let dir = config_dir(&[("mytoken.toml", &written)]);
        assert!(Shared::load(dir.path(), me()).is_ok());
    }
}
