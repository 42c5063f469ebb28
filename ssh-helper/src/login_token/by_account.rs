// SPDX-License-Identifier: MIT OR Apache-2.0
//! The tokens of a run, each from the source that is named for its host. Where none is named, and the user has no mytoken, oidc-agent
//! gives those whose scope and audience are named, if it runs for the session.

use mytoken::Secret;
use mytoken::server::ServerError;
use mytoken::token::{Presented, classify};

use super::{LoginTokenRequest, StoredMytokenSource};
use crate::askpass::responder::LoginTokenSource;
use crate::command_line::LoginTokenOptions;
use crate::error::Error;
use crate::mytoken_sources::Chosen;
use crate::other_programs::oidc_agent::OidcAgent;
use crate::other_programs::{TokenSource, command};
use crate::output::tell;
use crate::printable::printable;
use crate::settings::HelperSettings;

/// Makes these tokens from the user's mytoken, which can make them.
pub fn of_mytoken(
    settings: &HelperSettings,
    options: &LoginTokenOptions,
    requests: Vec<LoginTokenRequest>,
) -> Result<StoredMytokenSource, Error> {
    let chosen = Chosen::new(settings, options.server.as_deref())?.tell();
    let mut source = made_of(chosen, settings, options, requests);
    source.check()?;
    Ok(source)
}

fn made_of(
    chosen: Chosen,
    settings: &HelperSettings,
    options: &LoginTokenOptions,
    requests: Vec<LoginTokenRequest>,
) -> StoredMytokenSource {
    let Chosen { mytokens, server, .. } = chosen;
    let http = settings.http(options.ca.as_deref());
    let ca_configured = options.ca.is_some() || settings.user.ca_file.is_some();
    StoredMytokenSource::new(mytokens, server, http, ca_configured, requests)
}

/// Makes the tokens of a run. What it needs of the user's mytoken is looked for when a host asks, or by [`ByAccount::check`].
pub struct ByAccount {
    settings: HelperSettings,
    options: LoginTokenOptions,
    requests: Vec<LoginTokenRequest>,
    /// The session's oidc-agent.
    agent: Option<OidcAgent>,
    /// The user's mytoken, when it was looked for.
    mytoken: Option<StoredMytokenSource>,
    /// Mytokens that commands have printed.
    printed: Vec<StoredMytokenSource>,
}

impl ByAccount {
    /// `requests`: one per account.
    pub fn new(settings: HelperSettings, options: LoginTokenOptions, requests: Vec<LoginTokenRequest>) -> Self {
        Self { settings, options, requests, agent: OidcAgent::named(), mytoken: None, printed: Vec::new() }
    }

    /// Fails if a token cannot be made. No command is run for it.
    pub fn check(&mut self) -> Result<(), Error> {
        // A login without a prompt needs no token: which host asks matters only then.
        let clear = || self.requests.iter().filter(|request| request.ambiguous.is_none());
        clear().try_for_each(LoginTokenRequest::check_source)?;
        if clear().any(|request| matches!(request.source, TokenSource::OidcAgent(_))) {
            OidcAgent::find()?;
        }
        let is_of_mytoken =
            |request: &LoginTokenRequest| request.ambiguous.is_none() && request.source == TokenSource::Mytoken;
        let of_mytoken: Vec<usize> =
            (0..).zip(&self.requests).filter(|(_, one)| is_of_mytoken(one)).map(|(at, _)| at).collect();
        if of_mytoken.is_empty() {
            return Ok(());
        }
        match self.find_mytoken()? {
            Ok(_) => Ok(()),
            Err(why) => self.use_agent(&of_mytoken, why),
        }
    }

    /// The user's mytoken, or the error that says that there is none.
    fn find_mytoken(&mut self) -> Result<Result<&mut StoredMytokenSource, Error>, Error> {
        if self.mytoken.is_none() {
            match of_mytoken(&self.settings, &self.options, self.requests.clone()) {
                Ok(source) => self.mytoken = Some(source),
                Err(why @ (Error::NoMytoken | Error::NotLoggedIn { .. })) if self.options.server.is_none() => {
                    return Ok(Err(why));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(self.mytoken.as_mut().ok_or(Error::NoMytoken))
    }

    /// Makes these requests for the user's mytoken to such for oidc-agent, all or none. `why` there is no mytoken.
    fn use_agent(&mut self, which: &[usize], why: Error) -> Result<(), Error> {
        let requests = which.iter().filter_map(|at| self.requests.get(*at));
        let found =
            requests.map(|request| account_instead(self.agent.as_ref(), request)).collect::<Result<Vec<_>, _>>();
        let found = found.map_err(|error| Error::Usage(format!("{why}; and {error}")))?;
        let Some(account) = found.into_iter().collect::<Option<Vec<_>>>().and_then(|all| all.into_iter().next()) else {
            return Err(why);
        };
        tell(&format!("mytoken-ssh: with oidc-agent's account {}, because {why}", printable(&account)));
        for at in which {
            if let Some(request) = self.requests.get_mut(*at) {
                request.source = TokenSource::OidcAgent(account.clone());
            }
        }
        Ok(())
    }

    /// What a command prints: a mytoken, which makes the token of the login, or that token itself.
    fn of_command(&mut self, account: usize, words: &[String]) -> Result<Secret, Error> {
        let request = self.requests.get(account).ok_or_else(no_request)?;
        let token = command::token(words, &request.host, request.reach())?;
        let place = words.first().map(|program| printable(program)).unwrap_or_default();
        if let Presented::Mytoken(_) = classify(&token) {
            let chosen = Chosen::printed(&self.settings, self.options.server.as_deref(), &token, &place)?;
            let mut source = made_of(chosen, &self.settings, &self.options, self.requests.clone());
            let made = source.token(account);
            self.printed.push(source);
            return made.map_err(|error| of_printed(error, &place));
        }
        match sendable(&token, request) {
            Ok(()) => Ok(token),
            Err(why) => Err(Error::Usage(format!("what {place} prints is not sent: {}", printable(&why)))),
        }
    }
}

/// Whether the host gets what a command has printed, which is no mytoken. The error says why not.
fn sendable(token: &Secret, request: &LoginTokenRequest) -> Result<(), String> {
    let presented = classify(token);
    match presented {
        Presented::Garbage(_) => Err("it is no token".into()),
        _ if request.delegate.is_some() => Err("only a mytoken can be delegated".into()),
        // Who made it has chosen what it is for.
        Presented::TransferCode => Ok(()),
        _ if request.code => Err("the host's entry wants a transfer code, by its send".into()),
        _ => request.reach().check(token),
    }
}

/// An error of a mytoken that a command has printed: another login would not change it.
fn of_printed(error: Error, place: &str) -> Error {
    let why = match error {
        Error::Expired { server } => format!("it is one for {server}, and has expired"),
        Error::Refused { server, .. } => format!("{server} does not accept it: expired, revoked or not valid yet"),
        Error::Mytoken(mytoken::Error::Server(ServerError::TokenRefused { server })) => {
            format!("{server} does not accept it: expired, revoked or not valid yet")
        }
        Error::MissingCapability { capability } => format!("it lacks the capability {capability}"),
        other => return other,
    };
    Error::Usage(format!("the mytoken that {place} prints cannot be used: {why}"))
}

/// The account of oidc-agent that gives such a token, if the user has no mytoken. `None`: the agent has none, or it cannot be meant.
///
/// # Errors
/// It does not answer, or has several accounts.
pub fn account_instead(agent: Option<&OidcAgent>, request: &LoginTokenRequest) -> Result<Option<String>, Error> {
    let is_named = !request.scope.is_empty() && request.audience.split_ascii_whitespace().count() == 1;
    let Some(agent) = agent.filter(|_| is_named && request.delegate.is_none() && !request.code) else {
        return Ok(None);
    };
    match agent.accounts()?.as_slice() {
        [] => Ok(None),
        [only] => Ok(Some(only.clone())),
        several => {
            let several = several.iter().map(|name| printable(name)).collect::<Vec<_>>().join(", ");
            let advice = "name one: mytoken-ssh add HOST --oidc-agent ACCOUNT --audience URL";
            Err(Error::Usage(format!("oidc-agent has the accounts {several}; {advice}")))
        }
    }
}

/// Whether the user has no mytoken that logins use. Another problem with it is none of oidc-agent's.
pub fn lacks_mytoken(settings: &HelperSettings) -> bool {
    match Chosen::new(settings, None) {
        Ok(Chosen { mytokens, server, .. }) => matches!(mytokens.token(&server), Ok(None)),
        Err(error) => matches!(error, Error::NoMytoken | Error::NotLoggedIn { .. }),
    }
}

fn no_request() -> Error {
    Error::Usage("no token was requested for this host".into())
}

impl LoginTokenSource for ByAccount {
    fn token(&mut self, account: usize) -> Result<Secret, Error> {
        let request = self.requests.get(account).ok_or_else(no_request)?;
        if let Some(why) = &request.ambiguous {
            return Err(Error::Usage(why.clone()));
        }
        request.check_source()?;
        match request.source.clone() {
            TokenSource::Mytoken => match self.find_mytoken()? {
                Ok(mytoken) => mytoken.token(account),
                Err(why) => {
                    self.use_agent(&[account], why)?;
                    self.token(account)
                }
            },
            TokenSource::OidcAgent(name) => {
                let agent = self.agent.clone().map_or_else(OidcAgent::find, Ok)?;
                agent.access_token(&name, request.reach())
            }
            TokenSource::Command(words) => self.of_command(account, &words),
            TokenSource::Unclear(why) => Err(Error::Usage(why)),
        }
    }

    fn revoke(&mut self) -> Vec<String> {
        self.mytoken.iter_mut().chain(&mut self.printed).flat_map(LoginTokenSource::revoke).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::login_token::tests::request;
    use crate::other_programs::oidc_agent::tests::{agent, success};
    use crate::other_programs::reach::tests::jwt;

    fn named() -> LoginTokenRequest {
        LoginTokenRequest { scope: "compute".into(), audience: "https://a".into(), ..request(None) }
    }

    fn accounts(names: &[&str]) -> String {
        json!({"status": "success", "info": names}).to_string()
    }

    #[test]
    fn without_a_mytoken_the_only_account_gives_what_is_named() {
        let token = jwt(&json!({"aud": "https://a", "scope": "compute"}));
        let (agent, _dir, served) = agent(&[&accounts(&["cluster"]), &success(&token)]);
        let mut made = ByAccount {
            agent: Some(agent),
            ..ByAccount::new(HelperSettings::default(), LoginTokenOptions::default(), vec![named()])
        };
        let ambiguous = LoginTokenRequest { ambiguous: Some("two hosts".into()), ..named() };
        made.requests.push(ambiguous);
        assert_eq!(made.token(0).unwrap().expose(), token);
        assert_eq!(made.requests[0].source, TokenSource::OidcAgent("cluster".into()));
        assert_eq!(made.token(1).unwrap_err().to_string(), "two hosts");
        assert!(made.token(2).is_err() && made.revoke().is_empty());
        let requests: Vec<_> = served.join().unwrap().iter().map(|request| request["request"].clone()).collect();
        assert_eq!(requests, ["loaded_accounts", "access_token"]);
    }

    #[test]
    fn an_account_is_used_only_where_it_can_be_meant() {
        let with = |names: &[&str], request: LoginTokenRequest| {
            let (agent, _dir, _served) = agent(&[&accounts(names)]);
            let (settings, options) = (HelperSettings::default(), LoginTokenOptions::default());
            let mut made = ByAccount { agent: Some(agent), ..ByAccount::new(settings, options, vec![request]) };
            let used = made.use_agent(&[0], Error::NoMytoken);
            used.map(|()| made.requests[0].source.clone()).map_err(|error| error.to_string())
        };
        let none = Error::NoMytoken.to_string();
        assert_eq!(with(&["cluster"], named()), Ok(TokenSource::OidcAgent("cluster".into())));
        for (names, request, told) in [
            (&[][..], named(), none.clone()),
            (&["a", "b"], named(), format!("{none}; and oidc-agent has the accounts a, b; name one")),
            (&["a"], LoginTokenRequest { scope: String::new(), ..named() }, none.clone()),
            (&["a"], LoginTokenRequest { audience: String::new(), ..named() }, none.clone()),
            (&["a"], LoginTokenRequest { audience: "https://a https://b".into(), ..named() }, none.clone()),
            (&["a"], LoginTokenRequest { code: true, ..named() }, none.clone()),
            (&["a"], LoginTokenRequest { delegate: request(Some(60)).delegate, ..named() }, none.clone()),
        ] {
            let error = with(names, request.clone()).unwrap_err();
            assert!(error.starts_with(&told), "{names:?} {request:?}: {error}");
        }
        assert_eq!(account_instead(None, &named()).ok(), Some(None));
    }

    #[test]
    fn before_ssh_runs_all_hosts_get_their_tokens_or_none() {
        let unnamed = || LoginTokenRequest { scope: String::new(), ..named() };
        for (second, is_good) in [(named(), true), (unnamed(), false)] {
            let (agent, _dir, _served) = agent(&[&accounts(&["cluster"]), &accounts(&["cluster"])]);
            let requests = vec![named(), second];
            let mut made = ByAccount {
                agent: Some(agent),
                ..ByAccount::new(HelperSettings::default(), LoginTokenOptions::default(), requests)
            };
            assert_eq!(made.use_agent(&[0, 1], Error::NoMytoken).is_ok(), is_good);
            let of_agent = made.requests.iter().filter(|request| request.source != TokenSource::Mytoken).count();
            assert_eq!(of_agent, if is_good { 2 } else { 0 });
        }
    }

    #[test]
    fn a_server_that_is_named_is_one_of_mytokens() {
        let (agent, _dir, _served) = agent(&[&accounts(&["cluster"])]);
        let options =
            LoginTokenOptions { server: Some("https://mt.example.org".into()), ..LoginTokenOptions::default() };
        let settings = HelperSettings::default();
        let mut made = ByAccount { agent: Some(agent), ..ByAccount::new(settings, options, vec![named()]) };
        assert!(matches!(made.check(), Err(Error::NotLoggedIn { .. })));
    }

    #[test]
    fn what_a_command_prints_reaches_as_far_as_the_host_is_named() {
        let open = || LoginTokenRequest { scope: String::new(), audience: String::new(), ..named() };
        let own = jwt(&json!({"aud": "https://a", "scope": "compute"}));
        let other = jwt(&json!({"aud": "https://b"}));
        let short = "aBdEgHjKmNpQsTvW".repeat(4);
        for (token, request, told) in [
            (own.as_str(), named(), None),
            (&other, named(), Some("it is for https://b")),
            (&other, open(), None),
            (&short, open(), None),
            (&short, named(), Some("does not say what it is for")),
            ("0paque-token-of-a-provider", named(), Some("does not say what it is for")),
            ("aBdEgHjK", named(), None),
            ("aBdEgHjK", LoginTokenRequest { code: true, ..named() }, None),
            (&own, LoginTokenRequest { code: true, ..named() }, Some("wants a transfer code")),
            (&own, LoginTokenRequest { delegate: request_delegate(), ..named() }, Some("only a mytoken")),
            ("two words", open(), Some("it is no token")),
        ] {
            let found = sendable(&Secret::new(token), &request);
            match told {
                None => assert_eq!(found, Ok(()), "{token}"),
                Some(text) => assert!(found.clone().is_err_and(|why| why.contains(text)), "{token}: {found:?}"),
            }
        }
    }

    fn request_delegate() -> Option<std::time::Duration> {
        request(Some(60)).delegate
    }

    #[test]
    fn a_login_changes_nothing_about_a_mytoken_that_a_command_prints() {
        let server = || "https://mt".to_owned();
        for error in [
            Error::Expired { server: server() },
            Error::Refused { server: server(), was_in_doubt: true },
            Error::Mytoken(mytoken::Error::Server(ServerError::TokenRefused { server: server() })),
            Error::MissingCapability { capability: "AT" },
        ] {
            let told = of_printed(error, "pass").to_string();
            assert!(
                told.starts_with("the mytoken that pass prints cannot be used: ") && !told.contains("login"),
                "{told}"
            );
        }
        assert!(matches!(of_printed(Error::Interrupted, "pass"), Error::Interrupted));
    }
}
