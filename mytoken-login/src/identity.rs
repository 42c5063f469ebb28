// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who a token says somebody is, and the account they ask for.

use nix::unistd::User;
use serde_json::{Map, Value};

use super::AccountSettings;
use crate::oidc::Claims;

/// A verified identity.
#[derive(Debug, Clone, PartialEq)]
pub struct Identity {
    /// Name of the provider in the configuration.
    pub issuer: String,
    /// `iss`.
    pub iss: String,
    /// `sub`. Only the pair of issuer and subject is stable (OpenID Connect Core 5.7).
    pub sub: String,
    /// Scopes of the access token.
    pub scopes: Vec<String>,
    /// All claims.
    pub claims: Map<String, Value>,
}

impl From<Claims> for Identity {
    fn from(claims: Claims) -> Self {
        Self { issuer: claims.issuer, iss: claims.iss, sub: claims.sub, scopes: claims.scopes, claims: claims.all }
    }
}

/// A local account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its name, as the person asked for it and the system knows it.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Whether it is one of the system's: rules must name it to open it.
    pub system: bool,
}

/// systemd's dynamic users (61184-65519) and `nobody` are nobody's accounts, whatever `min_uid` says.
const RESERVED: std::ops::RangeInclusive<u32> = 61_184..=65_535;

impl Account {
    /// An account under the settings' view of what belongs to the system.
    #[must_use]
    pub fn new(name: &str, uid: u32, gid: u32, settings: &AccountSettings) -> Self {
        Self { name: name.to_owned(), uid, gid, system: uid == 0 || uid < settings.min_uid || RESERVED.contains(&uid) }
    }
}

/// Where accounts are looked up.
pub trait Accounts {
    /// User and group id of `name`; `None` when there is no such account.
    ///
    /// # Errors
    /// A sentence for the log when the system's databases do not answer.
    fn find(&self, name: &str) -> Result<Option<(u32, u32)>, String>;
}

/// The system's databases (NSS).
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemAccounts;

impl Accounts for SystemAccounts {
    fn find(&self, name: &str) -> Result<Option<(u32, u32)>, String> {
        match User::from_name(name) {
            Ok(user) => Ok(user.filter(|user| user.name == name).map(|user| (user.uid.as_raw(), user.gid.as_raw()))),
            Err(errno) => Err(format!("the account cannot be looked up: {errno}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_the_system() {
        let settings = AccountSettings::default();
        for (uid, system) in
            [(0, true), (999, true), (1_000, false), (61_183, false), (61_184, true), (65_534, true), (70_000, false)]
        {
            assert_eq!(Account::new("x", uid, uid, &settings).system, system, "{uid}");
        }
        // Another name of root's, where no uid is too low.
        assert!(Account::new("toor", 0, 0, &AccountSettings { min_uid: 0, ..settings }).system);
    }

    #[test]
    fn the_system_knows_root() {
        assert_eq!(SystemAccounts.find("root").unwrap(), Some((0, 0)));
        assert_eq!(SystemAccounts.find("no-such-account-here").unwrap(), None);
    }
}
