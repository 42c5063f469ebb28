// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether a provider answers questions about tokens: the same requests that a login sends.

use mytoken::config::{FileTrust, IssuerSettings, ValidationMode};
use mytoken::http::HttpClient;
use mytoken::{Clock, Deadline, Secret, SystemClock};
use mytoken_login::oidc::{ProviderEndpoint, ProviderMetadata};
use mytoken_login::validation::{ask_introspection, client_form};
use serde_json::Value;

use super::configuration::word;
use super::servers::NETWORK;

/// A text that no provider issues as a token. The answer is that it is not active.
const NO_TOKEN: &str = "mytokenctl-check";

/// What is wrong, and a command; the command is empty if the one for the discovery document shows more.
pub(super) struct Problem {
    pub text: String,
    pub fix: String,
}

/// What keeps logins from asking the provider about tokens.
pub(super) fn problem(http: &HttpClient, issuer: &IssuerSettings, document: &ProviderMetadata) -> Option<Problem> {
    let endpoint = |which| document.endpoint(which, issuer).map_err(|error| plain(error.to_string()));
    let checked = ProviderEndpoint::used_with(issuer).try_for_each(|which| endpoint(which).map(drop));
    let asked = || match issuer.validates_by(ValidationMode::Introspection) {
        true => introspection(http, issuer, document, endpoint(ProviderEndpoint::Introspection)?),
        false => Ok(()),
    };
    checked.and_then(|()| asked()).err()
}

fn introspection(
    http: &HttpClient,
    issuer: &IssuerSettings,
    document: &ProviderMetadata,
    url: &str,
) -> Result<(), Problem> {
    let client = issuer.introspection_client().map_err(|text| plain(text.to_owned()))?;
    let form = client_form(client, FileTrust::current()).map_err(|error| {
        let file = issuer.client_secret_file.as_ref().or(issuer.client_key_file.as_ref());
        let fix = file.map(|file| format!("namei -l {}", word(&file.to_string_lossy())));
        Problem { text: error.to_string(), fix: fix.unwrap_or_default() }
    })?;
    let (token, now, deadline) = (Secret::new(NO_TOKEN), SystemClock.now(), Deadline::after(NETWORK));
    let answer = ask_introspection(http, url, &token, &form, document.issuer(), now, deadline)
        .map_err(|error| plain(error.to_string()))?;
    let says_active = || answer.json::<Value>().ok().and_then(|answer| answer.get("active")?.as_bool());
    match (answer.status, says_active()) {
        (200, Some(_)) => Ok(()),
        (200, None) => Err(plain("the introspection endpoint does not say whether a token is active".to_owned())),
        (401 | 403, _) => Err(Problem {
            text: format!("the introspection endpoint refuses the client \"{}\" of this site", client.id),
            fix: "grep -rn client_ /etc/mytoken/mytoken.toml /etc/mytoken/mytoken.d   # compare with the client's registration"
                .to_owned(),
        }),
        (status, _) => Err(plain(format!("the introspection endpoint answers with status {status}"))),
    }
}

fn plain(text: String) -> Problem {
    Problem { text, fix: String::new() }
}
