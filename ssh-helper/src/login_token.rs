// SPDX-License-Identifier: MIT OR Apache-2.0
//! The token of one login: a sub-token of the stored mytoken, sent to the host as transfer code.
//!
//! The sub-token has only the rights that the login needs and expires within minutes, so a hostile host can do little
//! with it. The stored mytoken rotates or is valid for weeks. It never leaves this machine.

mod sub_token;

use std::path::Path;
use std::time::Duration;

use mytoken::capabilities::{AT, CREATE_MYTOKEN, Capabilities, TOKENINFO_INTROSPECT};
use mytoken::http::{HttpClient, HttpSettings};
use mytoken::restrictions::{Clause, Uses};
use mytoken::server::{Deliver, Discovery, Server, SubTokenRequest};
use mytoken::token_store::TokenStore;
use mytoken::urls::ServerUrl;
use mytoken::{Clock, Deadline, Secret, SystemClock};

use self::sub_token::CreatedSubToken;
use crate::askpass::responder::LoginTokenSource;
use crate::error::Error;

/// Time limit for a token: discovery, lock of the store, creation of the sub-token.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(20);
/// Time limit for revoking the tokens of a failed login.
const REVOCATION_TIMEOUT: Duration = Duration::from_secs(5);

/// The token that a host will get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginTokenRequest {
    /// Name in the server's lists.
    pub name: String,
    /// The host, for messages.
    pub host: String,
    /// Scopes, separated by blanks. Empty: the scopes of the stored mytoken.
    pub scope: String,
    /// Audience. Empty: the audience of the stored mytoken.
    pub audience: String,
    /// Lifetime of the mytoken that the session keeps. `None`: the session keeps none.
    pub delegate: Option<Duration>,
}

impl LoginTokenRequest {
    /// The sub-token's clause at time `now`. A limit that is missing here is inherited from the parent, and a limit
    /// that exceeds the parent's is reduced to it.
    fn clause(&self, now: u64) -> Clause {
        let audience = self.audience.split_ascii_whitespace().map(str::to_owned).collect();
        let limits = Clause { scope: self.scope.clone(), audience, ..Clause::default() };
        match self.delegate {
            Some(lifetime) => Clause { exp: Some(now.saturating_add(lifetime.as_secs())), ..limits },
            None => Clause::of_one_login(limits, now),
        }
    }

    /// The sub-token's capabilities: those that the login needs, without those that the parent lacks.
    fn capabilities(&self, parent: &Capabilities) -> Result<Capabilities, Error> {
        for capability in [AT, CREATE_MYTOKEN] {
            if !parent.has(capability) {
                return Err(Error::MissingCapability { capability });
            }
        }
        let names: &[&str] = if self.delegate.is_some() { &[AT, CREATE_MYTOKEN, TOKENINFO_INTROSPECT] } else { &[AT] };
        Ok(Capabilities::new(names.iter().copied().filter(|name| parent.has(name)))?)
    }
}

/// Creates sub-tokens of the mytoken that is stored for one server.
pub struct SubTokenSource {
    store: TokenStore,
    server: ServerUrl,
    http: HttpSettings,
    ca_configured: bool,
    requests: Vec<LoginTokenRequest>,
    discovery: Option<Discovery>,
    created: Vec<CreatedSubToken>,
}

impl SubTokenSource {
    /// `requests`: one per account. `ca_configured`: `http` trusts the certificates of the command line or the
    /// configuration, so those that were given at `mytoken-ssh login` are not used.
    pub fn new(
        store: TokenStore,
        server: ServerUrl,
        http: HttpSettings,
        ca_configured: bool,
        requests: Vec<LoginTokenRequest>,
    ) -> Self {
        Self { store, server, http, ca_configured, requests, discovery: None, created: Vec::new() }
    }

    /// Fails if the stored mytoken cannot make the tokens. This is called before ssh runs: an error in the middle of a
    /// login is harder to understand.
    pub fn check(&mut self) -> Result<(), Error> {
        let entry = self.store.token(&self.server)?.ok_or_else(|| self.not_logged_in())?;
        if !self.ca_configured {
            trust_ca_file(&mut self.http, entry.ca_file.as_deref());
        }
        let mut now = SystemClock.now();
        if entry.expired(now) {
            // This machine's clock may be wrong.
            now = self.server_now().unwrap_or(now);
        }
        if entry.expired(now) {
            return Err(Error::Expired { server: self.server.to_string() });
        }
        for request in &self.requests {
            let uses = Uses::of(&request.capabilities(&entry.capabilities)?);
            mytoken::restrictions::narrow(&entry.restrictions, &[request.clause(now)], uses, now)?;
        }
        Ok(())
    }

    /// Seconds until the last code expires, if the server says it.
    pub fn code_lifetime(&self) -> Option<u64> {
        self.created.last()?.code_lifetime()
    }

    /// The server's time of day, Unix seconds.
    fn server_now(&self) -> Option<u64> {
        let http = HttpClient::new(&self.http).ok()?;
        Some(Server::discover(&http, &self.server, Deadline::after(TOKEN_TIMEOUT)).ok()?.now())
    }

    fn not_logged_in(&self) -> Error {
        Error::NotLoggedIn { server: self.server.to_string() }
    }
}

/// Trusts the certificates that were given at `mytoken-ssh login`.
pub fn trust_ca_file(http: &mut HttpSettings, ca_file: Option<&Path>) {
    if let Some(file) = ca_file {
        http.roots = mytoken::http::Roots::File(file.to_owned());
    }
}

impl LoginTokenSource for SubTokenSource {
    fn token(&mut self, account: usize) -> Result<Secret, Error> {
        let request =
            self.requests.get(account).ok_or_else(|| Error::Usage("no token was requested for this host".into()))?;
        let deadline = Deadline::after(TOKEN_TIMEOUT);
        // Discovery comes first, so that the lock of a rotating token is held as short as possible.
        let http = HttpClient::new(&self.http)?;
        let server = Server::discover(&http, &self.server, deadline)?;
        self.discovery = Some(server.discovery().clone());
        let mut acquired = self.store.acquire(&self.server, deadline)?.ok_or_else(|| self.not_logged_in())?;
        let parent = acquired.stored().clone();
        let sub_token = SubTokenRequest {
            parent: &parent.mytoken,
            parent_clauses: Some(&parent.restrictions),
            wanted: &[request.clause(server.now())],
            capabilities: &request.capabilities(&parent.capabilities)?,
            name: &request.name,
            deliver: Deliver::TransferCode,
        };
        let granted = server.create(&sub_token, &mut |successor| Ok(acquired.store_successor(successor)?), deadline)?;
        let code = granted.mytoken.clone();
        self.created.push(CreatedSubToken::new(granted, server.now(), &parent, &request.name, &request.host));
        Ok(code)
    }

    fn revoke(&mut self) -> Vec<String> {
        let created = std::mem::take(&mut self.created);
        let Some(discovery) = self.discovery.take().filter(|_| !created.is_empty()) else { return Vec::new() };
        let deadline = Deadline::after(REVOCATION_TIMEOUT);
        let http = HttpClient::new(&self.http);
        let server = match &http {
            Ok(http) => Server::from_discovery(http, &self.server, discovery),
            Err(error) => Err(error.clone().into()),
        };
        let revoke = |token: &CreatedSubToken| match &server {
            Ok(server) => token.revoke(&self.store, server, deadline),
            Err(error) => Err(error.clone()),
        };
        let results: Vec<Result<(), mytoken::Error>> = created.iter().map(revoke).collect();
        // Read after all revocations: each of them may have rotated the stored mytoken.
        let stored = self.store.token(&self.server).ok().flatten();
        let failed = created.iter().zip(results).filter_map(|(token, result)| Some((token, result.err()?)));
        failed.map(|(token, error)| token.warning(&error, stored.as_ref(), &self.server)).collect()
    }
}

/// A token that the user gave with `--token-file`.
pub struct TokenFromFile(pub Secret);

impl LoginTokenSource for TokenFromFile {
    fn token(&mut self, _account: usize) -> Result<Secret, Error> {
        Ok(self.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(delegate: Option<u64>) -> LoginTokenRequest {
        LoginTokenRequest {
            name: "ssh alice@testbed".into(),
            host: "testbed".into(),
            scope: String::new(),
            audience: "https://testbed".into(),
            delegate: delegate.map(Duration::from_secs),
        }
    }

    #[test]
    fn a_login_token_gets_access_tokens_for_five_minutes_and_nothing_else() {
        let parent = Capabilities::parse("AT create_mytoken tokeninfo").unwrap();
        assert_eq!(request(None).capabilities(&parent).unwrap().to_string(), "AT");
        let clause = request(None).clause(1000);
        assert_eq!((clause.exp, clause.usages_at, clause.usages_other), (Some(1300), Some(2), Some(0)));
        assert_eq!(clause.audience, ["https://testbed"]);
    }

    #[test]
    fn a_delegated_token_never_exceeds_the_stored_one() {
        let parent = Capabilities::parse("AT create_mytoken").unwrap();
        assert_eq!(request(Some(60)).capabilities(&parent).unwrap().to_string(), "AT create_mytoken");
        let parent = Capabilities::parse("AT create_mytoken tokeninfo").unwrap();
        assert_eq!(
            request(Some(60)).capabilities(&parent).unwrap().to_string(),
            "AT create_mytoken tokeninfo:introspect"
        );
        let uses = Uses { access_tokens: true, others: true };
        let parent_clause = [Clause { exp: Some(1030), scope: "openid".into(), ..Clause::default() }];
        let child =
            mytoken::restrictions::narrow(&parent_clause, &[request(Some(60)).clause(1000)], uses, 1000).unwrap();
        assert_eq!((child[0].exp, child[0].scope.as_str()), (Some(1030), "openid"));
    }

    #[test]
    fn a_stored_mytoken_without_a_needed_capability_is_an_error() {
        for (owned, missing) in [("AT", CREATE_MYTOKEN), ("create_mytoken", AT)] {
            let error = request(None).capabilities(&Capabilities::parse(owned).unwrap()).unwrap_err();
            assert!(
                matches!(error, Error::MissingCapability { capability } if capability == missing),
                "{owned}: {error}"
            );
        }
    }
}
