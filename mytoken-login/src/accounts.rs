// SPDX-License-Identifier: MIT OR Apache-2.0
//! The accounts of this host.

use nix::unistd::User;

use crate::settings::AccountSettings;

/// An account of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalAccount {
    /// Its name.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Whether it is a system account. A rule opens one only if its map file names it, and the rule asks for more.
    pub system: bool,
}

/// systemd's dynamic users (61184-65519) and `nobody`. They are system accounts whatever `min_uid` is.
const RESERVED: std::ops::RangeInclusive<u32> = 61_184..=65_535;

impl LocalAccount {
    /// An account. The settings decide whether it is a system account.
    #[must_use]
    pub fn new(name: &str, uid: u32, gid: u32, settings: &AccountSettings) -> Self {
        Self { name: name.to_owned(), uid, gid, system: uid == 0 || uid < settings.min_uid || RESERVED.contains(&uid) }
    }

    /// An account that does not exist. To the rules it looks like one of a person.
    pub(crate) fn missing(name: &str) -> Self {
        Self { name: name.to_owned(), uid: NOBODY, gid: NOBODY, system: false }
    }
}

/// The user and group `nobody`.
const NOBODY: u32 = 65_534;

/// A database of accounts.
pub trait AccountDatabase {
    /// User and group id of `name`; `None` when there is no such account.
    ///
    /// # Errors
    /// [`AccountLookupFailed`] when the database does not answer.
    fn find(&self, name: &str) -> Result<Option<(u32, u32)>, AccountLookupFailed>;

    /// The account that somebody gets who logs in with `name`, which can be another spelling of its own name; `None`
    /// when there is none. SSSD has a name in several spellings: `Alice`, `alice@EXAMPLE.ORG`.
    ///
    /// # Errors
    /// As [`Self::find`].
    fn entry(&self, name: &str) -> Result<Option<AccountEntry>, AccountLookupFailed> {
        Ok(self.find(name)?.map(|(uid, gid)| AccountEntry { name: name.to_owned(), uid, gid }))
    }
}

/// An account as its database has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountEntry {
    /// Its own name.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
}

/// A database of accounts did not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the account cannot be looked up: {reason}")]
pub struct AccountLookupFailed {
    /// The operating system's message.
    pub reason: String,
}

/// The name service switch (NSS) of this host.
#[derive(Debug, Clone, Copy, Default)]
pub struct NssAccounts;

impl AccountDatabase for NssAccounts {
    fn find(&self, name: &str) -> Result<Option<(u32, u32)>, AccountLookupFailed> {
        Ok(self.entry(name)?.filter(|entry| entry.name == name).map(|entry| (entry.uid, entry.gid)))
    }

    fn entry(&self, name: &str) -> Result<Option<AccountEntry>, AccountLookupFailed> {
        let found = User::from_name(name).map_err(|errno| AccountLookupFailed { reason: errno.to_string() })?;
        Ok(found.map(|user| AccountEntry { name: user.name, uid: user.uid.as_raw(), gid: user.gid.as_raw() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_uid_decides_what_is_a_system_account() {
        let settings = AccountSettings::default();
        for (uid, system) in
            [(0, true), (999, true), (1_000, false), (61_183, false), (61_184, true), (65_534, true), (70_000, false)]
        {
            assert_eq!(LocalAccount::new("x", uid, uid, &settings).system, system, "{uid}");
        }
        // A second name of root, with `min_uid` 0.
        assert!(LocalAccount::new("toor", 0, 0, &AccountSettings { min_uid: 0, ..settings }).system);
    }

    #[test]
    fn nss_finds_root() {
        assert_eq!(NssAccounts.find("root").unwrap(), Some((0, 0)));
        assert_eq!(NssAccounts.find("no-such-account-here").unwrap(), None);
        let root = AccountEntry { name: "root".to_owned(), uid: 0, gid: 0 };
        assert_eq!(NssAccounts.entry("root").unwrap(), Some(root));
        assert_eq!(NssAccounts.entry("no-such-account-here").unwrap(), None);
    }
}
