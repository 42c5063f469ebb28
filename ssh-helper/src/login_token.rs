// SPDX-License-Identifier: MIT OR Apache-2.0
//! The token of one login, made from the stored mytoken, which no login sends.
//!
//! Where scope and audience leave no choice, the host gets an access token. It verifies that without a request to the mytoken
//! server, whose limit counts all requests of a host together, and never sees a mytoken. A session that is to have a mytoken,
//! and a host that has to choose, get a transfer code for a sub-token. That has only the rights that the login needs.

pub mod by_account;
mod sub_token;

use std::path::Path;
use std::time::Duration;

use mytoken::capabilities::{AT, CREATE_MYTOKEN, Capabilities, TOKENINFO_INTROSPECT};
use mytoken::http::{HttpClient, HttpSettings};
use mytoken::restrictions::{Clause, Uses};
use mytoken::server::{AccessTokenRequest, Deliver, Discovery, Server, ServerError, SubTokenRequest};
use mytoken::token_store::{StoredToken, UsedFor};
use mytoken::urls::ServerUrl;
use mytoken::{Clock, Deadline, Secret, SystemClock};
use mytoken_wire::chunks;

use self::sub_token::CreatedSubToken;
use crate::askpass::responder::LoginTokenSource;
use crate::error::Error;
use crate::mytoken_sources::{MytokenSource, UsedMytoken};
use crate::other_programs::{Reach, TokenSource};
use crate::printable::printable;
use crate::scope_and_audience::only_choice;

/// Time limit for a token: discovery, lock of the store, access token or sub-token.
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
    /// Whether the host gets a transfer code although scope and audience leave no choice.
    pub code: bool,
    /// Why nobody can tell whether the host that asks is the one that this is for.
    pub ambiguous: Option<String>,
    /// Where it comes from.
    pub source: TokenSource,
}

/// How the host gets its token.
#[derive(Debug, PartialEq, Eq)]
pub enum Form {
    /// An access token with this scope and this one audience.
    AccessToken { scope: String, audience: String },
    /// A transfer code for a sub-token.
    Code,
}

impl LoginTokenRequest {
    /// What the token is for.
    pub fn reach(&self) -> Reach<'_> {
        Reach { scope: &self.scope, audience: &self.audience }
    }

    /// Fails if a program cannot make this token. For the user's mytoken, [`Self::form`] tells it.
    pub fn check_source(&self) -> Result<(), Error> {
        let host = printable(&self.host);
        match &self.source {
            TokenSource::Unclear(why) => Err(Error::Usage(why.clone())),
            TokenSource::OidcAgent(_) if self.delegate.is_some() => Err(Error::Usage(format!(
                "{host} gets access tokens of oidc-agent, and only a mytoken can be delegated: take oidc_agent out of its [[host]]"
            ))),
            // The provider would choose, and the host could use the token elsewhere.
            TokenSource::OidcAgent(_) if self.audience.split_ascii_whitespace().count() != 1 => {
                Err(Error::Usage(format!(
                    "tokens of oidc-agent need one audience that is named for {host}: --audience URL, or for each login: \
                 mytoken-ssh add HOST --audience URL"
                )))
            }
            TokenSource::Mytoken | TokenSource::OidcAgent(_) | TokenSource::Command(_) => Ok(()),
        }
    }

    /// How the host gets the token at time `now`. Fails if the stored mytoken cannot make it.
    pub fn form(&self, stored: &StoredToken, now: u64) -> Result<Form, Error> {
        if let Some(why) = &self.ambiguous {
            return Err(Error::Usage(why.clone()));
        }
        if self.delegate.is_some() || self.code {
            return self.check_code(stored, now);
        }
        if !stored.capabilities.has(AT) {
            return Err(Error::MissingCapability { capability: AT });
        }
        // With several audiences or scopes, the host could use the token elsewhere, or would not find what it needs in it. With none, the
        // provider would choose.
        match only_choice(stored, &self.scope, &self.audience, now)? {
            Some((scope, audience)) => Ok(Form::AccessToken { scope, audience }),
            None if stored.capabilities.has(CREATE_MYTOKEN) => self.check_code(stored, now),
            None => Err(Error::Usage(format!(
                "your mytoken does not say which audience and scope {} has: name them with --audience and --scope, \
                 or for each login: mytoken-ssh add HOST --audience URL --scope SCOPES",
                printable(&self.host)
            ))),
        }
    }

    fn check_code(&self, stored: &StoredToken, now: u64) -> Result<Form, Error> {
        let uses = Uses::of(&self.capabilities(&stored.capabilities)?);
        mytoken::restrictions::narrow(&stored.restrictions, &[self.clause(now)], uses, now)?;
        Ok(Form::Code)
    }

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

/// Makes tokens for logins from the user's mytoken for one server.
pub struct StoredMytokenSource {
    mytokens: MytokenSource,
    server: ServerUrl,
    http: HttpSettings,
    ca_configured: bool,
    requests: Vec<LoginTokenRequest>,
    discovery: Option<Discovery>,
    created: Vec<CreatedSubToken>,
}

impl StoredMytokenSource {
    /// `requests`: one per account. `ca_configured`: `http` trusts the certificates of the command line or the
    /// configuration, so those that were given at `mytoken-ssh login` are not used.
    pub fn new(
        mytokens: MytokenSource,
        server: ServerUrl,
        http: HttpSettings,
        ca_configured: bool,
        requests: Vec<LoginTokenRequest>,
    ) -> Self {
        Self { mytokens, server, http, ca_configured, requests, discovery: None, created: Vec::new() }
    }

    /// Fails if the stored mytoken cannot make the tokens. This is called before ssh runs: an error in the middle of a
    /// login is harder to understand.
    pub fn check(&mut self) -> Result<(), Error> {
        let entry = self.mytokens.token(&self.server)?.ok_or_else(|| self.not_logged_in())?;
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
        // A login without a prompt needs no token: which host asks matters only then.
        let is_clear =
            |request: &&LoginTokenRequest| request.ambiguous.is_none() && request.source == TokenSource::Mytoken;
        let mut clear = self.requests.iter().filter(is_clear);
        clear.try_for_each(|request| request.form(&entry, now).map(drop))
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

impl LoginTokenSource for StoredMytokenSource {
    fn token(&mut self, account: usize) -> Result<Secret, Error> {
        let request =
            self.requests.get(account).ok_or_else(|| Error::Usage("no token was requested for this host".into()))?;
        let mut deadline = Deadline::after(TOKEN_TIMEOUT);
        // Discovery comes first, so that the lock of a rotating token is held as short as possible.
        let http = HttpClient::new(&self.http)?;
        let server = Server::discover(&http, &self.server, deadline)?;
        self.discovery = Some(server.discovery().clone());
        let mut acquired = self.mytokens.acquire(&self.server, deadline)?.ok_or_else(|| self.not_logged_in())?;
        if let Form::AccessToken { scope, audience } = request.form(acquired.stored(), server.now())? {
            let why = match access_token(&server, &mut acquired, request, &scope, &audience, deadline)? {
                Ok(token) => return Ok(token),
                Err(why) => why,
            };
            // With room for one more successor on the disk, and time of its own.
            drop(acquired);
            deadline = Deadline::after(TOKEN_TIMEOUT);
            acquired = self.mytokens.acquire(&self.server, deadline)?.ok_or_else(|| self.not_logged_in())?;
            if request.check_code(acquired.stored(), server.now()).is_err() {
                return Err(why);
            }
        }
        let parent = acquired.stored().clone();
        let sub_token = SubTokenRequest {
            parent: &parent.mytoken,
            parent_clauses: Some(&parent.restrictions),
            wanted: &[request.clause(server.now())],
            capabilities: &request.capabilities(&parent.capabilities)?,
            name: &request.name,
            deliver: Deliver::TransferCode,
        };
        let granted = server.create(&sub_token, &mut |successor| Ok(acquired.store_successor(successor)?), deadline);
        let granted = acquired.ended(granted, UsedFor::Other)?;
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
            Ok(server) => token.revoke(&self.mytokens, server, deadline),
            Err(error) => Err(error.clone()),
        };
        let results: Vec<Result<(), mytoken::Error>> = created.iter().map(revoke).collect();
        // Read after all revocations: each of them may have rotated the stored mytoken.
        let stored = self.mytokens.own(&self.server);
        let failed = created.iter().zip(results).filter_map(|(token, result)| Some((token, result.err()?)));
        failed.map(|(token, error)| token.warning(&error, stored.as_ref(), &self.server)).collect()
    }
}

/// An access token for the host, or why there is none although a code may do: the provider gave another one, or one that the host cannot
/// verify for itself, or too long a one, or this one is refused, and perhaps not the one that the host asks for.
fn access_token(
    server: &Server<'_>,
    acquired: &mut UsedMytoken<'_>,
    request: &LoginTokenRequest,
    scope: &str,
    audience: &str,
    deadline: Deadline,
) -> Result<Result<Secret, Error>, Error> {
    let mytoken = acquired.stored().mytoken.clone();
    let asked = AccessTokenRequest { mytoken: &mytoken, scope, audience, comment: &request.name };
    let given = server.access_token(&asked, &mut |successor| Ok(acquired.store_successor(successor)?), deadline);
    match acquired.ended(given, UsedFor::AccessToken) {
        // An opaque token names no audience.
        Ok(token) if !token.audience.is_empty() && chunks::answers(&token.token).is_ok() => Ok(Ok(token.token)),
        Ok(_) => Ok(Err(Error::Usage(format!(
            "your provider's access tokens do not say that they are for {}, or are too long, and your mytoken can make no code",
            printable(audience)
        )))),
        Err(error) if is_about_this_token(&error) => Ok(Err(error)),
        Err(error) => Err(error),
    }
}

/// Whether the error is one of scope, audience, address or number of uses: not of the whole mytoken, and no outage.
fn is_about_this_token(error: &Error) -> bool {
    const CODES: [&str; 3] = ["invalid_scope", "invalid_target", "invalid_request"];
    let Error::Mytoken(error) = error else { return false };
    match error {
        mytoken::Error::Server(ServerError::ProviderRefused { code, .. }) => CODES.contains(&code.as_str()),
        mytoken::Error::Server(
            ServerError::OtherAccessToken { .. }
            | ServerError::UsageRestricted { .. }
            | ServerError::Rejected { status: 400 | 403, .. },
        ) => true,
        _ => false,
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
pub(crate) mod tests {
    use super::*;
    use crate::scope_and_audience::tests::{NOW, stored};

    pub fn request(delegate: Option<u64>) -> LoginTokenRequest {
        LoginTokenRequest {
            name: "ssh alice@testbed".into(),
            host: "testbed".into(),
            scope: String::new(),
            audience: "https://testbed".into(),
            delegate: delegate.map(Duration::from_secs),
            code: false,
            ambiguous: None,
            source: TokenSource::Mytoken,
        }
    }

    #[test]
    fn a_host_gets_an_access_token_if_scope_and_audience_leave_no_choice() {
        let clause = |scope: &str, audience: &[&str]| serde_json::json!({"scope": scope, "audience": audience});
        let (a, b, both, any) = (clause("r", &["a"]), clause("w", &["b"]), clause("r", &["a", "b"]), clause("r", &[]));
        let token = |scope: &str, audience: &str| Some((scope.to_owned(), audience.to_owned()));
        for (restrictions, scope, audience, expected) in [
            (vec![&a], "", "", token("r", "a")),
            (vec![&a, &b], "", "", None),
            (vec![&a, &b], "w", "", token("w", "b")),
            (vec![&a, &b], "", "b", token("w", "b")),
            (vec![&a, &b], "", "a b", None),
            (vec![&both], "", "", None),
            (vec![&both], "", "b", token("r", "b")),
            (vec![&both], "", "a b", None),
            (vec![&any], "", "", None),
            (vec![&any], "", "c", token("r", "c")),
            (vec![&a, &any], "", "", None),
            (vec![], "", "", None),
            (vec![], "", "c", None),
            (vec![], "x", "c", token("x", "c")),
        ] {
            let restrictions = serde_json::json!(restrictions);
            let asked = |delegate, code| LoginTokenRequest {
                scope: scope.into(),
                audience: audience.into(),
                code,
                ..request(delegate)
            };
            let of = |capabilities: &[&str], delegate, code| {
                asked(delegate, code).form(&stored(capabilities, &restrictions), NOW)
            };
            let form = of(&["AT", "create_mytoken"], None, false);
            let shown = format!("{restrictions} {scope} {audience}: {form:?}");
            // Of two audiences in two clauses no token is for both.
            let nowhere = audience == "a b" && restrictions == serde_json::json!([a, b]);
            match form {
                Ok(Form::AccessToken { scope, audience }) => assert_eq!(Some((scope, audience)), expected, "{shown}"),
                Ok(Form::Code) => assert!(expected.is_none() && !nowhere, "{shown}"),
                Err(_) => assert!(nowhere, "{shown}"),
            }
            for (delegate, code) in [(Some(60), false), (None, true)] {
                let form = of(&["AT", "create_mytoken"], delegate, code);
                assert_eq!(form.ok(), (!nowhere).then_some(Form::Code), "{shown}");
            }
            let alone = of(&["AT"], None, false);
            assert_eq!(alone.is_ok(), expected.is_some(), "{shown}");
            let told = alone.map_or_else(|error| error.to_string(), |_| String::new());
            let reason = if nowhere { "gives no access token" } else { "which audience and scope testbed has" };
            assert!(told.is_empty() || told.contains(reason), "{shown}: {told}");
            assert!(of(&["create_mytoken"], None, false).is_err(), "{shown}");
        }
        // What the mytoken does not give, and an expired one.
        let restrictions = serde_json::json!([a]);
        let other = LoginTokenRequest { audience: "other".into(), ..request(None) };
        assert!(other.form(&stored(&["AT"], &restrictions), NOW).unwrap_err().to_string().contains("audience other"));
        let expired = StoredToken { expires_at: Some(NOW - 1), ..stored(&["AT"], &restrictions) };
        let own = LoginTokenRequest { audience: String::new(), ..request(None) };
        assert!(matches!(own.form(&expired, NOW), Err(Error::Expired { .. })));
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
