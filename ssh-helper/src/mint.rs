// SPDX-License-Identifier: MIT OR Apache-2.0
//! A token for one login: a child of the stored mytoken, handed over as transfer code.
//!
//! The child is bound to what the login needs. What a hostile host could do with it ends in minutes, and the stored mytoken, which
//! rotates or lives for weeks, never leaves this machine.

mod children;

use std::path::Path;
use std::time::Duration;

use mytoken::capabilities::{AT, CREATE_MYTOKEN, Capabilities, TOKENINFO_INTROSPECT};
use mytoken::http::{HttpClient, HttpSettings};
use mytoken::names::ServerUrl;
use mytoken::restrictions::Clause;
use mytoken::server::{Deliver, Discovery, Server, SubTokenRequest};
use mytoken::store::Store;
use mytoken::{Clock, Deadline, Secret, SystemClock};

use self::children::Child;
use crate::askpass::service::TokenSource;
use crate::error::Error;

/// For everything that a token needs: discovery, lock, child.
const PATIENCE: Duration = Duration::from_secs(20);
/// For taking back what was not used.
const CLEANING: Duration = Duration::from_secs(5);
/// Life of a login's child in seconds: that of a transfer code. Less would fail on clocks that differ by a minute or two.
const LOGIN_LIFE: u64 = 300;
/// Access tokens of a login's child: the login's, and one more because a use is counted also when the provider is out.
const LOGIN_USES: i64 = 2;

/// What a host's token shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Shown in the server's lists.
    pub name: String,
    /// The host, for words to the person.
    pub host: String,
    /// Scopes, separated by blanks; empty: those of the stored mytoken.
    pub scope: String,
    /// Audience; empty: that of the stored mytoken.
    pub audience: String,
    /// Leave a mytoken in the session that lives so long.
    pub delegate: Option<Duration>,
}

impl Wanted {
    /// The child's clause at `now`. What it leaves out is inherited; what exceeds the parent's is clipped.
    fn clause(&self, now: u64) -> Clause {
        let audience = self.audience.split_ascii_whitespace().map(str::to_owned).collect();
        let bounds = Clause { scope: self.scope.clone(), audience, ..Clause::default() };
        match self.delegate {
            Some(life) => Clause { exp: Some(now.saturating_add(life.as_secs())), ..bounds },
            None => Clause {
                exp: Some(now.saturating_add(LOGIN_LIFE)),
                usages_at: Some(LOGIN_USES),
                usages_other: Some(0),
                ..bounds
            },
        }
    }

    /// What the child may do, as far as the parent may.
    fn capabilities(&self, parent: &Capabilities) -> Result<Capabilities, Error> {
        let names: &[&str] = if self.delegate.is_some() { &[AT, CREATE_MYTOKEN, TOKENINFO_INTROSPECT] } else { &[AT] };
        for needed in [AT, CREATE_MYTOKEN] {
            if !parent.has(needed) {
                return Err(Error::Usage(format!(
                    "your mytoken lacks the capability {needed}; get another: mytoken-ssh login"
                )));
            }
        }
        Ok(Capabilities::new(names.iter().copied().filter(|name| parent.has(name)))?)
    }
}

/// Makes children of the stored mytoken of one server.
pub struct Minting {
    store: Store,
    server: ServerUrl,
    http: HttpSettings,
    ca_chosen: bool,
    wanted: Vec<Wanted>,
    discovery: Option<Discovery>,
    made: Vec<Child>,
}

impl Minting {
    /// `wanted` by account. `ca_chosen`: the command line or configuration names certificates, what was named at login is not used.
    pub fn new(store: Store, server: ServerUrl, http: HttpSettings, ca_chosen: bool, wanted: Vec<Wanted>) -> Self {
        Self { store, server, http, ca_chosen, wanted, discovery: None, made: Vec::new() }
    }

    /// Refuses early what cannot succeed: better before ssh runs than in the middle of its login.
    pub fn check(&mut self) -> Result<(), Error> {
        let entry = self.store.token(&self.server)?.ok_or_else(|| self.not_logged_in())?;
        if entry.expired(SystemClock.now()) {
            return Err(Error::Expired { server: self.server.to_string() });
        }
        for wanted in &self.wanted {
            wanted.capabilities(&entry.capabilities)?;
            mytoken::restrictions::narrow(&entry.restrictions, &[wanted.clause(SystemClock.now())])?;
        }
        if !self.ca_chosen {
            trust(&mut self.http, entry.ca_file.as_deref());
        }
        Ok(())
    }

    fn not_logged_in(&self) -> Error {
        Error::NotLoggedIn { server: self.server.to_string() }
    }
}

/// Trusts the certificates that were named at login.
pub fn trust(http: &mut HttpSettings, ca_file: Option<&Path>) {
    if let Some(file) = ca_file {
        http.roots = mytoken::http::Roots::File(file.to_owned());
    }
}

impl TokenSource for Minting {
    fn token(&mut self, account: usize) -> Result<Secret, Error> {
        let wanted = self.wanted.get(account).ok_or_else(|| Error::Usage("no token is meant for this host".into()))?;
        let deadline = Deadline::after(PATIENCE);
        // Discovery first: a rotating token's lock is held as short as possible.
        let http = HttpClient::new(&self.http)?;
        let server = Server::discover(&http, &self.server, deadline)?;
        self.discovery = Some(server.discovery().clone());
        let mut held = self.store.hold(&self.server, deadline)?.ok_or_else(|| self.not_logged_in())?;
        let parent = held.entry().clone();
        let request = SubTokenRequest {
            parent: &parent.mytoken,
            parent_clauses: Some(&parent.restrictions),
            wanted: &[wanted.clause(SystemClock.now())],
            capabilities: &wanted.capabilities(&parent.capabilities)?,
            name: &wanted.name,
            deliver: Deliver::TransferCode,
        };
        let granted = server.create(&request, &mut |successor| held.keep(successor), deadline)?;
        let code = granted.mytoken.clone();
        self.made.push(Child::new(granted, &parent, &wanted.name, &wanted.host));
        Ok(code)
    }

    fn abandon(&mut self) -> Vec<String> {
        let made = std::mem::take(&mut self.made);
        let Some(discovery) = self.discovery.take().filter(|_| !made.is_empty()) else { return Vec::new() };
        let deadline = Deadline::after(CLEANING);
        let http = HttpClient::new(&self.http);
        let server = match &http {
            Ok(http) => Server::from_discovery(http, &self.server, discovery),
            Err(error) => Err(error.clone()),
        };
        let taken_back = made.iter().map(|child| match &server {
            Ok(server) => child.take_back(&self.store, server, deadline),
            Err(error) => Err(error.clone()),
        });
        let results: Vec<Result<(), mytoken::Error>> = taken_back.collect();
        let stored = self.store.token(&self.server).ok().flatten();
        let failed = made.iter().zip(results).filter_map(|(child, result)| Some((child, result.err()?)));
        failed.map(|(child, error)| child.warning(&error, stored.as_ref(), &self.server)).collect()
    }
}

/// A token that the user brought.
pub struct Given(pub Secret);

impl TokenSource for Given {
    fn token(&mut self, _account: usize) -> Result<Secret, Error> {
        Ok(self.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(delegate: Option<u64>) -> Wanted {
        Wanted {
            name: "ssh alice@testbed".into(),
            host: "testbed".into(),
            scope: String::new(),
            audience: "https://testbed".into(),
            delegate: delegate.map(Duration::from_secs),
        }
    }

    #[test]
    fn a_login_gets_access_tokens_only_and_for_minutes() {
        let parent = Capabilities::parse("AT create_mytoken tokeninfo").unwrap();
        assert_eq!(wanted(None).capabilities(&parent).unwrap().to_string(), "AT");
        let clause = wanted(None).clause(1000);
        assert_eq!((clause.exp, clause.usages_at, clause.usages_other), (Some(1300), Some(2), Some(0)));
        assert_eq!(clause.audience, ["https://testbed"]);
    }

    #[test]
    fn a_delegated_token_never_exceeds_the_stored_one() {
        let parent = Capabilities::parse("AT create_mytoken").unwrap();
        assert_eq!(wanted(Some(60)).capabilities(&parent).unwrap().to_string(), "AT create_mytoken");
        let parent = Capabilities::parse("AT create_mytoken tokeninfo").unwrap();
        assert_eq!(
            wanted(Some(60)).capabilities(&parent).unwrap().to_string(),
            "AT create_mytoken tokeninfo:introspect"
        );
        let bound = [Clause { exp: Some(1030), scope: "openid".into(), ..Clause::default() }];
        let child = mytoken::restrictions::narrow(&bound, &[wanted(Some(60)).clause(1000)]).unwrap();
        assert_eq!((child[0].exp, child[0].scope.as_str()), (Some(1030), "openid"));
    }

    #[test]
    fn a_token_that_cannot_be_used_for_it_is_told() {
        let error = wanted(None).capabilities(&Capabilities::parse("AT").unwrap()).unwrap_err().to_string();
        assert!(error.contains("create_mytoken"), "{error}");
    }
}
