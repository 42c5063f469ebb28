// SPDX-License-Identifier: MIT OR Apache-2.0
//! Configuration of the user (`config.toml` and `hosts.toml` in `~/.config/mytoken`) and of the site
//! (`/etc/mytoken/mytoken.toml`). The user's takes precedence.

use std::path::{Path, PathBuf};

use mytoken::config::{self, Duration, FileTrust, Shared};
use mytoken::http::{HttpSettings, Roots};
use mytoken::token_store::{StoredToken, TokenStore};
use mytoken::urls::{IssuerUrl, ServerUrl};
use nix::unistd::{User, geteuid};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::error::Error;
use crate::hosts::{HostRule, HostRules};

/// Directory of the user's configuration below the home directory.
const DIRECTORY: &str = ".config/mytoken";

/// `~/.config/mytoken/config.toml`. Every key is optional.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UserConfig {
    /// URL of the mytoken server.
    pub server: Option<String>,
    /// URL of the OpenID provider.
    pub issuer: Option<String>,
    /// PEM file with the CA certificates to trust.
    pub ca_file: Option<PathBuf>,
    /// Whether http without TLS is accepted for servers on this machine.
    pub allow_loopback_http: bool,
    /// Name of the mytoken; default: the name of this machine.
    pub name: Option<String>,
    /// Scopes of the mytoken, separated by blanks.
    pub scope: Option<String>,
    /// Audience of the mytoken.
    pub audience: Option<String>,
    /// Capabilities of the mytoken.
    pub capabilities: Vec<String>,
    /// Lifetime of the mytoken.
    pub lifetime: Option<Duration>,
    /// Prompts that ask for the token; default: `Access Token:`.
    pub prompts: Vec<String>,
    /// Settings per host. The first matching pattern applies.
    #[serde(rename = "host")]
    pub hosts: Vec<HostRule>,
}

/// Configuration of user and site.
#[derive(Debug, Clone, Default)]
pub struct HelperSettings {
    /// The user's configuration.
    pub user: UserConfig,
    /// The site's configuration, if there is one.
    pub site: Option<Shared>,
    /// Which token each host gets.
    pub hosts: HostRules,
    home: PathBuf,
}

impl HelperSettings {
    /// Reads the files that exist.
    pub fn load() -> Result<Self, Error> {
        let home = home_directory()?;
        let directory = home.join(DIRECTORY);
        let mut user: UserConfig = read_own(&directory, "config")?;
        let dir = Path::new(config::DIRECTORY);
        let site = if is_there(&dir.join("mytoken.toml")) { Some(Shared::load(dir, FileTrust::ROOT)?) } else { None };
        let hosts = HostRules::load(std::mem::take(&mut user.hosts), &directory)?;
        Ok(Self { user, site, hosts, home })
    }

    /// These settings with other rules for hosts.
    pub fn with_hosts(self, hosts: HostRules) -> Self {
        Self { hosts, ..self }
    }

    /// The directory of the user's configuration.
    pub fn directory(&self) -> PathBuf {
        self.home.join(DIRECTORY)
    }

    /// Opens the user's token store.
    pub fn store(&self) -> Result<TokenStore, Error> {
        Ok(TokenStore::open(&TokenStore::default_path(&self.home))?)
    }

    /// The user's token store if there is one. It is not made.
    pub fn existing_store(&self) -> Result<Option<TokenStore>, Error> {
        let path = TokenStore::default_path(&self.home);
        if path.symlink_metadata().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
            return Ok(None);
        }
        Ok(Some(TokenStore::open(&path)?))
    }

    /// HTTP settings. `ca` is the option `--ca`.
    pub fn http(&self, ca: Option<&Path>) -> HttpSettings {
        let site = self.site.as_ref().map(|site| &site.http);
        let file = ca.or(self.user.ca_file.as_deref()).or_else(|| site.and_then(|http| http.ca_file.as_deref()));
        let roots = match file {
            Some(file) => Roots::File(file.to_owned()),
            // root may have inherited environment variables of another user, so they are not used.
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

    /// The server of the command line or of the configuration. `option` is a host name or a URL.
    pub fn server(&self, option: Option<&str>) -> Result<ServerUrl, Error> {
        let configured = || self.site.as_ref().and_then(|site| site.servers.first()).map(|server| server.url.as_str());
        let url = option.or(self.user.server.as_deref()).or_else(configured).ok_or_else(|| {
            Error::Usage("no mytoken server is configured; run: mytoken-ssh login mytoken.example.org".into())
        })?;
        // A person types the name that the browser shows.
        let with_scheme = if url.contains("://") { url.to_owned() } else { format!("https://{url}") };
        Ok(ServerUrl::parse(&with_scheme, self.loopback_http())?)
    }

    /// The server for `mytoken-ssh login`: that of the last login, if there is no other choice.
    pub fn login_server(&self, argument: Option<&str>, store: &TokenStore) -> Result<ServerUrl, Error> {
        let configured = self.server(argument);
        if argument.is_some() || self.user.server.is_some() {
            return configured;
        }
        // A damaged store is no reason to refuse the login that repairs it.
        let stored = match store.tokens() {
            Ok(stored) => stored,
            Err(error) => return configured.map_err(|_| error.into()),
        };
        match (stored.as_slice(), configured) {
            (entries, Ok(url)) if entries.iter().any(|entry| entry.server == url) => Ok(url),
            ([StoredToken { server, .. }], _) => Ok(server.clone()),
            (_, configured) => configured,
        }
    }

    /// The server whose stored mytoken is used. `option` is the option `--server`.
    pub fn stored_server(&self, option: Option<&str>, store: &TokenStore) -> Result<ServerUrl, Error> {
        if option.is_some() || self.user.server.is_some() {
            return self.server(option);
        }
        let stored = store.tokens()?;
        let configured = self.server(None).ok();
        match (stored.as_slice(), configured) {
            (entries, Some(url)) if entries.iter().any(|entry| entry.server == url) => Ok(url),
            ([StoredToken { server, .. }], _) => Ok(server.clone()),
            ([], Some(url)) => Ok(url),
            ([], None) => Err(Error::NoMytoken),
            _ => Err(Error::SeveralServers),
        }
    }

    /// Whether a configuration names the server.
    pub fn knows(&self, server: &ServerUrl) -> bool {
        let of_site = self.site.iter().flat_map(|site| &site.servers).map(|server| server.url.as_str());
        self.user
            .server
            .as_deref()
            .into_iter()
            .chain(of_site)
            .any(|url| self.server(Some(url)).is_ok_and(|url| url == *server))
    }

    /// The provider for `mytoken-ssh login`, one of those that the server offers. `option` is the option `--issuer`.
    pub fn issuer(&self, option: Option<&str>, offered: &[&str]) -> Result<IssuerUrl, Error> {
        let parse = |url: &str| IssuerUrl::parse(url, self.loopback_http());
        if let Some(url) = option.or(self.user.issuer.as_deref()) {
            return Ok(parse(url)?);
        }
        if let [only] = offered {
            return Ok(parse(only)?);
        }
        let is_known_at_site = |url: &&&str| {
            let issuers = self.site.iter().flat_map(|site| &site.issuers);
            parse(url).is_ok_and(|url| issuers.into_iter().any(|issuer| url.matches(&issuer.url)))
        };
        let known: Vec<&&str> = offered.iter().filter(is_known_at_site).collect();
        match known.as_slice() {
            [only] => Ok(parse(only)?),
            _ if offered.is_empty() => {
                Err(Error::Usage("the server offers no provider; name yours with --issuer".into()))
            }
            _ => Err(Error::Usage(format!(
                "choose your provider with --issuer; the server offers: {}",
                offered.join(", ")
            ))),
        }
    }

    /// The directory for data of this program.
    pub fn data_directory(&self) -> PathBuf {
        let configured = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
        configured.unwrap_or_else(|| self.home.join(".local/share")).join("mytoken")
    }

    /// Prompts that ask for the token.
    pub fn token_prompts(&self) -> Vec<String> {
        if self.user.prompts.is_empty() {
            return vec![crate::askpass::prompt::DEFAULT.to_owned()];
        }
        self.user.prompts.clone()
    }
}

fn home_directory() -> Result<PathBuf, Error> {
    if let Some(home) = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute()) {
        return Ok(home);
    }
    let user = User::from_uid(geteuid()).ok().flatten();
    user.map(|user| user.dir).ok_or_else(|| Error::Usage("you have no home directory; set HOME".into()))
}

/// Reads `NAME.toml` and `NAME.d` of the user's directory. Without the file there is nothing.
pub fn read_own<T: DeserializeOwned + Default>(directory: &Path, name: &str) -> Result<T, Error> {
    if is_there(&directory.join(format!("{name}.toml"))) {
        return Ok(config::read(directory, name, FileTrust::user(geteuid().as_raw()))?);
    }
    let drop_ins = directory.join(format!("{name}.d"));
    if is_there(&drop_ins) {
        let place = drop_ins.display();
        return Err(Error::Usage(format!("{place} is read only beside a {name}.toml, which may be empty")));
    }
    Ok(T::default())
}

/// Whether there is a file, or a link: without its target nobody knows what the file says.
fn is_there(path: &Path) -> bool {
    path.exists() || path.is_symlink()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_only_provider_is_chosen_without_an_option() {
        let settings = HelperSettings::default();
        assert_eq!(settings.issuer(None, &["https://op.example.org"]).unwrap().as_str(), "https://op.example.org");
        let error = settings.issuer(None, &["https://a.example.org", "https://b.example.org"]).unwrap_err().to_string();
        assert!(error.contains("--issuer") && error.contains("https://b.example.org"), "{error}");
        let error = settings.issuer(None, &[]).unwrap_err().to_string();
        assert_eq!(error, "the server offers no provider; name yours with --issuer");
        assert!(settings.server(None).unwrap_err().to_string().contains("mytoken-ssh login mytoken.example.org"));
    }

    #[test]
    fn drop_ins_without_their_file_are_told() {
        let home = tempfile::tempdir().unwrap();
        let read = || read_own::<UserConfig>(home.path(), "config").map(|config| config.scope);
        assert_eq!(read().unwrap(), None);
        std::fs::create_dir(home.path().join("config.d")).unwrap();
        std::fs::write(home.path().join("config.d/a.toml"), "scope = 'x'").unwrap();
        assert!(
            read().unwrap_err().to_string().ends_with("config.d is read only beside a config.toml, which may be empty")
        );
        std::fs::write(home.path().join("config.toml"), "").unwrap();
        assert_eq!(read().unwrap().as_deref(), Some("x"));
    }

    #[test]
    fn a_server_is_a_host_name_or_a_url() {
        let settings = HelperSettings::default();
        for text in ["mytoken.example.org", "https://mytoken.example.org", "mytoken.example.org/"] {
            assert_eq!(settings.server(Some(text)).unwrap().as_str(), "https://mytoken.example.org", "{text}");
        }
        assert_eq!(settings.server(Some("mt.example.org:8443")).unwrap().as_str(), "https://mt.example.org:8443");
        assert!(settings.server(Some("http://mytoken.example.org")).is_err());
        assert!(settings.server(Some("two words")).is_err());
    }
}
