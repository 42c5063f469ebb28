// SPDX-License-Identifier: MIT OR Apache-2.0
//! A profile: what the sub-token of a job may do, and when.

use mytoken::config::Duration;
use mytoken::restrictions::Clause;
use mytoken::restrictions::hosts::{self, HostEntry};
use mytoken_wire::tools::Tool;
use serde::Deserialize;

use super::files::{self, FileSettings};
use super::sealed;

/// Most windows of a profile.
const WINDOWS: usize = 8;

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
    /// Times in which the job gets access tokens. Empty: always.
    #[serde(default)]
    pub windows: Vec<WindowSettings>,
    /// Tools for which the job's environment names the token file.
    #[serde(default)]
    pub tools: Vec<Tool>,
    /// Further token files, with other scopes or audiences.
    #[serde(default)]
    pub files: Vec<FileSettings>,
}

/// A time in which the job gets access tokens, counted from its submission.
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
    /// Checks what the types cannot express. `servers` are the names in `mytoken.toml`, `longest` is the longest wait and run time of the
    /// cluster in seconds.
    ///
    /// # Errors
    /// A sentence without the profile's name.
    pub(super) fn check(&self, servers: &[&str], longest: u64) -> Result<(), String> {
        if !servers.contains(&self.server.as_str()) {
            return Err(format!("mytoken.toml has no [[server]] \"{}\"", self.server));
        }
        check_scope(&self.scope)?;
        check_audience(&self.audience)?;
        files::check(&self.files)?;
        check_limits(&self.hosts, self.max_lifetime, self.usages, &self.windows)?;
        self.check_size(longest)
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

    /// Checks that something is left to request, and that it fits into a sealed credential.
    ///
    /// # Errors
    /// A sentence without the profile's name.
    pub(super) fn check_size(&self, longest: u64) -> Result<(), String> {
        let clauses = self.clauses(longest, 0);
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
    windows: &[WindowSettings],
) -> Result<(), String> {
    if max_lifetime.is_some_and(|lifetime| lifetime.as_secs() == 0) {
        return Err("max_lifetime is zero".to_owned());
    }
    if usages == Some(0) {
        return Err("usages is zero, so the job would get no access token".to_owned());
    }
    if windows.len() > WINDOWS {
        return Err(format!("there are {} windows; at most {WINDOWS} are possible", windows.len()));
    }
    if windows.iter().any(|window| window.from >= window.until) {
        return Err("windows: \"until\" must be later than \"from\"".to_owned());
    }
    hosts.iter().try_for_each(|host| check_network(host))
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
