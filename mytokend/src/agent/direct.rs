// SPDX-License-Identifier: MIT OR Apache-2.0
//! Direct mode: this node has the cluster's private key and sends requests to the mytoken servers itself.

use std::sync::Arc;
use std::time::Duration;

use mytoken::cache::MemoryCache;
use mytoken::config::Shared;
use mytoken::http::HttpSettings;
use mytoken::restrictions::Clause;
use mytoken::server::ServerError;
use mytoken::server::{AccessTokenRequest, Server, refuse_rotation};
use mytoken::token::unverified_claims;
use mytoken::urls::ServerUrl;
use mytoken::{Deadline, Error, ScheduleClock, Secret};
use mytoken_wire::FileName;
use mytoken_wire::agent::{JobStart, RenewalCredential, UsedUp};
use mytoken_wire::clock::FixedClock;

use super::budget::ledger::Purpose;
use super::budget::{Budgets, Unsent};
use super::cluster_keys::{ClusterKeys, NoClusterKey, OpenError};
use super::credential_service::{Admitted, Charge, CredentialService, Denied, IssuedToken, RequestFailure};
use super::lease::{AdmittedFile, LeaseCredential, lane};
use super::server_clocks::ServerClocks;
use crate::jobs::files::SealedFile;
use crate::jobs::sealed::JobCredential;
use crate::jobs::{StartRefusal, job_start, repeatable, whole_seconds, windows};

/// Assumed lifetime in seconds of an access token whose expiry is unknown.
const UNKNOWN_LIFETIME: u64 = 300;

impl From<OpenError> for RequestFailure {
    fn from(error: OpenError) -> Self {
        Self::permanent(error.to_string())
    }
}

/// The credential service of direct mode.
pub struct DirectMode {
    http: HttpSettings,
    /// Names and URLs of the configured servers. Nothing is ever sent to another server.
    servers: Vec<(String, ServerUrl)>,
    keys: Result<ClusterKeys, NoClusterKey>,
    clock: Arc<dyn ScheduleClock>,
    budgets: Arc<Budgets>,
    discovery: MemoryCache,
    clocks: Arc<ServerClocks>,
}

impl DirectMode {
    /// Direct mode with the servers of `shared`.
    ///
    /// # Errors
    /// When the URL of a server is not allowed.
    pub fn new(
        shared: &Shared,
        keys: Result<ClusterKeys, NoClusterKey>,
        clock: Arc<dyn ScheduleClock>,
    ) -> Result<Self, Error> {
        let servers = shared
            .servers
            .iter()
            .map(|server| Ok((server.name.clone(), shared.server_url(&server.name)?)))
            .collect::<Result<_, Error>>()?;
        let budgets = Arc::new(Budgets::new(Arc::clone(&clock)));
        Ok(Self {
            http: shared.http_settings(),
            servers,
            keys,
            clock,
            budgets,
            discovery: MemoryCache::default(),
            clocks: Arc::default(),
        })
    }

    /// The same with budgets and clocks that outlive it. The caller configures the budgets when he uses it: a reload may be refused before.
    #[must_use]
    pub fn with(self, budgets: &Arc<Budgets>, clocks: &Arc<ServerClocks>) -> Self {
        Self { budgets: Arc::clone(budgets), clocks: Arc::clone(clocks), ..self }
    }

    /// Runs `work` with a client for the server `url`, if the budget permits it. The HTTP client is dropped afterwards.
    fn with_server<T>(
        &self,
        url: &ServerUrl,
        charge: Charge,
        deadline: Deadline,
        work: impl FnOnce(&Server<'_>) -> Result<T, Error>,
    ) -> Result<T, RequestFailure> {
        // The cache ends with this process, so its times are elapsed time: setting the time of day does not change their age.
        let elapsed = FixedClock(self.clock.elapsed().as_secs());
        let sent = self.budgets.send((&url.to_string(), charge.purpose, Some(charge.uid)), &self.http, |http| {
            let server = Server::discover_cached(http, url, &self.discovery, &elapsed, deadline)?;
            let result = work(&server);
            if let Some(clock) = server.server_clock() {
                self.clocks.note(&url.to_string(), clock);
            }
            result
        });
        sent.map_err(|unsent| match unsent {
            Unsent::NoPermit { wait, used_up } => {
                let seconds = wait.as_secs().saturating_add(1);
                let reason = match used_up {
                    UsedUp::User => {
                        format!("your share of this host's requests to {url} is used up for the next {seconds} s")
                    }
                    UsedUp::Host => format!("this host has used up its requests to {url} for the next {seconds} s"),
                    UsedUp::All => format!("the site has used up its requests to {url} for the next {seconds} s"),
                };
                RequestFailure { reason, temporary: true, retry_after: Some(wait), unsent: true, by_broker: false }
            }
            Unsent::Failed(error) => failure(&error),
        })
    }

    fn by_url(&self, url: &str) -> Result<&ServerUrl, RequestFailure> {
        let found = self.servers.iter().find(|(_, known)| known.to_string() == url);
        let unknown = || StartRefusal::UnknownServer { server: url.to_owned() };
        found.map(|(_, known)| known).ok_or_else(|| RequestFailure::permanent(unknown().to_string()))
    }

    fn by_name(&self, name: &str) -> Result<&ServerUrl, RequestFailure> {
        let found = self.servers.iter().find(|(known, _)| known == name);
        let unknown = || RequestFailure::permanent(format!("mytoken.toml has no server \"{name}\" any more"));
        found.map(|(_, url)| url).ok_or_else(unknown)
    }

    fn open(&self, text: &str) -> Result<JobCredential, OpenError> {
        let keys = self.keys.as_ref().map_err(|missing| OpenError::NoKey(missing.clone()))?;
        keys.open(text)
    }

    fn request(
        &self,
        url: &ServerUrl,
        request: &AccessTokenRequest<'_>,
        charge: Charge,
        deadline: Deadline,
    ) -> Result<IssuedToken, RequestFailure> {
        let granted = self.with_server(url, charge, deadline, |server| {
            server.access_token(request, &mut refuse_rotation, deadline)
        })?;
        let (left, lifetime) = life(granted.expires_in, granted.exp, self.clock.unix_millis());
        Ok(IssuedToken { token: granted.token, left, lifetime })
    }
}

impl DirectMode {
    /// Opens a sealed text and checks it, with `expires` its expiry too.
    fn opened(&self, job: &JobStart, sealed: &str, expires: bool) -> Result<Admitted, Denied> {
        let credential = self.open(sealed).map_err(|error| Denied {
            is_final: error.is_final(),
            has_retired_key: error.has_retired_key(),
            reason: error.to_string(),
            required: false,
        })?;
        let now = self.server_time(&credential.server).filter(|_| expires);
        let cluster = self.keys.as_ref().map(|key| key.cluster.as_str()).unwrap_or_default();
        let servers: Vec<String> = self.servers.iter().map(|(_, url)| url.to_string()).collect();
        let servers: Vec<&str> = servers.iter().map(String::as_str).collect();
        job_start::check(&credential, job.uid, cluster, &servers, now).map_err(|refusal| Denied {
            reason: refusal.to_string(),
            // The requirement of another user does not apply to this job.
            required: credential.required && !matches!(refusal, StartRefusal::OtherUser { .. }),
            is_final: !matches!(refusal, StartRefusal::UnknownServer { .. }),
            has_retired_key: false,
        })?;
        let claims = unverified_claims(&credential.sub_token);
        let clauses = claims.as_ref().map_or(&[][..], |claims| &claims.unverified().restrictions);
        let provider = claims.as_ref().map_or("", |claims| &claims.unverified().oidc_iss);
        Ok(Admitted {
            // The signature is not verified, and need not be: whoever sealed it deceives only himself.
            windows: windows::of_clauses(clauses, &credential.scope, &credential.audience),
            limited_uses: windows::uses_are_limited(clauses),
            lane: lane(&credential.server, provider),
            submitted: credential.submission_time(),
            start_windows: credential.start_windows,
            followed: credential.followed,
            description: format!("sub-token: scopes {}, audience {}", credential.scope, credential.audience),
            profile: credential.profile,
            handle: credential.id,
            required: credential.required,
            made: credential.made,
            exp: credential.exp,
            files: credential.files.into_iter().map(|file| admitted_file(file, clauses)).collect(),
            is_provisional: false,
        })
    }
}

impl CredentialService for DirectMode {
    fn admit(&self, job: &JobStart, sealed: &str) -> Result<Admitted, Denied> {
        self.opened(job, sealed, true)
    }

    fn admit_expired(&self, job: &JobStart, sealed: &str) -> Option<Admitted> {
        self.opened(job, sealed, false).ok()
    }

    fn access_token(
        &self,
        credential: &LeaseCredential,
        file: Option<&FileName>,
        comment: &str,
        charge: Charge,
        deadline: Deadline,
    ) -> Result<IssuedToken, RequestFailure> {
        match credential {
            LeaseCredential::Sealed(text) => {
                let JobCredential { server, sub_token, mut scope, mut audience, files, .. } = self.open(text)?;
                if let Some(name) = file {
                    let own = files.into_iter().find(|file| file.name == *name);
                    let unknown = || RequestFailure::permanent(format!("the credential has no file \"{name}\""));
                    (scope, audience) = own.map(|file| (file.scope, file.audience)).ok_or_else(unknown)?;
                }
                let request = access_token_request(&sub_token, &scope, &audience, comment);
                self.request(self.by_url(&server)?, &request, charge, deadline)
            }
            LeaseCredential::Mytoken(renewal) => {
                let request = access_token_request(&renewal.mytoken, &renewal.scope, &renewal.audience, comment);
                self.request(self.by_name(&renewal.server)?, &request, charge, deadline)
            }
            LeaseCredential::Registered { .. } => Err(no_brokers()),
            LeaseCredential::SubToken { .. } => {
                Err(RequestFailure::permanent("this host follows the submission and needs no access token"))
            }
        }
    }

    fn lane_of(&self, renewal: &RenewalCredential) -> String {
        let claims = unverified_claims(&renewal.mytoken);
        let provider = claims.as_ref().map_or("", |claims| &claims.unverified().oidc_iss);
        let server = self.by_name(&renewal.server).map(ToString::to_string).unwrap_or_default();
        lane(&server, provider)
    }

    fn knows_server(&self, name: &str) -> bool {
        self.by_name(name).is_ok()
    }

    fn revoke(&self, credential: &LeaseCredential, charge: Charge, deadline: Deadline) -> Result<(), RequestFailure> {
        let (url, revoked, recursive) = match credential {
            LeaseCredential::Sealed(text) => {
                let credential = self.open(text)?;
                (self.by_url(&credential.server)?, credential.sub_token, true)
            }
            LeaseCredential::SubToken { server, sub_token } => (self.by_name(server)?, sub_token.clone(), true),
            LeaseCredential::Registered { .. } => return Err(no_brokers()),
            // Its children stay valid (MT-39): jobs that were submitted in the session go on after its end.
            LeaseCredential::Mytoken(renewal) => (self.by_name(&renewal.server)?, renewal.mytoken.clone(), false),
        };
        self.with_server(url, charge, deadline, |server| {
            match server.revoke(&revoked, recursive, deadline) {
                // What the server does not accept any more need not be revoked.
                Err(Error::Server(ServerError::TokenRefused { .. })) => Ok(()),
                result => result,
            }
        })
    }

    fn budgets(&self) -> Option<&Budgets> {
        Some(&self.budgets)
    }

    fn ask_for_limit(&self, server: &str, deadline: Deadline) {
        let Ok(url) = self.by_url(server) else { return };
        let question = (server, Purpose::Token, None);
        let _ = self.budgets.send(question, &self.http, |http| Server::discover_once(http, url, deadline).map(drop));
    }

    fn server_time(&self, server: &str) -> Option<u64> {
        let named = self.by_name(server).map(ToString::to_string);
        self.clocks.at(named.as_deref().unwrap_or(server), self.clock.elapsed())
    }

    fn earliest_server_time(&self) -> Option<u64> {
        let elapsed = self.clock.elapsed();
        self.servers.iter().filter_map(|(_, url)| self.clocks.at(&url.to_string(), elapsed)).min()
    }

    fn key_ids(&self) -> Vec<String> {
        let Ok(keys) = &self.keys else { return Vec::new() };
        [&keys.current].into_iter().chain(&keys.further).chain(&keys.earlier).map(|key| key.id().to_owned()).collect()
    }
}

/// A further file, by the clauses of its sub-token. A file that the user's mytoken did not allow has none, and costs no request.
fn admitted_file(file: SealedFile, clauses: &[Clause]) -> AdmittedFile {
    let windows = windows::of_clauses(clauses, &file.scope, &file.audience);
    let refused = (windows.is_empty() && !clauses.is_empty()).then(|| {
        format!(
            "the mytoken of the submission does not allow the scopes {} for the audience {}",
            file.scope, file.audience
        )
    });
    AdmittedFile { name: file.name, windows, refused }
}

fn access_token_request<'a>(
    mytoken: &'a Secret,
    scope: &'a str,
    audience: &'a str,
    comment: &'a str,
) -> AccessTokenRequest<'a> {
    AccessTokenRequest { mytoken, scope, audience, comment }
}

/// What a new access token has left at `now` (Unix milliseconds), and its lifetime in seconds. `expires_in` is from the server's answer;
/// `exp` (Unix seconds of this host's clock) counts from the request.
fn life(expires_in: Option<u64>, exp: Option<u64>, now: u64) -> (Duration, u64) {
    let from_answer = expires_in.filter(|seconds| *seconds > 0);
    let left = exp.map(|exp| Duration::from_millis(exp.saturating_mul(1000).saturating_sub(now)));
    let lifetime = from_answer.or(left.map(whole_seconds)).unwrap_or(UNKNOWN_LIFETIME);
    let longest = Duration::from_secs(lifetime);
    (left.map_or(longest, |left| left.min(longest)), lifetime)
}

fn failure(error: &Error) -> RequestFailure {
    let repeated = repeatable(error);
    let (reason, retry_after) = (error.to_string(), repeated.flatten());
    RequestFailure { reason, temporary: repeated.is_some(), retry_after, unsent: false, by_broker: false }
}

/// For a credential that brokers keep, on a node that does not ask any.
fn no_brokers() -> RequestFailure {
    RequestFailure::permanent("a broker keeps the credential, and this node does not ask brokers any more")
}

#[cfg(test)]
mod tests;
