// SPDX-License-Identifier: MIT OR Apache-2.0
//! Mappers: who decides outside of this process whether an identity may use an account.
//!
//! A mapper is asked while the rules are applied, and only if its rule's requirements are met: somebody who lacks a group costs neither a
//! process nor a request. A template or a map file needs no mapper; [`decide`](crate::decide) knows their answer.

mod command;
mod identities;
mod motley_cue;
mod user_file;

use mytoken::config::FileTrust;
use mytoken::{Deadline, Secret};

use command::CommandMapper;
use user_file::UserFileMapper;

use crate::accounts::LocalAccount;
use crate::identity::Identity;
use crate::refusal::Refusal;
use crate::settings::{MapperSettings, MotleyCueSettings};
use motley_cue::MotleyCueMapper;
pub use motley_cue::MotleyCueRequests;

/// The question to a mapper: may this identity use this account?
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// The verified identity: issuer, subject and claims.
    pub identity: &'a Identity,
    /// The requested account. It exists on this host.
    pub account: &'a LocalAccount,
    /// The access token of the identity, for a mapper that verifies it itself. No other mapper passes it on.
    pub access_token: &'a Secret,
    /// Whether the person entered this access token. Otherwise the mytoken server issued it to this login, and a refused question costs the
    /// person what was exchanged for it.
    pub entered: bool,
    /// PAM service.
    pub service: &'a str,
    /// PAM's remote host.
    pub rhost: Option<&'a str>,
}

/// What a mapper gives to an identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Given {
    /// The requested account.
    Account,
    /// Not this account.
    Nothing(
        /// Why, for the log and `explain`: a clause without subject, as in "has no line for the identity".
        String,
    ),
}

/// A mapper of one rule.
pub trait Mapper {
    /// Asks whether the identity may use the account. It returns before the deadline, whatever the other side does.
    ///
    /// # Errors
    /// [`Refusal`] if there is no answer. The rules after this one are tried all the same, except after motley_cue; if none gives the
    /// account, the login is refused with this. Only a failure that nobody at a prompt can cause may be [`Refusal::Unavailable`]: it opens the way kept for outages.
    fn gives(&self, asked: &Asked<'_>, deadline: Deadline) -> Result<Given, Refusal>;
}

/// The mappers of a login.
pub trait Mappers {
    /// The mapper of a rule with these settings.
    fn mapper<'a>(&'a self, settings: &'a MapperSettings) -> Box<dyn Mapper + 'a>;

    /// Asks motley_cue whether the account is that of the holder of a one-time password. Nobody else gets it. It is used up by that.
    ///
    /// # Errors
    /// As [`Mapper::gives`]; also if the password is not known.
    fn redeem(
        &self,
        settings: &MotleyCueSettings,
        account: &LocalAccount,
        password: &Secret,
        deadline: Deadline,
    ) -> Result<Given, Refusal> {
        let _ = (settings, account, password, deadline);
        Err(Refusal::KindNotAccepted(ONE_TIME_PASSWORD))
    }
}

/// What a one-time password is called in sentences.
pub(crate) const ONE_TIME_PASSWORD: &str = "a one-time password of motley_cue";

/// The mappers of this host.
pub struct HostMappers<'a> {
    trust: FileTrust,
    motley_cue: &'a MotleyCueRequests<'a>,
}

impl<'a> HostMappers<'a> {
    /// `trust`: who may own the programs that rules name. `motley_cue`: this login's requests to it.
    #[must_use]
    pub fn new(trust: FileTrust, motley_cue: &'a MotleyCueRequests<'a>) -> Self {
        Self { trust, motley_cue }
    }
}

impl Mappers for HostMappers<'_> {
    fn mapper<'a>(&'a self, settings: &'a MapperSettings) -> Box<dyn Mapper + 'a> {
        match settings {
            MapperSettings::UserFile(file) => Box::new(UserFileMapper(file)),
            MapperSettings::Command(settings) => Box::new(CommandMapper { settings, trust: self.trust }),
            MapperSettings::MotleyCue(settings) => Box::new(MotleyCueMapper { settings, requests: self.motley_cue }),
        }
    }

    fn redeem(
        &self,
        settings: &MotleyCueSettings,
        account: &LocalAccount,
        password: &Secret,
        deadline: Deadline,
    ) -> Result<Given, Refusal> {
        self.motley_cue.redeem(settings, &account.name, password, deadline)
    }
}

/// Asks the mapper of a rule. Passed to [`decide`](crate::decide).
pub type Ask<'a> = dyn Fn(&MapperSettings) -> Result<Given, Refusal> + 'a;
