// SPDX-License-Identifier: MIT OR Apache-2.0
//! A login attempt, and the inputs of its decision.

use std::time::Instant;

use mytoken::Clock;
use mytoken::config::IssuerSettings;

use crate::accounts::AccountDatabase;
use crate::link::LinkService;
use crate::mapper::Mappers;
use crate::maps::Maps;
use crate::oidc::KeySource;
use crate::replay::UsedTokenMemory;
use crate::service::TokenService;
use crate::settings::LoginSettings;
use crate::validation::{Validation, Validator};

/// A login attempt, as PAM describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// PAM service.
    pub service: String,
    /// The requested account: PAM's user. The login never changes it (SSH-14).
    pub user: String,
    /// PAM's remote host.
    pub rhost: Option<String>,
    /// Name of this host, for the mytoken server's log.
    pub host: String,
}

/// The inputs of a decision, except the attempt.
#[derive(Clone, Copy)]
pub struct LoginContext<'a> {
    /// `login.toml`.
    pub settings: &'a LoginSettings,
    /// Issuers whose access tokens are accepted.
    pub issuers: &'a [IssuerSettings],
    /// The mytoken servers of `[[exchange]]`.
    pub servers: &'a [ConfiguredServer<'a>],
    /// The accounts of this host.
    pub accounts: &'a dyn AccountDatabase,
    /// The map files.
    pub maps: &'a Maps,
    /// The mappers that rules ask.
    pub mappers: &'a dyn Mappers,
    /// The issuers' keys.
    pub keys: &'a dyn KeySource,
    /// The issuers' userinfo endpoints.
    pub userinfo: &'a dyn Validator,
    /// The issuers' introspection endpoints.
    pub introspection: &'a dyn Validator,
    /// The memory of used access tokens. `None`: there is none, as for a process that is not root.
    pub used_tokens: Option<&'a dyn UsedTokenMemory>,
    /// Logins with a link. `None`: there are none.
    pub link: Option<&'a dyn LinkService>,
    /// The wall clock.
    pub clock: &'a dyn Clock,
    /// When the login began to read the map files. What it takes until the prompt counts for its deadline.
    pub began: Instant,
}

impl<'a> LoginContext<'a> {
    /// The validation of access tokens.
    pub(crate) fn validation(&self) -> Validation<'a> {
        Validation {
            issuers: self.issuers,
            keys: self.keys,
            userinfo: self.userinfo,
            introspection: self.introspection,
            clock: self.clock,
        }
    }
}

/// A mytoken server that exchanges mytokens.
#[derive(Clone, Copy)]
pub struct ConfiguredServer<'a> {
    /// Its name in the configuration.
    pub name: &'a str,
    /// Its URL.
    pub url: &'a str,
    /// Its token endpoints.
    pub tokens: &'a dyn TokenService,
}
