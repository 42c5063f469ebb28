// SPDX-License-Identifier: MIT OR Apache-2.0
//! The answers of the mytoken server, by the names that the login scripts use.

use mytoken::Error;
use mytoken::http::HttpError;
use mytoken::server::ServerError;
use mytoken_login::mapper::Given;
use mytoken_login::{Refusal, ServiceState};

/// The answer to an exchange, if it has this name.
pub fn exchange_error(name: &str, server: &str) -> Option<Error> {
    let server = || server.to_owned();
    Some(match name {
        "an empty access token" => Error::Server(ServerError::EmptyAccessToken { server: server() }),
        "401" => Error::Server(ServerError::TokenRefused { server: server() }),
        "403 capability" => Error::Server(ServerError::MissingCapability { server: server(), needed: "AT".into() }),
        "403 usage" => Error::Server(ServerError::UsageRestricted { server: server() }),
        "429" => Error::Server(ServerError::TooManyRequests { server: server(), retry_after: None }),
        "429 of the provider" => {
            Error::Server(ServerError::ProviderTooManyRequests { server: server(), retry_after: None })
        }
        "500" => Error::Server(ServerError::Failed { server: server(), status: 500 }),
        "nothing" => Error::Http(HttpError::TooLate { host: server() }),
        "no connection" => {
            Error::Http(HttpError::Unreachable { host: server(), reason: "refused".into(), sent: false })
        }
        "a successor" => Error::Server(ServerError::RotatedTokenNotStored { reason: "nowhere".into() }),
        "another scope" => {
            Error::Server(ServerError::OtherAccessToken { server: server(), what: "scope (broader)".into() })
        }
        "HTML" => {
            Error::Server(ServerError::NotUnderstood { server: server(), status: 200, reason: "not JSON".into() })
        }
        _ => return None,
    })
}

/// The answer to a redemption of a code that is unknown or used up.
pub fn code_refused(server: &str) -> Error {
    Error::Server(ServerError::CodeRefused { server: server.to_owned(), expired: false })
}

/// The answer to a revocation, if it has this name.
pub fn revocation_error(name: &str, server: &str) -> Option<Error> {
    (name == "nothing").then(|| Error::Http(HttpError::TooLate { host: server.to_owned() }))
}

/// What a mapper answers: `account`, the name of a failure, or why it gives nothing.
pub fn mapper_answer(name: &str) -> Result<Given, Refusal> {
    match name {
        "account" => Ok(Given::Account),
        "silent" => Err(Refusal::Unavailable("the command did not end within 5s".to_owned())),
        "unknown password" => Err(Refusal::OneTimePasswordRefused("motley_cue answered with status 401".to_owned())),
        "late" => Err(Refusal::DeadlinePassed),
        "broken" => Err(Refusal::System("/home/alice/ids was not read within 5 s".to_owned())),
        "missing" => Err(Refusal::Configuration("/usr/libexec/mapper cannot be executed".to_owned())),
        word if ServiceState::of(word).is_some() => {
            Err(ServiceState::of(word).map_or(Refusal::Empty, Refusal::NotActive))
        }
        reason => Ok(Given::Nothing(reason.to_owned())),
    }
}
