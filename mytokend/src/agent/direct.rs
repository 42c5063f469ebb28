// SPDX-License-Identifier: MIT OR Apache-2.0
//! Direct mode: this node has the cluster's private key and talks to the mytoken servers itself.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use mytoken::config::Shared;
use mytoken::http::{HttpClient, HttpSettings};
use mytoken::names::ServerUrl;
use mytoken::server::{AccessTokenRequest, Discovery, Server, no_storage};
use mytoken::{Clock, Deadline, Error, Kind, Secret, SystemClock};
use mytoken_wire::agent::JobStart;

use super::authority::{Admitted, Authority, Denied, Failure, Fresh};
use super::lease::Source;
use crate::jobs::keys::PrivateKey;
use crate::jobs::sealed;
use crate::jobs::start;

/// A discovery document is used so long; every request counts at the server.
const DISCOVERY_AGE: Duration = Duration::from_secs(3600);

/// For a token of which nobody knows when it expires.
const UNKNOWN_LIFETIME: u64 = 300;

/// What a cluster's node needs beyond what every program needs.
pub struct ClusterKey {
    /// Name of the cluster.
    pub name: String,
    /// Its private key.
    pub key: PrivateKey,
}

/// This node.
pub struct Direct {
    http: HttpSettings,
    /// Names and URLs of the configured servers: nothing is ever sent to another.
    servers: Vec<(String, ServerUrl)>,
    /// Or why there is none.
    cluster: Result<ClusterKey, String>,
    discovered: Mutex<HashMap<ServerUrl, (Instant, Discovery)>>,
}

impl Direct {
    /// With the servers of `shared`; without a cluster's key, for the reason in its place, it serves login sessions only.
    ///
    /// # Errors
    /// When a server's URL may not be talked to.
    pub fn new(shared: &Shared, cluster: Result<ClusterKey, String>) -> Result<Self, Error> {
        let servers = shared
            .servers
            .iter()
            .map(|server| Ok((server.name.clone(), shared.server_url(&server.name)?)))
            .collect::<Result<_, Error>>()?;
        Ok(Self { http: shared.http_settings(), servers, cluster, discovered: Mutex::new(HashMap::new()) })
    }

    /// Does `work` at the server `url` with a client of its own, dropped afterwards.
    fn at<T>(
        &self,
        url: &ServerUrl,
        deadline: Deadline,
        work: impl FnOnce(&Server<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let http = HttpClient::new(&self.http)?;
        let known = {
            let cache = self.discovered.lock().unwrap_or_else(PoisonError::into_inner);
            cache.get(url).filter(|(since, _)| since.elapsed() < DISCOVERY_AGE).map(|(_, discovery)| discovery.clone())
        };
        let server = match known {
            Some(discovery) => Server::from_discovery(&http, url, discovery)?,
            None => {
                let server = Server::discover(&http, url, deadline)?;
                let mut cache = self.discovered.lock().unwrap_or_else(PoisonError::into_inner);
                cache.insert(url.clone(), (Instant::now(), server.discovery().clone()));
                server
            }
        };
        work(&server)
    }

    fn by_url(&self, url: &str) -> Result<&ServerUrl, Failure> {
        let found = self.servers.iter().find(|(_, known)| known.to_string() == url);
        found
            .map(|(_, known)| known)
            .ok_or_else(|| lasting(start::Refusal::UnknownServer { server: url.to_owned() }.to_string()))
    }

    fn by_name(&self, name: &str) -> Result<&ServerUrl, Failure> {
        let found = self.servers.iter().find(|(known, _)| known == name);
        found.map(|(_, url)| url).ok_or_else(|| lasting(format!("mytoken.toml names no server \"{name}\" any more")))
    }

    fn open(&self, text: &str) -> Result<sealed::JobCredential, String> {
        let cluster = self.cluster.as_ref().map_err(|why| format!("this host cannot open job credentials: {why}"))?;
        sealed::open(text, &cluster.key).map_err(|error| error.to_string())
    }

    fn exchange(
        &self,
        url: &ServerUrl,
        request: &AccessTokenRequest<'_>,
        deadline: Deadline,
    ) -> Result<Fresh, Failure> {
        let granted = self
            .at(url, deadline, |server| server.access_token(request, &mut no_storage, deadline))
            .map_err(|error| failure(&error))?;
        let now = SystemClock.now();
        let told = granted.expires_in.filter(|seconds| *seconds > 0);
        let seen = granted.exp.map(|exp| exp.saturating_sub(now));
        let lifetime = told.or(seen).unwrap_or(UNKNOWN_LIFETIME);
        // What is counted from the answer holds by any clock: one that is behind must not keep a token in the file that is dead.
        let exp = granted.exp.unwrap_or(u64::MAX).min(now.saturating_add(lifetime));
        Ok(Fresh { token: granted.token, exp, lifetime })
    }
}

impl Authority for Direct {
    fn admit(&self, job: &JobStart, sealed: &str, now: u64) -> Result<Admitted, Denied> {
        let credential = self.open(sealed).map_err(|text| Denied { text, required: false })?;
        let cluster = self.cluster.as_ref().map(|cluster| cluster.name.as_str()).unwrap_or_default();
        let servers: Vec<String> = self.servers.iter().map(|(_, url)| url.to_string()).collect();
        let servers: Vec<&str> = servers.iter().map(String::as_str).collect();
        start::check(&credential, job.uid, cluster, &servers, now).map_err(|refusal| Denied {
            text: refusal.to_string(),
            // Another user's wish is not this job's.
            required: credential.required && !matches!(refusal, start::Refusal::OtherUser { .. }),
        })?;
        Ok(Admitted {
            told: format!("sub-token: scopes {}, audience {}", credential.scope, credential.audience),
            profile: credential.profile,
            handle: credential.id,
            required: credential.required,
            exp: credential.exp,
        })
    }

    fn access_token(&self, source: &Source, comment: &str, deadline: Deadline) -> Result<Fresh, Failure> {
        match source {
            Source::Sealed(text) => {
                let credential = self.open(text).map_err(lasting)?;
                let url = self.by_url(&credential.server)?;
                self.exchange(
                    url,
                    &request(&credential.sub_token, &credential.scope, &credential.audience, comment),
                    deadline,
                )
            }
            Source::Mytoken(renewal) => {
                let request = request(&renewal.mytoken, &renewal.scope, &renewal.audience, comment);
                self.exchange(self.by_name(&renewal.server)?, &request, deadline)
            }
        }
    }

    fn revoke(&self, source: &Source, deadline: Deadline) -> Result<(), Failure> {
        let Source::Sealed(text) = source else { return Ok(()) };
        let credential = self.open(text).map_err(lasting)?;
        let url = self.by_url(&credential.server)?;
        self.at(url, deadline, |server| server.revoke(&credential.sub_token, true, deadline))
            .map_err(|error| failure(&error))
    }
}

fn request<'a>(mytoken: &'a Secret, scope: &'a str, audience: &'a str, comment: &'a str) -> AccessTokenRequest<'a> {
    AccessTokenRequest { mytoken, scope, audience, comment }
}

fn lasting(text: impl Into<String>) -> Failure {
    Failure { text: text.into(), temporary: false, retry_after: None }
}

/// Only a refusal of the token itself ends the renewal. Everything else is tried again: a maintenance page may look like anything, a
/// wrong CA file is mended by the administrator.
fn failure(error: &Error) -> Failure {
    let retry_after = match error {
        Error::TooManyRequests { retry_after, .. } | Error::ProviderTooManyRequests { retry_after, .. } => *retry_after,
        _ => None,
    };
    let temporary = match error {
        Error::Rejected { .. } | Error::ForeignIssuer { .. } => true,
        error => matches!(error.kind(), Kind::Unavailable | Kind::Configuration | Kind::Storage),
    };
    Failure { text: error.to_string(), temporary, retry_after }
}

#[cfg(test)]
mod tests {
    use crate::jobs::keys;
    use crate::jobs::sealed::JobCredential;

    use super::*;

    fn direct(key: PrivateKey) -> Direct {
        let shared: Shared = toml::from_str("[[server]]\nname = 't'\nurl = 'https://mytoken.testbed:8443'").unwrap();
        Direct::new(&shared, Ok(ClusterKey { name: "testbed".into(), key })).unwrap()
    }

    fn credential() -> JobCredential {
        JobCredential {
            server: "https://mytoken.testbed:8443".into(),
            sub_token: Secret::new("a.b.c"),
            uid: 2001,
            cluster: "testbed".into(),
            id: "0".repeat(32),
            exp: 1000,
            profile: "data".into(),
            scope: "storage.read".into(),
            audience: "https://testbed".into(),
            required: true,
        }
    }

    fn start(uid: u32) -> JobStart {
        JobStart { job: 1, step: 0, uid, gid: uid, array_job: None, sealed: None, handle: None }
    }

    #[test]
    fn the_owner_is_admitted_and_a_thief_is_told_why_not() {
        let (public, private) = keys::generate();
        let direct = direct(private);
        let text = sealed::seal(&credential(), &public).unwrap();
        let admitted = direct.admit(&start(2001), &text, 999).unwrap();
        assert_eq!((admitted.profile.as_str(), admitted.required, admitted.exp), ("data", true, 1000));
        let denied = direct.admit(&start(2002), &text, 999).unwrap_err();
        assert!(denied.text.contains("made for user 2001") && !denied.required, "{denied:?}");
        let denied = direct.admit(&start(2001), &text, 1000).unwrap_err();
        assert!(denied.text.contains("expired") && denied.required, "{denied:?}");
        assert!(direct.admit(&start(2001), "mt1.nonsense", 1).is_err());
    }

    #[test]
    fn a_server_that_is_not_configured_is_never_talked_to() {
        let (public, private) = keys::generate();
        let direct = direct(private);
        let text =
            sealed::seal(&JobCredential { server: "https://evil.example".into(), ..credential() }, &public).unwrap();
        assert!(direct.admit(&start(2001), &text, 1).unwrap_err().text.contains("does not name"));
        let failure =
            direct.access_token(&Source::Sealed(text), "", Deadline::after(Duration::from_secs(1))).unwrap_err();
        assert!(!failure.temporary && failure.text.contains("does not name"), "{failure:?}");
    }

    #[test]
    fn only_a_refusal_of_the_token_ends_the_renewal() {
        let server = || "https://mt.example".to_owned();
        for (error, temporary) in [
            (Error::EmptyAccessToken { server: server() }, true),
            (Error::Rejected { server: server(), status: 404, code: "not found".into() }, true),
            (Error::ServerFailed { server: server(), status: 500 }, true),
            (Error::TokenRefused { server: server() }, false),
            (Error::UsageRestricted { server: server() }, false),
            (Error::ProviderRefused { server: server(), code: "invalid_grant".into() }, false),
            (Error::OtherAccessToken { server: server(), what: "scope".into() }, false),
        ] {
            assert_eq!(failure(&error).temporary, temporary, "{error}");
        }
        let told = Some(Duration::from_secs(7));
        assert_eq!(failure(&Error::TooManyRequests { server: server(), retry_after: told }).retry_after, told);
    }
}
