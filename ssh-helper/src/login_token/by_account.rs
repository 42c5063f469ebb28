// SPDX-License-Identifier: MIT OR Apache-2.0
//! The tokens of a run, each from the source that is named for its host. Where none is named, and the user has no mytoken, oidc-agent
//! gives them if it runs for the session.

use std::collections::BTreeMap;

use mytoken::Secret;
use mytoken::token::{Presented, classify};

use super::{LoginTokenRequest, StoredMytokenSource};
use crate::askpass::responder::LoginTokenSource;
use crate::command_line::LoginTokenOptions;
use crate::error::Error;
use crate::mytoken_sources::Chosen;
use crate::other_programs::TokenSource;
use crate::other_programs::command::{self, Login};
use crate::other_programs::oidc_agent::OidcAgent;
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
    /// The user's mytoken.
    mytoken: Option<StoredMytokenSource>,
    /// Mytokens that commands have printed, by account.
    printed: BTreeMap<usize, StoredMytokenSource>,
}

impl ByAccount {
    /// `requests`: one per account.
    pub fn new(settings: HelperSettings, options: LoginTokenOptions, requests: Vec<LoginTokenRequest>) -> Self {
        Self { settings, options, requests, mytoken: None, printed: BTreeMap::new() }
    }

    /// Fails if a token cannot be made. No command is run for it.
    pub fn check(&mut self) -> Result<(), Error> {
        // A login without a prompt needs no token: which host asks matters only then.
        let clear: Vec<&LoginTokenRequest> =
            self.requests.iter().filter(|request| request.ambiguous.is_none()).collect();
        clear.iter().try_for_each(|request| request.check_source())?;
        if clear.iter().any(|request| matches!(request.source, TokenSource::OidcAgent(_))) {
            OidcAgent::find()?;
        }
        if clear.iter().any(|request| request.source == TokenSource::Mytoken) {
            self.find_mytoken()?;
        }
        Ok(())
    }

    /// Without a mytoken, the requests for it are changed to those for oidc-agent.
    fn find_mytoken(&mut self) -> Result<(), Error> {
        match of_mytoken(&self.settings, &self.options, self.requests.clone()) {
            Ok(source) => self.mytoken = Some(source),
            Err(error @ (Error::NoMytoken | Error::NotLoggedIn { .. } | Error::Expired { .. })) => {
                self.use_agent(error)?;
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// `why` there is no mytoken.
    fn use_agent(&mut self, why: Error) -> Result<(), Error> {
        let Some(agent) = OidcAgent::named().filter(|_| self.options.server.is_none()) else { return Err(why) };
        let accounts = agent.accounts().map_err(|error| Error::Usage(format!("{why}; and {error}")))?;
        let account = match accounts.as_slice() {
            [only] => only,
            [] => return Err(why),
            several => {
                let several = several.iter().map(|name| printable(name)).collect::<Vec<_>>().join(", ");
                let advice = "to use one, name it: mytoken-ssh add HOST --oidc-agent ACCOUNT --audience URL";
                return Err(Error::Usage(format!("{why}; oidc-agent has the accounts {several}; {advice}")));
            }
        };
        let mut requests = self.requests.clone();
        for request in requests.iter_mut().filter(|request| request.source == TokenSource::Mytoken) {
            request.source = TokenSource::OidcAgent(account.clone());
            if request.ambiguous.is_none() {
                request.check_source().map_err(|error| Error::Usage(format!("{why}; and {error}")))?;
            }
        }
        tell(&format!("mytoken-ssh: with oidc-agent's account {}, because {why}", printable(account)));
        self.requests = requests;
        Ok(())
    }

    /// What a command prints: a mytoken, which makes the token of the login, or that token itself.
    fn of_command(&mut self, account: usize, request: &LoginTokenRequest, words: &[String]) -> Result<Secret, Error> {
        let LoginTokenRequest { host, scope, audience, .. } = request;
        let token = command::token(words, &Login { host, scope, audience })?;
        let place = words.first().map(|program| printable(program)).unwrap_or_default();
        let refused = |why: &str| Error::Usage(format!("what {place} prints is not sent: {why}"));
        match classify(&token) {
            Presented::Mytoken(_) => {
                let chosen = Chosen::printed(&self.settings, self.options.server.as_deref(), &token, &place)?;
                let mut source = made_of(chosen, &self.settings, &self.options, self.requests.clone());
                let made = source.token(account);
                self.printed.insert(account, source);
                made
            }
            Presented::Garbage(_) => Err(refused("it is no token")),
            _ if request.delegate.is_some() => Err(refused("only a mytoken can be delegated")),
            Presented::AccessToken(jwt) if !audience.is_empty() && jwt.unverified_audience != [audience.as_str()] => {
                Err(refused(&format!(
                    "it is for {}, and this host's audience is {}",
                    printable(&jwt.unverified_audience.join(" ")),
                    printable(audience)
                )))
            }
            _ => Ok(token),
        }
    }
}

impl LoginTokenSource for ByAccount {
    fn token(&mut self, account: usize) -> Result<Secret, Error> {
        let request =
            self.requests.get(account).ok_or_else(|| Error::Usage("no token was requested for this host".into()))?;
        if let Some(why) = &request.ambiguous {
            return Err(Error::Usage(why.clone()));
        }
        if request.source == TokenSource::Mytoken && self.mytoken.is_none() {
            self.find_mytoken()?;
        }
        let Some(request) = self.requests.get(account).cloned() else { return Err(Error::NoMytoken) };
        request.check_source()?;
        match (&request.source, &mut self.mytoken) {
            (TokenSource::Mytoken, Some(mytoken)) => mytoken.token(account),
            (TokenSource::Mytoken, None) => Err(Error::NoMytoken),
            (TokenSource::OidcAgent(name), _) => {
                OidcAgent::find()?.access_token(name, &request.scope, &request.audience)
            }
            (TokenSource::Command(words), _) => self.of_command(account, &request, words),
        }
    }

    fn revoke(&mut self) -> Vec<String> {
        self.mytoken.iter_mut().chain(self.printed.values_mut()).flat_map(LoginTokenSource::revoke).collect()
    }
}
