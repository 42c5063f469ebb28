// SPDX-License-Identifier: MIT OR Apache-2.0
//! motley_cue as a mapper: it manages the accounts of a site, and says whether the holder of an access token has this one.
//!
//! The question is `GET {base}/verify_user?username=NAME` with the token as bearer. motley_cue verifies the token itself, by its own
//! configuration. Only `verified` and `deployed` together open the account (MC-01). A question can become questions to all its
//! providers, so it is counted as an exchange is (MC-02).

mod answer;

use std::cell::Cell;

use mytoken::http::{ANSWER_LIMIT, HttpAnswer, LazyClient};
use mytoken::server::ServerError;
use mytoken::{Deadline, Error, Secret};

use super::{Asked, Given, Mapper};
use crate::budget::{Allowance, RequestProvider};
use crate::counted_requests::{CountedRequests, Told};
use crate::refusal::Refusal;
use crate::settings::MotleyCueSettings;
use answer::Verified;

/// What a login sends to motley_cue. Requests are counted like those to the mytoken server.
pub struct MotleyCueRequests<'a> {
    http: &'a LazyClient<'a>,
    allowance: &'a Allowance<'a>,
}

/// What motley_cue is asked with.
#[derive(Clone, Copy)]
enum Bearer<'b> {
    /// A verified access token, the `iss` of its provider, and whether the person entered it.
    AccessToken { token: &'b Secret, issuer: &'b str, entered: bool },
    /// A one-time password. Nobody but motley_cue knows whose it is.
    OneTimePassword(&'b Secret),
}

impl<'a> MotleyCueRequests<'a> {
    /// `http` must accept plain http to this host: the settings permit it only where no user can take the place of motley_cue.
    #[must_use]
    pub fn new(http: &'a LazyClient<'a>, allowance: &'a Allowance<'a>) -> Self {
        Self { http, allowance }
    }

    /// Asks whether the account `name` is that of the holder of a one-time password. The password is used up, whatever
    /// the answer is (MC-03).
    ///
    /// # Errors
    /// [`Refusal`], also when motley_cue does not know the password.
    pub(crate) fn redeem(
        &self,
        settings: &MotleyCueSettings,
        name: &str,
        password: &Secret,
        deadline: Deadline,
    ) -> Result<Given, Refusal> {
        match self.verify_user(settings, name, Bearer::OneTimePassword(password), deadline)? {
            Verified::NotAuthorised(status) => {
                Err(Refusal::OneTimePasswordRefused(format!("{} answered with status {status}", settings.url.as_str())))
            }
            verified => given(&verified),
        }
    }

    fn verify_user(
        &self,
        settings: &MotleyCueSettings,
        name: &str,
        bearer: Bearer<'_>,
        deadline: Deadline,
    ) -> Result<Verified, Refusal> {
        let base = settings.url.as_str();
        let (token, issuer, entered) = match bearer {
            Bearer::AccessToken { token, issuer, entered } => (token, Some(issuer), entered.then_some(token)),
            Bearer::OneTimePassword(password) => (password, None, Some(password)),
        };
        let look = |answer_by| {
            let answer = self.http.get()?.get(&format!("{base}/info"), None, answer_by, ANSWER_LIMIT)?;
            usable(answer, base).map(drop)
        };
        let looks_up_name = || self.http.get().is_ok_and(mytoken::http::HttpClient::looks_up_name);
        let requests = CountedRequests {
            url: base,
            allowance: self.allowance,
            told: Told::Nobody,
            look: &look,
            looks_up_name: &looks_up_name,
        };
        // Whether motley_cue has sent an answer, whatever it is.
        let has_answered = Cell::new(false);
        let answer = requests.check_before(entered, deadline).and_then(|()| {
            let client = self.http.get()?;
            let url = format!("{base}/verify_user?username={}", percent_encoded(name));
            let provider = RequestProvider { issuer, verified: entered.is_none() };
            requests.send(entered, provider, deadline, |answer_by| {
                let answer = client.get(&url, Some(token), answer_by, ANSWER_LIMIT)?;
                has_answered.set(true);
                usable(answer, base)
            })
        });
        let answer = answer.map_err(|refusal| match refusal {
            // An answer that is too long, for example.
            Refusal::Unavailable(reason) | Refusal::ExchangeRefused(reason) => {
                // Whoever can make motley_cue silent for a token of their own must not get past it by that: neither to the next rule, nor
                // to the modules that the PAM stack asks in an outage.
                let is_outage = has_answered.get() || self.allowance.is_silent(base).unwrap_or(true);
                if is_outage { Refusal::Unavailable(reason) } else { Refusal::NotDecided(reason) }
            }
            other => other,
        })?;
        answer::read(&answer, base).map_err(Refusal::Unavailable)
    }
}

/// motley_cue of one rule.
pub(super) struct MotleyCueMapper<'a> {
    pub settings: &'a MotleyCueSettings,
    pub requests: &'a MotleyCueRequests<'a>,
}

impl Mapper for MotleyCueMapper<'_> {
    fn gives(&self, asked: &Asked<'_>, deadline: Deadline) -> Result<Given, Refusal> {
        let (token, issuer) = (asked.access_token, asked.identity.iss.as_str());
        let bearer = Bearer::AccessToken { token, issuer, entered: asked.entered };
        given(&self.requests.verify_user(self.settings, &asked.account.name, bearer, deadline)?)
    }
}

fn given(verified: &Verified) -> Result<Given, Refusal> {
    match verified {
        Verified::Deployed => Ok(Given::Account),
        Verified::Refused(state) => Err(Refusal::NotActive(*state)),
        Verified::OtherAccount => Ok(Given::Nothing("says that the account is not the identity's".to_owned())),
        Verified::NoAccount(state) => Ok(Given::Nothing(format!("has no account for the identity (state {state})"))),
        // It could not check the token, for example because the provider did not answer it (MC-07).
        Verified::NotAuthorised(401) => Err(Refusal::NotDecided(
            "motley_cue could not check the access token (status 401); does it trust the provider, and has the token the \
             scopes that it needs?"
                .to_owned(),
        )),
        Verified::NotAuthorised(status) => {
            Ok(Given::Nothing(format!("does not let the identity use the service (status {status})")))
        }
        Verified::NotDecided(reason) => Err(Refusal::NotDecided(reason.clone())),
    }
}

/// An answer that says something about the token, or fails for it (500).
fn usable(answer: HttpAnswer, base: &str) -> Result<HttpAnswer, Error> {
    let server = base.to_owned();
    match answer.status {
        429 => Err(Error::Server(ServerError::TooManyRequests { server, retry_after: answer.retry_after })),
        status @ 501.. => Err(Error::Server(ServerError::Failed { server, status })),
        _ => Ok(answer),
    }
}

/// The text for the query of a URL: everything but RFC 3986's unreserved characters is encoded.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_end_the_query() {
        assert_eq!(percent_encoded("alice_1.x-y~"), "alice_1.x-y~");
        assert_eq!(percent_encoded("a&username=root#%/ \u{fc}@e.org"), "a%26username%3Droot%23%25%2F%20%C3%BC%40e.org");
    }
}
