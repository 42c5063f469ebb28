// SPDX-License-Identifier: MIT OR Apache-2.0
//! A profile: what the sub-token of a job may do, and when.

use mytoken::config::Duration;
use mytoken::restrictions::Clause;
use mytoken::restrictions::hosts::{self, HostEntry};
use mytoken_wire::tools::Tool;
use serde::Deserialize;

use super::files::{self, FileSettings};
use super::sealed;
use super::settings::ClusterSettings;
use super::start_windows::MOST;

/// Longest form of a sub-token's restrictions in bytes. A longer sub-token might not fit into a sealed credential
/// ([`mytoken_wire::sealed::LIMIT`]).
const RESTRICTIONS: usize = 3072;

/// `[[profile]]`: server, scopes and audience of a job credential.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProfileSettings {
    /// The NAME in `--mytoken=NAME`. The profile `default` is used by `--mytoken` without a name.
    pub name: String,
    /// Name of a `[[server]]` of `mytoken.toml`.
    pub server: String,
    /// Scopes, separated by single blanks.
    pub scope: String,
    /// The audience of the access tokens.
    pub audience: String,
    /// Addresses and networks from which the mytoken server sees this cluster. Empty: any address.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Longest life of the sub-token. `None`: longest wait and run time of the cluster.
    #[serde(default)]
    pub max_lifetime: Option<Duration>,
    /// Number of access tokens that the sub-token gives in each window. `None`: any.
    #[serde(default)]
    pub usages: Option<u32>,
    /// Times in which the job gets access tokens, counted from its submission. Empty: always.
    #[serde(default)]
    pub windows: Vec<WindowSettings>,
    /// Times in which a job gets access tokens, counted from its start. Empty: always. The agents of its nodes keep them, not the mytoken
    /// server.
    #[serde(default)]
    pub start_windows: Vec<WindowSettings>,
    /// Tools for which the job's environment names the token file.
    #[serde(default)]
    pub tools: Vec<Tool>,
    /// Further token files, with other scopes or audiences.
    #[serde(default)]
    pub files: Vec<FileSettings>,
}

/// A time in which the job gets access tokens, counted from its submission, or from its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowSettings {
    /// Begin.
    #[serde(default = "at_submission")]
    pub from: Duration,
    /// End.
    pub until: Duration,
}

const fn at_submission() -> Duration {
    Duration::seconds(0)
}

impl WindowSettings {
    /// What both windows have in common.
    #[must_use]
    pub fn common(self, other: Self) -> Option<Self> {
        let (from, until) = (self.from.max(other.from), self.until.min(other.until));
        (from < until).then_some(Self { from, until })
    }
}

impl ProfileSettings {
    /// Checks what the types cannot express. `servers` are the names in `mytoken.toml`.
    ///
    /// # Errors
    /// The keys that can have the mistake, and a sentence without the profile's name.
    pub(super) fn check(
        &self,
        servers: &[&str],
        cluster: &ClusterSettings,
    ) -> Result<(), (&'static [&'static str], String)> {
        if !servers.contains(&self.server.as_str()) {
            return Err((&["server"], format!("mytoken.toml has no [[server]] \"{}\"", self.server)));
        }
        let keys: [(&'static [&'static str], Result<(), String>); 7] = [
            (&["scope"], check_scope(&self.scope)),
            (&["audience"], check_audience(&self.audience)),
            (&["files"], files::check(&self.files)),
            (&["max_lifetime"], check_limits(&[], self.max_lifetime, None)),
            (&["usages"], check_limits(&[], None, self.usages)),
            (&["hosts"], check_limits(&self.hosts, None, None)),
            (&["windows"], check_windows("windows", &self.windows)),
        ];
        for (keys, checked) in keys {
            checked.map_err(|fault| (keys, fault))?;
        }
        let of_start = check_windows("start_windows", &self.start_windows);
        of_start.map_err(|fault| (&["start_windows"][..], fault))?;
        self.check_together(cluster).map_err(|fault| (&["start_windows", "windows", "hosts", "scope"][..], fault))
    }

    /// The profile for a program that starts when its mytoken is made: all its windows are those of the mytoken. `None`: they have no time
    /// in common.
    #[must_use]
    pub fn at_start(&self) -> Option<Self> {
        let windows = if self.start_windows.is_empty() {
            self.windows.clone()
        } else {
            Some(common(&self.start_windows, &self.windows)).filter(|common| !common.is_empty())?
        };
        Some(Self { windows, start_windows: Vec::new(), ..self.clone() })
    }

    /// The profile without its further files.
    #[must_use]
    pub fn main_alone(&self) -> Self {
        Self { files: Vec::new(), ..self.clone() }
    }

    /// The restrictions of a sub-token of this profile that lives for `longest` seconds from `now` on, a clause for each window of the main
    /// file, then of each further one: together they allow what the files need, and no other pair of scope and audience. Windows that
    /// begin later are left out, so there may be none.
    #[must_use]
    pub fn clauses(&self, longest: u64, now: u64) -> Vec<Clause> {
        let longest = self.max_lifetime.map_or(longest, |lifetime| longest.min(lifetime.as_secs()));
        let always = [WindowSettings { from: Duration::seconds(0), until: Duration::seconds(longest) }];
        let windows = if self.windows.is_empty() { always.as_slice() } else { self.windows.as_slice() };
        let clause = |window: &WindowSettings, scope: &str, audience: &str| Clause {
            // Without a begin where there is none: the server's clock may be slow.
            nbf: Some(window.from.as_secs()).filter(|from| *from > 0).map(|from| now.saturating_add(from)),
            exp: Some(now.saturating_add(window.until.as_secs().min(longest))),
            scope: scope.to_owned(),
            audience: vec![audience.to_owned()],
            hosts: self.hosts.clone(),
            usages_at: self.usages.map(i64::from),
            ..Clause::default()
        };
        let begins = |window: &&WindowSettings| window.from.as_secs() == 0 || window.from.as_secs() < longest;
        let further = self.files.iter().map(|file| (file.scope.as_str(), file.audience.as_str()));
        std::iter::once((self.scope.as_str(), self.audience.as_str()))
            .chain(further)
            .flat_map(|(scope, audience)| {
                windows.iter().filter(begins).map(move |window| clause(window, scope, audience))
            })
            .collect()
    }

    /// Checks that something is left to request, that it fits into a sealed credential, and that each window can begin.
    ///
    /// # Errors
    /// A sentence without the profile's name.
    pub(super) fn check_together(&self, cluster: &ClusterSettings) -> Result<(), String> {
        let most = cluster.max_wall.min(self.max_lifetime.unwrap_or(cluster.max_wall));
        if self.start_windows.iter().any(|window| window.from >= most) {
            return Err("start_windows: one begins when the longest job (cluster.max_wall), or the mytoken of each job (max_lifetime), has ended".to_owned());
        }
        let clauses = self.clauses(cluster.longest(), 0);
        if clauses.len() < self.windows.len().max(1) * (1 + self.files.len()) {
            return Err("windows: one begins when the job's mytoken has ended".to_owned());
        }
        let length = serde_json::to_string(&clauses).map_or(usize::MAX, |text| text.len());
        if length > RESTRICTIONS {
            return Err(format!(
                "scope, audience and hosts of all windows and files have {length} bytes together; at most {RESTRICTIONS} fit into a credential"
            ));
        }
        Ok(())
    }
}

/// Checks scopes of a profile.
///
/// # Errors
/// A sentence that names the key.
pub(super) fn check_scope(scope: &str) -> Result<(), String> {
    if scope.is_empty() || scope.split(' ').any(str::is_empty) {
        // MT-11: doubled blanks reach the provider verbatim and are refused there.
        return Err("scope must be a list of scopes separated by single blanks, and not empty".to_owned());
    }
    sealed::check_text(scope).map_err(|fault| format!("scope {fault}; no node accepts it"))
}

/// Checks an audience of a profile.
///
/// # Errors
/// A sentence that names the key.
pub(super) fn check_audience(audience: &str) -> Result<(), String> {
    sealed::check_text(audience).map_err(|fault| format!("audience {fault}; no node accepts it"))?;
    if audience.is_empty() || audience.contains(char::is_whitespace) {
        return Err("audience must be exactly one audience, without blanks".to_owned());
    }
    Ok(())
}

/// Checks what limits a profile.
///
/// # Errors
/// A sentence that names the key.
pub(super) fn check_limits(
    hosts: &[String],
    max_lifetime: Option<Duration>,
    usages: Option<u32>,
) -> Result<(), String> {
    if max_lifetime.is_some_and(|lifetime| lifetime.as_secs() == 0) {
        return Err("max_lifetime is zero".to_owned());
    }
    if usages == Some(0) {
        return Err("usages is zero, so the job would get no access token".to_owned());
    }
    hosts.iter().try_for_each(|host| check_network(host))
}

/// Checks the windows of `key`.
///
/// # Errors
/// A sentence that names the key.
fn check_windows(key: &str, windows: &[WindowSettings]) -> Result<(), String> {
    if windows.len() > MOST {
        return Err(format!("{key}: there are {}; at most {MOST} are possible", windows.len()));
    }
    if windows.iter().any(|window| window.from >= window.until) {
        return Err(format!("{key}: \"until\" must be later than \"from\""));
    }
    Ok(())
}

/// What both lists of windows have in common. An empty list of the site is any time.
fn common(own: &[WindowSettings], site: &[WindowSettings]) -> Vec<WindowSettings> {
    if site.is_empty() {
        return own.to_vec();
    }
    own.iter().flat_map(|own| site.iter().filter_map(|site| own.common(*site))).collect()
}

/// The user's windows within those of the site; those of the site if the user has none.
///
/// # Errors
/// A sentence that names the key.
pub(super) fn clipped(
    key: &str,
    own: &[WindowSettings],
    site: &[WindowSettings],
    name: &str,
) -> Result<Vec<WindowSettings>, String> {
    check_windows(key, own)?;
    let clipped = if own.is_empty() { site.to_vec() } else { common(own, site) };
    if clipped.is_empty() && !own.is_empty() {
        return Err(format!("{key} have no time in common with those of the site's profile \"{name}\""));
    }
    Ok(clipped)
}

/// Checks that `host` is an address, or a network with a zero host part. The server takes `192.0.2.7/24` for a single address, and
/// `0.0.0.0/0` for a host name (MT-21).
pub(super) fn check_network(host: &str) -> Result<(), String> {
    match hosts::read(host) {
        HostEntry::Network(_) => Ok(()),
        HostEntry::Address(_) => Err(format!(
            "hosts: \"{host}\" has bits set after its network bits; the server would take it for a single address"
        )),
        HostEntry::Name => Err(format!(
            "hosts: \"{}\" is neither an address nor a network like 192.0.2.0/24; a host name is not safe here, because its reverse zone decides; for any address write []",
            host.escape_debug()
        )),
    }
}
