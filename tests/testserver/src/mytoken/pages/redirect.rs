// SPDX-License-Identifier: MIT OR Apache-2.0
//! The redirect from the provider (MT-28, MT-30): exchanges the code and creates the token.

use serde_json::Value;

use crate::http::Response;
use crate::mytoken::answer::{ApiError, ApiResult};
use crate::mytoken::body;
use crate::mytoken::issue::Origin;
use crate::mytoken::model::clauses::limited_to_grant;
use crate::mytoken::model::jwt;
use crate::mytoken::model::store::{CodeState, PendingLogin, Refresh};
use crate::mytoken::model::token_answer::TokenAnswer;
use crate::mytoken::pages::consent::native_page_url;
use crate::mytoken::server::{RequestContext, Server};

impl Server {
    /// Answers the browser; errors are HTML pages.
    pub(crate) fn redirect(&self, context: &RequestContext<'_>) -> ApiResult<Response> {
        let unknown = || ApiError::invalid_request("Bad or unknown state");
        let wanted_state = body::query(context.request, "state").ok_or_else(unknown)?;
        let (consent_code, login) = {
            let state = self.state();
            let found =
                state.logins.iter().find(|(_, login)| login.state == wanted_state && login.expires >= context.now);
            found.map(|(code, login)| (code.clone(), login.clone())).ok_or_else(unknown)?
        };
        if let Some(error) = body::query(context.request, "error") {
            let description = body::query(context.request, "error_description").unwrap_or_default();
            self.remove_login(&consent_code, &login);
            return Err(ApiError::new(555, "oidc_error", format!("{error}: {description}")));
        }
        let code = body::query(context.request, "code").ok_or_else(unknown)?;
        match self.exchange(&login, code) {
            Ok(tokens) => self.finish(context, &consent_code, &login, &tokens),
            Err(problem) => {
                if !self.config.quirks.failed_login_stays_pending {
                    let reason = problem.description.clone().unwrap_or_default();
                    let mut state = self.state();
                    if let Some(code) = login.polling_code.as_ref().and_then(|code| state.codes.get_mut(code)) {
                        code.state = CodeState::Failed(reason);
                    }
                }
                Err(problem)
            }
        }
    }

    /// Removes a login and its polling code.
    fn remove_login(&self, consent_code: &str, login: &PendingLogin) {
        let mut state = self.state();
        state.logins.remove(consent_code);
        if let Some(code) = &login.polling_code {
            state.codes.remove(code);
        }
    }

    fn exchange(&self, login: &PendingLogin, code: String) -> ApiResult<TokenAnswer> {
        let upstream = self.upstream(login.upstream)?;
        let form = [
            ("grant_type", "authorization_code".to_owned()),
            ("code", code),
            ("redirect_uri", format!("{}/redirect", self.config.issuer)),
            ("client_id", upstream.info.client_id.clone()),
            ("code_verifier", login.verifier.clone()),
        ]
        .map(|(key, value)| (key.to_owned(), value));
        let answer = upstream
            .link
            .token(&form)
            .map_err(|reason| ApiError::internal(format!("Post \"{}\": {reason}", upstream.info.issuer)))?;
        let tokens = TokenAnswer::read(&answer)?;
        if tokens.refresh_token.is_none() {
            return Err(ApiError::new(555, "oidc_error", "Did not receive a refresh token"));
        }
        Ok(tokens)
    }

    fn finish(
        &self,
        context: &RequestContext<'_>,
        consent_code: &str,
        login: &PendingLogin,
        tokens: &TokenAnswer,
    ) -> ApiResult<Response> {
        let subject = tokens
            .id_token
            .as_deref()
            .and_then(subject_of)
            .or_else(|| subject_of(&tokens.access_token))
            .ok_or_else(|| ApiError::new(555, "oidc_error", "could not get the subject"))?;
        let mut guard = self.state();
        let state = &mut *guard;
        // The lock was not held during the exchange: a second request with the same code may have finished first.
        let mut wanted =
            state.logins.remove(consent_code).ok_or_else(|| ApiError::invalid_request("Bad or unknown state"))?.wanted;
        let widens = self.config.quirks.empty_intersection_widens;
        let audience = tokens.audience();
        wanted.restrictions =
            limited_to_grant(&wanted.restrictions, tokens.scope.as_deref(), audience.as_deref(), widens);
        let refresh = state.next_number();
        let token = tokens.refresh_token.clone().unwrap_or_default();
        state.refresh.insert(refresh, Refresh { upstream: login.upstream, token });
        let origin = Origin {
            oidc_sub: subject,
            oidc_iss: self.upstream(login.upstream)?.info.issuer.clone(),
            auth_time: context.now,
            refresh,
            parent: None,
        };
        let events = vec![context.event("created", "Used grant_type oidc_flow authorization_code")];
        let (claims, jwt) = self.create(state, context, &wanted, origin, events)?;
        if let Some(code) = login.polling_code.as_ref().and_then(|code| state.codes.get_mut(code)) {
            code.state = CodeState::Ready { jwt: jwt.clone(), jti: claims.jti, form: wanted.form };
        }
        let answer = Response::empty(303);
        Ok(match &login.redirect_uri {
            Some(uri) => answer
                .with("Set-Cookie", format!("mytoken={jwt}; max-age=604800; path=/api; HttpOnly; SameSite=Strict"))
                .with("Location", uri.clone()),
            None => answer.with("Location", native_page_url("/native", &wanted.application_name, true)),
        })
    }
}

/// Claim `sub` of a JWT that came directly from the provider.
fn subject_of(token: &str) -> Option<String> {
    jwt::unverified_claims(token)?.get("sub").and_then(Value::as_str).map(str::to_owned)
}
