// SPDX-License-Identifier: MIT OR Apache-2.0
//! The name of a profile, on the command line of Slurm and in `jobs.toml`.

use std::fmt;

/// Longest name in bytes.
const LIMIT: usize = 64;

/// The value of `default=` in plugstack.conf for the `[[default]]` tables of `jobs.toml`.
pub const DEFAULT_TABLES: &str = "jobs.toml";

/// What submissions get for which the user says nothing: `default=` in plugstack.conf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SiteDefault {
    /// No credential, and no program is started.
    Off,
    /// A credential of this profile, unless the tables of `jobs.toml` name another.
    Profile(ProfileName),
    /// What the tables of `jobs.toml` say.
    Tables,
}

impl SiteDefault {
    /// Reads the value: `off`, `jobs.toml` or the name of a profile.
    #[must_use]
    pub fn parse(value: &str) -> Option<Self> {
        match value {
            "off" => Some(Self::Off),
            DEFAULT_TABLES => Some(Self::Tables),
            name => ProfileName::parse(name).map(Self::Profile),
        }
    }
}

/// Values of the option `--mytoken` and of the site's default with another meaning, which cannot be names of profiles.
const RESERVED: [&str; 3] = ["off", "required", DEFAULT_TABLES];

/// The form that [`ProfileName::parse`] accepts, for messages.
pub const RULE: &str = "1 to 64 letters, digits, \"-\", \"_\", \".\", begins with a letter or digit and is none of \"off\", \"required\", \"jobs.toml\"";

/// Name of a profile. It appears on command lines and in messages, and Slurm shows it to other users (SLURM-19).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProfileName(String);

impl ProfileName {
    /// The profile of a submission without a profile, unless the site configured another default.
    #[must_use]
    pub fn standard() -> Self {
        Self("default".to_owned())
    }

    /// Reads a name; see [`RULE`].
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        let starts = name.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
        let good = starts && name.len() <= LIMIT && name.bytes().all(plain) && !RESERVED.contains(&name);
        good.then(|| Self(name.to_owned()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ProfileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_that_are_not_reserved_are_accepted() {
        let longest = "x".repeat(LIMIT);
        for good in ["default", "data-2.x", "9_", &longest] {
            assert_eq!(ProfileName::parse(good).unwrap().as_str(), good);
        }
        assert_eq!(ProfileName::parse("default"), Some(ProfileName::standard()));
        let long = "x".repeat(LIMIT + 1);
        for wrong in
            ["", "off", "required", "jobs.toml", "-x", ".x", "_x", "a b", "a:b", "../x", "é", "a,b", "a\n", &long]
        {
            assert_eq!(ProfileName::parse(wrong), None, "{wrong:?}");
        }
    }
}
