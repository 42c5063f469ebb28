// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the user and the site have written down: `~/.config/mytoken/config.toml`, then `/etc/mytoken/mytoken.toml`.

use std::path::{Path, PathBuf};

use mytoken::config::{self, Duration, FileTrust, Shared};
use mytoken::http::{HttpSettings, Roots};
use mytoken::names::{IssuerUrl, ServerUrl};
use mytoken::store::{Entry, Store};
use nix::unistd::{User, geteuid};
use serde::Deserialize;

use crate::error::Error;

/// `~/.config/mytoken/config.toml`. Everything may be missing.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UserFile {
    /// URL of the mytoken server.
    pub server: Option<String>,
    /// URL of the OpenID provider.
    pub issuer: Option<String>,
    /// PEM file of trusted certificates.
    pub ca_file: Option<PathBuf>,
    /// Whether plain http to this machine is accepted.
    pub allow_loopback_http: bool,
    /// Name of the mytoken; default: the machine's.
    pub name: Option<String>,
    /// Scopes of the mytoken, separated by blanks.
    pub scope: Option<String>,
    /// Audience of the mytoken.
    pub audience: Option<String>,
    /// Capabilities of the mytoken.
    pub capabilities: Vec<String>,
    /// Lifetime of the mytoken.
    pub lifetime: Option<Duration>,
    /// Prompts that get the token; default `Access Token:`.
    pub prompts: Vec<String>,
    /// What differs by host; the first pattern that fits counts.
    #[serde(rename = "host")]
    pub hosts: Vec<HostRule>,
}

/// `[[host]]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostRule {
    /// Host names as given to ssh or as ssh resolved them, `*` and `?` as in ssh's own configuration.
    pub pattern: String,
    /// Scopes of the login's token; default: all of the stored mytoken.
    pub scope: Option<String>,
    /// Audience of the login's token; default: that of the stored mytoken.
    pub audience: Option<String>,
}

/// Both files.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The user's.
    pub user: UserFile,
    /// The site's.
    pub site: Option<Shared>,
    home: PathBuf,
}

impl Settings {
    /// Reads both files where they exist.
    pub fn load() -> Result<Self, Error> {
        let home = home()?;
        let own = home.join(".config/mytoken");
        let user = if own.join("config.toml").exists() {
            config::read(&own, "config", FileTrust::user(geteuid().as_raw()))?
        } else {
            UserFile::default()
        };
        let dir = Path::new(config::DIRECTORY);
        let site = if dir.join("mytoken.toml").exists() { Some(Shared::load(dir, FileTrust::ROOT)?) } else { None };
        Ok(Self { user, site, home })
    }

    /// Opens the user's token store.
    pub fn store(&self) -> Result<Store, Error> {
        Ok(Store::open(&Store::default_path(&self.home))?)
    }

    /// How servers are talked to. `ca` is the command line's.
    pub fn http(&self, ca: Option<&Path>) -> HttpSettings {
        let site = self.site.as_ref().map(|site| &site.http);
        let file = ca.or(self.user.ca_file.as_deref()).or_else(|| site.and_then(|http| http.ca_file.as_deref()));
        let roots = match file {
            Some(file) => Roots::File(file.to_owned()),
            // For root the variables of the environment may be somebody else's.
            None if geteuid().is_root() => Roots::Distribution,
            None => Roots::UserTool,
        };
        let mut settings = HttpSettings { roots, loopback_http: self.loopback_http(), ..HttpSettings::default() };
        settings.user_agent = concat!("mytoken-ssh/", env!("CARGO_PKG_VERSION")).to_owned();
        if let Some(http) = site {
            settings.proxy = Some(http.proxy.clone()).filter(|proxy| !proxy.is_empty());
            settings.connect_timeout = http.connect_timeout.get();
        }
        settings
    }

    fn loopback_http(&self) -> bool {
        self.user.allow_loopback_http || self.site.as_ref().is_some_and(|site| site.http.allow_loopback_http)
    }

    /// The server for a first login.
    pub fn server(&self, asked: Option<&str>) -> Result<ServerUrl, Error> {
        let configured = || self.site.as_ref().and_then(|site| site.servers.first()).map(|server| server.url.as_str());
        let url = asked.or(self.user.server.as_deref()).or_else(configured).ok_or_else(|| {
            Error::Usage("name your mytoken server: mytoken-ssh login --server https://mytoken.example.org".into())
        })?;
        Ok(ServerUrl::parse(url, self.loopback_http())?)
    }

    /// The server whose stored token is meant.
    pub fn stored_server(&self, asked: Option<&str>, store: &Store) -> Result<ServerUrl, Error> {
        if asked.is_some() || self.user.server.is_some() {
            return self.server(asked);
        }
        let stored = store.tokens()?;
        let configured = self.server(None).ok();
        match (stored.as_slice(), configured) {
            (entries, Some(url)) if entries.iter().any(|entry| entry.server == url) => Ok(url),
            ([Entry { server, .. }], _) => Ok(server.clone()),
            ([], Some(url)) => Ok(url),
            ([], None) => Err(Error::Usage("you have no mytoken; run: mytoken-ssh login".into())),
            _ => Err(Error::Usage("you have mytokens for several servers; say which with --server".into())),
        }
    }

    /// The provider for a first login, among those that the server offers.
    pub fn issuer(&self, asked: Option<&str>, offered: &[&str]) -> Result<IssuerUrl, Error> {
        let parse = |url: &str| IssuerUrl::parse(url, self.loopback_http());
        if let Some(url) = asked.or(self.user.issuer.as_deref()) {
            return Ok(parse(url)?);
        }
        if let [only] = offered {
            return Ok(parse(only)?);
        }
        let of_site = |url: &&&str| {
            let issuers = self.site.iter().flat_map(|site| &site.issuers);
            parse(url).is_ok_and(|url| issuers.into_iter().any(|issuer| url.matches(&issuer.url)))
        };
        let known: Vec<&&str> = offered.iter().filter(of_site).collect();
        match known.as_slice() {
            [only] => Ok(parse(only)?),
            _ => Err(Error::Usage(format!(
                "say at which provider you log in with --issuer; offered: {}",
                offered.join(", ")
            ))),
        }
    }

    /// The first `[[host]]` that fits one of a destination's names.
    pub fn host_rule(&self, names: [&str; 2]) -> Option<&HostRule> {
        self.user
            .hosts
            .iter()
            .find(|rule| names.iter().any(|name| fits(&rule.pattern.to_lowercase(), &name.to_lowercase())))
    }

    /// Prompts that get the token.
    pub fn prompts(&self) -> Vec<String> {
        if self.user.prompts.is_empty() {
            return vec![crate::askpass::prompt::DEFAULT.to_owned()];
        }
        self.user.prompts.clone()
    }
}

fn home() -> Result<PathBuf, Error> {
    if let Some(home) = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute()) {
        return Ok(home);
    }
    let user = User::from_uid(geteuid()).ok().flatten();
    user.map(|user| user.dir).ok_or_else(|| Error::Usage("you have no home directory; set HOME".into()))
}

/// `*` is any text, `?` any character.
fn fits(pattern: &str, name: &str) -> bool {
    let Some(first) = pattern.chars().next() else { return name.is_empty() };
    let rest = pattern.get(first.len_utf8()..).unwrap_or_default();
    match first {
        '*' => name
            .char_indices()
            .map(|(index, _)| index)
            .chain([name.len()])
            .any(|index| fits(rest, name.get(index..).unwrap_or_default())),
        _ => match name.chars().next() {
            Some(next) if first == '?' || first == next => fits(rest, name.get(next.len_utf8()..).unwrap_or_default()),
            _ => false,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_patterns() {
        let table = [
            ("*", "anything", true),
            ("*.cluster.example.org", "login.cluster.example.org", true),
            ("*.cluster.example.org", "cluster.example.org", false),
            ("login?", "login1", true),
            ("login?", "login12", false),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "aXbY", false),
            ("", "x", false),
        ];
        for (pattern, name, expected) in table {
            assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn the_first_rule_that_fits_either_name_counts() {
        let text = "[[host]]\npattern = 'tb'\nscope = 'one'\n[[host]]\npattern = '*.example.org'\nscope = 'two'";
        let settings = Settings { user: toml::from_str(text).unwrap(), ..Settings::default() };
        let scope = |names| settings.host_rule(names).and_then(|rule| rule.scope.clone());
        assert_eq!(scope(["TB", "x.example.org"]).as_deref(), Some("one"));
        assert_eq!(scope(["y", "x.example.org"]).as_deref(), Some("two"));
        assert_eq!(scope(["y", "z"]), None);
    }

    #[test]
    fn one_provider_needs_no_choice() {
        let settings = Settings::default();
        assert_eq!(settings.issuer(None, &["https://op.example.org"]).unwrap().as_str(), "https://op.example.org");
        let error = settings.issuer(None, &["https://a.example.org", "https://b.example.org"]).unwrap_err().to_string();
        assert!(error.contains("--issuer") && error.contains("https://b.example.org"), "{error}");
        assert!(settings.server(None).unwrap_err().to_string().contains("--server"));
    }
}
